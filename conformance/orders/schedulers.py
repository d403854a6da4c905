"""Who decides what comes next: schedulers, and schedules that can be repeated.

A scheduler has three methods. `begin` is called before each schedule and says whether there is one more; `choose` is
asked whenever more than one thing may come next, and answers with a place in `options`; `end` gets the schedule that
was run. The first option is always what the stock event loop would do, so that 0 is the stock order, and every other
answer is a *deviation* from it. A schedule is known by its deviations alone: its token is short, and can be read.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol


class Level(IntEnum):
    """What may be ordered otherwise than the stock loop does it. Each level includes those before it."""

    ENVIRONMENT = 0
    """When and in which pieces bytes, ends, resets, room to write, timers and executors come: any of it can happen on
    the stock loop. The queue of what is ready stays first in, first out."""
    LATENCY = 1
    """How long what is awaited outside of the program (`ScheduledLoop.external`) takes, one against the other."""
    LANES = 2
    """Which task goes on next. Each task's own order, and that of `call_soon`, is kept. No stock loop does this today;
    the documentation promises no more, and one `await` more in a task has the same effect."""


class Choice(NamedTuple):
    """One answer of a scheduler: of what level, the place that it chose, and how many there were."""

    level: Level
    chosen: int
    of: int


@dataclass(slots=True)
class Schedule:
    """The choices of one run, in their order."""

    level: Level
    choices: list[Choice] = field(default_factory=list)

    @property
    def deviations(self) -> dict[int, int]:
        """Where the run left the stock order: the number of the choice, and what was chosen instead."""
        return {number: choice.chosen for number, choice in enumerate(self.choices) if choice.chosen}

    @property
    def needed(self) -> Level | None:
        """The highest level of a deviation. None: it is the stock order."""
        return max((choice.level for choice in self.choices if choice.chosen), default=None)

    @property
    def token(self) -> str:
        """The schedule in short: `L0,5:1,17:2`, which `Replay` repeats."""
        return token(self.level, self.deviations)


def token(level: Level, deviations: Mapping[int, int]) -> str:
    """A token of a level and deviations from the stock order."""
    return ",".join((f"L{level:d}", *(f"{number}:{chosen}" for number, chosen in sorted(deviations.items()))))


_TOKEN = re.compile(r"L(?P<level>[012])(?P<rest>(,[0-9]{1,9}:[0-9]{1,9})*)")


def read_token(text: str) -> tuple[Level, dict[int, int]]:
    """The level and the deviations of a token. Raises `ValueError` where it is none."""
    match = _TOKEN.fullmatch(text.strip())
    pairs = [pair.split(":") for pair in match["rest"].split(",")[1:]] if match else []
    deviations = {int(number): int(chosen) for number, chosen in pairs}
    if match is None or len(deviations) < len(pairs):
        raise ValueError(f"{text!r} is no token of a schedule. One looks like this: L0,5:1,17:2")
    return Level(int(match["level"])), deviations


class Scheduler(Protocol):
    """Decides the order of any number of runs."""

    def begin(self) -> bool:
        """A run begins. False: there is none left to be run."""

    def choose(self, options: Sequence[Hashable]) -> int:
        """Which of two or more options comes next; 0 is the stock order."""

    def end(self, schedule: Schedule) -> None:
        """The run has ended, and this is what was chosen in it."""


class Fifo:
    """The stock order, once."""

    def __init__(self) -> None:
        self._left = 1

    def begin(self) -> bool:
        """Only the first time."""
        self._left -= 1
        return self._left >= 0

    def choose(self, options: Sequence[Hashable]) -> int:
        """Always the first."""
        return 0

    def end(self, schedule: Schedule) -> None:
        """Nothing is kept."""


class Replay(Fifo):
    """One schedule again, from its token or its deviations. What it says of choices that do not come is ignored."""

    def __init__(self, schedule: str | Mapping[int, int]) -> None:
        super().__init__()
        self._deviations = dict(read_token(schedule)[1] if isinstance(schedule, str) else schedule)
        self._number = -1

    def choose(self, options: Sequence[Hashable]) -> int:
        """What was chosen before; the last one where there are fewer options now."""
        self._number += 1
        return min(self._deviations.get(self._number, 0), len(options) - 1)


class Random:
    """Any number of schedules at random, the same ones for the same seed.

    `calm`: how likely the stock order is at a choice. A run with few deviations says more about a fault than one with
    many, and comes further: so each run draws its own from these.
    """

    def __init__(self, seed: int = 0, calm: Sequence[float] = (0.5, 0.8, 0.95)) -> None:
        self._random = random.Random(seed)
        self._calms = tuple(calm)
        self._calm = 0.0

    def begin(self) -> bool:
        """There is always one more."""
        self._calm = self._random.choice(self._calms)
        return True

    def choose(self, options: Sequence[Hashable]) -> int:
        """The first, if the run is calm, or any."""
        draw = self._random.random
        return 0 if draw() < self._calm else int(draw() * len(options))

    def end(self, schedule: Schedule) -> None:
        """Nothing is kept."""


class Pct:
    """Probabilistic concurrency testing: priorities at random, which change at `depth - 1` points of a run.

    Finds each fault of `depth` ordering constraints with a known probability (Burckhardt et al., ASPLOS 2010). Never
    use it alone: it starves whoever has the lowest priority, so that it misses what needs a fair order, as most faults
    of cancellation do.
    """

    def __init__(self, seed: int = 0, depth: int = 3) -> None:
        self._random = random.Random(seed)
        self._changes: set[int] = set()
        self._depth = depth
        self._length = 0
        self._number = 0
        self._priorities: dict[Hashable, float] = {}

    def begin(self) -> bool:
        """There is always one more."""
        length = self._length or 32
        self._changes = {self._random.randrange(length) for _ in range(self._depth - 1)}
        self._number = 0
        self._priorities = {}
        return True

    def choose(self, options: Sequence[Hashable]) -> int:
        """The option of the highest priority; where a change is due, that one gets the lowest."""
        priorities = self._priorities
        for option in options:
            if option not in priorities:
                priorities[option] = self._random.random()
        chosen = max(range(len(options)), key=lambda place: priorities[options[place]])
        if self._number in self._changes:
            priorities[options[chosen]] = -self._number
        self._number += 1
        return chosen

    def end(self, schedule: Schedule) -> None:
        """The changes of later runs fall into the longest one so far."""
        self._length = max(self._length, len(schedule.choices))


class Dfs:
    """Every schedule with up to `bound` deviations, those with fewer first, so that the first failure is a shortest.

    `complete` is True once there is none left: then nothing within the bound was left out. None: no bound.
    """

    def __init__(self, bound: int | None = 2) -> None:
        self.bound = bound
        self.complete = False
        self._next: Iterator[dict[int, int]] = iter(())
        self._runs: deque[tuple[dict[int, int], list[Choice]]] = deque()
        self._number = -1
        self._deviations: dict[int, int] = {}

    def begin(self) -> bool:
        """The next schedule, if there is one; the same again if the last run was not ended."""
        self._number = -1
        return not self.complete

    def choose(self, options: Sequence[Hashable]) -> int:
        """What this schedule says; the stock order behind its last deviation."""
        self._number += 1
        return self._deviations.get(self._number, 0)

    def end(self, schedule: Schedule) -> None:
        """From its choices follow the schedules that deviate once more, behind its last deviation.

        Raises `Undetermined` where an earlier choice is not there any more: then the program is not deterministic.
        """
        for number, chosen in self._deviations.items():
            if number >= len(schedule.choices) or schedule.choices[number].chosen != chosen:
                raise Undetermined(
                    f"Choice {number} of a schedule did not come again when the schedule was run once more. Something "
                    "that decides the order is not under control: a set of objects, the wall clock, random numbers."
                )
        if self.bound is None or len(self._deviations) < self.bound:
            self._runs.append((self._deviations, schedule.choices))
        while (deviations := next(self._next, None)) is None and self._runs:
            self._next = _further(*self._runs.popleft())
        self._deviations, self.complete = deviations or {}, deviations is None


def _further(deviations: dict[int, int], choices: list[Choice]) -> Iterator[dict[int, int]]:
    """The schedules that deviate once more than a run did, behind its last deviation."""
    for number in range(max(deviations, default=-1) + 1, len(choices)):
        for chosen in range(1, choices[number].of):
            yield {**deviations, number: chosen}


class Tape(Fifo):
    """One schedule from bytes, as Hypothesis draws and shrinks them: a byte for each choice, and then the stock order.

    `st.binary().map(Tape)` is a strategy for schedules: less on the tape is nearer to the stock order.
    """

    def __init__(self, tape: bytes) -> None:
        super().__init__()
        self._tape = iter(tape)

    def choose(self, options: Sequence[Hashable]) -> int:
        """The next byte, cut to the number of options."""
        return next(self._tape, 0) % len(options)


class Undetermined(Exception):
    """The same schedule did not lead to the same run."""
