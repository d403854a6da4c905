"""A server on trio: the connection is not tied to asyncio, nor are the bytes (`Handshake`, `Wire`).

Deciding and queueing bytes is synchronous here, too; tasks of their own read, write and wait for timers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import trio

from wslifecycle import WAIT, effects
from wslifecycle.runtime import Options, codec
from wslifecycle.runtime.handshake import Handshake, Refusal, Request
from wslifecycle.runtime.wire import Wire

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


async def serve(stream: trio.SocketStream, app: Any) -> None:
    http = Handshake()
    while (request := http.feed(await stream.receive_some())) is None:
        pass
    if isinstance(request, Refusal):
        await stream.send_all(request.answer)
        return
    async with stream, trio.open_nursery() as nursery:
        await Driver(stream, http, request, nursery).run(app, request)


class Driver:
    def __init__(self, stream: trio.SocketStream, http: Handshake, request: Request, nursery: trio.Nursery) -> None:
        self.connection = Options(ping_interval=None).connection(request.scope["subprotocols"])
        self.wire = Wire(http, request, Options())
        self.stream, self.nursery = stream, nursery
        self.news, self.reads = trio.Event(), trio.Event()
        self.reads.set()
        self.timers: dict[str, trio.CancelScope] = {}
        self.out, self.queue = trio.open_memory_channel[bytes](math.inf)

    async def run(self, app: Any, request: Request) -> None:
        self.nursery.start_soon(self.write)
        self.nursery.start_soon(self.read, request.rest)
        self.happened(self.connection.started())
        try:
            await app(request.scope, self.receive, self.send)
        except Exception as error:
            self.happened(self.connection.app_raised(error))
        else:
            self.happened(self.connection.app_returned())

    async def receive(self) -> dict[str, Any] | None:
        while (given := self.connection.app_wants()) is WAIT:
            await self.news.wait()
        self.happened(given.effects)
        return given.message

    async def send(self, message: dict[str, Any]) -> None:
        self.happened(self.connection.app_sent(message))
        await trio.lowlevel.checkpoint()

    async def write(self) -> None:
        try:
            async for data in self.queue:
                await (self.stream.send_all(data) if data else self.stream.send_eof())
            await self.stream.aclose()
        except GONE:
            self.happened(self.connection.peer_lost())

    async def read(self, data: bytes) -> None:
        try:
            self.heard(data)
            while data := await self.stream.receive_some():
                self.heard(data)
                await self.reads.wait()
            self.happened(self.connection.peer_eof())
        except GONE:
            self.happened(self.connection.peer_lost())

    def heard(self, data: bytes) -> None:
        for event in self.wire.feed(data):
            match event:
                case str() | bytes() as message:
                    self.happened(self.connection.peer_sent(message))
                case codec.Ping(payload):
                    self.happened(self.connection.peer_pinged(payload))
                case codec.Close(code, reason):
                    self.happened(self.connection.peer_closed(code, reason))
                case codec.Violation(code):
                    self.happened(self.connection.peer_violated(code))

    def happened(self, done: Iterable[effects.Effect]) -> None:
        for effect in done:
            match effect:
                case effects.StartTimer(timer, seconds):
                    self.timers[timer] = scope = trio.CancelScope()
                    self.nursery.start_soon(self.wait, timer, seconds, scope)
                case effects.CancelTimer(timer):
                    self.timers[timer].cancel()
                case effects.PauseReading():
                    self.reads = trio.Event()
                case effects.ResumeReading():
                    self.reads.set()
                case effects.AbortTransport():
                    self.stream.socket.close()
                case effects.EndSending():
                    self.out.send_nowait(b"")
                case effects.EndTransport():
                    self.out.close()
                case _ if data := self.wire.encode(effect):
                    self.out.send_nowait(data)
            if isinstance(effect, effects.CompleteHandshake):
                self.heard(self.wire.release())
        self.news.set()
        self.news = trio.Event()

    async def wait(self, timer: str, seconds: float, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(seconds)
            self.happened(self.connection.timed_out(timer))
