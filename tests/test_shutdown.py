"""What a server's shutdown makes of connections and apps, over each way in (C32, C18).

In every state of the wire, of apps that outlive their connection, and of those that do not end.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.hands import BODY, START, Hand, Puppet, scene
from tests.raw import ACCEPT, CLOSE
from tests.ways import WAYS, run
from wslifecycle.runtime.session import Message

ways = pytest.mark.parametrize("way", WAYS)
LOST = (1006, "")


ENDS: dict[str, tuple[list[Message], str, list[str], tuple[int, str]]] = {
    "handshake": ([], "", ["head", "response_end", "end"], (1012, "")),
    "denial_held": ([START], "", ["head", "response_end", "end"], (1012, "")),
    "denying": ([START, {**BODY, "more_body": True}], "", ["head", "chunk", "end"], (1012, "")),
    "open": ([ACCEPT], "", ["handshake", "close", "end"], (1012, "")),
    "closing": ([ACCEPT, CLOSE], "", ["handshake", "close", "end"], (3000, "enough")),
    "failing": (
        [ACCEPT],
        "peer violates",
        ["handshake", "close", "end"],
        (1002, "server received unexpected unmasked frame"),
    ),
    "closed": ([ACCEPT], "peer ends", ["handshake", "end"], LOST),
}
"""For each state of the wire: what the app sends, what the peer does, what it sees in the end, what the app is told."""


class TestShutdown:
    @ways
    def test_ends_connections_in_every_state_and_waits_for_their_apps(self, way: str) -> None:
        async def test() -> None:
            async with scene(way) as stage, AsyncExitStack() as stack:
                there: dict[str, tuple[Hand, Puppet]] = {}
                for wire, (messages, stimulus, _, _) in ENDS.items():
                    hand, puppet = await stack.enter_async_context(stage.connection())
                    there[wire] = hand, puppet
                    for message in messages:
                        await puppet.send(message)
                    if stimulus:
                        await hand.sees("handshake")
                        await hand.act(stimulus, "unmasked_frame")
                    await puppet.comes_to(wire)
                ending = asyncio.create_task(stage.site.shutdown())
                for wire, (hand, puppet) in there.items():
                    assert await puppet.given(2) == ["websocket.connect", ENDS[wire][3]], wire
                    if wire in ("open", "closing", "failing"):
                        await hand.sees("close")
                        await hand.act("peer ends" if wire == "failing" else "peer closes", {"code": 1000})
                    await hand.sees("end")
                    assert hand.kinds() == ENDS[wire][2], wire
                    await puppet.comes_to("closed")
                    assert puppet.state == "closed/ended/" + ("left" if wire == "closing" else "running")
                assert [there[wire][0].find("head")[0]["status"] for wire in list(ENDS)[:3]] == [503, 503, 418]
                assert there["open"][0].find("close") == [{"code": 1012, "reason": ""}]
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", stage.site.port)
                for _, puppet in there.values():
                    assert not ending.done()
                    puppet.end()
                    await puppet.ended()
                await ending

        run(test)

    @ways
    @pytest.mark.parametrize("how", ["peer ends", "peer vanishes", "peer closes"])
    def test_waits_for_an_app_that_outlives_its_connection(self, way: str, how: str) -> None:
        """A loss cancels nobody; what such an app sends is refused, and it is told of the end again and again."""

        async def test() -> None:
            async with scene(way) as stage, stage.connection(ACCEPT) as (hand, puppet):
                await hand.sees("handshake")
                await hand.act(how, {"code": 1001})
                due = (1001, "") if how == "peer closes" else LOST
                assert await puppet.given(3) == [due] * 3
                for message in (ACCEPT, CLOSE, START, BODY, {"type": "websocket.send", "text": "x"}):
                    await puppet.disconnected(message, "C37" if message is ACCEPT else "R32")
                async with stage.connection(ACCEPT) as (other, _):
                    await other.sees("handshake")
                assert not puppet.over.done()
                ending = asyncio.create_task(stage.site.shutdown())
                await puppet.disconnected(CLOSE, "R32")
                assert await puppet.given() == [due]
                assert not ending.done()
                puppet.end()
                await ending

        run(test)

    @ways
    def test_cancels_an_app_that_does_not_end_after_the_time_of_grace(self, way: str) -> None:
        settings = {"grace": 0.3} if way == "start_server" else {"timeout_graceful_shutdown": 1}

        async def test() -> None:
            async with scene(way, settings) as stage, stage.connection(ACCEPT) as (hand, puppet):
                ending = asyncio.create_task(stage.site.shutdown())
                assert await hand.sees("close") == {"code": 1012, "reason": ""}
                await hand.act("peer closes", {"code": 1000})
                assert await puppet.given() == [(1012, "")]
                assert not puppet.over.done()
                await ending
                assert puppet.over.cancelled()

        run(test)
