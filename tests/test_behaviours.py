"""How real apps and peers behave, over each way in: slow ones, early ones, those that leave, those that broadcast.

What each of them shall find is said in the choices of the reference profile; each class names its numbers.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.hands import BODY, REQUEST, START, Hand, both, client, exchange, scene, told, until
from tests.raw import ACCEPT, CLOSE, close_frame, text
from tests.ways import WAYS, run, serving
from wslifecycle.conformance.peer import frame, settle
from wslifecycle.runtime.session import Message, Receive, Send

ways = pytest.mark.parametrize("way", WAYS)
LOST = (1006, "")


# ------------------------------------------------------------------------------------------------ slow apps


@asynccontextmanager
async def ponging(hand: Hand) -> AsyncIterator[None]:
    """Answers every Ping, as a healthy peer does."""

    async def answer() -> None:
        for count in itertools.count(1):
            hand.write(frame(10, await hand.sees("ping", count)))

    task = asyncio.create_task(answer())
    try:
        yield
        assert not task.done(), "no Ping came any more"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestSlowAppsAndPings:
    """C33, C31: as long as an app leaves its messages unread, reading pauses, and no Pong can be expected."""

    PINGS: dict[str, Any] = {"ping_interval": 0.05, "ping_timeout": 0.2, "max_queue": 4}  # noqa: RUF012 - constant
    FLOOD = tuple(str(i) + "x" * 1000 for i in range(200))

    @ways
    def test_a_healthy_peer_that_floods_a_sleeping_app_is_not_lost(self, way: str) -> None:
        async def test() -> None:
            async with scene(way, **self.PINGS) as stage, stage.connection(ACCEPT) as (hand, puppet), ponging(hand):
                await hand.sees("handshake")
                hand.write(*map(text, self.FLOOD))
                await hand.sees("ping", 12)  # several times the patience of 0.2 s
                assert puppet.state == "open/flowing/running"
                assert await puppet.given(len(self.FLOOD)) == list(self.FLOOD)
                await hand.sees("ping", len(hand.find("ping")) + 12)  # and as long again with an app that has read
                hand.write(text("still here"))
                assert await puppet.given() == ["still here"]
                assert not hand.find("close")

        run(test)

    @ways
    def test_a_deaf_peer_is_dropped_when_the_app_reads_again_and_no_sooner(self, way: str) -> None:
        async def test() -> None:
            async with scene(way, **self.PINGS) as stage, stage.connection(ACCEPT) as (hand, puppet):
                await hand.sees("handshake")
                hand.write(*map(text, self.FLOOD))
                await hand.sees("ping", 12)
                assert puppet.state == "open/flowing/running"
                assert await puppet.given(len(self.FLOOD) + 1) == [*self.FLOOD, (1011, "")]
                assert await hand.sees("close") == {"code": 1011, "reason": ""}

        run(test)

    @ways
    def test_a_deaf_peer_of_an_app_that_waits_is_dropped(self, way: str) -> None:
        async def test() -> None:
            async with scene(way, **self.PINGS) as stage, stage.connection(ACCEPT) as (hand, puppet):
                assert await puppet.given() == [(1011, "")]
                assert await hand.sees("close") == {"code": 1011, "reason": ""}
                await puppet.disconnected({"type": "websocket.send", "text": "x"}, "R32")

        run(test)

    @ways
    def test_a_pong_that_answers_no_ping_of_ours_is_none(self, way: str) -> None:
        async def test() -> None:
            async with scene(way, **self.PINGS) as stage, stage.connection(ACCEPT) as (hand, puppet):
                while not hand.find("close"):
                    hand.write(frame(10, b"of no ping"), frame(10))
                    await asyncio.sleep(0.01)
                assert await puppet.given() == [(1011, "")]

        run(test)


# ------------------------------------------------------------------------------------------------ before the accept


class TestDataBeforeTheAccept:
    """C14."""

    @ways
    def test_is_given_in_order_after_it(self, way: str) -> None:
        async def test() -> None:
            async with scene(way) as stage, stage.connection() as (hand, puppet):
                for piece in (text("1")[:4], text("1")[4:], text("2")[:3]):
                    hand.write(piece)
                    await settle()
                assert await puppet.given() == ["websocket.connect"]
                ask = asyncio.create_task(puppet.given())
                await settle()
                assert not ask.done()
                await puppet.send(ACCEPT)
                hand.write(text("2")[3:], text("3"), close_frame(3001, "bye"))
                assert await ask == ["1"]
                assert await puppet.given(3) == ["2", "3", (3001, "bye")]
                await hand.sees("end")
                assert hand.kinds() == ["handshake", "close", "end"]

        run(test)

    def test_may_come_in_one_piece_with_the_request(self) -> None:
        """Under Uvicorn such bytes do not reach us, which is the one difference between the ways."""

        async def test() -> None:
            async with scene("start_server") as stage:
                data = REQUEST + text("1") + text("2") + close_frame(3001, "bye")
                answer = asyncio.create_task(exchange(stage.site, data))
                puppet = await stage.stage.puppet(stage.site)
                await puppet.send(ACCEPT)
                assert await puppet.given(4) == ["websocket.connect", "1", "2", (3001, "bye")]
                puppet.end()
                assert (await answer).endswith(b"\r\n\r\n\x88\x02" + (3001).to_bytes(2))

        run(test)

    @ways
    @pytest.mark.parametrize("waiting", [True, False])
    def test_over_the_bound_is_answered_by_400(self, way: str, waiting: bool) -> None:
        async def test() -> None:
            async with scene(way) as stage, stage.connection() as (hand, puppet):
                assert await puppet.given() == ["websocket.connect"]
                hand.write(bytes(65536))
                await settle()
                assert puppet.state == "handshake/waiting/running"
                ask = asyncio.create_task(puppet.given()) if waiting else None
                hand.write(b"x")
                await hand.sees("end")
                assert hand.kinds() == ["head", "response_end", "end"]
                assert hand.find("head")[0]["status"] == 400
                assert await (ask or puppet.given()) == [LOST]
                await puppet.disconnected(ACCEPT, "C37")

        run(test)

    @ways
    @pytest.mark.parametrize("refusal", [[START, BODY], [CLOSE]], ids=["denial", "403"])
    def test_is_dropped_with_a_refusal(self, way: str, refusal: list[Message]) -> None:
        async def test() -> None:
            async with scene(way) as stage, stage.connection() as (hand, puppet):
                hand.write(text("1"), frame(3), close_frame(3001))
                await settle()
                for message in refusal:
                    await puppet.send(message)
                await hand.sees("end")
                assert hand.find("head")[0]["status"] == (418 if len(refusal) > 1 else 403)
                assert not hand.find("invalid")
                assert await puppet.given(2) == ["websocket.connect", LOST]

        run(test)


class TestPeersThatLeaveBeforeTheAccept:
    """C13, C37: both ends of a transport are noticed although nothing is read as frames yet."""

    @ways
    @pytest.mark.parametrize("how", ["peer ends", "peer vanishes"])
    @pytest.mark.parametrize("early", [b"", text("1")], ids=["silent", "early data"])
    def test_are_noticed_at_once(self, way: str, how: str, early: bytes) -> None:
        async def test() -> None:
            async with scene(way) as stage, stage.connection() as (hand, puppet):
                assert await puppet.given() == ["websocket.connect"]
                ask = asyncio.create_task(puppet.given())
                hand.write(early)
                await settle()
                await hand.act(how)
                async with asyncio.timeout(1):
                    assert await ask == [LOST]
                await puppet.disconnected(ACCEPT, "C37")
                await puppet.disconnected(CLOSE, "R32")
                assert hand.kinds() in ([], ["end"])

        run(test)

    @ways
    @pytest.mark.parametrize("how", ["peer ends", "peer vanishes"])
    def test_are_told_of_after_the_connect(self, way: str, how: str) -> None:
        """To an app that asks for the first time when the peer is long gone."""

        async def test() -> None:
            async with scene(way) as stage, stage.connection() as (hand, puppet):
                await hand.act(how)
                await until(lambda: puppet.state == "closed/connect_due/running")
                assert await puppet.given(2) == ["websocket.connect", LOST]

        run(test)


# ------------------------------------------------------------------------------------------------ broadcasts


async def one_by_one(room: list[Send], message: Message) -> None:
    for send in room:
        await send(message)


async def at_once(room: list[Send], message: Message) -> None:
    async with asyncio.TaskGroup() as group:
        for send in room:
            group.create_task(send(message))  # type: ignore[arg-type]


class TestBroadcasts:
    """C40: the `Disconnected` of a connection is an error of the app in the handler of another, and none in its own."""

    @ways
    @pytest.mark.parametrize("broadcast", [one_by_one, at_once], ids=["one by one", "at once"])
    def test_a_lost_member_is_an_error_in_the_handler_of_another_only(
        self,
        way: str,
        broadcast: Callable[[list[Send], Message], Awaitable[None]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.ERROR)
        room: list[Send] = []
        waiting: list[Send] = []
        goes_on = asyncio.Event()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await receive()
            await send(ACCEPT)
            room.append(send)
            while (message := await receive())["type"] == "websocket.receive":
                if message["text"] == "wait":
                    waiting.append(send)
                    await goes_on.wait()
                    await broadcast([send], {"type": "websocket.send", "text": "too late"})
                await broadcast(room, {"type": "websocket.send", "text": message["text"]})

        async def test() -> None:
            async with AsyncExitStack() as stack:
                site = await stack.enter_async_context(serving(way, app, **both({"ping_interval": None}, way)))
                peers: list[Hand] = []
                while len(peers) < 3:
                    peers.append(await stack.enter_async_context(client(site)))
                    await until(lambda: len(room) == len(peers))  # so that they are in this order
                lost, other, third = peers
                lost.write(text("wait"))
                await until(lambda: waiting)
                await lost.act("peer vanishes")
                await until(lambda: site.sessions[0]._connection.state.startswith("closed/"))
                assert caplog.records == []
                other.write(text("hello"))
                assert await other.sees("close") == {"code": 1011, "reason": ""}
                assert [record.exc_info is not None for record in caplog.records] == [True]
                assert "Disconnected" in caplog.text
                goes_on.set()
                await site.sessions[0].ended()
                assert len(caplog.records) == 1
                room[:] = room[-1:]
                third.write(text("alone"))
                await until(lambda: "alone" in third.find("text"))

        run(test)


# ------------------------------------------------------------------------------------------------ background answers


class TestAnswersFromTheBackground:
    """R20: an app that goes on asking before it has accepted is told of the connect once."""

    @ways
    def test_the_connect_is_given_exactly_once(self, way: str) -> None:
        given: list[Any] = []
        answers = asyncio.Event()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            async def answer() -> None:
                await answers.wait()
                await send(ACCEPT)
                await send({"type": "websocket.send", "text": "welcome"})

            async with asyncio.TaskGroup() as group:
                while (message := await receive())["type"] != "websocket.disconnect":
                    given.append(told(message))
                    if message["type"] == "websocket.connect":
                        group.create_task(answer())
                    else:
                        await send({"type": "websocket.send", "text": message["text"]})
            given.append(told(message))

        async def test() -> None:
            async with serving(way, app, **both({"ping_interval": None}, way)) as site, client(site) as hand:
                await until(lambda: given)
                hand.write(text("early"))
                for _ in range(10):
                    await settle()
                assert given == ["websocket.connect"]
                answers.set()
                await hand.sees("text", 2)
                hand.write(text("late"))
                await hand.sees("text", 3)
                hand.write(close_frame(1001))
                await hand.sees("end")
                assert sorted(hand.find("text")) == ["early", "late", "welcome"]
                await site.sessions[0].ended()
            assert given == ["websocket.connect", "early", "late", (1001, "")]

        run(test)
