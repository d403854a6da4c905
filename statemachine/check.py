"""Checks a compiled profile: explores the system around its machine, and holds every property of the spec against it.

Beside the properties there are a few things that must never be, whatever a spec says: an `impossible` event that
happens, a `deadlock` (the transport is gone and a receive() or send() waits for ever), a `trap` (a state from which the
end cannot be reached), a state of the machine that is `unreachable` here, and a property that is `vacuous`, because
what it speaks of never happens. What is unsound about the machine itself (`soundness`) is reported beside them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from wslifecycle.statemachine.explore import Graph, Progress, Table
from wslifecycle.statemachine.findings import Finding
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.model import Kind as Refusal
from wslifecycle.statemachine.model import Property
from wslifecycle.statemachine.properties import Expression, Form, Parsed, Term, parse, terms_of, write
from wslifecycle.statemachine.queues import SENDING
from wslifecycle.statemachine.search import Fairness, Hit, Part, Unanswered, View, Whole, ordered
from wslifecycle.statemachine.system import Bounds, Move, System, vocabulary

LIMIT = 5_000_000
"""States that a check may have; each takes about half a kilobyte."""

BUILT_IN = {
    "impossible": "An event happens that the spec calls impossible.",
    "deadlock": "A receive() or send() waits, and nothing is left that could answer it.",
    "trap": "The end cannot be reached any more.",
    "unreachable": "A state of the machine is never reached.",
    "vacuous": "A property holds for nothing: what it speaks of never happens.",
}
"""What must never be, whatever a spec says."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that does not hold. `run` shows it where a run can; `declared` is None for what is built in."""

    name: str
    says: str
    rule: str
    line: int
    declared: Property | None = None
    run: Hit | None = None

    @property
    def about_reach(self) -> bool:
        """Whether it says that something never happens, which bounds that are too small may be the reason of."""
        sometimes = self.declared is not None and self.run is None
        return sometimes or self.name in ("vacuous", "unreachable")

    @property
    def finding(self) -> Finding:
        """The same as a finding about the spec."""
        text = f"{self.name} does not hold: {self.says}" if self.declared is not None else self.says
        return Finding("WSL034", self.line, text.rstrip(".") + ".", "Change the rows that lead there, or the property.")


@dataclass(frozen=True)
class Report:
    """What a check found. `graph` is what was explored; `seconds` is how long all of it took."""

    graph: Graph
    bounds: Bounds
    properties: tuple[Property, ...]
    violations: tuple[Violation, ...]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def flat(self) -> Flat:
        """The profile that was checked."""
        return self.graph.system.flat

    @property
    def holds(self) -> bool:
        """Whether everything does."""
        return not self.violations and not self.findings


def parsed_properties(flat: Flat, names: Iterable[str] = ()) -> dict[str, tuple[Property, Parsed]]:
    """The properties of a spec, or those that are named. Raises `LookupError` for a name that does not exist."""
    spec = flat.spec
    known = vocabulary(spec.regions, spec.facts, spec.timers, spec.events, spec.effects)
    wanted = list(names) or list(spec.properties)
    for name in wanted:
        if name not in spec.properties:
            raise LookupError(f"There is no property {name!r}. There are {', '.join(spec.properties)}.")
    return {name: (spec.properties[name], parse(spec.properties[name].holds, known)) for name in wanted}


def check(
    flat: Flat,
    bounds: Bounds | None = None,
    names: Sequence[str] = (),
    progress: Progress | None = None,
    limit: int = LIMIT,
    *,
    first: bool = False,
) -> Report:
    """Checks the properties that are named (all, if none is), and what is built in; `first`: up to the first violation.

    Raises `LookupError` for a property that does not exist, and `TooLarge` where there are more states than `limit`.
    """
    began = time.perf_counter()
    bounds = bounds or Bounds()
    collects = gc.isenabled()
    gc.disable()  # next to nothing of this is garbage before the end, and looking through it takes longest
    try:
        chosen = parsed_properties(flat, names)
        graph = Graph(System(flat, bounds), _terms(chosen.values()), limit, progress)
        # where too little fits, it is no fault that something never happens
        found = (violation for violation in _violations(graph, chosen) if bounds.queue or not violation.about_reach)
        violations = tuple(islice(found, 1 if first else None))
        properties = tuple(declared for declared, _ in chosen.values())
        return Report(graph, bounds, properties, violations, flat.findings, time.perf_counter() - began)
    finally:
        if collects:
            gc.enable()


def _terms(chosen: Iterable[tuple[Property, Parsed]]) -> Iterator[Term]:
    """Everything that properties speak of."""
    for _, parsed in chosen:
        yield from terms_of(parsed.first)
        if parsed.second is not None:
            yield from terms_of(parsed.second)


def _violations(graph: Graph, chosen: Mapping[str, tuple[Property, Parsed]]) -> Iterator[Violation]:
    checker = _Checker(graph)
    for declared, parsed in chosen.values():
        yield from checker.property(declared, parsed)
    yield from checker.built_in()


class _Checker:
    """Holds one property after the other against a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.whole = Whole(graph)
        self._parts = [Part(graph)]
        self.steps = self._parts[0].steps
        self.masks = set(self._parts[0].masks)

    def _views(self) -> Iterator[View]:
        """Views of the graph, coarse ones first; each is made when it is first needed."""
        for number, (inbound, outbound) in enumerate(((False, False), (True, False), (False, True))):
            if number == len(self._parts):
                self._parts.append(Part(self.graph, inbound=inbound, outbound=outbound))
            yield self._parts[number]
        yield self.whole

    def _searched(self, search: Callable[[View], Hit | None]) -> Hit | None:
        """A run that is found in the whole graph, unless there is none in a coarser view."""
        found = None
        for view in self._views():
            found = search(view)
            if found is None:
                return None
        return found

    def truth(self, expression: Expression) -> frozenset[int]:
        """The masks of which an expression holds, among those of all steps and of all states."""
        bits = self.graph.bits.bit
        judge = eval(f"lambda mask: {write(expression, lambda term: f'mask & {bits[term]}')}")
        return frozenset(filter(judge, self.masks))

    def property(self, declared: Property, parsed: Parsed) -> Iterator[Violation]:
        """What is wrong with one property: it does not hold, or it holds for nothing."""
        run = self._run(declared, parsed)
        if run is not None or (parsed.form is Form.SOMETIMES and not self.truth(parsed.first) & self.steps):
            yield Violation(declared.name, declared.holds, declared.rule, declared.line, declared, run)
        elif parsed.trigger is not None and not self.truth(parsed.trigger):
            says = f"{declared.name} holds for nothing, since what it speaks of never happens: {declared.holds}"
            yield Violation("vacuous", says, declared.rule, declared.line)

    def _run(self, declared: Property, parsed: Parsed) -> Hit | None:
        """A shortest run that breaks a property."""
        first = self.truth(parsed.first)
        second = self.truth(parsed.second) if parsed.second is not None else first
        match parsed.form:
            case Form.ALWAYS:
                return self.first(self.steps - first)
            case Form.NEVER:
                return self.first(self.steps & first)
            case Form.AT_MOST_ONCE | Form.BEFORE as form:
                return self._searched(lambda view: ordered(view, first, second, allowed=form is Form.BEFORE))
            case Form.LEADS_TO:
                fairness = Fairness(frozenset(declared.fair) - self.graph.system.unfair, frozenset(declared.rare))
                return self._searched(lambda view: Unanswered(view, first, second, fairness).hit())
        return None

    def first(self, bad: Set[int]) -> Hit | None:
        """A shortest run that ends in such a step."""
        if not bad:
            return None
        for node in range(len(self.graph)):
            for arc in self.whole.arcs(node):
                if arc.mask in bad:
                    return Hit((*self.graph.way(node), (node, arc.number)), arc.target)
        return None

    # ---------------------------------------------------------------------------------------- built in

    def built_in(self) -> Iterator[Violation]:
        """What must never be."""
        spec = self.graph.system.flat.spec
        line = next(iter(spec.regions.values())).line
        for name, found in (("impossible", self._impossible()), ("deadlock", self._stuck()), ("trap", self._trap())):
            if found is not None:
                yield Violation(name, BUILT_IN[name], "", line, None, found)
        reached = {self.graph.state_of(table.control) for table in self.graph.tables.values()}
        missing = [state for state in self.graph.system.flat.state_of if state not in reached]
        if missing:
            yield Violation("unreachable", f"never reached: {', '.join(missing)}", "", line)

    def _impossible(self) -> Hit | None:
        if not any(_is_impossible(move) for move in self.graph.moves()):
            return None
        wrong: dict[Table, int] = {}
        for table in self.graph.tables.values():
            for number, (move, _) in enumerate((*table.ways, *table.still)):
                if _is_impossible(move):
                    wrong.setdefault(table, number)
        for node, table in enumerate(self.graph.of):
            if table in wrong:
                return Hit((*self.graph.way(node), (node, wrong[table])), node)
        return None

    def _stuck(self) -> Hit | None:
        """The transport is gone and nobody has anything to say any more but the app, and yet a call of it waits."""
        for node, table in enumerate(self.graph.of):
            control, sending = self.graph.control(table.control), table.flags & SENDING
            if control.transport != "gone" or not (control.receiving or sending):
                continue
            moving = {way.move.action for way in table.ways}
            if (control.receiving and "gives" not in moving) or (sending and "app_waited" not in moving):
                return Hit(tuple(self.graph.way(node)), node)
        return None

    def _trap(self) -> Hit | None:
        """A state from which no end can be reached: both sides are done with, and no call waits."""
        graph = self.graph
        final = graph.system.flat.final
        able: set[int] = set()
        for node, table in enumerate(graph.of):
            control = graph.control(table.control)
            if control.transport == "gone" and control.state in final and not control.receiving:
                able.add(node)
        sources: list[list[int]] = [[] for _ in range(len(graph))]
        for node, targets in enumerate(graph.targets):
            for target, (_, action) in zip(targets, graph.of[node].labels, strict=False):
                if action != "late":  # nobody can count on that
                    sources[target].append(node)
        queue = sorted(able)
        for node in queue:
            for source in sources[node]:
                if source not in able:
                    able.add(source)
                    queue.append(source)
        for node in range(len(graph)):
            if node not in able:
                return Hit(tuple(graph.way(node)), node)
        return None


def _is_impossible(move: Move) -> bool:
    return move.answer is not None and move.answer.refusal is Refusal.IMPOSSIBLE
