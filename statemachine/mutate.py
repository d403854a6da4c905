"""Derives mutants of a spec: each is the file with one small thing in it changed, as somebody might get it wrong.

A mutant is made from the tree of the YAML file, before the loader has looked at it, so that what the loader finds
counts as well. What can be changed on its own is a `Place`: a row for one event in one state (a row for several is
split), a coupling from one state, a whole row, what a state does on entering, a timer. The reference profile alone is
mutated: rows that it does not have, and pairs of event and state that never come about in it, are left as they are.
The operators are in `mutations`. A mutant's id names the place and the operator, never a line.

`spec/mutants.yaml` adds the mutants that have a name, and says which survivors mean the same as the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from importlib import resources
from typing import Any

from wslifecycle.statemachine.flatten import Flat, compile_profile
from wslifecycle.statemachine.load import spec_of
from wslifecycle.statemachine.model import Ref, Spec
from wslifecycle.statemachine.mutations import GONE, OPERATORS, SAYS, Change, Place, edited, listed, swaps
from wslifecycle.statemachine.shapes import shaped_spec
from wslifecycle.statemachine.source import Map, Sequence, Source, names

_KEPT = ("event", "from", "when", "region", "rule")  # by `becomes` in spec/mutants.yaml


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change of the spec. `line` is that of the YAML file; `says` describes it in one line.

    `breaks` is the property that shows the fault of a mutant with a name.
    """

    id: str
    operator: str
    says: str
    line: int
    change: Change
    breaks: str = ""


@dataclass(frozen=True)
class Book:
    """What `spec/mutants.yaml` says: the mutants with a name, and why survivors (id or pattern) are equivalent."""

    named: tuple[Mutant, ...]
    equivalent: Mapping[str, str]

    def reason(self, name: str) -> str | None:
        """Why a mutant is equivalent, by its id."""
        return next((reason for pattern, reason in self.equivalent.items() if fnmatchcase(name, pattern)), None)


class Subject:
    """A spec that is mutated; without `text` the one that comes with the package. Raises `SpecError`."""

    def __init__(self, text: str | bytes | None = None, file: str = "spec/lifecycle.yaml") -> None:
        self.text = packaged("lifecycle.yaml") if text is None else text
        self._source = Source(self.text, file)
        self.tree = shaped_spec(self._source)
        self.spec = self._loaded(self.tree)
        self.flat = compile_profile(self.spec)
        self.machine = signature(self.flat)
        self.places = {place.id: place for place in self._found()}

    def _loaded(self, tree: Map) -> Spec:
        source = copy(self._source)
        source.root, source.findings = tree, []
        return spec_of(source)

    def spec_of(self, mutant: Mutant) -> Spec:
        """The mutated spec. Raises `SpecError` where the loader rejects it."""
        return self._loaded(self.mutated(mutant.change))

    def mutated(self, change: Change) -> Map:
        """The tree with this change. What lies beside it is shared with the tree of the reference."""
        by_path: dict[tuple[str | int, ...], list[Place]] = {}
        for name in change:
            by_path.setdefault(self.places[name].path, []).append(self.places[name])
        tree = self.tree
        for path, places in sorted(by_path.items(), key=lambda item: item[0], reverse=True):  # indices stay right
            rest = _without(_at(tree, path), {pair for place in places for pair in place.pairs})
            tree = _spliced(tree, path, [*rest, *(piece for place in places for piece in change[place.id])])
        return tree

    # ---------------------------------------------------------------------------------------- places

    def _found(self) -> Iterator[Place]:
        for region, rows in self.tree["transitions"].items():
            for index, row in enumerate(rows):
                if self._in_reference(row.get("when", [])):
                    yield from self._parts("row", region, ("transitions", region, index), row)
        for index, coupling in enumerate(self.tree["couplings"]):
            yield from self._parts("coupling", coupling["region"], ("couplings", index), coupling)
        for region, declared in self.tree["regions"].items():
            for name, state in declared["states"].items():
                if "enter" in state and name in self.flat.present[region]:
                    path = ("regions", region, "states", name)
                    yield Place(f"{region}.enter@{name}", "enter", path, state, state.lines["enter"], region)
        for name, timer in self.tree["timers"].items():
            region = next(iter(timer["runs"]))
            yield Place(f"timer.{name}", "timer", ("timers", name), timer, timer.line, region)

    def _in_reference(self, when: Any) -> bool:
        alternatives = [when] if isinstance(when, Map) else when
        return not alternatives or any(
            all(self.spec.reference[choice] in names(answers) for choice, answers in each.items())
            for each in alternatives
        )

    def _parts(self, kind: str, region: str, path: tuple[str | int, ...], row: Map) -> Iterator[Place]:
        """A row or coupling as a whole, and its part for each pair that comes about."""
        if kind == "coupling":
            reached = set(self.flat.present[region])  # it leaves a state before anyone sees it there
        else:
            named = [dict(zip(self.flat.regions, state, strict=True)) for state in self.flat.states]
            needs = row.get("while", {}).items()
            reached = {state[region] for state in named if all(state[r] in names(wanted) for r, wanted in needs)}
        pairs = [(event, state) for event in _events(row) for state in names(row["from"])]
        live = [pair for pair in pairs if pair[1] in reached]
        ending = _conditions(row) if kind == "row" else f">{row['to']}"
        label = f"{'+'.join(names(row.get('event')) or ['couple'])}@{'+'.join(names(row['from']))}"
        if live and len(pairs) > 1:
            yield Place(f"{region}.{label}{ending}", f"whole {kind}", path, row, row.line, region, tuple(pairs))
        for event, state in live:
            piece = edited(row, {"event": event, "from": state} if event else {"from": state})
            name = f"{region}.{event or 'couple'}@{state}{ending}"
            yield Place(name, kind, path, piece, row.line, region, ((event, state),), len(pairs) == 1)

    # ---------------------------------------------------------------------------------------- mutants

    @cached_property
    def mutants(self) -> tuple[Mutant, ...]:
        """Every mutant that the operators make, in the order of the operators and of the file."""
        made = [
            self._mutant(operator, place.id, detail, {place.id: pieces})
            for operator, (kinds, changes) in OPERATORS.items()
            for place in self.places.values()
            if place.kind in kinds
            for detail, pieces in changes(self, place)
        ]
        return (*made, *(self._mutant(*swapped) for swapped in swaps(self)))

    def _mutant(self, operator: str, name: str, detail: str, change: Change) -> Mutant:
        says = f"{name} {SAYS[operator].format(detail)}"
        return Mutant(f"{name}:{operator}{detail and f'={detail}'}", operator, says, self.places[name].line, change)

    def refusals(self, event: str) -> list[str]:
        """The ways in which an event is refused anywhere in the file, in any profile."""
        rows = [row for rows in self.tree["transitions"].values() for row in rows if event in names(row["event"])]
        used = {"impossible" if "impossible" in row else row.get("refuse", "") for row in rows} - {""}
        return sorted(used or {"impossible"})

    def resolved(self, value: Any) -> Any:
        """A written value with the reference's answers in the place of `$C..`."""
        if isinstance(value, str) and value.startswith("$"):
            return self.flat.resolve(Ref(*value[1:].split(".", 1)))
        return value

    # ---------------------------------------------------------------------------------------- the book

    def book(self, text: str | bytes | None = None, file: str = "spec/mutants.yaml") -> Book:
        """Reads `spec/mutants.yaml`. Raises `SpecError` where it has another shape or names what does not exist."""
        source = Source(packaged("mutants.yaml") if text is None else text, file)
        root = source.shape(source.root, "the file", 1, {"named": "list", "equivalent": "texts"})
        shape = {"name": "str", "title": "str", "breaks": "str", "change": "map"}
        named = [source.shape(entry, "a named mutant", root.line, shape) for entry in root["named"]]
        for entry in named:
            if entry["breaks"] not in self.spec.properties:
                text = f"There is no property `{entry['breaks']}`."
                source.report("WSL011", entry.lines["breaks"], text, "Name one of the spec.")
            for name, pieces in entry["change"].items():
                if name not in self.places:
                    source.report("WSL011", entry["change"].lines[name], f"There is no place `{name}`.", "See --list.")
                elif not isinstance(pieces, Sequence) or not all(isinstance(piece, Map) for piece in pieces):
                    source.report("WSL006", entry["change"].lines[name], f"`{name}` takes a list of rows.", "Mend it.")
        source.check()
        return Book(tuple(map(self._named, named)), dict(root["equivalent"]))

    def _named(self, entry: Map) -> Mutant:
        change: dict[str, list[Map]] = {}
        for name, pieces in entry["change"].items():
            piece = self.places[name].piece
            removed = {key: GONE for key in piece if key not in _KEPT}
            change[name] = [edited(piece, removed | dict(becomes)) for becomes in pieces]
        line = self.places[next(iter(change))].line
        return Mutant(f"named:{entry['name']}", "named", entry["title"], line, change, entry["breaks"])


def named_mutants(subject: Subject | None = None) -> tuple[Mutant, ...]:
    """The mutants of `spec/mutants.yaml` that have a name: bugs that real servers have had."""
    return (subject or Subject()).book().named


def packaged(name: str) -> bytes:
    """A file of `spec/`."""
    return (resources.files("wslifecycle") / "spec" / name).read_bytes()


def signature(flat: Flat) -> str:
    """What a compiled machine does, as a short text: two machines with the same one cannot be told apart.

    Lines and rule numbers do not count, nor what the events and timers are called in sentences.
    """
    timers = [(timer.name, timer.event, flat.resolve(timer.seconds)) for timer in flat.spec.timers.values()]
    said: dict[int, str] = {}  # by identity: an answer is shared by many guard cases
    parts = [repr((flat.states[0], flat.opening, timers))]
    for cases in flat.answers.values():
        for answers in cases:
            for state in sorted(answers):
                a = answers[state]
                if id(a) not in said:
                    does = (a.event, a.source, a.target, a.effects, a.assigns, a.gives, a.refusal, a.checks)
                    said[id(a)] = repr(does)
                parts.append(said[id(a)])
    return sha256("\n".join(parts).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ the tree


def _events(row: Map) -> tuple[str, ...]:
    return names(row.get("event")) or ("",)  # a coupling has none


def _at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def _without(row: Map, pairs: set[tuple[str, str]]) -> Iterator[Map]:
    """What is left of a row when some of its pairs are taken out. All parts keep the line of the row."""
    for event in _events(row) if pairs else ():
        left = [state for state in names(row["from"]) if (event, state) not in pairs]
        if left:
            yield edited(row, ({"event": event} if event else {}) | {"from": listed(left, row.line)})


def _spliced(tree: Any, path: tuple[str | int, ...], pieces: list[Map]) -> Any:
    """A copy of the tree along the path, with these pieces in the place of what is there."""
    head, rest = path[0], path[1:]
    if isinstance(tree, Map):
        inner: Any = _spliced(tree[str(head)], rest, pieces) if rest else pieces[0] if pieces else GONE
        return edited(tree, {str(head): inner})
    made = Sequence(tree.line)
    for index, (item, line) in enumerate(zip(tree, tree.lines, strict=True)):
        items = pieces if index == head else [item]
        made.extend(items)
        made.lines += [line] * len(items)
    return made


def _conditions(row: Map) -> str:
    """What a row needs beside its event and state: `(app=running|done,!raising)`."""
    parts = [f"{region}={'|'.join(names(states))}" for region, states in row.get("while", {}).items()]
    parts += [guard.replace("not ", "!") for guard in names(row.get("if"))]
    return f"({','.join(parts)})" if parts else ""


__all__ = ["Book", "Mutant", "Subject", "named_mutants", "packaged", "signature"]
