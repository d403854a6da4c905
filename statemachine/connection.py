"""One WebSocket connection without I/O: it is told what happened and returns what to do.

Every method hands an event to the machine and turns the answer into effects. What a connection remembers is short: the
place where it is in the machine, the variables that the spec declares, the unread messages, and the answers that
brought it here and to its end, for its errors and for logs. Everything else is fixed at the beginning. It never awaits,
has no task, no clock and no lock, so it can be driven from asyncio, trio, threads or a test.

That the app or the peer sends a message, and that the app is given one, happens again and again: where that is all that
an answer says (`Answer.plain`), it is done at once, and not put together from what the answer says.

    app_sent(message)        known type -> machine -> shape and values -> commit -> effects        (C39)
    peer_..., timed_out, ... machine -> commit -> effects
    app_wants()              machine -> the message that is due, or WAIT
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine import explain
from wslifecycle.statemachine.effects import Effect
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected, ImpossibleEvent
from wslifecycle.statemachine.explain import Allowed
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.messages import Context, ShapeError, cut, in_ranges
from wslifecycle.statemachine.model import Actor, Call, First, Kind, Message, Ref, Value
from wslifecycle.statemachine.unread import Unread


class Given(NamedTuple):
    """What `receive()` gives: the message, and effects to carry out (in order) before it is handed over."""

    message: dict[str, Any] | None
    effects: tuple[Effect, ...] = ()


class Ended(NamedTuple):
    """How a connection ended: the code and the reason that the app is told (R30, R31), the event that it ended by and
    the state of the wire that it ended in, both by their names in the spec, and the rule that says so.

    A connection that ended in `open` was by one of peer_close, peer_eof, peer_lost, peer_violation, app_close,
    app_return, app_raise, keepalive_expired and server_shutdown; one that ended in `handshake` never was a WebSocket.
    """

    code: int
    reason: str
    by: str
    wire: str
    rule: str


_given = tuple.__new__
"""Makes a `Given` without the function of the class, which takes twice as long."""

_PAUSE: tuple[Effect, ...] = (fx.PauseReading(),)
_RESUME: tuple[Effect, ...] = (fx.ResumeReading(),)

WAIT = Given(None)
"""Nothing is due: a `receive()` waits until something happened. Compare with `is`."""


_NO_STR = "extensions and subprotocols are collections of str, not one str."


class Settings:
    """What connections of one kind have in common, so that each of them is made in no time and holds little.

    The arguments are those of `Connection`, and raise what they raise there.
    """

    __slots__ = ("dialect", "machine", "place", "timeouts", "unread")

    def __init__(
        self,
        *,
        spec_version: str | None = None,
        extensions: Iterable[str] = (),
        timeouts: Mapping[str, float | None] | None = None,
        unread: tuple[int | None, int | None] | None = None,
        machine: Lifecycle | None = None,
    ) -> None:
        if isinstance(extensions, str):
            raise TypeError(_NO_STR)
        self.machine = machine or lifecycle()
        flat, offered = self.machine.flat, frozenset(extensions)
        self.dialect = self.machine.dialect(spec_version or flat.value("C35", "spec_version"))
        self.unread = unread or (flat.value("C31", "messages"), flat.value("C31", "bytes"))
        self.timeouts = {name: flat.resolve(timer.seconds) for name, timer in self.machine.spec.timers.items()}
        for name, seconds in (timeouts or {}).items():
            if name not in self.timeouts:
                raise LookupError(f"There is no timer {name!r}. There are {', '.join(self.timeouts)}.")
            self.timeouts[name] = seconds
        facts = sum(flat.bits[fact.name] for fact in flat.facts if fact.extension in offered)
        self.place = self.machine.place(next(iter(self.machine.states)), self.dialect.facts | facts)


class Connection:
    """The lifecycle of one connection, from the handshake request to the end of the transport.

    `spec_version`, `extensions` and `subprotocols` are those of the scope (the version is 2.5 if left out, C35).
    `timeouts` overrides the seconds of the spec's timers by name (None switches one off; that of `close_timeout` is the
    deadline of `EndTransport`, too), `unread` its bounds (messages, bytes; None: no bound), `machine` the profile where
    it is not the reference; `observe` is called with every answer of the machine, obeyed or refused, before it takes
    effect, and can only watch. `settings` stand in the place of all but `subprotocols` and `observe`.

    Raises `ValueError` for a `spec_version` that is not a version number, `LookupError` for an unknown timer,
    `TypeError` for a str in the place of a collection.
    """

    __slots__ = (
        "__weakref__",
        "_came",
        "_context",
        "_dialect",
        "_ending",
        "_machine",
        "_observe",
        "_place",
        "_timeouts",
        "_unread",
        "_variables",
    )

    def __init__(
        self,
        *,
        spec_version: str | None = None,
        extensions: Iterable[str] = (),
        subprotocols: Iterable[str] = (),
        timeouts: Mapping[str, float | None] | None = None,
        unread: tuple[int | None, int | None] | None = None,
        machine: Lifecycle | None = None,
        observe: Callable[[Answer], None] | None = None,
        settings: Settings | None = None,
    ) -> None:
        if isinstance(subprotocols, str):
            raise TypeError(_NO_STR)
        if settings is None:
            settings = Settings(
                spec_version=spec_version, extensions=extensions, timeouts=timeouts, unread=unread, machine=machine
            )
        self._machine = settings.machine
        self._dialect = settings.dialect
        self._timeouts = settings.timeouts
        self._unread = Unread(*settings.unread)
        self._variables: dict[str, dict[str, Any]] = {}
        self._context = Context(tuple(subprotocols), self._variables)
        self._observe = observe
        self._came: Answer | None = None
        self._ending: Answer | None = None
        self._place = settings.place

    @property
    def state(self) -> str:
        """Where the machine is."""
        return self._place.state

    @state.setter
    def state(self, state: str) -> None:
        self._place = self._machine.place(state, self._place.case)

    @property
    def case(self) -> int:
        """The facts that its guards read, as bits."""
        return self._place.case

    @case.setter
    def case(self, case: int) -> None:
        self._place = self._machine.place(self._place.state, case)

    # ---------------------------------------------------------------------------------------- the app

    def started(self) -> tuple[Effect, ...]:
        """The connection begins: the timers that run from the first moment. Call it once, before anything else."""
        return self._carry_out(self._machine.flat.opening, {})

    def app_sent(self, message: Mapping[str, Any]) -> tuple[Effect, ...]:
        """The app called `send(message)`. Returns what to do.

        Raises `ApplicationViolation` when the message is unknown, not allowed in this state, or malformed, and
        `Disconnected` when the connection has ended (R32); both leave the connection as it was.
        """
        declared, event = self._meaning(message)
        if declared is not None and (data := self._dialect.shapes[declared.type].data(message)) is not None:
            answer = self._place.answers[event]
            if answer.plain == "send_message":
                if self._observe is not None:
                    self._observe(answer)
                return (fx.SendMessage(data),)
        decided = self._decide(message, declared, event, self._observe)
        return () if decided is None else self._commit(*decided)

    def app_wants(self) -> Given:
        """The app called `receive()`, or one waits and something happened: the message that is due, or `WAIT`.

        Serve waiting calls in their order, one message each, until this returns `WAIT` (C16). Raises `Disconnected`
        only under a profile whose answer to C6 is `raises`.
        """
        answer = self._place.due
        if answer.refusal is Kind.NOT_DUE:
            return WAIT
        if self._observe is not None:
            self._observe(answer)
        if answer.refusal is not None:
            raise self._refusal(answer, "receive()")
        kind = self._dialect.gives[answer.event]
        message: dict[str, Any] = {"type": kind}
        if answer.plain == "take_message" and kind not in self._dialect.omits_null:
            return _given(Given, (message, self._take(message)))
        for key, value in answer.gives or ():
            if (kind, key) not in self._dialect.unknown:
                message[key] = self._value(value, {})
        effects = self._move(answer, message)
        if kind in self._dialect.omits_null:
            message = {key: value for key, value in message.items() if value is not None}
        return Given(message, effects)

    def app_waited(self) -> bool:
        """A `send()` that was obeyed had to wait until the transport takes more, and would go on now.

        True: it is complete. False: it waits on (only where the profile's answer to C43 is `hangs`). Raises
        `Disconnected` where the connection has ended meanwhile.
        """
        answer = self._consult("app_waited")
        if answer.refusal is Kind.NOT_DUE:
            return False
        self._commit(self._obeyed(answer, "send()", self._observe), {})
        return True

    def app_returned(self) -> tuple[Effect, ...]:
        """The app's callable returned (C2, C4)."""
        return self._happened("app_return")

    def app_raised(self, error: BaseException) -> tuple[Effect, ...]:
        """The app's callable raised or was cancelled, C3 and C5 say what follows. See `is_quiet`."""
        return self._happened("app_raise")

    def is_quiet(self, error: BaseException) -> bool:
        """Whether an exception that left the app is no error of it (R35, C40).

        It is when the exception itself, every leaf of its group, or a member of its cause or context chain is a
        `Disconnected` of this very connection.
        """
        return bool(self._machine.flat.value("C40", "quiet")) and self._stems_from_here(error, set())

    def _stems_from_here(self, error: BaseException, met: set[int]) -> bool:
        """Follows causes and contexts, also those that `from None` hides from a traceback; `met` ends a circle.

        Quart for one raises an exception of its own `from None` when our `send()` has told it of the end.
        """
        links: list[BaseException | None] = [error]
        while links:
            link = links.pop()
            if link is None or id(link) in met:
                continue
            if isinstance(link, Disconnected) and link.origin is self:
                return True
            met.add(id(link))
            if isinstance(link, BaseExceptionGroup):
                leaves = link.exceptions
                if all(self._stems_from_here(leaf, met.copy()) for leaf in leaves):
                    return True
            links += [link.__cause__, link.__context__]
        return False

    # ---------------------------------------------------------------------------------------- the peer

    def peer_sent(self, data: str | bytes) -> tuple[Effect, ...]:
        """A complete data message was decoded. Hold the peer's bytes undecoded until `CompleteHandshake` (C14)."""
        if type(data) is not bytes and not isinstance(data, str):
            data = bytes(memoryview(data))
        answer = self._place.answers["peer_message"]
        if answer.plain != "keep_message":
            return self._happened("peer_message", data=data)
        if self._observe is not None:
            self._observe(answer)
        return self._keep(data)

    def peer_pinged(self, payload: bytes) -> tuple[Effect, ...]:
        """The peer's Ping was decoded (W8). Its Pongs mean nothing here; they answer your keepalive."""
        return self._happened("peer_ping", payload=bytes(payload))

    def peer_closed(self, code: int | None = None, reason: str = "") -> tuple[Effect, ...]:
        """The peer's Close frame was decoded; `code` is None when it had none. An illegal one fails it (C20, W10)."""
        if code is not None and not in_ranges(code, self._machine.flat.value("C20", "peer")):
            return self.peer_violated(1002, f"illegal close code {code}")
        return self._happened("peer_close", code=None if code is None else int(code), reason=reason)

    def peer_eof(self) -> tuple[Effect, ...]:
        """The peer ended its side of the transport."""
        return self._happened("peer_eof")

    def peer_lost(self) -> tuple[Effect, ...]:
        """The transport is gone."""
        return self._happened("peer_lost")

    def peer_violated(self, code: int, reason: str = "") -> tuple[Effect, ...]:
        """The peer broke RFC 6455 (1002), sent bad UTF-8 (1007) or too much (1009; early bytes over the bound, C14).

        A reason that is too long is cut. Raises `ValueError` for a code that may not stand in a Close frame.
        """
        limit = self._machine.spec.constraints["close_reason"].options["limit"]
        return self._happened("peer_violation", code=self._sendable(code), reason=cut(reason, limit))

    # ---------------------------------------------------------------------------------------- the server

    def shutdown(self, code: int | None = None) -> tuple[Effect, ...]:
        """The server shuts down; `code` overrides that of the profile (C32). `ValueError` if no Close may carry it."""
        return self._happened("server_shutdown", **({} if code is None else {"code": self._sendable(code)}))

    def timed_out(self, timer: str) -> tuple[Effect, ...]:
        """A timer ran out. One that was cancelled in the same moment is ignored. `LookupError` for an unknown one."""
        if timer not in self._timeouts:
            raise LookupError(f"There is no timer {timer!r}. There are {', '.join(self._timeouts)}.")
        done = self._happened(self._machine.spec.timers[timer].event)
        return tuple(effect for effect in done if effect != fx.CancelTimer(timer))  # it has ended by itself

    def _sendable(self, code: int) -> int:
        if not in_ranges(code, self._machine.flat.value("C20", "peer")):
            raise ValueError(f"A Close frame cannot carry the code {code} (W10, C20).")
        return int(code)

    # ---------------------------------------------------------------------------------------- questions

    @property
    def has_unread(self) -> bool:
        """Whether a message waits to be given to the app."""
        return self._place is self._place.unread

    @property
    def reads(self) -> bool:
        """Whether reading goes on; not from a `PauseReading` to the `ResumeReading` that follows it (C31)."""
        return not self._unread.paused

    @property
    def keeps(self) -> bool:
        """Whether messages are kept for the app up to a bound (C31); not any more once the connection ends."""
        return self._unread.bounded

    @property
    def close_code(self) -> int | None:
        """The close code that the app is told (R30); None as long as the connection has not ended."""
        code: int | None = self._variables.get("cause", {}).get("code")
        return code

    @property
    def close_reason(self) -> str:
        """The reason that the app is told (R31)."""
        return str(self._variables.get("cause", {}).get("reason") or "")

    @property
    def ended(self) -> Ended | None:
        """How the connection has ended, for logs and counters; None as long as it has not."""
        code, answer = self.close_code, self._ending
        if code is None or answer is None:
            return None
        return Ended(code, self.close_reason, answer.event, answer.source.partition("/")[0], answer.rule)

    @property
    def machine(self) -> Lifecycle:
        """The sealed machine that decides."""
        return self._machine

    def allowed(self) -> Allowed:
        """What the app may send now, and what `receive()` would give."""
        return explain.allowed(self._machine, self.state, self.case)

    def explain(self, message: Mapping[str, Any]) -> str:
        """What sending this message would do now, or why it may not be sent. Changes nothing.

        An iterator in it is not looked at, since `send()` could not read it again.
        """
        if isinstance(message, Mapping):
            message = {key: () if isinstance(value, Iterator) else value for key, value in message.items()}
        try:
            decided = self._decide(message, *self._meaning(message), None)
        except (ApplicationViolation, Disconnected) as error:
            return str(error)
        if decided is None:
            return f"{reprlib.repr(message)} is ignored."
        answer, _ = decided
        came = explain.origin(self._machine, answer.rule, answer.lines[0], self._came)
        return f"{message['type']} is allowed in {self.state}: {explain.outcome(answer)}\n{came}"

    def __repr__(self) -> str:
        return f"<Connection {self.state}>"

    # ---------------------------------------------------------------------------------------- the way of an event

    def _decide(
        self,
        message: Mapping[str, Any],
        declared: Message | None,
        event: str,
        observe: Callable[[Answer], None] | None,
    ) -> tuple[Answer, dict[str, Any]] | None:
        """What comes of sending a message: the machine's answer and the message's values; None where it is ignored.

        Known type, then state, then shape and values (C39). Raises what `app_sent` raises.
        """
        if declared is None:
            self._unknown(message)
            return None
        if self._dialect.shape_first:
            values = self._shaped(message, declared, frozenset(declared.keys))
            return self._permitted(event, declared.type, observe), values
        answer = self._permitted(event, declared.type, observe)
        return answer, self._shaped(message, declared, answer.uses)

    def _happened(self, event: str, **given: Any) -> tuple[Effect, ...]:
        answer = self._permitted(event, event, self._observe)
        for key, default in self._machine.spec.events[event].fields.items():
            if key not in given:
                given[key] = self._machine.flat.resolve(default)
        return self._commit(answer, given)

    def _consult(self, event: str) -> Answer:
        return self._place.answers[event]

    def _permitted(self, event: str, label: str, observe: Callable[[Answer], None] | None) -> Answer:
        """Asks the machine; raises what its refusal means."""
        return self._obeyed(self._consult(event), label, observe)

    def _obeyed(self, answer: Answer, label: str, observe: Callable[[Answer], None] | None) -> Answer:
        if answer.refusal is not None:
            if observe is not None:
                observe(answer)
            raise self._refusal(answer, label)
        return answer

    def _commit(self, answer: Answer, given: dict[str, Any]) -> tuple[Effect, ...]:
        if self._observe is not None:
            self._observe(answer)
        return self._move(answer, given)

    def _move(self, answer: Answer, given: dict[str, Any]) -> tuple[Effect, ...]:
        """Moves to the answer's target, assigns its variables and builds its effects."""
        done = self._carry_out(answer.effects, given)
        for name, fields in answer.assigns:
            self._variables[name] = {key: self._value(value, given) for key, value in fields}
            if name == "cause":
                self._ending = answer
        if answer.moves:
            self.state = answer.target
            if self._came is None or self._machine.spec.events[answer.event].actor is not Actor.GIVEN:
                self._came = answer  # what receive() gave explains a state only where nothing else does
        return done

    def _carry_out(self, calls: Iterable[Call], given: dict[str, Any]) -> tuple[Effect, ...]:
        """Builds the effects; those that are the connection's own are done here. `given` takes what is taken out."""
        done: list[Effect] = []
        for call in calls:
            values = {key: self._value(value, given) for key, value in call.fields}
            match call.effect:
                case "keep_message":
                    done += self._keep(values["data"])
                case "take_message":
                    done += self._take(given)
                case "start_timer" | "cancel_timer":
                    seconds = self._timeouts[values["timer"]]
                    if seconds is not None:
                        values |= {"seconds": seconds} if call.effect == "start_timer" else {}
                        done.append(fx.TYPES[call.effect](**values))
                case "end_transport":
                    self._unread.unbind()
                    done.append(fx.EndTransport(self._timeouts[values["deadline"]]))
                case name:
                    if name in ("resume_reading", "abort_transport"):
                        self._unread.unbind()
                    done.append(fx.TYPES[name](**values))
        return tuple(done)

    def _keep(self, data: str | bytes) -> tuple[Effect, ...]:
        """Puts a message behind the unread ones."""
        self._place = self._place.unread
        return _PAUSE if self._unread.put(data) else ()

    def _take(self, message: dict[str, Any]) -> tuple[Effect, ...]:
        """Takes the oldest unread message, and puts it into that of the app."""
        data, resume, more = self._unread.take()
        if not more:
            self._place = self._place.read
        message["bytes"], message["text"] = (data, None) if isinstance(data, bytes) else (None, data)
        return _RESUME if resume else ()

    def _value(self, value: Value, given: Mapping[str, Any]) -> Any:
        """A value at run time."""
        if isinstance(value, Ref):
            fields = given if value.scope in ("message", "event") else self._variables[value.scope]
            return fields.get(value.key)
        if isinstance(value, First):
            return next((found for item in value.values if (found := self._value(item, given)) is not None), None)
        return value

    def _meaning(self, message: object) -> tuple[Message | None, str]:
        """The declared message that an app sent and the event that it is; None where the app may send no such thing."""
        if type(message) is not dict and not isinstance(message, Mapping):
            return None, ""
        kind = message.get("type")
        declared = self._dialect.takes.get(kind) if isinstance(kind, str) else None
        if declared is None:
            return None, ""
        if declared.event_if and message.get(declared.event_if[0]) is True:  # what is no bool has no truth to ask for
            return declared, declared.event_if[1]
        return declared, declared.event

    def _shaped(self, message: Mapping[str, Any], declared: Message, used: frozenset[str]) -> dict[str, Any]:
        try:
            return self._dialect.shapes[declared.type].values(message, used, self._context)
        except ShapeError as error:
            text = explain.malformed(self._machine, error.text, error.rule, error.line, self._came)
            raise ApplicationViolation(text, error.rule, self.state, error.line) from None

    # ---------------------------------------------------------------------------------------- refusals

    def _refusal(self, answer: Answer, label: str) -> Exception:
        text = explain.refusal(self._machine, answer, self.case, label, self._came)
        about = (text, answer.rule, self.state, answer.lines[0])
        if answer.refusal is Kind.DISCONNECTED:
            return Disconnected(*about, origin=self)
        return ImpossibleEvent(*about) if answer.refusal is Kind.IMPOSSIBLE else ApplicationViolation(*about)

    def _unknown(self, message: object) -> None:
        """Raises for what is no message of an app; returns where the profile ignores such a type (C28, C29)."""
        kind = message.get("type") if isinstance(message, Mapping) else None
        number = "R43"
        if not isinstance(message, Mapping):
            text = f"A message has to be a dict, not {reprlib.repr(message)}."
        elif not isinstance(kind, str):
            text = f"The `type` of a message has to be a str, not {reprlib.repr(kind)}."
        else:
            number = "C29" if kind.startswith("http.") else "C28"
            text = f"{reprlib.repr(kind)} is not a message that an app may send on a websocket."
            if not self._machine.flat.value(number, "refuse"):
                return
        spec = self._machine.spec
        line = spec.rules[number].line if number in spec.rules else spec.choices[number].line
        text = explain.malformed(self._machine, f"{text} Allowed now: {self.allowed()}.", number, line, self._came)
        raise ApplicationViolation(text, number, self.state, line)
