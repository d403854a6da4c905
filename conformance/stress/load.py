"""Many connections to one server: idle, busy, and all at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from wslifecycle.conformance.stress.client import Client, Refused, connected, parsed, request, text
from wslifecycle.conformance.stress.results import Figure
from wslifecycle.conformance.stress.site import Site

IDLE = 5000
BUSY = 1000
SECONDS = 10.0
LATE = 20.0
"""Seconds after which an answer does not come any more."""

BESIDE = 200
"""Handshakes that go on at the same time, where not all are meant to."""


class Counting(asyncio.Protocol):
    """A peer that counts: it sends a number, and the next one as soon as that has come back, until `stop` says so."""

    def __init__(self, waits: list[float], stop: Callable[[], bool]) -> None:
        self.next = 0
        self.fault = ""
        self.over = asyncio.get_running_loop().create_future()
        self._data = bytearray()
        self._head = False
        self._sent = 0.0
        self._stop = stop
        self._transport: asyncio.Transport
        self._waits = waits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(request("numbers"))

    def data_received(self, data: bytes) -> None:
        """Checks what comes."""
        self._data += data
        if not self._head:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._end("refused")
                return
            self._head, self._data = True, rest
            self._send()
        while (found_frame := parsed(self._data)) is not None:
            if found_frame == (1, b"%d" % self.next):
                self._waits.append(time.perf_counter() - self._sent)
                self.next += 1
                if self._stop():
                    self._end("")
                    return
                self._send()
            elif found_frame[0] in (1, 2, 8):
                self._end(f"{found_frame} instead of {self.next}")
                return

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._end("lost")

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(text(f"{self.next}"))

    def _end(self, fault: str) -> None:
        if not self.over.done():
            self.fault = fault
            self.over.set_result(None)
            self._transport.abort()


async def busy(site: Site) -> Figure:
    """A thousand peers that count as fast as they are answered: messages a second, how long 99 of 100 wait, faults."""
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    end = time.perf_counter() + SECONDS + 5
    peers = []
    for _ in range(BUSY):
        try:
            _, peer = await loop.create_connection(
                lambda: Counting(waits, lambda: time.perf_counter() > end), "127.0.0.1", site.port
            )
        except OSError:
            return Figure("refuses connections", False)
        peers.append(peer)
    waits.clear()
    begun = time.perf_counter()
    end = begun + SECONDS
    _, pending = await asyncio.wait({peer.over for peer in peers}, timeout=SECONDS + LATE)
    rate = len(waits) / (time.perf_counter() - begun)
    faults = len(pending) + sum(bool(peer.fault) for peer in peers)
    for peer in peers:
        peer.connection_lost(None)
    if not waits:
        return Figure("no answers", False)
    late = sorted(waits)[int(len(waits) * 0.99)]
    lost = f", {faults} lost" if faults else ""
    return Figure(f"{rate:,.0f}/s, 99 % in {1000 * late:.0f} ms{lost}", not faults)


async def storm(site: Site) -> Figure:
    """A thousand connections at once, each of which echoes one message; three times. How many are not served."""
    failed = 0

    async def visit() -> None:
        nonlocal failed
        try:
            async with asyncio.timeout(30), connected(site.port) as client:
                await client.send(text("hello"))
                if await client.message(30) != "hello":
                    failed += 1
        except (Refused, OSError, EOFError, TimeoutError):
            failed += 1

    begun = time.perf_counter()
    for _ in range(3):
        await asyncio.gather(*(visit() for _ in range(1000)))
    took = time.perf_counter() - begun
    return Figure(f"{failed}, {3000 / took:,.0f}/s", not failed)


async def idle(site: Site) -> Figure:
    """Five thousand idle connections: KiB of each, and whether all of them are served then."""
    for _ in range(50):
        await site.echoes()
    before = site.watch.memory
    gate = asyncio.Semaphore(BESIDE)
    async with contextlib.AsyncExitStack() as stack:

        async def enter() -> Client:
            async with gate:
                return await stack.enter_async_context(connected(site.port))

        try:
            clients = await asyncio.gather(*(enter() for _ in range(IDLE)))
        except (Refused, OSError) as error:
            return Figure(f"refused: {error!r:.40}", False)
        each = (site.watch.memory - before) / IDLE / 1024
        lost = 0
        for client in clients:
            try:
                await client.send(text("still there"))
                lost += await client.message() != "still there"
            except (OSError, EOFError, TimeoutError):
                lost += 1
    return Figure(f"{each:.0f} KiB" + (f", {lost} lost" if lost else ""), not lost)
