"""An exception from every call of the transport: it ends this connection in order, and nothing else.

No transport of asyncio or uvloop ought to raise, and some of their releases do. A conversation is held once to count
its calls; then once for each of them, in which that call raises and does nothing. However the runtime hears of it, the
app's calls tell it so that it ends, the peer sees the end and no word about the reason, and the next peer is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.raw import (
    ACCEPT,
    CLOSE,
    HUGE,
    ON_BOTH_LOOPS,
    REQUEST,
    Loop,
    Peer,
    Site,
    asking,
    binary,
    close_frame,
    cram,
    run,
    text,
)
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options, acceptor, server, start_server
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.session import App, Message, Receive, Send, Session

METHODS = frozenset(
    [
        "write",
        "write_eof",
        "can_write_eof",
        "close",
        "abort",
        "is_closing",
        "pause_reading",
        "resume_reading",
        "get_extra_info",
    ]
)
SECRET = "the cause of it all"
SOON = 0.02
"""Seconds after which time is up, where a conversation is about that."""
TURNS = 50
"""Turns of the loop in which a peer has an answer and sends more."""
PATIENCE = 1.0
"""Seconds after which something hangs."""
HASTY = Options(ping_interval=None, close_timeout=0.3)
IMPATIENT = replace(HASTY, close_timeout=SOON)


# ------------------------------------------------------------------------------------------------ the fault


@dataclass
class Fault:
    """The n-th call of a method raises, on the first connection that there is."""

    method: str = ""
    at: int = 0
    error: type[Exception] = OSError
    calls: Counter[str] = field(default_factory=Counter)
    first: bool = True
    """Until there was a connection."""
    written: bytes = b""

    def called(self, name: str) -> None:
        self.calls[name] += 1
        if name == self.method and self.calls[name] == self.at:
            raise self.error(SECRET)

    def __str__(self) -> str:
        return f"{self.error.__name__} from call {self.at} of {self.method}()"


class Transport:
    """Hands on every call to a transport, unless it is the one that raises."""

    def __init__(self, transport: asyncio.BaseTransport, fault: Fault) -> None:
        self._transport = transport
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._transport, name)

        def call(*arguments: Any) -> Any:
            self._fault.called(name)
            if name == "write":
                self._fault.written += arguments[0][:1000]
            return method(*arguments)

        return call if name in METHODS else method


def faulty(fault: Fault) -> type[Acceptor]:
    """A protocol whose first transport has this fault."""

    class Faulty(Acceptor):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            wrapped: Any = Transport(transport, fault) if fault.first else transport
            fault.first = False
            super().connection_made(wrapped)

    return Faulty


# ------------------------------------------------------------------------------------------------ conversations


class Told:
    """An app that does one thing, and notes by what `receive()` or `send()` it was told of the end."""

    def __init__(self, does: App) -> None:
        self.errors: list[BaseException] = []
        self._does = does

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/next":
            await receive()
            await send(ACCEPT)
            await send(CLOSE)
            return
        try:
            await self._does(scope, receive, send)
        except Exception as error:
            self.errors.append(error)
            raise


async def echoes(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def dawdles(scope: Message, receive: Receive, send: Send) -> None:
    """Echoes, and takes so many turns of the loop for each message that more comes meanwhile."""
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await send({**message, "type": "websocket.send"})


async def closes(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    await send(CLOSE)


async def denies(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
    for number in range(3):
        await send({"type": "websocket.http.response.body", "body": b"%d" % number, "more_body": number < 2})


async def floods(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SOON):
            await send(binary(HUGE))


class Own(OSError):
    """An error of the app itself, which is logged whatever the transport does."""


async def breaks(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    raise Own


async def talks(peer: Peer, site: Site) -> None:
    await peer.upgrade()
    peer.send(*(text(str(number)) for number in range(4)), frame(9, b"?"))
    for _ in range(5):
        await peer.frame()
    peer.send(close_frame(3001))


async def talks_on(peer: Peer, site: Site) -> None:
    """What comes in the second piece comes while the first is unread."""
    await peer.upgrade()
    peer.send(frame(9, b"?"), *(text(str(number)) for number in range(2)))
    await peer.frame()
    peer.send(*(text(str(number)) for number in range(2, 4)))
    for _ in range(4):
        await peer.frame()
    peer.send(close_frame(3001))


async def violates(peer: Peer, site: Site) -> None:
    await peer.upgrade()
    peer.send(frame(3))
    await peer.closed_with()
    peer.end()


async def ends(peer: Peer, site: Site) -> None:
    await peer.upgrade()
    peer.end()


async def listens(peer: Peer, site: Site) -> None:
    await peer.upgrade()


async def asks(peer: Peer, site: Site) -> None:
    peer.send(REQUEST)


async def asks_in_vain(peer: Peer, site: Site) -> None:
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await says_nothing(peer, site)


async def says_nothing(peer: Peer, site: Site) -> None:
    await peer.rest()
    await asyncio.sleep(2 * SOON)  # it lingers for longer than the server does


async def sees_a_shutdown(peer: Peer, site: Site) -> None:
    await peer.upgrade()
    for session in site.sessions:
        session.shutdown()
    await peer.closed_with()
    peer.send(close_frame(1000))


async def reads_nothing(peer: Peer, site: Site) -> None:
    await peer.upgrade()
    await site.sessions[0].ended()
    peer.send(close_frame(1000))
    await asyncio.sleep(2 * SOON)  # reads nothing, until the server has lost its patience


@dataclass(frozen=True)
class Conversation:
    app: App
    peer: Callable[[Peer, Site], Awaitable[None]]
    calls: frozenset[str]
    """What it is there for: calls that it has to make."""
    options: Options = HASTY


CONVERSATIONS = {
    "talk": Conversation(
        echoes,
        talks,
        frozenset(("get_extra_info", "write", "resume_reading", "is_closing", "close")),
        replace(HASTY, max_queue=1),
    ),
    "slow-app": Conversation(
        dawdles, talks_on, frozenset(("pause_reading", "resume_reading")), replace(HASTY, max_queue=1)
    ),
    "violation": Conversation(echoes, violates, frozenset(("can_write_eof", "is_closing", "write_eof", "close"))),
    "fin": Conversation(echoes, ends, frozenset(("close",))),
    "no-close-comes": Conversation(closes, listens, frozenset(("write", "abort")), IMPATIENT),
    "denial": Conversation(denies, asks, frozenset(("write", "close"))),
    "stuffed": Conversation(floods, reads_nothing, frozenset(("abort",)), IMPATIENT),
    "no-pong-comes": Conversation(
        echoes,
        listens,
        frozenset(("write", "write_eof", "close")),
        replace(HASTY, ping_interval=SOON, ping_timeout=SOON),
    ),
    "broken-app": Conversation(breaks, listens, frozenset(("write", "abort")), IMPATIENT),
    "refusal": Conversation(echoes, asks_in_vain, frozenset(("write", "can_write_eof", "write_eof", "close"))),
    "no-request": Conversation(
        echoes,
        says_nothing,
        frozenset(("write", "can_write_eof", "write_eof", "close")),
        replace(HASTY, request_timeout=SOON),
    ),
    "shutdown": Conversation(echoes, sees_a_shutdown, frozenset(("write", "close"))),
}


# ------------------------------------------------------------------------------------------------ playing them


async def play(conversation: Conversation, fault: Fault) -> list[str]:
    """Holds a conversation with a fault; tells what is wrong."""
    wrong: list[str] = []
    app = Told(conversation.app)
    sessions: list[Session] = []
    options = replace(conversation.options, on_session=sessions.append)
    with complaints() as said, patched(faulty(fault)):
        async with await start_server(app, lifespan="off", options=options, grace=PATIENCE) as serving:
            cram(serving)
            site = Site(serving, sessions)
            async with site.peer(small=True) as peer:
                await within(conversation.peer(peer, site), "the conversation hangs", wrong)
                await within(peer.rest(), "the peer sees no end", wrong)
                for session in sessions:
                    await within(session.ended(), "the app goes on", wrong)
            async with site.peer() as peer:
                await within(peer.upgrade(asking(target=b"/next")), "the next peer is not answered", wrong)
                assert await peer.closed_with() == (3000, "enough")
    wrong += [f"the app is told by {error!r}" for error in app.errors if not isinstance(error, OSError)]
    wrong += ["the peer is told why"] if SECRET.encode() in fault.written else []
    wrong += [f"said: {line}" for line in said] if len(said) > 1 else []
    return wrong


async def within(awaited: Awaitable[object], otherwise: str, wrong: list[str]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await awaited
    except TimeoutError:
        wrong.append(otherwise)
    except (ConnectionError, asyncio.IncompleteReadError, AssertionError):
        pass  # what the peer expected next will not come
    except Exception as error:
        wrong.append(f"{error!r} came out of the server's side")


@contextlib.contextmanager
def patched(protocol: type[Acceptor]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Acceptor", protocol)
        patch.setattr(acceptor, "LINGER", SOON)
        yield


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """What is logged as an error meanwhile, by the runtime or by the loop."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info is None or not isinstance(record.exc_info[1], Own):
                said.append(record.getMessage().strip())

    ear = Ear(logging.ERROR)
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: said.append(f"{context['message']} {context.get('exception')!r}"))
    logging.getLogger("wslifecycle").addHandler(ear)
    try:
        yield said
    finally:
        logging.getLogger("wslifecycle").removeHandler(ear)
        loop.set_exception_handler(before)


@ON_BOTH_LOOPS
@pytest.mark.parametrize("error", [OSError, RuntimeError])
@pytest.mark.parametrize("name", CONVERSATIONS)
class TestAnExceptionFromTheTransport:
    def test_ends_the_connection_and_nothing_else(self, loop: Loop, name: str, error: type[Exception]) -> None:
        async def test() -> None:
            conversation = CONVERSATIONS[name]
            sound = Fault()
            assert await play(conversation, sound) == []
            assert conversation.calls <= sound.calls.keys()
            wrong = {}
            for method, count in sound.calls.items():
                for at in range(1, count + 1):
                    fault = Fault(method, at, error)
                    if found := await play(conversation, fault):
                        wrong[str(fault)] = found
            assert wrong == {}

        run(test(), loop, seconds=60, debug=False)
