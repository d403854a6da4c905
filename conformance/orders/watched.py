"""What a witness looks with: the properties of a spec as monitors, and the words for what it sees and finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.model import Level, Property
from wslifecycle.statemachine.properties import Form, Monitor, Parsed, Step, judge, parse
from wslifecycle.statemachine.system import vocabulary

SEEN_EFFECTS = frozenset(
    {
        "complete_handshake",
        "send_response",
        "send_head",
        "send_body",
        "end_response",
        "send_message",
        "send_close",
        "send_pong",
        "end_sending",
        "end_transport",
        "abort_transport",
    }
)
"""The effects that the transport shows."""

EVENTS = {
    "websocket.accept": "app_accept",
    "websocket.send": "app_send",
    "websocket.close": "app_close",
    "websocket.http.response.start": "app_response_start",
    "websocket.connect": "give_connect",
    "websocket.receive": "give_message",
    "websocket.disconnect": "give_disconnect",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be: the property or check that says so, its rule, and what was seen."""

    name: str
    rule: str
    level: str
    """`must`, `should` or `choice`."""
    text: str
    cause: str = ""
    """What tells apart several ways in which the same does not hold: the event of the step, or where an error is."""

    @property
    def key(self) -> str:
        """Name and cause."""
        return f"{self.name}: {self.cause}" if self.cause else self.name

    def __str__(self) -> str:
        return f"[{self.rule or 'any'}, {self.level}] {self.name}: {self.text}"


class Broken(AssertionError):
    """Something was seen that should not be: `finding`."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Watched:
    """A property that is watched: its monitor, and for `leads to` what it still owes something for, "" if nothing.

    `event`: that of the step since which it is owed.
    """

    __slots__ = ("_first", "_leads", "_monitor", "_second", "declared", "event", "owed")

    def __init__(self, declared: Property, parsed: Parsed) -> None:
        self.declared = declared
        self.owed = self.event = ""
        self._first = judge(parsed.first)
        self._leads = parsed.form is Form.LEADS_TO
        self._monitor = Monitor(declared, parsed=parsed)
        self._second = judge(parsed.second or parsed.first)

    def observe(self, step: Step) -> bool:
        """Takes one step; False when the property is broken by it."""
        if self._leads:
            if self._second(step):
                self.owed = ""
            elif not self.owed and self._first(step):
                self.owed, self.event = told(step), step.event
        return self._monitor.observe(step)


@lru_cache(maxsize=64)
def properties_of(machine: Lifecycle) -> list[tuple[Property, Parsed]]:
    """The properties of a machine, read."""
    spec = machine.spec
    known = vocabulary(spec.regions, spec.facts, spec.timers, spec.events, spec.effects)
    return [(declared, parse(declared.holds, known)) for declared in spec.properties.values()]


def told(step: Step) -> str:
    """A step in words."""
    effects = f" with {', '.join(sorted(step.effects))}" if step.effects else ""
    refused = f", refused as {step.refused}" if step.refused else ""
    return f"{step.event or 'nothing'}{effects}{refused}, where {', '.join(sorted(step.before))}"


def event_of(message: object) -> str:
    """The event that a message of the app is; "" if it is none."""
    kind = message.get("type") if isinstance(message, Mapping) else None
    if kind == "websocket.http.response.body":
        assert isinstance(message, Mapping)
        return "app_response_body" if message.get("more_body") is True else "app_response_end"
    event = EVENTS.get(kind, "") if isinstance(kind, str) else ""
    return event if event.startswith("app_") else ""


def kind_of(error: BaseException) -> str:
    """How a send() was refused."""
    return "disconnected" if isinstance(error, OSError) else "violation"


def level_of(flat: Flat, rule: str) -> str:
    """How binding a rule is: `must`, `should`, or the `choice` of a server."""
    found = flat.spec.rules.get(rule)
    if found is None:
        return "choice" if rule else "must"
    return {Level.MUST: "must", Level.DEFINITION: "must", Level.SHOULD: "should"}.get(found.level, "choice")
