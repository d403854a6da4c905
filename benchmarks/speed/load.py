"""The load client: a process that is told by lines of JSON what to do, and tells by lines of JSON what came of it.

    {"do": "open", "port": 8000, "connections": 50, "frames": true}     connects; without frames, only TCP
    {"do": "burst", "size": 16, "outstanding": 1, "seconds": 0.5}       echoes on those that are open
    {"do": "close"}                                                     closes them
    {"do": "visits", "port": 8000, "seconds": 0.5}        connects, echoes once, closes, again and again

The only argument is how many seconds a handshake, an echo or the end of a connection may take.

It has to take less of a processor than any server: picows on uvloop, frames that are made once and only written, and a
few lines of Python for each echo. Every wait is bounded, and whatever is wrong is told as `fault`. It offers no
extension.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import uvloop
from picows import WSError

from benchmarks.speed.connections import Burst, Fault, Framed, Raw, connect

BESIDE = 50
"""Handshakes that go on at the same time."""

Told: TypeAlias = dict[str, Any]


async def together(work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Does all of it, so many at a time. Where one fails, the others are given up, and what it raises is raised."""
    gate = asyncio.Semaphore(BESIDE)

    async def one(part: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await part()

    try:
        async with asyncio.TaskGroup() as group:
            for part in work:
                group.create_task(one(part))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


class Client:
    """What is told to do things."""

    def __init__(self, patience: float) -> None:
        self.open: list[Framed | Raw] = []
        self._patience = patience
        self._acts: dict[str, Callable[..., Awaitable[Told]]] = {
            "open": self._open,
            "burst": self._burst,
            "close": self._close,
            "visits": self._visits,
        }

    async def do(self, order: Told) -> Told:
        """Does what an order says; whatever goes wrong is its `fault`, and ends all connections."""
        try:
            return await self._acts[order.pop("do")](**order)
        except (Fault, OSError, WSError, TimeoutError) as error:
            for connection in self.open:
                connection.drop()
            self.open.clear()
            return {"fault": str(error)[:200] or "not in time"}

    async def _open(self, port: int, connections: int, frames: bool) -> Told:
        async def one() -> None:
            self.open.append(await connect(port, frames, self._patience))

        await together([one] * connections)
        return {}

    async def _burst(self, size: int, outstanding: int, seconds: float) -> Told:
        loop = asyncio.get_running_loop()
        burst = Burst(size, outstanding)
        wall, cpu = time.perf_counter(), time.process_time()
        for connection in self.open:
            connection.begin(burst)
        timer = loop.call_later(seconds, burst.stop)
        try:
            async with asyncio.timeout(seconds + self._patience):
                await burst.over
        finally:
            timer.cancel()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            burst.over.cancel()
        return {"messages": burst.messages, "wall": wall, "client": cpu / wall}

    async def _close(self) -> Told:
        open_, self.open = self.open, []
        try:
            await together(partial(connection.close, self._patience) for connection in open_)
        finally:
            for connection in open_:
                connection.drop()
        return {}

    async def _visits(self, port: int, seconds: float) -> Told:
        """Visitors beside each other, each of which comes again and again."""
        visits = 0
        wall, cpu = time.perf_counter(), time.process_time()
        end = wall + seconds

        async def visitor() -> None:
            nonlocal visits
            while time.perf_counter() < end:
                connection = await connect(port, True, self._patience)
                burst = Burst(16, 1)
                burst.goes_on = False
                try:
                    connection.begin(burst)
                    async with asyncio.timeout(self._patience):
                        await burst.over
                    await connection.close(self._patience)
                finally:
                    connection.drop()
                visits += 1

        await together([visitor] * BESIDE)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"messages": visits, "wall": wall, "client": cpu / wall}


async def main() -> None:
    """Reads orders until there are no more."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    client = Client(float(sys.argv[1]))
    while line := await orders.readline():
        print(json.dumps(await client.do(json.loads(line))), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
