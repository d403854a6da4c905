"""The shape of ASGI messages: types of their keys, and the constraints on their values.

Which keys a message has, and which constraint holds for which key, stands in the spec; here is only what a type and a
constraint mean. Values are normalised on the way: bytes-like objects become bytes, subclasses of str and int become
plain ones (C38), header fields become a tuple of pairs.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wslifecycle.statemachine.model import Constraint, Key, Message, Ref

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A token of HTTP (RFC 9110 section 5.6.2)."""

_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5


class ShapeError(Exception):
    """A message does not have the shape that the spec gives it. `rule` is the number that it breaks."""

    def __init__(self, text: str, rule: str, line: int) -> None:
        super().__init__(text)
        self.text = text
        self.rule = rule
        self.line = line


class _Wrong(Exception):
    """A type or a constraint is not fulfilled; the text says what is expected."""


# ------------------------------------------------------------------------------------------------ types


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("has to be a str")
    return str.__str__(value)  # the text itself, also where a subclass such as an Enum shows itself in another way


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _Wrong("has to be bytes")
    try:
        return bytes(value)
    except ValueError:
        raise _Wrong("has to be bytes, not a memoryview that was released") from None


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("has to be an int")
    return int.__int__(value)


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("has to be a bool")
    return value


def _headers(value: object) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _Wrong("has to be an iterable of [name, value] pairs of bytes")
    pairs = []
    for pair in value:
        items = tuple(pair) if isinstance(pair, list | tuple) else ()
        if len(items) != 2:
            raise _Wrong("has to be an iterable of [name, value] pairs of bytes")
        name, content = _bytes(items[0]), _bytes(items[1]).strip(b" \t")  # white space around it is no part of it
        if not TOKEN.fullmatch(name.removeprefix(b":")) or not _FIELD_VALUE.fullmatch(content):
            raise _Wrong(f"has a field that HTTP cannot carry: {reprlib.repr(name)}: {reprlib.repr(content)}")
        pairs.append((name, content))
    return tuple(pairs)


TYPES: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "bytes": _bytes,
    "int": _int,
    "bool": _bool,
    "headers": _headers,
}


# ------------------------------------------------------------------------------------------------ constraints


@dataclass(frozen=True, slots=True)
class Context:
    """What a constraint may look at besides the value: the offered subprotocols and the variables."""

    subprotocols: tuple[str, ...]
    variables: Mapping[str, Mapping[str, Any]]
    """Those of the connection, as they are now."""


def in_ranges(value: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether a number lies in one of these ranges, both ends included."""
    return any(low <= value <= high for low, high in ranges)


def _offered_subprotocol(value: str | None, refuse: bool, options: Mapping[str, Any], context: Context) -> str | None:
    if refuse and value is not None and value not in context.subprotocols:
        offered = ", ".join(context.subprotocols) or "none"
        raise _Wrong(f"is {reprlib.repr(value)}, which the client did not offer (it offered {offered})")
    if value is not None and not TOKEN.fullmatch(value.encode("utf-8", "replace")):
        raise _Wrong(f"is {value!r}, which HTTP cannot carry")
    return value


def _field_names(
    value: Iterable[tuple[bytes, bytes]], refuse: bool, options: Mapping[str, Any], context: Context
) -> tuple[tuple[bytes, bytes], ...]:
    """Both kinds of header lists: forbidden names and prefixes raise, `drop` disappears, case is lowered."""
    forbidden = {name.encode() for name in options.get("names", ())}
    prefixes = tuple(prefix.encode() for prefix in options["prefixes"])
    dropped = {name.encode() for name in options.get("drop", ())}
    for name, _ in value:
        if refuse and (name.lower() in forbidden or name.lower().startswith(prefixes)):
            raise _Wrong(f"has {name.decode()}, which belongs to the server")
    return tuple(
        (name.lower() if options["lower"] else name, content) for name, content in value if name.lower() not in dropped
    )


def _encodable(value: str | None, refuse: bool, options: Mapping[str, Any], context: Context) -> str | None:
    if value is None or _utf8(value):
        return value
    if refuse:
        raise _Wrong("holds a lone surrogate, which UTF-8 cannot encode")
    return value.encode("utf-8", "replace").decode()


def _close_code(value: int, refuse: bool, options: Mapping[str, Any], context: Context) -> int:
    if refuse and not in_ranges(value, options["ranges"]):
        raise _Wrong(f"is {value}, which may not stand in a Close frame ({_ranges(options['ranges'])} may)")
    return value


def _close_reason(value: str, refuse: bool, options: Mapping[str, Any], context: Context) -> str:
    text = _encodable(value, options["strict"], options, context) or ""
    encoded = text.encode()
    if len(encoded) <= options["limit"]:
        return text
    if refuse:
        raise _Wrong(f"has {len(encoded)} bytes; a Close frame carries {options['limit']}")
    return cut(text, options["limit"])


def _denial_status(value: int, refuse: bool, options: Mapping[str, Any], context: Context) -> int:
    if refuse and not in_ranges(value, options["ranges"]):
        raise _Wrong(f"is {value}, not the status of a final response ({_ranges(options['ranges'])})")
    return value


def _denial_body(value: bytes, refuse: bool, options: Mapping[str, Any], context: Context) -> bytes:
    ref: Ref = options["status"]
    head = context.variables.get(ref.scope, {})  # there is none yet for a body out of place, which the machine answers
    return b"" if head.get(ref.key) in options["no_body"] else value


def cut(text: str, limit: int) -> str:
    """A reason as a Close frame can carry it: at most `limit` bytes of UTF-8, cut between characters (C21)."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def _utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ranges(ranges: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{low}-{high}" for low, high in ranges)


_CHECKS: dict[str, Callable[[Any, bool, Mapping[str, Any], Context], Any]] = {
    "offered_subprotocol": _offered_subprotocol,
    "accept_headers": _field_names,
    "response_headers": _field_names,
    "encodable": _encodable,
    "close_code": _close_code,
    "close_reason": _close_reason,
    "denial_body": _denial_body,
    "denial_status": _denial_status,
}

CONSTRAINTS: dict[str, tuple[str, ...]] = {
    "offered_subprotocol": (),
    "accept_headers": ("names", "prefixes", "lower"),
    "response_headers": ("drop", "prefixes", "lower"),
    "encodable": (),
    "close_code": ("ranges",),
    "close_reason": ("strict", "limit"),
    "denial_body": ("no_body", "status"),
    "denial_status": ("ranges",),
}
"""The constraints that a spec may name, and the options of each."""


# ------------------------------------------------------------------------------------------------ a message


_DATA = [("bytes", "bytes", False, None, None), ("text", "str", False, None, "encodable")]
"""The keys of a data message: name, type, whether it is required, default, constraint."""


class Shape:
    """One app-to-server message as the spec of a connection wants it.

    Built from a `Message` whose values are resolved (no `$C..` left in them); `older` are the keys that the spec
    version of the connection does not know yet.
    """

    __slots__ = ("_checks", "_is_data", "_message")

    def __init__(
        self, message: Message, constraints: Mapping[str, Constraint], resolve: Callable[[Any], Any], older: set[str]
    ) -> None:
        self._message = message
        self._checks = [
            (
                key,
                resolve(key.default),
                resolve(key.null_is_default) or (not key.required and key.default is None),
                key.name in older,
                *self._constraint(key, constraints, resolve),
            )
            for key in message.keys.values()
        ]
        keys = [(key.name, key.type, key.required, key.default, key.value) for key in message.keys.values()]
        self._is_data = not older and len(message.exactly_one) == 2 and sorted(keys) == _DATA

    def data(self, message: Mapping[str, Any]) -> str | bytes | None:
        """The one value of a data message, if a glance tells that nothing is wrong with it; else `values` has to look.

        ASCII is what is meant: whether UTF-8 can encode any other text takes a look at each of its characters.
        """
        if not self._is_data:
            return None
        data, text = message.get("bytes"), message.get("text")
        if text is None:
            return data if type(data) is bytes else None
        return text if data is None and type(text) is str and text.isascii() else None

    @staticmethod
    def _constraint(
        key: Key, constraints: Mapping[str, Constraint], resolve: Callable[[Any], Any]
    ) -> tuple[Callable[..., Any] | None, bool, Mapping[str, Any], str]:
        if key.value is None:
            return None, False, {}, key.rule
        constraint = constraints[key.value]
        options = {name: resolve(option) for name, option in constraint.options.items()}
        return _CHECKS[constraint.name], resolve(constraint.refuse), options, constraint.rule

    def values(self, message: Mapping[str, Any], used: frozenset[str], context: Context) -> dict[str, Any]:
        """The values of all keys, normalised; constraints are held on the `used` keys.

        Raises `ShapeError` for a missing key, a wrong type, or a value that its constraint refuses. Additional keys
        are let pass (R45).
        """
        values: dict[str, Any] = {}
        kind = self._message.type
        for key, default, null_is_default, older, check, refuse, options, rule in self._checks:
            name = key.name
            raw = message.get(name, _MISSING)
            if older and raw is not _MISSING:
                if key.before == "refused" and raw:  # empty headers, as frameworks always send them, ask for nothing
                    raise ShapeError(
                        f"{kind} has `{name}`, which came with spec version {key.since}.", key.rule, key.line
                    )
                raw = _MISSING
            if raw is _MISSING or (raw is None and null_is_default):
                if key.required:
                    raise ShapeError(f"{kind} lacks the key `{name}`.", key.rule, key.line)
                value = default
            else:
                try:
                    value = TYPES[key.type](raw)
                except _Wrong as wrong:
                    raise ShapeError(
                        f"`{name}` of {kind} {wrong}, not {reprlib.repr(raw)}.", key.rule, key.line
                    ) from None
            if check is not None and name in used:
                try:
                    value = check(value, refuse, options, context)
                except _Wrong as wrong:
                    raise ShapeError(f"`{name}` of {kind} {wrong}.", rule, key.line) from None
            values[name] = value
        one = self._message.exactly_one
        if one and sum(values[name] is not None for name in one) != 1:
            text = f"{kind} has to have exactly one of {' and '.join(f'`{name}`' for name in one)} that is not None."
            raise ShapeError(text, self._message.rule, self._message.line)
        return values


_MISSING = object()
