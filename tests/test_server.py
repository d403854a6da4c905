"""The server of our own, from `start_server` to `wait_closed`: requests, shutdown, lifespan, TLS, options."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.raw import (
    ACCEPT,
    HUGE,
    ON_BOTH_LOOPS,
    REQUEST,
    Held,
    Loop,
    Notes,
    Peer,
    asking,
    binary,
    close_frame,
    connected,
    cram,
    disconnect,
    echo,
    open_sockets,
    run,
    serving,
    text,
    until,
)
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options, Server, start_server
from wslifecycle.runtime.handshake import HEAD_LIMIT
from wslifecycle.runtime.lifespan import LifespanError
from wslifecycle.runtime.session import Message, Receive, Send, Session
from wslifecycle.statemachine.errors import Disconnected
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.machine import build


def port_of(server: Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def never_called(scope: Message, receive: Receive, send: Send) -> None:
    raise AssertionError("no app is to be called")


# ------------------------------------------------------------------------------------------------ requests


@ON_BOTH_LOOPS
class TestARequest:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 426),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 426),
            (REQUEST.replace(b"GET", b"POST"), 400),
            (REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
            (REQUEST.replace(b": 13", b": 8"), 426),
            (REQUEST.replace(b"Host: h", b"Host: \xff"), 400),
            (b"\x16\x03\x01\r\n\r\n", 400),
            (REQUEST.replace(b"GET /", b"GET *"), 400),
            (b"GET / HTTP/1.1\r\n".ljust(HEAD_LIMIT + 1, b"a"), 431),
        ],
    )
    def test_that_is_no_handshake_is_answered_without_the_app(self, loop: Loop, data: bytes, status: int) -> None:
        async def test() -> None:
            async with serving(never_called) as site:
                async with site.peer() as peer:
                    peer.send(data)
                    head = await peer.head()
                    assert head.startswith(b"HTTP/1.1 %d " % status)
                    assert b"\r\nconnection: close" in head.lower()
                    assert b"\r\ncontent-length: " in head.lower()
                    assert await peer.rest() != b""
                assert site.sessions == []

        run(test(), loop)

    def test_of_plain_http_is_told_what_would_be_right(self, loop: Loop) -> None:
        async def test() -> None:
            async with serving(never_called) as site, site.peer() as peer:
                peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                head = (await peer.head()).lower()
                assert head.startswith(b"http/1.1 426 ")
                assert b"\r\nupgrade: websocket\r\n" in head
                assert b"\r\ncontent-type: text/plain" in head
                assert b"WebSocket" in await peer.rest()

        run(test(), loop)

    def test_of_head_is_answered_without_a_body(self, loop: Loop) -> None:
        async def test() -> None:
            async with serving(never_called) as site, site.peer() as peer:
                peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await peer.head()).startswith(b"HTTP/1.1 426 ")
                assert await peer.rest() == b""

        run(test(), loop)

    def test_with_another_version_is_told_ours(self, loop: Loop) -> None:
        """W1."""

        async def test() -> None:
            async with serving(never_called) as site, site.peer() as peer:
                peer.send(REQUEST.replace(b": 13", b": 8"))
                assert b"\r\nsec-websocket-version: 13\r\n" in (await peer.head()).lower()

        run(test(), loop)

    def test_that_was_refused_is_not_followed_by_another(self, loop: Loop) -> None:
        async def test() -> None:
            async with serving(never_called) as site:
                async with site.peer() as peer:
                    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", REQUEST)
                    assert (await peer.head()).startswith(b"HTTP/1.1 426 ")
                    peer.send(REQUEST)
                    assert b"HTTP/1.1" not in await peer.rest()
                assert site.sessions == []

        run(test(), loop)

    @pytest.mark.parametrize("data", [b"", b"GET / HT", REQUEST[:-1]])
    def test_that_stays_incomplete_is_forgotten_with_the_peer(self, loop: Loop, data: bytes) -> None:
        async def test() -> None:
            async with serving(never_called) as site, site.peer() as peer:
                peer.send(data)
                peer.end()
                assert await peer.rest() == b""

        run(test(), loop)

    @pytest.mark.parametrize("data", [b"", b"GET / HT", REQUEST[:-1]])
    def test_that_is_not_complete_in_time_is_answered_by_408(self, loop: Loop, data: bytes) -> None:
        async def test() -> None:
            async with serving(never_called, Options(request_timeout=0.1)) as site, site.peer() as peer:
                peer.send(data)
                assert (await peer.head()).startswith(b"HTTP/1.1 408 ")
                peer.send(REQUEST[len(data) :])
                assert await peer.rest() == b""

        run(test(), loop)

    def test_that_is_complete_in_time_has_no_limit_any_more(self, loop: Loop) -> None:
        async def test() -> None:
            app = Held()
            async with serving(app, Options(request_timeout=0.05)) as site, site.peer() as peer:
                peer.send(REQUEST)
                _, send = await app.called
                await asyncio.sleep(0.15)
                await send(ACCEPT)
                assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
                app.over.set()

        run(test(), loop)

    def test_of_a_peer_that_is_gone_already_does_not_trouble_the_server(self, loop: Loop) -> None:
        async def test() -> None:
            async with serving(Notes()) as site:
                async with site.peer() as peer:
                    peer.send(REQUEST)
                    peer.reset()
                async with site.peer() as peer:  # which comes behind it in the queue
                    peer.send(b"\r\n\r\n")
                    await peer.rest()

        run(test(), loop)

    def test_is_logged_if_it_is_refused(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            async with serving(never_called) as site, site.peer() as peer:
                peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                await peer.rest()

        with caplog.at_level(logging.INFO, "wslifecycle"):
            run(test(), loop)
        (record,) = [record for record in caplog.records if record.name == "wslifecycle"]
        assert record.getMessage() == "Request refused with 426: This server speaks WebSocket only."


# ------------------------------------------------------------------------------------------------ shutdown


@ON_BOTH_LOOPS
class TestClose:
    def test_closes_open_connections_and_refuses_those_that_are_not(self, loop: Loop) -> None:
        """C32."""

        async def test() -> None:
            open_, waiting = Held(), Held()

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await (open_ if scope["path"] == "/open" else waiting)(scope, receive, send)

            async with await start_server(app, lifespan="off") as server:
                port = port_of(server)
                async with connected(port) as first, connected(port) as second, connected(port) as third:
                    first.send(asking(target=b"/open"))
                    second.send(REQUEST)
                    third.send(REQUEST[:20])
                    receive, send = await open_.called
                    await send(ACCEPT)
                    await first.head()
                    await waiting.called
                    server.close()
                    assert await first.closed_with() == (1012, "")
                    first.send(close_frame(1012))
                    assert (await second.head()).startswith(b"HTTP/1.1 503 ")
                    for peer in (first, second, third):
                        assert await peer.rest() == b""
                    assert await receive() == {"type": "websocket.connect"}
                    assert await receive() == disconnect(1012)
                open_.over.set()
                waiting.over.set()

        run(test(), loop)

    def test_ends_listening_at_once_and_may_be_called_again(self, loop: Loop) -> None:
        async def test() -> None:
            server = await start_server(echo, lifespan="off")
            port = port_of(server)
            assert server.is_serving()
            assert len(server.sockets) == 1
            server.close()
            server.close()
            assert not server.is_serving()
            assert len(server.sockets) == 0
            with pytest.raises(ConnectionRefusedError):
                async with connected(port):
                    pass
            await server.wait_closed()
            await server.wait_closed()
            server.close()

        run(test(), loop)

    @pytest.mark.parametrize("turns", [0, 1, 3, 4, 5])
    def test_lets_nobody_in_who_was_about_to_come(self, loop: Loop, turns: int) -> None:
        """A connection may be on its way through the loop while the server closes.

        (After two turns asyncio of CPython 3.11 itself stumbles over it, and drops the socket unclosed.)
        """

        async def test() -> None:
            sessions: list[Session] = []
            options = Options(on_session=sessions.append)
            async with await start_server(Notes(), lifespan="off", options=options) as server:
                with socket.create_connection(("127.0.0.1", port_of(server))) as raw:
                    raw.sendall(REQUEST)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    server.close()
                    before = list(sessions)
                    await asyncio.sleep(0.02)
                    assert sessions == before
                    for session in sessions:
                        await session.ended()

        run(test(), loop)

    def test_by_an_error_in_the_block_ends_all(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            server = await start_server(app, lifespan="off")
            async with connect_to(server) as client:
                with pytest.raises(ZeroDivisionError):
                    async with server:
                        raise ZeroDivisionError
                with pytest.raises(ConnectionClosed):
                    await client.recv()
            assert not server.is_serving()
            assert app.given == [(1012, "")]

        run(test(), loop)


def connect_to(server: Server) -> connect:
    """A client of the websockets library."""
    return connect(f"ws://127.0.0.1:{port_of(server)}/", proxy=None)


@ON_BOTH_LOOPS
class TestWaitClosed:
    def test_waits_for_apps_and_does_not_cancel_them_in_the_time_of_grace(self, loop: Loop) -> None:
        """C18, R52."""

        async def test() -> None:
            app = Held()
            server = await start_server(app, lifespan="off")
            async with connected(port_of(server)) as peer:
                peer.send(REQUEST)
                await app.called
            server.close()
            waiting = asyncio.create_task(server.wait_closed())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            app.over.set()
            await waiting

        run(test(), loop)

    def test_cancels_apps_after_the_time_of_grace(self, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            ends: list[float] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    ends.append(time.monotonic())
                    raise

            server = await start_server(app, lifespan="off", grace=0.2)
            async with connect_to(server) as client:
                start = time.monotonic()
                server.close()
                await server.wait_closed()
                assert len(ends) == 1
                assert ends[0] - start >= 0.19
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012

        run(test(), loop)
        told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert told[0] == "Cancel 1 running task(s), the time of grace is over."
        assert re.search(
            r"\[cancelled while it waited at test_server\.py:\d+ in app: await asyncio\.Event\(\)\.wait\(\)\]$", told[1]
        )
        assert len(told) == 2

    def test_drops_a_peer_that_does_not_go_after_the_time_of_grace(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            server = await start_server(app, lifespan="off", grace=0.2)
            async with connected(port_of(server)) as peer:
                await peer.upgrade()
                start = time.monotonic()
                server.close()
                await server.wait_closed()
                assert 0.19 < time.monotonic() - start < 2
                assert await peer.closed_with() == (1012, "")
                assert await peer.rest() == b""
            assert app.given == [(1012, "")]

        run(test(), loop)

    def test_drops_a_peer_that_does_not_read(self, loop: Loop) -> None:
        async def test() -> None:
            app = Held()
            async with await start_server(app, lifespan="off", grace=0.2) as server:
                cram(server)
                async with connected(port_of(server), small=True) as peer:
                    peer.send(REQUEST)
                    _, send = await app.called
                    await send(ACCEPT)
                    sending = asyncio.ensure_future(send(binary(HUGE)))
                    await asyncio.sleep(0.05)
                    assert not sending.done()
                    server.close()
                    app.over.set()
                    await server.wait_closed()
                    with pytest.raises(Disconnected):
                        await sending

        run(test(), loop)

    def test_leaves_behind_an_app_that_ignores_its_cancellation(
        self, loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("wslifecycle.runtime.server.CANCEL_TIMEOUT", 0.1)

        async def test() -> None:
            over = asyncio.Event()

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                while not over.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await over.wait()

            server = await start_server(app, lifespan="off", grace=0.1)
            async with connected(port_of(server)) as peer:
                peer.send(REQUEST)
                await until(lambda: server._service.tasks)
                start = time.monotonic()
                server.close()
                await server.wait_closed()
                assert 0.19 < time.monotonic() - start < 2
            assert len(server._service.tasks) == 1
            over.set()
            await until(lambda: not server._service.tasks)

        run(test(), loop)
        (told,) = (text for record in caplog.records if "goes on" in (text := record.getMessage()))
        assert re.fullmatch(
            r"An app goes on after it was cancelled, and waits at test_server\.py:\d+ in app: await over\.wait\(\)\.",
            told,
        )

    def test_has_no_limit_without_a_time_of_grace(self, loop: Loop) -> None:
        async def test() -> None:
            app = Held()
            server = await start_server(app, lifespan="off", grace=None)
            async with connected(port_of(server)) as peer:
                peer.send(REQUEST)
                await app.called
            server.close()
            waiting = asyncio.create_task(server.wait_closed())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            app.over.set()
            await waiting

        run(test(), loop)

    def test_waits_for_close(self, loop: Loop) -> None:
        async def test() -> None:
            events: list[str] = []
            async with await start_server(living(events)) as server:
                waiting = asyncio.create_task(server.wait_closed())
                await asyncio.sleep(0.05)
                assert not waiting.done()
                assert events == ["startup"]
                server.close()
                await waiting
                assert events == ["startup", "shutdown"]

        run(test(), loop)


@ON_BOTH_LOOPS
class TestServeForever:
    def test_serves_until_it_is_cancelled(self, loop: Loop) -> None:
        async def test() -> None:
            events: list[str] = []
            server = await start_server(living(events))
            serving_ = asyncio.create_task(server.serve_forever())
            async with connect_to(server) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
                assert not serving_.done()
                serving_.cancel()
                with pytest.raises(ConnectionClosed):
                    await client.recv()
            with pytest.raises(asyncio.CancelledError):
                await serving_
            assert not server.is_serving()
            assert events == ["startup", "shutdown"]

        run(test(), loop)

    def test_returns_after_close(self, loop: Loop) -> None:
        async def test() -> None:
            async with await start_server(echo, lifespan="off") as server:
                asyncio.get_running_loop().call_later(0.02, server.close)
                await server.serve_forever()
                assert not server.is_serving()

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ lifespan


def living(events: list[str], **state: Any) -> Any:
    """An app with a lifespan, which notes it, and the echo."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await echo(scope, receive, send)
            return
        await receive()
        events.append("startup")
        scope["state"].update(state)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    return app


async def starts_badly(scope: Message, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


@ON_BOTH_LOOPS
class TestTheLifespan:
    @pytest.mark.parametrize("mode", ["on", "auto", "off"])
    def test_surrounds_the_serving(self, loop: Loop, mode: Any) -> None:
        async def test() -> None:
            events: list[str] = []
            async with await start_server(living(events), lifespan=mode) as server, connect_to(server) as client:
                assert events == ([] if mode == "off" else ["startup"])
                await client.send("hello")
                assert await client.recv() == "hello"
            assert events == ([] if mode == "off" else ["startup", "shutdown"])

        run(test(), loop)

    def test_ends_after_the_last_app(self, loop: Loop) -> None:
        async def test() -> None:
            events: list[str] = []
            lifespan = living(events)

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await lifespan(scope, receive, send)
                if scope["type"] != "lifespan":
                    await asyncio.sleep(0.05)
                    events.append("app")

            async with await start_server(app) as server, connect_to(server):
                pass
            assert events == ["startup", "app", "shutdown"]

        run(test(), loop)

    def test_state_is_copied_for_each_connection(self, loop: Loop) -> None:
        """R18: the namespace is a copy, what is in it is not."""

        async def test() -> None:
            seen: list[dict[str, Any]] = []
            shared: list[int] = []
            lifespan = living([], shared=shared, number=1)

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                if scope["type"] == "websocket":
                    seen.append(dict(scope["state"]))
                    scope["state"]["number"] += 1
                    scope["state"]["shared"].append(1)
                await lifespan(scope, receive, send)

            async with await start_server(app, lifespan="on") as server:
                for _ in range(2):
                    async with connect_to(server):
                        pass
            assert seen == [{"shared": [1, 1], "number": 1}] * 2

        run(test(), loop)

    @pytest.mark.parametrize("mode", ["on", "auto"])
    def test_that_fails_to_start_leaves_nothing_that_listens(self, loop: Loop, mode: Any) -> None:
        async def test() -> None:
            before = open_sockets()
            with pytest.raises(LifespanError, match="no database"):
                await start_server(starts_badly, lifespan=mode)
            assert open_sockets() == before

        run(test(), loop)

    def test_that_is_not_supported_is_an_error_only_where_it_has_to_be(self, loop: Loop) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                assert scope["type"] == "websocket"

            with pytest.raises(LifespanError):
                await start_server(app, lifespan="on")
            async with await start_server(app, lifespan="auto") as server:
                assert server.is_serving()

        run(test(), loop)

    def test_knows_no_other_mode(self, loop: Loop) -> None:
        async def test() -> None:
            with pytest.raises(ValueError, match="lifespan"):
                await start_server(echo, lifespan="never")  # type: ignore[arg-type]

        run(test(), loop)

    def test_is_shut_down_where_the_address_is_in_use(self, loop: Loop) -> None:
        async def test() -> None:
            events: list[str] = []
            async with await start_server(echo, lifespan="off") as server:
                with pytest.raises(OSError, match="in use"):
                    await start_server(living(events), port=port_of(server))
                assert events == ["startup", "shutdown"]

        run(test(), loop)

    def test_is_ended_where_the_start_is_cancelled(self, loop: Loop) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await asyncio.Event().wait()

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await start_server(app)

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ where it listens


@ON_BOTH_LOOPS
class TestAUnixSocket:
    def test_is_listened_on(self, loop: Loop, tmp_path: Path) -> None:
        """R15, R16."""

        async def test() -> None:
            app = Notes()
            path = str(tmp_path / "s")
            async with await start_server(app, path=path, lifespan="off"), unix_connect(path) as client:
                await client.send("hello")
            assert app.scope["server"] == (path, None)
            assert app.scope["client"] is None
            assert app.scope["scheme"] == "ws"
            assert app.given == ["hello", (1000, "")]

        run(test(), loop)


@ON_BOTH_LOOPS
class TestASocketOfTheCallers:
    def test_is_listened_on(self, loop: Loop) -> None:
        async def test() -> None:
            sock = socket.create_server(("127.0.0.1", 0))
            async with await start_server(echo, sock=sock, lifespan="off") as server:
                assert port_of(server) == sock.getsockname()[1]
                async with connect_to(server) as client:
                    await client.send("hello")
                    assert await client.recv() == "hello"

        run(test(), loop)


@ON_BOTH_LOOPS
class TestTheRootPath:
    def test_is_before_the_path(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app, root_path="/root") as site, site.upgraded(asking(target=b"/a%20b")) as peer:
                peer.send(close_frame(1000))
                await peer.rest()
            assert app.scope["root_path"] == "/root"
            assert app.scope["path"] == "/root/a b"
            assert app.scope["raw_path"] == b"/root/a%20b"

        run(test(), loop)


# ------------------------------------------------------------------------------------------------ TLS


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    return ours, theirs


@contextlib.asynccontextmanager
async def over_tls(app: Any, options: Options | None = None) -> AsyncIterator[tuple[Peer, Any]]:
    """A raw client that has shaken hands, TLS and WebSocket, and the site."""
    ours, theirs = contexts()
    async with serving(app, options, ssl=ours) as site, site.peer(ssl=theirs, server_hostname="127.0.0.1") as peer:
        await peer.upgrade()
        yield peer, site


@ON_BOTH_LOOPS
class TestTLS:
    def test_is_spoken_with_a_client_of_the_websockets_library(self, loop: Loop) -> None:
        async def test() -> None:
            ours, theirs = contexts()
            scopes: list[Message] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                scopes.append(scope)
                await echo(scope, receive, send)

            async with serving(app, ssl=ours) as site:
                url = f"wss://127.0.0.1:{site.port}/"
                async with connect(url, proxy=None, ssl=theirs, max_size=None) as client:
                    for data in ("hello", bytes(1 << 20)):
                        await client.send(data)
                        assert await client.recv() == data
            assert [scope["scheme"] for scope in scopes] == ["wss"]

        run(test(), loop)

    def test_ends_with_the_closing_handshake(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with over_tls(app) as (peer, _):
                peer.send(text("1"), close_frame(3001, "bye"))
                assert await peer.closed_with() == (3001, "")
                assert await peer.rest() == b""
            assert app.given == ["1", (3001, "bye")]

        run(test(), loop)

    @pytest.mark.parametrize("end", [Peer.end, Peer.reset])
    def test_that_ends_without_a_close_is_a_loss(self, loop: Loop, end: Any) -> None:
        async def test() -> None:
            app = Notes()
            async with over_tls(app) as (peer, site):
                peer.send(text("1"))
                await until(lambda: app.given)
                end(peer)
                await site.sessions[0].ended()
            assert app.given == ["1", (1006, "")]

        run(test(), loop)

    def test_that_the_peer_ends_in_order_is_a_loss_after_what_it_sent(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with over_tls(app) as (peer, _):
                peer.send(text("1"), text("2"))
            assert app.given == ["1", "2", (1006, "")]

        run(test(), loop)

    def test_of_a_connection_that_fails_is_ended(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            async with over_tls(app) as (peer, _):
                peer.send(frame(3))
                assert await peer.closed_with() == (1002, "Invalid opcode 0x3")
                assert await peer.rest() == b""
            assert app.given == [(1002, "Invalid opcode 0x3")]

        run(test(), loop)

    def test_makes_send_wait_for_the_peer(self, loop: Loop) -> None:
        """C30."""

        async def test() -> None:
            ours, theirs = contexts()
            app = Held()
            client: dict[str, Any] = {"small": True, "ssl": theirs, "server_hostname": "127.0.0.1"}
            async with serving(app, ssl=ours) as site, site.peer(**client) as peer:
                peer.send(REQUEST)
                _, send = await app.called
                await send(ACCEPT)
                await peer.head()
                calls = [asyncio.ensure_future(send(binary(HUGE))) for _ in range(2)]  # asyncio lets one pass
                await asyncio.sleep(0.05)
                assert not calls[1].done()
                assert [len((await peer.frame())[1]) for _ in range(2)] == [len(HUGE)] * 2
                await asyncio.gather(*calls)
                app.over.set()

        run(test(), loop)

    def test_is_ended_by_a_shutdown(self, loop: Loop) -> None:
        async def test() -> None:
            app = Notes()
            ours, theirs = contexts()
            async with await start_server(app, ssl=ours, lifespan="off") as server:
                url = f"wss://127.0.0.1:{port_of(server)}/"
                async with connect(url, proxy=None, ssl=theirs) as client:
                    server.close()
                    async with asyncio.timeout(2):
                        await server.wait_closed()
                    with pytest.raises(ConnectionClosed) as closed:
                        await client.recv()
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 1012
            assert app.given == [(1012, "")]

        run(test(), loop)

    def test_that_is_not_ready_at_the_shutdown_reaches_no_app(self, loop: Loop) -> None:
        """The lifespan is over when such a handshake ends at last."""

        async def test() -> None:
            ours, theirs = contexts()
            server = await start_server(never_called, ssl=ours, lifespan="off")
            raw = socket.create_connection(("127.0.0.1", port_of(server)))
            raw.setblocking(False)
            await asyncio.sleep(0.05)
            server.close()
            waiting = asyncio.create_task(server.wait_closed())
            await asyncio.sleep(0.05)
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(sock=raw, ssl=theirs, server_hostname="127.0.0.1")
                peer = Peer(reader, writer)
                peer.send(REQUEST)
                assert await peer.rest() == b""
                await peer.close()
            raw.close()
            await waiting
            assert not server._service.tasks

        run(test(), loop)

    def test_is_not_what_the_peer_speaks(self, loop: Loop) -> None:
        async def test() -> None:
            ours, _ = contexts()
            async with serving(never_called, ssl=ours) as site, site.peer() as peer:
                peer.send(REQUEST)
                await peer.rest()

        run(test(), loop, debug=False)  # in debug mode asyncio tells of it by the exception handler


# ------------------------------------------------------------------------------------------------ options

NUMBERS = (
    "max_queue",
    "ping_interval",
    "ping_timeout",
    "close_timeout",
    "handshake_timeout",
    "request_timeout",
)


class TestOptions:
    @pytest.mark.parametrize("value", [0, -1, math.nan])
    @pytest.mark.parametrize("name", NUMBERS)
    def test_are_refused_where_a_number_is_not_positive(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"{name} has to be more than 0"):
            Options(**{name: value})

    @pytest.mark.parametrize("value", [-1, math.nan])
    def test_are_refused_where_no_message_could_be_of_a_size(self, value: Any) -> None:
        assert Options(max_size=0).max_size == 0
        with pytest.raises(ValueError, match="max_size has to be at least 0"):
            Options(max_size=value)

    @pytest.mark.parametrize("value", ["websocket.http.response", 1])
    def test_are_refused_where_extensions_are_no_collection(self, value: Any) -> None:
        with pytest.raises(TypeError):
            Options(extensions=value)

    def test_are_positive_or_none_by_default_and_cannot_be_changed(self) -> None:
        options = Options()
        assert (options.ping_interval, options.ping_timeout, options.per_message_deflate) == (20, 20, True)
        with pytest.raises(AttributeError):
            options.max_size = 1  # type: ignore[misc]


@ON_BOTH_LOOPS
class TestOptionsOfAServer:
    @pytest.mark.parametrize("name", NUMBERS)
    def test_take_none_for_every_number(self, loop: Loop, name: str) -> None:
        async def test() -> None:
            none: Any = None
            async with serving(echo, Options(**{name: none})) as site, connect(site.url, proxy=None) as client:
                await client.send("hello")
                assert await client.recv() == "hello"

        run(test(), loop)

    def test_advertise_the_same_extensions_to_each_connection(self, loop: Loop) -> None:
        async def test() -> None:
            found: list[Any] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                found.append(scope["extensions"])
                await send(ACCEPT)

            options = Options(extensions=iter(["websocket.http.response"]))
            async with serving(app, options) as site:
                for _ in range(2):
                    async with connect(site.url, proxy=None):
                        pass
            assert found == [{"websocket.http.response": {}}] * 2

        run(test(), loop)

    def test_that_advertise_nothing_allow_no_denial(self, loop: Loop) -> None:
        """C27."""

        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send({"type": "websocket.http.response.start", "status": 404})

            async with serving(app, Options(extensions=())) as site:
                with pytest.raises(InvalidStatus) as refused:
                    await connect(site.url, proxy=None)
            assert refused.value.response.status_code == 500

        run(test(), loop)

    def test_may_bring_another_machine_and_watch_it(self, loop: Loop) -> None:
        async def test() -> None:
            spec = load_spec()
            choice = spec.choices["C32"]
            other = replace(choice, answers={**choice.answers, choice.reference: {"code": 1001}})
            spec = replace(spec, choices={**spec.choices, "C32": other})
            events: list[str] = []
            options = Options(
                machine=build(spec, spec.reference, "away"), observe=lambda answer: events.append(answer.event)
            )
            async with (
                await start_server(echo, lifespan="off", options=options) as server,
                connect_to(server) as client,
            ):
                server.close()
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            assert events[:3] == ["give_connect", "app_accept", "server_shutdown"]

        run(test(), loop)
