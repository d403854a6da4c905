"""A WebSocket client in the hands of a scenario: it sends what it is told to and tells everything that it sees.

A `Judge` reads what the server sends. The connection itself is a plain TCP stream: nothing is sent that the scenario
does not say, no Close is answered by itself, and what the server sends behind a Close is read like everything else.
Every wait is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from websockets.frames import Close, Frame, Opcode

from wslifecycle.conformance.judge import Judge
from wslifecycle.conformance.scenarios import Act
from wslifecycle.statemachine.machine import lifecycle

START_UP = 20.0
"""Seconds until a server has taken a connection, and called the app."""

PATIENCE = 5.0
"""Seconds that something may take which the scenario says has to happen."""

MAX_SIZE = 65536
"""The largest message of the servers that are started here; `too_big` is one byte more."""


class Peer:
    """A client whose every step the scenario says; `seen` is what the server made it see, the `end` last.

    What the server may not do at all is seen as `invalid`, which no scenario expects.
    """

    def __init__(self, subprotocols: tuple[str, ...]) -> None:
        self.seen: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._subprotocols = subprotocols
        self._told = 0  # how many of what was seen are in the account of some act
        self._pump: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self, port: int) -> None:
        """Opens the connection and sends the handshake request."""
        async with asyncio.timeout(START_UP):
            reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        judge = Judge(f"ws://127.0.0.1:{port}/", self._subprotocols)
        self._writer.write(judge.request)
        self._pump = asyncio.create_task(self._read(reader, judge))

    async def _read(self, reader: asyncio.StreamReader, judge: Judge) -> None:
        """Reads to the end of the connection."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for entry in judge.feed(data):
                    self._see(entry)
        self._see({"end": True})

    def _see(self, entry: dict[str, Any]) -> None:
        self.seen.append(entry)
        self._changed.set()

    async def account(self, wanted: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
        """What was seen since the last account. Waits, as long as patience lasts, until that is what is wanted.

        What comes later than the wanted is told in the next account, so that nothing is missed.
        """
        kinds = [next(iter(entry)) for entry in wanted]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while [next(iter(entry)) for entry in joined(self.seen[self._told :])] != kinds:
                    if len(joined(self.seen[self._told :])) > len(kinds) + 2 or not wanted:
                        break  # it will not become what is wanted any more
                    self._changed.clear()
                    await self._changed.wait()
        await settle()
        fresh, self._told = self.seen[self._told :], len(self.seen)
        return joined(fresh)

    async def do(self, act: Act) -> None:
        """One stimulus of the peer."""
        assert self._writer is not None
        match act.stimulus:
            case "peer sends":
                opcode = Opcode.TEXT if isinstance(act.value, str) else Opcode.BINARY
                data = act.value.encode() if isinstance(act.value, str) else act.value
                self._writer.write(Frame(opcode, data).serialize(mask=True))
            case "peer pings":
                self._writer.write(Frame(Opcode.PING, act.value).serialize(mask=True))
            case "peer closes":
                close = Close(act.value["code"], act.value.get("reason", "")) if act.value else None
                self._writer.write(Frame(Opcode.CLOSE, close.serialize() if close else b"").serialize(mask=True))
            case "peer violates":
                self._writer.write(FRAMES[act.value]())
            case "peer floods":
                self._writer.write(bytes(lifecycle().flat.value("C14", "bytes") + 1))
            case "peer ends":
                self._writer.write_eof()
            case "peer vanishes":
                assert self._pump is not None
                self._pump.cancel()
                raw = self._writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()

    async def close(self) -> None:
        """Ends the connection and its task. Raises what the task failed with."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._writer.wait_closed()
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump


async def settle() -> None:
    """Lets what is ready run, so that an observation too many mostly shows in the act that brought it."""
    for _ in range(5):
        await asyncio.sleep(0)


def joined(seen: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A head, its chunks and its end in one act are one whole response; chunks in a row are one."""
    joined: list[dict[str, Any]] = []
    for entry in seen:
        if "chunk" in entry and joined and "chunk" in joined[-1]:
            joined[-1] = {"chunk": joined[-1]["chunk"] + entry["chunk"]}
        elif "response_end" in entry and joined and "head" in joined[-1]:
            joined[-1] = {"http": {**joined[-1]["head"], "body": b""}}
        elif "response_end" in entry and len(joined) > 1 and "head" in joined[-2]:
            chunk = joined.pop()["chunk"]
            joined[-1] = {"http": {**joined[-1]["head"], "body": chunk}}
        else:
            joined.append(entry)
    return joined


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\1\2\3\4"
) -> bytes:
    """A frame by hand, which may break any rule (RFC 6455 section 5.2); without a mask it breaks one for a client."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 65536 else 127
    longer = b"" if size < 126 else struct.pack("!H", size) if size < 65536 else struct.pack("!Q", size)
    head = bytes((fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short)) + longer
    if mask is None:
        return head + payload
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


FRAMES: dict[str, Callable[[], bytes]] = {
    "unmasked_frame": lambda: frame(1, b"hi", mask=None),
    "reserved_bits": lambda: frame(1, b"hi", rsv=4),
    "reserved_opcode": lambda: frame(3, b"hi"),
    "bad_utf8": lambda: frame(1, b"\xff\xfe"),
    "too_big": lambda: frame(2, bytes(MAX_SIZE + 1)),
    "stray_continuation": lambda: frame(0, b"hi"),
    "interrupted_fragments": lambda: frame(1, b"h", fin=False) + frame(1, b"i"),
    "fragmented_ping": lambda: frame(9, b"hi", fin=False),
    "long_ping": lambda: frame(9, bytes(126)),
    "one_byte_close": lambda: frame(8, b"\x03"),
    "close_code_1005": lambda: frame(8, struct.pack("!H", 1005)),
    "close_code_999": lambda: frame(8, struct.pack("!H", 999)),
    "bad_close_reason": lambda: frame(8, struct.pack("!H", 1000) + b"\xff\xfe"),
}
"""What a kind of `peer violates` puts on the wire."""
