"""A second opinion: `detangle`, another library that runs asyncio programs in many orders, on the same programs.

Both have a lane for each task and one for everything else, and 0 is the stock order. So within the same bound there are
the same orders of task steps; on programs that are drawn at random both must find the same ones, and on programs with a
fault agree whether an order shows it. `detangle` counts a choice of the third option as two deviations: it is asked for
every order there is, or compared where there are two options only.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import detangle
import pytest

from wslifecycle.conformance.orders.explore import search
from wslifecycle.conformance.orders.schedulers import Dfs, Fifo, Level, Scheduler

Toy = Callable[[], Coroutine[Any, Any, object]]
WITHOUT_BOUND = 10_000


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """`detangle` replaces parts of asyncio, once and for good: they are put back."""
    for primitive in (asyncio.Lock, asyncio.Semaphore):
        for name in ("acquire", "release"):
            monkeypatch.setattr(primitive, name, getattr(primitive, name))


def ours(toy: Toy, scheduler: Scheduler, most: int = 50_000) -> bool:
    """Whether an order fails here."""
    explored = search(lambda loop: toy(), scheduler, level=Level.LANES, schedules=most)
    assert explored.complete or explored.failure is not None or isinstance(scheduler, Fifo)
    return explored.failure is not None


def theirs(toy: Toy, strategy: detangle.Strategy, most: int = 50_000) -> bool:
    """Whether one fails there."""
    try:
        stats = detangle.explore(toy, strategy=strategy, runs=most, shrink=False, database=False, check_leaks=True)
    except detangle.BugFound:
        return True
    assert stats.exhausted or strategy.name == "fifo"
    return False


def lost(steps: int) -> Toy:
    """Loses an update where one task overtakes the other by so many steps."""

    async def main() -> None:
        value = 0

        async def adds(later: int) -> None:
            nonlocal value
            for _ in range(later):
                await asyncio.sleep(0)
            read = value
            await asyncio.sleep(0)
            value = read + 1

        await asyncio.gather(adds(0), adds(steps))
        assert value == 2

    return main


def locked(steps: int) -> Toy:
    """The same with a lock: right."""

    async def main() -> None:
        value, lock = 0, asyncio.Lock()

        async def adds(later: int) -> None:
            nonlocal value
            for _ in range(later):
                await asyncio.sleep(0)
            async with lock:
                read = value
                await asyncio.sleep(0)
                value = read + 1

        await asyncio.gather(adds(0), adds(steps))
        assert value == 2

    return main


async def deadlock() -> None:
    """Two locks, taken in two orders: one waits for the other, if the steps fall so."""
    locks = asyncio.Lock(), asyncio.Lock()

    async def takes(first: asyncio.Lock, second: asyncio.Lock, later: int) -> None:
        for _ in range(later):
            await asyncio.sleep(0)
        async with first:
            await asyncio.sleep(0)
            async with second:
                await asyncio.sleep(0)

    await asyncio.gather(takes(locks[0], locks[1], 0), takes(locks[1], locks[0], 4))


async def missed() -> None:
    """Waits for an event that is set and cleared at once: whoever waits has to be there before."""
    event = asyncio.Event()

    async def pulses() -> None:
        await asyncio.sleep(0)
        event.set()
        event.clear()

    async def waits() -> None:
        await event.wait()

    await asyncio.gather(waits(), pulses())


async def order() -> None:
    """Relies on the order in which two tasks put into a queue."""
    queue = asyncio.Queue[int]()

    async def puts(number: int) -> None:
        await asyncio.sleep(0)
        await queue.put(number)

    await asyncio.gather(puts(1), puts(2))
    assert [queue.get_nowait(), queue.get_nowait()] == [1, 2]


async def cancelled() -> None:
    """Cancels a task that has got an item, and loses it, if the cancellation comes in between."""
    queue, got = asyncio.Queue[int](), list[int]()

    async def takes() -> None:
        item = await queue.get()
        await asyncio.sleep(0)
        got.append(item)

    task = asyncio.create_task(takes())
    queue.put_nowait(1)
    for _ in range(4):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert got == [1]


async def late() -> None:
    """A callback that comes before or after a task."""
    log = list[str]()

    async def task() -> None:
        log.append("task")

    made = asyncio.create_task(task())
    asyncio.get_running_loop().call_soon(log.append, "callback")
    await made
    await asyncio.sleep(0)
    assert log[0] == "task"


async def callbacks() -> None:
    """Callbacks keep their order: right."""
    log = list[int]()

    async def calls() -> None:
        for _ in range(2):
            asyncio.get_running_loop().call_soon(log.append, len(log))
            await asyncio.sleep(0)

    await asyncio.gather(calls(), calls())
    assert log == sorted(log)


TOYS: dict[str, tuple[Toy, int, bool]] = {
    "lost update, 1 step": (lost(1), 1, True),
    "lost update, 2 steps": (lost(2), 2, True),
    "lost update, 2 steps, 1 deviation": (lost(2), 1, False),
    "lost update, 3 steps": (lost(3), 3, True),
    "lost update, 3 steps, 2 deviations": (lost(3), 2, False),
    "lock, 1 step": (locked(1), 3, False),
    "lock, 3 steps": (locked(3), 3, False),
    "deadlock": (deadlock, WITHOUT_BOUND, True),
    "missed event": (missed, WITHOUT_BOUND, True),
    "order of a queue": (order, WITHOUT_BOUND, True),
    "lost item": (cancelled, WITHOUT_BOUND, True),
    "callback before a task": (late, WITHOUT_BOUND, True),
    "order of callbacks": (callbacks, 3, False),
}


@pytest.mark.parametrize("name", TOYS)
def test_both_agree_whether_an_order_shows_a_fault(name: str) -> None:
    toy, bound, fails = TOYS[name]
    assert ours(toy, Dfs(bound)) is theirs(toy, detangle.DFS(max_delays=bound)) is fails


@pytest.mark.parametrize("name", TOYS)
def test_both_agree_that_the_stock_order_does_not_show_it(name: str) -> None:
    toy = TOYS[name][0]
    assert ours(toy, Fifo()) is theirs(toy, detangle.FIFO()) is False


def drawn(seed: int, log: Callable[[str], None]) -> Toy:
    """Two or three tasks of a few steps, which wait for each other by events, a lock and a queue."""

    async def main() -> None:
        dice, loop = random.Random(seed), asyncio.get_running_loop()
        event, lock, queue = asyncio.Event(), asyncio.Lock(), asyncio.Queue[str]()

        async def task(name: str, acts: list[str]) -> None:
            for act in acts:
                log(f"{name} {act}")
                match act:
                    case "yield":
                        await asyncio.sleep(0)
                    case "set":
                        event.set()
                    case "wait":
                        await event.wait()
                    case "lock":
                        async with lock:
                            await asyncio.sleep(0)
                    case "put":
                        queue.put_nowait(name)
                    case "get":
                        log(f"{name} got from {await queue.get()}")
                    case "call":
                        loop.call_soon(log, f"{name} called")

        words, count = ("yield", "yield", "lock", "call"), dice.randint(2, 3)
        bodies = [[dice.choice(words) for _ in range(4 - count)] for _ in range(count)]
        bodies[0].insert(dice.randrange(2), dice.choice(("set", "put")))
        wants = {"set": "wait", "put": "get"}
        bodies[-1].insert(0, wants[next(act for act in bodies[0] if act in wants)])
        await asyncio.gather(*(task(name, acts) for name, acts in zip("abc", bodies, strict=False)))

    return main


@pytest.mark.parametrize("seed", range(20))
def test_both_find_the_same_orders_of_a_program_drawn_at_random(seed: int) -> None:
    def recorded(orders: set[str]) -> Toy:
        async def main() -> None:
            log = list[str]()
            await drawn(seed, log.append)()
            orders.add("; ".join(log))

        return main

    here, there = set[str](), set[str]()
    assert not ours(recorded(here), Dfs(None))
    assert not theirs(recorded(there), detangle.DFS(WITHOUT_BOUND))
    assert here == there
    assert len(here) > 1
