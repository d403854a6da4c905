"""The other end of a connection: a raw TCP client whose every step, and every pause, is in the hands of the driver.

A `Judge` reads what the server sends, which is listed as it comes. Nothing is answered by itself, and reading can be
held so that what the server sends stays with it. Every wait is bounded by whoever waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from wslifecycle.conformance.judge import Judge
from wslifecycle.conformance.peer import joined

Seen: TypeAlias = dict[str, Any]


class Client(asyncio.Protocol):
    """A connection to a server. `seen` is all that was read; the last is `{"end": "eof"}` or `{"end": "reset"}`."""

    def __init__(self, judge: Judge, changed: Callable[[], None]) -> None:
        self.seen: list[Seen] = []
        self.raw = bytearray()
        """The last bytes that were read, a page of them at most."""
        self._judge = judge
        self._changed = changed
        self._transport: asyncio.Transport | None = None
        self._vanished = False

    @classmethod
    async def connect(
        cls,
        port: int,
        judge: Judge,
        changed: Callable[[], None],
        *,
        request: bytes | None = None,
        behind: bytes = b"",
        room: int | None = None,
    ) -> Client:
        """Opens a connection and sends a request, the judge's if none is given, with more bytes right behind it.

        `room`: the bytes that the system takes from the server while nothing is read. Raises `OSError`.
        """
        sock = await dial(port, room)
        try:
            _, client = await asyncio.get_running_loop().create_connection(lambda: cls(judge, changed), sock=sock)
        except BaseException:
            sock.close()
            raise
        client.write((judge.request if request is None else request) + behind)
        return client

    # ---------------------------------------------------------------------------------------- what comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of the server."""
        self.raw = (self.raw + data)[-4096:]
        self.seen += self._judge.feed(data)
        self._changed()

    def eof_received(self) -> bool:
        """The server has ended its side; ours stays open."""
        self._ends("eof")
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._ends("reset")

    def _ends(self, how: str) -> None:
        if not (self.ended or self._vanished):
            self.seen.append({"end": how})
            self._changed()

    @property
    def ended(self) -> bool:
        """Whether the server has ended the connection."""
        return bool(self.seen) and "end" in self.seen[-1]

    # ---------------------------------------------------------------------------------------- what goes

    def write(self, *pieces: bytes) -> None:
        """Sends bytes, each piece in a segment of its own if the system likes."""
        assert self._transport is not None
        for piece in pieces:
            if not self._transport.is_closing():
                self._transport.write(piece)

    def end(self) -> None:
        """Ends its side, and goes on reading."""
        assert self._transport is not None
        if not self._transport.is_closing():
            with contextlib.suppress(OSError):  # the server was faster
                self._transport.write_eof()

    def vanish(self) -> None:
        """Resets the connection."""
        assert self._transport is not None
        self._vanished = True
        sock = self._transport.get_extra_info("socket")
        if not self._transport.is_closing():
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def hold(self) -> None:
        """Reads nothing from now on."""
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Reads again."""
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.resume_reading()


async def dial(port: int, room: int | None = None) -> socket.socket:
    """A connected socket that does not block, to 127.0.0.1; `room` as for `Client.connect`. Raises `OSError`."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if room is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


def settled(seen: Sequence[Seen]) -> list[Seen]:
    """What was seen in a form that does not tell in how many pieces it came, nor how the connection ended.

    Whether a server ends a connection behind a whole HTTP response, or keeps it for another request, is its affair.
    """
    made: list[Seen] = []
    for entry in joined(seen):
        if "end" not in entry:
            made.append(entry)
        elif not (made and "http" in made[-1]):
            made.append({"end": True})
    return made
