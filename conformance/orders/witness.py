"""Watches one connection from outside, and holds what both sides see against the properties of the spec.

A `Witness` is told what an app calls and what comes of it, what reaches the server, what its protocol has the transport
do, and what the peer reads. It makes steps of that, in the words of the spec, and each property whose words can be seen
from outside is a monitor on them. It knows nothing of how a server works, and asks no machine. What it keeps are
observations: that a Close was written, and not whether one was due.

`leads to` is judged where nothing more can happen: `idle` judges what a server owes without the help of anybody,
`ended` everything. What the peer reads is judged by the `websockets` library, as a `Judge` uses it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from wslifecycle.conformance.judge import Judge, Seen
from wslifecycle.conformance.orders.kernel import Transport
from wslifecycle.conformance.orders.watched import (
    EVENTS,
    SEEN_EFFECTS,
    Finding,
    Watched,
    event_of,
    kind_of,
    level_of,
    properties_of,
    told,
)
from wslifecycle.conformance.scenarios import short
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.properties import Form, Kind, Parsed, Step, terms_of
from wslifecycle.statemachine.system import CONDITIONS, MARKS, TRANSPORT

BY_ITSELF = frozenset({"gives", "app_waited"})
"""Actions of the server: they have had their chance when nothing more can happen."""

NO_RULE = frozenset({"silent_after_the_end"})
"""Properties that no rule asks of others: what is written behind a `close()` of the transport comes before its end."""

MAY = {
    "": ("app_accept", "app_close", "app_response_start"),
    "app_accept": ("app_send", "app_close"),
    "app_response_start": ("app_response_body", "app_response_end"),
}
"""What an app may send after what it has sent before, as far as it can know; "" is the beginning."""


@dataclass(slots=True)
class _Open:
    """A step that goes on."""

    event: str
    action: str
    before: frozenset[str]
    marks: set[str] = field(default_factory=set)
    effects: list[str] = field(default_factory=list)
    refused: str = ""
    moved: bool = False


class Witness:
    """One connection. `followed`: which message of the app, and which of the peer, the properties follow.

    `machine`: whose spec says what is right. `finding` has what was found, and nothing is looked for behind the first
    finding, unless its name or its key is in `known`: such a one is kept in `others`.
    """

    free: ClassVar[frozenset[str]] = NO_RULE

    def __init__(
        self,
        machine: Lifecycle | None = None,
        *,
        spec_version: str = "2.5",
        extensions: Collection[str] = ("websocket.http.response",),
        followed: int = 0,
        known: Collection[str] = (),
    ) -> None:
        machine = machine or lifecycle()
        self.flat: Flat = machine.flat
        self.judge = Judge()
        self.finding: Finding | None = None
        self.others: list[Finding] = []
        self._known = frozenset(known)
        self.followed = followed
        facts = machine.dialect(spec_version).facts
        facts |= sum(self.flat.bits[fact.name] for fact in self.flat.facts if fact.extension in extensions)
        self._fixed = {name for name, bit in self.flat.bits.items() if facts & bit and self.flat.spec.facts[name].fixed}
        self.steps: list[Step] = []
        """What was seen."""
        # observations
        self.called = False
        self.sending = 0
        self.told: dict[str, Any] | None = None
        self.transport = "up"
        self.upgraded = self.responded = self.close_sent = False
        self.port: Transport | None = None
        self.started: list[str | bytes] = []
        """The data of every send() that was not refused, in the order of the calls."""
        self.written: list[str | bytes] = []
        """The data of every frame that was written."""
        self.arrived: list[tuple[str | bytes, bool]] = []
        """The data of every message of the peer that has reached the server, and whether the app is owed it."""
        self.passed = 0
        """So many of these were given to the app, or passed over in favour of a later one."""
        self._out: deque[tuple[int, Seen]] = deque()
        self._out_size = self._read_size = self._read_messages = 0
        self._open: _Open | None = None
        self._resumed = ""
        self._told_to_end = False
        self._calls = 0
        self._owing: set[int] = set()
        self._waiting: list[int] = []
        self._taken: set[int] = set()  # the places in `started` of what an open connection has taken at once
        self._sent = self._came = ""  # the message of the app that is judged, and how far the app has come by its own
        self._deaf = self._early = False
        self.pending = 0
        """How many calls of receive() the app has begun and not got an answer to, be it in a task that has not run."""
        self.clock: Callable[[], float] = lambda: 0.0
        self.last_ping = b""
        """The payload of the last Ping that the peer has read."""
        self.watched = [
            Watched(declared, parsed)
            for declared, parsed in properties_of(machine)
            if self.sees(parsed) and declared.name not in self.free
        ]

    # ---------------------------------------------------------------------------------------- what can be seen

    def sees(self, parsed: Parsed) -> bool:
        """Whether every word of a property can be seen from outside."""
        if parsed.form is Form.SOMETIMES:
            return False
        parts = (parsed.first,) if parsed.second is None else (parsed.first, parsed.second)
        terms = [term for part in parts for term in terms_of(part)]
        by_peer = any(term.name.startswith("peer_") and term.kind is Kind.EVENT for term in terms)
        return all(self._sees(term.kind, term.name) for term in terms) and not (
            # a server need not decode at once what has reached it, nor together with it carry out what follows
            parsed.form is Form.ALWAYS and by_peer and any(term.kind is Kind.EFFECT for term in terms)
        )

    def _sees(self, kind: Kind, name: str) -> bool:
        match kind:
            case Kind.STATE:
                return name in CONDITIONS or name in self.flat.spec.facts or name.startswith("transport=")
            case Kind.EVENT:
                timers = {timer.event for timer in self.flat.spec.timers.values()}
                return name not in timers | {"late", "deadline", "decodes", "app_waited"}
            case Kind.EFFECT:
                return name in SEEN_EFFECTS
            case Kind.MARK:
                return name in MARKS
        return name != "moved"

    def now(self) -> frozenset[str]:
        """What holds now, in the words of the spec."""
        so = {name for name in CONDITIONS if getattr(self, name, None)}
        if self.unread:
            so.add("unread")
        return frozenset(so | self._fixed | {f"transport={self.transport}"})

    @property
    def unread(self) -> int:
        """How many messages the app is owed."""
        return sum(owed for _, owed in self.arrived[self.passed :])

    @property
    def paused(self) -> bool:
        """Whether reading is paused."""
        return self.port is not None and not (self.port.is_reading() or self.port.is_closing())

    @property
    def blocked(self) -> bool:
        """Whether writing is paused."""
        return self.port is not None and self.port.is_blocked()

    @property
    def failed(self) -> bool:
        """Whether the transport ends because reading or writing has failed, and has not told of it yet."""
        return self.port is not None and self.port.is_closing() and not self._told_to_end

    # ---------------------------------------------------------------------------------------- steps

    def begin(self, event: str, action: str = "", *marks: str) -> None:
        """Something happens; what it brings about is told by `effect` until the next thing happens."""
        self.flush()
        self._open = _Open(event, action, self.now(), set(marks))

    def effect(self, name: str) -> None:
        """An effect was seen."""
        if self._open is None:
            self.begin(self._resumed)
        elif self._open.effects:  # one after the other, since order matters
            self.begin("")
        assert self._open is not None
        self._open.effects.append(name)

    def flush(self) -> None:
        """What happened is over, and is judged."""
        going = self._open
        if going is None:
            return
        self._open = None
        if not going.event and not going.effects:
            return
        self._judge(going)
        effects, marks = frozenset(going.effects), frozenset(going.marks)
        now = self.now()
        self._take(Step(going.event, going.before, now, effects, going.refused, marks, going.action, going.moved))

    def resumes(self, event: str = "") -> None:
        """A call goes on that was begun before: what is seen from now on comes of it, if anything is."""
        self.flush()
        self._resumed = event

    def _judge(self, going: _Open) -> None:
        """More about a step than properties say."""

    def _take(self, step: Step) -> None:
        self.steps.append(step)
        for watched in self.watched:
            if not watched.observe(step):
                self._property(watched, f"it is broken by {told(step)}", step.event)

    def _property(self, watched: Watched, text: str, event: str) -> None:
        declared, rule = watched.declared, watched.declared.rule
        if declared.name == "late_is_no_violation":
            if self._came in ("app_close", "app_response_end"):
                event = "after its own end"
            elif self._sent in MAY.get(self._came, ()):
                rule = "R32" if "raising" in self._fixed else "R47"
            else:
                return  # it may be refused in any case (C41)
        self.found(declared.name, rule, f"`{declared.holds}` does not hold: {text}", event)

    def found(self, name: str, rule: str, text: str, cause: str = "") -> None:
        """Something that should not be: kept, if it is the first that is not known."""
        finding = Finding(name, rule, level_of(self.flat, rule), text, cause)
        if not self._known.isdisjoint((name, finding.key)):
            if finding.key not in {other.key for other in self.others}:
                self.others.append(finding)
        elif self.finding is None:
            self.finding = finding

    # ---------------------------------------------------------------------------------------- the app

    def calls(self) -> None:
        """The app's callable is called."""
        self.called = True

    def returns(self, error: BaseException | None) -> None:
        """The app's callable ends."""
        self.begin("app_return" if error is None else "app_raise")
        self.called = False

    @property
    def receiving(self) -> int:
        """How many calls of receive() wait that are owed an answer."""
        return len(self._owing)

    def asks(self) -> int:
        """The app calls receive(). Returns the number of the call.

        What a call waits for that begins behind the disconnect is a choice of the server (C6): it is owed nothing.
        """
        self.begin("app_asks")
        self._calls += 1
        self._waiting.append(self._calls)
        if self.told is None:
            self._owing.add(self._calls)
        return self._calls

    def _answered(self, call: int) -> None:
        self._waiting.remove(call)
        self._owing.discard(call)

    def gives(self, message: Mapping[str, Any], call: int) -> None:
        """A call of receive() is answered."""
        if call != self._waiting[0]:
            self.found("in_call_order", "C16", "a receive() was answered before one that had been called earlier")
        kind, marks = str(message.get("type")), set()
        event = EVENTS.get(kind, "")
        if not event.startswith("give_"):
            self.found("given", "R20", f"receive() gave {short(message)}, which is no message of a server")
        if event == "give_message":
            data = message["text"] if message.get("text") is not None else message.get("bytes")
            place = next((n for n, sent in enumerate(self.arrived[self.passed :]) if sent[1] or sent[0] == data), 0)
            due = self.arrived[self.passed + place][0] if self.passed < len(self.arrived) else None
            if due != data and not self._early:
                self.found("as_sent", "R26", f"receive() gave {short(data)}, and what the peer sent is {short(due)}")
            marks |= self._marks(self.passed + place)
            if "later" in marks and not self.arrived[self.followed][1]:
                marks.clear()  # the one that is followed is owed to nobody, so that none is later
            passed = self.passed + place + 1
        if event == "give_disconnect" and self.told is not None and dict(message) != self.told:
            marks |= set() if message.get("code") == 1006 else {"differs"}  # which a repeated one may have (C7)
        self.begin(event, "gives", *marks)
        self._answered(call)
        if event == "give_message":
            self.passed = passed
        if event == "give_disconnect" and self.told is None:
            self.told = dict(message)
            self._owes_no_more()

    def _owes_no_more(self) -> None:
        """Whether other calls of receive() are answered when one was told of the end is a choice (C6, C16)."""
        self._owing.clear()

    def receive_raises(self, error: BaseException, call: int) -> None:
        """A receive() raises."""
        self._answered(call)
        rule = "R28" if self.told is None else "C6"
        self.found("receive_raises", rule, f"receive() raised {error!r}")

    def cancels(self, call: int) -> None:
        """A receive() is cancelled."""
        self.begin("app_cancels")
        self._answered(call)

    def sends(self, message: object) -> None:
        """The app calls send()."""
        event = event_of(message)
        marks = self._marks(len(self.started)) if event == "app_send" else set[str]()
        self.begin(event, "", *marks)

    def sent(
        self, message: object, error: BaseException | None = None, *, first: bool = True, blocked: bool = False
    ) -> None:
        """A send() returns or raises; `first`: it has not waited before; `blocked`: writing was paused when it did."""
        self._sent = event_of(message)
        if error is not None and not first:
            self.begin("app_waited")
        if error is not None:
            assert self._open is not None
            self._open.refused = kind_of(error)
        elif first:
            self.accepted(message)
            is_open = self.upgraded and self.transport == "up" and not (self.close_sent or self.failed)
            if is_open and self._sent == "app_send":
                self._taken.add(len(self.started) - 1)

    def accepted(self, message: object) -> None:
        """A send() was not refused: it returned at once, or began to wait."""
        event = event_of(message)
        if event in MAY.get(self._came, ()) and event not in ("app_send", "app_response_body"):
            self._came = event
        if event == "app_send" and isinstance(message, Mapping):
            data = message["text"] if message.get("text") is not None else message["bytes"]
            self.started.append(data if isinstance(data, str) else bytes(data))

    def _marks(self, number: int) -> set[str]:
        return {"followed"} if number == self.followed else {"later"} if number > self.followed else set()

    # ---------------------------------------------------------------------------------------- the peer

    def arrives(self, event: str, data: str | bytes | None = None) -> None:
        """Something of the peer has reached the server: a whole frame, or its end."""
        owed = self.upgraded and self.transport == "up" and not (self.close_sent or self._deaf or self._early)
        self._deaf |= event == "peer_close"
        if event == "peer_message":
            assert data is not None
            marks = self._marks(len(self.arrived)) if owed else set[str]()
            self.begin(event if owed else "peer_writes", "", *marks)  # when the others are decoded cannot be seen
            self.arrived.append((data, owed))
        elif event in ("peer_lost", "peer_eof") or self.upgraded:
            self.begin("peer_writes" if self._early and event not in ("peer_lost", "peer_eof") else event)

    def comes(self, *, faulty: bool) -> None:
        """Frames of the peer, or parts of them, have come in one piece, before it is told what in it is whole.

        `faulty`: one of them breaks RFC 6455, and a server need not process what came with it (W9). It may drop what
        comes before the accept (C14), and then nobody knows where the next frame begins.
        """
        self._deaf |= faulty
        self._early |= not self.upgraded

    def reads(self, size: int) -> None:
        """The peer has read so many bytes."""
        self._read_size += size
        while self._out and self._out[0][0] <= self._read_size:
            _, entry = self._out.popleft()
            marks = set()
            self.last_ping = entry.get("ping", self.last_ping)
            if "text" in entry or "bytes" in entry:
                marks = self._marks(self._read_messages)
                self._read_messages += 1
            self.begin("peer_reads", "", *marks)

    def loses(self) -> None:
        """The peer resets the connection; what it has not read is lost."""
        self._out.clear()

    def shuts_down(self) -> None:
        """The server shuts down."""
        self.begin("server_shutdown")

    # ---------------------------------------------------------------------------------------- the transport

    def transported(self, what: str, data: bytes) -> None:
        """What a `Transport` tells."""
        match what:
            case "write":
                self._out_size += len(data)
                self._wrote(self.judge.feed(data))
            case "write_eof":
                self._ends("half", "end_sending")
            case "close":
                self._ends("ending", "end_transport")
            case "abort":
                if self._open is None and self.transport == "ending":
                    self.begin("deadline")
                    self.transport = "cut"
                else:
                    self._ends("cut", "abort_transport")
                if data and self._open is not None:
                    self._open.marks |= {"dropped"} | ({"followed"} if self._still_out(len(data)) else set())
            case "lost":
                self.begin("peer_lost", "transport_tells" if self.transport in ("ending", "cut") else "")
                self.transport = "gone"

    def _ends(self, state: str, effect: str) -> None:
        self._told_to_end |= state != "half"
        self.effect(effect)
        self.transport = max(self.transport, state, key=TRANSPORT.index)

    def _still_out(self, unsent: int) -> bool:
        """Whether the message that is followed is in the last so many bytes that were written."""
        place = self._read_messages
        for end, entry in self._out:
            if "text" in entry or "bytes" in entry:
                if place == self.followed:
                    return end > self._out_size - unsent
                place += 1
        return False

    def _wrote(self, seen: Sequence[Seen]) -> None:
        kinds = [next(iter(entry)) for entry in seen]
        self._out += ((self._out_size, entry) for entry in seen)
        if kinds[:1] == ["head"] and kinds[-1] == "response_end":
            self.responded = True
            self.effect("send_response")
            return
        for kind, entry in zip(kinds, seen, strict=True):
            match kind:
                case "invalid":
                    self.found("can_be_read", "W13", f"what was written cannot be read: {entry['invalid']}")
                case "handshake":
                    self.effect("complete_handshake")
                    self.upgraded = True
                case "head":
                    self.effect("send_head")
                    self.responded = True
                case "chunk":
                    self.effect("send_body")
                case "response_end":
                    self.effect("end_response")
                case "text" | "bytes":
                    self.effect("send_message")
                    self.written.append(entry[kind])
                case "close":
                    self.effect("send_close")
                    self.close_sent = True
                case "ping" | "pong":
                    self.control(kind, entry[kind])

    def control(self, kind: str, payload: bytes) -> None:
        """A Ping or a Pong was written."""
        if kind == "pong":
            self.effect("send_pong")
        elif self.close_sent:
            self.found("no_ping_after_close", "C33", "a Ping was written behind the Close")

    # ---------------------------------------------------------------------------------------- judgements

    def idle(self) -> None:
        """Nothing more can happen by itself now: what a server owes by itself is due."""
        self._rest()
        if self.sending and self.transport == "up" and self.port is not None and not self.port.get_write_buffer_size():
            self.found("send_returns", "R41", "a send() waits, and everything was written")
        able = self._able()
        for watched in self.watched:
            fair = set(watched.declared.fair)
            if watched.owed and fair and fair <= able:
                text = f"nothing happens any more, and it is owed since {watched.owed}"
                self._property(watched, text, watched.event)

    def look(self) -> None:
        """Between two iterations of the loop."""
        self.flush()

    def time(self) -> float:
        """The time, in seconds."""
        return self.clock()

    def is_cancelled(self) -> None:
        """The app is cancelled, and not by itself."""
        self.found("app_is_not_cancelled", "C18", "the app's task was cancelled")

    def _able(self) -> frozenset[str]:
        """The actions that have had their chance when nothing more can happen by itself.

        A server may tell of an end only when the transport has ended: until then it owes nothing of it.
        """
        if self.transport != "gone" and (self.close_sent or self.transport != "up"):
            return frozenset()
        return BY_ITSELF | ({"app_asks"} if self.receiving else set())

    def ended(self) -> None:
        """The connection and the app have ended, and everything that they owe is due."""
        self._rest()
        for watched in self.watched:
            if watched.owed:
                self._property(watched, f"all has ended, and it is owed since {watched.owed}", watched.event)
        if not self._written_as_sent():
            text = f"the app sent {short(self.started)}, and what was written is {short(self.written)}"
            self.found("as_sent_by_app", "W13", text)

    def _written_as_sent(self) -> bool:
        """Whether what was written is what the app has sent, in its order, and nothing that had to be written is left
        out before another one that was. What was sent last may be lost with the connection.
        """
        places = {0}
        for data in self.written:
            places = {
                at + 1
                for place in places
                for at in range(place, len(self.started))
                if self.started[at] == data and self._taken.isdisjoint(range(place, at))
            }
        return bool(places)

    def _rest(self) -> None:
        self.flush()
        self._take(Step("", self.now(), self.now()))
