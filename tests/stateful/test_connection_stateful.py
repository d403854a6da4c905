"""Any event in any order, legal or not, against a `Connection`; the properties of the spec watch every step.

Hypothesis plays the app, the peer, the server and the clock. Two oracles judge: the monitors made from `properties`,
and a small account of our own of which messages have to reach the app and when it is told of the end, which asks
nothing of the machine. A monitor sees here what the machine answers and no more: properties that speak of what is
around it, as of queues and of a receive() that waits, are judged by the model checker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from wslifecycle import WAIT, ApplicationViolation, Connection, Disconnected, ImpossibleEvent
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.machine import Lifecycle, build, lifecycle
from wslifecycle.statemachine.model import Spec
from wslifecycle.statemachine.properties import REFUSALS, Form, Kind, Monitor, parse, step_of, terms_of
from wslifecycle.statemachine.system import vocabulary

SPEC = Path(__file__).parent.parent.parent / "spec" / "lifecycle.yaml"
DENIAL = "websocket.http.response"

LEGAL: dict[str, dict[str, Any]] = {"websocket.send": {"text": "hi"}, DENIAL + ".start": {"status": 401}}
"""What a message needs besides its type to be sound."""

MESSAGES = st.one_of(
    st.just({"type": "websocket.accept"}),
    st.fixed_dictionaries({"type": st.just("websocket.send"), "text": st.text(max_size=3)}),
    st.fixed_dictionaries({"type": st.just("websocket.send"), "bytes": st.binary(max_size=3)}),
    st.fixed_dictionaries(
        {"type": st.just("websocket.close")}, optional={"code": st.sampled_from([1000, 3000, 1005, 0])}
    ),
    st.fixed_dictionaries({"type": st.just(DENIAL + ".start"), "status": st.sampled_from([200, 401, 204, 101])}),
    st.fixed_dictionaries(
        {"type": st.just(DENIAL + ".body"), "body": st.binary(max_size=2)}, optional={"more_body": st.booleans()}
    ),
    st.sampled_from(
        [{}, {"type": 5}, {"type": "http.response.start"}, {"type": "websocket.send"}, {"type": "websocket.receive"}]
    ),
)


def monitors(spec: Spec) -> list[Monitor]:
    """One for each property that forbids something and speaks of nothing but the machine."""
    known = vocabulary(spec.regions, spec.facts, spec.timers, spec.events, spec.effects)
    machine = {Kind.STATE: {f"{name}={state}" for name, region in spec.regions.items() for state in region.states}}
    machine |= {Kind.EVENT: set(spec.events), Kind.EFFECT: set(spec.effects), Kind.WORD: {*REFUSALS, "moved"}}
    made = []
    for declared in spec.properties.values():
        parsed = parse(declared.holds, known)
        terms = [*terms_of(parsed.first), *(terms_of(parsed.second) if parsed.second is not None else ())]
        forbids = parsed.form not in (Form.SOMETIMES, Form.LEADS_TO)
        if forbids and all(term.name in machine.get(term.kind, ()) for term in terms):
            made.append(Monitor(declared, known))
    return made


Disturbance = Callable[[Connection], tuple[fx.Effect, ...]]
DISTURBANCES: list[Disturbance] = [
    lambda connection: connection.app_returned(),
    lambda connection: connection.app_raised(ValueError()),
    lambda connection: connection.peer_eof(),
    lambda connection: connection.peer_lost(),
    lambda connection: connection.peer_violated(1002),
    lambda connection: connection.shutdown(),
    lambda connection: connection.shutdown(1001),
    lambda connection: connection.timed_out("close_timeout"),
    lambda connection: connection.timed_out("handshake_timeout"),
    lambda connection: connection.timed_out("keepalive"),
]


def shortest_paths(machine: Lifecycle) -> dict[str, tuple[str, ...]]:
    """For every state of a machine the fewest events that lead to it."""
    flat = machine.flat
    paths: dict[str, tuple[str, ...]] = {next(iter(flat.state_of)): ()}
    for state in (queue := list(paths)):
        for answer in flat.distinct(state):
            if answer.target not in paths:
                paths[answer.target] = (*paths[state], answer.event)
                queue.append(answer.target)
    return paths


HAPPENS: dict[str, Callable[[Any], object]] = {
    "app_accept": lambda run: run.app_sends({"type": "websocket.accept"}),
    "app_close": lambda run: run.app_sends({"type": "websocket.close"}),
    "app_response_start": lambda run: run.app_sends({"type": DENIAL + ".start", "status": 401}),
    "app_response_body": lambda run: run.app_sends({"type": DENIAL + ".body", "more_body": True}),
    "app_response_end": lambda run: run.app_sends({"type": DENIAL + ".body"}),
    "app_return": lambda run: run.is_disturbed(DISTURBANCES[0]),
    "app_raise": lambda run: run.is_disturbed(DISTURBANCES[1]),
    "peer_close": lambda run: run.peer_closes(1000),
    "peer_eof": lambda run: run.is_disturbed(DISTURBANCES[2]),
    "peer_violation": lambda run: run.is_disturbed(DISTURBANCES[4]),
    "server_shutdown": lambda run: run.is_disturbed(DISTURBANCES[5]),
    "give_connect": lambda run: run.app_asks(),
    "give_disconnect": lambda run: run.app_asks(),
}
"""How a run makes the events happen that lead to a state."""
PATHS = shortest_paths(lifecycle())


class AnyOrder(RuleBasedStateMachine):
    """One connection; every rule is one event."""

    machine: Lifecycle = lifecycle()

    @initialize(
        goal=st.one_of(
            st.sampled_from(["open/flowing/running", "handshake/waiting/running"]), st.sampled_from(sorted(PATHS))
        ),
        extensions=st.sampled_from([(DENIAL,), ()]),
        version=st.sampled_from(["2.5", "2.4", "2.3", "2.0"]),
    )
    def begin(self, goal: str, extensions: tuple[str, ...], version: str) -> None:
        """Begins on the shortest way to some state, so that the deep ones are met as often as the shallow ones."""
        self.monitors = monitors(self.machine.spec)
        self.owed: deque[str | bytes] = deque()  # messages that the app has to be given before any disconnect
        self.effects: list[fx.Effect] = []
        self.version = version
        if "app_response_start" in PATHS[goal]:
            extensions = (DENIAL,)  # or it leads nowhere
        self.connection = Connection(
            spec_version=version, extensions=extensions, unread=(3, 64), machine=self.machine, observe=self.watch
        )
        for event in PATHS[goal]:
            HAPPENS[event](self)

    def watch(self, answer: Answer) -> None:
        """Hands every step of the machine to the monitors."""
        assert answer.source == self.connection.state
        step = step_of(self.machine.flat, answer)
        for monitor in self.monitors:
            assert monitor.observe(step), f"{monitor.property.name}: {monitor.property.holds}, broken by {answer}"

    def attempt(self, event: Callable[[], tuple[fx.Effect, ...]]) -> tuple[fx.Effect, ...]:
        """Makes something happen; a refusal changes nothing."""
        before = (self.connection.state, self.connection.case)
        try:
            done = event()
        except (ApplicationViolation, Disconnected, ImpossibleEvent) as refused:
            error = refused
        else:
            self.effects += done
            return done
        assert (self.connection.state, self.connection.case) == before
        assert f"[{error.rule}]" in str(error)
        assert f"lifecycle.yaml:{error.line}" in str(error)
        return ()

    def has(self, kind: type) -> bool:
        return any(isinstance(effect, kind) for effect in self.effects)

    @rule(message=MESSAGES)
    def app_sends(self, message: dict[str, Any]) -> None:
        told_before = self.connection.explain(message)
        sent = self.attempt(lambda: self.connection.app_sent(message))
        if sent:
            assert message["type"] in told_before

    @rule(pick=st.integers(0, 3))
    def app_sends_what_is_allowed(self, pick: int) -> None:
        """Steers deeper than chance: one of the messages that `allowed()` names is indeed taken."""
        send = self.connection.allowed().send
        if send:
            kind = send[pick % len(send)]
            self.effects += self.connection.app_sent({"type": kind, **LEGAL.get(kind, {})})

    @rule()
    def app_asks(self) -> None:
        given = self.connection.app_wants()
        if given is WAIT:
            assert not self.owed, "a message is owed and receive() waits"
            assert not self.has(fx.SendClose), "the end is not told"
            assert not self.has_ended(), "the end is not told"
            return
        self.effects += given.effects
        assert given.message is not None
        match given.message["type"]:
            case "websocket.receive":
                text, data = given.message["text"], given.message["bytes"]
                assert (text is None) != (data is None)
                assert (text if data is None else data) == self.owed.popleft()
            case "websocket.disconnect":
                assert not self.owed, "the disconnect overtook a message"
                assert isinstance(given.message["code"], int)

    @rule(data=st.one_of(st.text(max_size=3), st.binary(max_size=3)))
    def peer_sends(self, data: str | bytes) -> None:
        flows = self.has(fx.CompleteHandshake) and not self.has(fx.SendClose) and not self.has_ended()
        self.attempt(lambda: self.connection.peer_sent(data))
        if flows:
            self.owed.append(data)

    def has_ended(self) -> bool:
        return self.has(fx.EndTransport) or self.has(fx.AbortTransport)

    @rule(payload=st.binary(max_size=3))
    def peer_pings_and_a_send_has_waited(self, payload: bytes) -> None:
        """A Ping is answered from the accept on, until the peer's Close or the end (W8).

        The `send()` goes on, unless we sent a Close or ended (C43).
        """
        answered = self.has(fx.CompleteHandshake) and not self.has(fx.EndSending) and not self.has_ended()
        before = len(self.effects)
        self.attempt(lambda: self.connection.peer_pinged(payload))
        assert self.effects[before:] == ([fx.SendPong(payload)] if answered else [])

        over = self.version >= "2.4" and (self.has(fx.SendClose) or self.has_ended())
        try:
            assert self.connection.app_waited()
        except Disconnected:
            assert over
        else:
            assert not over

    @rule(code=st.sampled_from([None, 1000, 1001, 4000, 1005, 999]))
    def peer_closes(self, code: int | None) -> None:
        self.attempt(lambda: self.connection.peer_closed(code))

    @rule(event=st.sampled_from(DISTURBANCES))
    def is_disturbed(self, event: Disturbance) -> None:
        """What mostly ends a connection: one rule for all of it, so that runs are not over before they began."""
        self.attempt(lambda: event(self.connection))

    @invariant()
    def the_wire_is_sound(self) -> None:
        """Counted from the effects alone: one answer to the handshake, one Close, no data after it, one end."""
        if not hasattr(self, "effects"):
            return
        kinds = [type(effect) for effect in self.effects]
        assert sum(kind in (fx.CompleteHandshake, fx.SendResponse, fx.SendHead) for kind in kinds) <= 1
        assert kinds.count(fx.SendClose) <= 1
        assert sum(kind in (fx.EndTransport, fx.AbortTransport) for kind in kinds) <= 1
        if fx.SendClose in kinds:
            assert fx.SendMessage not in kinds[kinds.index(fx.SendClose) :]
        running: set[str] = set()
        for effect in self.effects:
            if isinstance(effect, fx.StartTimer):
                assert effect.timer not in running
                running.add(effect.timer)
            elif isinstance(effect, fx.CancelTimer):
                running.remove(effect.timer)


SETTINGS = settings(max_examples=900, stateful_step_count=15, deadline=None, derandomize=True)


def test_monitors_watch_what_the_machine_can_see() -> None:
    watched = {monitor.property.name for monitor in monitors(lifecycle().spec)}
    assert watched >= {"connect_once", "connect_first", "answered_once", "one_close", "failed_is_deaf", "one_end"}
    assert watched >= {"closed_is_final", "refused_changes_nothing", "reply_before_message", "frames_after_handshake"}
    assert watched >= {"app_ends_once", "loss_ends_it", "failing_begins_with_a_fault", "failing_leads_to_closed"}
    assert watched >= {"closing_begins_with_a_close", "streaming_begins_with_the_head"}
    assert not watched & {"messages_before_disconnect", "given_once", "denial_is_final", "done_is_known"}
    unseen = {"close_is_timed", "late_is_silent_before_2_4", "no_effect_twice"}  # a timer, a fact, a mark
    assert unseen < lifecycle().spec.properties.keys()
    assert not watched & unseen


def test_any_order_keeps_every_property_that_monitors_watch() -> None:
    visited: set[str] = set()

    class Visiting(AnyOrder):
        def watch(self, answer: Answer) -> None:
            visited.update((answer.source, answer.target))
            super().watch(answer)

    run_state_machine_as_test(Visiting, settings=SETTINGS)
    assert set(lifecycle().states) - visited == set(), "the search is too shallow to mean anything"


GIVE_CONNECT = "    - {event: give_connect, from: connect_due, to: waiting, rule: R20}\n"
GIVE_MESSAGE = "{event: give_message, from: [flowing, disconnect_due, silent], "
GIVE_MESSAGE_LATE = "{event: give_message, from: ended, "
GIVE_DISCONNECT = "{event: give_disconnect, from: disconnect_due, if: not unread, to: ended,"
WITHHELD = "    - {event: give_disconnect, from: disconnect_due, if: unread, refuse: not_due, rule: R26}\n"
ANSWERED = "{event: peer_close, from: closing, to: closed, effects: [end_transport], "
CLOSES = (
    "{event: app_close, from: open, to: closing,\n"
    "       effects: [{send_close: {code: $message.code, reason: $message.reason}}],\n       set: "
)
TOLD = "{region: inbox, from: [waiting, flowing], to: disconnect_due, "

MUTANTS = {
    "connect is given again on every receive, as Granian did before 2.3.2": (
        "connect_once",
        {
            GIVE_CONNECT: GIVE_CONNECT + GIVE_CONNECT.replace("connect_due", "waiting"),
            "{event: give_connect, from: [waiting, flowing, ": "{event: give_connect, from: [flowing, ",
        },
    ),
    "the last message is lost": (
        "the disconnect overtook a message",
        {
            GIVE_MESSAGE + "if: unread": "{event: give_message, from: [flowing, silent], if: unread",
            GIVE_MESSAGE + "if: not unread": "{event: give_message, from: [flowing, silent], if: not unread",
            GIVE_MESSAGE_LATE: GIVE_MESSAGE_LATE.replace("ended", "[disconnect_due, ended]"),
            GIVE_DISCONNECT: GIVE_DISCONNECT.replace("if: not unread, ", ""),
            WITHHELD: "",
        },
    ),
    "a second Close answers the peer's": (
        "one_close",
        {ANSWERED: ANSWERED.replace("[end_transport]", "[{send_close: {code: 1000}}, end_transport]")},
    ),
    "a close of the app is taken and no Close is sent": (
        "closing_begins_with_a_close",
        {
            CLOSES: CLOSES.replace(
                "effects: [{send_close: {code: $message.code, reason: $message.reason}}],\n       ", ""
            )
        },
    ),
    "the end is not told before the accept": (
        "the end is not told",
        {TOLD: TOLD.replace("[waiting, flowing]", "flowing")},
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_that_is_planted_in_the_spec_is_found(name: str, tmp_path: Path) -> None:
    expected, edits = MUTANTS[name]
    text = SPEC.read_text()
    for old, new in edits.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    copy = tmp_path / "lifecycle.yaml"
    copy.write_text(text)
    spec = load_spec(copy)
    mutant = type("Mutant", (AnyOrder,), {"machine": build(spec, spec.reference, "mutant")})
    with pytest.raises(AssertionError, match=expected):
        run_state_machine_as_test(mutant, settings=settings(SETTINGS, phases=(Phase.generate,)))
