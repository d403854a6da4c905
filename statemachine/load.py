"""Reads `spec/lifecycle.yaml` into a `Spec`, and says exactly what is wrong with it.

Three passes, each of which finds everything it can before it gives up: the shape of the file (`SHAPES`, which the JSON
Schema for editors repeats and a test pins to it), the names and references in it, and what the answers select. What a
profile makes of it (holes, overlaps, traps) is found by `flatten`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from wslifecycle.statemachine import effects as effect_types
from wslifecycle.statemachine.findings import SpecError
from wslifecycle.statemachine.messages import CONSTRAINTS, TYPES
from wslifecycle.statemachine.model import (
    Actor,
    Call,
    Choice,
    Constraint,
    Coupling,
    Event,
    Fact,
    Fields,
    First,
    Key,
    Kind,
    Level,
    Message,
    Named,
    Property,
    Ref,
    Region,
    Row,
    Rule,
    Spec,
    State,
    Timer,
    Value,
    When,
)
from wslifecycle.statemachine.properties import PropertyError, parse
from wslifecycle.statemachine.source import Map, Source, names

SHAPES: dict[str, dict[str, str]] = {
    "spec": {
        "format": "int",
        "title": "str",
        "documents": "map",
        "spec_versions": "map",
        "regions": "map",
        "facts": "map",
        "variables": "map",
        "timers": "map",
        "events": "map",
        "effects": "map",
        "transitions": "map",
        "couplings": "list",
        "messages": "map",
        "constraints": "map",
        "choices": "map",
        "rules": "map",
        "properties": "map",
    },
    "document": {"title": "str", "version": "str?", "date": "str?"},
    "region": {"says": "str", "initial": "str", "final": "names?", "states": "map"},
    "state": {"says": "str", "rule": "str", "enter": "list?", "when": "any?"},
    "fact": {"says": "str", "rule": "str", "extension": "str?", "spec_version": "str?", "begins": "str?"},
    "variable": {"says": "str", "rule": "str", "fields": "map"},
    "timer": {"says": "str", "rule": "str", "runs": "map", "event": "str", "seconds": "any"},
    "event": {
        "actor": "str",
        "says": "str",
        "rule": "str",
        "answered_by": "names",
        "message": "str?",
        "fields": "map?",
    },
    "effect": {"says": "str", "rule": "str", "fields": "map", "inner": "bool?"},
    "row": {
        "event": "names",
        "from": "names",
        "rule": "str",
        "to": "str?",
        "while": "map?",
        "if": "names?",
        "when": "any?",
        "effects": "list?",
        "set": "map?",
        "gives": "map?",
        "ignore": "bool?",
        "refuse": "str?",
        "impossible": "bool?",
    },
    "coupling": {"region": "str", "from": "names", "to": "str", "while": "map", "rule": "str"},
    "message": {
        "sender": "str",
        "event": "str",
        "rule": "str",
        "keys": "map",
        "event_if": "map?",
        "exactly_one": "names?",
        "extension": "str?",
        "omit_null": "any?",
    },
    "key": {
        "type": "str",
        "rule": "str",
        "default": "any?",
        "null_is_default": "any?",
        "value": "str?",
        "since": "str?",
        "before": "str?",
    },
    "constraint": {
        "says": "str",
        "rule": "str",
        "refuse": "any",
        **dict.fromkeys(sorted({o for options in CONSTRAINTS.values() for o in options}), "any?"),
    },
    "choice": {"about": "str", "reference": "str", "answers": "map"},
    "rule": {"level": "str", "doc": "str", "says": "str", "heading": "str?", "section": "str?"},
    "property": {"holds": "str", "rule": "str"},
    "profile": {"title": "str", "answers": "map"},
}

_SENDERS = ("app", "server")
_BEFORE = ("refused", "ignored")
_GIVEN_SCOPES = ("message", "event")


def load_spec(path: str | Path | None = None) -> Spec:
    """Reads a lifecycle spec; without a path the one that comes with the package.

    Raises `SpecError` with every finding (code, line, fix) when the file is not sound YAML, does not have the shape of
    a spec, or names what it does not declare; `OSError` when it cannot be read.
    """
    if path is None:
        text = (resources.files("wslifecycle") / "spec" / "lifecycle.yaml").read_text(encoding="utf-8")
        return _Loader(Source(text, "spec/lifecycle.yaml")).spec()
    return _Loader(Source(Path(path).read_text(encoding="utf-8"), str(path))).spec()


def load_answers(spec: Spec, profile: str) -> dict[str, str]:
    """The answers of a profile: `reference`, one that comes with the package, or the path of a YAML file.

    Raises `SpecError` when it names a choice or an answer that does not exist, `LookupError` when there is no such
    profile.
    """
    if profile == "reference":
        return spec.reference
    folder = resources.files("wslifecycle") / "spec" / "profiles"
    packaged = folder / f"{profile}.yaml"
    if profile.endswith((".yaml", ".yml")):
        text, file = Path(profile).read_text(encoding="utf-8"), profile
    elif packaged.is_file():
        text, file = packaged.read_text(encoding="utf-8"), f"spec/profiles/{profile}.yaml"
    else:
        raise LookupError(
            f"There is no profile {profile!r}. Name `reference`, a file of spec/profiles, or a path that ends in .yaml."
        )
    source = Source(text, file)
    answers = source.shape(source.root, "the profile", 1, SHAPES["profile"])["answers"]
    for choice, answer in answers.items():
        check_answer(spec, source, choice, answer, answers.lines[choice])
    source.check()
    return {**spec.reference, **answers}


def check_answer(spec: Spec, source: Source, choice: str, answer: Any, line: int) -> None:
    """Reports WSL013 unless the choice exists and has this answer."""
    if choice not in spec.choices:
        source.report("WSL013", line, f"There is no choice {choice}.", f"Write C1 to C{len(spec.choices)}.")
    elif answer not in spec.choices[choice].answers:
        known = ", ".join(spec.choices[choice].answers)
        source.report("WSL013", line, f"{choice} has no answer {answer!r}.", f"Write one of {known}.")


class _Loader:
    """Turns the tree of a `Source` into a `Spec`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.report = source.report
        self.tree = source.shape(source.root, "the spec", 1, SHAPES["spec"])
        if self.tree["format"] != 1:
            self.report("WSL006", self.tree.line, f"The format is {self.tree['format']!r}.", "This release reads 1.")
        self.used: Counter[str] = Counter()

    def spec(self) -> Spec:
        """All passes."""
        source, tree = self.source, self.tree
        documents = {
            name: {key: str(value) for key, value in self.shaped("documents", name, "document").items()}
            for name in tree["documents"]
        }
        rules = {name: self.rule(name) for name in tree["rules"]}
        choices = {name: self.choice(name) for name in tree["choices"]}
        self.numbers = {*rules, *choices}
        self.choices = choices
        effects = {name: self.named("effects", name, "effect") for name in tree["effects"]}
        variables = {name: self.named("variables", name, "variable") for name in tree["variables"]}
        self.effects, self.variables = effects, variables
        regions = {name: self.region(name) for name in tree["regions"]}
        facts = {name: self.fact(name) for name in tree["facts"]}
        source.check()
        self.regions, self.facts = regions, facts
        events = {name: self.event(name) for name in tree["events"]}
        self.events = events
        timers = {name: self.timer(name) for name in tree["timers"]}
        source.check()
        constraints = {name: self.constraint(name) for name in tree["constraints"]}
        self.constraints = constraints
        messages = {name: self.message(name) for name in tree["messages"]}
        self.messages = messages
        source.check()
        rows = tuple(self.rows())
        couplings = tuple(self.coupling(value) for value in tree["couplings"])
        properties = {name: self.property(name) for name in tree["properties"]}
        source.check()
        spec = Spec(
            tree["title"],
            documents,
            {str(name): str(says) for name, says in tree["spec_versions"].items()},
            regions,
            facts,
            variables,
            timers,
            events,
            effects,
            rows,
            couplings,
            messages,
            constraints,
            choices,
            rules,
            properties,
            source.file,
        )
        self.whole(spec)
        source.check()
        return spec

    # ---------------------------------------------------------------------------------------- declarations

    def shaped(self, section: str, name: str, shape: str) -> Map:
        """One entry of a section, checked against its shape."""
        entry = self.tree[section]
        return self.source.shape(entry[name], f"{shape} {name}", entry.lines[name], SHAPES[shape])

    def rule(self, name: str) -> Rule:
        value = self.shaped("rules", name, "rule")
        place = value.get("heading") or value.get("section")
        if place is None:
            self.report("WSL005", value.line, f"Rule {name} does not say where it stands.", "Add heading or section.")
        if value["doc"] not in self.tree["documents"]:
            self.unknown("document", value["doc"], value.line, self.tree["documents"])
        level = self.source.word(value, "level", f"rule {name}", [level.value for level in Level])
        return Rule(name, Level(level), value["doc"], str(place), value["says"], value.line)

    def choice(self, name: str) -> Choice:
        value = self.shaped("choices", name, "choice")
        answers: dict[str, Mapping[str, Value]] = {}
        for answer, values in value["answers"].items():
            line = value["answers"].lines[answer]
            given = self.source.shape(values, f"answer {answer} of {name}", line, dict.fromkeys(values or {}, "any"))
            answers[answer] = {key: self.value(item, given.lines[key]) for key, item in given.items()}
        if value["reference"] not in answers:
            known = ", ".join(answers) or "nothing"
            self.report(
                "WSL013",
                value.lines.get("reference", value.line),
                f"{name} has no answer {value['reference']!r}.",
                f"Write one of {known}.",
            )
        return Choice(name, value["about"], value["reference"], answers, value.line)

    def named(self, section: str, name: str, shape: str) -> Named:
        value = self.shaped(section, name, shape)
        self.number(value["rule"], value.line)
        fields = {key: self.value(item, value.line) for key, item in value["fields"].items()}
        if shape == "effect" and list(fields) != effect_types.FIELDS.get(name):
            known = effect_types.FIELDS.get(name)
            self.report(
                "WSL016" if known is not None else "WSL011",
                value.line,
                f"The connection knows no effect {name}." if known is None else f"{name} has the fields {known}.",
                f"Declare one of {', '.join(effect_types.FIELDS)}." if known is None else "Declare these.",
            )
        return Named(name, value["says"], value["rule"], fields, value.line, value.get("inner", False))

    def region(self, name: str) -> Region:
        value = self.shaped("regions", name, "region")
        states: dict[str, State] = {}
        for state, entry in value["states"].items():
            line = value["states"].lines[state]
            shaped = self.source.shape(entry, f"state {state}", line, SHAPES["state"])
            self.number(shaped["rule"], line)
            calls = self.calls(shaped.get("enter", ()), line, ())
            states[state] = State(state, shaped["says"], shaped["rule"], line, calls, self.when(shaped, line))
            self.identifier("state", state, line)
        for state in (value["initial"], *names(value.get("final"))):
            if state not in states:
                self.unknown(f"state of {name}", state, value.line, states)
        return Region(name, value["says"], value["initial"], frozenset(names(value.get("final"))), states, value.line)

    def fact(self, name: str) -> Fact:
        value = self.shaped("facts", name, "fact")
        self.number(value["rule"], value.line)
        self.identifier("fact", name, value.line)
        version = value.get("spec_version")
        if version is not None and version not in self.tree["spec_versions"]:
            self.unknown("spec version", version, value.line, self.tree["spec_versions"])
        begins = value.get("begins")
        if begins is not None and begins not in self.effects:
            self.unknown("effect", begins, value.line, self.effects)
        if len([key for key in ("extension", "spec_version", "begins") if key in value]) != 1:
            self.report("WSL017", value.line, f"Fact {name} has to come from one source.", "See the other facts.")
        return Fact(name, value["says"], value["rule"], value.line, value.get("extension"), version, begins)

    def event(self, name: str) -> Event:
        value = self.shaped("events", name, "event")
        self.number(value["rule"], value.line)
        self.identifier("event", name, value.line)
        actor = self.source.word(value, "actor", f"event {name}", [actor.value for actor in Actor])
        message = value.get("message")
        if message is not None and message not in self.tree["messages"]:
            self.unknown("message", message, value.line, self.tree["messages"])
        for region in names(value["answered_by"]):
            if region not in self.regions:
                self.unknown("region", region, value.line, self.regions)
        fields = {key: self.value(item, value.line) for key, item in value.get("fields", {}).items()}
        return Event(
            name, Actor(actor), value["says"], value["rule"], value.line, names(value["answered_by"]), message, fields
        )

    def timer(self, name: str) -> Timer:
        value = self.shaped("timers", name, "timer")
        self.number(value["rule"], value.line)
        if value["event"] not in self.events:
            self.unknown("event", value["event"], value.line, self.events)
        runs = self.elsewhere(value["runs"], value.line)
        if len(runs) != 1:
            self.report("WSL017", value.line, f"Timer {name} runs in {len(runs)} regions.", "Name exactly one.")
        region, states = next(iter(runs.items()), ("", frozenset()))
        seconds = self.value(value["seconds"], value.line)
        return Timer(name, value["says"], region, states, value["event"], seconds, value["rule"], value.line)

    def constraint(self, name: str) -> Constraint:
        value = self.shaped("constraints", name, "constraint")
        self.number(value["rule"], value.line)
        options = {
            key: self.value(item, value.line) for key, item in value.items() if key not in ("says", "rule", "refuse")
        }
        if name not in CONSTRAINTS:
            self.unknown("constraint", name, value.line, CONSTRAINTS)
        elif set(options) != set(CONSTRAINTS[name]):
            known = ", ".join(CONSTRAINTS[name]) or "nothing"
            self.report("WSL016", value.line, f"{name} takes {known}.", "Write these options.")
        refuse = self.value(value["refuse"], value.line)
        return Constraint(name, value["says"], value["rule"], refuse, options, value.line)

    def message(self, name: str) -> Message:
        value = self.shaped("messages", name, "message")
        self.number(value["rule"], value.line)
        keys: dict[str, Key] = {}
        for key, entry in value["keys"].items():
            line = value["keys"].lines[key]
            shaped = self.source.shape(entry, f"key {key} of {name}", line, SHAPES["key"])
            self.number(shaped["rule"], line)
            self.source.word(shaped, "type", f"key {key}", TYPES)
            if "before" in shaped:
                self.source.word(shaped, "before", f"key {key}", _BEFORE)
            since = shaped.get("since")
            if since is not None and since not in self.tree["spec_versions"]:
                self.unknown("spec version", since, line, self.tree["spec_versions"])
            constraint = shaped.get("value")
            if constraint is not None:
                self.used[f"constraint {constraint}"] += 1
                if constraint not in self.constraints:
                    self.unknown("constraint", constraint, line, self.constraints)
            keys[key] = Key(
                key,
                shaped["type"],
                "default" not in shaped,
                self.value(shaped.get("default"), line),
                self.value(shaped.get("null_is_default", False), line),
                constraint,
                since,
                shaped.get("before"),
                shaped["rule"],
                line,
            )
        event_if = next(iter(value.get("event_if", {}).items()), None)
        for event in (value["event"], *((event_if[1],) if event_if else ())):
            if event not in self.events:
                self.unknown("event", event, value.line, self.events)
        for key in (*names(value.get("exactly_one")), *((event_if[0],) if event_if else ())):
            if key not in keys:
                self.unknown(f"key of {name}", key, value.line, keys)
        return Message(
            name,
            self.source.word(value, "sender", f"message {name}", _SENDERS),
            value["event"],
            event_if,
            keys,
            names(value.get("exactly_one")),
            value.get("extension"),
            self.value(value.get("omit_null", False), value.line),
            value["rule"],
            value.line,
        )

    def property(self, name: str) -> Property:
        value = self.shaped("properties", name, "property")
        self.number(value["rule"], value.line)
        known = {
            "state": {f"{region}={state}" for region in self.regions for state in self.regions[region].states},
            "effect": {f"effect={effect}" for effect in self.effects},
            "event": set(self.events),
        }
        try:
            parse(value["holds"], known)
        except PropertyError as error:
            self.report("WSL018", value.line, f"Property {name}: {error}.", "See the terms above `properties`.")
        return Property(name, value["holds"], value["rule"], value.line)

    # ---------------------------------------------------------------------------------------- rows

    def rows(self) -> Iterable[Row]:
        for region, entries in self.tree["transitions"].items():
            if region not in self.regions:
                self.unknown("region", region, self.tree["transitions"].lines[region], self.regions)
                continue
            for entry in entries:
                yield self.row(region, entry)

    def row(self, region: str, entry: Any) -> Row:
        value = self.source.shape(entry, "a row", getattr(entry, "line", 1), SHAPES["row"])
        line = value.line
        self.number(value["rule"], line)
        events = names(value["event"])
        for event in events:
            self.used[f"event {event}"] += 1
            if event not in self.events:
                self.unknown("event", event, line, self.events)
        sources, target = names(value["from"]), value.get("to")
        for state in (*sources, *((target,) if target else ())):
            if state not in self.regions[region].states:
                self.unknown(f"state of {region}", state, line, self.regions[region].states)
        refusal = Kind.IMPOSSIBLE if value.get("impossible") else None
        if "refuse" in value:
            refusal = Kind(self.source.word(value, "refuse", "a row", ["violation", "disconnected", "not_due"]))
        does = [key for key in ("to", "effects", "set", "gives") if key in value]
        says = [key for key in ("ignore", "refuse", "impossible") if key in value]
        if len(says) + bool(does) != 1:
            self.report(
                "WSL017",
                line,
                f"The row says {' and '.join(says + does) or 'nothing'}.",
                "Let it move or have effects, or ignore, or refuse, or be impossible.",
            )
        given = [self.events[event] for event in events if event in self.events]
        return Row(
            region,
            events,
            sources,
            target,
            self.elsewhere(value.get("while", {}), line),
            tuple(self.guard(text, line) for text in names(value.get("if"))),
            self.when(value, line),
            self.calls(value.get("effects", ()), line, given),
            tuple(
                (name, self.fields(self.variables.get(name), "variable", name, fields, line, given))
                for name, fields in value.get("set", {}).items()
            ),
            self.gives(value["gives"], line, given) if "gives" in value else None,
            refusal,
            value["rule"],
            line,
        )

    def coupling(self, entry: Any) -> Coupling:
        value = self.source.shape(entry, "a coupling", getattr(entry, "line", 1), SHAPES["coupling"])
        self.number(value["rule"], value.line)
        region = value["region"]
        if region not in self.regions:
            self.unknown("region", region, value.line, self.regions)
        else:
            for state in (*names(value["from"]), value["to"]):
                if state not in self.regions[region].states:
                    self.unknown(f"state of {region}", state, value.line, self.regions[region].states)
        elsewhere = self.elsewhere(value["while"], value.line)
        return Coupling(region, frozenset(names(value["from"])), value["to"], elsewhere, value["rule"], value.line)

    def gives(self, fields: Map, line: int, given: list[Event]) -> Fields:
        """The keys of the message that a `give_` event gives."""
        for event in given:
            keys = self.messages[event.message].keys if event.message in self.messages else {}
            if set(fields) != set(keys):
                self.report(
                    "WSL016", line, f"{event.message} has the keys {', '.join(keys)}.", "Give each of them a value."
                )
        return tuple((key, self.value(item, line, given)) for key, item in fields.items())

    def calls(self, entries: Iterable[Any], line: int, given: Iterable[Event]) -> tuple[Call, ...]:
        calls = []
        for entry in entries:
            name, fields = (entry, Map(line)) if isinstance(entry, str) else next(iter(entry.items()), ("", Map(line)))
            self.used[f"effect {name}"] += 1
            calls.append(Call(name, self.fields(self.effects.get(name), "effect", name, fields, line, given)))
        return tuple(calls)

    def fields(
        self, declared: Named | None, what: str, name: str, fields: Any, line: int, given: Iterable[Event]
    ) -> Fields:
        """Fills in the declared fields of an effect or a variable."""
        self.used[f"{what} {name}"] += 1
        if declared is None:
            self.unknown(what, name, line, self.effects if what == "effect" else self.variables)
            return ()
        filled = dict(declared.fields)
        missing = {key for key, default in filled.items() if default is None}
        for key, item in (fields or {}).items():
            if key not in filled:
                known = ", ".join(filled) or "none"
                self.report("WSL016", line, f"{name} has no field `{key}`.", f"Its fields: {known}.")
            missing.discard(key)
            filled[key] = self.value(item, line, given)
        if missing:
            self.report("WSL016", line, f"{name} lacks {', '.join(sorted(missing))}.", "Write a value.")
        return tuple(filled.items())

    # ---------------------------------------------------------------------------------------- references

    def value(self, item: Any, line: int, given: Iterable[Event] = ()) -> Value:
        """A constant, a `$scope.key` or a list of alternatives (first that is not null)."""
        if isinstance(item, list):
            values = tuple(self.value(part, line, given) for part in item)
            return First(values) if any(isinstance(part, Ref) for part in values) else values
        if not (isinstance(item, str) and item.startswith("$")):
            return item
        scope, _, key = item[1:].partition(".")
        if scope in self.choices if hasattr(self, "choices") else scope in self.tree["choices"]:
            entry = self.tree["choices"][scope]
            answers = entry.get("answers") if isinstance(entry, Map) else None
            if not any(isinstance(values, Map) and key in values for values in (answers or {}).values()):
                self.report("WSL015", line, f"No answer to {scope} gives `{key}`.", "Name a value of its answers.")
            self.used[f"value {scope}.{key}"] += 1
        elif scope in _GIVEN_SCOPES:
            for event in given:
                known = self.given_keys(scope, event)
                if key not in known:
                    has = ", ".join(known) or "nothing"
                    self.report("WSL015", line, f"{item}: {event.name} gives {has}.", "Name one of these.")
        elif scope in self.tree["variables"]:
            self.used[f"variable {scope}"] += 1
            entry = self.tree["variables"][scope]
            if key not in (entry.get("fields") or {}):
                self.report("WSL015", line, f"Variable {scope} has no field `{key}`.", "Name one of its fields.")
        else:
            self.report("WSL015", line, f"`{item}` refers to nothing.", "Use $message, $event, a variable or a choice.")
        return Ref(scope, key)

    def given_keys(self, scope: str, event: Event) -> Iterable[str]:
        if scope == "event":
            return event.fields
        entry = self.tree["messages"].get(event.message)
        return entry["keys"] if entry else ()

    def elsewhere(self, value: Map, line: int) -> dict[str, frozenset[str]]:
        """`while`: states of other regions."""
        found: dict[str, frozenset[str]] = {}
        for region, states in value.items():
            if region not in self.regions:
                self.unknown("region", region, line, self.regions)
                continue
            for state in names(states):
                if state not in self.regions[region].states:
                    self.unknown(f"state of {region}", state, line, self.regions[region].states)
            found[region] = frozenset(names(states))
        return found

    def guard(self, text: str, line: int) -> tuple[str, bool]:
        name = text.removeprefix("not ")
        self.used[f"fact {name}"] += 1
        if name not in self.facts:
            self.unknown("fact", name, line, self.facts)
        return name, name == text

    def when(self, value: Map, line: int) -> When:
        """`when`: one mapping of choices to answers, or a list of such alternatives."""
        raw = value.get("when", [])
        alternatives = []
        for entry in [raw] if isinstance(raw, Map) else raw:
            selected: dict[str, frozenset[str]] = {}
            for choice, answers in entry.items():
                known = self.choices[choice].answers if choice in self.choices else None
                if known is None:
                    self.report("WSL013", line, f"There is no choice {choice}.", "Name one of `choices`.")
                    continue
                for answer in names(answers):
                    self.used[f"answer {choice}.{answer}"] += 1
                    if answer not in known:
                        self.report(
                            "WSL013", line, f"{choice} has no answer {answer!r}.", f"Write one of {', '.join(known)}."
                        )
                selected[choice] = frozenset(names(answers))
            alternatives.append(selected)
        return When(tuple(alternatives))

    def number(self, number: str, line: int) -> None:
        self.used[f"rule {number}"] += 1
        if number not in self.numbers:
            self.report("WSL010", line, f"There is no rule {number!r}.", "Name one of `rules` or `choices`.")

    def identifier(self, what: str, name: str, line: int) -> None:
        """States, events and facts become attributes of models in transitions, which skips those that exist."""
        taken = name in _RESERVED or name.startswith(("may_", "to_", "is_", "on_enter_", "on_exit_"))
        first = self.used[f"name {name}"]
        self.used[f"name {name}"] = first or line
        if taken or not name.isidentifier():
            self.report("WSL012", line, f"The {what} name `{name}` is taken by transitions.", "Rename it.")
        elif first and what in ("event", "fact"):
            self.report("WSL012", line, f"The {what} name `{name}` is declared in line {first} too.", "Rename one.")

    def unknown(self, what: str, name: object, line: int, known: Iterable[str]) -> None:
        self.report("WSL011", line, f"There is no {what} `{name}`.", f"Declared are: {', '.join(known) or 'none'}.")

    # ---------------------------------------------------------------------------------------- the whole

    def whole(self, spec: Spec) -> None:
        """Declarations that nothing uses, and answers that select nothing."""
        for what, declared in (
            ("event", spec.events),
            ("fact", spec.facts),
            ("variable", spec.variables),
            ("constraint", spec.constraints),
        ):
            for name, entry in declared.items():
                if not self.used[f"{what} {name}"]:
                    self.report("WSL019", entry.line, f"No row uses the {what} `{name}`.", "Use it or remove it.")
        for choice in spec.choices.values():
            seen: dict[tuple[object, ...], str] = {}
            for answer, values in choice.answers.items():
                rows = [index for index, when in enumerate(_whens(spec, choice.number)) if answer in when]
                selects = (tuple(rows), tuple(sorted((key, str(value)) for key, value in values.items())))
                if selects in seen:
                    text = f"{choice.number}: `{answer}` selects the same as `{seen[selects]}`."
                    self.report("WSL014", choice.line, text, "Give it a row (`when`) or a value of its own.")
                seen[selects] = answer
            if not any(values for values in choice.answers.values()) and not list(_whens(spec, choice.number)):
                self.report("WSL014", choice.line, f"{choice.number} selects nothing.", "Give it a row or a value.")


def _whens(spec: Spec, number: str) -> Iterable[frozenset[str]]:
    """The answers to a choice that each row and state with a `when` on it asks for."""
    whens = [row.when for row in spec.rows]
    whens += [state.when for region in spec.regions.values() for state in region.states.values()]
    return [alternative[number] for when in whens for alternative in when.alternatives if number in alternative]


_RESERVED = frozenset(("trigger", "state", "case", "initial", "model", "may", "to"))

__all__ = ["SHAPES", "SpecError", "check_answer", "load_answers", "load_spec"]
