"""Stateful fuzzing of our own runtime, with the witness that hears every answer of its machine.

Each example draws its settings as well: the scope, how many messages may be unread, whether there are Pings, and how
long the app may take for the handshake. `machine` and `spec` put a machine with a fault in the runtime's place and let
another one judge it; `make_protocol` does the same with the runtime itself:

    class Granian(Ours):
        machine = mutant
        spec = lifecycle()

    class Faulty(Ours):
        make_protocol = staticmethod(faulty(fault))
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any, ClassVar

from hypothesis import strategies as st

from wslifecycle.conformance.orders.exchange import App
from wslifecycle.conformance.orders.insider import Insider, Situation
from wslifecycle.conformance.orders.stateful import Fuzz, connecting
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service
from wslifecycle.statemachine.cover import scopes
from wslifecycle.statemachine.machine import Lifecycle, lifecycle

MAX_SIZE = 65536
"""Bytes of a message before it is too large."""

SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "scope": st.integers(0, 3),
    "max_queue": st.sampled_from((None, 1, 2)),
    "ping_interval": st.sampled_from((None, 5)),
    "handshake_timeout": st.sampled_from((None, 15)),
}
"""What the runtime is made with; `scope` is the number of one of `scopes`."""


def acceptor(app: App, **options: Any) -> asyncio.BaseProtocol:
    """The protocol of our runtime, with these `Options`."""
    return Acceptor(Service(app, Options(**options)), set())


class Ours(Fuzz):
    """One connection of our runtime in each example.

    `machine`: what the runtime obeys, None: the reference; `spec`: what says whether that is right, None: the same.
    `make_protocol` is given the app and the fields of `Options`. Each subclass counts for itself: `executions` are the
    examples that were run, those of shrinking as well, and `situations` all that was seen in them.
    """

    machine: ClassVar[Lifecycle | None] = None
    spec: ClassVar[Lifecycle | None] = None
    make_protocol: ClassVar[Any] = staticmethod(acceptor)
    executions: ClassVar[int] = 0
    situations: ClassVar[set[Situation]] = set()

    insider: Insider

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.executions, cls.situations = 0, set()

    @connecting(**SETTINGS)
    def connects(  # type: ignore[override]
        self,
        scope: int,
        max_queue: int | None,
        ping_interval: float | None,
        handshake_timeout: float | None,
        followed: int,
        **how: Any,
    ) -> None:
        """A peer connects to a runtime with these settings; the app may have come some way already."""
        every = scopes(self.machine or lifecycle())
        version, extensions = every[scope % len(every)]
        self.chosen: dict[str, Any] = {
            "spec_version": version,
            "extensions": extensions,
            "max_size": MAX_SIZE,
            "max_queue": max_queue,
            "ping_interval": ping_interval,
            "handshake_timeout": handshake_timeout,
        }
        self.followed = followed
        super().connects(followed=followed, **how)

    def witness(self, followed: int) -> Insider:
        """Who judges."""
        options = Options(machine=self.machine, **self.chosen)
        self.insider = Insider(options, spec=self.spec, followed=followed)
        return self.insider

    def make(self, app: App) -> Any:
        """Our runtime, for one connection."""
        options = self.insider.options
        given = {field.name: getattr(options, field.name) for field in fields(options) if field.init}
        return self.make_protocol(app, **given)

    def told(self) -> str:
        """The whole exchange, as a program and a story."""
        given = "".join(f", {name}={value!r}" for name, value in self.chosen.items())
        machine = "" if self.machine is None else ", machine=machine"
        spec = "" if self.spec is None else ", spec=spec"
        head, schedule, rest = self.x.told().split("\n", 2)
        lines = [
            head,
            f"witness = Insider(Options({f'{given}{machine}'.removeprefix(', ')}){spec}, followed={self.followed})",
            "make = lambda app: Acceptor(Service(app, witness.options), set())",
            schedule,
            rest,
        ]
        return "\n".join(lines)

    def teardown(self) -> None:
        """The connection comes to its end, and what was seen is kept."""
        try:
            super().teardown()
        finally:
            cls = type(self)
            cls.executions += 1
            if hasattr(self, "insider"):
                cls.situations |= self.insider.situations
