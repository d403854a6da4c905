"""Sockets in memory: the one that asyncio's own transports read and write, and the far end in the hands of a test.

What is here replaces the kernel and the network, and nothing of asyncio. Both ends behave as those of TCP on Linux do:
what was written before an end is read before it; a write to a peer that has closed succeeds, and brings a reset; an end
that is closed with something unread is a reset. Nothing is ever real: no file descriptor, no address, no time.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable, Hashable, Sequence

Choose = Callable[[Sequence[Hashable]], int]


class Near:
    """The server's end: what a transport of asyncio calls of a socket. `room`: bytes that may be on the way at once."""

    family = socket.AF_UNSPEC  # of no options that asyncio would set
    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, number: int, room: int, choose: Choose) -> None:
        self.far = Far(self)
        self.arrived: deque[bytes] = deque()
        self.sent = bytearray()
        self.room = room
        self.taken = 0
        """How many bytes of the far end were read here."""
        self.on_read: Callable[[int], None] | None = None
        """Called with `taken` after each read, also of the end, before the transport tells its protocol."""
        self._choose = choose
        self._number = number

    def __repr__(self) -> str:
        return f"connection {self._number}"

    @property
    def readable(self) -> bool:
        """Whether there is something to read, be it an end."""
        return bool(self.arrived) or self.far.ended or self.far.gone

    @property
    def writable(self) -> bool:
        """Whether something can be written, be it in vain: a connection that is lost has room."""
        return len(self.sent) < self.room

    def recv(self, size: int) -> bytes:
        """What has arrived, b"" at the end. In which pieces it has arrived is chosen; the stock order: all of it."""
        if not self.arrived:
            if self.far.broken:
                raise ConnectionResetError("Connection reset by peer")
            if not self.far.ended:
                raise BlockingIOError
            if self.on_read is not None:
                self.on_read(self.taken)
            return b""  # even if a reset has come after the end
        options = self._cuts(size)
        cut = options[self._choose(options) if len(options) > 1 else 0]
        if cut == 0:
            self.arrived.clear()  # the reset has overtaken it
            raise ConnectionResetError("Connection reset by peer")
        data = b"".join(self.arrived)
        self.arrived.clear()
        if cut < len(data):
            self.arrived.append(data[cut:])
        self.taken += cut
        if self.on_read is not None:
            self.on_read(self.taken)
        return data[:cut]

    def _cuts(self, size: int) -> list[int]:
        """How many bytes may come at once: all, whole pieces as they were written, parts of the first. 0: a reset."""
        ends, total = [], 0
        for piece in self.arrived:
            total += len(piece)
            ends.append(total)
        first = ends[0]
        cuts = (total, *ends[:-1], 1, first // 2, first - 1)
        fit = dict.fromkeys(min(cut, size) for cut in cuts if cut > 0)
        return [*fit, 0] if self.far.gone else list(fit)

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """The same into a buffer."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Takes as much as there is room for. How much room there is, is chosen; the stock order: all that there is."""
        if self.far.broken:
            raise ConnectionResetError("Connection reset by peer")
        if self.far.gone:
            raise BrokenPipeError("Broken pipe")
        if self.far.closed:
            self.far.gone = True  # its answer is a reset
            return min(len(data), self.room)
        free = min(self.room - len(self.sent), len(data))
        options = [cut for cut in dict.fromkeys((free, free // 2, 0)) if cut or self.sent]
        size = options[self._choose(options) if len(options) > 1 else 0] if options else 0
        if not size:
            raise BlockingIOError
        self.sent += data[:size]
        return size

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        """The same of several pieces."""
        return self.send(b"".join(buffers))

    def shutdown(self, how: int) -> None:
        """Ends this side. Raises `OSError` if the connection is lost, whether or not that was noticed here."""
        if self.far.gone:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self.far.told_end = True

    def close(self) -> None:
        """Closes this end: an orderly end, or a reset where something was not read."""
        self.far.told_reset = bool(self.arrived) and not self.far.told_end
        self.far.told_end = self.far.gone = True

    def setblocking(self, flag: bool) -> None:
        """Nothing here blocks."""

    def gettimeout(self) -> float:
        """Nothing here blocks."""
        return 0.0

    def fileno(self) -> int:
        """A number that is no file descriptor."""
        return 1_000_000 + self._number

    def getsockname(self) -> tuple[str, int]:
        """An address of documentation (RFC 5737)."""
        return "192.0.2.1", 80

    def getpeername(self) -> tuple[str, int]:
        """An address of documentation (RFC 5737), the port by the number of the connection."""
        return "192.0.2.2", 50000 + self._number

    def setsockopt(self, *args: object) -> None:
        """There are no options."""


class Far:
    """The peer's end. What it writes has arrived at once; when it is read, and in which pieces, is the schedule's."""

    def __init__(self, near: Near) -> None:
        self._near = near
        self.broken = False
        """The peer has reset the connection and had not ended its side before."""
        self.closed = False
        """The peer has closed its socket: it reads nothing more."""
        self.ended = False
        """The peer has ended its side."""
        self.gone = False
        """The connection is lost, by a reset or because both ends are closed."""
        self.told_end = False
        """The server has ended its side; it is seen once everything before it is read."""
        self.told_reset = False
        """The server has reset the connection and had not ended its side before: else its end is all that is read."""
        self.written = 0
        """How many bytes were written."""

    def watch(self, on_read: Callable[[int], None]) -> None:
        """Has it told how much the server has read, after each read and once more at the end."""
        self._near.on_read = on_read

    @property
    def unread(self) -> int:
        """How many bytes are here to be read."""
        return len(self._near.sent)

    @property
    def at_end(self) -> bool:
        """Whether everything was read, up to the end of the server's side."""
        return self.told_end and not self._near.sent

    def write(self, data: bytes) -> None:
        """Sends bytes, in one segment. They are lost if the server has closed."""
        if self.ended or self.closed:
            raise ValueError("This side has ended.")
        self.written += len(data)
        if data and not self.gone:
            self._near.arrived.append(bytes(data))

    def write_eof(self) -> None:
        """Ends this side."""
        self.ended = True

    def read(self, size: int = -1) -> bytes:
        """What the server has sent, so many bytes at most, which makes room for more."""
        sent = self._near.sent
        data = bytes(sent[:size] if size >= 0 else sent)
        del sent[: len(data)]
        return data

    def close(self) -> None:
        """Closes the socket: an orderly end, or a reset where something was not read."""
        if self._near.sent:
            self.reset()
        self.ended = self.closed = True

    def reset(self) -> None:
        """Drops the connection by a reset."""
        self.broken = not self.ended
        self.ended = self.closed = self.gone = True
        self._near.sent.clear()
