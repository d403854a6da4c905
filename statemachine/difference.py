"""How two profiles differ: in their answers to the choices, in what their machines do, and in what was seen besides.

    for line in difference(one, other).lines(): ...

The machines are compared as they are compiled, each by the facts that its server advertises: what an event does in a
state, and which states there are at all. `drawn` is both wires in one picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from wslifecycle.statemachine import explain
from wslifecycle.statemachine.dot import Arrow, both
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.machine import Lifecycle, build
from wslifecycle.statemachine.model import Departure, Kind, Profile, Spec

NOTHING = "cannot happen"


class Chosen(NamedTuple):
    """A choice that two profiles answer otherwise. `breaks`: the rules that one or the other answer breaks, or ""."""

    number: str
    about: str
    one: str
    other: str
    breaks: tuple[str, str]


class Deed(NamedTuple):
    """What two machines do on an event, in some states."""

    event: str
    one: str
    other: str
    states: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """All that tells two profiles apart."""

    one: Profile
    other: Profile
    choices: tuple[Chosen, ...]
    deeds: tuple[Deed, ...]
    departures: tuple[tuple[Departure, ...], tuple[Departure, ...]]

    def __bool__(self) -> bool:
        return bool(self.choices or self.deeds or any(self.departures) or self.advertised)

    @property
    def advertised(self) -> tuple[str, ...]:
        """What they advertise otherwise, in words."""
        found = []
        if self.one.spec_version != self.other.spec_version:
            found.append(f"spec_version: {self.one.spec_version} and {self.other.spec_version}")
        if set(self.one.extensions) != set(self.other.extensions):
            lists = [", ".join(sorted(profile.extensions)) or "none" for profile in (self.one, self.other)]
            found.append(f"extensions: {lists[0]} and {lists[1]}")
        return tuple(found)

    def lines(self) -> Iterator[str]:
        """The difference in words."""
        names = (self.one.name, self.other.name)
        for profile in (self.one, self.other):
            about = f": {profile.server} ({profile.version}), measured {profile.measured}" if profile.server else ""
            yield f"{profile.name}{about}"
        for text in self.advertised:
            yield f"advertised {text}"
        for chosen in self.choices:
            yield f"{chosen.number} {chosen.about}"
            for name, answer, rule in zip(names, (chosen.one, chosen.other), chosen.breaks, strict=True):
                yield f"    {name}: {answer}{f' (breaks {rule})' if rule else ''}"
        for deed in self.deeds:
            yield f"{deed.event} in {', '.join(deed.states)}"
            for name, text in zip(names, (deed.one, deed.other), strict=True):
                yield f"    {name}: {text}"
        for name, departures in zip(names, self.departures, strict=True):
            for one in departures:
                where = f" {one.event} in {one.state}:" if one.state else ""
                expected = f", not: {one.expected}" if one.expected else ""
                yield f"only {name} was seen to do [{one.rule or one.level} {one.level}]{where} {one.seen}{expected}"


def difference(spec: Spec, one: Profile, other: Profile) -> Difference:
    """Compares two profiles of a spec."""
    choices = tuple(
        Chosen(
            number,
            choice.about,
            one.answers[number],
            other.answers[number],
            (choice.breaks.get(one.answers[number], ""), choice.breaks.get(other.answers[number], "")),
        )
        for number, choice in spec.choices.items()
        if one.answers[number] != other.answers[number]
    )
    ours, theirs = set(one.deviations), set(other.deviations)
    departures = (
        tuple(found for found in one.deviations if found not in theirs),
        tuple(found for found in other.deviations if found not in ours),
    )
    return Difference(one, other, choices, tuple(_deeds(spec, one, other)), departures)


_Done: TypeAlias = dict[tuple[str, str], str]
"""What is done on an event in a state, in words."""


def _deeds(spec: Spec, one: Profile, other: Profile) -> Iterator[Deed]:
    done = [_done(_machine(spec, profile), profile) for profile in (one, other)]
    found: dict[tuple[str, str, str], list[str]] = {}
    for place in sorted({*done[0], *done[1]}):
        texts = [each.get(place, NOTHING) for each in done]
        if texts[0] != texts[1]:
            found.setdefault((place[0], *texts), []).append(place[1])  # type: ignore[arg-type]
    for (event, first, second), states in found.items():
        yield Deed(event, first, second, tuple(states))


def _machine(spec: Spec, profile: Profile) -> Lifecycle:
    return build(spec, dict(profile.answers), profile.name)


def _case(machine: Lifecycle, profile: Profile) -> int:
    """The facts that a server advertises, as bits."""
    flat = machine.flat
    bits = sum(flat.bits[fact.name] for fact in flat.facts if fact.extension in profile.extensions)
    return machine.dialect(profile.spec_version or flat.value("C35", "spec_version")).facts | bits


def _done(machine: Lifecycle, profile: Profile) -> _Done:
    """What a machine does, where no message waits."""
    case = _case(machine, profile)
    return {
        (event, state): explain.outcome(answer)
        for event, cases in machine.flat.answers.items()
        for state, answer in cases[case].items()
        if answer.refusal is not Kind.IMPOSSIBLE
    }


def drawn(spec: Spec, one: Profile, other: Profile, kind: str) -> bytes:
    """Both wires in one picture, as `dot`, `svg`, `png` or `pdf`. Raises `DrawingError`."""
    moves = [_moves(_machine(spec, profile), profile) for profile in (one, other)]
    arrows = [
        Arrow(source, target, event, (event, source, target) in moves[0], (event, source, target) in moves[1])
        for event, source, target in sorted(moves[0] | moves[1])
    ]
    return both(arrows, (one.name, other.name), kind)


def _moves(machine: Lifecycle, profile: Profile) -> set[tuple[str, str, str]]:
    """Every step of the wire, and every step into a state of the inbox that is a trap."""
    flat: Flat = machine.flat
    case = _case(machine, profile)
    found = set()
    for event, cases in flat.answers.items():
        for state, answer in cases[case].items():
            if answer.refusal is None and answer.moves:
                source, target = state.split("/")[0], answer.target.split("/")[0]
                if source != target:
                    found.add((event, source, target))
                if "silent" in answer.target and "silent" not in state:
                    found.add((event, source, "silent"))
    return found
