"""A steady random load for as long as one likes: what grows, shows.

Visitors come and go: some echo, some count, some send what is no frame, end in the middle, vanish, or do not read for
a while. Beside them one connection echoes all the time; how long that takes is the latency. Each second the server's
memory and sockets are read. What is judged is that memory is as flat as it was once the server was warm, that nothing
was lost, and that nothing is left when the visitors are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wslifecycle.conformance.peer import frame
from wslifecycle.conformance.stress.client import DEFLATE, FAULTY, Refused, closing, connected, dialled, text
from wslifecycle.conformance.stress.site import Before, Site
from wslifecycle.conformance.stress.watch import MIB

VISITORS = 100
"""Those who are there at the same time."""

PAUSE = 0.2
"""Seconds that a visitor pauses at most between two visits."""

PATIENCE = 15.0
"""Seconds until everything has to be gone when the visitors are."""

GROWTH = 0.05
SLACK = 4 * MIB
"""By how much memory may be more in the last quarter of the time than in the second one, which is warm already: this
share of it, and so many bytes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One second. `memory` is in bytes, latencies are in seconds: that of half of the echoes, and of 99 in 100."""

    at: float
    memory: int
    sockets: int
    visits: int
    median: float
    late: float


@dataclass(slots=True)
class Soaked:
    """What came of it. `faults` says what is wrong; nothing, if it is empty."""

    server: str
    samples: list[Sample] = field(default_factory=list)
    visits: int = 0
    faults: list[str] = field(default_factory=list)


async def soak(site: Site, seconds: float, tell: Callable[[Sample], None], seed: int = 0) -> Soaked:
    """Has visitors come and go for so long; `tell` is told of each second."""
    done = Soaked(site.server.name)
    await site.echoes()
    before = site.before()
    begun = time.monotonic()
    chance = random.Random(seed)
    stop = asyncio.Event()
    visitors = [asyncio.create_task(_visitor(site.port, chance, stop, done)) for _ in range(VISITORS)]
    waits: list[float] = []
    probe = asyncio.create_task(_probe(site.port, stop, waits))
    while time.monotonic() - begun < seconds and site.process.alive and not probe.done():
        await asyncio.sleep(1)
        taken, waits[:] = sorted(waits), []
        half, most = (taken[len(taken) // 2], taken[int(len(taken) * 0.99)]) if taken else (1.0, 1.0)
        at = time.monotonic() - begun
        sample = Sample(at, site.watch.memory, site.watch.sockets, done.visits, half, most)
        done.samples.append(sample)
        tell(sample)
    stop.set()
    _, late = await asyncio.wait({probe, *visitors}, timeout=PATIENCE)
    for task in late:
        task.cancel()
    for ended in await asyncio.gather(probe, *visitors, return_exceptions=True):
        if isinstance(ended, Exception):
            done.faults.append(f"a visitor failed: {ended!r}")
    done.faults += grown([sample.memory for sample in done.samples])
    done.faults += await _left(site, before) if site.process.alive else ["the server has ended"]
    return done


def grown(memory: Sequence[int]) -> list[str]:
    """What is wrong about memory; nothing where there is too little to say."""
    quarter = len(memory) // 4
    if not quarter:
        return []
    warm, last = statistics.median(memory[quarter : 2 * quarter]), statistics.median(memory[-quarter:])
    if last <= warm * (1 + GROWTH) + SLACK:
        return []
    return [f"memory grew from {warm / MIB:.0f} to {last / MIB:.0f} MiB"]


async def _left(site: Site, before: Before) -> list[str]:
    """What is wrong when all are gone."""
    left = await site.left(before, "echo", "numbers", seconds=PATIENCE)
    faults = ["apps are left"] if left.apps else []
    if left.sockets:
        faults.append(f"{left.sockets} sockets are left")
    if left.disorder:
        faults.append(f"messages were lost: {left.disorder[0]}")
    if left.tracebacks:
        faults.append(f"{left.tracebacks} tracebacks in the log")
    return faults


async def _probe(port: int, stop: asyncio.Event, waits: list[float]) -> None:
    """Echoes all the time; notes how long it takes."""
    async with connected(port) as client:
        while not stop.is_set():
            begun = time.perf_counter()
            await client.send(text("probe"))
            await client.message()
            waits.append(time.perf_counter() - begun)
            await asyncio.sleep(0.02)


# ------------------------------------------------------------------------------------------------ visitors


async def _visitor(port: int, chance: random.Random, stop: asyncio.Event, done: Soaked) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError, EOFError, TimeoutError, Refused):
            await chance.choices(VISITS, WEIGHTS)[0](port, chance)
        done.visits += 1
        await asyncio.sleep(chance.random() * PAUSE)


async def _echoes(port: int, chance: random.Random) -> None:
    async with connected(port, fields=DEFLATE if chance.random() < 0.3 else "") as client:
        for _ in range(chance.randrange(1, 8)):
            await client.send(frame(2, bytes(int(10 ** (chance.random() * 4.8)))), frame(9, b"hi"))
            await client.frame()
            await client.frame()
        await client.send(closing())
        await client.closed(5)


async def _counts(port: int, chance: random.Random) -> None:
    """Sends numbers in a row, and is gone at any moment."""
    async with connected(port, "numbers") as client:
        await client.send(*(text(f"{number}") for number in range(chance.randrange(200))))
        if chance.random() < 0.5:
            client.vanish()
        else:
            client.finish()
            await client.rest(5)


async def _breaks_rules(port: int, chance: random.Random) -> None:
    async with connected(port) as client:
        await client.send(text("one"), chance.choice(list(FAULTY.values()))())
        await client.closed(5)


async def _garbles(port: int, chance: random.Random) -> None:
    async with dialled(port) as client:
        await client.send(chance.randbytes(chance.randrange(1, 2000)))
        client.finish()
        await client.rest(5)


async def _does_not_read(port: int, chance: random.Random) -> None:
    async with connected(port, "pour", room=1 << 14):
        await asyncio.sleep(chance.random())


VISITS: tuple[Callable[[int, random.Random], Awaitable[None]], ...] = (
    _echoes,
    _counts,
    _breaks_rules,
    _garbles,
    _does_not_read,
)
WEIGHTS = (60, 20, 8, 8, 4)
"""How often each comes."""


# ------------------------------------------------------------------------------------------------ the picture


def draw(done: Soaked, file: Path) -> None:
    """A picture of the time: memory, sockets, latency. Raises `ImportError` without matplotlib."""
    from matplotlib.figure import Figure

    at = [sample.at / 60 for sample in done.samples]
    lines: tuple[tuple[str, dict[str, list[float]]], ...] = (
        ("memory (MiB)", {"": [sample.memory / MIB for sample in done.samples]}),
        ("sockets", {"": [sample.sockets for sample in done.samples]}),
        (
            "latency of an echo (ms)",
            {
                "half within": [1000 * sample.median for sample in done.samples],
                "99 % within": [1000 * sample.late for sample in done.samples],
            },
        ),
    )
    figure = Figure(figsize=(9, 7), layout="constrained")
    figure.suptitle(f"{done.server}: {done.visits:,} visits")
    for place, (title, curves) in zip(figure.subplots(len(lines), sharex=True), lines, strict=True):
        for label, values in curves.items():
            place.plot(at, values, label=label, linewidth=1)
        place.set_ylabel(title)
        place.set_ylim(0, 1.15 * max(max(values, default=1.0) for values in curves.values()) or 1.0)
        place.grid(alpha=0.3)
        if len(curves) > 1:
            place.legend(loc="upper right")
    place.set_xlabel("minutes")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
