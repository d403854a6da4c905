"""Searches a graph for a run that breaks a property: the algorithms, which know neither machine nor spec.

A property is first tried on coarse views, which leave out both queues or one of them: such a view has every run of the
system and some more, so that what holds there holds. Only what none of them can decide is searched in the whole graph,
where a run that is found is a real one, and a shortest one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from functools import cached_property
from typing import NamedTuple, Protocol

from wslifecycle.statemachine.explore import Graph, Table


class Arc(NamedTuple):
    """A step: where it leads, the mask of what holds of it, its action, and its number in the state it comes from."""

    target: int
    mask: int
    action: str
    number: int


Truth = Container[int]
"""The masks of the steps of which an expression holds."""


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

    @property
    def masks(self) -> Mapping[int, Set[int]]:
        """Where the steps of each mask lead, and idling leads nowhere else: `masks_of` tells."""


def masks_of(view: View) -> dict[int, set[int]]:
    """For each mask of a step the states that it leads to, and for each of an idle state that state."""
    found: dict[int, set[int]] = {}
    for node in range(view.size):
        for arc in view.arcs(node):
            found.setdefault(arc.mask, set()).add(arc.target)
        for mask, _ in view.idle(node):
            found.setdefault(mask, set()).add(node)
    return found


class Whole:
    """Every state of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.starts: Sequence[int] = range(graph.starts)
        self.size = len(graph)

    def arcs(self, node: int) -> Iterable[Arc]:
        """The ways of a state and then what changes nothing."""
        table = self.graph.of[node]
        targets = [*self.graph.targets[node], *[node] * len(table.still)]
        for number, (target, (mask, action)) in enumerate(zip(targets, table.labels, strict=True)):
            yield Arc(target, mask, action, number)

    def idle(self, node: int) -> Iterable[tuple[int, frozenset[str]]]:
        """Just one thing holds of a state."""
        table = self.graph.of[node]
        return ((table.idle, table.actions),)

    masks = cached_property(masks_of)


class Part:
    """A coarse view: states that differ only in a queue that is left out are one here.

    It has every run of the system, and may have some more. What is impossible is so for some of the states that are
    one, so that no fair run is missed either.
    """

    def __init__(self, graph: Graph, *, inbound: bool = False, outbound: bool = False) -> None:
        keep = graph.mask(inbound=inbound, outbound=outbound)
        tables: dict[int, dict[int, Table]] = {}
        for packed, table in zip(graph.nodes, graph.of, strict=True):
            tables.setdefault(packed & keep, {})[table.flags] = table
        number = {packed: position for position, packed in enumerate(tables)}
        self.size = len(tables)
        self.starts: Sequence[int] = sorted({number[packed & keep] for packed in graph.nodes[: graph.starts]})
        self._arcs: list[list[Arc]] = []
        self._idle = [{(table.idle, table.actions) for table in found.values()} for found in tables.values()]
        alike: dict[tuple[tuple[int, int], ...], dict[tuple[int, int], set[int]]] = {}
        for packed, found in tables.items():
            here = number[packed]
            shown = tuple((flags, table.shown) for flags, table in found.items())
            masks_for = alike.setdefault(shown, {})  # what is possible with these flags, by what a move asks of them
            arcs: set[tuple[int, int, str]] = set()
            for (move, mask), target in graph.ways_from(packed):
                asked = move.mask, move.flags
                masks = masks_for.get(asked)
                if masks is None:
                    masks = masks_for[asked] = {tells for flags, tells in shown if flags & move.mask == move.flags}
                if masks:
                    to = here if target is None else number[target & keep]
                    arcs.update([(to, mask | tells, move.action) for tells in masks])
            self._arcs.append([Arc(*arc, 0) for arc in arcs])

    def arcs(self, node: int) -> Iterable[Arc]:
        """The steps that are possible with some queues or others."""
        return self._arcs[node]

    def idle(self, node: int) -> Iterable[tuple[int, frozenset[str]]]:
        """What may hold, depending on the queues."""
        return self._idle[node]

    masks = cached_property(masks_of)

    @cached_property
    def steps(self) -> set[int]:
        """The masks of all steps."""
        return {arc.mask for arcs in self._arcs for arc in arcs}


class Hit(NamedTuple):
    """A run that breaks a property: steps (state, number of the arc), and then those that are repeated for ever.

    `ends` is the state where it ends, or begins to go round.
    """

    steps: tuple[tuple[int, int], ...]
    ends: int
    round: tuple[tuple[int, int], ...] = ()


# ------------------------------------------------------------------------------------------------ safety


def ordered(view: View, first: Truth, second: Truth, *, allowed: bool) -> Hit | None:
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
            if seen is not allowed and arc.mask in second:
                return Hit((*_back(came, here), (node, arc.number)), arc.target)
            there = arc.target, seen or arc.mask in first
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

    def __init__(self, view: View, first: Truth, second: Truth, fairness: Fairness) -> None:
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
            arcs = waiting[node] = [arc for arc in self.view.arcs(node) if arc.mask not in self.second]
            for arc in arcs:
                if arc.target not in found:
                    found.add(arc.target)
                    queue.append(arc.target)
        return waiting

    def _owing(self) -> set[int]:
        """The states in which a B may be owed at first."""
        due = (mask for mask in self.view.masks if mask in self.first and mask not in self.second)
        return {node for mask in due for node in self.view.masks[mask]}

    def _asks(self, node: int) -> bool:
        """Whether an A holds here while nothing happens."""
        return any(mask in self.first and mask not in self.second for mask, _ in self.view.idle(node))

    def _impossible(self, node: int, action: str) -> bool:
        """Whether a run may be here without an action, as that is impossible."""
        return any(action not in actions for _, actions in self.view.idle(node))

    def _idles(self, node: int, actions: Iterable[str]) -> bool:
        """Whether a run may stay here for ever without these actions."""
        return any(mask not in self.second and known.isdisjoint(actions) for mask, known in self.view.idle(node))

    def _goes_on(self, node: int, left: Container[int]) -> bool:
        """Whether a step leads on to what is left."""
        return any(arc.target in left and arc.action not in self.fairness.rare for arc in self._waiting[node])

    @cached_property
    def _left(self) -> set[int]:
        """The states that a fair run without a B may go through for ever."""
        rare, fair = self.fairness.rare, sorted(self.fairness.fair) or [""]
        left = set(self._waiting)
        sources: dict[int, list[int]] = {node: [] for node in left}
        takes: dict[str, list[tuple[int, int]]] = {action: [] for action in fair}
        for node, arcs in self._waiting.items():
            for arc in arcs:
                if arc.action not in rare:
                    sources[arc.target].append(node)
                    if arc.action in takes or "" in takes:
                        takes[arc.action if arc.action in takes else ""].append((node, arc.target))
        idle = {action: {node for node in left if self._idles(node, (action,))} for action in fair}
        passing = {
            action: [node for node in left if node not in idle[action] and self._impossible(node, action)]
            for action in fair
        }
        shrinks = True
        while shrinks and left:
            shrinks = False
            for action in fair:
                able = idle[action] & left
                able.update(node for node, target in takes[action] if node in left and target in left)
                able.update(node for node in passing[action] if node in left and self._goes_on(node, left))
                good = list(able)
                for node in good:
                    for source in sources[node]:
                        if source in left and source not in able:
                            able.add(source)
                            good.append(source)
                if len(able) < len(left):
                    left, shrinks = able, True
        return left

    def _lead_in(self) -> tuple[tuple[tuple[int, int], ...], int]:
        """A shortest run by way of an A to where a B stays away for ever."""
        came: dict[tuple[int, bool], tuple[tuple[int, bool], int] | None] = {}
        queue = deque[tuple[int, bool]]()

        def reach(node: int, owed: bool, link: tuple[tuple[int, bool], int] | None) -> None:
            for there in dict.fromkeys(((node, owed), (node, owed or self._asks(node)))):
                if there not in came:
                    came[there] = link
                    queue.append(there)

        for start in self.view.starts:
            reach(start, False, None)
        while queue:
            here = queue.popleft()
            node, owed = here
            if owed and node in self._left:
                return tuple(_back(came, here)), node
            for arc in self.view.arcs(node):
                owes = arc.mask not in self.second and (owed or arc.mask in self.first)
                reach(arc.target, owes, (here, arc.number))
        raise AssertionError("a state is owed a B and no A leads to it")

    def _tour(self, start: int) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], int]:
        """How to go on from a state for ever: steps, those that are then repeated, and where these begin.

        Each fair action is satisfied in turn, again and again, until a state comes back; nothing is repeated where a
        run may simply idle.
        """
        node, steps, seen = start, list[tuple[int, int]](), dict[int, int]()
        while node not in seen:
            seen[node] = before = len(steps)
            if self._idles(node, self.fairness.fair):
                return tuple(steps), (), node
            for action in sorted(self.fairness.fair):
                way, node = self._satisfy(node, action)
                steps += way
            if len(steps) == before:  # all of them are impossible here, and something has to happen
                way, node = self._satisfy(node, "")
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
