"""A witness of our own runtime, which hears every answer of its machine as well.

Then each step is the machine's, with all its words, and a property may speak of anything. And what is seen from outside
has to be what the machine said: the effects that the transport shows, what `receive()` gives, how `send()` is refused.
It has to be seen in the same step, but for messages that are sent while more wait for the app: those may be written
together, before anything else is written and before nothing more happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from wslifecycle.conformance.orders.resources import Fault, Resources
from wslifecycle.conformance.orders.watched import EVENTS, SEEN_EFFECTS, event_of, kind_of
from wslifecycle.conformance.orders.witness import BY_ITSELF, Witness, _Open
from wslifecycle.conformance.wired import FRAMES
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Session
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.model import Actor
from wslifecycle.statemachine.model import Kind as Refusal
from wslifecycle.statemachine.properties import Form, Kind, Parsed, Step, terms, terms_of
from wslifecycle.statemachine.system import TRANSPORT

Situation = tuple[str, str, int]
"""A state of the machine, an event, and how many calls of receive() were pending when it took place."""

MOST = 2
"""More than so many waiting receive() calls make no other situation."""


class Place(NamedTuple):
    """Where a connection is. `deaf`: the peer has sent the last frame that means anything."""

    state: str
    receiving: int
    kept: bool
    sending: bool
    transport: str
    called: bool
    serves: bool
    deaf: bool


class Insider(Witness):
    """The runtime has to be made with its `options`, which are those that are given, with the witness in them. `spec`
    says what is right, if that is another machine. `situations` has every situation that there was.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        spec: Lifecycle | None = None,
        followed: int = 0,
    ) -> None:
        options = options or Options()
        flat = options.lifecycle.flat
        super().__init__(
            spec or options.lifecycle,
            spec_version=options.spec_version or flat.value("C35", "spec_version"),
            extensions=options.scope_extensions(),
            followed=followed,
        )
        self.machine = options.lifecycle
        self.options = replace(options, observe=self.observe, on_session=self.on_session)
        """What the runtime has to be made with."""
        self.resources = Resources(options, self.time)
        self.called = True  # from the first moment of its connection
        self.serves = False
        """Whether the request is complete: before that there is no lifecycle."""
        self._app_ended = self._shut_down = False
        self.forces = False
        """Timers are made to run out, as if they had."""
        self.session: Session | None = None
        self.situations: set[Situation] = set()
        self._answer: Answer | None = None
        self._asked: Answer | None = None  # the first answer since the last send() began
        self._latest: Answer | None = None
        self._gifts: deque[Answer] = deque()
        self._kept = self._given_messages = self._told_messages = 0
        self._late = 0  # how many messages are said to be sent and will be written together
        self._state = next(iter(self.machine.states))
        self._arrivals: list[tuple[str, str | bytes | None]] = []  # what of the peer has arrived
        self._heard = 0  # so much of that the machine was told
        self._queued: set[int] = set()  # calls of receive() that were not alone when they began
        self._timers: set[str] = {dict(call.fields)["timer"] for call in self.machine.flat.opening}

    free: ClassVar[frozenset[str]] = frozenset()

    def sees(self, parsed: Parsed) -> bool:
        """Everything but what only a model knows: what is cancelled in the moment in which it happens anyway."""
        parts = (parsed.first,) if parsed.second is None else (parsed.first, parsed.second)
        names = {term.name for part in parts for term in terms_of(part) if term.kind is Kind.EVENT}
        return parsed.form is not Form.SOMETIMES and not names & {"late", "decodes", "transport_ends"}

    def now(self) -> frozenset[str]:
        """What holds now, with the machine's state and the timers."""
        so = super().now() | terms(self.machine.flat, self._state) | {f"timer={timer}" for timer in self._timers}
        return so if self.receiving > len(self._gifts) else so - {"receiving"}

    @property
    def unread(self) -> int:
        """How many messages are kept."""
        return self._kept

    # ---------------------------------------------------------------------------------------- the machine

    def place(self) -> Place:
        """Where the connection is, as far as that decides what can be brought about next."""
        deaf = any(event in ("peer_close", "peer_violation") for event, _ in self._arrivals[: self._heard])
        return Place(
            self._state,
            min(self.receiving, MOST),
            self._kept > 0,
            self.sending > 0,
            self.transport,
            self.called,
            self.serves,
            deaf,
        )

    def on_session(self, session: Session) -> None:
        """A session begins."""
        self.flush()
        if self._shut_down:
            self.found("shutdown_ends_it", "C32", "a session began after the server had shut down")
        self.serves = True
        self.session = session
        for timer in self._timers:
            self.resources.start(timer)

    def observe(self, answer: Answer) -> None:
        """The machine has answered."""
        self.situations.add((answer.source, answer.event, min(self.pending, MOST)))
        self.flush()
        event = self.machine.spec.events[answer.event]
        action, marks = "", set[str]()
        before = self.now()
        if event.actor is Actor.GIVEN and answer.refusal is None:
            action = "gives"
            self._gifts.append(answer)
            if answer.event == "give_message":
                marks = self._marks(self._given_messages)
                self._given_messages += 1
        elif answer.event == "app_send":
            marks = self._marks(len(self.started))
        elif answer.event == "peer_message":
            marks = self._marks(self._told_messages)
            self._told_messages += 1
        elif answer.event == "peer_lost" and self.transport in ("ending", "cut"):
            action = "transport_tells"
        effects = [call.effect for call in answer.effects if not call.effect.endswith("_timer")]
        if answer.refusal is None and len(set(effects)) < len(effects):
            marks.add("twice")
        if answer.event in FRAMES:
            self._hear(answer)
        elif answer.event in ("peer_lost", "peer_eof"):
            self._all_heard(f"at {answer.event}")
        self._answer = self._latest = answer
        self._asked = self._asked or answer
        for timer in self.machine.spec.timers.values():
            if timer.event == answer.event:
                if timer.name == "keepalive" and answer.moves and not self.forces:
                    self._faults(self.resources.expires())
                self._timers.discard(timer.name)
                self.resources.stop(timer.name)
        if answer.event == "peer_lost":
            self.transport = "gone"
        if answer.event in ("app_return", "app_raise"):
            self.called = False
        refused = str(answer.refusal or "")
        self._open = _Open(answer.event, action, before, marks, refused=refused, moved=answer.moves)

    def _hear(self, answer: Answer) -> None:
        """The machine is told of what the peer has sent: in its order, and of nothing else."""
        wanted = self._arrivals[self._heard][0] if self._heard < len(self._arrivals) else "peer_violation"
        if wanted != answer.event:  # a fault may show in the first bytes of a frame
            self.found("hears", "W13", f"the machine was told of {answer.event}, and what came was {wanted}")
        payload = self._arrivals[self._heard][1] if self._heard < len(self._arrivals) else None
        self._heard += 1
        if answer.event == "peer_ping" and isinstance(payload, bytes):
            answered = any(call.effect == "send_pong" for call in answer.effects)
            self.resources.ping_is_told(payload, answered=answered)

    def _all_heard(self, when: str) -> None:
        """Whatever has arrived on an open connection has to be heard, if reading goes on or ends."""
        if self._state.startswith("open/") and (left := self._arrivals[self._heard :]):
            self.found("hears", "R26", f"{when} the machine was never told of {', '.join(event for event, _ in left)}")

    def arrives(self, event: str, data: str | bytes | None = None) -> None:
        """Something of the peer has reached the server."""
        super().arrives(event, data)
        if event == "peer_pong" and isinstance(data, bytes):
            self.resources.pong_arrives(data)
        if event in FRAMES and not (event == "peer_violation" and self._heard > len(self._arrivals)):
            self._arrivals.append((event, data))

    def control(self, kind: str, payload: bytes) -> None:
        """A Ping or a Pong was written."""
        super().control(kind, payload)
        if kind == "ping":
            self.resources.pinged(payload)
        else:
            self._faults(self.resources.ponged(payload))

    def look(self) -> None:
        """Between two iterations of the loop."""
        super().look()
        self.resources.look(paused=self.paused, blocked=self.blocked)

    def _faults(self, faults: Iterable[Fault]) -> None:
        for name, rule, text in faults:
            self.found(name, rule, text)

    def begin(self, event: str, action: str = "", *marks: str) -> None:
        """What the machine is not asked of is a step as it is seen; the rest the machine tells."""
        if event in ("", "app_asks", "app_cancels", "deadline", "peer_reads"):
            super().begin(event, action, *marks)
        else:
            self.flush()

    def effect(self, name: str) -> None:
        """An effect was seen."""
        if self._open is None:
            super().begin("")
        assert self._open is not None
        self._open.effects.append(name)

    def _take(self, step: Step) -> None:
        if self.serves:
            super()._take(step)

    def _judge(self, going: _Open) -> None:
        answer, self._answer = self._answer, None
        seen = self._but_late([effect for effect in going.effects if effect != "send_pong"])
        if answer is None:
            if self.failed:  # it has just failed in writing a message that was held, which is judged as failed, too
                seen = [effect for effect in seen if effect != "send_message"]
            if self.serves and seen and going.event != "deadline":
                self.found("obeys", "", f"{', '.join(sorted(set(seen)))} was seen, and the machine was not asked")
            going.effects = [*seen, *(effect for effect in going.effects if effect == "send_pong")]
            return
        said = [call.effect for call in answer.effects]
        wanted = [effect for effect in said if effect in SEEN_EFFECTS and effect != "send_pong"]
        going.effects = [*said, *seen]
        if wanted == ["send_message"] and not seen and (self._kept or self._late) and not self.failed:
            self._late += 1
        elif seen != wanted and not self._excused(seen, wanted):
            text = f"at {answer.event} the machine said {wanted or 'nothing'}, and {seen or 'nothing'} was seen"
            self.found("obeys", answer.rule, text)
        for effect in wanted if self.failed else ():
            self._as_said(effect)
        self.resources.carries_out(answer)
        if answer.event == "peer_lost":
            self.resources.lost()
        elif set(said) & {"end_sending", "end_transport", "abort_transport"}:
            self.resources.sends_no_more()
        self._state = answer.target
        self._kept += said.count("keep_message") - said.count("take_message")
        self.resources.keeps(self._kept)
        for call in answer.effects:
            if call.effect == "start_timer":
                self._timers.add(dict(call.fields)["timer"])
            elif call.effect == "cancel_timer":
                self._timers.discard(dict(call.fields)["timer"])

    def _but_late(self, seen: list[str]) -> list[str]:
        """What was seen in a step, but for the messages of earlier ones, which come first."""
        if self.failed or self.transport == "gone":
            self._late = 0
        late = 0
        while late < self._late and seen[late : late + 1] == ["send_message"]:
            late += 1
        self._late -= late
        if self._late and (others := seen[late:]):
            self.found("obeys", "W13", f"{others[0]} was seen before a message that was sent before it")
        return seen[late:]

    def _as_said(self, effect: str) -> None:
        """What a transport that has failed cannot show any more has happened, as far as anybody here can know."""
        match effect:
            case "complete_handshake":
                self.upgraded = True
            case "send_response" | "send_head":
                self.responded = True
            case "send_close":
                self.close_sent = True
            case "end_transport":
                self.transport = max(self.transport, "ending", key=TRANSPORT.index)
            case "abort_transport":
                self.transport = max(self.transport, "cut", key=TRANSPORT.index)

    def _excused(self, seen: list[str], wanted: list[str]) -> bool:
        """Whether it is no fault that some effects were not seen.

        A transport that fails takes no bytes and tells of its end only later, one that ends already ends no second
        time, and an empty piece of a body is nothing.
        """
        missing = [effect for effect in wanted if effect not in seen]
        return [effect for effect in wanted if effect in seen] == seen and all(
            effect == "send_body" or self.failed or (self.transport == "gone" and effect.endswith("_transport"))
            for effect in missing
        )

    # ---------------------------------------------------------------------------------------- what it has to match

    def shuts_down(self) -> None:
        """The server shuts down."""
        super().shuts_down()
        self._shut_down = True

    def returns(self, error: BaseException | None) -> None:
        """The app's callable ends, of which the machine has to be told."""
        self._app_ended = True

    def transported(self, what: str, data: bytes) -> None:
        """What a `Transport` tells; of its end the machine will tell."""
        if what != "lost":
            super().transported(what, data)

    def sends(self, message: object) -> None:
        """The app calls send()."""
        self.flush()
        self._asked = None

    def resumes(self, event: str = "") -> None:
        """Nothing that the machine is not asked of comes of a call that goes on."""
        self.flush()
        self._asked = None

    def accepted(self, message: object) -> None:
        """A send() was not refused."""
        event = event_of(message)
        if event and (self._asked is None or self._asked.event != event or self._asked.refusal is not None):
            text = f"send() took {event}, and the machine said {_said(self._asked)}"
            self.found("obeys", "C41", text)
        super().accepted(message)

    def sent(
        self, message: object, error: BaseException | None = None, *, first: bool = True, blocked: bool = False
    ) -> None:
        """A send() returns or raises."""
        asked = self._asked
        if error is not None:
            if first and asked is None and kind_of(error) == "violation":
                return  # its shape is wrong
            if asked is None or kind_of(error) != str(asked.refusal or ""):
                self.found("obeys", "C41", f"send() raised {error!r}, and the machine said {_said(asked)}")
        elif first:
            self.accepted(message)
        elif blocked and (asked is None or asked.event != "app_waited"):
            self.found("obeys", "C43", f"a send() that had to wait returned, and the machine said {_said(asked)}")

    def asks(self) -> int:
        """The app calls receive()."""
        number = super().asks()
        self._owing.add(number)  # ours repeats the disconnect
        if len(self._waiting) > 1:
            self._queued.add(number)
        return number

    def comes(self, *, faulty: bool) -> None:
        """Ours holds what comes early, and loses nothing that came before a fault."""
        self.flush()
        self.resources.reads()

    def _owes_no_more(self) -> None:
        """Ours repeats the disconnect to every call."""

    def gives(self, message: Mapping[str, Any], call: int) -> None:
        """A receive() is answered."""
        again = self.told is not None
        if self.told is not None and message.get("type") == self.told["type"] and dict(message) != self.told:
            self.found("one_disconnect", "R28", f"receive() gave {dict(message)!r}, and before that {self.told!r}")
        super().gives(message, call)
        gift = self._gifts.popleft() if self._gifts else None
        if gift is None or gift.event != EVENTS.get(str(message.get("type"))):
            self.found("obeys", "R20", f"receive() gave {message!r}, and the machine said {_said(gift)}")
        elif again:
            self._faults(self.resources.gives_again(gift, queued=call in self._queued))

    def cancels(self, call: int) -> None:
        """A receive() is cancelled. A repeated disconnect that it waited to give is given to nobody."""
        first = call == self._waiting[0]
        super().cancels(call)
        if first and self._gifts and self._gifts[0].event == "give_disconnect":
            self._gifts.popleft()

    def idle(self) -> None:
        """Nothing more can happen by itself now: nothing that is due may be kept from a receive() that waits."""
        super().idle()
        due = self.machine.due[self.case][self._state]
        if self.receiving and not self._gifts and due.refusal is not Refusal.NOT_DUE:
            self.found("wakes_up", "R28", f"a receive() waits, and {due.event} is due in {self._state}")
        if len(self._gifts) > len(self._waiting):
            self.found("as_sent", "R26", f"{self._gifts[0].event} was taken, and given to nobody")
        if self._late and not (self.failed or self.transport == "gone"):
            self.found("obeys", "W13", "nothing more happens, and a message that was sent is not written")
        if self._app_ended and self.called:
            self.found("hears", "R46", "the app has ended, and the machine was never told")
        if not self.resources.stopped:
            self._all_heard("nothing more happens, and")
        self._faults(self.resources.idle(is_open=self._state.startswith("open/"), kept=self._kept))

    def _able(self) -> frozenset[str]:
        """Ours tells of an end at once, but a repeated disconnect, given at a pace (C6), holds up those behind it."""
        if self._gifts:
            return frozenset({"app_waited"})
        return BY_ITSELF | ({"app_asks"} if self.receiving else set())

    @property
    def case(self) -> int:
        """The facts of the machine that hold now, as bits."""
        flat = self.machine.flat
        fixed = sum(flat.bits[name] for name in self._fixed)
        return fixed | (flat.waiting if self._kept else 0)


def _said(answer: Answer | None) -> str:
    if answer is None:
        return "nothing"
    return f"{answer.event}{f', refused as {answer.refusal}' if answer.refusal else ''}"
