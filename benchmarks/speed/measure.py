"""Measures: all servers run at the same time, and take turns.

In each round, for each kind of load, everybody takes one burst, in an order that is shuffled anew: what the machine
does besides hits all alike, and two bursts of one round can be held against each other. What a burst costs is what the
kernel says that all threads of the server have run.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import app
from benchmarks.speed.columns import MANY, STEPS, Column
from benchmarks.speed.contenders import Contender
from benchmarks.speed.remote import Failed, Load
from benchmarks.speed.results import Burst, Memory, Report
from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress.watch import Watch

WARM = 0.1
"""Seconds of a burst before the one that is measured; at most a quarter as long."""

MEMORY_ROUNDS = 3
"""Memory differs so little that more say nothing; it is looked at in every other round."""

FAMILIAR = 20
"""Connections that come and go before memory is measured."""

SETTLE = 5.0
"""Seconds that a server may take until it does nothing any more."""


class Meter(Watch):
    """Reads how long the threads of a server have run. Linux only."""

    def __init__(self, leader: int) -> None:
        super().__init__(leader)
        self._seen: dict[str, int] = {}

    @property
    def nanoseconds(self) -> int:
        """What all threads have run; one that has ended counts with what was last seen of it."""
        for folder in self._processes():
            for file in folder.glob("task/*/schedstat"):
                with contextlib.suppress(OSError):
                    self._seen[file.parent.name] = int(file.read_text().split()[0])
        return sum(self._seen.values())


class Racer:
    """A contender that runs."""

    def __init__(self, contender: Contender, process: servers.Running) -> None:
        self.contender = contender
        self.port = process.port
        self.meter = Meter(process.pid)
        self._process = process

    async def burst(self, load: Load, column: Column, turn: int, seconds: float) -> Burst:
        """One burst. What goes wrong is told in it."""
        label = self.contender.label
        try:
            if column.kind == "visits":
                told, cpu = await self._visits(load, seconds)
            else:
                told, cpu = await self._echoes(load, column, seconds)
        except Failed as error:
            status = self._process.returncode
            fault = str(error) if status is None else f"it has ended with status {status}"
            return Burst(label, column.name, turn, fault=fault)
        return Burst(label, column.name, turn, cpu=cpu, **told)

    async def _echoes(self, load: Load, column: Column, seconds: float) -> tuple[dict[str, Any], int]:
        burst = {"size": column.size, "outstanding": column.outstanding}
        await load.tell("open", port=self.port, connections=column.connections, frames=self.contender.frames)
        await load.tell("burst", seconds=min(WARM, seconds / 4), **burst)
        before = self.meter.nanoseconds
        told = await load.tell("burst", seconds=seconds, **burst)
        cpu = self.meter.nanoseconds - before
        await load.tell("close")
        return told, cpu

    async def _visits(self, load: Load, seconds: float) -> tuple[dict[str, Any], int]:
        await load.tell("visits", port=self.port, seconds=min(WARM, seconds / 4))
        before = self.meter.nanoseconds
        told = await load.tell("visits", port=self.port, seconds=seconds)
        return told, self.meter.nanoseconds - before


@contextlib.asynccontextmanager
async def raced(contender: Contender, folder: Path) -> AsyncIterator[Racer]:
    """Starts a contender. Raises `servers.NotStarted`."""
    log = folder / f"{contender.label}.log".replace(" ", "-")
    running = servers.running(contender.server, folder, {}, log=log, **contender.options)
    async with running as process:
        yield Racer(contender, process)


async def memory(contender: Contender, folder: Path, load: Load, turn: int) -> Memory:
    """What idle connections take, on a fresh server that has served some."""
    steps = STEPS if contender.charted else (0, MANY)
    resident = []
    try:
        async with raced(contender, folder) as racer:
            await _echoed(load, racer.port, FAMILIAR)
            await load.tell("close")
            await _still(racer.meter)
            for before, step in zip((0, *steps), steps, strict=False):
                if step:
                    await _echoed(load, racer.port, step - before)
                    await _still(racer.meter)
                resident.append((step, racer.meter.memory))
            await load.tell("close")
    except (Failed, servers.NotStarted) as error:
        return Memory(contender.label, turn, fault=_why(error))
    return Memory(contender.label, turn, tuple(resident))


async def _echoed(load: Load, port: int, connections: int) -> None:
    """Opens more connections, all of which have echoed."""
    await load.tell("open", port=port, connections=connections, frames=True)
    await load.tell("burst", seconds=0.0, size=16, outstanding=1)


async def _still(meter: Meter) -> None:
    """Waits until a server does next to nothing, or for as long as it may take."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE):
            before = meter.nanoseconds
            while True:
                await asyncio.sleep(0.05)
                now = meter.nanoseconds
                if now - before < 2_000_000:
                    return
                before = now


def _why(error: Exception) -> str:
    """What an error says, with no more of a log than its last line."""
    lines = str(error).strip().splitlines()
    return " ... ".join(dict.fromkeys((lines[0], lines[-1])))


# ------------------------------------------------------------------------------------------------ all of them


def turns(report: Report, contenders: Sequence[Contender], seed: int = 0) -> Iterator[tuple[int, Column, Contender]]:
    """Who is when: in each round all columns, in each column everybody, in an order of chance."""
    chance = random.Random(seed)
    for turn in range(report.rounds):
        for column in report.columns:
            if column.kind == "memory" and (turn % 2 or turn >= 2 * MEMORY_ROUNDS):
                continue
            takes = [one for one in contenders if one.takes(column)]
            chance.shuffle(takes)
            for one in takes:
                yield turn, column, one


async def measure(report: Report, contenders: Sequence[Contender], tell: Callable[[int, int, str], None]) -> None:
    """Measures everything into a report; `tell` is told how many turns are over, of how many, and whose is next.

    If it is cancelled, the report has what was measured.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(servers.laid(app.__file__))
        load = await stack.enter_async_context(Load())
        racers: dict[str, Racer] = {}
        for one in contenders:
            tell(0, 0, f"start {one.label}")
            try:
                racers[one.label] = await stack.enter_async_context(raced(one, folder))
            except servers.NotStarted as error:
                report.notes.append(f"{one.label} is left out. {_why(error)}")
        plan = list(turns(report, [one for one in contenders if one.label in racers]))
        for number, (turn, column, one) in enumerate(plan):
            tell(number, len(plan), f"{column.name}, {one.label}")
            if column.kind == "memory":
                report.memory.append(await memory(one, folder, load, turn))
            else:
                report.bursts.append(await racers[one.label].burst(load, column, turn, report.seconds))
        tell(len(plan), len(plan), "")
