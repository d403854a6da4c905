"""A raw client and a server for it: what test_session.py and test_server.py are written with.

A `Peer` may do anything that a socket can, which no client library would. `serving` starts an app by `start_server`,
`held` hands both sides of one connection to the test. `run` is what a test runs in: at its end no task, no socket and
no timer may be left, and the loop may have had nothing to complain of.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
import uvloop

from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options, Server, start_server
from wslifecycle.runtime.session import App, Message, Receive, Send, Session

Loop: TypeAlias = Literal["asyncio", "uvloop"]

_FACTORIES: dict[Loop, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
ON_BOTH_LOOPS = pytest.mark.parametrize("loop", list(_FACTORIES))

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 3000, "reason": "enough"}
HUGE = bytes(1 << 20)  # more than the kernel takes for a `small` peer, and the transport's buffer besides
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
REQUEST = f"GET / HTTP/1.1\r\n{FIELDS}Sec-WebSocket-Key: {KEY}\r\n\r\n".encode()


def asking(*fields: bytes, target: bytes = b"/") -> bytes:
    """A handshake request with more header fields."""
    lines = b"".join(b"\r\n" + field for field in fields)
    return REQUEST.replace(b"GET / ", b"GET " + target + b" ").replace(b"\r\n\r\n", lines + b"\r\n\r\n")


def text(data: str) -> bytes:
    return frame(1, data.encode())


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(8, struct.pack("!H", code) + reason.encode())


def binary(data: bytes) -> dict[str, Any]:
    """The message by which an app sends this."""
    return {"type": "websocket.send", "bytes": data}


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    """The message that an app is given at the end."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


# ------------------------------------------------------------------------------------------------ the two sides


class Peer:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.name = writer.get_extra_info("sockname")

    def send(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def flushed(self) -> None:
        """Waits until everything that was sent is with the kernel."""
        self._writer.transport.set_write_buffer_limits(0)
        await self._writer.drain()

    async def upgrade(self, request: bytes = REQUEST) -> bytes:
        """Shakes hands; returns the head of the answer."""
        self.send(request)
        head = await self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return head

    async def head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def read(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: opcode and payload."""
        first, length = await self.read(2)
        assert first & 0xF0 == 0x80, "whole and with no reserved bit"
        if length == 126:
            (length,) = struct.unpack("!H", await self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.read(8))
        return first & 15, await self.read(length)

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
        """Ends the sending side of the socket: a FIN, and under TLS no farewell before it."""
        raw = socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno()))
        raw.shutdown(socket.SHUT_WR)
        raw.close()

    def reset(self) -> None:
        """Vanishes with an RST, unless it is gone already."""
        if self._writer.is_closing():
            return
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):  # a lost connection, or a disorderly end of TLS
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(port: int, *, small: bool = False, **settings: Any) -> AsyncIterator[Peer]:
    """A raw connection; the kernel takes little for a `small` one that does not read. `settings` are asyncio's."""
    raw = socket.socket()
    if small:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        peer = Peer(*await asyncio.open_connection(sock=raw, limit=1 << 14, **settings))
    except BaseException:
        raw.close()
        raise
    try:
        yield peer
    finally:
        await peer.close()


class Site:
    """A running server, and what a test needs of it."""

    def __init__(self, server: Server, sessions: list[Session]) -> None:
        self.port: int = server.sockets[0].getsockname()[1]
        self.server = server
        self.sessions = sessions
        self.url = f"ws://127.0.0.1:{self.port}/"

    def peer(self, **settings: Any) -> contextlib.AbstractAsyncContextManager[Peer]:
        return connected(self.port, **settings)

    @contextlib.asynccontextmanager
    async def upgraded(self, request: bytes = REQUEST) -> AsyncIterator[Peer]:
        async with self.peer() as peer:
            await peer.upgrade(request)
            yield peer


def cram(server: Server) -> None:
    """Has the kernel take little that the peer does not read; connections inherit it."""
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)


@contextlib.asynccontextmanager
async def serving(app: App, options: Options | None = None, **settings: Any) -> AsyncIterator[Site]:
    """Serves an app, and at the end waits until it has ended on each connection."""
    sessions: list[Session] = []
    options = replace(options or Options(), on_session=sessions.append)
    async with await start_server(app, lifespan="off", options=options, **settings) as server:
        cram(server)
        yield Site(server, sessions)
        for session in sessions:
            await session.ended()


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
async def held(
    *first: Message, options: Options | None = None, request: bytes = REQUEST
) -> AsyncIterator[tuple[Peer, Session, Receive, Send]]:
    """A connection whose both sides are in the hands of the test; the app has got the connect and sent `first`."""
    app = Held()
    async with serving(app, options) as site, site.peer(small=True) as peer:
        peer.send(request)
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


# ------------------------------------------------------------------------------------------------ running a test


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


def run(test: Coroutine[Any, Any, None], loop: Loop = "asyncio", seconds: float = 10, debug: bool = True) -> None:
    """Runs a test within its time, and holds it to leaving nothing and no complaint behind."""
    complaints: list[str] = []

    async def bounded() -> None:
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda _, context: complaints.append(repr(context)))
        before = open_sockets()
        async with asyncio.timeout(seconds):
            await test
        async with asyncio.timeout(2):
            await until(lambda: open_sockets() == before)
            await until(lambda: len(asyncio.all_tasks()) == 1)
        if loop == "asyncio":  # uvloop does not tell
            assert [timer for timer in vars(running)["_scheduled"] if not timer.cancelled()] == []

    with _nothing_dropped(), asyncio.Runner(debug=debug, loop_factory=_FACTORIES[loop]) as runner:
        runner.run(bounded())
    assert complaints == []


@contextlib.contextmanager
def _nothing_dropped() -> Iterator[None]:
    """Fails (by pytest's own look at what cannot be raised) for what is dropped without having been closed."""
    gc.freeze()  # what was there before is no concern of this test, and looking through it takes longest
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            yield
            gc.collect()
    finally:
        gc.unfreeze()
