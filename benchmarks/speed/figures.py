"""What the bursts say: medians over the rounds, and of pairs within a round.

Two contenders are held against each other burst by burst, within a round and a kind of load, and the median of those
ratios is what counts: a machine that is slower for a minute is so for both.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from benchmarks.speed.columns import MANY, Column
from benchmarks.speed.contenders import REFERENCE
from benchmarks.speed.results import Burst, Entrant, Report
from wslifecycle.conformance.kit.loops import LOOPS

FASTER = 1.2
"""How many times as many messages ours is to echo per second of CPU as the best other server."""

LIGHTER = 0.7
"""How much of the memory of Uvicorn's lightest an idle connection of ours may take."""

LATER = "gunicorn"
"""A peer that goals are computed without and with."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one contender does in one column.

    `times` as many messages per second of CPU as the reference, microseconds of CPU and messages a second; None where
    nothing was measured. `client`: the largest share of a processor that the load client took. `fault`: what was wrong
    in some round.
    """

    times: float | None
    micros: float | None
    rate: float | None
    client: float
    fault: str


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that we aim at, and how far we are; `value` is None where it could not be measured.

    `floor`: how far the best floor is, which does less than any server has to, where there is one.
    """

    says: str
    value: float | None
    bound: float
    at_least: bool
    floor: str = ""

    @property
    def met(self) -> bool:
        """Whether we are there."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, slots=True)
class Growth:
    """Memory by idle connections, in bytes; `each` is the slope, by least squares."""

    label: str
    points: tuple[tuple[int, float], ...]
    each: float


class Figures:
    """Everything that a report says."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._of: dict[tuple[str, str], dict[int, Burst]] = {}
        for burst in report.bursts:
            self._of.setdefault((burst.contender, burst.column), {})[burst.round] = burst

    @cached_property
    def reference(self) -> str:
        """What all are held against: `REFERENCE`, or else the first that was measured."""
        labels = [one.label for one in self.report.entrants]
        return REFERENCE if REFERENCE in labels else next(iter(labels), "")

    @property
    def loads(self) -> list[Column]:
        """The columns of the table: kinds of load, without points of charts and memory."""
        return [column for column in self.report.columns if column.kind != "memory" and not column.chart]

    def cell(self, label: str, column: str) -> Cell | None:
        """What one does in a column; None where it was not tried."""
        every = self._of.get((label, column))
        if every is None:
            return None
        good = [burst for burst in every.values() if not burst.fault]
        fault = next((burst.fault for burst in every.values() if burst.fault), "")
        if not good:
            return Cell(None, None, None, 0.0, fault)
        micros = statistics.median(burst.cpu / burst.messages for burst in good) / 1000
        rate = statistics.median(burst.messages / burst.wall for burst in good)
        client = max(burst.client for burst in good)
        return Cell(self.times(label, self.reference, column), micros, rate, client, fault)

    def times(self, label: str, other: str, column: str) -> float | None:
        """How many times as many messages per second of CPU one echoes as another: the median of all rounds that both
        have; None if there is none.
        """
        ours, theirs = self._of.get((label, column), {}), self._of.get((other, column), {})
        ratios = [
            (theirs[turn].cpu / theirs[turn].messages) / (burst.cpu / burst.messages)
            for turn, burst in ours.items()
            if not burst.fault and turn in theirs and not theirs[turn].fault
        ]
        return statistics.median(ratios) if ratios else None

    def best(self, column: str, loop: str, group: str, without: Collection[str] = ()) -> str | None:
        """Who of a group does best in a column on a loop; None if nobody was measured."""
        tried = [
            (self.times(one.label, self.reference, column) or 0.0, one.label)
            for one in self.report.entrants
            if (one.group, one.loop) == (group, loop) and one.name not in without
        ]
        ratio, label = max(tried, default=(0.0, None))
        return label if ratio else None

    def busiest(self, column: str) -> float:
        """The largest share of a processor that the load client took in a burst of a column."""
        return max((burst.client for burst in self.report.bursts if burst.column == column), default=0.0)

    # -------------------------------------------------------------------------------------------- memory

    def growth(self, label: str) -> Growth | None:
        """Memory of one by idle connections; None where it was not measured."""
        found: dict[int, list[int]] = {}
        for look in self.report.memory:
            if look.contender == label:
                for connections, resident in look.resident:
                    found.setdefault(connections, []).append(resident)
        if len(found) < 2:
            return None
        points = tuple((connections, statistics.median(sizes)) for connections, sizes in sorted(found.items()))
        slope = statistics.linear_regression(*zip(*points, strict=True)).slope
        return Growth(label, points, slope)

    def each(self, label: str) -> float | None:
        """KiB of an idle connection: the median of what each round says; None where it was not measured."""
        every = []
        for look in self.report.memory:
            sizes = dict(look.resident)
            if look.contender == label and 0 in sizes and len(sizes) > 1:
                most = MANY if MANY in sizes else max(sizes)
                every.append((sizes[most] - sizes[0]) / most / 1024)
        return statistics.median(every) if every else None

    # -------------------------------------------------------------------------------------------- goals

    def goals(self, without: Collection[str] = ()) -> list[Goal]:
        """What we aim at: in each column, on each loop, against the best of the others; and memory."""
        loops = [loop for loop in LOOPS if any(one.loop == loop for one in self._group("ours"))]
        faster = [goal for loop in loops for column in self.loads for goal in self._faster(column.name, loop, without)]
        return [*faster, *(goal for loop in loops for goal in self._lighter(loop))]

    def _group(self, group: str) -> list[Entrant]:
        return [one for one in self.report.entrants if one.group == group]

    def _faster(self, column: str, loop: str, without: Collection[str]) -> Iterator[Goal]:
        ours, peer = self.best(column, loop, "ours"), self.best(column, loop, "peer", without)
        if peer is not None:
            value = None if ours is None else self.times(ours, peer, column)
            says = f"{column}: {ours or 'none of ours'} against {peer}"
            yield Goal(says, value, FASTER, True, self._floor(column, loop, peer))

    def _floor(self, column: str, loop: str, peer: str) -> str:
        floor = self.best(column, loop, "floor")
        value = None if floor is None else self.times(floor, peer, column)
        return "" if value is None else f"{floor} has {value:.3f}"

    def _lighter(self, loop: str) -> Iterator[Goal]:
        theirs = {
            one.label: each
            for one in self._group("peer")
            if one.loop == loop and one.name.startswith("uvicorn ") and (each := self.each(one.label))
        }
        for one in self._group("ours"):
            mine = self.each(one.label)
            if one.loop == loop and mine is not None:
                for label, each in sorted(theirs.items(), key=lambda item: item[1]):
                    yield Goal(f"memory: {one.label} against {label}", mine / each, LIGHTER, False)
