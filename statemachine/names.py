"""What a spec may name: declared names, numbers of rules, answers to choices, and references (`$x.y`) to values.

The part of the loader that every declaration and every row needs. It reports what does not exist (WSL010 - WSL016) and
counts what is used, so that what is left over can be reported too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from wslifecycle.statemachine.model import (
    Call,
    Choice,
    Constraint,
    Event,
    Fact,
    Fields,
    First,
    Message,
    Named,
    Ref,
    Region,
    Value,
    When,
)
from wslifecycle.statemachine.properties import WORDS
from wslifecycle.statemachine.source import Map, Source, names, show

_TAKEN = frozenset(("trigger", "state", "case", "initial", "model", "may", "to"))
_TAKEN_PREFIXES = ("may_", "to_", "is_", "on_enter_", "on_exit_")


class Names:
    """The declarations that were read so far, and every way to refer to them."""

    def __init__(self, source: Source, tree: Map) -> None:
        self.source = source
        self.report = source.report
        self.tree = tree
        self.used: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.choices: dict[str, Choice] = {}
        self.effects: dict[str, Named] = {}
        self.variables: dict[str, Named] = {}
        self.regions: dict[str, Region] = {}
        self.facts: dict[str, Fact] = {}
        self.events: dict[str, Event] = {}
        self.constraints: dict[str, Constraint] = {}
        self.messages: dict[str, Message] = {}

    # ---------------------------------------------------------------------------------------- names

    def unknown(self, what: str, name: object, line: int, known: Iterable[str]) -> None:
        """Reports a name that is not declared."""
        self.report("WSL011", line, f"There is no {what} `{name}`.", f"Declared are: {', '.join(known) or 'none'}.")

    def number(self, number: str, line: int) -> None:
        """Holds that a rule or a choice has this number."""
        if number not in self.tree["rules"] and number not in self.tree["choices"]:
            self.report("WSL010", line, f"There is no rule {number!r}.", "Name one of `rules` or `choices`.")

    def states(self, region: str, states: Iterable[str], line: int) -> None:
        """Holds that the region and these states of it exist."""
        if region not in self.regions:
            self.unknown("region", region, line, self.regions)
            return
        for state in states:
            if state not in self.regions[region].states:
                self.unknown(f"state of {region}", state, line, self.regions[region].states)

    def elsewhere(self, value: Map, line: int) -> dict[str, frozenset[str]]:
        """`while` and `runs`: states of regions."""
        for region, states in value.items():
            self.states(region, names(states), line)
        return {region: frozenset(names(states)) for region, states in value.items()}

    def guard(self, text: str, line: int) -> tuple[str, bool]:
        """A fact, or `not` a fact."""
        name = text.removeprefix("not ").strip()
        self.used[f"fact {name}"] += 1
        if name not in self.facts:
            self.unknown("fact", name, line, self.facts)
        return name, not text.startswith("not ")

    def when(self, value: Map, line: int) -> When:
        """`when`: one mapping of choices to answers, or a list of such alternatives."""
        raw = value.get("when", [])
        alternatives = []
        for entry in [raw] if isinstance(raw, Map) else raw:
            for choice, answers in entry.items():
                for answer in names(answers):
                    check_answer(self.choices, self.source, choice, answer, line)
            alternatives.append({choice: frozenset(names(answers)) for choice, answers in entry.items()})
        return When(tuple(alternatives))

    def identifier(self, what: str, name: str, line: int) -> None:
        """Holds that a name is one, and free.

        States, events and facts become attributes of models in transitions, which skips those that exist with nothing
        but a line in the log; and they are terms of the properties.
        """
        first = self.first.get(name)
        self.first.setdefault(name, line)
        if not name.isidentifier():
            self.report("WSL012", line, f"The {what} name `{name}` is no identifier.", "Use letters, digits and _.")
        elif name in _TAKEN or name.startswith(_TAKEN_PREFIXES):
            self.report("WSL012", line, f"The {what} name `{name}` is taken by transitions.", "Rename it.")
        elif name in WORDS:
            self.report("WSL012", line, f"The {what} name `{name}` is a word of the properties.", "Rename it.")
        elif first is not None and what in ("event", "fact"):
            self.report("WSL012", line, f"The {what} name `{name}` is declared in line {first} too.", "Rename one.")

    # ---------------------------------------------------------------------------------------- values

    def value(self, item: Value, line: int, given: Iterable[Event] | None = (), *, of: str = "") -> Value:
        """A constant, a `$scope.key` or a list of alternatives (first that is not null).

        `given`: the events whose message and fields may be referred to. None puts that off, as for the answers to a
        choice (`of`): where they end up is only known when a profile is compiled.
        """
        if isinstance(item, list):
            values = tuple(self.value(part, line, given, of=of) for part in item)
            return First(values) if any(isinstance(part, Ref) for part in values) else values
        if not (isinstance(item, str) and item.startswith("$")):
            return item
        scope, _, key = item[1:].partition(".")
        if scope in self.tree["choices"]:
            if of:
                self.report(
                    "WSL015", line, f"{item}: an answer to {of} cannot refer to a choice.", "Write the value itself."
                )
            elif not any(key in values for values in self.tree["choices"][scope]["answers"].values()):
                self.report("WSL015", line, f"No answer to {scope} gives `{key}`.", "Name a value of its answers.")
        elif scope in ("message", "event"):
            self._given(item, scope, key, line, given)
        elif scope in self.tree["variables"]:
            self.used[f"variable {scope}"] += 1
            known = self.tree["variables"][scope]["fields"]
            if key not in known:
                self.report("WSL015", line, f"Variable {scope} has no field `{key}`.", f"It has {', '.join(known)}.")
        else:
            self.report("WSL015", line, f"`{item}` refers to nothing.", "Use $message, $event, a variable or a choice.")
        return Ref(scope, key)

    def _given(self, item: str, scope: str, key: str, line: int, given: Iterable[Event] | None) -> None:
        if given is None:
            return
        events = list(given)
        if not events:
            self.report("WSL015", line, f"{item}: nothing is given here.", "Write a constant or refer to a choice.")
        for event in events:
            message = self.tree["messages"].get(event.message)
            known = event.fields if scope == "event" else message["keys"] if message else {}
            if key not in known:
                has = ", ".join(known) or "nothing"
                self.report("WSL015", line, f"{item}: the {scope} of {event.name} has {has}.", "Name one of these.")

    def fields(
        self,
        what: str,
        declared: Mapping[str, Named],
        name: str,
        fields: Mapping[str, Value],
        line: int,
        given: Iterable[Event] | None,
    ) -> Fields:
        """Fills in the declared fields of an effect or a variable."""
        self.used[f"{what} {name}"] += 1
        if name not in declared:
            self.unknown(what, name, line, declared)
            return ()
        filled = dict(declared[name].fields)
        missing = {key for key, default in filled.items() if default is None}
        for key, item in fields.items():
            if key not in filled:
                known = ", ".join(filled) or "none"
                self.report("WSL016", line, f"{name} has no field `{key}`.", f"Its fields: {known}.")
            missing.discard(key)
            filled[key] = self.value(item, line, given)
        if missing:
            self.report("WSL016", line, f"{name} lacks {', '.join(sorted(missing))}.", "Write a value.")
        return tuple(filled.items())

    def calls(self, entries: Iterable[str | Map], line: int, given: Iterable[Event] | None) -> tuple[Call, ...]:
        """Effects: each a name, or {name: {field: value}}."""
        calls = []
        for entry in entries:
            name, fields = (entry, Map(line)) if isinstance(entry, str) else next(iter(entry.items()))
            calls.append(Call(name, self.fields("effect", self.effects, name, fields, line, given)))
        return tuple(calls)


def check_answer(choices: Mapping[str, Choice], source: Source, choice: str, answer: object, line: int) -> None:
    """Reports WSL013 unless the choice exists and has this answer."""
    if choice not in choices:
        source.report("WSL013", line, f"There is no choice {choice}.", f"Write C1 to C{len(choices)}.")
    elif not isinstance(answer, str) or answer not in choices[choice].answers:
        known = ", ".join(choices[choice].answers)
        source.report("WSL013", line, f"{choice} has no answer {show(answer)}.", f"Write one of {known}.")
