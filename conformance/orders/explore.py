"""Runs a program in many orders: `explore` raises what it raises in one of them, with the way to repeat it.

The program is a function that gets a `ScheduledLoop` and returns a coroutine. It fails on a schedule if the coroutine
raises, if a callback or a task does of which nobody else was told, if the run comes to no end, or if tasks are left
when the coroutine has ended. A failure is brought down to as few deviations from the stock order as it needs, and run
twice: a program that does not do the same on the same schedule depends on something that is not under control.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import (
    Dfs,
    Fifo,
    Level,
    Replay,
    Schedule,
    Scheduler,
    Undetermined,
    read_token,
    token,
)

Program: TypeAlias = Callable[[ScheduledLoop], Coroutine[Any, Any, object]]


class Leaked(AssertionError):
    """Tasks were left when the program had ended."""


class Cancelled(AssertionError):
    """The program's own task was cancelled."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program: how it went, on what schedule, and what happened if that was traced."""

    schedule: Schedule
    error: Exception | None
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A schedule on which a program fails, with as few deviations as were found to be needed."""

    error: Exception
    schedule: Schedule
    trace: tuple[str, ...]
    tried: int
    """How many schedules were run until it was found."""
    token: str

    def __str__(self) -> str:
        count, needed = len(self.schedule.deviations), self.schedule.needed
        if needed is None:
            what = "0 deviations: it fails on the stock loop, too"
        else:
            what = f"{count} deviation{'s' * (count > 1)} from the stock order, of level {needed.name}"
        lines = [f"{number:4}. {line}" for number, line in enumerate(self.trace, 1)]
        return "\n".join(
            (f"Schedule {self.tried} fails. {what}.", f'Repeat it: explore(..., "{self.token}")', "It went so:", *lines)
        )


@dataclass(frozen=True, slots=True)
class Explored:
    """What was explored. `complete`: every schedule within the bound of a `Dfs`, none of which failed."""

    schedules: int
    complete: bool
    seconds: float
    failure: Failure | None = None

    def __str__(self) -> str:
        rate = self.schedules / self.seconds if self.seconds else 0
        whole = "all there are within the bound" if self.complete else "there are more"
        return f"{self.schedules} schedules ({whole}) in {self.seconds:.1f} s, {rate:.0f} a second"


def explore(
    program: Program,
    scheduler: Scheduler | str | None = None,
    *,
    level: Level = Level.ENVIRONMENT,
    schedules: int = 1000,
    seconds: float | None = None,
    limit: int = 10_000,
) -> Explored:
    """Runs a program on the schedules of a scheduler (default: `Dfs`), as many as it has, or up to `schedules`.

    A str is the token of a schedule that is to be repeated, at its own level. `seconds`: no new schedule is begun after
    that time. `limit`: so many iterations of the loop may one run have.

    Raises what the program raises on a schedule, with a note that says which one it is. Raises `Undetermined` if the
    program is not deterministic.
    """
    explored = search(program, scheduler, level=level, schedules=schedules, seconds=seconds, limit=limit)
    if explored.failure is not None:
        explored.failure.error.add_note(str(explored.failure))
        raise explored.failure.error
    return explored


def search(
    program: Program,
    scheduler: Scheduler | str | None = None,
    *,
    level: Level = Level.ENVIRONMENT,
    schedules: int = 1000,
    seconds: float | None = None,
    limit: int = 10_000,
) -> Explored:
    """The same, but tells of a failure instead of raising it."""
    if isinstance(scheduler, str):
        level, scheduler = read_token(scheduler)[0], Replay(scheduler)
    elif scheduler is None:
        scheduler = Dfs()
    began, tried, failure = time.perf_counter(), 0, None
    while tried < schedules and (seconds is None or time.perf_counter() - began < seconds) and scheduler.begin():
        tried += 1
        run = attempt(program, scheduler, level, limit)
        if run.error is not None:
            failure = _explained(program, run, tried, limit, shrinks=not isinstance(scheduler, Fifo | Dfs))
            break
        scheduler.end(run.schedule)
    complete = isinstance(scheduler, Dfs) and failure is None and scheduler.complete
    return Explored(tried, complete, time.perf_counter() - began, failure)


def attempt(program: Program, scheduler: Scheduler, level: Level, limit: int, *, traced: bool = False) -> Run:
    """One run of a program. Raises `Undetermined`, which says nothing about the program's own faults."""
    loop = ScheduledLoop(scheduler, level, limit=limit, traced=traced)
    try:
        with loop.controlled():  # the garbage collector decides nothing: neither while it runs, nor what is seen of it
            error = _raised(program, loop)
        return Run(loop.schedule, error, tuple(loop.trace or ()))
    finally:
        loop.dispose()


def _raised(program: Program, loop: ScheduledLoop) -> Exception | None:
    try:
        loop.run_until_complete(program(loop))
    except Undetermined:
        raise
    except Exception as error:
        return error
    except asyncio.CancelledError as error:
        cancelled = Cancelled("The program was cancelled.")
        cancelled.__cause__ = error
        return cancelled
    if left := loop.tasks():
        return Leaked(f"When the program had ended, tasks were left: {', '.join(map(_name, left))}.")
    return next(map(_error, loop.errors), None) or next(map(_unheard, loop.unheard()), None)


def deterministic(
    program: Program,
    scheduler: Scheduler | None = None,
    *,
    level: Level = Level.ENVIRONMENT,
    schedules: int = 100,
    limit: int = 10_000,
) -> int:
    """Runs a program twice on each schedule; returns how many there were.

    Raises `Undetermined` where the second run differs from the first one, with what differs.
    """
    scheduler, tried = scheduler or Dfs(), 0
    while tried < schedules and scheduler.begin():
        tried += 1
        run = attempt(program, scheduler, level, limit, traced=True)
        scheduler.end(run.schedule)
        again = attempt(program, Replay(run.schedule.deviations), level, limit, traced=True)
        _compare(run, again)
    return tried


def _explained(program: Program, run: Run, tried: int, limit: int, *, shrinks: bool) -> Failure:
    """A failing run with as few deviations as it needs, run twice more to see what happens, and that it does again."""
    level, deviations = run.schedule.level, run.schedule.deviations
    for fewer in _fewer(dict(deviations), run.schedule, shrinks):
        shorter = attempt(program, Replay(fewer.deviations), level, limit)
        if type(shorter.error) is type(run.error):
            fewer.worked = True
            deviations = fewer.deviations
    first, second = (attempt(program, Replay(deviations), level, limit, traced=True) for _ in range(2))
    _compare(first, second)
    if first.error is None:
        raise Undetermined(
            f"The program failed on the schedule {token(level, deviations)} with {run.error!r}, and the second time it "
            "did not. Something that decides what it does is not under control: random numbers, the wall clock, a set."
        ) from run.error
    return Failure(first.error, first.schedule, first.trace, tried, first.schedule.token)


@dataclass(slots=True)
class _Try:
    deviations: dict[int, int]
    worked: bool = False


def _fewer(deviations: dict[int, int], schedule: Schedule, shrinks: bool) -> Iterator[_Try]:
    """Fewer and fewer deviations to be tried: none, those of a lower level, then without one after the other."""
    if not deviations:
        return
    yield (none := _Try({}))
    if none.worked or not shrinks:
        return
    for level in sorted(Level, reverse=True):
        lower = {number: at for number, at in deviations.items() if schedule.choices[number].level < level}
        if lower != deviations:
            yield (attempt := _Try(lower))
            deviations = lower if attempt.worked else deviations
    size = len(deviations)
    while size := size // 2:
        numbers, again = sorted(deviations), False
        for begin in reversed(range(0, len(numbers), size)):
            gone = set(numbers[begin : begin + size])
            yield (attempt := _Try({number: at for number, at in deviations.items() if number not in gone}))
            if attempt.worked:
                deviations, again = attempt.deviations, True
        if again and size == 1 < len(deviations):
            size = 2  # without one, another may not be needed any more


def _compare(first: Run, second: Run) -> None:
    pairs = zip_longest(first.trace, second.trace, fillvalue="nothing")
    for number, (one, other) in enumerate(pairs, 1):
        if _plain(one) != _plain(other):
            raise Undetermined(f"Two runs of the schedule {first.schedule.token} differ: {number}. {one}, then {other}")
    if type(first.error) is not type(second.error):
        raise Undetermined(f"Two runs of {first.schedule.token} end differently: {first.error!r}, {second.error!r}")
    if first.schedule.choices != second.schedule.choices:
        raise Undetermined(f"Two runs of {first.schedule.token} are not asked for the same choices.")


def _plain(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def _error(context: dict[str, Any]) -> Exception:
    error = context.get("exception")
    if isinstance(error, Exception):
        error.add_note(str(context["message"]))
        return error
    return RuntimeError(str(context["message"]))


def _unheard(error: BaseException) -> Exception:
    return _error({"message": "A task raised this, and nobody has asked it for that.", "exception": error})


def _name(task: Any) -> str:
    return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '')})"
