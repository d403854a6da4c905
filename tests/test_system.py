"""What the machine is put among, and that it is the machine that decides there.

The states and moves are those that can be reached with one message in each queue, where all is advertised that may be.
Each rule of the surroundings is held against all of them; then random runs, from all beginnings, are played to a real
`Connection` beside them, which has to be where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from wslifecycle import WAIT, ApplicationViolation, Connection, Disconnected
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.explore import Graph, Table
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import load_spec, parse_spec
from wslifecycle.statemachine.machine import build, lifecycle
from wslifecycle.statemachine.model import Actor
from wslifecycle.statemachine.model import Kind as Refusal
from wslifecycle.statemachine.properties import Kind
from wslifecycle.statemachine.queues import FOLLOWED, HELD, LOW, PAUSED, SENDING, UNREAD, WRITTEN, Inbound, Outbound
from wslifecycle.statemachine.system import ACTIONS, TRANSPORT, Bounds, Control, Move, System, vocabulary

SPEC = load_spec()
TEXT = (Path(__file__).parent.parent / "spec" / "lifecycle.yaml").read_text(encoding="utf-8")
ADVERTISED = frozenset(name for name, fact in SPEC.facts.items() if fact.fixed)
SMALL = Bounds(queue=0, receivers=1, facts=ADVERTISED)
QUEUES = Bounds(queue=1, receivers=1, facts=ADVERTISED)
FRAMES = {"peer_message", "peer_ping", "peer_close"}


@cache
def graph(**answers: str) -> Graph:
    """All that can be reached: of the reference with a message in each queue, of another profile with none."""
    flat = Flat(SPEC, {**SPEC.reference, **answers}, "other" if answers else "reference")
    return Graph(System(flat, SMALL if answers else QUEUES), (), 10**6)


@cache
def moves(explored: Graph) -> list[tuple[Control, Table, Move]]:
    """Every move that is possible somewhere, with the control and the flags under which it is."""
    return [
        (explored.control(table.control), table, way.move)
        for table in explored.tables.values()
        for way in (*table.ways, *table.still)
    ]


def teardown_module() -> None:
    """What is large is not kept for the tests of other modules."""
    graph.cache_clear()
    moves.cache_clear()


def states(explored: Graph) -> Iterator[tuple[Control, Any, Any]]:
    return (explored.state(node) for node in range(len(explored)))


# ------------------------------------------------------------------------------------------------ the machine decides


OTHERS: list[dict[str, str]] = [
    {},
    {"C43": "hangs", "C2": "stays_open"},
    {"C6": "raises", "C4": "no_reply", "C42": "unanswered"},
    {"C6": "waits", "C10": "none", "C11": "none", "C12": "none"},
    {"C15": "given", "C25": "lenient", "C41": "swallowed"},
]


@pytest.mark.parametrize("answers", OTHERS, ids=" ".join)
def test_every_answer_is_that_of_the_machine(answers: dict[str, str]) -> None:
    explored = graph(**answers)
    flat = explored.system.flat
    for control, table, move in moves(explored):
        if move.answer is None:
            assert move.event == move.action
            assert move.action in ACTIONS
            assert move.control.state == control.state
            continue
        case = control.facts | (flat.waiting if table.flags & UNREAD else 0)
        assert move.answer is flat.answers[move.event][case][control.state]
        assert move.control.state == (move.answer.target if move.answer.refusal is None else control.state)


@pytest.mark.parametrize("answers", OTHERS, ids=" ".join)
def test_receive_is_given_what_is_due_and_waits_while_nothing_is(answers: dict[str, str]) -> None:
    explored = graph(**answers)
    machine = build(SPEC, explored.system.flat.choices, "other")
    for table in explored.tables.values():
        control = explored.control(table.control)
        due = machine.due[control.facts | (machine.flat.waiting if table.flags & UNREAD else 0)][control.state]
        gifts = [way.move for way in (*table.ways, *table.still) if way.move.action == "gives"]
        if not control.receiving or due.refusal is Refusal.NOT_DUE:
            assert gifts == []
        else:
            (gift,) = gifts
            assert gift.answer == due
            assert gift.control.receiving == control.receiving - 1


def test_it_knows_no_state_by_its_name() -> None:
    """All states have other names: nothing else changes."""
    names = sorted({state for region in SPEC.regions.values() for state in region.states})
    text = TEXT
    for number, name in enumerate(names):
        text = re.sub(rf"\b{name}\b(?!\()", f"x{number}", text)
    spec = parse_spec(text)
    assert not {state for region in spec.regions.values() for state in region.states} & set(names)
    other = Graph(System(Flat(spec, spec.reference, "renamed"), SMALL), (), 10**6)
    same = Graph(System(Flat(SPEC, SPEC.reference, "same"), SMALL), (), 10**6)
    assert (len(other), other.transitions, other.targets) == (len(same), same.transitions, same.targets)


def test_timer_that_the_profile_leaves_off_may_run_out_and_need_not() -> None:
    assert graph().system.unfair == {"handshake_timeout", "keepalive_expired"}
    assert graph(C49="one_minute").system.unfair == {"keepalive_expired"}
    assert graph(C48="never").system.unfair == {"handshake_timeout", "keepalive_expired", "close_timeout"}
    assert "deadline" not in {move.action for _, _, move in moves(graph(C48="never"))}


# ------------------------------------------------------------------------------------------------ the surroundings


def test_it_begins_once_for_each_set_of_facts_that_never_change() -> None:
    flat = graph().system.flat
    starts, bits = list(System(flat, Bounds()).starts()), flat.bits
    assert {start.facts for start in starts} == {0, bits["denial"], bits["raising"], bits["denial"] | bits["raising"]}
    assert {start._replace(facts=0) for start in starts} == {
        Control("handshake/connect_due/running", 0, True, 0, False, False, False, "up",
                frozenset({"handshake_timeout"}), None, "")
    }  # fmt: skip


@pytest.mark.parametrize("names", ["denial raising", "denial", "raising", ""])
def test_it_may_begin_with_one_set_of_facts_only(names: str) -> None:
    facts = set(names.split())
    flat = graph().system.flat
    (start,) = System(flat, Bounds(facts=frozenset(facts))).starts()
    assert start.facts == sum(flat.bits[name] for name in facts)


def test_flags_that_a_move_asks_for_are_among_those_it_looks_at() -> None:
    for control in (graph().control(number) for number in range(0, graph().controls, 7)):
        for move in graph().system.moves(control):
            assert move.flags & ~move.mask == 0


def answering(*events: str) -> Graph:
    """The reference with an answer to what it calls impossible; it does nothing."""
    rows = tuple(
        replace(row, refusal=None) if row.refusal is Refusal.IMPOSSIBLE and {*events} & {*row.events} else row
        for row in SPEC.rows
    )
    return Graph(System(Flat(replace(SPEC, rows=rows), SPEC.reference, "answering"), SMALL), (), 10**6)


def test_frames_come_before_the_accept_where_the_machine_has_an_answer() -> None:
    early = {
        (move.event, move.says)
        for control, _, move in moves(answering(*FRAMES))
        if move.event in FRAMES and move.action == move.event and not control.upgraded and control.transport == "up"
    }
    assert early == {*(("peer_message", letter) for letter in "afb"), ("peer_ping", ""),
                     ("peer_close", "C"), ("peer_close", "N")}  # fmt: skip


def test_callable_ends_twice_where_the_machine_has_an_answer() -> None:
    again = {
        move.event
        for control, _, move in moves(answering("app_return"))
        if not control.called and not move.control.called
    }
    assert again >= {"app_return", "app_raise"}


def test_frames_come_only_after_the_handshake() -> None:
    explored = graph()
    for control, table, move in moves(explored):
        if move.event in FRAMES or move.action == "decodes":
            assert control.upgraded
            assert not table.flags & PAUSED
        if move.event in FRAMES and move.action != "decodes":
            assert not table.flags & HELD, "it overtakes what is held"


def test_nothing_is_held_of_a_peer_that_got_a_response() -> None:
    for control, inbound, _ in states(graph()):
        assert not (control.responded and inbound.held)
    assert all(not control.responded for control, _, move in moves(graph()) if move.action == "peer_writes")


def test_callable_ends_once() -> None:
    ends = ("app_return", "app_raise")
    for control, _, move in moves(graph()):
        assert move.control.called == (control.called and move.event not in ends)
        assert control.called or move.event not in ends
    assert {move.event for control, _, move in moves(graph()) if not control.called} > {"app_send", "app_close"}


def test_send_goes_on_only_where_it_waits_and_may() -> None:
    for control, table, move in moves(graph()):
        if move.action == "app_waited":
            assert table.flags & SENDING
            assert control.close_sent or control.transport != "up" or table.flags & LOW


def test_send_that_is_told_to_wait_on_does() -> None:
    hanging = [move for control, _, move in moves(graph(C43="hangs")) if move.action == "app_waited" and control.over]
    assert hanging
    assert not any(move.outbound for move in hanging)
    going = [move for _, _, move in moves(graph()) if move.action == "app_waited"]
    assert all(move.outbound[0] == ("go on", "") for move in going)


def test_transport_only_ever_goes_down() -> None:
    for control, _, move in moves(graph()):
        assert TRANSPORT.index(move.control.transport) >= TRANSPORT.index(control.transport)
        if control.transport in ("cut", "gone"):
            assert not move.event.startswith("peer_") or move.action == "transport_tells"
        if move.event == "peer_lost":
            assert move.control.transport == "gone"
            assert move.control.timers == frozenset()


def test_deadline_runs_from_the_end_of_the_transport_on() -> None:
    for control, _, move in moves(graph()):
        ends = any(call.effect == "end_transport" for call in move.answer.effects) if move.answer else False
        if "deadline" in move.control.timers - control.timers:
            assert ends
        if ends and move.answer is not None and move.control.transport == "ending":
            assert "deadline" in move.control.timers
        if move.action == "deadline":
            assert "deadline" in control.timers - move.control.timers
            assert (control.transport, move.control.transport) == ("ending", "cut")
        assert move.control.transport == "ending" or "deadline" not in move.control.timers


def test_transport_ends_in_peace_only_when_all_was_read() -> None:
    for control, table, move in moves(graph()):
        if move.action == "transport_ends":
            assert control.transport == "ending"
            assert not table.flags & WRITTEN


def test_timers_run_out_only_where_the_spec_has_them_run() -> None:
    flat = graph().system.flat
    by_event = {timer.event: timer for timer in SPEC.timers.values()}
    for control, _, move in moves(graph()):
        local = dict(zip(flat.regions, control.state.split("/"), strict=True))
        assert all(
            local[SPEC.timers[name].region] in SPEC.timers[name].states for name in control.timers - {"deadline"}
        )
        if move.event in by_event:
            assert (by_event[move.event].name in control.timers) == (move.action != "late")
            if move.action != "late":
                assert by_event[move.event].name not in move.control.timers


def test_timer_that_runs_out_late_changes_no_other_timer_by_itself() -> None:
    late = [(control, move) for control, _, move in moves(graph()) if move.action == "late"]
    assert {move.event for _, move in late} == {timer.event for timer in SPEC.timers.values()}
    for control, move in late:
        assert move.answer is not None
        if not move.answer.effects:
            assert move.control.timers == control.timers
            assert (move.inbound, move.outbound) == ((), ())


def test_timer_that_has_run_out_does_not_run_any_more_even_if_the_machine_ignores_it() -> None:
    rows = [
        replace(row, target=None, effects=(), assigns=()) if "handshake_timeout" in row.events else row
        for row in SPEC.rows
    ]
    deaf = Flat(replace(SPEC, rows=tuple(rows)), SPEC.reference, "deaf")
    explored = Graph(System(deaf, SMALL), (), 10**6)
    ran_out = [(control, move) for control, _, move in moves(explored) if move.action == "handshake_timeout"]
    assert ran_out
    for control, move in ran_out:
        assert control.timers - move.control.timers == {"handshake_timeout"}
        assert move.control.state == control.state


def test_all_that_is_written_and_not_read_is_lost_with_the_transport_and_only_then() -> None:
    """And a mark tells what it was."""
    losing = 0
    for _, table, move in moves(graph()):
        if ("drop", "") in move.outbound:
            losing += 1
            assert ("dropped" in move.marks) == bool(table.flags & WRITTEN)
            assert move.marks >= {"dropped"} or "followed" not in move.marks
            assert ("followed" in move.marks) == bool(table.flags & FOLLOWED)
            assert move.event in ("peer_lost", "deadline") or move.answer is not None
        else:
            assert "dropped" not in move.marks
    assert losing


def test_one_message_is_followed_and_those_around_it_keep_their_order() -> None:
    for control, inbound, outbound in states(graph()):
        came = re.sub("[CNVE]", "", inbound.unread + inbound.held)
        assert re.fullmatch("a*f?b*", came)
        assert re.fullmatch("[ab]*|[^b]*f[^f]*", outbound.written)  # what is no message is an `a`
        assert control.follows == "peer" or not {*came} & {*"fb"}
        assert control.follows == "app" or not {*outbound.written} & {*"fb"}
    assert {control.follows for control, _, _ in states(graph())} == {"", "app", "peer"}


def test_queues_are_bounded() -> None:
    for control, inbound, outbound in states(graph()):
        assert max(len(inbound.unread), len(outbound.written)) <= 2  # one over the bound
        assert len(inbound.held) <= 1
        assert control.receiving <= 1


def test_several_receive_calls_may_wait() -> None:
    flat = graph().system.flat
    several = Graph(System(flat, Bounds(queue=0, receivers=2, facts=ADVERTISED)), (), 10**6)
    assert {control.receiving for control, _, _ in states(several)} == {0, 1, 2}
    for control, _, move in moves(several):
        changes = {"app_asks": 1, "app_cancels": -1, "gives": -1}.get(move.action, 0)
        assert move.control.receiving - control.receiving == changes


@pytest.mark.parametrize("bounds", [{"connections": 0}, {"queue": -1}, {"receivers": -1}])
def test_bounds_that_mean_nothing_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Bounds(**bounds)


def test_all_that_may_happen_has_a_name_in_the_vocabulary_and_happens() -> None:
    known = vocabulary(SPEC.regions, SPEC.facts, SPEC.timers, SPEC.events, SPEC.effects)
    happening = {name for _, _, move in moves(graph()) for name in (move.event, move.action)}
    happening |= {name for _, _, move in moves(graph(C49="one_minute")) for name in (move.event, move.action)}
    assert happening == known[Kind.EVENT]
    marks = {mark for _, _, move in moves(graph()) for mark in move.marks}
    marks |= {mark for _, _, move in moves(graph(C7="abnormal")) for mark in move.marks}
    rows = tuple(replace(row, effects=row.effects * 2) if "app_send" in row.events else row for row in SPEC.rows)
    stutters = Graph(System(Flat(replace(SPEC, rows=rows), SPEC.reference, "stutters"), SMALL), (), 10**6)
    marks |= {mark for _, _, move in moves(stutters) for mark in move.marks}
    twice = {move.event for _, _, move in moves(stutters) if "twice" in move.marks}
    assert twice == {"app_send"}, "those that start or cancel several timers are none"
    assert marks == known[Kind.MARK]
    assert {call.effect for _, _, move in moves(graph()) if move.answer for call in move.answer.effects} == (
        known[Kind.EFFECT] - {"pause_reading"}  # which is the connection's own
    )


# ------------------------------------------------------------------------------------------------ a real connection


DENIAL = "websocket.http.response"
MESSAGES: dict[str, dict[str, Any]] = {
    "app_accept": {"type": "websocket.accept"},
    "app_send": {"type": "websocket.send", "text": "x"},
    "app_close": {"type": "websocket.close"},
    "app_response_start": {"type": f"{DENIAL}.start", "status": 401},
    "app_response_body": {"type": f"{DENIAL}.body", "more_body": True},
    "app_response_end": {"type": f"{DENIAL}.body"},
}
LOUD = {"app_close", "app_return", "app_raise", "peer_close", "peer_violation", "peer_eof", "peer_lost"}
LOUD |= {"server_shutdown", "app_response_start", "app_response_end", *(timer.event for timer in SPEC.timers.values())}
"""What ends most runs too soon."""
TIMER_OF = {timer.event: timer.name for timer in SPEC.timers.values()}


class Real:
    """A connection, and what a shell would know of it: whether reading is paused."""

    def __init__(self, start: Control, bound: int) -> None:
        bits = lifecycle().flat.bits
        self.connection = Connection(
            spec_version="2.5" if start.facts & bits["raising"] else "2.3",
            extensions=[DENIAL] if start.facts & bits["denial"] else [],
            timeouts=dict.fromkeys(SPEC.timers, 5),
            unread=(bound, None),
        )
        self.paused = False
        self.running: set[str] = set()
        self.does(self.connection.started())

    def does(self, effects: tuple[fx.Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case fx.PauseReading():
                    self.paused = True
                case fx.ResumeReading() | fx.EndTransport() | fx.AbortTransport():
                    self.paused = False
                case fx.StartTimer(timer):
                    self.running.add(timer)
                case fx.CancelTimer(timer):
                    self.running.discard(timer)

    def plays(self, move: Move) -> None:
        """Does what a move does; what a receive() is given has to be what the move says."""
        connection = self.connection
        try:
            match move.event:
                case event if event in MESSAGES:
                    self.does(connection.app_sent(MESSAGES[event]))
                case event if SPEC.events.get(event) is not None and SPEC.events[event].actor is Actor.GIVEN:
                    given = connection.app_wants()
                    assert given.message is not None
                    assert given.message["type"] == SPEC.events[event].message
                    assert given.message.get("text", move.says) == move.says
                    self.does(given.effects)
                case "app_waited":
                    assert connection.app_waited()
                case "app_return":
                    self.does(connection.app_returned())
                case "app_raise":
                    self.does(connection.app_raised(ValueError()))
                case "peer_message":
                    self.does(connection.peer_sent(move.says))
                case "peer_ping":
                    self.does(connection.peer_pinged(b""))
                case "peer_close":
                    self.does(connection.peer_closed(None if move.says == "N" else 1000))
                case "peer_violation":
                    self.does(connection.peer_violated(1002))
                case "peer_eof":
                    self.does(connection.peer_eof())
                case "peer_lost":
                    self.does(connection.peer_lost())
                    self.running.clear()
                case "server_shutdown":
                    self.does(connection.shutdown())
                case event if event in TIMER_OF:
                    assert (TIMER_OF[event] in self.running) == (move.action != "late")
                    self.running.discard(TIMER_OF[event])
                    self.does(connection.timed_out(TIMER_OF[event]))
                case around:
                    assert around in ACTIONS
        except (ApplicationViolation, Disconnected):
            assert move.answer is not None
            assert move.answer.refusal is not None
        else:
            assert move.answer is None or move.answer.refusal is None


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_a_real_connection_goes_the_same_ways(bound: int) -> None:
    system = System(lifecycle().flat, Bounds(queue=bound, receivers=2))
    queues, draw, moves_of = system.queues, Random(bound), cache(lambda control: list(system.moves(control)))
    met = set()
    for _ in range(250):
        control = draw.choice(list(system.starts()))
        inbound, outbound = Inbound(), Outbound()
        real = Real(control, bound)
        for _ in range(30):
            flags = queues.flags_of_inbound(inbound) | queues.flags_of_outbound(outbound)
            possible = [move for move in moves_of(control) if flags & move.mask == move.flags]
            quiet = [move for move in possible if move.event not in LOUD]
            move = draw.choice(quiet if quiet and draw.random() < 0.9 else possible)
            if control.receiving and "gives" not in {other.action for other in possible}:
                assert real.connection.app_wants() is WAIT
            real.plays(move)
            met.add((move.event, control.state))
            control = move.control
            for op in move.inbound:
                inbound = queues.inbound_after(inbound, op)
            for op in move.outbound:
                outbound = queues.outbound_after(outbound, op)
            assert real.connection.state == control.state
            assert len(real.connection._unread) == len(inbound.unread)
            assert bool(real.connection.case & lifecycle().flat.waiting) == bool(inbound.unread)
            assert real.paused == inbound.paused
            assert real.running == control.timers - {"deadline"}
    assert len(met) > 350
