"""The shape of a spec and of a profile: which keys each mapping has, and what kind of value stands under each.

This is the first pass of the loader; `spec/lifecycle.schema.json` says the same to editors, and a test pins the two to
each other. After it the later passes may take every key and every kind of value for granted.
"""

from __future__ import annotations

from wslifecycle.statemachine.messages import CONSTRAINTS
from wslifecycle.statemachine.source import Map, Sequence, Source

SHAPES: dict[str, dict[str, str]] = {
    "spec": {
        "format": "int",
        "title": "str",
        "documents": "map",
        "spec_versions": "texts",
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
        "system": "map",
        "properties": "map",
    },
    "document": {"title": "str", "version": "str?", "date": "str?"},
    "region": {"says": "str", "initial": "str", "final": "names?", "states": "map"},
    "state": {"says": "str", "rule": "str", "enter": "effects?", "when": "when?"},
    "fact": {"says": "str", "rule": "str", "extension": "str?", "spec_version": "str?", "begins": "str?"},
    "variable": {"says": "str", "rule": "str", "fields": "fields"},
    "timer": {"says": "str", "rule": "str", "runs": "states", "event": "str", "seconds": "value"},
    "event": {
        "actor": "str",
        "says": "str",
        "rule": "str",
        "answered_by": "names",
        "message": "str?",
        "fields": "fields?",
    },
    "effect": {"says": "str", "rule": "str", "fields": "fields", "inner": "bool?"},
    "row": {
        "event": "names",
        "from": "names",
        "rule": "str",
        "to": "str?",
        "while": "states?",
        "if": "names?",
        "when": "when?",
        "effects": "effects?",
        "set": "assigns?",
        "gives": "fields?",
        "checks": "value?",
        "ignore": "true?",
        "refuse": "str?",
        "impossible": "true?",
    },
    "coupling": {"region": "str", "from": "names", "to": "str", "while": "states", "rule": "str"},
    "message": {
        "sender": "str",
        "event": "str",
        "rule": "str",
        "keys": "map",
        "event_if": "texts?",
        "exactly_one": "names?",
        "extension": "str?",
        "omit_null": "value?",
    },
    "key": {
        "type": "str",
        "rule": "str",
        "default": "value?",
        "null_is_default": "value?",
        "value": "str?",
        "since": "str?",
        "before": "str?",
    },
    "constraint": {
        "says": "str",
        "rule": "str",
        "refuse": "value",
        **dict.fromkeys(sorted({option for options in CONSTRAINTS.values() for option in options}), "value?"),
    },
    "choice": {"about": "str", "reference": "str", "answers": "map", "breaks": "map?"},
    "rule": {"level": "str", "doc": "str", "says": "str", "heading": "str?", "section": "str?", "order": "true?"},
    "system": {"actions": "texts", "conditions": "texts", "marks": "texts"},
    "property": {"holds": "str", "rule": "str", "fair": "names?", "rare": "names?"},
    "profile": {
        "title": "str",
        "answers": "map",
        "server": "str?",
        "version": "str?",
        "measured": "str?",
        "spec_version": "str?",
        "extensions": "list?",
        "deviations": "list?",
    },
    "deviation": {
        "rule": "str?",
        "level": "str",
        "state": "str?",
        "event": "str?",
        "expected": "str?",
        "seen": "str",
    },
}

_SECTIONS = {
    "documents": "document",
    "regions": "region",
    "facts": "fact",
    "variables": "variable",
    "timers": "timer",
    "events": "event",
    "effects": "effect",
    "messages": "message",
    "constraints": "constraint",
    "choices": "choice",
    "rules": "rule",
    "properties": "property",
}


def shaped_spec(source: Source) -> Map:
    """The root of a spec, with everything below it checked. Raises `SpecError` with all that is wrong."""
    tree = source.shape(source.root, "the spec", 1, SHAPES["spec"])
    for section, shape in _SECTIONS.items():
        for name, entry in tree[section].items():
            _entry(source, entry, f"{shape} {name}", tree[section].lines[name], shape)
    for region, rows in tree["transitions"].items():
        if not isinstance(rows, Sequence):
            text = f"The rows of {region} have to be a list."
            source.report("WSL006", tree["transitions"].lines[region], text, "Write each in a line with a dash.")
            continue
        for row, line in zip(rows, rows.lines, strict=True):
            source.shape(row, "a row", line, SHAPES["row"])
    for coupling, line in zip(tree["couplings"], tree["couplings"].lines, strict=True):
        source.shape(coupling, "a coupling", line, SHAPES["coupling"])
    source.shape(tree["system"], "the system", tree.lines["system"], SHAPES["system"])
    source.check()
    return tree


def _entry(source: Source, entry: object, name: str, line: int, shape: str) -> None:
    """One entry of a section, and the entries inside of it."""
    value = source.shape(entry, name, line, SHAPES[shape])
    match shape:
        case "region":
            for state, inner in value["states"].items():
                source.shape(inner, f"state {state}", value["states"].lines[state], SHAPES["state"])
        case "message":
            for key, inner in value["keys"].items():
                source.shape(inner, f"key {key} of {name}", value["keys"].lines[key], SHAPES["key"])
        case "choice":
            for answer, inner in value["answers"].items():
                keys = dict.fromkeys(inner, "value") if isinstance(inner, Map) else {}
                source.shape(inner, f"answer {answer} of {name}", value["answers"].lines[answer], keys)
