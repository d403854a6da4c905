"""An app that fails in every state of its connection, by every kind of exception.

What the peer sees is what the state has left to say, and never why. The failure is logged once, and the next peer is
served. tests/test_session.py has what is the same everywhere: how errors are told from a lost connection (C40), and
the interrupts that end the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

import pytest

from tests.raw import (
    ACCEPT,
    CLOSE,
    HUGE,
    ON_BOTH_LOOPS,
    REQUEST,
    Loop,
    Peer,
    asking,
    binary,
    close_frame,
    run,
    serving,
    text,
    until,
)
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime.session import Message, Receive, Send

SECRET = "what nobody outside may know"
START = {"type": "websocket.http.response.start", "status": 418, "headers": []}
PART = {"type": "websocket.http.response.body", "body": b"part", "more_body": True}


class Fatal(BaseException):
    """What no handler of an `Exception` catches."""


# ------------------------------------------------------------------------------------------------ states


async def nothing(*_: object) -> None:
    pass


async def receives(receive: Receive, send: Send) -> None:
    await receive()


async def holds_a_denial(receive: Receive, send: Send) -> None:
    await send(START)


async def denies(receive: Receive, send: Send) -> None:
    await send(START)
    await send(PART)


async def accepts(receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)


async def reads_one(receive: Receive, send: Send) -> None:
    await accepts(receive, send)
    assert (await receive())["text"] == "1"


async def stuffs(receive: Receive, send: Send) -> None:
    await accepts(receive, send)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await send(binary(HUGE))


async def closes(receive: Receive, send: Send) -> None:
    await accepts(receive, send)
    await send(CLOSE)


async def reads_to_the_end(receive: Receive, send: Send) -> None:
    await accepts(receive, send)
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def reads_the_part(peer: Peer) -> None:
    assert (await peer.head()).startswith(b"HTTP/1.1 418 ")
    assert await peer.read(9) == b"4\r\npart\r\n"


async def reads_the_head(peer: Peer) -> None:
    assert (await peer.head()).startswith(b"HTTP/1.1 101 ")


async def violates(peer: Peer) -> None:
    await reads_the_head(peer)
    peer.send(frame(3))


async def reads_the_close(peer: Peer) -> None:
    await reads_the_head(peer)
    assert await peer.closed_with() == (3000, "enough")


async def vanishes(peer: Peer) -> None:
    await reads_the_head(peer)
    peer.reset()


async def is_refused(peer: Peer) -> None:
    assert (await peer.head()).startswith(b"HTTP/1.1 500 ")


async def is_closed(peer: Peer, code: int = 1011, reason: str = "") -> None:
    assert await peer.closed_with() == (code, reason)
    peer.send(close_frame(code))
    peer.end()


async def is_closed_after_all(peer: Peer) -> None:
    assert await peer.frame() == (2, HUGE)
    await is_closed(peer)


async def is_failed(peer: Peer) -> None:
    await is_closed(peer, 1002, "Invalid opcode 0x3")


async def goes(peer: Peer) -> None:
    peer.end()


async def has_its_close_answered(peer: Peer) -> None:
    assert await peer.closed_with() == (3001, "")


@dataclass(frozen=True)
class State:
    """Where the wire is, what the app and then the peer do until then, and what the peer sees of the failure.

    `sent` are the peer's bytes behind its request.
    """

    wire: str
    app: Callable[[Receive, Send], Awaitable[None]]
    before: Callable[[Peer], Awaitable[None]]
    after: Callable[[Peer], Awaitable[None]]
    sent: bytes = b""


STATES = {
    "connect-not-received": State("handshake", nothing, nothing, is_refused),
    "handshake": State("handshake", receives, nothing, is_refused),
    "early-bytes": State("handshake", receives, nothing, is_refused, text("1")),
    "denial-held": State("denial_held", holds_a_denial, nothing, is_refused),
    "denying": State("denying", denies, reads_the_part, nothing),
    "open": State("open", accepts, reads_the_head, is_closed),
    "unread": State("open", reads_one, reads_the_head, is_closed, text("1") + text("2") + text("3")),
    "stuffed": State("open", stuffs, reads_the_head, is_closed_after_all),
    "closing": State("closing", closes, reads_the_close, goes),
    "failing": State("failing", accepts, violates, is_failed),
    "closed": State("closed", reads_to_the_end, reads_the_head, has_its_close_answered, close_frame(3001)),
    "lost": State("closed", accepts, vanishes, nothing),
}


# ------------------------------------------------------------------------------------------------ failures


def by(kind: type[BaseException]) -> Callable[[], Coroutine[None, None, None]]:
    async def fail() -> None:
        raise kind(SECRET)

    return fail


async def in_the_background() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(by(KeyError)())
        await asyncio.Event().wait()


FAILURES: dict[str, Callable[[], Awaitable[None]]] = {
    "error": by(ValueError),
    "background": in_the_background,
    "cancelled": by(asyncio.CancelledError),
    "fatal": by(Fatal),
}
LOGGED = {"error": [ValueError], "background": [ExceptionGroup], "cancelled": [asyncio.CancelledError], "fatal": []}
"""What is logged; what is fatal is the task's own result, for the loop to tell of."""


class Failing:
    """An app that comes to a state and fails when it is told to; on another path it serves the next peer."""

    def __init__(self, state: State, failure: Callable[[], Awaitable[None]]) -> None:
        self.there, self.go = asyncio.Event(), asyncio.Event()
        self._failure = failure
        self._state = state

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/next":
            await closes(receive, send)
            return
        await self._state.app(receive, send)
        self.there.set()
        await self.go.wait()
        await self._failure()


@ON_BOTH_LOOPS
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", STATES)
class TestAnAppThatFails:
    def test_is_logged_once_and_the_peer_is_told_what_is_due(
        self, loop: Loop, name: str, failure: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def test() -> None:
            state = STATES[name]
            app = Failing(state, FAILURES[failure])
            async with serving(app) as site:
                async with site.peer(small=True) as peer:
                    peer.send(REQUEST, state.sent)
                    await app.there.wait()
                    await state.before(peer)
                    (session,) = site.sessions
                    await until(lambda: session._connection.state.startswith(f"{state.wire}/"))
                    app.go.set()
                    await state.after(peer)
                    rest = await peer.rest()
                    await session.ended()
                assert rest in (b"", b"Internal Server Error")
                assert session._task is not None
                result = session._task.exception() if failure != "cancelled" else None
                assert isinstance(result, Fatal) == (failure == "fatal")
                async with site.upgraded(asking(target=b"/next")) as peer:
                    assert await peer.closed_with() == (3000, "enough")

        with caplog.at_level(logging.ERROR):
            run(test(), loop, debug=False)
        assert [record.exc_info and record.exc_info[0] for record in caplog.records] == LOGGED[failure]
