"""Attacks on the runtime that once went through: each test is one of them, over a real socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from tests import ways
from tests.raw import (
    ACCEPT,
    CLOSE,
    HUGE,
    ON_BOTH_LOOPS,
    Loop,
    Notes,
    binary,
    close_frame,
    disconnect,
    echo,
    held,
    run,
    serving,
    text,
    until,
)
from tests.test_server import contexts, never_called, port_of
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options, start_server
from wslifecycle.runtime.session import Message, Receive, Send, Session
from wslifecycle.statemachine.errors import Disconnected
from wslifecycle.statemachine.flatten import Answer

MANY = [f"{number}" for number in range(10_000)]
FLOOD = b"".join(text(data) for data in MANY)
"""Many messages in a few segments."""


@ON_BOTH_LOOPS
class TestAPeer:
    def test_that_sends_and_never_reads_is_not_spared_as_the_healthy_peer_of_a_slow_app(self, loop: Loop) -> None:
        """C33: our pause has nothing to do with a Pong to a Ping that the peer never takes."""

        async def test() -> None:
            options = Options(ping_interval=0.1, ping_timeout=0.1, max_queue=2, close_timeout=0.2)
            async with serving(echo, options) as site, site.peer(small=True) as peer:
                await peer.upgrade()
                for _ in range(64):
                    peer.send(frame(2, bytes(65536)))
                (session,) = site.sessions
                await until(lambda: session._connection.close_code == 1011)
                await session.ended()

        run(test(), loop)

    def test_does_not_get_around_the_bound_by_sending_it_all_in_one_piece(self, loop: Loop) -> None:
        """C31: what was read together with the message that filled the queue is not decoded before there is room."""

        async def test() -> None:
            async with held(ACCEPT, options=Options(max_queue=32)) as (peer, session, receive, _):
                session.data_received(FLOOD)
                assert len(session._connection._unread) == 33
                peer.send(text("last"))
                given = [(await receive())["text"] for _ in range(len(MANY) + 1)]
                assert given == [*MANY, "last"]

        run(test(), loop)

    def test_that_closes_behind_a_flood_loses_nothing_of_it(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.upgraded() as peer:
                peer.send(FLOOD, close_frame(3000, "that was all"))
                assert await peer.closed_with() == (3000, "")
            assert app.given == [*MANY, (3000, "that was all")]

        run(test(), loop)

    def test_that_is_lost_behind_a_flood_loses_nothing_of_it(self, loop: Loop) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, _):
                session.data_received(FLOOD)
                peer.reset()
                session.connection_lost(None)
                given = [(await receive())["text"] for _ in MANY]
                assert given == MANY
                assert await receive() == disconnect(1006)

        run(test(), loop)

    def test_is_heard_behind_a_flood_when_the_app_closes(self, loop: Loop) -> None:
        """C31: reading goes on, and data is dropped, so that the Close of the peer is seen and not its deadline."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                session.data_received(FLOOD + close_frame(3000))
                await send(CLOSE)
                assert await peer.closed_with() == (3000, "enough")
                assert await peer.rest() == b""
                assert session._connection.state.startswith("closed/")

        run(test(), loop)

    def test_that_closes_before_it_reads_gets_what_was_sent_before(self, loop: Loop) -> None:
        """The transport is ended, and not dropped: what waits in its buffer is flushed, our Close behind it."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                peer.send(close_frame(1000))
                await until(lambda: session._connection.close_code == 1000)
                assert await peer.frame() == (2, HUGE)
                assert await peer.closed_with() == (1000, "")
                assert await peer.rest() == b""
                with pytest.raises(Disconnected):
                    await sending

        run(test(), loop)

    def test_does_not_wake_a_send_that_waits_by_its_pings(self, loop: Loop) -> None:
        async def test() -> None:
            seen: list[Answer] = []
            async with held(ACCEPT, options=Options(observe=seen.append)) as (peer, session, _, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                for _ in range(20):
                    session.data_received(frame(9, b"hi"))
                    await asyncio.sleep(0)
                assert await peer.frame() == (2, HUGE)
                await sending
                assert [answer.event for answer in seen].count("app_waited") == 1

        run(test(), loop)


@ON_BOTH_LOOPS
class TestAnApp:
    def test_that_closes_twice_while_nobody_reads_does_not_wait(self, loop: Loop) -> None:
        """C9: the second close is ignored, and what writes nothing has nothing to wait for."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                sending = asyncio.ensure_future(send(binary(HUGE)))
                await until(session._transport.get_write_buffer_size)
                start = time.monotonic()
                await send(CLOSE)
                await send(CLOSE)
                with pytest.raises(Disconnected):
                    await sending
                assert time.monotonic() - start < 2  # of the 10 that a peer has to answer the Close
                peer.reset()

        run(test(), loop)

    def test_behind_a_proxy_is_logged_with_the_clients_address(
        self, loop: Loop, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As middleware changes the scope in place, Uvicorn's for example."""
        caplog.set_level(logging.INFO, "wslifecycle")

        async def behind(scope: Message, receive: Receive, send: Send) -> None:
            scope["client"] = ("9.9.9.9", 0)
            await echo(scope, receive, send)

        async def test() -> None:
            async with serving(behind) as site, site.upgraded() as peer:
                peer.send(close_frame(1000))
                await peer.rest()

        run(test(), loop)
        told = [record.getMessage() for record in caplog.records if "WebSocket" in record.getMessage()]
        assert told == ['9.9.9.9:0 - "WebSocket /" [accepted]', '9.9.9.9:0 - "WebSocket /" [closed 1000]']


def test_a_connection_that_has_ended_needs_no_garbage_collector() -> None:
    async def test() -> None:
        gone: list[weakref.ref[Session]] = []
        options = Options(on_session=lambda session: gone.append(weakref.ref(session)))
        async with await start_server(echo, lifespan="off", options=options) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            writer.write(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(close_frame(1000))
            await reader.read()
            writer.close()
            await writer.wait_closed()
            await until(lambda: gone[0]() is None)

    gc.collect()
    gc.disable()
    try:
        run(test(), debug=False)  # in debug mode asyncio keeps the tracebacks of tasks
    finally:
        gc.enable()


def test_a_peer_that_never_begins_its_tls_handshake_does_not_hold_up_the_shutdown() -> None:
    async def test() -> None:
        ours, _ = contexts()
        server = await start_server(never_called, lifespan="off", ssl=ours, grace=0.5)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        await asyncio.sleep(0)
        server.close()
        async with asyncio.timeout(3):
            await server.wait_closed()
        writer.close()
        await asyncio.gather(reader.read(), writer.wait_closed(), return_exceptions=True)

    run(test(), debug=False)  # in debug mode asyncio tells of the handshake by the exception handler


@pytest.mark.parametrize("header", [(b"x\xe9", b"a"), (b"x", b"a\r\nb: c"), (b"upgrade", b"h2c")])
def test_a_header_that_would_break_each_answer_is_refused_before_anybody_is_served(header: tuple[bytes, bytes]) -> None:
    async def test() -> None:
        with pytest.raises(ValueError, match="cannot be added to every answer"):
            await start_server(never_called, headers=[(b"server", b"ours"), header])

    run(test())


@pytest.mark.parametrize("way", [way for way in ways.WAYS if way.startswith("uvicorn")])
class TestSettingsOfUvicorn:
    def test_that_leave_no_room_still_serve(self, way: str) -> None:
        async def test() -> None:
            async with ways.serving(way, echo, ws_max_queue=0, lifespan="off") as site, site.connect() as peer:
                for data in ("one", "two"):
                    await peer.send(data)
                    assert await peer.recv() == data

        ways.run(test)

    def test_of_no_size_fail_each_message(self, way: str) -> None:
        async def test() -> None:
            async with ways.serving(way, echo, ws_max_size=0, lifespan="off") as site, site.connect() as peer:
                await peer.send("a")
                with pytest.raises(ConnectionClosedError, match="1009"):
                    await peer.recv()

        ways.run(test)

    def test_with_a_header_that_http_cannot_carry_leave_it_out(self, way: str) -> None:
        async def test() -> None:
            headers: Any = [("x-good", "yes"), ("x-bad\xe9", "no")]
            async with ways.serving(way, echo, headers=headers, lifespan="off") as site, site.connect() as peer:
                assert peer.response is not None
                assert peer.response.headers["x-good"] == "yes"
                assert "no" not in peer.response.headers.values()

        ways.run(test)
