"""The spec as frozen, typed values: what `spec/lifecycle.yaml` says, no more, each thing with its line.

`load` builds a `Spec` from the YAML file; `flatten` compiles it, with one answer to every choice, into a product of
plain states. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple


class Frozen:
    """A value whose mappings cannot be changed either, however deep they are."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, dict):
                object.__setattr__(self, item.name, _frozen(value))


def _frozen(value: Any) -> Any:
    return MappingProxyType({key: _frozen(item) for key, item in value.items()}) if isinstance(value, dict) else value


class Actor(StrEnum):
    """Who brings an event about. `given` events are what `receive()` gives to the app."""

    APP = "app"
    PEER = "peer"
    SERVER = "server"
    CLOCK = "clock"
    GIVEN = "given"


class Kind(StrEnum):
    """How an event is answered where it is not obeyed."""

    VIOLATION = "violation"
    """The app broke the lifecycle: `ApplicationViolation`."""
    DISCONNECTED = "disconnected"
    """The connection has ended: `Disconnected`."""
    NOT_DUE = "not_due"
    """`receive()` does not give this now; it waits."""
    IMPOSSIBLE = "impossible"
    """It cannot happen; if it does, the server is at fault: `ImpossibleEvent`."""


class Level(StrEnum):
    """How binding a rule is."""

    MUST = "M"
    SHOULD = "S"
    MAY = "Y"
    DEFINITION = "D"
    INFORMATIVE = "I"


@dataclass(frozen=True)
class Ref:
    """A value that is only known at run time or by the answers: `$scope.key`."""

    scope: str
    key: str

    def __str__(self) -> str:
        return f"${self.scope}.{self.key}"


@dataclass(frozen=True)
class First:
    """The first of several values that is not None."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


Value = Any
"""A constant, a `Ref` or a `First`."""

Fields = tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Rule:
    """A rule of a document (R is ASGI, W the RFCs)."""

    number: str
    level: Level
    doc: str
    place: str
    says: str
    line: int
    order: bool = False
    """It says what comes before or after what, so that a property has to hold it."""


@dataclass(frozen=True)
class Choice(Frozen):
    """Where the documents are silent: the closed set of answers, each with the values that it gives."""

    number: str
    about: str
    reference: str
    answers: Mapping[str, Mapping[str, Value]]
    breaks: Mapping[str, str]
    """The answers that are more than a choice, since they break a rule of a document: its number."""
    line: int


class Departure(NamedTuple):
    """Where a server was seen to leave the machine, in words: what had to come of an event in a state, and what did."""

    rule: str
    level: str
    state: str
    event: str
    expected: str
    seen: str


@dataclass(frozen=True)
class Profile:
    """What one server does: its answers to the choices, and where no answer describes what it was seen to do.

    `answers` has one for every choice, the reference's where nothing else was measured. What is not known is empty.
    """

    name: str
    answers: Mapping[str, str]
    server: str = ""
    version: str = ""
    measured: str = ""
    spec_version: str = ""
    extensions: tuple[str, ...] = ()
    deviations: tuple[Departure, ...] = ()


@dataclass(frozen=True)
class When:
    """Selects something by the answers to choices: any of the alternatives, all choices of one."""

    alternatives: tuple[Mapping[str, frozenset[str]], ...] = ()

    def holds(self, answers: Mapping[str, str]) -> bool:
        """Whether a profile with these answers has what this selects."""
        return not self.alternatives or any(
            all(answers[choice] in wanted for choice, wanted in alternative.items())
            for alternative in self.alternatives
        )


@dataclass(frozen=True)
class Call:
    """An effect with its fields filled in."""

    effect: str
    fields: Fields = ()


@dataclass(frozen=True)
class State:
    """A state of one region. `enter`: effects of entering it from another state."""

    name: str
    says: str
    rule: str
    line: int
    enter: tuple[Call, ...] = ()
    when: When = When()


@dataclass(frozen=True)
class Region(Frozen):
    """One of the small machines that run side by side."""

    name: str
    says: str
    initial: str
    final: frozenset[str]
    states: Mapping[str, State]
    line: int


@dataclass(frozen=True)
class Fact:
    """What a guard may read. Its bit in a guard case is `1 << position`."""

    name: str
    says: str
    rule: str
    line: int
    extension: str | None = None
    spec_version: str | None = None
    begins: str | None = None

    @property
    def fixed(self) -> bool:
        """Whether it is known when the connection begins and never changes."""
        return self.extension is not None or self.spec_version is not None


@dataclass(frozen=True)
class Named(Frozen):
    """A declared effect or variable: its fields with their defaults (None: has to be written)."""

    name: str
    says: str
    rule: str
    fields: Mapping[str, Value]
    line: int
    inner: bool = False


@dataclass(frozen=True)
class Timer:
    """A timer, the states in which it runs and the event that it brings."""

    name: str
    says: str
    region: str
    states: frozenset[str]
    event: str
    seconds: Value
    rule: str
    line: int


@dataclass(frozen=True)
class Event(Frozen):
    """Something that happens to a connection. `message`: the ASGI type where it is a message."""

    name: str
    actor: Actor
    says: str
    rule: str
    line: int
    answered_by: tuple[str, ...]
    message: str | None = None
    fields: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def label(self) -> str:
        """What people call it: the ASGI type where it is a message."""
        if self.message is None:
            return self.name.removeprefix(f"{self.actor}_").replace("_", " ")
        return self.message + (" (more)" if self.name.endswith("_body") else "")


@dataclass(frozen=True, eq=False)
class Row(Frozen):
    """One event-triggered transition of one region, or the refusal of one."""

    region: str
    events: tuple[str, ...]
    sources: tuple[str, ...]
    target: str | None
    elsewhere: Mapping[str, frozenset[str]]
    guards: tuple[tuple[str, bool], ...]
    when: When
    effects: tuple[Call, ...]
    assigns: tuple[tuple[str, Fields], ...]
    gives: Fields | None
    checks: Value
    refusal: Kind | None
    rule: str
    line: int


@dataclass(frozen=True, eq=False)
class Coupling(Frozen):
    """A state-triggered transition: it applies by itself wherever it holds."""

    region: str
    sources: frozenset[str]
    target: str
    elsewhere: Mapping[str, frozenset[str]]
    rule: str
    line: int


@dataclass(frozen=True)
class Constraint(Frozen):
    """What a value has to fulfil beyond its type, and the values that say how."""

    name: str
    says: str
    rule: str
    refuse: Value
    options: Mapping[str, Value]
    line: int


@dataclass(frozen=True)
class Key:
    """A key of an ASGI message."""

    name: str
    type: str
    required: bool
    default: Value
    null_is_default: Value
    value: str | None
    since: str | None
    before: str | None
    rule: str
    line: int


@dataclass(frozen=True)
class Message(Frozen):
    """An ASGI message: its keys and what it means to the machine."""

    type: str
    sender: str
    event: str
    event_if: tuple[str, str] | None
    keys: Mapping[str, Key]
    exactly_one: tuple[str, ...]
    extension: str | None
    omit_null: Value
    rule: str
    line: int


@dataclass(frozen=True)
class Property:
    """What must hold of every run, in the language of `properties`.

    What `leads to` promises may rely on the actions that are `fair`, which are not put off for ever while they are
    possible, and on those that are `rare`, which happen a finite number of times.
    """

    name: str
    holds: str
    rule: str
    line: int
    fair: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec(Frozen):
    """The whole of `spec/lifecycle.yaml`."""

    title: str
    documents: Mapping[str, Mapping[str, str]]
    versions: Mapping[str, str]
    regions: Mapping[str, Region]
    facts: Mapping[str, Fact]
    variables: Mapping[str, Named]
    timers: Mapping[str, Timer]
    events: Mapping[str, Event]
    effects: Mapping[str, Named]
    rows: tuple[Row, ...]
    couplings: tuple[Coupling, ...]
    messages: Mapping[str, Message]
    constraints: Mapping[str, Constraint]
    choices: Mapping[str, Choice]
    rules: Mapping[str, Rule]
    system: Mapping[str, Mapping[str, str]]
    """What the machine is checked among: names with what they mean, by kind (actions, conditions, marks)."""
    properties: Mapping[str, Property]
    file: str = "spec/lifecycle.yaml"

    @property
    def reference(self) -> dict[str, str]:
        """The answers of our own server."""
        return {number: choice.reference for number, choice in self.choices.items()}

    def cite(self, number: str) -> str:
        """`Rule 20, "Connect - receive event"`, `RFC 6455 section 7.1.7` or `Choice 9`: where a number comes from."""
        if number in self.choices:
            return f"Choice {number[1:]}: {self.choices[number].about}"
        rule = self.rules[number]
        if rule.doc.startswith("RFC"):
            return f"Rule {number}, {rule.doc} section {rule.place}"
        return f'Rule {number}, {rule.doc}, "{rule.place}"'
