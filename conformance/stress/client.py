"""A raw client: bytes go out as they are told, and nothing is answered by itself. Every wait is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

from wslifecycle.conformance.kit.client import dial
from wslifecycle.conformance.peer import FRAMES, frame

PATIENCE = 10.0
"""Seconds that an answer may take."""

REQUEST = (
    "GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n"
)
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

FAULTY = {kind: make for kind, make in FRAMES.items() if kind != "too_big"}
"""Frames that break RFC 6455 whatever the limits of a server are."""

Frame: TypeAlias = tuple[int, bytes]
"""A frame of the server: its opcode and its payload."""


def request(path: str = "echo", fields: str = "") -> bytes:
    """A handshake request; `fields` are more lines of it."""
    return REQUEST.format(path, fields).encode()


def text(data: str) -> bytes:
    """A message of the peer."""
    return frame(1, data.encode())


def closing(code: int = 1000) -> bytes:
    """A Close of the peer."""
    return frame(8, struct.pack("!H", code))


class Refused(Exception):
    """The handshake was not answered by 101; `args[0]` is the head of what was answered, empty if nothing was."""


class Client:
    """A connection to a server on 127.0.0.1."""

    def __init__(self, sock: socket.socket) -> None:
        self.head = b""
        """The head of the answer to the handshake."""
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()
        self._sock = sock

    async def shake(self, asking: bytes) -> None:
        """Shakes hands. Raises `Refused`."""
        await self.send(asking)
        with contextlib.suppress(OSError, EOFError):
            async with asyncio.timeout(PATIENCE):
                while b"\r\n\r\n" not in self._read:
                    await self._more()
        head, found, rest = bytes(self._read).partition(b"\r\n\r\n")
        if not (found and head.startswith(b"HTTP/1.1 101 ")):
            raise Refused(head)
        self.head, self._read = head, bytearray(rest)

    async def send(self, *data: bytes) -> None:
        """Sends bytes, once the system takes them. Raises `OSError`, `TimeoutError`."""
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self._sock, b"".join(data))

    async def flood(self, data: bytes, *, most: int, seconds: float) -> int:
        """Sends the same bytes again and again, without reading: up to so many in all, for so long, or until the
        server ends the connection. Returns how many bytes went out.
        """
        sent = 0
        view = memoryview(data)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                while sent < most:
                    done = 0
                    while done < len(data):
                        try:
                            step = self._sock.send(view[done:])
                        except BlockingIOError:
                            await _writable(self._sock)
                            continue
                        done += step
                        sent += step
                    await asyncio.sleep(0)
        return sent

    async def frame(self) -> Frame:
        """The next frame of the server. Raises `EOFError` at the end of the connection, `OSError`, `TimeoutError`."""
        async with asyncio.timeout(PATIENCE):
            while (found := parsed(self._read)) is None:
                await self._more()
        return found

    async def message(self, seconds: float = PATIENCE) -> str:
        """The next text message of the server; its Pings are answered. Raises `EOFError`, `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while True:
                opcode, payload = await self.frame()
                if opcode == 9:
                    await self.send(frame(10, payload))
                elif opcode == 1:
                    return payload.decode()
                elif opcode == 8:
                    raise EOFError

    async def closed(self, seconds: float) -> int | None:
        """The code of the server's Close (1005: none in it); None where the connection ends without one.

        Raises `TimeoutError` where the server does neither.
        """
        async with asyncio.timeout(seconds):
            with contextlib.suppress(OSError, EOFError):
                while True:
                    opcode, payload = await self.frame()
                    if opcode == 8:
                        return int.from_bytes(payload[:2]) if payload else 1005
        return None

    async def rest(self, seconds: float) -> bytes:
        """Everything up to the end of the connection, as bytes. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(OSError, EOFError):
                while True:
                    await self._more()
        return bytes(self._read)

    def finish(self) -> None:
        """Ends its side."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def vanish(self) -> None:
        """Resets the connection."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    async def _more(self) -> None:
        data = await self._loop.sock_recv(self._sock, 65536)
        if not data:
            raise EOFError
        self._read += data


@asynccontextmanager
async def dialled(port: int, *, room: int | None = None) -> AsyncIterator[Client]:
    """A TCP connection. `room`: the bytes that the system takes from the server while nothing is read."""
    async with asyncio.timeout(PATIENCE):
        sock = await dial(port, room)
    try:
        yield Client(sock)
    finally:
        sock.close()


@asynccontextmanager
async def connected(
    port: int, path: str = "echo", fields: str = "", *, room: int | None = None
) -> AsyncIterator[Client]:
    """A WebSocket. Raises `Refused`."""
    async with dialled(port, room=room) as client:
        await client.shake(request(path, fields))
        yield client


def parsed(data: bytearray) -> Frame | None:
    """Takes the first whole frame of a server out of the bytes; None as long as there is none."""
    if len(data) < 2:
        return None
    length, start = data[1] & 127, 2
    if length > 125:
        start = 4 if length == 126 else 10
        if len(data) < start:
            return None
        length = int.from_bytes(data[2:start])
    if len(data) < start + length:
        return None
    found = data[0] & 15, bytes(data[start : start + length])
    del data[: start + length]
    return found


async def _writable(sock: socket.socket) -> None:
    """Waits until the system takes more."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)
