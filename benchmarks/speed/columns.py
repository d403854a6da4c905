"""The kinds of load: a column of the table each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["echo", "visits", "memory"]


@dataclass(frozen=True, slots=True)
class Column:
    """A kind of load.

    "echo": messages of `size` bytes on so many `connections`, so many `outstanding` on each; "visits": connections that
    echo once and close; "memory": idle connections. `chart`: it is a point of a chart, and only few are tried.
    """

    name: str
    says: str
    kind: Kind
    size: int = 16
    connections: int = 1
    outstanding: int = 1
    chart: bool = False


def _echo(shown: str, size: int, connections: int, *, chart: bool = False) -> Column:
    each = "one connection" if connections == 1 else f"{connections:,} connections"
    says = f"{shown} on {each}, one message at a time on each"
    return Column(f"{shown} x{connections}", says, "echo", size, connections, chart=chart)


IDLE = "idle"
STEPS = (0, 250, 500, 1000, 2000)
"""Idle connections of those in the chart; of all others only none and `MANY` are tried."""

MANY = 1000

COLUMNS = (
    *(_echo(shown, size, n) for shown, size in (("16B", 16), ("1K", 1024), ("64K", 65536)) for n in (1, 50, 500)),
    Column("pipelined", "16B on 50 connections, 64 messages outstanding on each", "echo", 16, 50, 64),
    Column("set-up", "handshake, one echo of 16B and closing handshake, 50 at a time", "visits"),
    *(_echo("16B", 16, n, chart=True) for n in (10, 100, 1000)),
    Column(IDLE, f"KiB of memory for each of {MANY:,} idle connections that have echoed once", "memory"),
)
