"""Stateful fuzzing of a server's WebSocket protocol, with Hypothesis, in process and in any order.

    class MyServer(Fuzz):
        def make(self, app):
            return MyProtocol(app)

    TestMyServer = MyServer.TestCase

Each example is one connection: an app that calls anything at any time, a peer that sends anything and reads or does
not, a clock, a shutdown, and bytes of Hypothesis on which it stands which of the things that can happen comes first.
After every step the witness judges; at the end the connection is brought to its end, and what is owed is due. A failure
is shrunk, and printed as a program that repeats it, with what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from wslifecycle.conformance.orders.exchange import App, AppError, Exchange
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Level, Tape
from wslifecycle.conformance.orders.watched import Broken
from wslifecycle.conformance.orders.witness import Witness
from wslifecycle.conformance.peer import FRAMES
from wslifecycle.statemachine.cover import MESSAGES

F = TypeVar("F", bound=Callable[..., None])

DATA: tuple[str | bytes, ...] = ("hi", "", b"\x00\xff", b"", "grüße", "x" * 200)
"""What is in the messages of both sides."""

MALFORMED: tuple[Any, ...] = (
    {"type": "websocket.send"},
    {"type": "websocket.send", "text": "a", "bytes": b"b"},
    {"type": "websocket.send", "text": b"no text"},
    {"type": "websocket.accept", "headers": [(b"a b", b"c")]},
    {"type": "websocket.accept", "subprotocol": "never offered"},
    {"type": "websocket.close", "code": 1005},
    {"type": "websocket.close", "code": 3000, "reason": "x" * 200},
    {"type": "websocket.http.response.start", "status": 42},
    {"type": "websocket.nonsense"},
    {"type": "http.response.start", "status": 200},
    {"text": "no type"},
)
"""Messages that no app may send in any state."""

SETTINGS = settings(
    database=None,
    deadline=None,
    derandomize=False,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""How a fuzzer is run that stops at its first finding; how long, and in which phases, is for whoever runs it."""

APP_ENDS = (
    "app_return",
    "app_raise",
    "app_cancel",
    *(event for event in MESSAGES if event not in ("app_accept", "app_send")),
)
"""How the app may end it: by itself, or by a message."""

PEER_ENDS: tuple[tuple[Any, ...], ...] = (
    *(("peer_closes", code) for code in (1000, 1001, 4000, None)),
    *((name,) for name in ("peer_ends", "peer_shuts", "peer_resets")),
    *(("peer_violates", kind) for kind in sorted(set(FRAMES) - {"too_big"})),
)
"""How the peer may end it."""

THEN = st.sampled_from(("idle", "idle", "idle", "one", "two", "nothing"))
"""What follows on an act: everything that can, one or two iterations of the loop, or the next act at once."""

CONNECTS: dict[str, st.SearchStrategy[Any]] = {
    "tape": st.binary(max_size=48),
    "room": st.sampled_from((65536, 150, 1)),
    "high": st.sampled_from((None, 0, 150)),
    "followed": st.integers(0, 2),
    "begins": st.sampled_from(("open", "open", "open", "connected", "called", "new")),
    "lasts": st.integers(0, 12),
}
"""What `connects` is given."""


def connecting(**own: st.SearchStrategy[Any]) -> Callable[[F], F]:
    """Marks the `connects` of a `Fuzz`, which is given what is in `CONNECTS`, and something of its own."""
    mark: Any = initialize  # no type checker knows that none of it is a target
    return cast(Callable[[F], F], mark(**CONNECTS | own))


def _serves(machine: Fuzz) -> bool:
    return machine.x.serves


def _waits(machine: Fuzz) -> bool:
    return bool(machine.x.calls)


def _writes(machine: Fuzz) -> bool:
    return not machine.x.far.ended


def _ends(machine: Fuzz) -> bool:
    """Whether the connection may come to an end by now."""
    return machine.steps >= machine.lasts


class Fuzz(RuleBasedStateMachine):
    """One connection in each example. A subclass has `make`, and may have another `witness` or other rules.

    `level`: what may be ordered otherwise than the stock loop does it. `messages`: what its app may send, by the event
    that it is, and `malformed` what it may not; for a server that does not check shapes, nothing.
    """

    level: ClassVar[Level] = Level.LANES
    messages: ClassVar[Mapping[str, Mapping[str, Any]]] = MESSAGES
    malformed: ClassVar[tuple[Any, ...]] = MALFORMED
    known: ClassVar[frozenset[str]] = frozenset()
    """Names of findings that do not count."""

    x: Exchange
    lasts: int
    sound = False
    """The last act came to its end: nothing was found in it, and nobody has interrupted it."""
    steps = 0

    def make(self, app: App) -> Any:
        """The protocol under test, for one connection: an `asyncio.Protocol` that serves this ASGI app."""
        raise NotImplementedError

    def witness(self, followed: int) -> Witness:
        """Who judges."""
        return Witness(followed=followed, known=self.known)

    # ---------------------------------------------------------------------------------------- the rules

    @connecting()
    def connects(self, tape: bytes, room: int, high: int | None, followed: int, begins: str, lasts: int) -> None:
        """A peer connects; the app may have come some way already, and no side ends it for so many steps."""
        self.lasts = lasts
        loop = ScheduledLoop(Tape(tape), self.level)
        self.x = Exchange(loop, self.make, self.witness(followed), room=room, high=high)
        self._go(self.x.idle if begins != "new" else lambda: self.x.run(1))
        if begins in ("connected", "open") and self.x.serves:
            self._go(self.x.ask)
            self._go(self.x.idle)
        if begins == "open" and self.x.serves:
            self._go(lambda: self.x.send({"type": "websocket.accept"}))
            self._go(self.x.idle)
            self._go(self.x.peer_reads)

    @precondition(_serves)
    @rule(then=THEN)
    def app_asks(self, then: str) -> None:
        """The app calls receive()."""
        self._do(self.x.ask, then)

    @precondition(_serves)
    @rule(then=THEN)
    def app_accepts(self, then: str) -> None:
        """The app accepts."""
        self._do(lambda: self.x.send(dict(self.messages["app_accept"])), then)

    @precondition(_serves)
    @rule(data=st.sampled_from(DATA), then=THEN)
    def app_sends_data(self, data: str | bytes, then: str) -> None:
        """The app sends data."""
        kind = "text" if isinstance(data, str) else "bytes"
        self._do(lambda: self.x.send({"type": "websocket.send", kind: data}), then)

    @precondition(_serves)
    @rule(count=st.integers(1, 2), then=THEN)
    def app_answers(self, count: int, then: str) -> None:
        """The app asks and sends so many times, and nothing happens in between."""
        for number in range(count):
            self._do(self.x.ask, "nothing")
            self._do(partial(self.x.send, {"type": "websocket.send", "text": f"{number}"}), "nothing")
        self._do(lambda: None, then)

    @precondition(lambda self: self.x.serves and self.malformed)
    @rule(number=st.integers(0, len(MALFORMED) - 1), then=THEN)
    def app_sends_malformed(self, number: int, then: str) -> None:
        """The app sends what is right in no state."""
        self._do(lambda: self.x.send(dict(self.malformed[number % len(self.malformed)])), then)

    @precondition(_waits)
    @rule(number=st.integers(0, 3), then=THEN)
    def app_cancels(self, number: int, then: str) -> None:
        """The app cancels a call that waits."""
        self._do(lambda: self.x.cancel(number % len(self.x.calls)), then)

    @precondition(lambda self: _serves(self) and _ends(self))
    @rule(how=st.sampled_from(APP_ENDS), then=THEN)
    def app_makes_an_end(self, how: str, then: str) -> None:
        """The app closes or denies, returns, raises, or cancels itself."""
        if how in self.messages:
            self._do(lambda: self.x.send(dict(self.messages[how])), then)
        elif self.x.called:
            act = {"app_return": self.x.end, "app_cancel": self.x.cancel_app}
            self._do(act.get(how, lambda: self.x.end(AppError("the app"))), then)

    @precondition(_writes)
    @rule(data=st.sampled_from(DATA), cut=st.sampled_from((None, None, 0, 1, 5)), pieces=st.integers(1, 3), then=THEN)
    def peer_sends(self, data: str | bytes, cut: int | None, pieces: int, then: str) -> None:
        """The peer sends data, in fragments or not, all of it or the first bytes."""
        self._do(lambda: self.x.peer_sends(data, cut=cut, pieces=pieces), then)

    @precondition(_writes)
    @rule(ping=st.booleans(), then=THEN)
    def peer_pings(self, ping: bool, then: str) -> None:
        """The peer sends a Ping, or a Pong to the last Ping that it has read."""
        self._do(self.x.peer_pings if ping else self.x.peer_pongs, then)

    @precondition(lambda self: self.x.has_more and _writes(self))
    @rule(then=THEN)
    def peer_goes_on(self, then: str) -> None:
        """The peer sends the rest of a frame."""
        self._do(self.x.peer_goes_on, then)

    @precondition(lambda self: self.x.far.unread)
    @rule(size=st.sampled_from((-1, -1, 1, 60)), then=THEN)
    def peer_reads(self, size: int, then: str) -> None:
        """The peer reads."""
        self._do(lambda: self.x.peer_reads(size), then)

    @precondition(lambda self: self.x.far.unread)
    @rule()
    def peer_drains(self) -> None:
        """The peer reads until nothing more comes."""
        self._go(self.x.peer_drains)

    @precondition(lambda self: _writes(self) and _ends(self))
    @rule(how=st.sampled_from(PEER_ENDS), then=THEN)
    def peer_makes_an_end(self, how: tuple[Any, ...], then: str) -> None:
        """The peer sends a Close or breaks RFC 6455, ends its side, closes its socket, or resets the connection."""
        act, *given = how
        self._do(lambda: getattr(self.x, act)(*given), then)

    @rule(seconds=st.sampled_from((0.01, 0.06, 1.0, 6.0)))
    def time_passes(self, seconds: float) -> None:
        """Time passes."""
        self._go(lambda: self.x.time(seconds))

    @precondition(_ends)
    @rule(seconds=st.sampled_from((10.0, 20.0, 45.0)))
    def long_time_passes(self, seconds: float) -> None:
        """So much time passes that patience ends."""
        self._go(lambda: self.x.time(seconds))

    @precondition(lambda self: hasattr(self.x.protocol, "shutdown") and _ends(self))
    @rule(then=THEN)
    def server_shuts_down(self, then: str) -> None:
        """The server shuts down."""
        self._do(self.x.shut_down, then)

    @rule()
    def all_happens(self) -> None:
        """Everything happens that can."""
        self._go(self.x.idle)

    # ---------------------------------------------------------------------------------------- the steps

    def _do(self, act: Callable[[], object], then: str) -> None:
        """An act, and what follows on it."""
        self.steps += 1
        self._go(act)
        match then:
            case "idle":
                self._go(self.x.idle)
            case "one":
                self._go(lambda: self.x.run(1))
            case "two":
                self._go(lambda: self.x.run(2))

    def _go(self, act: Callable[[], object]) -> None:
        self.sound = False
        try:
            act()
        except Broken as broken:
            broken.add_note(self.told())
            raise
        self.sound = True

    def told(self) -> str:
        """The whole exchange, as a program and a story."""
        return self.x.told()

    def teardown(self) -> None:
        """The connection comes to its end."""
        if not hasattr(self, "x"):
            return
        try:
            if self.sound:
                self._go(self.x.settle)
        finally:
            self.x.loop.dispose()
