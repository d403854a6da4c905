"""What the connections of a server do, counted for those who watch it: `Options(counters=Counters())`.

A `Counters` is told of every answer of the machine and of every refusal, and knows no connection, so that it costs the
same however many there are. `wslifecycle.integrations.prometheus` shows one to Prometheus; `snapshot` is for everything
else. It counts for one process; reading from another thread is safe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from wslifecycle.statemachine.connection import Ended
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle


class Counters:
    """Counts, from when it was made.

    `states`: connections that are in a state of the wire at this moment, by its name. `events`: what happened, by its
    name, such as peer_message or app_send. `refused`: what an app was refused, by the number of the rule. `answered`:
    answers to handshakes, by their status; those that no app was asked for are among them. `outcomes`: connections
    that have ended, by the state of the wire in which they did, the event that did it and the code of the disconnect.
    """

    def __init__(self) -> None:
        self.answered: Counter[int] = Counter()
        self.outcomes: Counter[tuple[str, str, int]] = Counter()
        self.events: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.states: Counter[str] = Counter()

    def begins(self, machine: Lifecycle) -> None:
        """A connection begins, in the initial state."""
        self.states[next(iter(machine.states)).partition("/")[0]] += 1

    def observe(self, answer: Answer) -> None:
        """The machine has answered."""
        if answer.refusal is not None:
            return
        self.events[answer.event] += 1
        if answer.moves:
            source, target = answer.source.partition("/")[0], answer.target.partition("/")[0]
            if source != target:
                self.states[source] -= 1
                self.states[target] += 1

    def watching(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """The same `send()`, of which what is refused is counted."""

        async def watched(message: Any) -> None:
            try:
                await send(message)
            except (ApplicationViolation, Disconnected) as refusal:
                self.refused[refusal.rule] += 1
                raise

        return watched

    def answers(self, status: int) -> None:
        """A handshake was answered."""
        self.answered[status] += 1

    def ends(self, ended: Ended, state: str) -> None:
        """The transport of a connection is gone; `state` is the machine's."""
        self.states[state.partition("/")[0]] -= 1
        self.outcomes[ended.wire, ended.by, ended.code] += 1

    def snapshot(self) -> dict[str, Any]:
        """All of it, as values that JSON has; what is zero is left out."""
        outcomes = [
            {"wire": wire, "by": by, "code": code, "count": count}
            for (wire, by, code), count in sorted(self.outcomes.copy().items())
        ]
        return {
            "states": {name: count for name, count in self.states.copy().items() if count},
            "events": dict(self.events),
            "refused": dict(self.refused),
            "answered": {str(status): count for status, count in self.answered.copy().items()},
            "outcomes": outcomes,
        }
