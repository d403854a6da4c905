"""What our runtime promises besides the lifecycle: timers, Pings, flow control, the pace of what is repeated.

No state of the machine says that a timer runs out on time or that a Pong is written; the values of the choices do. Each
promise is judged where nothing more can happen, or in the moment that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from wslifecycle.runtime.options import Options
from wslifecycle.statemachine.flatten import Answer, Flat

Fault: TypeAlias = tuple[str, str, str]
"""The name of a promise that is broken, its rule, and what was seen."""

SOON = 1e-6
"""Seconds by which a clock of floating point may be wrong."""

END = "end"
"""The timer of `EndTransport`."""


class Resources:
    """Those of one connection. `clock` tells the seconds."""

    def __init__(self, options: Options, clock: Callable[[], float]) -> None:
        self._flat: Flat = options.lifecycle.flat
        self._clock = clock
        self._seconds = {name: self._flat.resolve(timer.seconds) for name, timer in self._flat.spec.timers.items()}
        self._seconds |= {
            name: seconds
            for name, seconds in (
                ("handshake_timeout", options.handshake_timeout),
                ("close_timeout", options.close_timeout),
            )
            if seconds is not None
        }
        self._seconds["keepalive"] = None  # which sends Pings, and has a deadline for each
        self._patience = options.ping_timeout
        self._bound = options.max_queue or self._flat.value("C31", "messages")
        self._due: dict[str, float] = {}  # when timers run out
        self._ping: bytes | None = None  # the last one of ours, until it is answered
        self._since = 0.0  # when patience with the peer began
        self._ponged = True  # the last Ping of ours was answered
        self._owed: bytes | None = None  # what the next Pong of ours has to carry
        self._gave_at: float | None = None  # the last repeated disconnect
        self.blocked = False
        """Writing is paused."""
        self.paused = False
        """The transport does not read."""
        self.stopped = False
        """Too many messages are unread: nothing more is told of what the peer sends."""
        self._more = False  # more was read since

    # ---------------------------------------------------------------------------------------- what happens

    def start(self, timer: str) -> None:
        """A timer starts."""
        seconds = self._seconds.get(timer)
        if seconds is not None:
            self._due[timer] = self._clock() + seconds

    def stop(self, timer: str) -> None:
        """A timer is stopped, or has run out."""
        self._due.pop(timer, None)

    def carries_out(self, answer: Answer) -> None:
        """The machine has said that timers start and stop, and that a Ping is answered."""
        for call in answer.effects:
            fields = dict(call.fields)
            match call.effect:
                case "start_timer":
                    self.start(fields["timer"])
                case "cancel_timer":
                    self.stop(fields["timer"])
                case "end_transport" if (deadline := self._seconds["close_timeout"]) is not None:
                    self._due[END] = self._clock() + deadline

    def lost(self) -> None:
        """The transport is gone."""
        self._due.clear()
        self._ping = self._owed = None

    def look(self, *, paused: bool, blocked: bool) -> None:
        """How the transport is, between two iterations of the loop."""
        self.paused, self.blocked = paused, blocked
        if self.stopped and not blocked:
            self._since = self._clock()  # its Pong may wait with us (C33)

    def keeps(self, count: int) -> None:
        """So many messages are unread."""
        if self._bound is not None and count > self._bound:
            self.stopped = True
        elif self._bound is None or count * 2 <= self._bound:
            self.stopped = self._more = False

    def reads(self) -> None:
        """Something of the peer was read. After this at the latest the transport has to be paused, if it has to."""
        self._more = self.stopped

    def pinged(self, payload: bytes) -> None:
        """A Ping of ours was written."""
        if self._ponged:
            self._since = self._clock()  # patience is not renewed by another Ping
        self._ping, self._ponged = payload, False

    def pong_arrives(self, payload: bytes) -> None:
        """A Pong of the peer was read."""
        if payload == self._ping:
            self._ponged = True

    def ping_is_told(self, payload: bytes, *, answered: bool) -> None:
        """A Ping of the peer was told to the machine, which says whether it is answered."""
        if answered:
            self._owed = payload

    def ponged(self, payload: bytes) -> Iterator[Fault]:
        """A Pong of ours was written."""
        if payload != self._owed:
            yield "pong_answers", "W8", f"a Pong {payload!r} was written, and the last Ping was {self._owed!r}"
        self._owed = None

    def sends_no_more(self) -> None:
        """Our side has ended."""
        self._owed = None

    def gives_again(self, answer: Answer, *, queued: bool) -> Iterator[Fault]:
        """A disconnect is given once more; `queued`: to a call that had waited behind others."""
        seconds = max(self._flat.resolve(dict(c.fields)["seconds"]) for c in answer.effects if c.effect == "pace")
        now = self._clock()
        if not queued and self._gave_at is not None and now < self._gave_at + seconds - SOON:
            yield "paced", "C6", f"the disconnect was given again after {now - self._gave_at:g} s, not {seconds:g}"
        self._gave_at = now if not queued else self._gave_at

    def expires(self) -> Iterator[Fault]:
        """The peer is taken for dead."""
        age = self._clock() - self._since
        if self._ping is None or self._ponged:
            yield "patient", "C33", "the connection was failed, and the peer had answered every Ping"
        elif self._patience is None or age < self._patience - SOON:
            yield "patient", "C33", f"the connection was failed, and the peer had had only {age:g} s to answer"

    # ---------------------------------------------------------------------------------------- what is due

    def idle(self, *, is_open: bool, kept: int) -> Iterator[Fault]:
        """Nothing more can happen now: what is broken by that."""
        now = self._clock()
        for timer, when in self._due.items():
            if now > when + SOON:
                yield "timers_run_out", "C48", f"{timer} was due {now - when:g} s ago"
        if self._bound is not None and kept > self._bound + 1 and is_open:
            yield "reading_pauses", "C31", f"{kept} messages are unread, and more than {self._bound + 1} were told"
        if self._more and is_open and not self.paused:
            yield "reading_pauses", "C31", f"{kept} messages are unread, and reading goes on"
        if not is_open:
            return
        if self._owed is not None and not self.blocked:
            yield "pong_answers", "W8", f"the Ping {self._owed!r} was not answered"
        waits = self._ping is not None and not self._ponged and self._patience is not None
        if waits and self._patience is not None and now > self._since + self._patience + SOON:
            yield "silence_ends_it", "C33", f"the peer has not answered a Ping for {now - self._since:g} s"
