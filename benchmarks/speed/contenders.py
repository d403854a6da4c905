"""Who takes part: ours, other servers, and floors below which no server in Python can be; each on each of its loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.speed import floors
from benchmarks.speed.columns import Column
from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.kit.loops import LOOPS

Group: TypeAlias = Literal["ours", "peer", "floor"]
REFERENCE = "uvicorn wsproto (asyncio)"
"""What all others are held against."""

OURS = ("wslifecycle:start_server", "wslifecycle:httptools")
STACKS = ("uvicorn:wsproto", "uvicorn:websockets", "uvicorn:websockets-sansio")
PEERS = (*STACKS, "hypercorn", "daphne", "granian", "gunicorn")
CHARTED = ("wslifecycle", "uvicorn", "hypercorn")
"""How the names begin of those that are in the charts."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server on a loop, with options of the kit."""

    name: str
    loop: str
    group: Group
    server: servers.Server
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called."""
        return f"{self.name} ({self.loop})"

    @property
    def frames(self) -> bool:
        """Whether it knows what a WebSocket is."""
        return self.name != "raw tcp"

    @property
    def charted(self) -> bool:
        """Whether it is in the charts."""
        return self.name.startswith(CHARTED)

    def takes(self, column: Column) -> bool:
        """Whether a kind of load has a meaning for it."""
        if column.chart:
            return self.charted
        return self.frames or column.kind == "echo"


def everyone(programs: Path) -> tuple[list[Contender], list[str]]:
    """All that are there, and what is said of those that are not. `programs`: those of the other servers."""
    found: list[Contender] = []
    lacking = []
    for name in OURS:
        (server,) = servers.find(name)
        found += _on_each_loop(server, "ours")
    for name in PEERS:
        try:
            (server,) = servers.find(name, programs)
        except LookupError as error:
            lacking.append(f"{name} is left out. {error.args[0]}")
        else:
            found += _on_each_loop(server, "peer")
    return [*found, *_floors()], lacking


def _on_each_loop(server: servers.Server, group: Group) -> Iterator[Contender]:
    quiet = {"quiet": ()} if "quiet" in server.options else {}
    for loop in LOOPS if "loop" in server.options else LOOPS[:1]:
        chosen = {"loop": loop} if "loop" in server.options else {}
        yield Contender(server.name, loop, group, _with(server, loop), {**quiet, **chosen})


def _with(server: servers.Server, loop: str) -> servers.Server:
    """The same, whose version has that of its loop as well, if that is no part of Python."""
    more = () if loop == "asyncio" else (loop,)
    return replace(server, distributions=(*server.distributions, *more))


def _floors() -> Iterator[Contender]:
    for kind in floors.KINDS:
        for loop in LOOPS:
            command = ("python", floors.__file__, kind, "--loop", loop, "--port", "{port}")
            parts = () if kind == "tcp" else (kind,)
            server = servers.Server(f"raw {kind}", kind, command, servers.here(), distributions=parts)
            yield Contender(server.name, loop, "floor", _with(server, loop))
