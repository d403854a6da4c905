"""What was measured: every burst and every look at memory, so that each figure can be had from it again; as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from benchmarks.speed.columns import Column

FORMAT = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who took part: `group` is "ours", "peer" or "floor"."""

    label: str
    name: str
    loop: str
    group: str
    version: str


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst of one contender.

    `cpu` is in nanoseconds, of all processes of the server; `wall` in seconds; `client`: the share of a processor that
    the load client took. `fault` says what was wrong; then nothing else counts.
    """

    contender: str
    column: str
    round: int
    messages: int = 0
    cpu: int = 0
    wall: float = 0.0
    client: float = 0.0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a fresh server by the number of connections that are open and idle."""

    contender: str
    round: int
    resident: tuple[tuple[int, int], ...] = ()
    fault: str = ""


@dataclass(slots=True)
class Report:
    """All of it. `machine` says where and when, `notes` who is left out and why."""

    machine: dict[str, str]
    rounds: int
    seconds: float
    entrants: list[Entrant] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def dump(self) -> str:
        """As JSON: a line for each burst."""
        plain = {"format": FORMAT, **asdict(self)}
        parts = []
        for name, value in plain.items():
            if isinstance(value, list) and value:
                lines = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in value)
                parts.append(f" {json.dumps(name)}: [\n  {lines}\n ]")
            else:
                parts.append(f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
        return "{\n" + ",\n".join(parts) + "\n}\n"


def load(data: str) -> Report:
    """A report of what `dump` made. Raises `ValueError`, which says what is wrong, for anything else."""
    try:
        plain = json.loads(data)
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise ValueError(f"there is no format {FORMAT} in it")
        report = Report(
            machine={str(name): str(value) for name, value in plain["machine"].items()},
            rounds=_number(plain["rounds"], int),
            seconds=_number(plain["seconds"], float),
            entrants=[_made(Entrant, one) for one in plain["entrants"]],
            columns=[_made(Column, one) for one in plain["columns"]],
            bursts=[_made(Burst, one) for one in plain["bursts"]],
            memory=[_remembered(one) for one in plain["memory"]],
            notes=[str(note) for note in plain["notes"]],
        )
        _check(report)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"This is no report of speed: {what}") from None
    return report


def _made(kind: type[_T], plain: Mapping[str, Any]) -> _T:
    """One of a kind, each of whose fields has the type that it should have."""
    types = {"str": str, "Kind": str, "int": int, "float": float, "bool": bool}
    annotations: Mapping[str, str] = kind.__annotations__
    for name, value in plain.items():
        if name in annotations and annotations[name] in types:
            _number(value, types[annotations[name]], name)
    return kind(**plain)


def _number(value: Any, kind: type[_T], name: str = "a number") -> _T:
    if kind is float and type(value) is int:
        return value  # type: ignore[return-value]
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}")
    return value


def _remembered(plain: Mapping[str, Any]) -> Memory:
    pairs = tuple((_number(count, int), _number(size, int)) for count, size in plain["resident"])
    return _made(Memory, {**plain, "resident": pairs})


def _check(report: Report) -> None:
    """Raises `ValueError` where something is about nobody."""
    labels = {one.label for one in report.entrants}
    columns = {column.name for column in report.columns}
    for burst in report.bursts:
        if burst.contender not in labels or burst.column not in columns:
            raise ValueError(f"who or what is {burst.contender!r}, {burst.column!r}?")
        if not burst.fault and (burst.messages <= 0 or burst.cpu <= 0 or burst.wall <= 0):
            raise ValueError(f"a burst without messages or time: {burst}")
    for look in report.memory:
        if look.contender not in labels:
            raise ValueError(f"who is {look.contender!r}?")
