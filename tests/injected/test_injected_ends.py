"""A FIN or an RST at every byte of a conversation, in both directions: no message is lost, doubled or out of order.

Messages are numbered from "1". `PIECES` is a client's whole conversation; what an app has to be told of its first so
many bytes is counted from it, and asks nothing of the runtime. All cuts of a kind are made at one server, many at a
time. Where a fault comes `at_once`, the kernel or the lifecycle (C14) may drop what was not read yet: what then is told
has no gap all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from tests.raw import (
    ACCEPT,
    HUGE,
    ON_BOTH_LOOPS,
    REQUEST,
    Loop,
    Peer,
    Site,
    asking,
    binary,
    close_frame,
    held,
    run,
    serving,
    text,
    until,
)
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options
from wslifecycle.runtime.session import Message, Receive, Send
from wslifecycle.statemachine.errors import Disconnected

AT_ONCE = 8
"""Connections at a time."""

MEDIUM = "2".rjust(126, "0")
PIECES: list[tuple[bytes, str | None]] = [
    (text("1"), "1"),
    (text(MEDIUM), MEDIUM),
    (frame(9, b"?"), None),
    (frame(1, b"0", fin=False) + frame(9, b"?") + frame(0, b"3"), "03"),
    (text("4"), "4"),
]
"""The frames of a client before its Close, and the message that is complete with each piece."""
DATA = b"".join(piece for piece, _ in PIECES)
CLOSE = close_frame(3001, "bye")
FRAMES = DATA + CLOSE
CUTS = range(len(FRAMES) + 1)


def due(cut: int) -> list[str]:
    """The messages that are complete in the first so many bytes of `FRAMES`."""
    ends = itertools.accumulate(len(piece) for piece, _ in PIECES)
    return [message for end, (_, message) in zip(ends, PIECES, strict=True) if end <= cut and message is not None]


def code(cut: int) -> int:
    """What the app is told at the end."""
    return 3001 if cut == len(FRAMES) else 1006


class Echo:
    """An app that notes for each path what it is given, with the code of the end, and what it has sent back."""

    def __init__(self) -> None:
        self.given: defaultdict[str, list[str | int]] = defaultdict(list)
        self.sent: defaultdict[str, list[str]] = defaultdict(list)
        self.late: list[str] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"]
        assert await receive() == {"type": "websocket.connect"}
        try:
            await send(ACCEPT)
            while (message := await receive())["type"] == "websocket.receive":
                self.given[path].append(message["text"])
                await send({"type": "websocket.send", "text": message["text"]})
                self.sent[path].append(message["text"])
        except Disconnected:
            while (message := await receive())["type"] == "websocket.receive":
                self.given[path].append(message["text"])
        self.given[path].append(message["code"])
        assert await receive() == message
        with pytest.raises(Disconnected):
            await send({"type": "websocket.send", "text": "late"})


def echoed(data: bytes) -> list[str]:
    """The messages that a server's bytes hold: whole frames, but for the last, and none after a Close."""
    return [payload.decode() for opcode, payload in frames(data) if opcode == 1]


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while len(data) >= 2:
        assert data[0] & 0xF0 == 0x80, "whole and with no reserved bit"
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            break
        assert not found or found[-1][0] != 8, "a Close is the last frame"
        found.append((data[0] & 15, data[start : start + size]))
        data = data[start + size :]
    return found


def each(cuts: Iterable[int], cutting: Callable[[int], Awaitable[None]]) -> Awaitable[object]:
    """Makes all cuts, some at a time."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(cut: int) -> None:
        async with free:
            try:
                await cutting(cut)
            except BaseException as error:
                error.add_note(f"cut at byte {cut}")
                raise

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for cut in cuts:
                group.create_task(one(cut))

    return all_of_them()


async def serves_the_next(site: Site) -> None:
    """Holds that the server goes on as if nothing had been."""
    async with site.upgraded(asking(target=b"/next")) as peer:
        peer.send(DATA)
        assert await answers(peer, len(FRAMES)) == due(len(FRAMES))
        peer.send(CLOSE)
        assert await peer.closed_with() == (3001, "")


async def answers(peer: Peer, cut: int) -> list[str]:
    """The answers to all messages that are complete in the first so many bytes."""
    found: list[str] = []
    while len(found) < len(due(cut)):
        opcode, payload = await peer.frame()
        found += [payload.decode()] if opcode == 1 else []
    return found


def served(test: Callable[[Site, Echo], Awaitable[object]], loop: Loop, max_queue: int | None = None) -> None:
    """Runs a test at a server of `Echo`, which has to serve another peer at the end."""

    async def bounded() -> None:
        app = Echo()
        async with serving(app, Options(max_queue=max_queue)) as site:
            await test(site, app)
            await serves_the_next(site)
        assert app.given["/next"] == [*due(len(FRAMES)), 3001]

    run(bounded(), loop, seconds=30, debug=False)


def is_prefix(shorter: list[str], longer: list[str]) -> bool:
    return shorter == longer[: len(shorter)]


# ------------------------------------------------------------------------------------------------ the peer's bytes


@ON_BOTH_LOOPS
class TestAHeadThatIsCut:
    @pytest.mark.parametrize("how", [Peer.end, Peer.reset], ids=["fin", "rst"])
    def test_calls_no_app_and_is_not_answered(self, loop: Loop, how: Callable[[Peer], None]) -> None:
        async def test(site: Site, app: Echo) -> None:
            async def cutting(cut: int) -> None:
                async with site.peer() as peer:
                    peer.send(REQUEST[:cut])
                    await peer.flushed()
                    how(peer)
                    assert await peer.rest() == b""

            await each(range(len(REQUEST)), cutting)
            assert not site.sessions
            assert not app.given

        served(test, loop)


@ON_BOTH_LOOPS
@pytest.mark.parametrize("max_queue", [None, 1], ids=["", "paused"])
class TestFramesThatAreCut:
    """Also where reading pauses after each message (C31)."""

    def test_by_a_fin_are_all_told_and_every_answer_arrives(self, loop: Loop, max_queue: int | None) -> None:
        async def test(site: Site, app: Echo) -> None:
            async def cutting(cut: int) -> None:
                path = f"/{cut}"
                async with site.upgraded(asking(target=path.encode())) as peer:
                    peer.send(FRAMES[:cut])
                    await peer.flushed()
                    peer.end()
                    seen = frames(await peer.rest())
                await app_ended(app, path)
                assert app.given[path] == [*due(cut), code(cut)]
                assert [payload.decode() for opcode, payload in seen if opcode == 1] == app.sent[path]
                closes = [payload for opcode, payload in seen if opcode == 8]
                assert closes == ([(3001).to_bytes(2)] if cut == len(FRAMES) else [])

            await each(CUTS, cutting)

        served(test, loop, max_queue)

    def test_by_an_rst_are_all_told_if_they_were_answered(self, loop: Loop, max_queue: int | None) -> None:
        async def test(site: Site, app: Echo) -> None:
            async def cutting(cut: int) -> None:
                path = f"/{cut}"
                async with site.upgraded(asking(target=path.encode())) as peer:
                    peer.send(DATA[:cut])
                    answered = await answers(peer, cut)
                    peer.send(FRAMES[len(DATA) : cut])
                    await peer.flushed()
                    if cut == len(FRAMES):
                        assert await peer.closed_with() == (3001, "")
                    peer.reset()
                await app_ended(app, path)
                assert app.given[path] == [*due(cut), code(cut)]
                assert answered == app.sent[path] == due(cut)

            await each(CUTS, cutting)

        served(test, loop, max_queue)

    @pytest.mark.parametrize("how", [Peer.end, Peer.reset], ids=["fin", "rst"])
    @pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "before-the-accept"])
    def test_at_once_are_told_without_a_gap(
        self, loop: Loop, max_queue: int | None, how: Callable[[Peer], None], accepted: bool
    ) -> None:
        async def test(site: Site, app: Echo) -> None:
            async def cutting(cut: int) -> None:
                path = f"/{cut}"
                request = asking(target=path.encode())
                async with site.peer() as peer:
                    if accepted:
                        await peer.upgrade(request)
                    peer.send(b"" if accepted else request, FRAMES[:cut])
                    await peer.flushed()
                    how(peer)
                    head, mark, rest = (await peer.rest()).rpartition(b"\r\n\r\n")
                assert mark == b"" or head.startswith(b"HTTP/1.1 101 ")
                if not accepted and how is Peer.reset and path not in app.given:
                    return  # it may be gone before its request is read
                await app_ended(app, path)
                *given, end = app.given[path]
                assert is_prefix([str(message) for message in given], due(cut))
                assert end in (1006, code(cut))
                assert is_prefix(echoed(rest), app.sent[path])

            await each(CUTS, cutting)

        served(test, loop, max_queue)


@ON_BOTH_LOOPS
class TestMessagesThatWait:
    def test_when_the_loss_is_noticed_are_all_told(self, loop: Loop) -> None:
        """They were read while nobody received; the loss of a connection that is not read from shows in a write."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=1)) as (peer, session, receive, send):
                transport: Any = session._transport
                peer.send(DATA[:-1])
                await until(lambda: not session._connection.reads)
                peer.send(DATA[-1:])
                await until(lambda: not transport.is_reading())
                peer.reset()
                with contextlib.suppress(Disconnected):
                    while True:
                        await send(binary(b"?"))
                        await asyncio.sleep(0)
                assert [(await receive())["text"] for _ in due(len(DATA))] == due(len(DATA))
                assert (await receive())["code"] == 1006

        run(test(), loop)


async def app_ended(app: Echo, path: str) -> None:
    """Waits until the app has been told of the end."""
    while not app.given[path] or not isinstance(app.given[path][-1], int):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------------------------ the app's messages


class Counter:
    """An app that sends numbered messages until it is told that nobody is there, and notes which `send()` returned."""

    def __init__(self) -> None:
        self.sent: defaultdict[str, list[str]] = defaultdict(list)
        self.over: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"]
        await send(ACCEPT)
        try:
            for message in map(numbered, itertools.count(1)):
                await send({"type": "websocket.send", "text": message})
                self.sent[path].append(message)
                await asyncio.sleep(0)
        except Disconnected:
            assert (await receive())["type"] == "websocket.connect"
            assert (await receive())["code"] == 1006
            self.over[path].set()


def numbered(number: int) -> str:
    """Every third message is of another kind of length."""
    return str(number) if number % 3 else str(number).rjust(126, "0")


READ = range(2 * len("\x81\1" + "1") + 2 * len("\x81\x7e__") + 126 + 4)
"""After how many bytes a reader may vanish: all of some messages, and a little more."""


@ON_BOTH_LOOPS
class TestAReaderThatVanishes:
    def test_by_a_fin_is_sent_every_message_that_was_taken(self, loop: Loop) -> None:
        assert vanishing(Peer.end, loop) == {0}

    def test_by_an_rst_was_sent_what_it_has_without_a_gap(self, loop: Loop) -> None:
        assert min(vanishing(Peer.reset, loop)) >= 0

    def test_by_a_fin_while_messages_wait_is_sent_them_all(self, loop: Loop) -> None:
        async def test() -> None:
            sent: list[int] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                with contextlib.suppress(Disconnected):
                    for number in itertools.count():
                        sent.append(number)
                        await send(binary(bytes([number]) + HUGE))

            async with serving(app) as site, site.peer(small=True) as peer:
                await peer.upgrade()
                while not sent:  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0)
                peer.end()
                await site.sessions[0].ended()
                seen = frames(await peer.rest())
            assert [payload[0] for _, payload in seen] == sent
            assert {len(payload) for _, payload in seen} == {1 + len(HUGE)}

        run(test(), loop)


def vanishing(how: Callable[[Peer], None], loop: Loop) -> set[int]:
    """By how many messages those whose `send()` returned are more than those that a reader got, one for each cut.

    Holds that both are the numbers from 1 on.
    """
    missing: set[int] = set()

    async def test() -> None:
        app = Counter()
        async with serving(app) as site:

            async def cutting(cut: int) -> None:
                path = f"/{cut}"
                async with site.upgraded(asking(target=path.encode())) as peer:
                    data = await peer.read(cut)
                    how(peer)
                    data += await peer.rest()
                await app.over[path].wait()
                got, sent = echoed(data), app.sent[path]
                numbers = [numbered(number) for number in range(1, 1 + max(len(got), len(sent)))]
                assert is_prefix(got, numbers)
                assert is_prefix(sent, numbers)
                missing.add(len(sent) - len(got))

            await each(READ, cutting)

    run(test(), loop, seconds=30, debug=False)
    return missing
