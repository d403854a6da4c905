"""Plays a run of the checker against a real `Connection`, and says whether that does the same.

The checker knows the machine as tables, and the app, the peer and the transport as a model. Here the same steps are
taken by calls of the connection itself, with real messages: what it raises, does and gives has to be what the run says,
or the run is none of this connection. That is how a run which was kept shows that a fault has been mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.connection import Connection
from wslifecycle.statemachine.counterexample import Run, RunError, RunStep
from wslifecycle.statemachine.cover import MESSAGES
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected, ImpossibleEvent
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.model import Actor, Kind

AROUND = ("app_asks", "app_cancels", "peer_writes", "peer_reads", "transport_ends", "deadline")
"""What happens around a connection, which is told nothing of it."""

_REFUSALS = {
    ApplicationViolation: Kind.VIOLATION,
    Disconnected: Kind.DISCONNECTED,
    ImpossibleEvent: Kind.IMPOSSIBLE,
}
_SECONDS = 1.0  # of each timer that the profile leaves off: nothing here measures time
_QUIET = (fx.PauseReading, fx.ResumeReading)  # flow control of the connection's own, beside that of the machine
_INNER = ("keep_message", "take_message", "resume_reading", "pause_reading")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a connection did, a line for each step, and where it first went another way (None: nowhere)."""

    lines: tuple[str, ...]
    departs: str | None

    @property
    def same(self) -> bool:
        """Whether the connection does what the run says, so that what the run shows is true of it."""
        return self.departs is None


def replay(run: Run, machine: Lifecycle) -> Replayed:
    """Takes the steps of a run, what goes round twice, with a connection of this machine.

    Raises `RunError` for a run that speaks of what the machine does not have.
    """
    player = _Player(run, machine)
    lines: list[str] = []
    steps = [*run.steps, *(run.steps[run.again :] if run.again is not None else ())]
    for number, step in enumerate(steps, 1):
        departs = player.take(step)
        lines.append(f"{number:>3}  {step.action}: {player.did}")
        if departs is not None:
            return Replayed(tuple(lines), f"step {number}, {step.action}: {departs}")
    return Replayed(tuple(lines), None)


class _Departs(Exception):
    """The connection goes another way than the run."""


class _Player:
    """A connection, and what was sent to it and not given."""

    def __init__(self, run: Run, machine: Lifecycle) -> None:
        flat, spec = machine.flat, machine.spec
        fixed = {name: fact for name, fact in spec.facts.items() if fact.fixed}
        if unknown := set(run.facts) - set(fixed):
            raise RunError(f"A server cannot advertise {', '.join(sorted(unknown))}.")
        wanted = sum(flat.bits[name] for name in run.facts if fixed[name].spec_version)
        versions = [version for version in spec.versions if machine.dialect(version).facts == wanted]
        if not versions:
            raise RunError(f"No spec version has the facts {', '.join(run.facts)} and no others.")
        self.machine = machine
        self.connection = Connection(
            spec_version=versions[-1],
            extensions=[fact.extension for name, fact in fixed.items() if fact.extension and name in run.facts],
            timeouts={name: flat.resolve(timer.seconds) or _SECONDS for name, timer in spec.timers.items()},
            unread=(run.queue, None),
            machine=machine,
        )
        self.did = ""
        self._count = 0
        self._unread: list[str] = []
        self._calls = self._table()
        self.connection.started()

    def take(self, step: RunStep) -> str | None:
        """One step. Tells how the connection went another way; None where it did not."""
        self.did = "nothing"
        if step.action in AROUND:
            return None
        try:
            self._take(step)
        except _Departs as departs:
            return f"it {departs}, and in the run {_said(step)}"
        return None

    def _take(self, step: RunStep) -> None:
        if self.connection.state != step.source:
            raise _Departs(f"is in {self.connection.state}, not in {step.source}")
        if step.event not in self._calls:
            raise RunError(f"There is no event {step.event!r} that could be brought about.")
        try:
            effects = self._calls[step.event](step)
        except (ApplicationViolation, Disconnected, ImpossibleEvent) as error:
            self.did = f"raises {type(error).__name__} [{error.rule}]"
            if (_REFUSALS[type(error)], error.rule) != (step.refused, step.rule):
                raise _Departs(self.did) from None
            return
        if effects is None:
            self.did = "waits"
            if step.refused != Kind.NOT_DUE:
                raise _Departs(self.did)
            return
        done = sorted(_name(effect) for effect in effects if not isinstance(effect, _QUIET))
        due = sorted(effect for effect in step.effects if effect not in _INNER)
        if step.event in self._timers and "cancel_timer" in due:
            due.remove("cancel_timer")  # it has ended by itself
        if self.did == "nothing":
            self.did = f"does {', '.join(done) or 'nothing'}"
        if step.refused or done != due or self.connection.state != step.target:
            raise _Departs(f"{self.did} and is in {self.connection.state}")

    def _table(self) -> dict[str, Callable[[RunStep], Iterable[fx.Effect] | None]]:
        """What to call for each event."""
        connection, spec = self.connection, self.machine.spec
        self._timers = {timer.event: timer.name for timer in spec.timers.values()}
        given = [event.name for event in spec.events.values() if event.actor is Actor.GIVEN]
        return {
            **{name: partial(self._send, message) for name, message in MESSAGES.items()},
            **{event: partial(self._run_out, timer) for event, timer in self._timers.items()},
            **dict.fromkeys(given, self._give),
            "app_send": lambda step: connection.app_sent({"type": "websocket.send", "text": self._text()}),
            "app_waited": lambda step: () if connection.app_waited() else None,
            "app_return": lambda step: connection.app_returned(),
            "app_raise": lambda step: connection.app_raised(RuntimeError("the app of a run")),
            "peer_message": self._peer_message,
            "peer_ping": lambda step: connection.peer_pinged(b"ping"),
            "peer_close": lambda step: connection.peer_closed(None if step.letter == "N" else 1001),
            "peer_eof": lambda step: connection.peer_eof(),
            "peer_lost": lambda step: connection.peer_lost(),
            "peer_violation": lambda step: connection.peer_violated(1002),
            "server_shutdown": lambda step: connection.shutdown(),
        }

    def _send(self, message: dict[str, Any], step: RunStep) -> Iterable[fx.Effect]:
        return self.connection.app_sent(dict(message))

    def _run_out(self, timer: str, step: RunStep) -> Iterable[fx.Effect]:
        return self.connection.timed_out(timer)

    def _text(self) -> str:
        self._count += 1
        return f"message {self._count}"

    def _peer_message(self, step: RunStep) -> Iterable[fx.Effect]:
        text = self._text()
        effects = self.connection.peer_sent(text)
        self._unread += [text] * step.effects.count("keep_message")
        return effects

    def _give(self, step: RunStep) -> Iterable[fx.Effect] | None:
        given = self.connection.app_wants()
        if given.message is None:
            return None
        rest = " ".join(f"{k}={v!r}" for k, v in given.message.items() if k != "type" and v is not None)
        self.did = f"gives {given.message['type']} {rest}".rstrip()
        if given.message["type"] != self.machine.spec.events[step.event].message:
            raise _Departs(self.did)
        if "take_message" in step.effects and given.message["text"] != self._unread.pop(0):
            raise _Departs(f"{self.did}, which is not the oldest message")
        return given.effects


def _said(step: RunStep) -> str:
    if step.refused:
        return f"{step.event} is refused ({step.refused}, {step.rule})"
    done = ", ".join(effect for effect in step.effects if effect not in _INNER) or "nothing"
    return f"{step.event} does {done} and leads to {step.target}"


def _name(effect: fx.Effect) -> str:
    return next(name for name, kind in fx.TYPES.items() if kind is type(effect))
