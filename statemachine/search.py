"""Searches a graph for a run that breaks a property: the algorithms, which know neither machine nor spec.

A property is first tried on coarse views, which leave out both queues or one of them: such a view has every run of the
system and some more, so that what holds there holds. Only what none of them can decide is searched in the whole graph,
where a run that is found is a real one, and a shortest one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from wslifecycle.statemachine.explore import Graph, Table


class Arc(NamedTuple):
    """A step: where it leads, the mask of what holds of it, its action, and its number in the state it comes from."""

    target: int
    mask: int
    action: str
    number: int


Test = Callable[[int], bool]
"""Says of the mask of a step whether an expression holds of it."""


class View(Protocol):
    """What a search needs of a graph."""

    @property
    def starts(self) -> Sequence[int]:
        """Where runs begin."""

    @property
    def size(self) -> int:
        """How many states there are; they are numbered from 0."""

    def arcs(self, node: int) -> Iterable[Arc]:
        """The steps that are possible in a state."""

    def idle(self, node: int) -> Iterable[tuple[int, frozenset[str]]]:
        """What holds while nothing happens, and what could: more than once where the view is coarse."""


class Whole:
    """Every state of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.starts: Sequence[int] = range(graph.starts)
        self.size = len(graph)

    def arcs(self, node: int) -> Iterable[Arc]:
        """The ways of a state and then what changes nothing."""
        table, shown = self.graph.of[node], self.graph.of[node].shown
        targets = self.graph.targets[node]
        for number, (target, (move, mask)) in enumerate(zip(targets, table.ways, strict=True)):
            yield Arc(target, mask | shown, move.action, number)
        for number, (move, mask) in enumerate(table.still, len(targets)):
            yield Arc(node, mask | shown, move.action, number)

    def idle(self, node: int) -> Iterable[tuple[int, frozenset[str]]]:
        """Just one thing holds of a state."""
        table = self.graph.of[node]
        return ((table.idle, table.actions),)


class Part:
    """A coarse view: states that differ only in a queue that is left out are one here.

    It has every run of the system, and may have some more. What is impossible is so for some of the states that are
    one, so that no fair run is missed either.
    """

    def __init__(self, graph: Graph, *, inbound: bool = False, outbound: bool = False) -> None:
        keep = graph.mask(inbound=inbound, outbound=outbound)
        tables: dict[int, set[Table]] = {}
        for packed, table in zip(graph.nodes, graph.of, strict=True):
            tables.setdefault(packed & keep, set()).add(table)
        number = {packed: position for position, packed in enumerate(tables)}
        self.size = len(tables)
        self.starts: Sequence[int] = sorted({number[packed & keep] for packed in graph.nodes[: graph.starts]})
        self._arcs: list[list[Arc]] = []
        self._idle = [{(table.idle, table.actions) for table in found} for found in tables.values()]
        for packed, found in tables.items():
            arcs: set[tuple[int, int, str]] = set()
            for table in found:
                shown = table.shown
                arcs.update((number[packed], way.mask | shown, way.move.action) for way in table.still)
                arcs.update(
                    (number[target & keep], way.mask | shown, way.move.action)
                    for way, target in zip(table.ways, graph.targets_of(table, packed), strict=True)
                )
            self._arcs.append([Arc(*arc, 0) for arc in arcs])

    def arcs(self, node: int) -> Iterable[Arc]:
        """The steps that are possible with some queues or others."""
        return self._arcs[node]

    def idle(self, node: int) -> Iterable[tuple[int, frozenset[str]]]:
        """What may hold, depending on the queues."""
        return self._idle[node]


class Hit(NamedTuple):
    """A run that breaks a property: steps (state, number of the arc), and then those that are repeated for ever.

    `ends` is the state where it ends, or begins to go round.
    """

    steps: tuple[tuple[int, int], ...]
    ends: int
    round: tuple[tuple[int, int], ...] = ()


# ------------------------------------------------------------------------------------------------ safety


def ordered(view: View, first: Test, second: Test, *, allowed: bool) -> Hit | None:
    """A shortest run with a `second` step; before it a `first` one, if that is what breaks it (`not allowed`).

    `A before B` is broken by a B without an earlier A; `at most once A` by an A after an earlier A.
    """
    start = [(node, False) for node in view.starts]
    came: dict[tuple[int, bool], tuple[tuple[int, bool], int] | None] = dict.fromkeys(start)
    queue = deque(start)
    while queue:
        here = queue.popleft()
        node, seen = here
        for arc in view.arcs(node):
            if seen is not allowed and second(arc.mask):
                return Hit((*_back(came, here), (node, arc.number)), arc.target)
            there = arc.target, seen or first(arc.mask)
            if there[1] and allowed:
                continue  # nothing can break it any more
            if there not in came:
                came[there] = here, arc.number
                queue.append(there)
    return None


def _back(
    came: dict[tuple[int, bool], tuple[tuple[int, bool], int] | None], last: tuple[int, bool]
) -> list[tuple[int, int]]:
    steps = []
    here = last
    while (link := came[here]) is not None:
        here, number = link
        steps.append((here[0], number))
    return steps[::-1]


# ------------------------------------------------------------------------------------------------ liveness


class Fairness(NamedTuple):
    """What a run may not put off for ever, and what it may do a finite number of times only."""

    fair: frozenset[str]
    rare: frozenset[str]


class Unanswered:
    """The runs with an A after which no B ever comes, and which are fair: `hit()` is one of them, if there is any.

    A run may idle in any state for ever, where nothing that is fair is possible. Such runs are found by taking states
    away: first those that no A leads to, then again and again those from which some fair action is put off for ever,
    because no state where it is impossible and no step that takes it can be reached any more. Where something is left,
    each fair action can be satisfied from everywhere again and again.
    """

    def __init__(self, view: View, first: Test, second: Test, fairness: Fairness) -> None:
        self.view = view
        self.first, self.second = first, second
        self.fairness = fairness

    def hit(self) -> Hit | None:
        """A run that breaks `A leads to B`."""
        if not self._left:
            return None
        if isinstance(self.view, Part):
            return Hit((), 0)  # no run that could be shown
        way, node = self._lead_in()
        stem, round_, ends = self._tour(node)
        return Hit((*way, *stem), ends, round_)

    @cached_property
    def _waiting(self) -> dict[int, list[Arc]]:
        """The states in which a run may be while a B is owed, each with the steps that are no B."""
        waiting: dict[int, list[Arc]] = {}
        queue = sorted(self._owing())
        found = set(queue)
        for node in queue:
            arcs = waiting[node] = [arc for arc in self.view.arcs(node) if not self.second(arc.mask)]
            for arc in arcs:
                if arc.target not in found:
                    found.add(arc.target)
                    queue.append(arc.target)
        return waiting

    def _owing(self) -> set[int]:
        """The states in which a B may be owed at first."""
        owing = set()
        for node in range(self.view.size):
            for arc in self.view.arcs(node):
                if self.first(arc.mask) and not self.second(arc.mask):
                    owing.add(arc.target)
            if any(self.first(mask) and not self.second(mask) for mask, _ in self.view.idle(node)):
                owing.add(node)
        return owing

    def _impossible(self, node: int, action: str) -> bool:
        """Whether a run may idle here without an action, as that is impossible."""
        return any(action not in actions and not self.second(mask) for mask, actions in self.view.idle(node))

    @cached_property
    def _left(self) -> set[int]:
        """The states that a fair run without a B may go through for ever."""
        rare, fair = self.fairness.rare, sorted(self.fairness.fair)
        left = set(self._waiting)
        if not fair:  # then it may idle anywhere, unless a B holds there
            return {
                node for node in left if any(not self.second(mask) for mask, _ in self.view.idle(node))
            } or self._cyclic(left)
        sources: dict[int, list[int]] = {node: [] for node in left}
        for node, arcs in self._waiting.items():
            for arc in arcs:
                if arc.action not in rare:
                    sources[arc.target].append(node)
        shrinks = True
        while shrinks and left:
            shrinks = False
            for action in fair:
                good = [
                    node
                    for node in left
                    if self._impossible(node, action)
                    or any(arc.action == action and arc.target in left for arc in self._waiting[node])
                ]
                able = set(good)
                for node in good:
                    for source in sources[node]:
                        if source in left and source not in able:
                            able.add(source)
                            good.append(source)
                if len(able) < len(left):
                    left, shrinks = able, True
        return left

    def _cyclic(self, left: set[int]) -> set[int]:
        """The states from which a run can go on for ever."""
        while True:
            kept = {
                node
                for node in left
                if any(arc.target in left and arc.action not in self.fairness.rare for arc in self._waiting[node])
            }
            if kept == left:
                return left
            left = kept

    def _lead_in(self) -> tuple[tuple[tuple[int, int], ...], int]:
        """A shortest run by way of an A to where a B stays away for ever."""
        start = [(node, False) for node in self.view.starts]
        came: dict[tuple[int, bool], tuple[tuple[int, bool], int] | None] = dict.fromkeys(start)
        queue = deque(start)
        while queue:
            here = queue.popleft()
            node, owed = here
            if not owed and any(self.first(mask) and not self.second(mask) for mask, _ in self.view.idle(node)):
                came.setdefault((node, True), came[here] if came[here] is not None else None)
                owed, here = True, (node, True)
            if owed and node in self._left:
                return tuple(_back(came, here)), node
            for arc in self.view.arcs(node):
                if owed and self.second(arc.mask):
                    continue
                there = arc.target, owed or (self.first(arc.mask) and not self.second(arc.mask))
                if there not in came:
                    came[there] = here, arc.number
                    queue.append(there)
        raise AssertionError("a state is owed a B and no A leads to it")

    def _tour(self, start: int) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], int]:
        """How to go on from a state for ever: steps, those that are then repeated, and where these begin.

        Each fair action is satisfied in turn, again and again, until a state comes back; nothing is repeated where a
        run may simply idle.
        """
        node, steps, seen = start, list[tuple[int, int]](), dict[int, int]()
        while node not in seen:
            seen[node] = len(steps)
            if all(self._impossible(node, action) for action in self.fairness.fair) and any(
                not self.second(mask) for mask, _ in self.view.idle(node)
            ):
                return tuple(steps), (), node
            for action in sorted(self.fairness.fair) or [""]:
                way, node = self._satisfy(node, action)
                steps += way
        return tuple(steps[: seen[node]]), tuple(steps[seen[node] :]), node

    def _satisfy(self, start: int, action: str) -> tuple[list[tuple[int, int]], int]:
        """Steps to where an action is impossible, or by which it is taken; "" is any action."""
        if action and self._impossible(start, action):
            return [], start
        came: dict[tuple[int, bool], tuple[tuple[int, bool], int] | None] = {(start, False): None}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for arc in self._waiting[node]:
                if arc.target not in self._left or arc.action in self.fairness.rare:
                    continue
                if action in ("", arc.action) or self._impossible(arc.target, action):
                    return [*_back(came, (node, False)), (node, arc.number)], arc.target
                if (arc.target, False) not in came:
                    came[arc.target, False] = (node, False), arc.number
                    queue.append(arc.target)
        raise AssertionError("a fair action cannot be satisfied where it can be")
