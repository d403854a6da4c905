"""Connections of the load client: WebSockets by picows, and plain TCP. They send what is made already, and count."""

from __future__ import annotations

import asyncio
from typing import Any

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from wslifecycle.conformance.peer import frame

MASK = b"\x12\x34\x56\x78"


class Fault(Exception):
    """What a server does wrong."""


class Burst:
    """Echoes on some connections: what is due, what has come, and when it is over."""

    def __init__(self, size: int, outstanding: int) -> None:
        self.frame = frame(2, bytes(size), mask=MASK)
        self.outstanding = outstanding
        self.size = size
        self.due = 0
        self.messages = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.goes_on = True

    def stop(self) -> None:
        """No more is sent; what is due may still come."""
        self.goes_on = False

    def came(self, count: int) -> bool:
        """So many echoes have come on a connection; whether as many messages are to be sent again."""
        self.messages += count
        if count > self.outstanding:
            self.fail("more messages came than were sent")
        elif self.goes_on:
            return True
        self.due -= count
        if not self.due and not self.over.done():
            self.over.set_result(None)
        return False

    def fail(self, says: str) -> None:
        """Something is wrong."""
        if not self.over.done():
            self.over.set_exception(Fault(says))


class Framed(WSListener):
    """A WebSocket of the client."""

    def __init__(self) -> None:
        self.burst: Burst | None = None
        self.closed = False
        self.transport: WSTransport
        self._count = 0
        self._part = 0
        self._write: Any

    def on_ws_connected(self, transport: WSTransport) -> None:
        """It is open."""
        self.transport = transport
        self._write = transport.underlying_transport.write

    def begin(self, burst: Burst) -> None:
        """Sends the first messages of a burst."""
        self.burst = burst
        burst.due += burst.outstanding
        self._write(burst.frame * burst.outstanding)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Counts, and sends again: as many at once as have come at once."""
        burst = self.burst
        if burst is None:
            self._other(frame)
            return
        if frame.payload_size == burst.size and frame.fin:
            self._count += 1
        else:
            self._other(frame)
        if frame.last_in_buffer and self._count:
            count, self._count = self._count, 0
            if burst.came(count):
                self._write(burst.frame if count == 1 else burst.frame * count)

    def _other(self, frame: WSFrame) -> None:
        """Any other frame than an echo in one."""
        burst, kind = self.burst, frame.msg_type
        if kind == WSMsgType.CLOSE:
            self.closed = True
            if not self.transport.is_close_frame_sent:
                self.transport.send_close(WSCloseCode.OK)
            if burst is not None:
                burst.fail(f"the server has closed with {frame.get_close_code()}")
        elif kind == WSMsgType.PING:
            self.transport.send_pong(frame.get_payload_as_bytes())
        elif kind != WSMsgType.PONG and burst is not None:
            self._part += frame.payload_size
            if frame.fin and self._part == burst.size:
                self._part = 0
                self._count += 1
            elif frame.fin or self._part > burst.size:
                burst.fail(f"{self._part} bytes came instead of {burst.size}")

    def pause_writing(self) -> None:
        """Nothing: no more is sent than what is due."""

    def resume_writing(self) -> None:
        """Nothing."""

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It has ended."""
        if self.burst is not None:
            self.burst.fail("the connection is lost")

    async def close(self, patience: float) -> None:
        """The closing handshake. Raises `Fault` where the server does not take part, `TimeoutError`."""
        self.burst = None
        self.transport.send_close(WSCloseCode.OK)
        try:
            async with asyncio.timeout(patience):
                await self.transport.wait_disconnected()
        finally:
            self.drop()
        if not self.closed:
            raise Fault("a Close was not answered")

    def drop(self) -> None:
        """Ends it at once."""
        self.burst = None
        self.transport.disconnect(graceful=False)


class Raw(asyncio.Protocol):
    """A TCP connection of the client: as many bytes have to come back as were sent."""

    def __init__(self) -> None:
        self.burst: Burst | None = None
        self._bytes = 0
        self._transport: Any  # uvloop's is no asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        """It is open."""
        self._transport = transport

    def begin(self, burst: Burst) -> None:
        """Sends the first messages of a burst."""
        self.burst = burst
        burst.due += burst.outstanding
        self._transport.write(burst.frame * burst.outstanding)

    def data_received(self, data: bytes) -> None:
        """Counts, and sends again."""
        burst = self.burst
        if burst is None:
            return
        count, self._bytes = divmod(self._bytes + len(data), len(burst.frame))
        if count and burst.came(count):
            self._transport.write(burst.frame * count)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if self.burst is not None:
            self.burst.fail("the connection is lost")

    async def close(self, patience: float) -> None:
        """Ends it."""
        self.drop()

    def drop(self) -> None:
        """Ends it at once."""
        self.burst = None
        self._transport.abort()


async def connect(port: int, frames: bool, patience: float) -> Framed | Raw:
    """A connection. Raises `Fault`, `OSError`, `WSError`, `TimeoutError`."""
    async with asyncio.timeout(patience):
        if frames:
            url = f"ws://127.0.0.1:{port}/"
            _, opened = await ws_connect(
                Framed, url, websocket_handshake_timeout=patience, enable_auto_pong=False, max_redirects=0
            )
            if not isinstance(opened, Framed):  # picows has no listener where the connection was lost
                raise Fault("the handshake was not answered")
            return opened
        _, raw = await asyncio.get_running_loop().create_connection(Raw, "127.0.0.1", port)
        return raw
