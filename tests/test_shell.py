"""The asyncio shell over real sockets: raw clients that may do anything, and the client of the websockets library.

Whatever a test does, at its end no task may be left, no socket may be open, and the loop may have had nothing to
complain of (`run`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from wslifecycle.runtime.codec import HEAD_LIMIT
from wslifecycle.runtime.shell import App, Session, serve
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.machine import Lifecycle, build

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 3000, "reason": "enough"}
HUGE = bytes(16 << 20)  # more than the kernel takes on a loopback connection that nobody reads from
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
REQUEST = f"GET / HTTP/1.1\r\n{FIELDS}Sec-WebSocket-Key: {KEY}\r\n\r\n".encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A masked frame, by hand."""
    size = len(payload)
    longer = b"" if size < 126 else struct.pack("!H", size) if size < 65536 else struct.pack("!Q", size)
    short = size if size < 126 else 126 if size < 65536 else 127
    return bytes((fin << 7 | opcode, 0x80 | short)) + longer + bytes(4) + payload


def text(data: str) -> bytes:
    return frame(1, data.encode())


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(8, struct.pack("!H", code) + reason.encode())


# ------------------------------------------------------------------------------------------------ the two sides


class Peer:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def upgrade(self) -> None:
        """Shakes hands."""
        self.send(REQUEST)
        assert (await self.head()).startswith(b"HTTP/1.1 101 ")

    async def head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: opcode and payload."""
        first, length = await self._reader.readexactly(2)
        assert first & 0x80
        if length == 126:
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
        return first & 15, await self._reader.readexactly(length)

    async def closed_with(self) -> tuple[int, str]:
        """Code and reason of the Close that comes next."""
        opcode, payload = await self.frame()
        assert opcode == 8, (opcode, payload)
        return int.from_bytes(payload[:2]), payload[2:].decode()

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self._reader.read(1 << 20):
                data += piece
        return data

    def end(self) -> None:
        """Ends the sending side."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Vanishes with an RST."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Site:
    """A running server, and what a test needs of it."""

    def __init__(self, port: int, sessions: list[Session]) -> None:
        self.port = port
        self.sessions = sessions
        self.url = f"ws://127.0.0.1:{port}/"

    @contextlib.asynccontextmanager
    async def peer(self, *, limit: int = 1 << 16) -> AsyncIterator[Peer]:
        """A raw connection; with a small `limit` the client soon stops to read from it."""
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port, limit=limit))
        try:
            yield peer
        finally:
            await peer.close()

    @contextlib.asynccontextmanager
    async def upgraded(self) -> AsyncIterator[Peer]:
        async with self.peer() as peer:
            await peer.upgrade()
            yield peer


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[Site]:
    sessions: list[Session] = []
    server = await serve(app, on_session=sessions.append, **options)
    try:
        yield Site(server.sockets[0].getsockname()[1], sessions)
        for session in sessions:
            await session.ended()
    finally:
        server.close()
        await server.wait_closed()


def open_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(fd.readlink()).startswith("socket:")
    return count


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition that no event announces; the test's own time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0.001)


def run(test: Coroutine[Any, Any, None], seconds: float = 5) -> None:
    """Runs a test within its time, and holds it to leaving no socket, no task, no timer and no complaint behind."""
    complaints: list[dict[str, Any]] = []

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        before = open_sockets()
        async with asyncio.timeout(seconds):
            await test
            await until(lambda: open_sockets() == before)
            await until(lambda: len(asyncio.all_tasks()) == 1)
        assert [timer for timer in vars(loop)["_scheduled"] if not timer.cancelled()] == []

    asyncio.run(bounded())
    gc.collect()
    assert complaints == []


class Notes:
    """An app that accepts and notes what it is given, up to the disconnect."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.scope: Message = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        assert await receive() == {"type": "websocket.connect"}
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            self.given.append(message["bytes"] if message["text"] is None else message["text"])
        self.given.append((message["code"], message["reason"]))


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Held:
    """An app that hands `receive` and `send` to the test, and ends when the test says so."""

    def __init__(self) -> None:
        self.called: asyncio.Future[tuple[Receive, Send]] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.called.set_result((receive, send))
        await self.over.wait()


@contextlib.asynccontextmanager
async def held(*first: Message, **options: Any) -> AsyncIterator[tuple[Peer, Session, Receive, Send]]:
    """A connection whose both sides are in the hands of the test; the app has got the connect and sent `first`."""
    app = Held()
    async with serving(app, **options) as site, site.peer() as peer:
        peer.send(REQUEST)
        receive, send = await app.called
        try:
            assert await receive() == {"type": "websocket.connect"}
            for message in first:
                await send(message)
                if message is ACCEPT:
                    await peer.head()
            yield peer, site.sessions[0], receive, send
        finally:
            app.over.set()


@cache
def hasty() -> Lifecycle:
    """The reference machine with short patience for a peer that does not end the connection."""
    spec = load_spec()
    choice = spec.choices["C48"]
    short = replace(choice, answers={**choice.answers, "aborted": {"seconds": 0.2, "linger": 0.2}})
    spec = replace(spec, choices={**spec.choices, "C48": short})
    return build(spec, spec.reference, "hasty")


# ------------------------------------------------------------------------------------------------ the handshake


class TestTheRequest:
    def test_becomes_the_scope(self) -> None:
        async def test() -> None:
            app = Notes()
            request = REQUEST.replace(b"GET / ", b"GET /a%20b?c=d ").replace(
                b"\r\n\r\n", b"\r\nX-Raw: \xff\r\nSec-WebSocket-Protocol: chat, other\r\n\r\n"
            )
            async with serving(app) as site, site.peer() as peer:
                for i in range(len(request)):
                    peer.send(request[i : i + 1])
                assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
                here = peer._writer.get_extra_info("sockname")
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
                "client": here,
                "server": ("127.0.0.1", site.port),
                "subprotocols": ["chat", "other"],
                "extensions": {"websocket.http.response": {}},
            }

        run(test())

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (REQUEST.replace(b"GET", b"POST"), 400),
            (REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
            (REQUEST.replace(b": 13", b": 8"), 426),
            (REQUEST.replace(b"Host: h", b"Host: \xff"), 400),
            (b"\x16\x03\x01\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n".ljust(HEAD_LIMIT + 1, b"a"), 400),
        ],
    )
    def test_that_is_none_is_answered_without_the_app(self, data: bytes, status: int) -> None:
        async def test() -> None:
            async with serving(Notes()) as site:
                async with site.peer() as peer:
                    peer.send(data)
                    assert (await peer.head()).startswith(b"HTTP/1.1 %d " % status)
                    assert await peer.rest() == b""
                assert site.sessions == []

        run(test())

    @pytest.mark.parametrize("data", [b"", b"GET / HT", REQUEST[:-1]])
    def test_that_stays_incomplete_is_forgotten_with_the_peer(self, data: bytes) -> None:
        async def test() -> None:
            async with serving(Notes()) as site:
                async with site.peer() as peer:
                    peer.send(data)
                    peer.end()
                    assert await peer.rest() == b""
                assert site.sessions == []

        run(test())

    def test_of_a_peer_that_is_gone_already_does_not_trouble_the_server(self) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site:
                with socket.create_connection(("127.0.0.1", site.port)) as raw:
                    raw.sendall(REQUEST)
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                async with site.peer() as peer:  # which comes behind it in the queue
                    peer.send(b"\r\n\r\n")
                    await peer.rest()

        run(test())


class TestC14BytesBeforeTheAccept:
    def test_are_given_in_order_with_those_that_come_later(self) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.peer() as peer:
                peer.send(REQUEST, text("1"), text("2")[:3])
                await peer.head()
                peer.send(text("2")[3:], text("3"), close_frame(3001, "bye"))
                assert await peer.closed_with() == (3001, "")
                assert await peer.rest() == b""
            assert app.given == ["1", "2", "3", (3001, "bye")]

        run(test())

    def test_with_a_close_among_them_end_the_connection_at_the_accept(self) -> None:
        async def test() -> None:
            async with held() as (peer, _, receive, send):
                peer.send(text("1"), close_frame(3001), text("late"))
                await send(ACCEPT)
                await peer.head()
                assert await peer.closed_with() == (3001, "")
                assert (await receive())["text"] == "1"
                assert await receive() == {"type": "websocket.disconnect", "code": 3001, "reason": ""}

        run(test())

    def test_are_given_even_if_the_peer_ends_right_after_the_accept(self) -> None:
        """The end may be read in the same turn of the loop in which the app accepts."""

        async def test() -> None:
            async with held() as (_, session, receive, send):
                session.data_received(text("1"))
                await send(ACCEPT)
                session.eof_received()
                assert (await receive())["text"] == "1"
                assert (await receive())["code"] == 1006

        run(test())

    def test_are_dropped_with_a_loss(self) -> None:
        async def test() -> None:
            async with held() as (peer, _, receive, send):
                peer.send(text("1"))
                peer.end()
                assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
                with pytest.raises(Disconnected):
                    await send(ACCEPT)
                assert await peer.rest() == b""

        run(test())

    def test_that_are_no_frames_fail_the_accepted_connection(self) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.peer() as peer:
                peer.send(REQUEST, b"\x81\x02hi")  # not masked
                await peer.head()
                assert await peer.closed_with() == (1002, "")
                peer.end()
                assert await peer.rest() == b""
            assert app.given == [(1002, "")]

        run(test())

    @pytest.mark.parametrize("at_once", [True, False])
    def test_over_the_bound_are_answered_by_400(self, at_once: bool) -> None:
        async def test() -> None:
            got: list[Message] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                got.extend([await receive(), await receive()])
                with pytest.raises(Disconnected):
                    await send(ACCEPT)

            async with serving(app) as site, site.peer() as peer:
                if at_once:
                    peer.send(REQUEST, bytes(HEAD_LIMIT + 1))
                else:
                    peer.send(REQUEST)
                    await until(lambda: got or site.sessions)
                    peer.send(bytes(HEAD_LIMIT + 1))
                assert (await peer.head()).startswith(b"HTTP/1.1 400 ")
                assert await peer.rest() == b""
            assert got[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

        run(test())


class TestADenial:
    def test_larger_than_the_buffers_is_sent_whole(self) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send({"type": "websocket.http.response.start", "status": 404})
                await send({"type": "websocket.http.response.body", "body": HUGE[: 8 << 20]})
                with pytest.raises(Disconnected):
                    await send({"type": "websocket.http.response.body"})

            async with serving(app) as site, site.peer() as peer:
                peer.send(REQUEST)
                assert b"\r\ncontent-length: 8388608\r\n" in await peer.head()
                assert len(await peer.rest()) == 8 << 20

        run(test())

    def test_with_a_wrong_length_is_streamed_all_the_same(self) -> None:
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

        run(test())

    @pytest.mark.parametrize("status", [204, 205, 304])
    def test_without_a_body(self, status: int) -> None:
        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send({"type": "websocket.http.response.start", "status": status})
                await send({"type": "websocket.http.response.body", "body": b"dropped"})

            async with serving(app) as site:
                with pytest.raises(InvalidStatus) as refused:
                    await connect(site.url, proxy=None)
                assert refused.value.response.status_code == status
                assert not refused.value.response.body

        run(test())

    def test_that_nobody_reads_is_cut_off_after_a_while(self) -> None:
        async def test() -> None:
            messages: list[Message] = [
                {"type": "websocket.http.response.start", "status": 404},
                {"type": "websocket.http.response.body", "body": HUGE},
            ]
            before = open_sockets()
            async with held(*messages, machine=hasty()) as (_, _, receive, _):
                assert (await receive())["code"] == 1006
                await until(lambda: open_sockets() == before + 2)  # the server's own and the client's

        run(test())


# ------------------------------------------------------------------------------------------------ receive()


class TestReceive:
    def test_serves_calls_in_their_order(self) -> None:
        """C16."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                calls = [asyncio.ensure_future(receive()) for _ in range(4)]
                peer.send(text("0"), text("1"), text("2"), close_frame(3001))
                given = [await call for call in calls]
                assert [message.get("text", message.get("code")) for message in given] == ["0", "1", "2", 3001]

        run(test())

    def test_that_is_cancelled_while_it_waits_takes_nothing(self) -> None:
        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                calls = [asyncio.ensure_future(receive()) for _ in range(4)]
                await asyncio.sleep(0)
                calls[0].cancel()
                calls[2].cancel()
                peer.send(text("1"), text("2"))
                assert [(await calls[1])["text"], (await calls[3])["text"]] == ["1", "2"]

        run(test())

    @pytest.mark.parametrize("turns", range(6))
    def test_that_is_cancelled_when_a_message_comes_loses_none(self, turns: int) -> None:
        """The message may be there, and the call not yet awake, when it is cancelled."""

        async def test() -> None:
            async with held(ACCEPT) as (_, session, receive, _):
                first, second = (asyncio.ensure_future(receive()) for _ in range(2))
                await asyncio.sleep(0)
                session.data_received(text("1"))
                session.data_received(text("2"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                first.cancel()
                await asyncio.wait({first})
                given = [] if first.cancelled() else [first.result()["text"]]
                given.append((await second)["text"])
                if len(given) == 1:
                    given.append((await receive())["text"])
                assert given == ["1", "2"]

        run(test())

    def test_repeats_the_disconnect_at_a_pace(self) -> None:
        """C6: the first repeat after a turn of the loop, later ones 50 ms apart. A cancelled one costs nothing."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, receive, _):
                peer.reset()
                last = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
                first = await receive()
                assert first == last
                start = time.monotonic()
                turned = asyncio.Event()
                asyncio.get_running_loop().call_soon(turned.set)
                second = await receive()
                assert turned.is_set()
                assert time.monotonic() - start < 0.04
                assert second == last
                assert second is not first
                paced = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                paced.cancel()
                calls = [asyncio.ensure_future(receive()) for _ in range(3)]
                assert [await call for call in calls] == [last] * 3
                assert time.monotonic() - start >= 0.14

        run(test())

    def test_pauses_and_resumes_reading_and_loses_nothing(self) -> None:
        """C31."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, receive, _):
                transport = session._transport
                peer.send(*(text(f"{i}".ljust(5000)) for i in range(2000)))
                await until(lambda: not transport.is_reading())
                assert [int((await receive())["text"]) for _ in range(2000)] == list(range(2000))
                assert transport.is_reading()

        run(test())

    @pytest.mark.parametrize("answered", [True, False])
    def test_of_a_paused_connection_does_not_hide_the_peers_close_from_our_own(self, answered: bool) -> None:
        async def test() -> None:
            async with held(ACCEPT, machine=hasty()) as (peer, session, receive, send):
                peer.send(*(text(f"{i}") for i in range(100)))
                await until(lambda: not session._transport.is_reading())
                await send(CLOSE)
                assert await peer.closed_with() == (3000, "enough")
                if answered:
                    peer.send(close_frame(3000))
                assert await peer.rest() == b""
                given = [message for _ in range(101) if (message := await receive())["type"] == "websocket.receive"]
                assert [int(message["text"]) for message in given] == list(range(len(given)))
                assert len(given) > 32
                assert (await receive())["code"] == 3000

        run(test(), seconds=20)


# ------------------------------------------------------------------------------------------------ send()


class TestSend:
    def test_waits_until_the_peer_reads(self) -> None:
        """C30."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": HUGE}))
                await until(session._transport.get_write_buffer_size)
                assert not sending.done()
                assert len((await peer.frame())[1]) == len(HUGE)
                await sending
                await send({"type": "websocket.send", "text": "after it"})
                assert await peer.frame() == (1, b"after it")

        run(test(), seconds=20)

    @pytest.mark.parametrize("end", ["reset", "close", "violate"])
    def test_that_waits_raises_when_the_connection_ends(self, end: str) -> None:
        """C43."""

        async def test() -> None:
            # After the peer's Close what is unsent is still flushed for a while, for which send() need not wait.
            machine = hasty() if end == "violate" else None
            async with held(ACCEPT, machine=machine) as (peer, session, receive, send):
                calls = [
                    asyncio.ensure_future(send({"type": "websocket.send", "bytes": data})) for data in (HUGE, b"2")
                ]
                await until(session._transport.get_write_buffer_size)
                if end == "reset":
                    peer.reset()
                else:
                    peer.send(close_frame(3001) if end == "close" else frame(3))
                for call in calls:
                    with pytest.raises(Disconnected):
                        await call
                assert (await receive())["code"] == {"reset": 1006, "close": 3001, "violate": 1002}[end]

        run(test())

    def test_that_waits_does_not_hold_up_a_close(self) -> None:
        """And a peer that neither reads nor answers is dropped after the close timeout (C48)."""

        async def test() -> None:
            async with held(ACCEPT, machine=hasty()) as (_, session, receive, send):
                sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": HUGE}))
                await until(session._transport.get_write_buffer_size)
                closing = asyncio.ensure_future(send(CLOSE))
                assert await receive() == {"type": "websocket.disconnect", "code": 3000, "reason": "enough"}
                await closing
                with pytest.raises(Disconnected):
                    await sending

        run(test())

    def test_in_parallel_sends_each_message_whole(self) -> None:
        """C17, W13."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, _, _, send):
                sent = [bytes([i]) * 200_000 for i in range(20)]
                calls = [asyncio.ensure_future(send({"type": "websocket.send", "bytes": data})) for data in sent]
                assert [(await peer.frame())[1] for _ in sent] == sent
                await asyncio.gather(*calls)

        run(test())

    def test_accepts_with_every_header_value_that_it_lets_through(self) -> None:
        """What the machine has accepted the codec must be able to write, or the connection would hang."""

        async def test() -> None:
            async with held() as (peer, _, _, send):
                headers = [(b"x-a", value) for value in (b" a\t b ", b" ", b"", b"\x20\xe9")]
                for value in (b"\x0b", b"1\x0c2", b"\r\n", b"\x00"):
                    with pytest.raises(ApplicationViolation):
                        await send({"type": "websocket.accept", "headers": [*headers, (b"x-a", value)]})
                await send({"type": "websocket.accept", "headers": headers})
                assert b"\r\nx-a: a\t b\r\nx-a: \r\nx-a: \r\nx-a: \xe9\r\n" in await peer.head()

        run(test())


# ------------------------------------------------------------------------------------------------ the peer


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
    def test_that_breaks_a_rule_is_told_and_so_is_the_app(self, data: bytes, code: int) -> None:
        """C34, C47, W9: and then the server only waits for the end, whatever else comes."""

        async def test() -> None:
            app = Notes()
            async with serving(app, max_size=1000) as site, site.upgraded() as peer:
                peer.send(text("before"), data, text("after"))
                assert await peer.frame() == (8, code.to_bytes(2))
                peer.send(close_frame(1000), bytes(1 << 20))
                peer.end()
                assert await peer.rest() == b""
            assert app.given == ["before", (code, "")]

        run(test())

    def test_gets_its_ping_back_between_fragments_and_before_its_close(self) -> None:
        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.upgraded() as peer:
                peer.send(
                    frame(1, b"a", fin=False), frame(9, b"one"), frame(0, b"b"), frame(9, b"two"), close_frame(1000)
                )
                assert [await peer.frame() for _ in range(3)] == [(10, b"one"), (10, b"two"), (8, b"\x03\xe8")]
                assert await peer.rest() == b""
            assert app.given == ["ab", (1000, "")]

        run(test())

    def test_sends_many_frames_in_one_segment_or_one_in_many(self) -> None:
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

        run(test())

    @pytest.mark.parametrize("how", ["end", "reset"])
    def test_that_is_lost_is_told_from_one_that_closed(self, how: str) -> None:
        """C13."""

        async def test() -> None:
            app = Notes()
            async with serving(app) as site, site.upgraded() as peer:
                peer.send(text("1"))
                await until(lambda: app.given)
                getattr(peer, how)()
                await site.sessions[0].ended()
            assert app.given == ["1", (1006, "")]

        run(test())

    def test_is_not_heard_after_our_close(self) -> None:
        """C15."""

        async def test() -> None:
            async with held(ACCEPT, CLOSE) as (peer, _, receive, send):
                assert await peer.closed_with() == (3000, "enough")
                peer.send(text("late"), frame(9, b"late"), close_frame(3000), b"junk")
                assert await peer.rest() == b""
                assert await receive() == {"type": "websocket.disconnect", "code": 3000, "reason": "enough"}
                await send(CLOSE)
                with pytest.raises(Disconnected):
                    await send({"type": "websocket.send", "text": "late"})

        run(test())

    def test_that_never_answers_our_close_is_dropped(self) -> None:
        """C48."""

        async def test() -> None:
            async with held(ACCEPT, CLOSE, machine=hasty()) as (peer, _, _, _):
                assert await peer.closed_with() == (3000, "enough")
                assert await peer.rest() == b""

        run(test())


class TestAClientOfTheWebsocketsLibrary:
    @pytest.mark.parametrize("data", ["", b"", "é", bytes(range(256)), "x" * 70_000, bytes(1 << 20)])
    def test_gets_its_messages_back(self, data: str | bytes) -> None:
        async def test() -> None:
            async with serving(echo) as site, connect(site.url, proxy=None, max_size=None) as client:
                await client.send(data)
                assert await client.recv() == data
                await client.send(["frag", "men", "", "ts"])
                assert await client.recv() == "fragments"
                await (await client.ping(b"still there"))

        run(test())

    def test_agrees_on_a_subprotocol_and_no_extension(self) -> None:
        async def test() -> None:
            offered = [Subprotocol("chat"), Subprotocol("other")]
            async with serving(echo) as site, connect(site.url, proxy=None, subprotocols=offered) as client:
                assert client.subprotocol == "chat"
                assert client.response is not None
                assert "Sec-WebSocket-Extensions" not in client.response.headers

        run(test())

    def test_is_told_of_a_shutdown(self) -> None:
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

        run(test())

    def test_is_refused_by_a_server_that_shuts_down(self) -> None:
        async def test() -> None:
            async with held() as (peer, session, receive, _):
                session.shutdown()
                assert (await peer.head()).startswith(b"HTTP/1.1 503 ")
                assert await peer.rest() == b""
                assert (await receive())["code"] == 1012

        run(test())


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
from wslifecycle.runtime.shell import serve

async def app(scope, receive, send):
    raise KeyboardInterrupt

async def main():
    server = await serve(app)
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


class TestTheAppsEnd:
    @pytest.mark.parametrize(
        ("app", "code", "logged"),
        [
            (raises_value_error, 1011, ValueError),
            (violates, 1011, ApplicationViolation),
            (raises_cancelled, 1011, None),
            (returns, 1000, None),
        ],
    )
    def test_closes_the_connection_and_only_a_fault_is_logged(
        self, caplog: pytest.LogCaptureFixture, app: App, code: int, logged: type[Exception] | None
    ) -> None:
        async def test() -> None:
            async with serving(app) as site, site.upgraded() as peer:
                assert await peer.closed_with() == (code, "")
                peer.send(close_frame(code))
                assert await peer.rest() == b""

        run(test())
        errors = [record.exc_info[0] for record in caplog.records if record.exc_info]
        assert errors == ([logged] if logged else [])

    def test_by_its_own_disconnected_is_quiet(self, caplog: pytest.LogCaptureFixture) -> None:
        """C40."""

        async def test() -> None:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                while True:
                    await receive()
                    await send({"type": "websocket.send", "text": "hello?"})

            async with serving(app) as site, site.upgraded() as peer:
                await until(lambda: site.sessions)
                peer.reset()
                await site.sessions[0].ended()

        run(test())
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    def test_before_any_reply_is_answered_by_500(self, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            async def app(scope: Message) -> None:
                """An app of ASGI 2, which cannot even be called."""

            async with serving(app) as site, site.peer() as peer:  # type: ignore[arg-type]
                peer.send(REQUEST)
                assert (await peer.head()).startswith(b"HTTP/1.1 500 ")
                assert await peer.rest() == b""

        run(test())
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [TypeError]

    def test_may_come_long_after_the_connections(self) -> None:
        """Asyncio holds tasks weakly: one that waits for what only it knows would be collected."""

        async def test() -> None:
            finished: list[str] = []

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                try:
                    await asyncio.Event().wait()
                finally:
                    finished.append("torn down")

            server = await serve(app)
            peer = Peer(*await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1]))
            await peer.upgrade()
            before = open_sockets()
            await peer.close()
            await until(lambda: open_sockets() == before - 2)
            await asyncio.sleep(0)
            gc.collect()
            assert finished == []
            (task,) = asyncio.all_tasks() - {asyncio.current_task()}
            task.cancel()
            server.close()
            await server.wait_closed()

        run(test())

    def test_is_waited_for_without_cancelling_it(self) -> None:
        """C18: whoever gives up waiting for an app does not end it."""

        async def test() -> None:
            async with held(ACCEPT) as (peer, session, _, send):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await session.ended()
                await send({"type": "websocket.send", "text": "alive"})
                assert await peer.frame() == (1, b"alive")

        run(test())

    def test_by_an_interrupt_ends_the_loop_and_tells_the_machine(self) -> None:
        """In an interpreter of its own: an interrupt that leaves a task spoils CPython 3.11 for what comes after it."""
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", INTERRUPT], capture_output=True, text=True, check=False
        )
        assert ran.stdout == "HTTP/1.1 500\n", ran.stderr
        assert "\nKeyboardInterrupt\n" in ran.stderr
