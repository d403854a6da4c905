"""One connection of the asyncio runtime, over real sockets: raw clients that may do anything, and a client library."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.raw import (
    ACCEPT,
    CLOSE,
    HUGE,
    ON_BOTH_LOOPS,
    REQUEST,
    Loop,
    Notes,
    Peer,
    asking,
    binary,
    close_frame,
    connected,
    disconnect,
    echo,
    held,
    open_sockets,
    run,
    serving,
    text,
    until,
)
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options, start_server
from wslifecycle.runtime.codec import LULL
from wslifecycle.runtime.session import CORK, TURN, App, Message, Receive, Send, Session
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected

EARLY = 65536
"""Bytes that are held before the accept (C14)."""
HASTY = Options(close_timeout=0.2)
"""Little patience for a peer that does not end the connection."""


# ------------------------------------------------------------------------------------------------ the handshake


@ON_BOTH_LOOPS
class TestTheScope:
    def test_is_what_the_request_and_the_transport_say(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            request = asking(b"X-Raw: \xff", b"Sec-WebSocket-Protocol: chat, other", target=b"/a%20b?c=d")
            async with serving(app) as site, site.peer() as peer:
                for i in range(len(request)):
                    peer.send(request[i : i + 1])
                await peer.upgrade(b"")
                peer.send(close_frame(1000))
                await peer.rest()
            scope = dict(app.scope)
            headers = scope.pop("headers")
            assert (b"x-raw", b"\xff") in headers
            assert headers[0] == (b"host", b"h")
            assert scope == {
                "type": "websocket",
                "asgi": {"version": "3.0", "spec_version": "2.5"},
                "http_version": "1.1",
                "scheme": "ws",
                "path": "/a b",
                "raw_path": b"/a%20b",
                "query_string": b"c=d",
                "root_path": "",
                "client": peer.name,
                "server": ("127.0.0.1", site.port),
                "subprotocols": ["chat", "other"],
                "extensions": {"websocket.http.response": {}},
                "state": {},
            }

        run(test(), loop)

    def test_says_what_the_options_say(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app, Options(spec_version="2.3", extensions=())) as site, site.upgraded() as peer:
                peer.send(close_frame(1000))
                await peer.rest()
            assert app.scope["asgi"]["spec_version"] == "2.3"
            assert app.scope["extensions"] == {}

        run(test(), loop)


@ON_BOTH_LOOPS
class TestC14BytesBeforeTheAccept:
    def test_are_given_in_order_with_those_that_come_later(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.peer() as peer:
                await peer.upgrade(REQUEST + text("1") + text("2")[:3])
                peer.send(text("2")[3:], text("3"), close_frame(3001, "bye"))
                assert await peer.closed_with() == (3001, "")
                assert await peer.rest() == b""
            assert app.given == ["1", "2", "3", (3001, "bye")]

        run(test(), loop)

    def test_with_a_close_among_them_end_the_connection_at_the_accept(self, loop: Loop) -> None:
        async def test() -> None:
            async with held() as (peer, _, receive, send):
                peer.send(text("1"), close_frame(3001), text("late"))
                await send(ACCEPT)
                await peer.head()
                assert await peer.closed_with() == (3001, "")
                assert (await receive())["text"] == "1"
                assert await receive() == disconnect(3001)

        run(test(), loop)

    def test_are_given_even_if_the_peer_ends_right_after_the_accept(self, loop: Loop) -> None:
        """The end may be read in the same turn of the loop in which the app accepts."""

        async def test() -> None:
            async with held() as (_, session, receive, send):
                session.data_received(text("1"))
                await send(ACCEPT)
                session.eof_received()
                assert (await receive())["text"] == "1"
                assert (await receive())["code"] == 1006

        run(test(), loop)

    def test_are_dropped_with_a_loss(self, loop: Loop) -> None:
        async def test() -> None:
            async with held() as (peer, _, receive, send):
                peer.send(text("1"))
                peer.end()
                assert await receive() == disconnect(1006)
                with pytest.raises(Disconnected):
                    await send(ACCEPT)
                assert await peer.rest() == b""

        run(test(), loop)

    def test_that_are_no_frames_fail_the_accepted_connection(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.peer() as peer:
                await peer.upgrade(REQUEST + b"\x81\x02hi")  # not masked
                closed = await peer.closed_with()
                peer.end()
                assert await peer.rest() == b""
            assert app.given == [closed]
            assert closed == (1002, "server received unexpected unmasked frame")

        run(test(), loop)

    @pytest.mark.parametrize("at_once", [True, False])
    def test_over_the_bound_are_answered_by_400(self, loop: Loop, at_once: bool) -> None:
        async def test() -> None:
            got: list[Message] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                got.extend([await receive(), await receive()])
                with pytest.raises(Disconnected):
                    await send(ACCEPT)

            async with serving(app) as site, site.peer() as peer:
                if at_once:
                    peer.send(REQUEST, bytes(EARLY + 1))
                else:
                    peer.send(REQUEST)
                    await until(lambda: site.sessions)
                    peer.send(bytes(EARLY + 1))
                assert (await peer.head()).startswith(b"HTTP/1.1 400 ")
                assert await peer.rest() == b""
            assert got[1] == disconnect(1006)

        run(test(), loop)

    def test_up_to_the_bound_are_held(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(request=REQUEST + frame(2, bytes(EARLY - 14))) as (_, _, receive, send):
                await send(ACCEPT)
                assert len((await receive())["bytes"]) == EARLY - 14

        run(test(), loop)


@ON_BOTH_LOOPS
class TestADenial:
    def test_larger_than_the_buffers_is_sent_whole(self, loop: Loop) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send({"type": "websocket.http.response.start", "status": 404})
                await send({"type": "websocket.http.response.body", "body": HUGE})
                with pytest.raises(Disconnected):
                    await send({"type": "websocket.http.response.body"})

            async with serving(app) as site, site.peer(small=True) as peer:
                peer.send(REQUEST)
                assert b"\r\ncontent-length: %d\r\n" % len(HUGE) in await peer.head()
                assert len(await peer.rest()) == len(HUGE)

        run(test(), loop)

    def test_is_streamed_no_faster_than_the_peer_reads(self, loop: Loop) -> None:
        """C26, C30."""

        async def test() -> None:
            start = {"type": "websocket.http.response.start", "status": 404}
            async with held(start) as (peer, session, receive, send):
                part = {"type": "websocket.http.response.body", "body": HUGE, "more_body": True}
                sending = asyncio.ensure_future(send(part))
                await until(session._transport.get_write_buffer_size)
                assert not sending.done()
                assert b"transfer-encoding: chunked" in (await peer.head()).lower()
                assert await peer.read(8) == b"%x\r\n" % len(HUGE)
                assert await peer.read(len(HUGE) + 2) == HUGE + b"\r\n"
                await sending
                await send({"type": "websocket.http.response.body", "body": b"end"})
                assert await peer.rest() == b"3\r\nend\r\n0\r\n\r\n"
                assert await receive() == disconnect(1006)

        run(test(), loop)

    def test_whose_streaming_waits_raises_when_the_peer_is_lost(self, loop: Loop) -> None:
        """C43."""

        async def test() -> None:
            start = {"type": "websocket.http.response.start", "status": 404}
            async with held(start) as (peer, session, receive, send):
                part = {"type": "websocket.http.response.body", "body": HUGE, "more_body": True}
                sending = asyncio.ensure_future(send(part))
                await until(session._transport.get_write_buffer_size)
                peer.reset()
                with pytest.raises(Disconnected):
                    await sending
                assert await receive() == disconnect(1006)

        run(test(), loop)

    def test_with_a_wrong_length_is_streamed_all_the_same(self, loop: Loop) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                headers = [(b"content-length", b"99"), (b"transfer-encoding", b"gzip"), (b"x-a", b" padded ")]
                await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
                await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
                await send({"type": "websocket.http.response.body"})

            async with serving(app) as site, site.peer() as peer:
                peer.send(REQUEST)
                head = await peer.head()
                assert b"\r\nx-a: padded\r\n" in head
                assert b"99" not in head
                assert b"gzip" not in head
                assert await peer.rest() == b"2\r\nno\r\n0\r\n\r\n"

        run(test(), loop)

    @pytest.mark.parametrize("status", [204, 205, 304])
    def test_without_a_body(self, loop: Loop, status: int) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send({"type": "websocket.http.response.start", "status": status})
                await send({"type": "websocket.http.response.body", "body": b"dropped"})

            async with serving(app) as site:
                with pytest.raises(InvalidStatus) as refused:
                    await connect(site.url, proxy=None)
                assert refused.value.response.status_code == status
                assert not refused.value.response.body

        run(test(), loop)

    def test_that_nobody_reads_is_cut_off_after_a_while(self, loop: Loop) -> None:
        async def test() -> None:
            messages: list[Message] = [
                {"type": "websocket.http.response.start", "status": 404},
                {"type": "websocket.http.response.body", "body": HUGE},
            ]
            before = open_sockets()
            async with held(*messages, options=HASTY) as (_, _, receive, _):
                assert (await receive())["code"] == 1006
                await until(lambda: open_sockets() == before + 2)  # the server's own and the client's

        run(test(), loop)


@ON_BOTH_LOOPS
class TestTheServersOwnHeaders:
    HEADERS = ((b"server", b"ours"), (b"x-one", b"1"), (b"x-one", b"2"))

    async def _answer(self, *messages: Message) -> bytes:
        async def app(scope: Message, receive: Receive, send: Send) -> None:
            for message in messages:
                await send(message)

        async with serving(app, headers=self.HEADERS) as site, site.peer() as peer:
            peer.send(REQUEST)
            head = await peer.head()
            peer.send(close_frame(1000))
            return head

    @pytest.mark.parametrize(
        ("status", "messages"),
        [
            (101, [ACCEPT]),
            (403, [CLOSE]),
            (404, [{"type": "websocket.http.response.start", "status": 404}, {"type": "websocket.http.response.body"}]),
            (500, []),
        ],
    )
    def test_are_in_each_answer(self, loop: Loop, status: int, messages: list[Message]) -> None:
        async def test() -> None:
            head = await self._answer(*messages)
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nserver: ours\r\nx-one: 1\r\nx-one: 2\r\n" in head

        run(test(), loop)

    @pytest.mark.parametrize("more_body", [True, False])
    @pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start"])
    def test_give_way_to_the_apps(self, loop: Loop, kind: str, more_body: bool) -> None:
        async def test() -> None:
            first: Message = {"type": kind, "headers": [(b"Server", b"app's")]}
            messages = [first]
            if kind != "websocket.accept":
                first["status"] = 404
                messages.append({"type": "websocket.http.response.body", "more_body": more_body})
            head = await self._answer(*messages)
            assert b"\r\nserver: app's\r\n" in head
            assert b"ours" not in head
            assert b"\r\nx-one: 1\r\nx-one: 2\r\n" in head

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ receive()


async def end_by_peer_close(peer: Peer, session: Session, send: Send) -> None:
    peer.send(close_frame(3001))


async def end_by_fin(peer: Peer, session: Session, send: Send) -> None:
    peer.end()


async def end_by_reset(peer: Peer, session: Session, send: Send) -> None:
    peer.reset()


async def end_by_own_close(peer: Peer, session: Session, send: Send) -> None:
    await send(CLOSE)


async def end_by_violation(peer: Peer, session: Session, send: Send) -> None:
    peer.send(frame(3))


async def end_by_shutdown(peer: Peer, session: Session, send: Send) -> None:
    session.shutdown()


async def end_by_silence(peer: Peer, session: Session, send: Send) -> None:
    session.time_out("keepalive")


ENDS: dict[Callable[[Peer, Session, Send], Any], int] = {
    end_by_peer_close: 3001,
    end_by_fin: 1006,
    end_by_reset: 1006,
    end_by_own_close: 3000,
    end_by_violation: 1002,
    end_by_shutdown: 1012,
    end_by_silence: 1011,
}
"""How a connection may end, and with which code for the app."""


def called(receive: Receive, count: int) -> list[asyncio.Task[Message]]:
    """So many calls of receive(), in their order."""

    async def call() -> Message:
        return await receive()

    return [asyncio.create_task(call()) for _ in range(count)]


@ON_BOTH_LOOPS
class TestReceive:
    def test_serves_calls_in_their_order(self, loop: Loop) -> None:
        """C16."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                calls = called(receive, 5)
                peer.send(text("0"), text("1"))
                assert [(await call)["text"] for call in calls[:2]] == ["0", "1"]
                assert not any(call.done() for call in calls[2:])
                peer.send(text("2"), close_frame(3001))
                assert [await call for call in calls[3:]] == [disconnect(3001)] * 2
                assert (await calls[2])["text"] == "2"

        run(test(), loop)

    def test_serves_the_calls_of_a_handshake_in_their_order(self, loop: Loop) -> None:
        async def test() -> None:
            async with held() as (peer, _, receive, send):
                calls = called(receive, 2)
                await asyncio.sleep(0.01)
                assert not any(call.done() for call in calls)
                await send(ACCEPT)
                peer.send(text("1"), text("2"))
                assert [(await call)["text"] for call in calls] == ["1", "2"]

        run(test(), loop)

    def test_that_is_cancelled_while_it_waits_takes_nothing(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                calls = called(receive, 4)
                await asyncio.sleep(0)
                calls[0].cancel()
                calls[2].cancel()
                peer.send(text("1"), text("2"))
                assert [(await calls[1])["text"], (await calls[3])["text"]] == ["1", "2"]

        run(test(), loop)

    @pytest.mark.parametrize("victim", range(3))
    @pytest.mark.parametrize("turns", range(6))
    def test_that_is_cancelled_when_messages_come_loses_none(self, loop: Loop, turns: int, victim: int) -> None:
        """The message may be there, and the call not yet awake, when it is cancelled."""

        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                calls = called(receive, 3)
                await asyncio.sleep(0)
                session.data_received(text("1") + text("2"))
                session.data_received(text("3"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                calls[victim].cancel()
                await asyncio.wait(calls)
                given = [call.result()["text"] for call in calls if not call.cancelled()]
                if len(given) == 2:
                    given.append((await receive())["text"])
                assert given == ["1", "2", "3"]

        run(test(), loop)

    @pytest.mark.parametrize("victims", [{0}, {1}, {3}, {0, 1}, {0, 3}, {1, 2}, {0, 2, 3}], ids=str)
    @pytest.mark.parametrize("woken", [True, False])
    def test_leaves_the_queue_when_it_is_cancelled_wherever_it_stands(
        self, loop: Loop, victims: set[int], woken: bool
    ) -> None:
        """`woken`: the first message has come, and nobody has taken it yet."""

        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                calls = called(receive, 4)
                await asyncio.sleep(0)
                if woken:
                    session.data_received(text("1"))
                for victim in victims:
                    calls[victim].cancel()
                if not woken:
                    await asyncio.wait([calls[victim] for victim in victims])
                    session.data_received(text("1"))
                others = [call for number, call in enumerate(calls) if number not in victims]
                assert (await others[0])["text"] == "1"
                session.data_received(text("2") + text("3") + text("4"))
                assert [(await call)["text"] for call in others[1:]] == ["2", "3", "4"][: len(others) - 1]
                assert [(await receive())["text"] for _ in victims] == ["2", "3", "4"][len(others) - 1 :]
                assert all(calls[victim].cancelled() for victim in victims)
                assert session._receivers == []

        run(test(), loop)

    def test_that_comes_late_does_not_overtake_one_that_waits(self, loop: Loop) -> None:
        """A message is there for each of them, and the first is not yet awake."""

        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                waiting = called(receive, 2)
                await asyncio.sleep(0)
                session.data_received(text("1") + text("2") + text("3"))
                assert (await receive())["text"] == "3"
                assert [(await call)["text"] for call in waiting] == ["1", "2"]

        run(test(), loop)

    def test_that_comes_late_and_is_cancelled_takes_nothing(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                waiting, late = called(receive, 2)
                await asyncio.sleep(0)
                session.data_received(text("1") + text("2"))
                late.cancel()
                assert (await waiting)["text"] == "1"
                assert late.cancelled()
                assert (await receive())["text"] == "2"

        run(test(), loop)

    @pytest.mark.parametrize("turns", range(4))
    def test_that_are_all_cancelled_leave_the_messages_to_the_next(self, loop: Loop, turns: int) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                calls = called(receive, 2)
                await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                for _ in range(turns):
                    await asyncio.sleep(0)
                session.data_received(text("1") + text("2"))
                calls += called(receive, 2)
                await asyncio.wait(calls)
                assert [call.result()["text"] for call in calls if not call.cancelled()] == ["1", "2"]

        run(test(), loop)

    def test_with_a_time_limit_loses_nothing(self, loop: Loop) -> None:
        """The way in which apps cancel it most."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                given: list[str] = []
                for i in range(100):
                    peer.send(text(str(i)))
                while len(given) < 100:
                    try:
                        async with asyncio.timeout(0):
                            given.append((await receive())["text"])
                    except TimeoutError:
                        await asyncio.sleep(0)
                assert given == [str(i) for i in range(100)]

        run(test(), loop)

    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
    def test_that_waits_is_answered_when_the_connection_ends(self, loop: Loop, end: Any) -> None:
        """As soon as it does: the peer neither answers our Close nor goes away, and nobody waits for that."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                calls = called(receive, 3)
                await asyncio.sleep(0)
                start = time.monotonic()
                await end(peer, session, send)
                assert [(await call)["code"] for call in calls[:2]] == [ENDS[end]] * 2
                assert time.monotonic() - start < 2
                calls[2].cancel()
                peer.reset()

        run(test(), loop)

    @pytest.mark.parametrize("accepted", [True, False])
    def test_that_waits_in_the_handshake_is_answered_when_it_fails(self, loop: Loop, accepted: bool) -> None:
        async def test() -> None:
            async with held() as (peer, session, receive, send):
                (call,) = called(receive, 1)
                await asyncio.sleep(0)
                if accepted:
                    await send(ACCEPT)
                session.shutdown()
                assert await call == disconnect(1012)
                assert (await peer.head())[9:12] == (b"101" if accepted else b"503")
                peer.reset()

        run(test(), loop)

    def test_repeats_the_disconnect_at_a_pace(self, loop: Loop) -> None:
        """C6: the first repeat after a turn of the loop, later ones 50 ms apart. A cancelled one costs nothing."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                peer.reset()
                last = disconnect(1006)
                first = await receive()
                assert first == last
                start = time.monotonic()
                turns: list[asyncio.Handle] = []

                def turn() -> None:
                    turns.append(asyncio.get_running_loop().call_soon(turn))

                turn()
                second = await receive()
                turns[-1].cancel()
                assert 2 <= len(turns) < 10  # in 50 ms there would be hundreds
                assert second == last
                assert second is not first
                paced = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                paced.cancel()
                await asyncio.wait({paced})
                assert [await receive() for _ in range(3)] == [last] * 3
                assert time.monotonic() - start >= 0.14

        run(test(), loop)

    def test_answers_all_that_wait_when_the_connection_ends_at_once(self, loop: Loop) -> None:
        """C6 is for loops that ignore the disconnect; these calls were there before it."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                waiting = called(receive, 60)
                await asyncio.sleep(0)
                start = time.monotonic()
                peer.reset()
                assert [await call for call in waiting] == [disconnect(1006)] * 60
                assert time.monotonic() - start < 1.5  # at a pace it would be 3

        run(test(), loop)


@ON_BOTH_LOOPS
class TestC31UnreadMessages:
    def test_pause_reading_and_none_is_lost(self, loop: Loop) -> None:
        """The peer's kernel takes no more while it is paused, and goes on as the app reads."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, _):
                transport: Any = session._transport
                peer.send(*(text(f"{i}".ljust(5000)) for i in range(2000)))
                await until(lambda: not transport.is_reading())
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await peer.flushed()
                assert not transport.is_reading()
                assert [int((await receive())["text"]) for _ in range(2000)] == list(range(2000))
                assert transport.is_reading()
                await peer.flushed()

        run(test(), loop)

    @pytest.mark.parametrize("bound", [1, 3])
    def test_are_bounded_in_number(self, loop: Loop, bound: int) -> None:
        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=bound)) as (peer, session, receive, _):
                transport: Any = session._transport
                for i in range(bound + 1):
                    assert session._connection.reads
                    session.data_received(text(str(i)))
                assert not session._connection.reads
                assert transport.is_reading()
                peer.send(text("last"))
                await until(lambda: not transport.is_reading())  # once more is there than what was read already
                assert len(session._connection._unread) == bound + 1
                for i in range(bound + 1):
                    assert (await receive())["text"] == str(i)
                assert (await receive())["text"] == "last"

        run(test(), loop)

    @pytest.mark.parametrize("answered", [True, False])
    def test_do_not_hide_the_peers_close_from_our_own(self, loop: Loop, answered: bool) -> None:
        async def test() -> None:
            async with held(ACCEPT, options=Options(close_timeout=10 if answered else 0.2)) as (
                peer,
                session,
                receive,
                send,
            ):
                transport: Any = session._transport
                peer.send(*(text(f"{i}") for i in range(99)))
                await until(lambda: not session._connection.reads)
                peer.send(text("99"))
                await until(lambda: not transport.is_reading())
                await send(CLOSE)
                assert await peer.closed_with() == (3000, "enough")
                if answered:
                    peer.send(close_frame(3000))
                assert await peer.rest() == b""
                given = [message for _ in range(101) if (message := await receive())["type"] == "websocket.receive"]
                assert [int(message["text"]) for message in given] == list(range(len(given)))
                assert len(given) >= 32
                assert (await receive())["code"] == 3000

        run(test(), loop, seconds=5)

    def test_do_not_hide_the_end_from_a_shutdown(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, _):
                transport: Any = session._transport
                session.data_received(text("unread") * 33)
                session.data_received(text("more"))
                assert not transport.is_reading()
                session.shutdown()
                assert await peer.closed_with() == (1012, "")
                assert transport.is_reading()
                peer.send(close_frame(1012))
                assert await peer.rest() == b""

        run(test(), loop)

    @pytest.mark.parametrize("bound", [1, 3])
    def test_are_no_more_than_one_read_that_nobody_has_asked_for(self, loop: Loop, bound: int) -> None:
        """However much a read brings, no more of it is told than the bound wants; the next one pauses the transport."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=bound)) as (_, session, receive, _):
                session._transport = transport = Mock(wraps=session._transport)
                told = session._connection._unread
                for start in (0, 100):  # it pauses again and again
                    session.data_received(b"".join(text(str(start + i)) for i in range(50)))
                    assert len(told) == bound + 1
                    transport.pause_reading.assert_not_called()
                    session.data_received(b"".join(text(str(start + i)) for i in range(50, 100)))
                    assert len(told) == bound + 1
                    transport.pause_reading.assert_called_once()
                    assert not transport.is_reading()
                    given = [int((await receive())["text"]) for _ in range(100)]
                    assert given == list(range(start, start + 100))
                    await asyncio.sleep(0)  # what was read is told in a turn of its own
                    assert transport.is_reading()
                    transport.reset_mock()

        run(test(), loop)

    def test_keep_the_transport_paused_until_what_was_read_is_told(self, loop: Loop) -> None:
        """Else an app that is slow with small messages would have a read kept for every few of them."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=2)) as (_, session, receive, _):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(b"".join(text(str(i)) for i in range(50)))
                session.data_received(b"".join(text(str(i)) for i in range(50, 100)))
                transport.pause_reading.assert_called_once()
                for i in range(97):
                    assert (await receive())["text"] == str(i)
                    await asyncio.sleep(0)
                    assert not transport.is_reading()
                assert [(await receive())["text"] for _ in range(3)] == ["97", "98", "99"]
                await asyncio.sleep(0)
                assert transport.is_reading()

        run(test(), loop)

    def test_are_told_before_what_comes_when_reading_has_just_gone_on(self, loop: Loop) -> None:
        """What was read before the pause is told in the next turn of the loop, and more may come before that."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=1)) as (_, session, receive, _):
                session.data_received(b"".join(text(str(i)) for i in range(4)))
                assert [(await receive())["text"] for _ in range(2)] == ["0", "1"]
                assert session._connection.reads
                session.data_received(text("4"))
                assert [(await receive())["text"] for _ in range(3)] == ["2", "3", "4"]

        run(test(), loop)

    @pytest.mark.parametrize("end", [Session.eof_received, lambda session: session.connection_lost(None)])
    @pytest.mark.parametrize("taken", [0, 2])
    def test_are_all_told_when_the_connection_ends(
        self, loop: Loop, taken: int, end: Callable[[Session], None]
    ) -> None:
        """Also if the app had just taken so many that reading was to go on, and the rest is over the bound again."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=1)) as (_, session, receive, _):
                session.data_received(b"".join(text(str(i)) for i in range(10)))
                session.data_received(b"".join(text(str(i)) for i in range(10, 20)))
                given = [int((await receive())["text"]) for _ in range(taken)]
                end(session)
                given += [int((await receive())["text"]) for _ in range(taken, 20)]
                assert given == list(range(20))
                assert (await receive())["code"] == 1006

        run(test(), loop)

    def test_drop_a_transport_that_raises_when_it_is_to_pause(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=1)) as (peer, session, receive, _):
                session._transport = transport = Mock(wraps=session._transport)
                transport.pause_reading.side_effect = OSError
                session.data_received(text("0") + text("1"))
                session.data_received(text("2"))
                transport.abort.assert_called_once()
                assert await peer.rest() == b""
                assert [(await receive())["text"] for _ in range(3)] == ["0", "1", "2"]
                assert (await receive())["code"] == 1006

        run(test(), loop)

    def test_of_an_app_that_keeps_up_never_pause_the_transport(self, loop: Loop) -> None:
        """What one read brings is told bit by bit, and an app that is quick enough has taken it before the next."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=2)) as (_, session, receive, _):
                session._transport = transport = Mock(wraps=session._transport)
                for _ in range(3):
                    session.data_received(b"".join(text(str(i)) for i in range(50)))
                    assert [int((await receive())["text"]) for _ in range(50)] == list(range(50))
                transport.pause_reading.assert_not_called()

        run(test(), loop)


FLOODS = {
    "fragments": (frame(2, b"", fin=False), frame(0, b"", fin=False), LULL),
    "pings": (b"", frame(9, b""), TURN),
    "pongs": (b"", frame(10, b""), TURN),
}
"""What may come in great numbers in one read: what begins it, one of them, and how many are told in a turn."""


@ON_BOTH_LOOPS
class TestAPeerThatSendsMuchAtOnce:
    @pytest.mark.parametrize("name", FLOODS)
    def test_leaves_turns_of_the_loop_to_others(self, loop: Loop, name: str) -> None:
        before, one, at_once = FLOODS[name]
        turns = 10

        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(before + one * (turns * at_once))
                session.data_received(frame(0, b"whole") if before else frame(2, b"whole"))
                transport.pause_reading.assert_called_once()
                got = asyncio.ensure_future(receive())
                for _ in range(turns - 1):
                    await asyncio.sleep(0)
                    assert not transport.is_reading()
                    assert not got.done()
                assert (await got)["bytes"] == b"whole"
                await until(transport.is_reading)

        run(test(), loop)

    def test_is_told_at_once_what_comes_behind_a_close_unless_that_is_much(self, loop: Loop) -> None:
        """Nobody has to be waited for then; but a flood has to leave others their turns."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=1)) as (peer, session, _, send):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(text("0") + text("1"))
                await send(CLOSE)
                session.data_received(text("2"))
                transport.pause_reading.assert_not_called()
                session.data_received(frame(10, b"") * 2 * TURN)
                session.data_received(text("3"))
                transport.pause_reading.assert_called_once()
                assert await peer.closed_with() == (3000, "enough")
                peer.send(close_frame(3000))
                assert await peer.rest() == b""

        run(test(), loop, seconds=5)

    def test_has_all_of_it_told_at_its_end(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                session.data_received(frame(10, b"") * 10 * TURN + frame(2, b"last"))
                session.eof_received()
                assert (await receive())["bytes"] == b"last"
                assert (await receive())["code"] == 1006

        run(test(), loop)

    def test_is_dropped_where_the_transport_raises_when_it_is_to_go_on(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, _):
                session._transport = transport = Mock(wraps=session._transport)
                transport.resume_reading.side_effect = OSError
                session.data_received(frame(10, b"") * 2 * TURN + frame(2, b"last"))
                assert (await receive())["bytes"] == b"last"
                assert await peer.rest() == b""
                transport.abort.assert_called_once()
                assert (await receive())["code"] == 1006

        run(test(), loop)


@ON_BOTH_LOOPS
class TestRepliesToSeveralMessages:
    """They are written together while more messages wait for the app."""

    def test_are_one_write_when_the_app_waits_again(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(b"".join(text(str(i)) for i in range(5)))
                for _ in range(5):
                    await send({"type": "websocket.send", "text": (await receive())["text"]})
                waits = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                transport.write.assert_called_once()
                assert [(await peer.frame())[1] for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
                waits.cancel()

        run(test(), loop)

    def test_are_written_in_the_same_turn_though_the_app_does_not_wait(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, send):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(text("a") + text("b"))
                await send({"type": "websocket.send", "text": (await receive())["text"]})
                transport.write.assert_not_called()
                await asyncio.sleep(0)
                transport.write.assert_called_once()

        run(test(), loop)

    def test_are_in_their_order_with_the_last_one(self, loop: Loop) -> None:
        """Behind which nothing waits any more, so that it would not have to wait for others."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(text("a") + text("b"))
                for _ in range(2):
                    await send({"type": "websocket.send", "text": (await receive())["text"]})
                transport.write.assert_not_called()
                await send({"type": "websocket.send", "text": "c"})
                assert [(await peer.frame())[1] for _ in range(3)] == [b"a", b"b", b"c"]
                transport.write.assert_called_once()

        run(test(), loop)

    def test_to_one_message_are_written_at_once(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, send):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(text("a"))
                await send({"type": "websocket.send", "text": (await receive())["text"]})
                transport.write.assert_called_once_with(b"\x81\x01a")
                await send({"type": "websocket.send", "text": "unasked"})
                assert transport.write.call_count == 2

        run(test(), loop)

    @pytest.mark.parametrize(
        ("opcode", "happens"),
        [
            (8, lambda session: session.shutdown()),
            (8, lambda session: session.time_out("keepalive")),
            (8, lambda session: session.data_received(close_frame(3001))),
            (8, lambda session: session.data_received(frame(3))),
            (9, lambda session: session._keepalive._ping()),
            (10, lambda session: session.data_received(frame(9, b"?"))),
            (None, lambda session: session.eof_received()),
        ],
        ids=["shutdown", "silence", "close", "violation", "ping", "pong", "eof"],
    )
    def test_are_on_the_wire_before_what_happens_in_the_same_turn(
        self, loop: Loop, opcode: int | None, happens: Callable[[Session], None]
    ) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                session.data_received(text("a") + text("b"))
                await send({"type": "websocket.send", "text": (await receive())["text"]})
                happens(session)
                assert await peer.frame() == (1, b"a")
                if opcode is None:
                    assert await peer.rest() == b""
                else:
                    assert (await peer.frame())[0] == opcode
                peer.reset()

        run(test(), loop)

    def test_are_on_the_wire_before_the_apps_close(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                session.data_received(text("a") + text("b"))
                await send({"type": "websocket.send", "text": (await receive())["text"]})
                await send(CLOSE)
                assert await peer.frame() == (1, b"a")
                assert await peer.closed_with() == (3000, "enough")

        run(test(), loop)

    def test_are_on_the_wire_when_the_app_returns_at_once(self, loop: Loop) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await receive()
                await send(ACCEPT)
                await send({"type": "websocket.send", "text": (await receive())["text"]})

            async with serving(app) as site, site.upgraded(REQUEST + text("a") + text("b")) as peer:
                assert await peer.frame() == (1, b"a")
                assert await peer.closed_with() == (1000, "")
                peer.reset()

        run(test(), loop)

    def test_are_written_early_if_they_are_large(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                session._transport = transport = Mock(wraps=session._transport)
                session.data_received(text("a") + text("b"))
                await receive()
                part = bytes(996)  # with its head it is 1000 bytes
                for _ in range(100):
                    await send(binary(part))
                transport.write.assert_called_once()
                assert CORK < len(transport.write.call_args.args[0]) <= CORK + 1000
                assert [await peer.frame() for _ in range(100)] == [(2, part)] * 100
                assert transport.write.call_count == 2

        run(test(), loop)

    def test_do_not_hide_from_send_that_the_transport_takes_no_more(self, loop: Loop) -> None:
        """C30."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                session.data_received(text("a") + text("b"))
                await receive()
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await asyncio.sleep(0)
                assert session._transport.get_write_buffer_size() > 0
                await asyncio.sleep(0)
                assert not sending.done()
                assert await peer.frame() == (2, HUGE)
                await sending

        run(test(), loop)

    def test_do_no_harm_when_the_connection_is_lost(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        """They are not written to a transport that is gone, not even at once."""

        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, send):
                session.data_received(text("a") + text("b"))
                await send({"type": "websocket.send", "text": (await receive())["text"]})
                session._transport.abort()
                session._transport = transport = Mock(wraps=session._transport)
                session.connection_lost(None)
                await asyncio.sleep(0)
                transport.write.assert_not_called()
                assert (await receive())["text"] == "b"
                assert await receive() == disconnect(1006)
                with pytest.raises(Disconnected):
                    await send({"type": "websocket.send", "text": "late"})
                transport.write.assert_not_called()

        run(test(), loop)
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    def test_drop_a_transport_that_raises_when_they_are_written(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                session._transport = transport = Mock(wraps=session._transport)
                transport.write.side_effect = OSError
                session.data_received(text("a") + text("b"))
                await send({"type": "websocket.send", "text": (await receive())["text"]})
                transport.abort.assert_not_called()
                await asyncio.sleep(0)
                transport.abort.assert_called_once()
                assert await peer.rest() == b""
                assert (await receive())["text"] == "b"
                assert await receive() == disconnect(1006)

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ send()


@ON_BOTH_LOOPS
class TestSend:
    def test_waits_until_the_peer_reads(self, loop: Loop) -> None:
        """C30."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                await asyncio.sleep(0.05)
                assert not sending.done()
                assert len((await peer.frame())[1]) == len(HUGE)
                await sending
                await send({"type": "websocket.send", "text": "after it"})
                assert await peer.frame() == (1, b"after it")

        run(test(), loop)

    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
    def test_that_waits_raises_when_the_connection_ends(self, loop: Loop, end: Any) -> None:
        """C43. As soon as it does: the peer neither reads nor answers our Close, and nobody waits for that."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                calls = [asyncio.ensure_future(send(binary(data))) for data in (HUGE, b"2")]
                await until(session._transport.get_write_buffer_size)
                async with asyncio.timeout(2):
                    await end(peer, session, send)
                    assert (await receive())["code"] == ENDS[end]
                    for call in calls:
                        with pytest.raises(Disconnected):
                            await call
                peer.reset()

        run(test(), loop)

    def test_that_waits_does_not_hold_up_a_close(self, loop: Loop) -> None:
        """The app is told at once, and a peer that neither reads nor answers is dropped after the timeout (C48)."""

        async def test() -> None:
            before = open_sockets()
            async with held(ACCEPT, options=HASTY) as (_, session, receive, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                async with asyncio.timeout(0.1):
                    await send(CLOSE)
                    assert await receive() == disconnect(3000, "enough")
                    with pytest.raises(Disconnected):
                        await sending
                assert session._transport.get_write_buffer_size() > 0
                await until(lambda: open_sockets() == before + 2)  # the server's own and the client's

        run(test(), loop)

    def test_that_waits_before_a_close_is_on_the_wire_before_it(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                await send(CLOSE)
                assert await peer.frame() == (2, HUGE)
                assert await peer.closed_with() == (3000, "enough")
                peer.send(close_frame(3000))
                assert await peer.rest() == b""
                with pytest.raises(Disconnected):
                    await sending

        run(test(), loop)

    def test_in_parallel_sends_each_message_whole_and_in_order(self, loop: Loop) -> None:
        """C17, W13."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, _, send):
                sent = [bytes([i]) * 100_000 for i in range(20)]
                calls = [asyncio.ensure_future(send(binary(data))) for data in sent]
                assert [(await peer.frame())[1] for _ in sent] == sent
                await asyncio.gather(*calls)

        run(test(), loop)

    def test_that_is_cancelled_while_it_waits_leaves_whole_messages(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, send):
                calls = [asyncio.ensure_future(send(binary(bytes([i]) + HUGE))) for i in range(3)]
                await until(session._transport.get_write_buffer_size)
                calls[0].cancel()
                calls[1].cancel()
                await asyncio.wait(calls[:2])
                assert [call.cancelled() for call in calls[:2]] == [True, True]
                assert [(await peer.frame())[1][:1] for _ in range(3)] == [b"\0", b"\1", b"\2"]
                await calls[2]
                await send({"type": "websocket.send", "text": "after them"})
                assert await peer.frame() == (1, b"after them")
                peer.send(text("and back"))
                assert (await receive())["text"] == "and back"

        run(test(), loop)

    def test_that_is_refused_leaves_the_connection_as_it_was(self, loop: Loop) -> None:
        """C41."""

        async def test() -> None:
            async with held() as (peer, _, _, send):
                with pytest.raises(ApplicationViolation):
                    await send({"type": "websocket.send", "text": "too early"})
                await send(ACCEPT)
                await peer.head()
                for wrong in (ACCEPT, {"type": "websocket.send"}, {"type": "websocket.close", "code": 1006}):
                    with pytest.raises(ApplicationViolation):
                        await send(wrong)
                await send({"type": "websocket.send", "text": "right"})
                assert await peer.frame() == (1, b"right")

        run(test(), loop)

    def test_accepts_with_every_header_value_that_it_lets_through(self, loop: Loop) -> None:
        """What the machine has accepted must go onto the wire, or the connection would hang."""

        async def test() -> None:
            async with held() as (peer, _, _, send):
                headers = [(b"x-a", value) for value in (b" a\t b ", b" ", b"", b"\x20\xe9")]
                for value in (b"\x0b", b"1\x0c2", b"\r\n", b"\x00"):
                    with pytest.raises(ApplicationViolation):
                        await send({"type": "websocket.accept", "headers": [*headers, (b"x-a", value)]})
                await send({"type": "websocket.accept", "headers": headers})
                assert b"\r\nx-a: a\t b\r\nx-a: \r\nx-a: \r\nx-a: \xe9\r\n" in await peer.head()

        run(test(), loop)

    @pytest.mark.parametrize("like", [bytearray, memoryview])
    def test_takes_what_is_like_bytes(self, loop: Loop, like: Callable[[Any], Any]) -> None:
        """C38. What the app changes afterwards is not sent."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, _, send):
                data = bytearray(b"bytes")
                await send(binary(like(data)))
                data[:] = b"other"
                assert await peer.frame() == (2, b"bytes")

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ the peer


@ON_BOTH_LOOPS
class TestThePeer:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"\x81\x02hi", 1002),
            (frame(3), 1002),
            (frame(0, b"stray"), 1002),
            (frame(9, bytes(126)), 1002),
            (close_frame(999), 1002),
            (close_frame(1016), 1002),
            (close_frame(2999), 1002),
            (close_frame(5000), 1002),
            (frame(8, b"\x03"), 1002),
            (frame(1, b"\xff"), 1007),
            (frame(8, b"\x03\xe8\xff"), 1007),
            (frame(2, bytes(1001)), 1009),
            (frame(1, b"a", fin=False) + frame(0, b"a", fin=False) * 1000, 1009),
        ],
    )
    def test_that_breaks_a_rule_is_told_and_so_is_the_app(self, loop: Loop, data: bytes, code: int) -> None:
        """C34, C47, W9: and then the server only waits for the end, whatever else comes."""

        async def test() -> None:
            app = Notes()
            async with serving(app, Options(max_size=1000)) as site, site.upgraded() as peer:
                peer.send(text("before"), data, text("after"), frame(9, b"after"))
                closed = await peer.closed_with()
                peer.send(close_frame(1000), bytes(1 << 20))
                peer.end()
                assert await peer.rest() == b""
            assert app.given == ["before", closed]
            assert closed[0] == code
            assert closed[1], "it says what was wrong"

        run(test(), loop)

    @pytest.mark.parametrize("between", [b"", frame(10, b"hi"), frame(1, b"unfinished", fin=False)])
    def test_that_breaks_a_rule_behind_messages_has_them_answered_first(self, loop: Loop, between: bytes) -> None:
        """As if the fault had come a moment later, as it well may: an app that answers at once gets its turn."""

        async def test() -> None:
            async with serving(echo) as site, site.upgraded() as peer:
                peer.send(text("one"), text("two"), between, frame(3))
                assert await peer.frame() == (1, b"one")
                assert await peer.frame() == (1, b"two")
                assert await peer.closed_with() == (1002, "Invalid opcode 0x3")

        run(test(), loop)

    def test_that_breaks_a_rule_and_is_gone_is_told_to_the_app_all_the_same(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, _):
                session.data_received(text("one") + frame(3))
                session.connection_lost(None)
                assert (await receive())["text"] == "one"
                assert await receive() == disconnect(1002, "Invalid opcode 0x3")
                peer.reset()

        run(test(), loop)

    def test_sends_many_frames_in_one_segment_or_one_in_many(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.upgraded() as peer:
                peer.send(*(text(str(i)) for i in range(500)))
                for byte in text("slow"):
                    peer.send(bytes([byte]))
                    await asyncio.sleep(0)
                peer.send(close_frame(1000))
                await peer.closed_with()
            assert app.given == [*map(str, range(500)), "slow", (1000, "")]

        run(test(), loop)

    @pytest.mark.parametrize("how", [Peer.end, Peer.reset])
    def test_that_is_lost_is_told_from_one_that_closed(self, loop: Loop, how: Callable[[Peer], None]) -> None:
        """C13."""

        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.upgraded() as peer:
                peer.send(text("1"))
                await until(lambda: app.given)
                how(peer)
                await site.sessions[0].ended()
            assert app.given == ["1", (1006, "")]

        run(test(), loop)

    def test_is_not_heard_after_our_close(self, loop: Loop) -> None:
        """C15."""

        async def test() -> None:
            async with held(ACCEPT, CLOSE) as (peer, _, receive, send):
                assert await peer.closed_with() == (3000, "enough")
                peer.send(text("late"), close_frame(3000), b"junk")
                assert await peer.rest() == b""
                assert await receive() == disconnect(3000, "enough")
                await send(CLOSE)
                with pytest.raises(Disconnected):
                    await send({"type": "websocket.send", "text": "late"})

        run(test(), loop)

    def test_that_never_answers_our_close_is_dropped(self, loop: Loop) -> None:
        """C48."""

        async def test() -> None:
            async with held(ACCEPT, CLOSE, options=HASTY) as (peer, _, _, _):
                assert await peer.closed_with() == (3000, "enough")
                start = time.monotonic()
                assert await peer.rest() == b""
                assert time.monotonic() - start < 2

        run(test(), loop)

    def test_that_does_not_read_our_last_bytes_is_dropped(self, loop: Loop) -> None:
        """C48: its own Close came, and ours cannot be flushed."""

        async def test() -> None:
            before = open_sockets()
            async with held(ACCEPT, options=HASTY) as (peer, session, receive, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                peer.send(close_frame(3001))
                assert await receive() == disconnect(3001)
                with pytest.raises(Disconnected):
                    await sending
                await until(lambda: open_sockets() == before + 2)  # the server's own and the client's

        run(test(), loop)


@ON_BOTH_LOOPS
class TestTheAppsTimeToAnswer:
    def test_is_unlimited_or_ends_by_503(self, loop: Loop) -> None:
        """C49."""

        async def test() -> None:
            async with held(options=Options(handshake_timeout=0.1)) as (peer, _, receive, send):
                assert (await peer.head()).startswith(b"HTTP/1.1 503 ")
                assert await peer.rest() == b""
                assert await receive() == disconnect(1006)
                with pytest.raises(Disconnected):
                    await send(ACCEPT)

        run(test(), loop)

    def test_ends_with_the_answer(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT, options=Options(handshake_timeout=0.1)) as (peer, _, _, send):
                await asyncio.sleep(0.2)
                await send({"type": "websocket.send", "text": "alive"})
                assert await peer.frame() == (1, b"alive")

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ Pings


@ON_BOTH_LOOPS
class TestAPingOfThePeer:
    def test_is_answered_between_fragments_and_before_its_close(self, loop: Loop) -> None:
        """W8."""

        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.upgraded() as peer:
                peer.send(frame(1, b"a", fin=False), frame(9, b"one"))
                assert await peer.frame() == (10, b"one")
                peer.send(frame(0, b"b"), frame(9, b""), close_frame(1000))
                assert [await peer.frame() for _ in range(2)] == [(10, b""), (8, b"\x03\xe8")]
                assert await peer.rest() == b""
            assert app.given == ["ab", (1000, "")]

        run(test(), loop)

    def test_is_answered_after_our_close_and_not_after_its_own(self, loop: Loop) -> None:
        """C42."""

        async def test() -> None:
            async with held(ACCEPT, CLOSE) as (peer, _, _, _):
                assert await peer.closed_with() == (3000, "enough")
                peer.send(frame(9, b"late"))
                assert await peer.frame() == (10, b"late")
                peer.send(close_frame(3000), frame(9, b"too late"))
                assert await peer.rest() == b""

        run(test(), loop)

    def test_that_cannot_be_answered_yet_gives_way_to_later_ones(self, loop: Loop) -> None:
        """RFC 6455 section 5.5.3: a peer that sends Pings and reads nothing does not fill our memory."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                size = session._transport.get_write_buffer_size()
                for i in range(1000):
                    session.data_received(frame(9, b"%d" % i))
                assert session._transport.get_write_buffer_size() <= size
                assert await peer.frame() == (2, HUGE)
                assert await peer.frame() == (10, b"999")
                await sending
                peer.send(frame(9, b"at once"))
                assert await peer.frame() == (10, b"at once")

        run(test(), loop)

    def test_does_not_fill_our_memory_by_itself(self, loop: Loop) -> None:
        """There is no message of the app that waits: the Pongs alone are too many."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, _):
                for _ in range(10_000):
                    session.data_received(frame(9, bytes(125)))
                assert 1 << 15 < session._transport.get_write_buffer_size() <= 1 << 17
                session.data_received(frame(9, b"last"))
                while await peer.frame() != (10, b"last"):
                    pass

        run(test(), loop)

    def test_is_answered_as_each_of_those_that_came_with_it(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, _):
                session.data_received(b"".join(frame(9, b"%d" % number) for number in range(1000)))
                for number in range(1000):
                    assert await peer.frame() == (10, b"%d" % number)
                peer.send(close_frame(1000))
                assert await peer.closed_with() == (1000, "")

        run(test(), loop)

    def test_that_waits_is_answered_before_our_close(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                session.data_received(frame(9, b"first"))
                await send(CLOSE)
                assert await peer.frame() == (2, HUGE)
                assert await peer.frame() == (10, b"first")
                assert await peer.closed_with() == (3000, "enough")
                peer.send(close_frame(3000))
                await peer.rest()
                with pytest.raises(Disconnected):
                    await sending

        run(test(), loop)


@ON_BOTH_LOOPS
class TestOurPings:
    def test_are_seen_by_the_peer_each_after_the_pong_before(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT, options=Options(ping_interval=0.02)) as (peer, _, _, _):
                payloads = []
                for _ in range(3):
                    opcode, payload = await peer.frame()
                    assert opcode == 9
                    payloads.append(payload)
                    peer.send(frame(10, payload))
                assert len(set(payloads)) == 3

        run(test(), loop)

    def test_begin_with_the_accept_and_end_with_our_close(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(options=Options(ping_interval=0.02)) as (peer, _, _, send):
                await asyncio.sleep(0.1)
                await send(ACCEPT)
                assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
                assert (await peer.frame())[0] == 9
                await send(CLOSE)
                assert await peer.closed_with() == (3000, "enough")
                await asyncio.sleep(0.1)
                peer.send(close_frame(3000))
                assert await peer.rest() == b""

        run(test(), loop)

    @pytest.mark.parametrize("answer", [b"", frame(10, b"unasked"), text("not a Pong")])
    def test_that_are_not_answered_end_the_connection(self, loop: Loop, answer: bytes) -> None:
        """C33."""

        async def test() -> None:
            options = Options(ping_interval=0.02, ping_timeout=0.1)
            async with held(ACCEPT, options=options) as (peer, _, receive, send):
                assert (await peer.frame())[0] == 9
                peer.send(answer)
                code, reason = await peer.closed_with()
                assert code == 1011
                while (last := await receive())["type"] == "websocket.receive":
                    pass
                assert last == disconnect(1011, reason)
                with pytest.raises(Disconnected):
                    await send({"type": "websocket.send", "text": "late"})

        run(test(), loop)

    def test_end_for_good_with_the_connections_failure(self, loop: Loop) -> None:
        """A Pong that comes too late does not begin them anew, not even for a transport that is gone."""

        async def test() -> None:
            options = Options(ping_interval=0.02, ping_timeout=0.1)
            async with held(ACCEPT, options=options) as (peer, _, _, _):
                _, payload = await peer.frame()
                assert (await peer.closed_with())[0] == 1011
                peer.send(frame(10, payload))
                await asyncio.sleep(0.1)
                peer.send(close_frame(1011))
                peer.end()
                assert await peer.rest() == b""

        run(test(), loop)

    @pytest.mark.parametrize("timer", ["keepalive", "close_timeout", "handshake_timeout"])
    def test_and_timers_end_when_the_time_is_said_to_be_over(self, loop: Loop, timer: str) -> None:
        """`time_out` may come from elsewhere: the timer itself must not run on."""

        async def test() -> None:
            options = Options(ping_interval=0.02, ping_timeout=None, close_timeout=0.2)
            async with held(ACCEPT, options=options) as (peer, session, receive, _):
                session.time_out(timer)
                if timer == "keepalive":
                    assert (await receive())["code"] == 1011
                    peer.end()
                    received = await peer.rest()
                    assert received.endswith(b"\x88" + received[received.index(b"\x03\xf3") - 1 :])

        run(test(), loop)

    def test_need_no_answer_without_a_time_for_it(self, loop: Loop) -> None:
        async def test() -> None:
            options = Options(ping_interval=0.02, ping_timeout=None)
            async with held(ACCEPT, options=options) as (peer, _, _, _):
                assert {(await peer.frame())[0] for _ in range(5)} == {9}

        run(test(), loop)

    def test_are_not_sent_without_an_interval(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT, options=Options(ping_interval=None, ping_timeout=0.01)) as (peer, _, _, send):
                await asyncio.sleep(0.1)
                await send({"type": "websocket.send", "text": "first"})
                assert await peer.frame() == (1, b"first")

        run(test(), loop)

    def test_do_not_kill_a_peer_whose_pongs_wait_behind_unread_messages(self, loop: Loop) -> None:
        """C33: a slow app makes reading pause; patience begins anew when reading goes on."""

        async def test() -> None:
            options = Options(ping_interval=0.05, ping_timeout=0.4)
            async with held(ACCEPT, options=options) as (peer, session, receive, send):
                transport: Any = session._transport
                peer.send(*(text(str(i)) for i in range(100)))
                await until(lambda: not session._connection.reads)
                start = time.monotonic()
                while time.monotonic() - start < 0.6:
                    opcode, payload = await peer.frame()
                    assert opcode == 9
                    peer.send(frame(10, payload))
                assert not transport.is_reading()
                assert [int((await receive())["text"]) for _ in range(100)] == list(range(100))
                opcode, payload = await peer.frame()
                assert opcode == 9
                peer.send(frame(10, payload))
                await send({"type": "websocket.send", "text": "alive"})
                while (found := await peer.frame())[0] == 9:
                    peer.send(frame(10, found[1]))
                assert found == (1, b"alive")

        run(test(), loop)

    def test_kill_a_dead_peer_after_reading_was_paused(self, loop: Loop) -> None:
        async def test() -> None:
            options = Options(ping_interval=0.02, ping_timeout=0.1)
            async with held(ACCEPT, options=options) as (_, session, receive, _):
                session.data_received(text("unread") * 33)
                await asyncio.sleep(0.2)
                for _ in range(33):
                    assert (await receive())["text"] == "unread"
                assert (await receive())["code"] == 1011

        run(test(), loop)

    def test_are_answered_by_a_client_of_the_websockets_library(self, loop: Loop) -> None:
        async def test() -> None:
            options = Options(ping_interval=0.02, ping_timeout=1)
            async with serving(echo, options) as site, connect(site.url, proxy=None) as client:
                await asyncio.sleep(0.2)
                await client.send("alive")
                assert await client.recv() == "alive"

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ compression


OFFER = asking(b"Sec-WebSocket-Extensions: permessage-deflate")


def compressed(data: bytes) -> bytes:
    """A compressed binary frame (RFC 7692 section 7.2.1)."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame(0x42, (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4])


@ON_BOTH_LOOPS
class TestCompression:
    """W12."""

    def test_is_agreed_with_a_client_of_the_websockets_library(self, loop: Loop) -> None:
        async def test() -> None:
            async with serving(echo) as site, connect(site.url, proxy=None) as client:
                assert client.response is not None
                assert client.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
                for data in ("", "word " * 10_000, bytes(1 << 18), "word " * 10_000, b"\x00\xff"):
                    await client.send(data)
                    assert await client.recv() == data
                await client.send(["frag", "men", "", "ts"])
                assert await client.recv() == "fragments"

        run(test(), loop)

    @pytest.mark.parametrize(
        ("settings", "options"),
        [({}, Options(per_message_deflate=False)), ({"compression": None}, Options())],
        ids=["we do not want it", "the client does not"],
    )
    def test_is_not_agreed_where_one_side_does_not_want_it(
        self, loop: Loop, settings: dict[str, Any], options: Options
    ) -> None:
        async def test() -> None:
            async with serving(echo, options) as site, connect(site.url, proxy=None, **settings) as client:
                assert client.response is not None
                assert "Sec-WebSocket-Extensions" not in client.response.headers
                await client.send("word " * 1000)
                assert await client.recv() == "word " * 1000

        run(test(), loop)

    def test_makes_our_messages_shorter(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT, request=OFFER) as (peer, _, _, send):
                await send({"type": "websocket.send", "text": "word " * 1000})
                first, length = await peer.read(2)
                assert first == 0xC1
                assert length < 126
                payload = await peer.read(length) + b"\0\0\xff\xff"
                assert zlib.decompressobj(-15).decompress(payload) == b"word " * 1000

        run(test(), loop)

    def test_of_a_bomb_does_not_explode(self, loop: Loop) -> None:
        """C34: the limit is on what comes out."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_size=1000), request=OFFER) as (peer, _, receive, _):
                peer.send(compressed(bytes(1000)), compressed(bytes(1 << 26)))
                assert (await receive())["bytes"] == bytes(1000)
                assert await peer.closed_with() == (1009, reason := "message over 1000 bytes")
                assert await receive() == disconnect(1009, reason)

        run(test(), loop)


@ON_BOTH_LOOPS
class TestAClientOfTheWebsocketsLibrary:
    @pytest.mark.parametrize("compression", ["deflate", None])
    @pytest.mark.parametrize("data", ["", b"", "é", bytes(range(256)), "x" * 70_000, bytes(1 << 20)], ids=len)
    def test_gets_its_messages_back(self, loop: Loop, data: str | bytes, compression: str | None) -> None:
        async def test() -> None:
            settings: dict[str, Any] = {"proxy": None, "max_size": None, "compression": compression}
            async with serving(echo) as site, connect(site.url, **settings) as client:
                await client.send(data)
                assert await client.recv() == data
                await client.send(["frag", "men", "", "ts"])
                assert await client.recv() == "fragments"
                await (await client.ping(b"still there"))

        run(test(), loop)

    def test_agrees_on_a_subprotocol(self, loop: Loop) -> None:
        async def test() -> None:
            offered = [Subprotocol("chat"), Subprotocol("other")]
            async with serving(echo) as site, connect(site.url, proxy=None, subprotocols=offered) as client:
                assert client.subprotocol == "chat"

        run(test(), loop)

    def test_is_told_of_a_shutdown(self, loop: Loop) -> None:
        """C32."""

        async def test() -> None:
            app = Notes()
            async with serving(app) as site, connect(site.url, proxy=None) as client:
                site.sessions[0].shutdown()
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
            assert app.given == [(1012, "")]

        run(test(), loop)

    def test_is_refused_by_a_server_that_shuts_down(self, loop: Loop) -> None:
        async def test() -> None:
            async with held() as (peer, session, receive, _):
                session.shutdown()
                assert (await peer.head()).startswith(b"HTTP/1.1 503 ")
                assert await peer.rest() == b""
                assert await receive() == disconnect(1012)

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ the app's end


async def raises_value_error(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    raise ValueError("a fault of the app")


async def raises_cancelled(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    raise asyncio.CancelledError


async def violates(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    await send(ACCEPT)


async def returns(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)


INTERRUPT = f"""
import asyncio, socket
from wslifecycle.runtime import start_server

async def app(scope, receive, send):
    raise KeyboardInterrupt

async def main():
    server = await start_server(app, lifespan="off")
    client = socket.create_connection(server.sockets[0].getsockname())
    client.sendall({REQUEST!r})
    try:
        await asyncio.sleep(5)
    finally:
        await asyncio.sleep(0)
        print(client.recv(12).decode())
        client.close()
        server.close()

asyncio.run(main())
"""


@ON_BOTH_LOOPS
class TestTheAppsEnd:
    @pytest.mark.parametrize(
        ("app", "code"), [(raises_value_error, 1011), (violates, 1011), (raises_cancelled, 1011), (returns, 1000)]
    )
    def test_closes_the_connection(self, loop: Loop, app: App, code: int) -> None:
        """C2, C3."""

        async def test() -> None:
            async with serving(app) as site, site.upgraded() as peer:
                assert await peer.closed_with() == (code, "")
                peer.send(close_frame(code))
                assert await peer.rest() == b""

        run(test(), loop)

    def test_before_any_reply_is_answered_by_500(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            async def app(scope: Message) -> None:
                """An app of ASGI 2, which cannot even be called."""

            async with serving(app) as site, site.peer() as peer:  # type: ignore[arg-type]
                peer.send(REQUEST)
                assert (await peer.head()).startswith(b"HTTP/1.1 500 ")
                assert await peer.rest() == b""

        run(test(), loop)
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [TypeError]

    def test_may_come_long_after_the_connections(self, loop: Loop) -> None:
        """Asyncio holds tasks weakly: one that waits for what only it knows would be collected."""

        async def test() -> None:
            finished: list[str] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                try:
                    await asyncio.Event().wait()
                finally:
                    finished.append("torn down")

            async with await start_server(app, lifespan="off", grace=0.1) as server:
                before = open_sockets()
                async with connected(server.sockets[0].getsockname()[1]) as peer:
                    await peer.upgrade()
                await until(lambda: open_sockets() == before)
                await asyncio.sleep(0)
                gc.collect()
                assert finished == []
            assert finished == ["torn down"]

        run(test(), loop)

    def test_is_waited_for_without_cancelling_it(self, loop: Loop) -> None:
        """C18: whoever gives up waiting for an app does not end it."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await session.ended()
                await send({"type": "websocket.send", "text": "alive"})
                assert await peer.frame() == (1, b"alive")

        run(test(), loop)

    def test_does_not_come_with_the_connections(self, loop: Loop) -> None:
        """C18: an app has time to clean up after a loss."""

        async def test() -> None:
            cleaned: list[str] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                while (await receive())["type"] != "websocket.disconnect":
                    pass
                await asyncio.sleep(0.05)
                cleaned.append("up")

            async with serving(app) as site, site.upgraded() as peer:
                peer.reset()
                await site.sessions[0].ended()
            assert cleaned == ["up"]

        run(test(), loop)

    def test_by_an_interrupt_ends_the_loop_and_tells_the_machine(self, loop: Loop) -> None:
        """In an interpreter of its own: an interrupt that leaves a task spoils CPython 3.11 for what comes after it."""
        code = INTERRUPT if loop == "asyncio" else INTERRUPT.replace("asyncio.run", "__import__('uvloop').run")
        command = [sys.executable, "-W", "error", "-c", code]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert ran.stdout == "HTTP/1.1 500\n", ran.stderr
        assert "\nKeyboardInterrupt\n" in ran.stderr


# ------------------------------------------------------------------------------------------------ the log


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged at INFO, with the level where it is another, and without addresses."""
    found = []
    for record in caplog.records:
        if record.name == "wslifecycle" and record.levelno >= logging.INFO:
            said = record.getMessage().strip()
            if said.startswith("127.0.0.1:"):
                said = said.partition(" - ")[2]
            found.append(said if record.levelno == logging.INFO else f"{record.levelname}: {said}")
    return found


@ON_BOTH_LOOPS
class TestTheLog:
    @pytest.fixture(autouse=True)
    def level(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "wslifecycle")

    def _log(
        self, loop: Loop, caplog: pytest.LogCaptureFixture, app: App, *answer: bytes, request: bytes = REQUEST
    ) -> list[str]:
        """What is logged of an app and a peer that sends these bytes after the answer."""

        async def test() -> None:
            async with serving(app) as site, site.peer() as peer:
                peer.send(request)
                await peer.head()
                peer.send(*answer)
                peer.end()
                await peer.rest()

        run(test(), loop)
        return lines(caplog)

    def test_tells_of_the_accept_and_of_the_end(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        request = asking(target=b"/a%20b%22?c=%22")
        assert self._log(loop, caplog, Notes(), close_frame(3001, "bye\n"), request=request) == [
            '"WebSocket /a%20b%22?c=%22" [accepted]',
            "\"WebSocket /a%20b%22?c=%22\" [closed 3001 'bye\\n']",
        ]

    @pytest.mark.parametrize(
        ("app", "answer", "code"),
        [
            (Notes(), frame(8), "1005"),
            (Notes(), b"", "1006"),
            (Notes(), frame(3), "1002 'Invalid opcode 0x3'"),
            (returns, b"", "1000"),
            (returns, close_frame(3001), "1000"),
        ],
    )
    def test_tells_of_the_end_once_and_with_the_apps_code(
        self, loop: Loop, caplog: pytest.LogCaptureFixture, app: App, answer: bytes, code: str
    ) -> None:
        found = self._log(loop, caplog, app, answer)
        assert found == ['"WebSocket /" [accepted]', f'"WebSocket /" [closed {code}]']

    def test_tells_of_a_refusal_and_of_nothing_else(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await send(CLOSE)

        assert self._log(loop, caplog, app) == ['"WebSocket /" 403']

    @pytest.mark.parametrize("streamed", [True, False])
    def test_tells_of_a_denial_and_of_nothing_else(
        self, loop: Loop, caplog: pytest.LogCaptureFixture, streamed: bool
    ) -> None:
        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.http.response.start", "status": 404})
            if streamed:
                await send({"type": "websocket.http.response.body", "more_body": True})
            await send({"type": "websocket.http.response.body"})

        assert self._log(loop, caplog, app) == ['"WebSocket /" 404']

    def test_tells_of_an_app_that_gives_no_answer(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await receive()

        assert self._log(loop, caplog, app) == [
            '"WebSocket /" 500',
            "ERROR: ASGI callable returned without completing handshake.",
        ]

    def test_tells_of_a_result_that_means_nothing(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Message, receive: Receive, send: Send) -> Any:
            await send(ACCEPT)
            return 42

        assert "ERROR: ASGI callable should return None, but returned 42." in self._log(loop, caplog, app)


async def meets_its_end(receive: Receive, send: Send) -> None:
    """Sends until it raises the connection's own Disconnected."""
    while True:
        await receive()
        await send({"type": "websocket.send", "text": "hello?"})


async def escapes(receive: Receive, send: Send) -> None:
    await meets_its_end(receive, send)


async def escapes_by_a_group(receive: Receive, send: Send) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(meets_its_end(receive, send))


async def is_the_cause(receive: Receive, send: Send) -> None:
    try:
        await meets_its_end(receive, send)
    except Disconnected as error:
        raise RuntimeError("lost") from error


async def is_the_context(receive: Receive, send: Send) -> None:
    try:
        await meets_its_end(receive, send)
    finally:
        raise RuntimeError("and in the clean-up")


async def is_hidden(receive: Receive, send: Send) -> None:
    try:
        await meets_its_end(receive, send)
    except Disconnected:
        raise RuntimeError("an error of the framework's own") from None


async def is_in_bad_company(receive: Receive, send: Send) -> None:
    try:
        await meets_its_end(receive, send)
    except Disconnected as error:
        group = ExceptionGroup("both", [error, ValueError("a fault")])
    raise group


@ON_BOTH_LOOPS
class TestC40AnExceptionThatLeavesTheApp:
    @pytest.mark.parametrize(
        ("way", "logged"),
        [
            (escapes, []),
            (escapes_by_a_group, []),
            (is_the_cause, []),
            (is_the_context, []),
            (is_hidden, []),
            (is_in_bad_company, [ExceptionGroup]),
        ],
    )
    def test_is_quiet_only_if_it_stems_from_this_connections_end(
        self,
        loop: Loop,
        caplog: pytest.LogCaptureFixture,
        way: Callable[[Receive, Send], Any],
        logged: list[type[Exception]],
    ) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                await way(receive, send)

            async with serving(app) as site, site.upgraded() as peer:
                peer.reset()
                await site.sessions[0].ended()

        run(test(), loop)
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.exc_info and record.exc_info[0] for record in told if record.name == "wslifecycle"] == logged

    def test_of_another_connection_is_logged(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            sends: list[Send] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                sends.append(send)
                if len(sends) == 1:
                    await receive()
                    await receive()
                else:
                    await sends[0]({"type": "websocket.send", "text": "to a peer that is gone"})

            async with serving(app) as site:
                async with site.upgraded() as peer:
                    peer.reset()
                    await site.sessions[0].ended()
                async with site.upgraded() as peer:
                    assert await peer.closed_with() == (1011, "")
                    peer.send(close_frame(1011))
                    await peer.rest()

        run(test(), loop)
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Disconnected]

    @pytest.mark.parametrize(
        ("app", "logged"),
        [
            (raises_value_error, [ValueError]),
            (violates, [ApplicationViolation]),
            (raises_cancelled, [asyncio.CancelledError]),
            (returns, []),
        ],
    )
    def test_that_is_a_fault_is_logged(
        self, loop: Loop, caplog: pytest.LogCaptureFixture, app: App, logged: list[type[Exception]]
    ) -> None:
        async def test() -> None:
            async with serving(app) as site, site.upgraded() as peer:
                await peer.closed_with()
                peer.end()
                await peer.rest()

        run(test(), loop)
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == logged
