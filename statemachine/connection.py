"""One WebSocket connection without I/O: it is told what happened and returns what to do.

Every method hands an event to the machine and turns the answer into effects. What a connection remembers is short: the
`state` and the `case` that the machine reads, the variables that the spec declares, the unread messages, and the answer
that brought it here, for its errors. Everything else is fixed at the beginning. It never awaits, has no task, no clock
and no lock, so it can be driven from asyncio, trio, threads or a test.

    app_sent(message)        known type -> machine -> shape and values -> commit -> effects        (C39)
    peer_..., timed_out, ... machine -> commit -> effects
    app_wants()              machine -> the message that is due, or WAIT
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from wslifecycle.statemachine import effects, explain
from wslifecycle.statemachine.effects import Effect
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected, ImpossibleEvent
from wslifecycle.statemachine.explain import Allowed
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle, LifecycleEvent, lifecycle
from wslifecycle.statemachine.messages import Context, Shape, ShapeError
from wslifecycle.statemachine.model import Actor, Call, First, Kind, Message, Ref, Value
from wslifecycle.statemachine.unread import Unread


@dataclass(frozen=True, slots=True)
class Given:
    """What `receive()` gives: the message, and effects to carry out (in order) before it is handed over."""

    message: dict[str, Any] | None
    effects: tuple[Effect, ...] = ()


WAIT = Given(None)
"""Nothing is due: a `receive()` waits until something happened. Compare with `is`."""


class Connection:
    """The lifecycle of one connection, from the handshake request to the end of the transport.

    `spec_version`, `extensions` and `subprotocols` are those of the scope. `timeouts` overrides the seconds of the
    spec's timers by name (None switches one off), `unread` its bounds (messages, bytes; None: no bound). `machine` is
    another profile than `reference`; `observe` is called with every answer of the machine, obeyed or refused, before it
    takes effect, and can only watch. Raises `ValueError` for a `spec_version` that is not a version number and
    `LookupError` for an unknown timer.
    """

    __slots__ = (
        "_came",
        "_context",
        "_machine",
        "_observe",
        "_shapes",
        "_timeouts",
        "_unread",
        "_variables",
        "_version",
        "case",
        "state",
    )

    def __init__(
        self,
        *,
        spec_version: str = "2.5",
        extensions: Iterable[str] = (),
        subprotocols: Iterable[str] = (),
        timeouts: Mapping[str, float | None] | None = None,
        unread: tuple[int | None, int | None] | None = None,
        machine: Lifecycle | None = None,
        observe: Callable[[Answer], None] | None = None,
    ) -> None:
        machine = machine or lifecycle()
        flat = machine.flat
        offered = frozenset(extensions)
        self._machine = machine
        self._version = _version(spec_version)
        self._variables: dict[str, dict[str, Any]] = {}
        self._unread = Unread(*(unread or (flat.value("C31", "messages"), flat.value("C31", "bytes"))))
        self._context = Context(tuple(subprotocols), self._value)
        self._timeouts = {name: flat.resolve(timer.seconds) for name, timer in machine.spec.timers.items()}
        for name, seconds in (timeouts or {}).items():
            if name not in self._timeouts:
                raise LookupError(f"There is no timer {name!r}. There are {', '.join(self._timeouts)}.")
            self._timeouts[name] = seconds
        self._shapes = _shapes(machine, self._version)
        self._observe = observe
        self._came: Answer | None = None
        self.state: str = next(iter(machine.states))
        self.case: int = sum(
            1 << bit
            for bit, fact in enumerate(flat.facts)
            if (fact.extension in offered) or (fact.spec_version and _version(fact.spec_version) <= self._version)
        )

    # ---------------------------------------------------------------------------------------- the app

    def started(self) -> tuple[Effect, ...]:
        """The connection begins: the timers that run from the first moment. Call it once, before anything else."""
        return self._carry_out(self._machine.flat.opening, {})

    def app_sent(self, message: Mapping[str, Any]) -> tuple[Effect, ...]:
        """The app called `send(message)`. Returns what to do.

        Raises `ApplicationViolation` when the message is unknown, not allowed in this state, or malformed, and
        `Disconnected` when the connection has ended (R32); both leave the connection as it was.
        """
        declared, name = self._meaning(message)
        if declared is None:
            return self._unknown(message)
        flat = self._machine.flat
        if flat.value("C39", "shape_first"):
            shaped = self._shaped(message, declared, frozenset(declared.keys))
            return self._commit(self._permitted(name, declared.type), shaped)
        answer = self._permitted(name, declared.type)
        used = frozenset(declared.keys) if flat.value("C23", "check") else _keys_read(answer)
        return self._commit(answer, self._shaped(message, declared, used))

    def app_wants(self) -> Given:
        """The app called `receive()`, or one waits and something happened: the message that is due, or `WAIT`.

        Serve waiting calls in their order, one message each, until this returns `WAIT` (C16). Raises `Disconnected`
        only under a profile whose answer to C6 is `raises`.
        """
        answer = self._machine.due[self.case][self.state]
        if answer.refusal is Kind.NOT_DUE:
            return WAIT
        if answer.refusal is not None:
            raise self._refusal(answer, "receive()")
        kind = cast(str, self._machine.spec.events[answer.event].message)
        keys = self._machine.spec.messages[kind].keys
        message: dict[str, Any] = {"type": kind}
        for key, value in answer.gives or ():
            if not self._older(keys[key].since):
                message[key] = self._value(value)
        if any(call.effect == "take_message" for call in answer.effects):
            data, resume = self._unread.take()
            message |= {"bytes": data, "text": None} if isinstance(data, bytes) else {"bytes": None, "text": data}
            if self._machine.flat.resolve(self._machine.spec.messages[kind].omit_null):
                message = {key: value for key, value in message.items() if value is not None}
            done = self._commit(answer, {})
            return Given(message, (*done, effects.ResumeReading()) if resume else done)
        return Given(message, self._commit(answer, {}))

    def app_returned(self) -> tuple[Effect, ...]:
        """The app's callable returned (C2, C4)."""
        return self._happened("app_return")

    def app_raised(self, error: BaseException) -> tuple[Effect, ...]:
        """The app's callable raised, was cancelled included (C3, C5). `is_quiet` says whether to log it."""
        return self._happened("app_raise")

    def is_quiet(self, error: BaseException) -> bool:
        """Whether an exception that left the app is no error of it (R35, C40).

        It is when the exception itself, every leaf of its group, or a member of its cause or context chain is a
        `Disconnected` of this very connection.
        """
        return bool(self._machine.flat.value("C40", "quiet")) and self._stems_from_here(error, {})

    def _stems_from_here(self, error: BaseException, known: dict[int, bool]) -> bool:
        """`known` holds what was found out so far, so that a chain which goes round ends."""
        if id(error) not in known:
            known[id(error)] = False
            group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
            chain = (error.__cause__, None if error.__suppress_context__ else error.__context__)
            known[id(error)] = (
                (isinstance(error, Disconnected) and error.origin is self)
                or (bool(group) and all(self._stems_from_here(leaf, known) for leaf in group))
                or any(self._stems_from_here(link, known) for link in chain if link is not None)
            )
        return known[id(error)]

    # ---------------------------------------------------------------------------------------- the peer

    def peer_sent(self, data: str | bytes) -> tuple[Effect, ...]:
        """A complete data message was decoded. Hold the peer's bytes undecoded until `CompleteHandshake` (C14)."""
        return self._happened("peer_message", data=data)

    def peer_closed(self, code: int | None = None, reason: str = "") -> tuple[Effect, ...]:
        """The peer's Close frame was decoded; `code` is None when it had none. An illegal one fails it (C20, W10)."""
        ranges = self._machine.flat.value("C20", "ranges")
        if code is not None and ranges and not any(low <= code <= high for low, high in ranges):
            return self.peer_violated(1002)
        return self._happened("peer_close", code=None if code is None else int(code), reason=reason)

    def peer_eof(self) -> tuple[Effect, ...]:
        """The peer ended its side of the transport."""
        return self._happened("peer_eof")

    def peer_lost(self) -> tuple[Effect, ...]:
        """The transport is gone."""
        return self._happened("peer_lost")

    def peer_violated(self, code: int, reason: str = "") -> tuple[Effect, ...]:
        """The peer broke RFC 6455 (1002), sent bad UTF-8 (1007) or too much (1009; early bytes over the bound, C14)."""
        return self._happened("peer_violation", code=int(code), reason=reason)

    # ---------------------------------------------------------------------------------------- the server

    def shutdown(self, code: int | None = None) -> tuple[Effect, ...]:
        """The server shuts down; `code` overrides that of the profile (C32)."""
        return self._happened("server_shutdown", **({} if code is None else {"code": code}))

    def timed_out(self, timer: str) -> tuple[Effect, ...]:
        """A timer ran out. One that was cancelled in the same moment is ignored. `LookupError` for an unknown one."""
        if timer not in self._timeouts:
            raise LookupError(f"There is no timer {timer!r}. There are {', '.join(self._timeouts)}.")
        return self._happened(self._machine.spec.timers[timer].event)

    # ---------------------------------------------------------------------------------------- questions

    @property
    def machine(self) -> Lifecycle:
        """The sealed machine that decides."""
        return self._machine

    def allowed(self) -> Allowed:
        """What the app may send now, and what `receive()` would give."""
        return explain.allowed(self._machine, self.state, self.case)

    def explain(self, message: Mapping[str, Any]) -> str:
        """What sending this message would do now, or why it may not be sent. Changes nothing but iterators in it."""
        declared, name = self._meaning(message)
        if declared is None:
            return str(self._unknown_error(message))
        answer = self._machine.flat.answers[name][self.case][self.state]
        if answer.refusal is not None:
            return str(self._refusal(answer, declared.type))
        try:
            self._shaped(message, declared, _keys_read(answer))
        except ApplicationViolation as error:
            return str(error)
        came = explain.origin(self._machine, answer.rule, answer.lines[0], self._came)
        return f"{declared.type} is allowed in {self.state}: {explain.outcome(answer)}\n{came}"

    def __repr__(self) -> str:
        return f"<Connection {self.state}>"

    # ---------------------------------------------------------------------------------------- the way of an event

    def _happened(self, event: str, **given: Any) -> tuple[Effect, ...]:
        answer = self._permitted(event, event)
        declared = self._machine.spec.events[event].fields
        return self._commit(answer, {key: given.get(key, self._default(value)) for key, value in declared.items()})

    def _permitted(self, event: str, label: str) -> Answer:
        """Asks the machine; raises what its refusal means."""
        answer = cast(LifecycleEvent, self._machine.events[event]).consult(self)
        if answer.refusal is not None:
            raise self._refusal(answer, label)
        return answer

    def _default(self, value: Value) -> Any:
        return self._machine.flat.resolve(value)

    def _commit(self, answer: Answer, given: Mapping[str, Any]) -> tuple[Effect, ...]:
        """Moves to the answer's target, assigns its variables and builds its effects."""
        if self._observe is not None:
            self._observe(answer)
        done = self._carry_out(answer.effects, given)
        for name, fields in answer.assigns:
            self._variables[name] = {key: self._value(value, given) for key, value in fields}
        if answer.moves:
            self.state = answer.target
            if self._came is None or self._machine.spec.events[answer.event].actor is not Actor.GIVEN:
                self._came = answer  # what receive() gave explains a state only where nothing else does
        return done

    def _carry_out(self, calls: Iterable[Call], given: Mapping[str, Any]) -> tuple[Effect, ...]:
        done: list[Effect] = []
        for call in calls:
            values = {key: self._value(value, given) for key, value in call.fields}
            match call.effect:
                case "keep_message":
                    if self._unread.put(values["data"]):
                        done.append(effects.PauseReading())
                    self._note_unread()
                case "take_message":
                    self._note_unread()
                case "start_timer" | "cancel_timer":
                    seconds = self._timeouts[values["timer"]]
                    if seconds is not None:
                        values |= {"seconds": seconds} if call.effect == "start_timer" else {}
                        done.append(effects.TYPES[call.effect](**values))
                case name:
                    done.append(effects.TYPES[name](**values))
        return tuple(done)

    def _note_unread(self) -> None:
        """Keeps the one fact that changes: whether a message waits."""
        bit = 1 << list(self._machine.spec.facts).index("unread")
        self.case = self.case | bit if self._unread else self.case & ~bit

    def _value(self, value: Value, given: Mapping[str, Any] | None = None) -> Any:
        """A value at run time."""
        if isinstance(value, Ref):
            fields = given or {} if value.scope in ("message", "event") else self._variables[value.scope]
            return fields.get(value.key)
        if isinstance(value, First):
            return next((found for item in value.values if (found := self._value(item, given)) is not None), None)
        return value

    def _meaning(self, message: object) -> tuple[Message | None, str]:
        """The declared message that an app sent and the event that it is; None where the app may send no such thing."""
        kind = message.get("type") if isinstance(message, Mapping) else None
        declared = self._machine.spec.messages.get(kind) if isinstance(kind, str) else None
        if declared is None or declared.sender != "app" or not isinstance(message, Mapping):
            return None, ""
        if declared.event_if and message.get(declared.event_if[0]):
            return declared, declared.event_if[1]
        return declared, declared.event

    def _shaped(self, message: Mapping[str, Any], declared: Message, used: frozenset[str]) -> dict[str, Any]:
        try:
            return self._shapes[declared.type].values(message, used, self._context)
        except ShapeError as error:
            text = explain.malformed(self._machine, error.text, error.rule, error.line, self._came)
            raise ApplicationViolation(text, rule=error.rule, state=self.state, line=error.line) from None

    def _older(self, since: str | None) -> bool:
        return since is not None and _version(since) > self._version

    # ---------------------------------------------------------------------------------------- refusals

    def _refusal(self, answer: Answer, label: str) -> Exception:
        if self._observe is not None:
            self._observe(answer)
        text = explain.refusal(self._machine, answer, self.case, label, self._came)
        about: dict[str, Any] = {"rule": answer.rule, "state": self.state, "line": answer.lines[0]}
        if answer.refusal is Kind.DISCONNECTED:
            return Disconnected(text, **about, origin=self)
        if answer.refusal is Kind.IMPOSSIBLE:
            return ImpossibleEvent(text, **about)
        return ApplicationViolation(text, **about)

    def _unknown(self, message: object) -> tuple[Effect, ...]:
        error = self._unknown_error(message)
        if not self._machine.flat.value(error.rule, "refuse"):
            return ()
        raise error

    def _unknown_error(self, message: object) -> ApplicationViolation:
        rule = "C28"
        if not isinstance(message, Mapping):
            text = f"A message has to be a dict, not {message!r}."
        elif "type" not in message:
            text = "The message has no `type`."
        else:
            kind = message["type"]
            rule = "C29" if isinstance(kind, str) and kind.startswith("http.") else "C28"
            text = f"{kind!r} is not a message that an app may send on a websocket."
        line = self._machine.spec.choices[rule].line
        text = explain.malformed(self._machine, f"{text} Allowed now: {self.allowed()}.", rule, line, self._came)
        return ApplicationViolation(text, rule=rule, state=self.state, line=line)


def _keys_read(answer: Answer) -> frozenset[str]:
    """The keys of the app's message that an answer uses: only these have to have sound values."""
    return frozenset(key for scope, key in answer.reads if scope == "message")


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise ValueError(f"{text!r} is not a spec version such as '2.5'.") from None


def _shapes(machine: Lifecycle, version: tuple[int, ...]) -> dict[str, Shape]:
    """The shapes of the app's messages for one spec version, made once for each machine."""
    cache: dict[tuple[int, ...], dict[str, Shape]] = machine.shapes
    if version not in cache:
        cache[version] = {
            name: Shape(
                message,
                machine.spec.constraints,
                machine.flat.resolve,
                {key.name for key in message.keys.values() if key.since and _version(key.since) > version},
            )
            for name, message in machine.spec.messages.items()
            if message.sender == "app"
        }
    return cache[version]
