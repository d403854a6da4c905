"""A server of one's own under the fuzzer.

x
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from wslifecycle.conformance.orders.exchange import App, Exchange, Message
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Level, Replay
from wslifecycle.conformance.orders.stateful import Fuzz
from wslifecycle.conformance.orders.survey import quiet
from wslifecycle.conformance.orders.watched import Broken
from wslifecycle.conformance.orders.witness import Witness
from wslifecycle.runtime import codec as frames
from wslifecycle.runtime.handshake import Handshake, Refusal, Request
from wslifecycle.statemachine.cover import MESSAGES

PATIENCE = 10.0


# ------------------------------------------------------------------------------------------------ the server


def legal(code: int) -> bool:
    """Whether a Close may have this code."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class Abandoning:
    """What the app is to be given. Its `get()` waits for a message or for the end, whichever comes first."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self._over: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def put(self, message: Message) -> None:
        self._queue.put_nowait(message)

    def end(self, code: int, reason: str = "") -> None:
        if not self._over.done():
            self._over.set_result({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def get(self) -> Message:
        message = asyncio.ensure_future(self._queue.get())
        try:
            await asyncio.wait({message, self._over}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else self._over.result()
        finally:
            message.cancel()


class Inbox:
    """The same, mended: a call takes a message in the step in which it returns it, and no task does so in its place."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._over: Message | None = None
        self._turn = asyncio.Lock()

    def put(self, message: Message) -> None:
        self._messages.append(message)
        self._news.set()

    def end(self, code: int, reason: str = "") -> None:
        self._over = self._over or {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._news.set()

    async def get(self) -> Message:
        async with self._turn:
            while not self._messages and not self._over:
                self._news.clear()
                await self._news.wait()
            return self._messages.popleft() if self._messages else dict(self._over or {})


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, app: App, kind: type[Any]) -> None:
    """Serves one connection: its handshake, then the app, and all that the peer sends."""
    handshake, codec, inbox = Handshake(), frames.WsprotoCodec(65536), kind()
    request: Request | Refusal | None = None
    try:
        while request is None:
            request = handshake.feed(await reader.read(65536))
    except OSError:
        writer.close()
        return
    if isinstance(request, Refusal):
        writer.write(request.answer)
        writer.close()
        return
    key, held, state = request.key, request.rest, "connecting"

    async def send(message: Message) -> None:
        nonlocal held, state
        if state == "ended" or writer.is_closing():
            raise OSError("The connection has ended.")
        match state, message["type"]:
            case "connecting", "websocket.accept":
                writer.write(handshake.accept(key, message.get("headers", ())))
                state = "open"
                feed(held)
            case "connecting", "websocket.close":
                refuse(403)
            case "open", "websocket.send":
                text = message.get("text")
                writer.write(codec.encode("binary", message["bytes"]) if text is None else codec.encode("text", text))
            case "open", "websocket.close":
                close(message.get("code", 1000), message.get("reason") or "")
            case _:
                raise RuntimeError(f"{message['type']} cannot be sent now.")
        await writer.drain()

    def refuse(status: int) -> None:
        last(handshake.respond(status, (), b""), 1006)
        writer.close()

    def close(code: int | None, reason: str = "", told: int | None = None) -> None:
        if state == "open":
            last(codec.encode("close", frames.close_payload(code, reason)), told or code or 1005, reason)

    def last(data: bytes, code: int, reason: str = "") -> None:
        nonlocal state
        state = "ended"
        writer.write(data)
        inbox.end(code, reason)
        patience.reschedule(asyncio.get_running_loop().time() + PATIENCE)

    def feed(data: bytes) -> None:
        for event in codec.feed(data):
            match event:
                case frames.Message(data) if state == "open":
                    inbox.put({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})
                case frames.Ping(payload) if state == "open":
                    writer.write(codec.encode("pong", payload))
                case frames.Close(code, reason) if code is None or legal(code):
                    close(code, reason)
                    writer.close()
                case frames.Close() | frames.Violation():
                    close(getattr(event, "complaint", None) and event.code or 1002, told=1006)
                    writer.close()

    async def run() -> None:
        code, status = 1011, 500
        try:
            await app(scope, inbox.get, send)
            code = 1000
        except Exception:
            logging.exception("The app failed.")
        finally:
            if state == "open":
                close(code)
            elif state == "connecting":
                refuse(status)

    scope = {"type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.4"}, **request.scope}
    inbox.put({"type": "websocket.connect"})
    try:
        async with asyncio.timeout(None) as patience:
            running = asyncio.create_task(run())
            while data := await reader.read(65536):
                if state == "connecting":
                    held += data
                else:
                    feed(data)
    except OSError:
        pass
    state = "ended"
    inbox.end(1006)
    writer.close()
    try:
        async with asyncio.timeout(PATIENCE):
            await writer.wait_closed()
    except OSError:
        writer.transport.abort()
    await asyncio.wait({running})


class Mine(Fuzz):
    """The small server with its first inbox."""

    inbox: ClassVar[type[Any]] = Abandoning
    messages = {event: MESSAGES[event] for event in ("app_accept", "app_send", "app_close")}
    malformed = ()
    known = frozenset()
    level = Level.ENVIRONMENT

    def make(self, app: App) -> Any:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), lambda r, w: serve(r, w, app, self.inbox))

    def witness(self, followed: int) -> Witness:
        return Witness(spec_version="2.4", extensions=(), followed=followed, known=self.known)


class Mended(Mine):
    inbox = Inbox
