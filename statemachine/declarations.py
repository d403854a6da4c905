"""Reads the declarations of a spec: everything in it but the rows, the couplings and what they make of each other."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from wslifecycle.statemachine import effects as effect_types
from wslifecycle.statemachine.messages import CONSTRAINTS, TYPES
from wslifecycle.statemachine.model import (
    Actor,
    Choice,
    Constraint,
    Event,
    Fact,
    Key,
    Level,
    Message,
    Named,
    Property,
    Region,
    Rule,
    State,
    Timer,
    Value,
)
from wslifecycle.statemachine.names import Names
from wslifecycle.statemachine.properties import Form, PropertyError, parse, terms_of
from wslifecycle.statemachine.source import Map, names
from wslifecycle.statemachine.system import ACTIONS, FLAGS, VOCABULARY, vocabulary

_ACTORS = {"app": Actor.APP, "server": Actor.GIVEN}
_SENDERS = tuple(_ACTORS)
_BEFORE = ("refused", "ignored")


class Declarations(Names):
    """One method for each kind of declaration; the shape of the tree has been checked."""

    def rule(self, name: str, value: Map) -> Rule:
        """A rule of a document."""
        place = value.get("heading") or value.get("section")
        if place is None:
            self.report("WSL005", value.line, f"Rule {name} does not say where it stands.", "Add heading or section.")
        if not re.fullmatch(r"[RW][1-9]\d*", name):
            self.report("WSL006", value.line, f"`{name}` is not the number of a rule.", "Write R or W and a number.")
        if value["doc"] not in self.tree["documents"]:
            self.unknown("document", value["doc"], value.line, self.tree["documents"])
        level = self.source.word(value, "level", f"rule {name}", [level.value for level in Level])
        return Rule(name, Level(level), value["doc"], str(place), value["says"], value.line, "order" in value)

    def choice(self, name: str, value: Map) -> Choice:
        """A choice with its answers."""
        answers: dict[str, Mapping[str, Value]] = {
            answer: {key: self.value(item, given.lines[key], None, of=name) for key, item in given.items()}
            for answer, given in value["answers"].items()
        }
        if not re.fullmatch(r"C[1-9]\d*", name):
            self.report("WSL006", value.line, f"`{name}` is not the number of a choice.", "Write C and a number.")
        if value["reference"] not in answers:
            known = ", ".join(answers) or "nothing"
            line = value.lines["reference"]
            self.report("WSL013", line, f"{name} has no answer {value['reference']!r}.", f"Write one of {known}.")
        return Choice(name, value["about"], value["reference"], answers, self._breaks(name, value, answers), value.line)

    def _breaks(self, name: str, value: Map, answers: Collection[str]) -> Mapping[str, str]:
        """The answers that break a rule: not the reference's, and a rule of a document."""
        breaks = value.get("breaks", {})
        for answer, rule in breaks.items():
            line = breaks.lines[answer]
            others = [other for other in answers if other != value["reference"]]
            if answer not in others:
                self.report("WSL013", line, f"{name} has no answer {answer!r} beside ours.", f"Write one of {others}.")
            if rule not in self.tree["rules"]:
                self.report("WSL011", line, f"There is no rule {rule!r} of a document.", "Write an R or W number.")
        return dict(breaks)

    def effect(self, name: str, value: Map) -> Named:
        """An effect; the connection has to know it."""
        known = effect_types.FIELDS.get(name)
        if known is None:
            text = f"The connection knows no effect `{name}`."
            self.report("WSL011", value.line, text, f"Declare one of {', '.join(effect_types.FIELDS)}.")
        elif list(value["fields"]) != known:
            text = f"{name} has the fields {', '.join(known) or 'none'}, in this order."
            self.report("WSL016", value.line, text, "Declare these.")
        return self._named(name, value)

    def variable(self, name: str, value: Map) -> Named:
        """A variable; `$name.field` has to be unmistakable."""
        if name in ("message", "event") or name in self.tree["choices"]:
            self.report("WSL012", value.line, f"`${name}` means something else already.", "Rename the variable.")
        return self._named(name, value)

    def _named(self, name: str, value: Map) -> Named:
        self.number(value["rule"], value.line)
        fields = {key: self.value(item, value.line) for key, item in value["fields"].items()}
        return Named(name, value["says"], value["rule"], fields, value.line, value.get("inner", False))

    def region(self, name: str, value: Map) -> Region:
        """A region with its states."""
        states: dict[str, State] = {}
        if not name.isidentifier():
            self.report("WSL012", value.line, f"The region name `{name}` is no identifier.", "Use letters and _.")
        for state, entry in value["states"].items():
            self.number(entry["rule"], entry.line)
            self.identifier("state", state, entry.line)
            calls = self.calls(entry.get("enter", ()), entry.line, ())
            states[state] = State(state, entry["says"], entry["rule"], entry.line, calls, self.when(entry, entry.line))
        for key in ("initial", "final"):
            for state in names(value.get(key)):
                if state not in states:
                    self.unknown(f"state of {name}", state, value.lines[key], states)
        return Region(name, value["says"], value["initial"], frozenset(names(value.get("final"))), states, value.line)

    def fact(self, name: str, value: Map) -> Fact:
        """A fact that guards may read."""
        self.number(value["rule"], value.line)
        self.identifier("fact", name, value.line)
        version, begins = value.get("spec_version"), value.get("begins")
        if version is not None and version not in self.tree["spec_versions"]:
            self.unknown("spec version", version, value.line, self.tree["spec_versions"])
        if begins is not None and begins not in self.effects:
            self.unknown("effect", begins, value.line, self.effects)
        if len([key for key in ("extension", "spec_version", "begins") if key in value]) != 1:
            text = f"Fact {name} has to come from exactly one source."
            self.report("WSL017", value.line, text, "Write one of extension, spec_version and begins.")
        return Fact(name, value["says"], value["rule"], value.line, value.get("extension"), version, begins)

    def event(self, name: str, value: Map) -> Event:
        """An event."""
        self.number(value["rule"], value.line)
        self.identifier("event", name, value.line)
        actor = Actor(self.source.word(value, "actor", f"event {name}", [actor.value for actor in Actor]))
        message = value.get("message")
        if message is not None and message not in self.tree["messages"]:
            self.unknown("message", message, value.line, self.tree["messages"])
        if message is None and actor is Actor.GIVEN:
            self.report("WSL005", value.line, f"Event {name} gives no message.", "Add `message:`.")
        regions = names(value["answered_by"])
        for region in regions:
            if region not in self.regions:
                self.unknown("region", region, value.line, self.regions)
        fields = {key: self.value(item, value.line) for key, item in value.get("fields", {}).items()}
        return Event(name, actor, value["says"], value["rule"], value.line, regions, message, fields)

    def timer(self, name: str, value: Map) -> Timer:
        """A timer and the states in which it runs."""
        self.number(value["rule"], value.line)
        if value["event"] not in self.events:
            self.unknown("event", value["event"], value.line, self.events)
        runs = self.elsewhere(value["runs"], value.line)
        if len(runs) != 1:
            self.report("WSL017", value.line, f"Timer {name} runs in {len(runs)} regions.", "Name exactly one.")
        region, states = next(iter(runs.items()), ("", frozenset()))
        seconds = self.value(value["seconds"], value.line)
        return Timer(name, value["says"], region, states, value["event"], seconds, value["rule"], value.line)

    def constraint(self, name: str, value: Map) -> Constraint:
        """A constraint with the options that the connection knows."""
        self.number(value["rule"], value.line)
        options = {
            key: self.value(item, value.line) for key, item in value.items() if key not in ("says", "rule", "refuse")
        }
        if name not in CONSTRAINTS:
            self.unknown("constraint", name, value.line, CONSTRAINTS)
        elif set(options) != set(CONSTRAINTS[name]):
            known = ", ".join(CONSTRAINTS[name]) or "no options"
            self.report("WSL016", value.line, f"{name} takes {known}.", "Write just these.")
        refuse = self.value(value["refuse"], value.line)
        return Constraint(name, value["says"], value["rule"], refuse, options, value.line)

    def message(self, name: str, value: Map) -> Message:
        """An ASGI message with its keys."""
        self.number(value["rule"], value.line)
        keys = {key: self._key(key, entry) for key, entry in value["keys"].items()}
        event_ifs = list(value.get("event_if", {}).items())
        if len(event_ifs) > 1:
            self.report("WSL017", value.lines["event_if"], f"{name} has several `event_if`.", "Name one key.")
        for event in (value["event"], *(event for _, event in event_ifs)):
            if event not in self.events:
                self.unknown("event", event, value.line, self.events)
            elif len(event_ifs) < 2 and self._contradicts(self.events[event], name, value["sender"]):
                text = f"{name} of the {value['sender']} is the event {event}, which is another message or actor."
                self.report("WSL025", value.line, text, "Let `message` and `actor` of the event say the same.")
        for key in (*names(value.get("exactly_one")), *(key for key, _ in event_ifs)):
            if key not in keys:
                self.unknown(f"key of {name}", key, value.line, keys)
        return Message(
            name,
            self.source.word(value, "sender", f"message {name}", _SENDERS),
            value["event"],
            event_ifs[0] if event_ifs else None,
            keys,
            names(value.get("exactly_one")),
            value.get("extension"),
            self.value(value.get("omit_null", False), value.line),
            value["rule"],
            value.line,
        )

    def _contradicts(self, event: Event, message: str, sender: str) -> bool:
        """Whether an event says another thing of itself; what is not declared at all is reported elsewhere."""
        if event.message not in self.tree["messages"] or sender not in _ACTORS:
            return False
        return event.message != message or event.actor is not _ACTORS[sender]

    def _key(self, name: str, value: Map) -> Key:
        self.number(value["rule"], value.line)
        self.source.word(value, "type", f"key {name}", TYPES)
        if "before" in value:
            self.source.word(value, "before", f"key {name}", _BEFORE)
        since, constraint = value.get("since"), value.get("value")
        if since is not None and since not in self.tree["spec_versions"]:
            self.unknown("spec version", since, value.line, self.tree["spec_versions"])
        if constraint is not None:
            self.used[f"constraint {constraint}"] += 1
            if constraint not in self.constraints:
                self.unknown("constraint", constraint, value.line, self.constraints)
        return Key(
            name,
            value["type"],
            "default" not in value,
            self.value(value.get("default"), value.line),
            self.value(value.get("null_is_default", False), value.line),
            constraint,
            since,
            value.get("before"),
            value["rule"],
            value.line,
        )

    def system(self, value: Map) -> None:
        """The words for what is around the machine; the checker has to know them, and all of them are declared."""
        for kind, known in VOCABULARY.items():
            declared = value[kind]
            for name in declared:
                self.identifier(kind.removesuffix("s"), name, declared.lines[name])
                if name not in known:
                    self.unknown(f"{kind.removesuffix('s')} of the system", name, declared.lines[name], known)
            for name in known:
                if name not in declared:
                    text = f"The system has {kind}, of which `{name}` is not declared."
                    self.report("WSL005", declared.line, text, "Say what it means.")

    def property(self, name: str, value: Map) -> Property:
        """A property, which has to be readable and to speak of what exists."""
        self.number(value["rule"], value.line)
        try:
            parsed = parse(
                value["holds"], vocabulary(self.regions, self.facts, self.tree["timers"], self.events, self.effects)
            )
            for term in (*terms_of(parsed.first), *(terms_of(parsed.second) if parsed.second is not None else ())):
                if term.after and term.name in FLAGS:
                    raise PropertyError(f"`{term.name}` is told by the queues, before a step and not after it")
        except PropertyError as error:
            self.report("WSL018", value.line, f"Property {name}: {error}.", "See the terms above `properties`.")
        else:
            if parsed.form is not Form.LEADS_TO and ("fair" in value or "rare" in value):
                text = f"Property {name} promises nothing that could be put off."
                self.report("WSL018", value.line, text, "`fair` and `rare` go with `leads to`.")
        fair, rare = names(value.get("fair")), names(value.get("rare"))
        actions = {event.name for event in self.events.values() if event.actor is not Actor.GIVEN} | set(ACTIONS)
        for action in (*fair, *rare):
            if action not in actions:
                self.unknown("action", action, value.line, sorted(actions))
        return Property(name, value["holds"], value["rule"], value.line, fair, rare)
