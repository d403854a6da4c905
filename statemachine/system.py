"""What is checked: the machine among an app, a peer, a transport, timers and bounded queues that may do anything.

The machine alone proves little, since it never waits and nothing is ever in flight. Here it is composed with
- an app that sends any message at any time, calls receive() several times at once, cancels, returns and raises;
- a peer that sends messages, Closes and faults, ends or loses the connection, reads or does not, or keeps silent;
- a transport that writes in order, tells of its own end, and is aborted at a deadline;
- a server that shuts down, and a clock that lets any running timer run out;
- the messages that were decoded and not given (`unread`), the bytes that cannot be decoded yet (`held`), and what was
  written and the peer has not read (`written`), each bounded.

None of it knows the lifecycle: what an event does is asked of the compiled machine, and what an effect does to a queue
or to the transport is the same in every state. A state of the system is three small values: `Control`, `Inbound` and
`Outbound`. `System.moves` lists everything that may happen under a control, each with the flags that the queues must
show for it and with what it does to them, so that a search need not work it out again for every state.

Messages are told apart by one mark: at any time one data message, of the peer or of the app, may be chosen to be
*followed*. Those before it are `a`, itself is `f`, those after it are `b`. What is in a message decides nothing, so
that what holds of every message that could be followed holds of every message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from wslifecycle.statemachine.flatten import Answer, Flat, name_of
from wslifecycle.statemachine.model import Actor, Fact, Fields, Region
from wslifecycle.statemachine.model import Kind as Refusal
from wslifecycle.statemachine.properties import Kind, terms
from wslifecycle.statemachine.queues import (
    FOLLOWED,
    FULL,
    HELD,
    HELD_FIRST,
    HELD_FULL,
    LOW,
    PAUSED,
    SENDING,
    UNREAD,
    UNREAD_FIRST,
    WRITTEN,
    WRITTEN_FIRST,
    Op,
    Queues,
)

ACTIONS = (
    "app_asks",
    "app_cancels",
    "gives",
    "peer_writes",
    "decodes",
    "peer_reads",
    "transport_ends",
    "transport_tells",
    "deadline",
    "late",
)
"""What may happen beside the machine's events; `gives`, `decodes` and `transport_tells` are ways of some events."""

CONDITIONS = ("receiving", "sending", "unread", "paused", "upgraded", "responded", "close_sent", "told", "called")
"""What may be so; the first of them that are not in `Control` are told by the flags of the queues."""

MARKS = ("followed", "later", "dropped", "differs", "twice")
"""What may be special about a step."""

FLAGS = {"unread": UNREAD, "paused": PAUSED, "sending": SENDING}
"""The conditions that the flags of the queues tell."""

VOCABULARY = {"actions": ACTIONS, "conditions": CONDITIONS, "marks": MARKS}
"""What a spec has to declare of the system, lest its properties speak of what nobody explains."""

TRANSPORT = ("up", "half", "ending", "cut", "gone")
"""How far the transport is: our side ended (`half`), ending once all was read, ended and not yet told of, gone."""

DEADLINE = "deadline"
_FRAMES = {"a": "peer_message", "f": "peer_message", "b": "peer_message", "C": "peer_close", "N": "peer_close"}
_FRAMES |= {"V": "peer_violation", "E": "peer_eof"}
"""What the letters in `held` are decoded as: messages, a Close with and without a code, a violation, the end."""


def vocabulary(
    regions: Mapping[str, Region],
    facts: Mapping[str, Fact],
    timers: Iterable[str],
    events: Iterable[str],
    effects: Iterable[str],
) -> dict[Kind, set[str]]:
    """Everything that the properties of a spec may speak of, by kind."""
    states = {f"{name}={state}" for name, region in regions.items() for state in region.states}
    states |= {f"transport={state}" for state in TRANSPORT} | {f"timer={timer}" for timer in (*timers, DEADLINE)}
    states |= {name for name, fact in facts.items() if fact.fixed}
    return {
        Kind.STATE: states | set(CONDITIONS),
        Kind.EVENT: {*events, *ACTIONS},
        Kind.EFFECT: set(effects),
        Kind.MARK: set(MARKS),
    }


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be in flight: connections, messages in each queue, receive() calls at a time.

    `facts`: only connections that have just these; None: one kind of them for each set of facts.
    """

    connections: int = 1
    queue: int = 1
    receivers: int = 2
    facts: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.connections < 1 or self.queue < 0 or self.receivers < 1:
            raise ValueError("There is at least one connection and one receive(), and no queue is shorter than 0.")


class Control(NamedTuple):
    """A state of the system but for the queues."""

    state: str
    """The machine's."""
    facts: int
    """The bits of the facts that never change."""
    called: bool
    """The app's callable runs."""
    receiving: int
    """So many receive() calls wait."""
    upgraded: bool
    """The 101 was written: from here on the peer's bytes are frames."""
    responded: bool
    """An HTTP response was written or begun."""
    close_sent: bool
    transport: str
    timers: frozenset[str]
    told: Fields | None
    """The values of the last websocket.disconnect that was given, as they stand in the spec."""
    follows: str
    """Whose message is followed: `app`, `peer`, or nobody's yet."""

    @property
    def over(self) -> bool:
        """Whether no send() waits any more, since we sent a Close or the transport ends."""
        return self.close_sent or self.transport != "up"


class Move(NamedTuple):
    """Something that may happen under a control, where the flags of the queues, cut by `mask`, are `flags`."""

    action: str
    event: str
    answer: Answer | None
    control: Control
    mask: int
    flags: int
    inbound: tuple[Op, ...]
    outbound: tuple[Op, ...]
    marks: frozenset[str]
    says: str = ""
    """What more there is to know for who repeats it: `code`, or the letter of a message."""


class System:
    """One connection of a compiled profile and everything around it."""

    def __init__(self, flat: Flat, bounds: Bounds) -> None:
        self.flat = flat
        self.bounds = bounds
        self.queues = Queues(bounds.queue)
        spec = flat.spec
        self._gifts = [name for name, event in spec.events.items() if event.actor is Actor.GIVEN]
        self._sends = [event.name for event in spec.events.values() if event.actor is Actor.APP and event.message]
        self._timers = {timer.name: timer.event for timer in spec.timers.values()}
        self._reads_unread = {
            event for event in spec.events if any(bit == flat.waiting for _, bit in flat.facts_read(event))
        }
        self.unfair = {timer.event for timer in spec.timers.values() if flat.resolve(timer.seconds) is None}
        """Timers that the profile leaves off: a server may switch them on, so that they may run out, but need not."""
        self._terms: dict[tuple[object, ...], frozenset[str]] = {}
        self._has_deadline = flat.resolve(spec.timers["close_timeout"].seconds) is not None

    def starts(self) -> Iterator[Control]:
        """Where a connection begins: once for each set of facts that a server may advertise."""
        fixed = [name for name in self.flat.bits if self.flat.spec.facts[name].fixed]
        timers = frozenset(dict(call.fields)["timer"] for call in self.flat.opening)
        for size in range(len(fixed), -1, -1):
            for chosen in combinations(fixed, size):
                if self.bounds.facts in (None, frozenset(chosen)):
                    facts = sum(self.flat.bits[name] for name in chosen)
                    state = name_of(self.flat.states[0])
                    yield Control(state, facts, True, 0, False, False, False, "up", timers, None, "")

    def terms(self, c: Control) -> frozenset[str]:
        """What holds under a control, whatever the queues are."""
        found = self._terms.get(c[:-1])
        if found is None:
            so = {name for name in CONDITIONS if name not in FLAGS and getattr(c, name) not in (None, 0, False)}
            so |= {f"transport={c.transport}", *(f"timer={timer}" for timer in c.timers)}
            so |= {name for name, bit in self.flat.bits.items() if c.facts & bit}
            found = terms(self.flat, c.state) | so
            self._terms[c[:-1]] = found
        return found

    # ---------------------------------------------------------------------------------------- moves

    def moves(self, c: Control) -> Iterator[Move]:
        """Everything that may happen under a control."""
        yield from self._app(c)
        yield from self._receive(c)
        yield from self._peer(c)
        yield from self._transport(c)
        yield from self._step(c, "server_shutdown")
        for timer, event in self._timers.items():
            if timer in c.timers:
                yield from self._step(c._replace(timers=c.timers - {timer}), event)
            else:  # it was cancelled in the moment in which it ran out
                yield from self._step(c, event, "late")

    def _app(self, c: Control) -> Iterator[Move]:
        for event in self._sends:
            for letter, follows in self._letters(c, "app") if event == "app_send" else (("a", c.follows),):
                says = letter if event == "app_send" else ""
                yield from self._step(c, event, letter=letter, follows=follows, waits=True, says=says)
        for event in ("app_return", "app_raise"):
            for move in self._step(c._replace(called=False), event):
                if c.called or _possible(move):  # twice, where the machine has an answer to that
                    yield move
        goes_on = SENDING if c.over else SENDING | LOW
        for move in self._step(c, "app_waited", mask=goes_on, flags=goes_on):
            waits_on = move.answer is not None and move.answer.refusal is Refusal.NOT_DUE
            yield move if waits_on else move._replace(outbound=(("go on", ""), *move.outbound))

    def _receive(self, c: Control) -> Iterator[Move]:
        if c.receiving < self.bounds.receivers:
            yield _around("app_asks", c._replace(receiving=c.receiving + 1))
        if not c.receiving:
            return
        answered = c._replace(receiving=c.receiving - 1)
        yield _around("app_cancels", answered)
        for flag in (0, UNREAD):
            answers = [self.flat.answers[e][c.facts | (self.flat.waiting if flag else 0)][c.state] for e in self._gifts]
            due = min(answers, key=lambda answer: (answer.refusal is not None, answer.refusal is Refusal.NOT_DUE))
            if due.refusal is Refusal.NOT_DUE:
                continue
            takes = any(call.effect == "take_message" for call in due.effects)
            for letter, bit in UNREAD_FIRST.items() if takes and flag else (("", 0),):
                marks, then = _marks(letter), answered
                if due.refusal is None and self.flat.spec.events[due.event].message == "websocket.disconnect":
                    marks |= {"differs"} if c.told not in (None, due.gives) else set()
                    then = answered._replace(told=due.gives)
                yield from self._moves(then, "gives", due, UNREAD | bit, flag | bit, marks=marks, says=letter)

    def _peer(self, c: Control) -> Iterator[Move]:
        if c.transport in ("cut", "gone"):
            return
        if not c.upgraded:  # its bytes are held, whatever they mean, and too many are a fault (C14)
            yield from self._step(c, "peer_violation")
            yield from self._step(c, "peer_eof")
            yield from self._too_early(c)
        else:
            clear = HELD | PAUSED
            for letter, follows in self._frames(c):
                yield from self._step(c, _FRAMES[letter], mask=clear, letter=letter, follows=follows, says=letter)
            yield from self._step(c, "peer_ping", mask=clear)
            for letter, bit in HELD_FIRST.items():
                for move in self._step(c, _FRAMES[letter], "decodes", PAUSED | bit, bit, letter=letter, says=letter):
                    yield move._replace(inbound=(("decode", ""), *move.inbound))
        if not c.responded:
            held = (
                ((HELD_FULL | PAUSED, PAUSED), (HELD_FULL | PAUSED | HELD, HELD)) if c.upgraded else ((HELD_FULL, 0),)
            )
            for letter, follows in self._frames(c):
                if letter in "VE" and not c.upgraded:
                    continue  # told at once
                for mask, flags in held:
                    then, marks = c._replace(follows=follows), _marks(letter)
                    yield _around("peer_writes", then, mask, flags, (("hold", letter),), marks=marks, says=letter)
        yield from self._step(c._replace(transport="gone", timers=frozenset()), "peer_lost", loses=True)

    def _too_early(self, c: Control) -> Iterator[Move]:
        """Frames before the handshake is accepted, where the machine has an answer to them."""
        if c.transport != "up":
            return
        for letter, follows in self._frames(c)[:-2]:
            yield from filter(_possible, self._step(c, _FRAMES[letter], letter=letter, follows=follows, says=letter))
        yield from filter(_possible, self._step(c, "peer_ping"))

    def _frames(self, c: Control) -> tuple[tuple[str, str], ...]:
        """What the peer may send: letters, each with who is followed from then on."""
        return (*self._letters(c, "peer"), *((letter, c.follows) for letter in "CNVE"))

    def _transport(self, c: Control) -> Iterator[Move]:
        gone = c._replace(transport="gone", timers=frozenset())
        if c.transport in ("up", "half", "ending"):
            for letter, bit in WRITTEN_FIRST.items():
                yield _around("peer_reads", c, bit, bit, (), (("read", ""),), _marks(letter))
        if c.transport == "ending":
            cut = c._replace(transport="cut", timers=c.timers - {DEADLINE})
            yield _around("transport_ends", cut, WRITTEN, 0, (("discard", ""),))
            if DEADLINE in c.timers:
                for mask, flags, marks in _LOSSES:
                    yield _around("deadline", cut, mask, flags, (("discard", ""),), (("drop", ""),), marks)
        if c.transport == "cut":
            yield from self._step(gone, "peer_lost", action="transport_tells")

    def _letters(self, c: Control, who: str) -> tuple[tuple[str, str], ...]:
        """The letters that the next message of an app or a peer may have, each with who is followed from then on."""
        if c.follows:
            return (("b" if c.follows == who else "a", c.follows),)
        return (("a", ""), ("f", who))

    def _step(
        self,
        c: Control,
        event: str,
        action: str = "",
        mask: int = 0,
        flags: int = 0,
        *,
        letter: str = "a",
        follows: str = "",
        waits: bool = False,
        loses: bool = False,
        says: str = "",
    ) -> Iterator[Move]:
        """An event of the machine, once for each answer that its guards allow."""
        reads = UNREAD if event in self._reads_unread else 0
        for unread in (0, UNREAD) if reads else (0,):
            answer = self.flat.answers[event][c.facts | (self.flat.waiting if unread else 0)][c.state]
            marks = _marks(letter) if says or waits else frozenset[str]()
            yield from self._moves(
                c, action or event, answer, mask | reads, flags | unread, letter, follows, waits, loses, marks, says
            )

    def _moves(
        self,
        c: Control,
        action: str,
        answer: Answer,
        mask: int,
        flags: int,
        letter: str = "a",
        follows: str = "",
        waits: bool = False,
        loses: bool = False,
        marks: frozenset[str] = frozenset(),
        says: str = "",
    ) -> Iterator[Move]:
        """What an answer does to the system. A refusal does nothing, but that a receive() or send() has its answer."""
        inbound: list[Op] = []
        outbound: list[Op] = []
        drops = loses
        if loses:
            inbound.append(("discard", ""))
            outbound.append(("drop", ""))
        if answer.refusal is None:
            effects = [call.effect for call in answer.effects if not call.effect.endswith("_timer")]
            marks |= {"twice"} if len(set(effects)) < len(effects) else frozenset()
            c = c._replace(state=answer.target, follows=follows or c.follows)
            for call in answer.effects:
                match call.effect:
                    case "complete_handshake":
                        c = c._replace(upgraded=True)
                        outbound.append(("write", "a"))
                    case "send_response" | "send_head":
                        c = c._replace(responded=True)
                        inbound.append(("discard", ""))
                        outbound.append(("write", "a"))
                    case "send_body" | "end_response":
                        outbound.append(("write", "a"))
                    case "send_message":
                        outbound.append(("write", letter))
                    case "send_close":
                        c = c._replace(close_sent=True)
                        outbound.append(("write", "a"))
                    case "end_sending":
                        c = c._replace(transport=max(c.transport, "half", key=TRANSPORT.index))
                    case "end_transport":
                        inbound.append(("resume", ""))
                        if c.transport in ("up", "half") and self._has_deadline:
                            c = c._replace(timers=c.timers | {DEADLINE})
                        c = c._replace(transport=max(c.transport, "ending", key=TRANSPORT.index))
                    case "abort_transport":
                        inbound += (("resume", ""), ("discard", ""))
                        outbound.append(("drop", ""))
                        drops = True
                        c = c._replace(
                            transport=max(c.transport, "cut", key=TRANSPORT.index), timers=c.timers - {DEADLINE}
                        )
                    case "resume_reading":
                        inbound.append(("resume", ""))
                    case "keep_message":
                        mask |= FULL  # the bound of this model, where the profile has none
                        inbound.append(("keep", letter))
                    case "take_message":
                        inbound.append(("take", ""))
                    case "start_timer":
                        c = c._replace(timers=c.timers | {dict(call.fields)["timer"]})
                    case "cancel_timer":
                        c = c._replace(timers=c.timers - {dict(call.fields)["timer"]})
            if waits and outbound and not c.over:
                outbound.append(("wait", ""))
        for more, has, lost in _LOSSES if drops else ((0, 0, frozenset[str]()),):
            yield Move(
                action,
                answer.event,
                answer,
                c,
                mask | more,
                flags | has,
                tuple(inbound),
                tuple(outbound),
                marks | lost,
                says,
            )


def _around(
    action: str,
    then: Control,
    mask: int = 0,
    flags: int = 0,
    inbound: tuple[Op, ...] = (),
    outbound: tuple[Op, ...] = (),
    marks: frozenset[str] = frozenset(),
    says: str = "",
) -> Move:
    """A move that is none of the machine."""
    return Move(action, action, None, then, mask, flags, inbound, outbound, marks, says)


def _possible(move: Move) -> bool:
    """Whether the machine does not call it impossible, which whoever drives a connection has to rule out."""
    return move.answer is not None and move.answer.refusal is not Refusal.IMPOSSIBLE


def _marks(letter: str) -> frozenset[str]:
    return frozenset({"f": {"followed"}, "b": {"later"}}.get(letter, ()))


_LOSSES = (
    (WRITTEN, 0, frozenset[str]()),
    (WRITTEN | FOLLOWED, WRITTEN, frozenset({"dropped"})),
    (WRITTEN | FOLLOWED, WRITTEN | FOLLOWED, frozenset({"dropped", "followed"})),
)
"""What is lost with the transport: nothing, what is not followed, what is followed."""
