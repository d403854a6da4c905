"""The hand-written traces of `spec/scenarios/`: what an app and a peer do, and what each of them has to see.

They were written from the documents and not from the machine, so they can judge it. A scenario is a list of acts: one
stimulus and everything that it brings about, on both sides. A driver carries out the stimulus on something real and
reports what was seen; `differences` compares. Nothing may be missing and nothing may be added.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from wslifecycle.statemachine.findings import Finding, SpecError
from wslifecycle.statemachine.source import Map, Source, names

STIMULI = (
    "app asks",
    "app cancels",
    "app sends",
    "app returns",
    "app raises",
    "peer sends",
    "peer pings",
    "peer closes",
    "peer floods",
    "peer ends",
    "peer vanishes",
    "peer violates",
    "server shuts down",
    "time passes",
)
_CITE = {"doc": "str", "rule": "str", "says": "str", "heading": "str?", "section": "str?"}
OBSERVATIONS = ("app gets", "app waits", "send raises", "peer sees")

VIOLATIONS = {
    "unmasked_frame": 1002,
    "reserved_bits": 1002,
    "reserved_opcode": 1002,
    "bad_utf8": 1007,
    "too_big": 1009,
    "stray_continuation": 1002,
    "interrupted_fragments": 1002,
    "fragmented_ping": 1002,
    "long_ping": 1002,
    "one_byte_close": 1002,
    "close_code_1005": 1002,
    "close_code_999": 1002,
    "bad_close_reason": 1007,
}
"""The kinds of `peer violates`, each with the close code that a codec reports it with (W3 - W11)."""


@dataclass(frozen=True, slots=True)
class Cite:
    """The sentence of a document that a scenario comes from."""

    doc: str
    place: str
    rule: str
    says: str


@dataclass(slots=True)
class Seen:
    """What one act brought about: messages the app was given, what the peer saw, whether `send()` raised."""

    app: list[dict[str, Any]] = field(default_factory=list)
    peer: list[dict[str, Any]] = field(default_factory=list)
    raised: str | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Act:
    """One stimulus and what has to come of it. `waits`: a `receive()` is left unanswered."""

    stimulus: str
    value: Any
    app: tuple[dict[str, Any], ...]
    peer: tuple[dict[str, Any], ...]
    raises: str | None
    waits: bool
    line: int

    def __str__(self) -> str:
        return self.stimulus if self.value is None else f"{self.stimulus} {short(self.value)}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A trace with the scope that it runs in. `assumes`: the choices whose reference answer it relies on."""

    name: str
    title: str
    cites: tuple[Cite, ...]
    assumes: tuple[str, ...]
    spec_version: str
    extensions: tuple[str, ...]
    subprotocols: tuple[str, ...]
    acts: tuple[Act, ...]
    file: str
    line: int


@lru_cache(maxsize=1)
def load_scenarios() -> Mapping[str, Scenario]:
    """All scenarios that come with the package, by name. Raises `SpecError` where a file is not sound."""
    folder = resources.files("wslifecycle") / "spec" / "scenarios"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    found: dict[str, Scenario] = {}
    for entry in files:
        for scenario in read(entry.read_text(encoding="utf-8"), f"spec/scenarios/{entry.name}"):
            if scenario.name in found:
                text = f"There is another scenario {scenario.name}, in {found[scenario.name].file}."
                raise SpecError([Finding("WSL012", scenario.line, text, "Rename one.", scenario.file)])
            found[scenario.name] = scenario
    return found


def find(name: str) -> Scenario:
    """A scenario by its name. Raises `LookupError`, with names that are close to it."""
    scenarios = load_scenarios()
    if name not in scenarios:
        close = ", ".join(difflib.get_close_matches(name, scenarios, n=3, cutoff=0.4))
        hint = f" Do you mean {close}?" if close else ""
        raise LookupError(f"There is no scenario {name!r}.{hint} `wslifecycle demo --list` names all {len(scenarios)}.")
    return scenarios[name]


def read(text: str, file: str) -> Iterator[Scenario]:
    """The scenarios of one file."""
    source = Source(text, file)
    root = source.shape(source.root, "the file", 1, {"scenarios": "list"})
    for entry in root["scenarios"]:
        keys = {"name": "str", "title": "str", "cites": "list", "steps": "list", "assumes": "names?", "scope": "map?"}
        value = source.shape(entry, "a scenario", root.line, keys)
        scope = value.get("scope", {})
        acts = tuple(_acts(source, value["steps"]))
        cites = [source.shape(cite, "a cite", value.line, _CITE) for cite in value["cites"]]
        source.check()
        yield Scenario(
            value["name"],
            value["title"],
            tuple(Cite(c["doc"], c.get("heading") or c.get("section", ""), c["rule"], c["says"]) for c in cites),
            names(value.get("assumes")),
            scope.get("spec_version", "2.5"),
            tuple(scope.get("extensions", ())),
            tuple(scope.get("subprotocols", ())),
            acts,
            file,
            value.line,
        )


def _acts(source: Source, steps: list[Any]) -> Iterator[Act]:
    """Groups the steps: a stimulus and the observations that follow it."""
    groups: list[tuple[str, Any, int, list[tuple[str, Any]]]] = []
    for step in steps:
        if not isinstance(step, Map) or len(step) != 1:
            source.report("WSL006", getattr(step, "line", 1), "A step is a mapping of one key.", "Split it.")
            continue
        ((name, value),) = step.items()
        wrong = _wrong(name, value)
        if wrong:
            source.report("WSL006", step.line, f"`{name}` {wrong}.", "See the schema of the scenarios.")
        elif name in STIMULI:
            groups.append((name, value, step.line, []))
        elif name in OBSERVATIONS and groups:
            groups[-1][3].append((name, value))
        else:
            source.report("WSL011", step.line, f"There is no step `{name}`.", f"Write {', '.join(STIMULI)}.")
    for name, value, line, seen in groups:
        yield Act(
            name,
            _READ.get(name, lambda value: value)(value),
            tuple(message(v) for k, v in seen if k == "app gets"),
            tuple(_peer(v) for k, v in seen if k == "peer sees"),
            next((v for k, v in seen if k == "send raises"), None),
            any(k == "app waits" for k, _ in seen),
            line,
        )


def _wrong(name: str, value: Any) -> str:
    """What is wrong with the value of a step; nothing where it can be read."""
    if name in ("app sends", "app gets", "peer sends", "peer closes") and not isinstance(value, Map):
        return "has to be a mapping"
    if name == "peer sends" and not {"text", "bytes"} & set(value):
        return "has to have text or bytes"
    if name == "peer pings" and not isinstance(value, str):
        return "has to be text"
    if name == "peer sees" and value != "end" and not (isinstance(value, Map) and len(value) == 1):
        return "has to be `end` or a mapping of one key"
    if name == "peer violates" and value not in VIOLATIONS:
        return f"has to be one of {', '.join(VIOLATIONS)}"
    return ""


def message(written: Mapping[str, Any]) -> dict[str, Any]:
    """An ASGI message as it is written in a scenario: text stands for latin-1 bytes where ASGI wants bytes."""
    made = dict(written)
    for key in ("bytes", "body"):
        if isinstance(made.get(key), str):
            made[key] = made[key].encode("latin-1")
    if isinstance(made.get("headers"), list):
        made["headers"] = [_field(pair) for pair in made["headers"]]
    return made


def data(written: Mapping[str, Any]) -> str | bytes:
    """A data message of the peer: text or bytes."""
    return str(written["text"]) if "text" in written else str(written["bytes"]).encode("latin-1")


_READ: dict[str, Callable[[Any], Any]] = {
    "app sends": message,
    "peer sends": data,
    "peer pings": lambda written: written.encode("latin-1"),
}
"""How the value of a stimulus is read, where it is not taken as it is written."""


def _field(pair: Any) -> Any:
    return tuple(item.encode("latin-1") if isinstance(item, str) else item for item in pair)


def _peer(written: Any) -> dict[str, Any]:
    """What the peer sees, in the form that drivers report: `{"end": True}`, `{"close": {...}}`, ..."""
    if written == "end":
        return {"end": True}
    ((kind, value),) = written.items()
    if kind in ("bytes", "chunk", "pong"):
        return {kind: value.encode("latin-1")}
    return {kind: message(value) if isinstance(value, Mapping) else value}


# ------------------------------------------------------------------------------------------------ comparing


def differences(act: Act, seen: Seen) -> Iterator[str]:
    """What was seen otherwise than the scenario says; nothing when it agrees."""
    if seen.raised != act.raises:
        yield f"send() {_raising(seen.raised)}, not {_raising(act.raises)}"
    yield from _sequence("the app got", act.app, seen.app, _same_message)
    yield from _sequence("the peer saw", act.peer, seen.peer, same_on_the_wire)
    if act.waits and not seen.waiting:
        yield "no receive() waits any more"


def _sequence(who: str, wanted: Any, seen: Any, same: Any) -> Iterator[str]:
    for position in range(max(len(wanted), len(seen))):
        if position >= len(seen):
            yield f"{who} nothing instead of {short(wanted[position])}"
        elif position >= len(wanted):
            yield f"{who} {short(seen[position])} on top"
        elif not same(wanted[position], seen[position]):
            yield f"{who} {short(seen[position])} instead of {short(wanted[position])}"


WORDED = (1002, 1007, 1009)
"""Codes by which a server fails a connection: what it says of it in the reason is its own (RFC 6455 section 7.1.6)."""


def _same_message(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Keys that are None count as missing (R26)."""
    got = {key: value for key, value in seen.items() if value is not None}
    if wanted.get("code") in WORDED and not wanted.get("reason"):
        return {**wanted, "reason": ""} == {**got, "reason": ""}
    return dict(wanted) == got


def same_on_the_wire(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """A handshake names its subprotocol; headers that are written have to be among those sent, in their order."""
    ((kind, value),) = wanted.items()
    if kind not in seen:
        return False
    got = seen[kind]
    if not isinstance(value, Mapping):
        return bool(value == got)
    if kind == "handshake" and value.get("subprotocol") != got.get("subprotocol"):
        return False
    if kind == "close":
        free = value.get("code") in WORDED and not value.get("reason")
        return bool(value.get("code") == got.get("code") and (free or value.get("reason", "") == got.get("reason", "")))
    sent = iter(got.get("headers", ()))
    if not all(any(field == other for other in sent) for field in value.get("headers", ())):
        return False
    return all(got.get(key) == item for key, item in value.items() if key not in ("headers", "subprotocol"))


def _raising(kind: str | None) -> str:
    return f"raised {kind}" if kind else "did not raise"


def short(value: Any) -> str:
    """A message or an observation in one line: `websocket.close code=1000`, `close 1000`."""
    if isinstance(value, Mapping) and "type" in value:
        rest = " ".join(f"{key}={item!r}" for key, item in value.items() if key != "type" and item is not None)
        return f"{value['type']} {rest}".rstrip()
    if isinstance(value, Mapping):
        return ", ".join(key if item is True else f"{key} {short(item)}".rstrip() for key, item in value.items())
    return repr(value)
