"""Reads `spec/lifecycle.yaml` into a `Spec`, and says exactly what is wrong with it.

Four passes, each of which finds everything it can before it gives up: the file as YAML (`source`), the shape of it
(`shapes`), the names and references in it (`names`, `declarations` and the rows here), and what is left over or means
nothing. What a profile makes of it (holes, overlaps, traps) is found by `flatten`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import TypeVar

from wslifecycle.statemachine.declarations import Declarations
from wslifecycle.statemachine.findings import SpecError
from wslifecycle.statemachine.model import Actor, Call, Coupling, Departure, Event, Fields, Kind, Profile, Row, Spec
from wslifecycle.statemachine.names import check_answer
from wslifecycle.statemachine.shapes import SHAPES, shaped_spec
from wslifecycle.statemachine.source import Map, Source, names

_TIMER_FIELDS = ("timer", "deadline")  # fields of effects that hold the name of a timer
_REFUSALS = ("violation", "disconnected", "not_due")
_MAX_FACTS = 8  # each doubles the guard cases
_T = TypeVar("_T")


def load_spec(path: str | Path | None = None) -> Spec:
    """Reads a lifecycle spec; without a path the one that comes with the package.

    Raises `SpecError` with every finding (code, line, fix) when the file is not sound YAML, does not have the shape of
    a spec, or names what it does not declare; `OSError` when it cannot be read.
    """
    if path is None:
        return parse_spec((resources.files("wslifecycle") / "spec" / "lifecycle.yaml").read_bytes())
    return parse_spec(Path(path).read_bytes(), str(path))


def parse_spec(text: str | bytes, file: str = "spec/lifecycle.yaml") -> Spec:
    """Reads the text of a spec. Raises `SpecError`, and nothing else, whatever the text is."""
    return spec_of(Source(text, file))


def spec_of(source: Source) -> Spec:
    """The spec that a YAML tree stands for. Raises `SpecError`."""
    return _Loader(source, shaped_spec(source)).spec()


def load_answers(spec: Spec, profile: str) -> dict[str, str]:
    """The answers of a profile. Raises what `load_profile` raises."""
    return dict(load_profile(spec, profile).answers)


def load_profile(spec: Spec, profile: str) -> Profile:
    """A profile: `reference`, one that comes with the package, or the path of a YAML file.

    Raises `SpecError` when it names a choice or an answer that does not exist, `LookupError` when there is no such
    profile.
    """
    if profile == "reference":
        version = str(spec.choices["C35"].answers[spec.reference["C35"]]["spec_version"])
        extensions = tuple(fact.extension for fact in spec.facts.values() if fact.extension is not None)
        return Profile(profile, spec.reference, spec_version=version, extensions=extensions)
    packaged = resources.files("wslifecycle") / "spec" / "profiles" / f"{profile}.yaml"
    if profile.endswith((".yaml", ".yml")):
        text, file = Path(profile).read_bytes(), profile
    elif packaged.is_file():
        text, file = packaged.read_bytes(), f"spec/profiles/{profile}.yaml"
    else:
        raise LookupError(
            f"There is no profile {profile!r}. Name `reference`, a file of spec/profiles, or a path that ends in .yaml."
        )
    source = Source(text, file)
    found = source.shape(source.root, "the profile", 1, SHAPES["profile"])
    source.check()
    answers = found["answers"]
    for choice, answer in answers.items():
        check_answer(spec.choices, source, choice, answer, answers.lines[choice])
    departures = [
        source.shape(entry, "a deviation", found.lines["deviations"], SHAPES["deviation"])
        for entry in found.get("deviations", ())
    ]
    source.check()
    words = {key: str(found.get(key, "")) for key in ("server", "version", "measured", "spec_version")}
    return Profile(
        profile,
        {**spec.reference, **answers},
        **words,
        extensions=tuple(map(str, found.get("extensions", ()))),
        deviations=tuple(Departure(*(str(one.get(key, "")) for key in Departure._fields)) for one in departures),
    )


class _Loader(Declarations):
    """Turns the tree of a `Source` into a `Spec`."""

    def spec(self) -> Spec:
        """All passes but the first two."""
        source, tree = self.source, self.tree
        if tree["format"] != 1:
            self.report("WSL006", tree.lines["format"], f"The format is {tree['format']}.", "This release reads 1.")
        rules = self.each("rules", self.rule)
        self.choices = self.each("choices", self.choice)
        self.effects = self.each("effects", self.effect)
        self.variables = self.each("variables", self.variable)
        self.regions = self.each("regions", self.region)
        if not any(region.final for region in self.regions.values()):
            self.report("WSL005", tree.lines["regions"], "No region has a final state.", "Add `final:` to one.")
        self.facts = self.each("facts", self.fact)
        if len(self.facts) > _MAX_FACTS:
            text = f"There are {len(self.facts)} facts."
            self.report("WSL006", tree.lines["facts"], text, f"Do with {_MAX_FACTS}: each doubles the guard cases.")
        self.events = self.each("events", self.event)
        timers = self.each("timers", self.timer)
        self.constraints = self.each("constraints", self.constraint)
        self.messages = self.each("messages", self.message)
        source.check()
        rows = tuple(self.rows())
        couplings = tuple(map(self.coupling, tree["couplings"]))
        self.system(tree["system"])
        properties = self.each("properties", self.property)
        source.check()
        spec = Spec(
            tree["title"],
            {name: dict(document) for name, document in tree["documents"].items()},
            dict(tree["spec_versions"]),
            self.regions,
            self.facts,
            self.variables,
            timers,
            self.events,
            self.effects,
            rows,
            couplings,
            self.messages,
            self.constraints,
            self.choices,
            rules,
            {kind: dict(declared) for kind, declared in tree["system"].items()},
            properties,
            source.file,
        )
        self.whole(spec)
        source.check()
        return spec

    def each(self, section: str, read: Callable[[str, Map], _T]) -> dict[str, _T]:
        """Every entry of a section."""
        return {name: read(name, value) for name, value in self.tree[section].items()}

    # ---------------------------------------------------------------------------------------- rows

    def rows(self) -> Iterator[Row]:
        """The rows of all regions."""
        for region, entries in self.tree["transitions"].items():
            if region not in self.regions:
                self.unknown("region", region, self.tree["transitions"].lines[region], self.regions)
                continue
            for entry in entries:
                yield self.row(region, entry)

    def row(self, region: str, value: Map) -> Row:
        """One row."""
        line, events = value.line, names(value["event"])
        self.number(value["rule"], line)
        for event in events:
            self.used[f"event {event}"] += 1
            if event not in self.events:
                self.unknown("event", event, line, self.events)
        self.states(region, (*names(value["from"]), *names(value.get("to"))), line)
        refusal = Kind.IMPOSSIBLE if "impossible" in value else None
        if "refuse" in value:
            refusal = Kind(self.source.word(value, "refuse", "a row", _REFUSALS))
        does = [key for key in ("to", "effects", "set", "gives") if key in value]
        says = [key for key in ("ignore", "refuse", "impossible") if key in value]
        if len(says) + bool(does) != 1:
            text = f"The row says {' and '.join(says + does) or 'nothing'}."
            fix = "Let it move or have effects, or ignore, or refuse, or be impossible."
            self.report("WSL017", line, text, fix)
        for event in events if refusal not in (None, Kind.IMPOSSIBLE) else ():
            if event in self.events and self.events[event].actor not in (Actor.APP, Actor.GIVEN):
                text = f"{event} is refused, which the {self.events[event].actor} cannot be told."
                self.report("WSL026", line, text, "Let it `ignore`, or be `impossible`.")
        known = all(event in self.events for event in events)
        given = [self.events[event] for event in events] if known else None
        return Row(
            region,
            events,
            names(value["from"]),
            value.get("to"),
            self.elsewhere(value.get("while", {}), line),
            tuple(self.guard(text, line) for text in names(value.get("if"))),
            self.when(value, line),
            self.calls(value.get("effects", ()), line, given),
            tuple(
                (name, self.fields("variable", self.variables, name, fields, line, given))
                for name, fields in value.get("set", {}).items()
            ),
            self.gives(value, given, bool(says)),
            self.value(value.get("checks", []), line, given),
            refusal,
            value["rule"],
            line,
        )

    def gives(self, value: Map, given: list[Event] | None, passive: bool) -> Fields | None:
        """The keys of the message that a `give_` event gives: all or none, and all if one has no default."""
        fields = value.get("gives")
        for event in given or ():
            keys = self.messages[event.message].keys if event.message is not None else {}
            required = event.actor is Actor.GIVEN and any(key.required for key in keys.values())
            if set(fields) != set(keys) if fields is not None else required and not passive:
                text = f"{event.name} gives {', '.join(keys) or 'nothing'}."
                self.report("WSL016", value.line, text, "Write `gives` with a value for each of them, or leave it out.")
        return None if fields is None else tuple((k, self.value(v, value.line, given)) for k, v in fields.items())

    def coupling(self, value: Map) -> Coupling:
        """One coupling."""
        self.number(value["rule"], value.line)
        self.states(value["region"], (*names(value["from"]), value["to"]), value.line)
        elsewhere = self.elsewhere(value["while"], value.line)
        sources = frozenset(names(value["from"]))
        return Coupling(value["region"], sources, value["to"], elsewhere, value["rule"], value.line)

    # ---------------------------------------------------------------------------------------- the whole

    def whole(self, spec: Spec) -> None:
        """Timers that effects name, declarations that nothing uses, and answers that select nothing."""
        calls = [(row.line, call) for row in spec.rows for call in row.effects]
        calls += [(effect.line, Call(name, tuple(effect.fields.items()))) for name, effect in spec.effects.items()]
        for line, call in calls:
            for key, value in call.fields:
                if key in _TIMER_FIELDS and value is not None and not (isinstance(value, str) and value in spec.timers):
                    self.unknown("timer", value, line, spec.timers)
        for what, declared in (
            ("event", spec.events),
            ("fact", spec.facts),
            ("variable", spec.variables),
            ("constraint", spec.constraints),
        ):
            for name, entry in declared.items():
                if not self.used[f"{what} {name}"]:
                    self.report("WSL019", entry.line, f"Nothing uses the {what} `{name}`.", "Use it or remove it.")
        for choice in spec.choices.values():
            whens = list(_whens(spec, choice.number))
            seen: dict[tuple[object, ...], str] = {}
            for answer, values in choice.answers.items():
                rows = tuple(index for index, when in enumerate(whens) if answer in when)
                selects = (rows, tuple(sorted((key, repr(value)) for key, value in values.items())))
                if selects in seen:
                    line = self.tree["choices"][choice.number]["answers"].lines[answer]
                    text = f"{choice.number}: `{answer}` selects the same as `{seen[selects]}`."
                    self.report("WSL014", line, text, "Give it a row (`when`) or a value of its own.")
                seen[selects] = answer
            if not any(choice.answers.values()) and not whens:
                self.report("WSL014", choice.line, f"{choice.number} selects nothing.", "Give it a row or a value.")


def _whens(spec: Spec, number: str) -> Iterable[frozenset[str]]:
    """The answers to a choice that each row and state with a `when` on it asks for."""
    whens = [row.when for row in spec.rows]
    whens += [state.when for region in spec.regions.values() for state in region.states.values()]
    return [alternative[number] for when in whens for alternative in when.alternatives if number in alternative]


__all__ = ["SHAPES", "SpecError", "load_answers", "load_spec", "parse_spec", "spec_of"]
