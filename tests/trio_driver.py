"""A server on trio in some forty lines: neither the connection nor the codec nor the handshake knows asyncio.

Deciding and queueing bytes is synchronous here, too; tasks of their own read, write and wait for timers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import trio

from wslifecycle import WAIT, Connection, effects
from wslifecycle.runtime import codec as wire
from wslifecycle.runtime.handshake import Handshake, Refusal, Request


async def serve(stream: trio.SocketStream, app: Any) -> None:
    """Serves one connection."""
    http = Handshake()
    while (request := http.feed(await stream.receive_some())) is None:
        pass
    if isinstance(request, Refusal):
        return await stream.send_all(request.answer)
    async with stream, trio.open_nursery() as nursery:
        driver = Driver(stream, http, request, nursery)
        nursery.start_soon(driver.write)
        nursery.start_soon(driver.read)
        driver.happened(driver.connection.started())
        try:
            await app(request.scope, driver.receive, driver.send)
        except Exception as error:
            driver.happened(driver.connection.app_raised(error))
        else:
            driver.happened(driver.connection.app_returned())


class Driver:
    """Tells the connection what happens, and carries out its effects."""

    def __init__(self, stream: trio.SocketStream, http: Handshake, request: Request, nursery: trio.Nursery) -> None:
        self.connection = Connection(subprotocols=request.scope["subprotocols"])
        self.http, self.nursery, self.request, self.stream = http, nursery, request, stream
        self.codec, self.held = wire.WsprotoCodec(), wire.Held(65536)
        self.feed: Any = self.held.feed
        self.news, self.reads = trio.Event(), trio.Event()
        self.reads.set()
        self.timers: dict[str, trio.CancelScope] = {}
        self.out, self.queue = trio.open_memory_channel[bytes](math.inf)

    async def receive(self) -> dict[str, Any] | None:
        """The app's receive()."""
        while (given := self.connection.app_wants()) is WAIT:
            await self.news.wait()
        self.happened(given.effects)
        return given.message

    async def send(self, message: dict[str, Any]) -> None:
        """The app's send()."""
        self.happened(self.connection.app_sent(message))
        await trio.lowlevel.checkpoint()

    async def write(self) -> None:
        """Writes what is queued, then ends the transport."""
        try:
            async for data in self.queue:
                await (self.stream.send_all(data) if data else self.stream.send_eof())
            await self.stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.happened(self.connection.peer_lost())

    async def read(self) -> None:
        """Reads until the peer ends or is lost."""
        try:
            self.heard(self.request.rest)
            while data := await self.stream.receive_some():
                self.heard(data)
                await self.reads.wait()
            self.happened(self.connection.peer_eof())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.happened(self.connection.peer_lost())

    def heard(self, data: bytes) -> None:
        """Decodes what the peer sent, and tells the connection."""
        for event in self.feed(data):
            match event:
                case wire.Message(message):
                    self.happened(self.connection.peer_sent(message))
                case wire.Ping(payload):
                    self.happened(self.connection.peer_pinged(payload))
                case wire.Close(code, reason):
                    self.happened(self.connection.peer_closed(code, reason))
                case wire.Violation(code):
                    self.happened(self.connection.peer_violated(code))

    def happened(self, done: Iterable[effects.Effect]) -> None:
        """Carries out effects, and wakes whoever waits in receive()."""
        for effect in done:
            match effect:
                case effects.CompleteHandshake(subprotocol, headers):
                    chosen = [(b"Sec-WebSocket-Protocol", subprotocol.encode())] if subprotocol else []
                    self.out.send_nowait(self.http.accept(self.request.key, [*chosen, *headers]))
                    self.feed = self.codec.feed
                    self.heard(self.held.release())
                case effects.SendResponse(status, headers, body):
                    self.out.send_nowait(self.http.respond(status, headers, body))
                case effects.SendMessage(str() as text):
                    self.out.send_nowait(self.codec.encode("text", text))
                case effects.SendMessage(data):
                    self.out.send_nowait(self.codec.encode("binary", data))
                case effects.SendPong(payload):
                    self.out.send_nowait(self.codec.encode("pong", payload))
                case effects.SendClose(code, reason):
                    self.out.send_nowait(self.codec.encode("close", wire.close_payload(code, reason)))
                case effects.EndSending():
                    self.out.send_nowait(b"")
                case effects.EndTransport():
                    self.out.close()
                case effects.AbortTransport():
                    self.stream.socket.close()
                case effects.PauseReading():
                    self.reads = trio.Event()
                case effects.ResumeReading():
                    self.reads.set()
                case effects.StartTimer(timer, seconds):
                    self.timers[timer] = scope = trio.CancelScope()
                    self.nursery.start_soon(self.wait, timer, seconds, scope)
                case effects.CancelTimer(timer):
                    self.timers[timer].cancel()
        self.news.set()
        self.news = trio.Event()

    async def wait(self, timer: str, seconds: float, scope: trio.CancelScope) -> None:
        """Waits for a timer."""
        with scope:
            await trio.sleep(seconds)
            self.happened(self.connection.timed_out(timer))
