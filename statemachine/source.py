"""Reads YAML into plain dicts and lists that remember their lines, and refuses what YAML would silently accept.

PyYAML follows YAML 1.1: `on`, `off`, `yes` and `no` are booleans, and of two equal keys the last one wins. Both are
reported here (WSL002, WSL003). `shape` then checks a mapping against a table of keys (WSL004 - WSL006).
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any, cast

import yaml

from wslifecycle.statemachine.findings import Finding, SpecError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"


class Map(dict[str, Any]):
    """A mapping with the line of its beginning and of each key."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class Sequence(list[Any]):
    """A list with the line of its beginning."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


class Source:
    """One YAML file being read, and what was found wrong with it so far."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        try:
            root = yaml.compose(text, Loader=_LOADER)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error)
            self.report("WSL001", mark.line + 1 if mark else 1, f"This is not YAML: {problem}.", "Mend the syntax.")
            raise SpecError(self.findings) from error
        self.root = self._build(root) if root is not None else None
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

    def _build(self, node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            mapping = Map(line)
            for key_node, value_node in node.value:
                key = self._scalar(key_node)
                key = key if isinstance(key, str) else str(key_node.value)
                key_line = key_node.start_mark.line + 1
                if key in mapping:
                    self.report(
                        "WSL003",
                        key_line,
                        f"`{key}` stands twice in this mapping (first in line {mapping.lines[key]}).",
                        "Remove one of them.",
                    )
                mapping[key] = self._build(value_node)
                mapping.lines[key] = key_line
            return mapping
        if isinstance(node, yaml.SequenceNode):
            sequence = Sequence(line)
            sequence.extend(self._build(item) for item in node.value)
            return sequence
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        line, raw = node.start_mark.line + 1, cast(str, node.value)
        kind = node.tag.removeprefix(_PREFIX)
        if kind == "bool":
            if raw.lower() not in ("true", "false"):
                self.report("WSL002", line, f"`{raw}` is read as a boolean.", f'Write "{raw}" in quotes.')
            return raw.lower() == "true"
        if kind == "null":
            return None
        if kind == "binary":
            return b64decode(raw)
        if kind == "int":
            return int(raw.replace("_", ""), 0)
        if kind == "float":
            return float(raw.replace("_", ""))
        return raw

    # -------------------------------------------------------------------------------------------- shapes

    def shape(self, value: Any, name: str, line: int, keys: dict[str, str]) -> Map:
        """Checks that `value` is a mapping with these keys and nothing else.

        `keys` says for each key its type: `str`, `int`, `bool`, `map`, `list`, `names` (a name or a list of names) or
        `any`; a `?` behind it means that the key may be missing. What is wrong is reported, and left out of the result
        or put right, so that one pass finds everything.
        """
        if not isinstance(value, Map):
            self.report("WSL006", getattr(value, "line", line), f"{name} has to be a mapping.", "Write {key: value}.")
            value = Map(line)
        assert isinstance(value, Map)
        for key in list(value):
            if key not in keys:
                known = ", ".join(keys)
                self.report("WSL004", value.lines[key], f"{name} has no key `{key}`.", f"Remove it; it knows {known}.")
                del value[key]
        for key, kind in keys.items():
            if key not in value:
                if not kind.endswith("?"):
                    self.report("WSL005", value.line, f"{name} lacks `{key}`.", f"Add `{key}:`.")
                    value[key] = _EMPTY[kind](value.line)
            elif not _is(value[key], kind.rstrip("?")):
                self.report(
                    "WSL006",
                    value.lines[key],
                    f"`{key}` of {name} has to be {_KINDS[kind.rstrip('?')]}, not {_show(value[key])}.",
                    "Write it so.",
                )
                value[key] = _EMPTY[kind.rstrip("?")](value.line)
        return value

    def word(self, mapping: Map, key: str, name: str, allowed: Any) -> str:
        """The value of a key that has to be one of the allowed words."""
        word = cast(str, mapping.get(key))
        if word not in allowed:
            self.report(
                "WSL006",
                mapping.lines.get(key, mapping.line),
                f"`{key}` of {name} is {_show(word)}.",
                f"Write one of {', '.join(allowed)}.",
            )
            return str(next(iter(allowed)))
        return word


def names(value: Any) -> tuple[str, ...]:
    """A name or a list of names as a tuple of names."""
    return (value,) if isinstance(value, str) else tuple(value or ())


_KINDS = {
    "str": "text",
    "int": "a whole number",
    "bool": "true or false",
    "map": "a mapping",
    "list": "a list",
    "names": "a name or a list of names",
    "any": "anything",
}
_EMPTY: dict[str, Any] = {
    "str": lambda line: "",
    "int": lambda line: 0,
    "bool": lambda line: False,
    "map": Map,
    "list": Sequence,
    "names": Sequence,
    "any": lambda line: None,
}


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "str":
            return isinstance(value, str)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "map":
            return isinstance(value, Map)
        case "list":
            return isinstance(value, Sequence)
        case "names":
            return isinstance(value, str) or (
                isinstance(value, Sequence) and all(isinstance(item, str) for item in value)
            )
    return True


def _show(value: Any) -> str:
    return "nothing" if value is None else repr(value)
