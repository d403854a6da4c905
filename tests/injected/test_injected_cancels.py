"""A cancellation at every await of the runtime: what the app calls, and what starts and ends a server.

`Cut` awaits a coroutine and has it cancelled at its n-th suspension: at once, or `late`, when what it waits for has
come and it has not gone on yet. `every_cut` plays a scene for n = 1, 2, ... until the coroutine ends before that.
Nothing may be lost by it: the next call goes on where the cancelled one has not begun.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Generator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.raw import (
    ACCEPT,
    CLOSE,
    HUGE,
    ON_BOTH_LOOPS,
    Loop,
    Peer,
    binary,
    close_frame,
    connected,
    disconnect,
    held,
    run,
    text,
    until,
)
from wslifecycle.runtime import Options, Server, start_server
from wslifecycle.runtime.session import Message, Receive, Send
from wslifecycle.statemachine.errors import Disconnected

MOST = 40
"""Suspensions that no scene has."""

LATE = pytest.mark.parametrize("late", [False, True], ids=["at-once", "late"])


class Cut:
    """Awaits a coroutine, and cancels the task that does it at some of its suspensions, counted from 1."""

    def __init__(self, awaited: Awaitable[Any], at: Collection[int], late: bool = False) -> None:
        self._steps = awaited.__await__()
        self._at = at
        self._late = late
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        go_on: Callable[[], Any] = partial(self._steps.send, None)
        while True:
            try:
                future = go_on()
            except StopIteration as done:
                return done.value
            self.suspensions += 1
            if self.suspensions in self._at:
                if self._late and future is not None:  # None: a bare turn of the loop, which nothing precedes
                    future.add_done_callback(lambda _, task=task: task.cancel())
                else:
                    task.cancel()
            try:
                yield future
            except BaseException as error:
                go_on = partial(self._steps.throw, error)
            else:
                go_on = partial(self._steps.send, None)

    async def outcome(self) -> Any:
        """What the coroutine returned; an exception as a value."""
        try:
            return await self
        except (asyncio.CancelledError, Disconnected, TimeoutError) as error:
            return error


Cutter: TypeAlias = Callable[[Awaitable[Any]], Cut]
Scene: TypeAlias = Callable[[Cutter], Awaitable[None]]
"""Has one coroutine cut; is played once for each of its suspensions."""


async def every_cut(scene: Scene, *, late: bool = False, first: int | None = None) -> int:
    """Plays a scene once for each cut, which is the only one or comes after a `first`; returns how many there were."""
    for at in itertools.count(1):
        assert at < MOST
        cuts: list[Cut] = []

        def cut(awaited: Awaitable[Any], at: int = at, cuts: list[Cut] = cuts) -> Cut:
            cuts.append(Cut(awaited, {at, first or at}, late))
            return cuts[-1]

        await scene(cut)
        (played,) = cuts
        if played.suspensions < at:
            return at - 1
    raise AssertionError


# ------------------------------------------------------------------------------------------------ receive()


async def text_of(receive: Receive) -> str | None:
    async with asyncio.timeout(2):
        return (await receive()).get("text")


@ON_BOTH_LOOPS
@LATE
class TestReceive:
    @pytest.mark.parametrize("unread", [0, 1], ids=["nothing-unread", "one-unread"])
    def test_that_waits_loses_no_message(self, loop: Loop, late: bool, unread: int) -> None:
        """Another call is before it in the queue, and another behind it."""

        async def scene(cut: Cutter) -> None:
            async with held(ACCEPT, options=Options(max_queue=1)) as (peer, _, receive, send):
                for number in range(unread):
                    peer.send(text(str(number + 1)))
                before = asyncio.create_task(text_of(receive))
                victim = asyncio.create_task(cut(receive()).outcome())
                behind = asyncio.create_task(text_of(receive))
                await asyncio.sleep(0)
                peer.send(*(text(str(number)) for number in range(unread + 1, 6)))
                await asyncio.wait({before, victim, behind})
                got = victim.result()
                given = [before.result(), *([] if isinstance(got, BaseException) else [got["text"]]), behind.result()]
                while len(given) < 5:
                    given.append(await text_of(receive))
                assert given == ["1", "2", "3", "4", "5"]
                await send(binary(b"alive"))
                assert await peer.frame() == (2, b"alive")

        async def test() -> None:
            assert await every_cut(scene, late=late) >= 1

        run(test(), loop)

    def test_that_waits_first_leaves_its_message_to_the_next(self, loop: Loop, late: bool) -> None:
        async def scene(cut: Cutter) -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                victim = asyncio.create_task(cut(receive()).outcome())
                await asyncio.sleep(0)
                peer.send(text("1"), text("2"), close_frame(3001))
                await asyncio.wait({victim})
                got = victim.result()
                given = [] if isinstance(got, BaseException) else [got["text"]]
                given += [await text_of(receive) for _ in range(2 - len(given))]
                assert given == ["1", "2"]
                assert await receive() == disconnect(3001)

        async def test() -> None:
            assert await every_cut(scene, late=late) == 1

        run(test(), loop)

    @pytest.mark.parametrize("end", ["fin", "reset", "own-close", "violation", "shutdown"])
    def test_that_is_paced_after_the_end_tells_of_it_again(self, loop: Loop, late: bool, end: str) -> None:
        codes = {"own-close": 3000, "violation": 1002, "shutdown": 1012}

        async def scene(cut: Cutter) -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                match end:
                    case "fin":
                        peer.end()
                    case "reset":
                        peer.reset()
                    case "own-close":
                        await send(CLOSE)
                    case "violation":
                        peer.send(b"\xff\xff")
                    case "shutdown":
                        session.shutdown()
                due = await receive()
                assert due["code"] == codes.get(end, 1006)
                assert await receive() == due
                got = await asyncio.create_task(cut(receive()).outcome())
                assert isinstance(got, asyncio.CancelledError) or got == due
                assert await receive() == due
                with pytest.raises(Disconnected):
                    await send(binary(b"late"))
                peer.reset()

        async def test() -> None:
            assert await every_cut(scene, late=late) == 1

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ send()


@ON_BOTH_LOOPS
@LATE
class TestSend:
    @pytest.mark.parametrize("then", ["peer-reads", "own-close", "shutdown"])
    def test_that_waits_for_the_peer_leaves_whole_messages(self, loop: Loop, late: bool, then: str) -> None:
        async def scene(cut: Cutter) -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                victim = asyncio.create_task(cut(send(binary(b"1" + HUGE))).outcome())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                behind = asyncio.create_task(outcome(send(binary(b"2" + HUGE))))
                await asyncio.sleep(0)
                if then == "own-close":
                    await send(CLOSE)
                elif then == "shutdown":
                    session.shutdown()
                assert [(await peer.frame())[1][:1] for _ in range(2)] == [b"1", b"2"]
                await asyncio.wait({victim, behind})
                if then == "peer-reads":
                    await send(binary(b"3"))
                    assert await peer.frame() == (2, b"3")
                else:
                    assert isinstance(behind.result(), Disconnected)
                    assert (await peer.closed_with())[0] == (3000 if then == "own-close" else 1012)

        async def test() -> None:
            assert await every_cut(scene, late=late) == 1

        run(test(), loop)

    def test_that_waits_when_the_peer_is_lost_leaves_no_doubt_to_the_next(self, loop: Loop, late: bool) -> None:
        async def scene(cut: Cutter) -> None:
            async with held(ACCEPT) as (peer, _, receive, send):
                victim = asyncio.create_task(cut(send(binary(HUGE))).outcome())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                peer.reset()
                await asyncio.wait({victim})
                assert isinstance(victim.result(), asyncio.CancelledError | Disconnected)
                assert await receive() == disconnect(1006)
                with pytest.raises(Disconnected):
                    await send(binary(b"late"))

        async def test() -> None:
            assert await every_cut(scene, late=late) == 1

        run(test(), loop)

    def test_on_a_transport_that_is_just_gone_leaves_no_doubt_to_the_next(self, loop: Loop, late: bool) -> None:
        async def scene(cut: Cutter) -> None:
            async with held(ACCEPT) as (_, session, receive, send):

                async def hasty() -> None:
                    session._transport.abort()  # it is closing, and its protocol has not heard of it
                    await send(binary(b"late"))

                await asyncio.create_task(cut(hasty()).outcome())
                assert await receive() == disconnect(1006)
                with pytest.raises(Disconnected):
                    await send(binary(b"late"))

        async def test() -> None:
            assert await every_cut(scene, late=late) == 1

        run(test(), loop)

    def test_of_a_denial_that_waits_goes_on_with_the_rest(self, loop: Loop, late: bool) -> None:
        start = {"type": "websocket.http.response.start", "status": 418, "headers": []}

        async def scene(cut: Cutter) -> None:
            async with held(start) as (peer, _, _, send):
                first = {"type": "websocket.http.response.body", "body": HUGE, "more_body": True}
                victim = asyncio.create_task(cut(send(first)).outcome())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                last = asyncio.create_task(outcome(send({"type": "websocket.http.response.body", "body": b"!"})))
                await peer.head()
                assert await peer.rest() == b"100000\r\n" + HUGE + b"\r\n1\r\n!\r\n0\r\n\r\n"
                await asyncio.wait({victim, last})

        async def test() -> None:
            assert await every_cut(scene, late=late) == 1

        run(test(), loop)

    @pytest.mark.parametrize("message", [ACCEPT, CLOSE], ids=["accept", "close"])
    def test_that_answers_the_handshake_never_waits(self, loop: Loop, late: bool, message: Message) -> None:
        async def scene(cut: Cutter) -> None:
            async with held() as (peer, _, _, send):
                await asyncio.create_task(cut(send(message)).outcome())
                assert (await peer.head()).startswith(b"HTTP/1.1 101 " if message is ACCEPT else b"HTTP/1.1 403 ")

        async def test() -> None:
            assert await every_cut(scene, late=late) == 0

        run(test(), loop)


async def outcome(awaited: Awaitable[None]) -> BaseException | None:
    try:
        await awaited
    except Disconnected as error:
        return error
    return None


# ------------------------------------------------------------------------------------------------ a server


class Living:
    """An app with a lifespan, whose connections stay as long as their peers do; notes what became of the lifespan."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.events: list[str] = []
        self.open = 0
        self._stubborn = stubborn

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._converse(receive, send)
            return
        for event in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{event}"}
            await asyncio.sleep(0)
            self.events.append(event)
            await send({"type": f"lifespan.{event}.complete"})

    async def _converse(self, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        self.open += 1
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass
            await (asyncio.Event().wait() if self._stubborn else asyncio.sleep(0))
        finally:
            self.open -= 1


@asynccontextmanager
async def crowded(server: Server, app: Living) -> AsyncIterator[list[Peer]]:
    """A server with two peers that are open, and that answer no Close."""
    port = server.sockets[0].getsockname()[1]
    async with connected(port) as one, connected(port) as other:
        for peer in (one, other):
            await peer.upgrade()
        await until(lambda: app.open == 2)
        yield [one, other]


async def ends(waiting: asyncio.Task[Any], peers: list[Peer]) -> None:
    """The peers end once they are told to, so that the server can."""
    for peer in peers:
        assert await peer.closed_with() == (1012, "")
        peer.end()
        await asyncio.sleep(0)
    await asyncio.wait({waiting})


@ON_BOTH_LOOPS
@LATE
class TestAServer:
    def test_whose_wait_closed_is_cancelled_can_be_waited_for_again(self, loop: Loop, late: bool) -> None:
        async def scene(cut: Cutter) -> None:
            app = Living()
            server = await start_server(app, lifespan="on")
            async with crowded(server, app) as peers:
                waiting = asyncio.create_task(cut(server.wait_closed()).outcome())
                await asyncio.sleep(0)
                server.close()
                await ends(waiting, peers)
            await server.wait_closed()
            assert app.open == 0
            assert app.events[:1] == ["startup"]
            assert app.events[1:] == ["shutdown"] or isinstance(waiting.result(), asyncio.CancelledError)

        async def test() -> None:
            assert await every_cut(scene, late=late) >= 4  # close(), connections or apps, the lifespan, its end

        run(test(), loop)

    def test_whose_time_of_grace_is_over_can_be_waited_for_again(self, loop: Loop, late: bool) -> None:
        async def scene(cut: Cutter) -> None:
            app = Living(stubborn=True)
            server = await start_server(app, lifespan="on", grace=0.02)
            async with crowded(server, app):
                server.close()
                await asyncio.create_task(cut(server.wait_closed()).outcome())
                await server.wait_closed()
                assert app.open == 0

        async def test() -> None:
            assert await every_cut(scene, late=late) >= 4

        run(test(), loop)

    @pytest.mark.parametrize("first", [None, 1], ids=["once", "twice"])
    def test_that_serves_for_ever_ends_in_order(self, loop: Loop, late: bool, first: int | None) -> None:
        """Cancelled once, or a second time at every await of the shutdown that the first time brings about."""

        async def scene(cut: Cutter) -> None:
            app = Living()
            async with await start_server(app, lifespan="on") as server, crowded(server, app) as peers:
                serving = asyncio.create_task(cut(server.serve_forever()).outcome())
                await asyncio.sleep(0)
                server.close()
                await ends(serving, peers)
                assert not server.is_serving()
            assert app.open == 0
            assert app.events in (["startup"], ["startup", "shutdown"])

        async def test() -> None:
            assert await every_cut(scene, late=late, first=first) >= 4

        run(test(), loop)

    @pytest.mark.parametrize("where", ["tcp", "unix"])
    def test_whose_start_is_cancelled_leaves_nothing(self, loop: Loop, late: bool, where: str, tmp_path: Path) -> None:
        async def scene(cut: Cutter) -> None:
            app = Living()
            settings: dict[str, Any] = {"path": str(tmp_path / "socket")} if where == "unix" else {}
            starting = cut(start_server(app, lifespan="on", **settings))
            started = await asyncio.create_task(starting.outcome())
            if isinstance(started, Server):
                started.close()
                await started.wait_closed()
            assert app.events in ([], ["startup"], ["startup", "shutdown"])

        async def test() -> None:
            assert await every_cut(scene, late=late) >= 1

        run(test(), loop)
