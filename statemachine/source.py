"""Reads YAML into plain dicts and lists that remember their lines, and refuses what YAML would silently accept.

PyYAML follows YAML 1.1: `on`, `off`, `yes` and `no` are booleans, and of two equal keys the last one wins. Both are
reported here (WSL002, WSL003). `shape` then checks a mapping against a table of keys (WSL004 - WSL006). Whatever the
text is, it ends in a tree or in `SpecError`.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

import yaml

from wslifecycle.statemachine.findings import Finding, SpecError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"
_TEXT = ("str", "timestamp", "value", "merge")
_NO_UTF8 = ("it is not UTF-8", "Save it as UTF-8.")
_MAX_DEPTH = 32
_MAX_NODES = 100_000  # aliases of aliases could stand for more than any memory holds


class Map(dict[str, Any]):
    """A mapping with the line of its beginning (of its key, where it stands under one) and of each key."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class Sequence(list[Any]):
    """A list with the line of its beginning and of each item."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


class Source:
    """One YAML file being read, and what was found wrong with it so far. Bytes have to be UTF-8."""

    def __init__(self, text: str | bytes, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self._anchors: dict[str, Any] = {}
        self._nodes = 0
        self.root = self._read(text)
        if not isinstance(self.root, Map):
            self.report("WSL001", 1, "The file holds no mapping.", "Start from the file that came with the package.")
        self.check()

    def report(self, code: str, line: int, text: str, fix: str) -> None:
        """Records a finding."""
        self.findings.append(Finding(code, line, text, fix, self.file))

    def check(self) -> None:
        """Raises `SpecError` if anything was found so far. Later checks may then rely on what was checked."""
        if self.findings:
            raise SpecError(self.findings)

    # -------------------------------------------------------------------------------------------- YAML

    def _read(self, text: str | bytes) -> Any:
        """The tree of the file, built from YAML's events: unlike its nodes these cannot be nested too deeply."""
        try:
            text = text.encode() if isinstance(text, str) else text
            text = text.decode()
        except UnicodeEncodeError as error:
            raise self._broken(error.object.count("\n", 0, error.start) + 1, *_NO_UTF8) from None
        except UnicodeDecodeError as error:
            raise self._broken(error.object.count(b"\n", 0, error.start) + 1, *_NO_UTF8) from None
        try:
            self._loader = _LOADER(text)
            self._loader.get_event()  # the stream begins
            if isinstance(self._loader.get_event(), yaml.StreamEndEvent):
                return None
            root = self._build(self._loader.get_event(), 0)
            self._loader.get_event()  # the document ends
            following = self._loader.get_event()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line if mark else text[: getattr(error, "position", 0)].count("\n")
            problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
            raise self._broken(line + 1, problem) from None
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._broken(following.start_mark.line + 1, "a second document begins", "Keep one.")
        return root

    def _broken(self, line: int, problem: str, fix: str = "Mend the syntax.") -> SpecError:
        self.report("WSL001", line, f"This is not YAML that can be read: {problem}.", fix)
        return SpecError(self.findings)

    def _build(self, event: Any, depth: int) -> Any:
        line = event.start_mark.line + 1
        self._count(line)
        if depth > _MAX_DEPTH:
            raise self._broken(line, f"it is nested more than {_MAX_DEPTH} deep", "A spec needs no such depth.")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._broken(line, f"`*{event.anchor}` stands for nothing that is complete here")
            return self._copy(self._anchors[event.anchor], line, depth)
        value: Any
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(line, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = Sequence(line)
            while not isinstance(item := self._loader.get_event(), yaml.SequenceEndEvent):
                value.lines.append(item.start_mark.line + 1)
                value.append(self._build(item, depth + 1))
        else:
            value = self._scalar(event, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _mapping(self, line: int, depth: int) -> Map:
        mapping = Map(line)
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            key_line = event.start_mark.line + 1
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            built = self._build(event, depth + 1)
            if key is None:
                key = built
                if not isinstance(built, str):
                    self.report("WSL006", key_line, "A key has to be a word.", "Write key: value.")
                    key = ""
            if key in mapping:
                self.report(
                    "WSL003",
                    key_line,
                    f"`{key}` stands twice in this mapping (first in line {mapping.lines[key]}).",
                    "Remove one of them.",
                )
            value = self._build(self._loader.get_event(), depth + 1)
            if isinstance(value, Map | Sequence):
                value.line = key_line
            mapping[key] = value
            mapping.lines[key] = key_line
        return mapping

    def _copy(self, value: Any, line: int, depth: int) -> Any:
        """What an alias stands for, as if it were written in the alias's line."""
        self._count(line)
        if depth > _MAX_DEPTH:
            raise self._broken(line, f"it is nested more than {_MAX_DEPTH} deep", "A spec needs no such depth.")
        if isinstance(value, Map):
            mapping = Map(line)
            for key, item in value.items():
                mapping[key] = self._copy(item, line, depth + 1)
                mapping.lines[key] = line
            return mapping
        if isinstance(value, Sequence):
            sequence = Sequence(line)
            sequence.extend(self._copy(item, line, depth + 1) for item in value)
            sequence.lines = [line] * len(value)
            return sequence
        return value

    def _count(self, line: int) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise self._broken(line, f"it holds more than {_MAX_NODES} values", "A spec needs no such size.")

    def _scalar(self, event: Any, line: int) -> Any:
        raw, tag = event.value, event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, raw, event.implicit)
        kind = tag.removeprefix(_PREFIX)
        try:
            if kind == "bool":
                if raw.lower() not in ("true", "false"):
                    self.report("WSL002", line, f"`{raw}` is read as a boolean.", f'Write "{raw}" in quotes.')
                return raw.lower() == "true"
            if kind == "null":
                return None
            if kind == "binary":
                return b64decode("".join(raw.split()), validate=True)
            if kind in ("int", "float") and len(raw) > 32:
                raise ValueError("too long a number")
            if kind == "int":
                return int(raw.replace("_", ""), 0)
            if kind == "float":
                return float(raw.replace("_", ""))
        except ValueError:
            self.report("WSL006", line, f"{show(raw)} cannot be read as {kind}.", "Mend it, or write it in quotes.")
        else:
            if kind not in _TEXT:
                self.report("WSL006", line, f"There is no type {tag}.", "Leave it out.")
        return raw

    # -------------------------------------------------------------------------------------------- shapes

    def shape(self, value: Any, name: str, line: int, keys: dict[str, str]) -> Map:
        """Checks that `value` is a mapping with these keys and nothing else.

        `keys` says for each key its kind, a word of `KINDS`; a `?` behind it means that the key may be missing. What is
        wrong is reported, and left out of the result or put right, so that one pass finds everything.
        """
        if not isinstance(value, Map):
            text = f"{name} has to be a mapping, not {show(value)}."
            self.report("WSL006", getattr(value, "line", line), text, "Write {key: value}.")
            empty = Map(line)
            empty.update({key: KINDS[kind].empty(line) for key, kind in keys.items() if not kind.endswith("?")})
            return empty
        for key in list(value):
            if key not in keys:
                known = ", ".join(keys)
                self.report("WSL004", value.lines[key], f"{name} has no key `{key}`.", f"Remove it; it knows {known}.")
                del value[key]
        for key, marked in keys.items():
            kind = KINDS[marked.rstrip("?")]
            if key not in value:
                if not marked.endswith("?"):
                    self.report("WSL005", value.line, f"{name} lacks `{key}`.", f"Add `{key}:`, {kind.says}.")
                    value[key] = kind.empty(value.line)
                    value.lines[key] = value.line
            elif not kind.fits(value[key]):
                instead = "" if isinstance(value[key], Map | Sequence) else f", not {show(value[key])}"
                text = f"`{key}` of {name} has to be {kind.says}{instead}."
                self.report("WSL006", value.lines[key], text, f"Write {kind.says}.")
                value[key] = kind.empty(value.line)
        return value

    def word(self, mapping: Map, key: str, name: str, allowed: Any) -> str:
        """The value of a key that has to be one of the allowed words."""
        word = mapping.get(key)
        if not isinstance(word, str) or word not in allowed:
            self.report(
                "WSL006",
                mapping.lines.get(key, mapping.line),
                f"`{key}` of {name} is {show(word)}.",
                f"Write one of {', '.join(allowed)}.",
            )
            return str(next(iter(allowed)))
        return word


# ------------------------------------------------------------------------------------------------ kinds of values


class ValueKind:
    """What a value may be: the words for it, the test, and what stands in for one that is wrong."""

    def __init__(self, says: str, fits: Callable[[Any], bool], empty: Callable[[int], Any]) -> None:
        self.says = says
        self.fits = fits
        self.empty = empty


def names(value: Any) -> tuple[str, ...]:
    """A name or a list of names as a tuple of names."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def show(value: Any) -> str:
    """A value as an error text shows it: never long."""
    if isinstance(value, Map | Sequence):
        return "a mapping" if isinstance(value, Map) else "a list"
    text = "nothing" if value is None else repr(value)
    return text if len(text) < 80 else f"{text[:76]}..."


def _constant(value: Any) -> bool:
    return all(map(_constant, value)) if isinstance(value, Sequence) else not isinstance(value, Map)


def _names(value: Any) -> bool:
    several = isinstance(value, Sequence) and bool(value)
    return isinstance(value, str) or (several and all(isinstance(item, str) for item in value))


def _map_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Map) and all(map(fits, value.values()))


def _when(value: Any) -> bool:
    alternatives = value if isinstance(value, Sequence) else [value]
    return bool(alternatives) and all(entry and _map_of(_names)(entry) for entry in alternatives)


def _effects(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(entry, str) or (_map_of(_map_of(_constant))(entry) and len(entry) == 1) for entry in value
    )


KINDS: dict[str, ValueKind] = {
    "str": ValueKind("text", lambda value: isinstance(value, str), lambda line: ""),
    "int": ValueKind(
        "a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool), lambda line: 0
    ),
    "bool": ValueKind("true or false", lambda value: isinstance(value, bool), lambda line: False),
    "true": ValueKind("true", lambda value: value is True, lambda line: True),
    "map": ValueKind("a mapping", lambda value: isinstance(value, Map), Map),
    "list": ValueKind("a list", lambda value: isinstance(value, Sequence), Sequence),
    "any": ValueKind("anything", lambda value: True, lambda line: None),
    "names": ValueKind("a name or a list of names", _names, Sequence),
    "value": ValueKind("a value or a list of values", _constant, lambda line: None),
    "fields": ValueKind("a mapping of fields to values", _map_of(_constant), Map),
    "assigns": ValueKind("a mapping of variables to their fields", _map_of(_map_of(_constant)), Map),
    "states": ValueKind("a mapping of regions to states", _map_of(_names), Map),
    "texts": ValueKind("a mapping of names to text", _map_of(lambda value: isinstance(value, str)), Map),
    "when": ValueKind("a mapping of choices to answers, or a list of such mappings", _when, Map),
    "effects": ValueKind("a list of effects, each a name or {name: {field: value}}", _effects, Sequence),
}
