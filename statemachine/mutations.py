"""The operators that make mutants of a spec: what somebody may have got wrong in one place of it.

An operator looks at a `Place` and yields what may stand there instead, each with a short detail for the mutant's id.
`OPERATORS` holds those that need one place, `swaps` makes those that exchange something between two. They work on the
tree of the YAML file and never change it: what they yield are copies that keep the line. `mutate` puts them to use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from wslifecycle.statemachine.model import Actor
from wslifecycle.statemachine.source import Map, Sequence, names

if TYPE_CHECKING:
    from wslifecycle.statemachine.mutate import Subject

Change = Mapping[str, list[Map]]
"""What stands instead in each place that is changed, by the place's id; nothing: it is removed."""

GONE: Any = object()
_PASSIVE = ("ignore", "refuse", "impossible")
_ACTIVE = ("to", "effects", "set", "gives")
_OUTCOME = (*_ACTIVE, "checks", *_PASSIVE)


@dataclass(frozen=True, eq=False)
class Place:
    """Something in the tree that can be changed on its own. `piece` says what the reference has there.

    `path` leads to it, or to the row that it is a part of: then `pairs` are the (event, state) pairs that it is about.
    """

    id: str
    kind: str
    path: tuple[str | int, ...]
    piece: Map
    line: int
    region: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    whole: bool = True

    @property
    def event(self) -> str:
        """The event of a row."""
        return self.pairs[0][0]

    @property
    def source(self) -> str:
        """The state that a row or a coupling starts from."""
        return self.pairs[0][1]

    @property
    def obeyed(self) -> bool:
        """Whether it is a row that does something."""
        return any(key in self.piece for key in _ACTIVE)


def edited(base: Map, changes: Mapping[str, Any]) -> Map:
    """A copy of a mapping with some keys set, and those removed that are `GONE`."""
    made = Map(base.line)
    for key, value in {**base, **changes}.items():
        if value is not GONE:
            made[key] = value
            made.lines[key] = base.lines.get(key, base.line)
    return made


def listed(items: Iterable[Any], line: int) -> Sequence:
    """A list of the tree, all of it in one line."""
    made = Sequence(line)
    made.extend(items)
    made.lines = [line] * len(made)
    return made


# ------------------------------------------------------------------------------------------------ operators


Changes = Iterator[tuple[str, list[Map]]]


def _instead(place: Place, outcome: dict[str, Any]) -> list[Map]:
    """The row with another outcome; one that would say nothing stays where it is."""
    says = any(key in _OUTCOME and value is not GONE and key != "checks" for key, value in outcome.items())
    return [edited(place.piece, dict.fromkeys(_OUTCOME, GONE) | (outcome if says else {"to": place.source}))]


def _outcome(piece: Map) -> dict[str, Any]:
    return {key: value for key, value in piece.items() if key in _OUTCOME}


def _drop(subject: Subject, place: Place) -> Changes:
    yield "", []


def _duplicate(subject: Subject, place: Place) -> Changes:
    if place.whole:
        yield "", [place.piece, place.piece]


def _retarget(subject: Subject, place: Place) -> Changes:
    now = place.piece.get("to", place.source)
    for state in subject.flat.present[place.region]:
        if place.kind == "coupling" and state not in (now, place.source):
            yield state, [edited(place.piece, {"to": state})]
        elif place.kind == "row" and state != now and (place.obeyed or "ignore" in place.piece):
            yield state, _instead(place, _outcome(place.piece) | {"ignore": GONE, "to": state})


def _ignore(subject: Subject, place: Place) -> Changes:
    if "ignore" not in place.piece:
        yield "", _instead(place, {"ignore": True})


def _refuse(subject: Subject, place: Place) -> Changes:
    for kind in subject.refusals(place.event):
        outcome: dict[str, Any] = {"impossible": True} if kind == "impossible" else {"refuse": kind}
        if outcome != _outcome(place.piece):
            yield kind, _instead(place, outcome)


def _obey(subject: Subject, place: Place) -> Changes:
    """As in another state, from which the event is obeyed."""
    for other in subject.places.values():
        same = (other.kind, other.region, other.event) == ("row", place.region, place.event) if other.pairs else False
        if same and other.obeyed and other.source != place.source and _outcome(other.piece) != _outcome(place.piece):
            yield other.id.partition("@")[2], _instead(place, _outcome(other.piece))


def _on_effects(change: Callable[[list[Any]], Iterator[tuple[str, list[Any]]]]) -> Callable[[Subject, Place], Changes]:
    """An operator on the effects of a row, or of entering a state."""

    def changes(subject: Subject, place: Place) -> Changes:
        key = "enter" if place.kind == "enter" else "effects"
        for detail, effects in change(list(place.piece.get(key, ()))):
            value = listed(effects, place.line) if effects else GONE
            if key == "enter":
                yield detail, [edited(place.piece, {key: value})]
            else:
                yield detail, _instead(place, _outcome(place.piece) | {key: value})

    return changes


def _name(effect: Any) -> str:
    return effect if isinstance(effect, str) else next(iter(effect))


def _one_less(effects: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    for index, effect in enumerate(effects):
        yield _name(effect), effects[:index] + effects[index + 1 :]


def _one_twice(effects: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    for index, effect in enumerate(effects):
        yield _name(effect), [*effects[: index + 1], *effects[index:]]


def _two_turned(effects: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    for index, (one, two) in enumerate(pairwise(effects)):
        yield f"{_name(one)}+{_name(two)}", [*effects[:index], two, one, *effects[index + 2 :]]


def _drop_set(subject: Subject, place: Place) -> Changes:
    for variable in place.piece.get("set", {}):
        left = edited(place.piece["set"], {variable: GONE})
        yield variable, _instead(place, _outcome(place.piece) | {"set": left or GONE})


_OTHERS: dict[str, tuple[Any, ...]] = {
    "status": (500, 403),
    "code": (1005, 1000),
    "reason": ("", "other"),
    "seconds": (0,),
    "data": ("",),
    "body": (b"",),
    "payload": (b"",),
    "headers": (Sequence(0),),
    "subprotocol": (None,),
}
"""What may stand in a field instead: the first of these that differs; else nothing."""


def _value(subject: Subject, place: Place) -> Changes:
    """Another value in one field of an effect, a variable or a message; of several alternatives one less."""
    for key in ("effects", "set", "gives"):
        written = place.piece.get(key, ())
        for each in written if key == "effects" else [written]:
            named = each if isinstance(each, Map) and key != "gives" else {"message": each} if key == "gives" else {}
            for name, fields in named.items():
                for field, value in fields.items() if fields else ():
                    for other in _other_values(subject, field, value):
                        new = edited(fields, {field: other})
                        whole: Map | Sequence = new if key == "gives" else edited(each, {name: new})
                        if key == "effects":
                            whole = listed([whole if e is each else e for e in written], place.line)
                        yield f"{name}.{field}->{_shown(other)}", _instead(place, _outcome(place.piece) | {key: whole})


def _other_values(subject: Subject, field: str, value: Any) -> Iterator[Any]:
    less = []
    if isinstance(value, Sequence) and len(value) > 1:
        rests = [[*value[:index], *value[index + 1 :]] for index in range(len(value))]
        less = [rest[0] if len(rest) == 1 else listed(rest, value.line) for rest in rests]
    yield from less
    yield from [other for other in _OTHERS.get(field, (None,)) if other not in (subject.resolved(value), *less)][:1]


def _shown(value: Any) -> str:
    if isinstance(value, Sequence):
        return "+".join(map(str, value))
    return str(value) if value not in ("", b"") else repr(value)


def _guards(subject: Subject, place: Place) -> Changes:
    guards = names(place.piece.get("if"))
    for index, guard in enumerate(guards):
        turned = guard.removeprefix("not ") if guard.startswith("not ") else f"not {guard}"
        rest = [*guards[:index], *guards[index + 1 :]]
        without = edited(place.piece, {"if": listed(rest, place.line) if rest else GONE})
        yield f"-{guard.replace('not ', '!')}", [without]
        yield turned.replace("not ", "!"), [edited(place.piece, {"if": listed([*rest, turned], place.line)})]


def _while(subject: Subject, place: Place) -> Changes:
    """A condition on another region dropped, and one state less, exchanged or more in it.

    No more states where each has an answer already: that would be an overlap and nothing else.
    """
    full = place.kind == "row" and place.region in subject.spec.events[place.event].answered_by
    for region, states in place.piece.get("while", {}).items():
        left = edited(place.piece["while"], {region: GONE})
        yield f"-{region}", [edited(place.piece, {"while": left if left or place.kind == "coupling" else GONE})]
        for detail, changed in _one_state(names(states), subject.flat.present[region]):
            if full and detail.startswith("+"):
                continue
            new = edited(place.piece["while"], {region: listed(changed, place.line)})
            yield f"{region}{detail}", [edited(place.piece, {"while": new})]


def _one_state(states: tuple[str, ...], present: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """A set of states with one less, one more, one exchanged."""
    fresh = [state for state in present if state not in states]
    for state in states:
        rest = [other for other in states if other != state]
        if rest:
            yield f"-{state}", rest
        else:
            yield from ((f"={other}", [other]) for other in fresh)
    yield from ((f"+{other}", [*states, other]) for other in fresh)


def _timer(subject: Subject, place: Place) -> Changes:
    ((region, states),) = place.piece["runs"].items()
    for detail, changed in _one_state(names(states), subject.flat.present[region]):
        runs = edited(place.piece["runs"], {region: listed(changed, place.line)})
        yield f"runs{detail}", [edited(place.piece, {"runs": runs})]
    for event, declared in subject.spec.events.items():
        if declared.actor is Actor.CLOCK and event != place.piece["event"]:
            yield event, [edited(place.piece, {"event": event})]


OPERATORS: dict[str, tuple[tuple[str, ...], Callable[[Subject, Place], Changes]]] = {
    "drop": (("row", "whole row", "coupling", "whole coupling", "timer"), _drop),
    "duplicate": (("row", "whole row", "coupling", "whole coupling"), _duplicate),
    "retarget": (("row", "coupling"), _retarget),
    "ignore": (("row",), _ignore),
    "refuse": (("row",), _refuse),
    "obey": (("row",), _obey),
    "drop-effect": (("row", "enter"), _on_effects(_one_less)),
    "double-effect": (("row", "enter"), _on_effects(_one_twice)),
    "swap-effects": (("row", "enter"), _on_effects(_two_turned)),
    "drop-set": (("row",), _drop_set),
    "value": (("row",), _value),
    "if": (("row",), _guards),
    "while": (("row", "coupling"), _while),
    "timer": (("timer",), _timer),
}
"""The operators on one place: the kinds of places that each looks at, and what may stand there instead."""


SAYS = {
    "drop": "is left out",
    "duplicate": "stands twice",
    "retarget": "leads to {}",
    "ignore": "is ignored",
    "refuse": "is refused: {}",
    "obey": "is answered as in {}",
    "drop-effect": "is without the effect {}",
    "double-effect": "has the effect {} twice",
    "swap-effects": "has the effects {} in the other order",
    "drop-set": "does not assign {}",
    "value": "has another value, {}",
    "if": "has another guard, {}",
    "while": "has another condition, {}",
    "timer": "is changed, {}",
    "swap": "exchanges its answer with {}",
    "swap-targets": "exchanges its target with {}",
}
"""What an operator does to a place, for its detail."""


def swaps(subject: Subject) -> Iterator[tuple[str, str, str, Change]]:
    """Exchanges between two rows of one event, or two couplings: their targets, or from one state all they say."""
    for one, two in combinations([p for p in subject.places.values() if p.kind in ("row", "coupling")], 2):
        if (one.kind, one.region, one.event) != (two.kind, two.region, two.event):
            continue
        detail = two.id.partition("@")[2]
        targets = one.piece.get("to", one.source), two.piece.get("to", two.source)
        if one.source == two.source and one.kind == "row" and _outcome(one.piece) != _outcome(two.piece):
            change = {one.id: _instead(one, _outcome(two.piece)), two.id: _instead(two, _outcome(one.piece))}
            yield "swap", one.id, detail, change
        elif "to" in one.piece and "to" in two.piece and targets[0] != targets[1]:
            change = {one.id: [edited(one.piece, {"to": targets[1]})], two.id: [edited(two.piece, {"to": targets[0]})]}
            yield "swap-targets", one.id, detail, change
