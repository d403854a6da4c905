"""How to put a server of one's own under the fuzzer, and that this finds a real bug in one that looks right.

An `asyncio.Protocol` needs no more than this:

    class MyServer(Fuzz):
        def make(self, app):
            return MyProtocol(app)

    TestMyServer = MyServer.TestCase

Where `receive` and `send` are made from a pair of streams, as in `serve` here, asyncio's own protocol of streams is the
one to make:

    return asyncio.StreamReaderProtocol(asyncio.StreamReader(), lambda r, w: serve(r, w, app))

If the scope of the server says another spec version or other extensions than those of `Witness`, `witness` says so.
`messages` is what the app may send. Findings that are known, or that are choices of a server, go by name into `known`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import settings

from wslifecycle.conformance.orders.exchange import App, Exchange, Message
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Level
from wslifecycle.conformance.orders.stateful import Fuzz
from wslifecycle.conformance.orders.survey import repeat, search
from wslifecycle.conformance.orders.watched import Broken, Finding
from wslifecycle.conformance.orders.witness import Witness
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.codec import Close, Ping, Violation, WsprotoCodec, close_payload
from wslifecycle.runtime.handshake import Handshake, Refusal, Request
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service
from wslifecycle.statemachine.cover import MESSAGES

PATIENCE = 10.0
"""Seconds that a peer may take for the end of the connection."""


# ------------------------------------------------------------------------------------------- a protocol of one's own


class MyProtocol(Acceptor):
    """Whatever `asyncio.Protocol` you have: here it is ours, of which the witness knows nothing."""

    def __init__(self, app: App) -> None:
        super().__init__(Service(app, Options()), set())


class MyServer(Fuzz):
    """All that it takes."""

    def make(self, app: App) -> MyProtocol:
        """The protocol of one connection."""
        return MyProtocol(app)


TestMyServer = MyServer.TestCase
TestMyServer.settings = settings(max_examples=20, deadline=None, derandomize=True, database=None)


# ------------------------------------------------------------------------------ `receive` and `send` of one's own


class Draft:
    """What the app is to be given. `get` is its `receive()`: it waits for a message, or for the end."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._over: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def put(self, message: Message) -> None:
        """The app is to be given a message."""
        self._messages.put_nowait(message)

    def end(self, code: int, reason: str = "") -> None:
        """The app is to be told of the end; only the first one counts."""
        if not self._over.done():
            self._over.set_result({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def get(self) -> Message:
        """Looks right, and is not: if it is cancelled, its task goes on and takes a message that nobody will see."""
        message = asyncio.create_task(self._messages.get(), name="waits for a message")
        await asyncio.wait({message, self._over}, return_when=asyncio.FIRST_COMPLETED)
        if message.done():
            return message.result()
        message.cancel()
        return self._over.result()


class Mended:
    """The same without the fault."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._over: Message | None = None
        self._turn = asyncio.Lock()

    def put(self, message: Message) -> None:
        """The app is to be given a message."""
        self._messages.append(message)
        self._news.set()

    def end(self, code: int, reason: str = "") -> None:
        """The app is to be told of the end; only the first one counts."""
        self._over = self._over or {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._news.set()

    async def get(self) -> Message:
        """Takes a message only when it returns it, without an `await` in between."""
        async with self._turn:
            while not (self._messages or self._over):
                self._news.clear()
                await self._news.wait()
            return self._messages.popleft() if self._messages else dict(self._over or {})


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, app: App, inbox: Draft | Mended) -> None:
    """A small WebSocket server on streams: one connection, from its handshake to its end."""
    handshake, codec = Handshake(), WsprotoCodec(max_size=65536)
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
    scope = {"type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.4"}, **request.scope}

    async def send(message: Message) -> None:
        nonlocal state
        if state == "ended":
            raise OSError("The connection has ended.")
        match state, message["type"]:
            case "connecting", "websocket.accept":
                writer.write(handshake.accept(key, message.get("headers", ())))
                state = "open"
                feed(held)
            case "connecting", "websocket.close":
                refuse(403)
            case "open", "websocket.send" if message.get("text") is not None:
                writer.write(codec.encode("text", message["text"]))
            case "open", "websocket.send":
                writer.write(codec.encode("binary", message["bytes"]))
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
            last(codec.encode("close", close_payload(code, reason)), told or code or 1005, reason)

    def last(data: bytes, code: int, reason: str = "") -> None:
        nonlocal state
        state = "ended"
        writer.write(data)
        inbox.end(code, reason)
        patience.reschedule(asyncio.get_running_loop().time() + PATIENCE)

    def feed(data: bytes) -> None:
        for event in codec.feed(data):
            match event:
                case str() | bytes() as message if state == "open":
                    kind = "text" if isinstance(message, str) else "bytes"
                    inbox.put({"type": "websocket.receive", kind: message})
                case Ping(payload) if state == "open":
                    writer.write(codec.encode("pong", payload))
                case Close(code, reason) if legal(code):
                    close(code, reason)
                    writer.close()
                case Close():
                    close(1002, told=1006)
                    writer.close()
                case Violation(code):
                    close(code, told=1006)
                    writer.close()

    async def run() -> None:
        code = 1011
        try:
            await app(scope, inbox.get, send)
            code = 1000
        except Exception:
            logging.exception("The app has failed.")
        finally:
            close(code)
            if state == "connecting":
                refuse(500)

    inbox.put({"type": "websocket.connect"})
    try:
        async with asyncio.timeout(None) as patience:
            running = asyncio.create_task(run())
            while data := await reader.read(65536):
                if state == "connecting":
                    held += data
                else:
                    feed(data)
    except OSError:  # also where patience has ended
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


def legal(code: int | None) -> bool:
    """Whether a peer's Close may have this code."""
    return code is None or 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class Small(Fuzz):
    """The small server as it was first written. It has no denial responses, and checks no shapes of messages."""

    inbox: ClassVar[type[Draft | Mended]] = Draft
    messages: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        event: MESSAGES[event] for event in ("app_accept", "app_send", "app_close")
    }
    malformed: ClassVar[tuple[Any, ...]] = ()
    level: ClassVar[Level] = Level.ENVIRONMENT

    def make(self, app: App) -> Any:
        """The protocol of one connection."""
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), lambda r, w: serve(r, w, app, self.inbox()))

    def witness(self, followed: int) -> Witness:
        """Who judges, by what the scope of this server says."""
        return Witness(spec_version="2.4", extensions=(), followed=followed, known=self.known)


class SmallMended(Small):
    """The same with its fault mended."""

    inbox = Mended


# --------------------------------------------------------------------------------------------------- what is found

ONE_FAULT = {"nothing_is_left", "message_is_given", "connect_first", "messages_before_disconnect", "in_call_order"}
"""All that the fault of `Draft` brings about, as far as it was seen."""


@pytest.mark.parametrize(
    ("known", "number", "steps"),
    [
        pytest.param((), 6, 6, id="a-task-that-is-left"),
        pytest.param(("nothing_is_left",), 8, 7, id="what-that-task-does-if-it-does-not-count-that-it-is-left"),
    ],
)
def test_the_fuzzer_finds_the_fault_and_shrinks_it_to_a_few_acts(
    known: tuple[str, ...], number: int, steps: int
) -> None:
    found = search(Small, 500, steps, known, number)
    assert found is not None
    assert found.finding.name in ONE_FAULT
    assert found.needs == "0 deviations from the stock order: it happens on the stock loop, too."
    assert len([act for act in found.acts if act[0] not in ("idle", "run", "peer_reads")]) <= 8
    assert repeat(found) == found.finding


def a_task_is_left(x: Exchange) -> None:
    """As it was printed."""
    opens(x)
    x.ask()
    x.idle()
    x.cancel(0)
    x.idle()
    x.settle()


def a_message_is_lost(x: Exchange) -> None:
    """As it was printed, where `nothing_is_left` was known."""
    opens(x)
    x.ask()
    x.idle()
    x.cancel(0)
    x.idle()
    x.peer_sends("hi", cut=None, pieces=1)
    x.idle()
    x.settle()


def opens(x: Exchange) -> None:
    """What each of them begins with."""
    x.idle()
    x.ask()
    x.idle()
    x.send({"type": "websocket.accept"})
    x.idle()
    x.peer_reads()


def seen(subject: type[Small], program: Callable[[Exchange], None]) -> Finding | None:
    """What a program finds, in the stock order of the loop."""
    server = subject()
    x = Exchange(ScheduledLoop(), server.make, server.witness(0))
    try:
        program(x)
    except Broken as broken:
        return broken.finding
    finally:
        x.loop.dispose()
    return None


class SmallHidden(Small):
    """The first server, of which it is known that it leaves a task."""

    known: ClassVar[frozenset[str]] = frozenset({"nothing_is_left"})


def test_the_printed_programs_find_it_again() -> None:
    left, lost = seen(Small, a_task_is_left), seen(SmallHidden, a_message_is_lost)
    assert str(left) == "[any, must] nothing_is_left: tasks are left: waits for a message"
    assert lost is not None
    assert (lost.name, lost.rule, lost.level) == ("message_is_given", "R26", "must")


@pytest.mark.parametrize("program", [a_task_is_left, a_message_is_lost])
def test_they_find_nothing_once_it_is_mended(program: Callable[[Exchange], None]) -> None:
    assert seen(SmallMended, program) is None


def test_nothing_else_is_found_in_the_mended_server() -> None:
    assert SmallMended.known == frozenset()
    assert search(SmallMended, 100, 20, (), 0) is None
