"""The reference holds, and whatever is broken in it is found: each built-in check, each promise, each possibility.

Faults are planted in the rows of the spec. A run that is shown is walked again, step by step, and the monitor of its
property, which knows nothing of how it was found, has to be content with all steps but the last.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from wslifecycle.statemachine.check import BUILT_IN, Report, Violation, check, parsed_properties
from wslifecycle.statemachine.explore import Graph, TooLarge
from wslifecycle.statemachine.flatten import Flat, compile_profile
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.model import Kind, Property, Row, Spec
from wslifecycle.statemachine.properties import Form, Monitor, Step, judge, parse
from wslifecycle.statemachine.search import Hit
from wslifecycle.statemachine.system import FLAGS, Bounds, Control, vocabulary

SPEC = load_spec()
FLAT = compile_profile(SPEC)
KNOWN = vocabulary(SPEC.regions, SPEC.facts, SPEC.timers, SPEC.events, SPEC.effects)
ADVERTISED = frozenset(name for name, fact in SPEC.facts.items() if fact.fixed)
SMALL, QUEUES = Bounds(queue=0, receivers=1), Bounds(queue=1, receivers=1)


def checked(flat: Flat, *names: str, bounds: Bounds = SMALL) -> Report:
    """The same for connections with all the facts that may hold from the beginning: a quarter of the states."""
    return check(flat, replace(bounds, facts=ADVERTISED), names)


def forms(*wanted: Form) -> list[str]:
    return [name for name, declared in SPEC.properties.items() if parse(declared.holds).form in wanted]


def teardown_module() -> None:
    """What is large is not kept for the tests of other modules."""
    for large in (what_does_not_hold, what_holds, forbidden):
        large.cache_clear()


def names(report: Report) -> set[str]:
    return {violation.name for violation in report.violations}


# ------------------------------------------------------------------------------------------------ faults


Fault = tuple[str, str, dict[str, Any]]
"""An event, the states of a region in which its rows are changed, and what they say there instead of what they said."""

NOTHING: dict[str, Any] = {"target": None, "effects": (), "assigns": (), "gives": None, "checks": (), "refusal": None}
IMPOSSIBLE: dict[str, Any] = {"refusal": Kind.IMPOSSIBLE}
WAITS: dict[str, Any] = {"refusal": Kind.NOT_DUE}
OVER = "closing failing closed"


def changed(row: Row, event: str, states: set[str], says: Mapping[str, Any]) -> Iterator[Row]:
    """A row, and what is to be in its place for one event in some states; where it waits, it still does."""
    here = tuple(state for state in row.sources if state in states)
    if event not in row.events or not here or row.refusal is Kind.NOT_DUE:
        yield row
        return
    if others := tuple(other for other in row.events if other != event):
        yield replace(row, events=others)
    if elsewhere := tuple(state for state in row.sources if state not in states):
        yield replace(row, events=(event,), sources=elsewhere)
    yield replace(row, events=(event,), sources=here, **{**NOTHING, **says})


def planted(*faults: Fault, spec: Spec = SPEC, **more: Any) -> Flat:
    """A machine with faults."""
    rows = spec.rows
    for event, states, says in faults:
        before = rows
        rows = tuple(new for row in rows for new in changed(row, event, set(states.split()), says))
        assert rows != before
    return Flat(replace(spec, rows=rows, **more), spec.reference, "mutant")


def with_properties(*properties: Property) -> Flat:
    spec = replace(SPEC, properties={declared.name: declared for declared in properties})
    return Flat(spec, spec.reference, "mutant")


def all_of(*holds: str, fair: tuple[str, ...] = ()) -> Flat:
    """The reference with other properties: each is named by what it says."""
    return with_properties(*(Property(text, text, "R1", 7, fair) for text in holds))


# ------------------------------------------------------------------------------------------------ runs


def holding(graph: Graph, node: int) -> frozenset[str]:
    """What holds in a state, said plainly."""
    control, inbound, outbound = graph.state(node)
    queues = {"unread": bool(inbound.unread), "paused": inbound.paused, "sending": outbound.sending}
    assert queues.keys() == FLAGS.keys()
    return graph.system.terms(control) | {name for name, so in queues.items() if so}


def steps_of(graph: Graph, steps: Iterable[tuple[int, int]], start: int | None = None) -> Iterator[Step]:
    """The steps of a run as a monitor sees them; each has to be possible where the run is."""
    here = start
    for node, number in steps:
        assert here in (None, node)
        table, targets = graph.of[node], graph.targets[node]
        move = (*table.ways, *table.still)[number].move
        here = targets[number] if number < len(targets) else node
        answer = move.answer
        effects = frozenset(call.effect for call in answer.effects) if answer else frozenset[str]()
        refused = str(answer.refusal or "") if answer is not None else ""
        yield Step(move.event, holding(graph, node), holding(graph, here), effects, refused, move.marks, move.action)


def assert_real(report: Report, violation: Violation) -> None:
    """Walks a run that is shown: from a beginning, and so that it breaks its property."""
    hit, declared = violation.run, violation.declared
    assert hit is not None
    assert declared is not None
    assert (hit.steps[0][0] if hit.steps else hit.ends) < report.graph.starts
    taken = list(steps_of(report.graph, hit.steps))
    parsed = parse(declared.holds, KNOWN)
    if parsed.form is Form.LEADS_TO:
        assert_unanswered(report, hit, declared, taken)
        return
    monitor = Monitor(declared, KNOWN)
    *before, last = [monitor.observe(step) for step in taken]
    assert all(before)
    assert not last


def assert_unanswered(report: Report, hit: Hit, declared: Property, taken: list[Step]) -> None:
    graph, parsed = report.graph, parse(declared.holds, KNOWN)
    assert parsed.second is not None
    asks, answers = judge(parsed.first), judge(parsed.second)
    idle = Step("", holding(graph, hit.ends), holding(graph, hit.ends))
    owed = False
    for step in (*taken, idle):
        quiet = Step("", step.before, step.before)
        owed = owed or (asks(quiet) and not answers(quiet))
        owed = not answers(step) and (owed or asks(step))
    assert owed
    fair = set(declared.fair) - graph.system.unfair
    if not hit.round:
        assert not fair & graph.of[hit.ends].actions
        return
    round_ = list(steps_of(graph, hit.round, hit.ends))
    assert not any(map(answers, round_))
    tables = [graph.of[node] for node, _ in hit.round]
    moves = [
        (*table.ways, *table.still)[number].move.action for table, (_, number) in zip(tables, hit.round, strict=True)
    ]
    assert all(action in moves or any(action not in table.actions for table in tables) for action in fair)
    assert not set(declared.rare) & set(moves)


def length_of(violation: Violation) -> int:
    assert violation.run is not None
    return len(violation.run.steps)


# ------------------------------------------------------------------------------------------------ the reference


def test_reference_holds() -> None:
    report = check(FLAT, QUEUES)
    assert report.violations == ()
    assert report.findings == ()
    assert report.holds
    assert report.flat is FLAT
    assert [declared.name for declared in report.properties] == list(SPEC.properties)
    assert len(report.graph) > 50_000


def test_every_rule_about_an_order_has_a_property() -> None:
    assert {rule.number for rule in SPEC.rules.values() if rule.order} <= {
        declared.rule for declared in SPEC.properties.values()
    }


def test_properties_may_be_chosen() -> None:
    report = checked(FLAT, "one_close", "end_is_told")
    assert [declared.name for declared in report.properties] == ["one_close", "end_is_told"]
    assert report.holds
    assert len(report.graph.bits.bit) < 10


def test_unknown_property_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match=r"no property 'no_close'\. There are connect_once, "):
        check(FLAT, SMALL, ["no_close"])
    assert gc.isenabled()


def test_too_many_states_are_an_error_and_leave_all_as_it_was() -> None:
    with pytest.raises(TooLarge):
        check(FLAT, SMALL, ["one_close"], limit=50)
    assert gc.isenabled()


def test_garbage_is_collected_afterwards_only_if_it_was_before() -> None:
    gc.disable()
    try:
        checked(FLAT, "one_close")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_other_profiles_are_reported_and_not_refused() -> None:
    flat = compile_profile(SPEC, {**SPEC.reference, "C26": "raises"}, "other")
    report = checked(flat, "streaming_is_possible", bounds=QUEUES)
    assert "streaming_is_possible" in names(report)
    assert {finding.code for finding in report.findings} == {"WSL030", "WSL033"}
    assert not report.holds
    unsound_only = checked(compile_profile(SPEC, {**SPEC.reference, "C8": "ignored"}, "other"), "one_close")
    assert not unsound_only.violations
    assert not unsound_only.holds


def test_all_properties_can_be_read_at_once() -> None:
    assert parsed_properties(FLAT).keys() == SPEC.properties.keys()
    assert all(parsed.first for _, parsed in parsed_properties(FLAT, ["one_close"]).values())


# ------------------------------------------------------------------------------------------------ shortest runs


PATHS = {
    "never app_send": "app_close app_send",
    "always app_close implies wire=handshake": "app_close app_close",
    "never effect=end_response": "app_response_start app_response_body app_response_end",
    "at most once effect=send_message": "app_accept app_send app_send",
    "give_connect before app_accept": "app_accept",
    "app_send before app_accept and moved": "app_accept",
    "never receiving and app_waited": "app_accept app_asks peer_reads app_waited",
    "never give_message": "app_asks gives app_asks app_accept peer_message gives",
    "at most once give_disconnect": "app_close app_asks gives app_asks gives app_asks gives",
    "never transport=gone": "peer_lost app_asks",
    "never deadline": "app_close deadline",
    "at most once peer_reads": "app_accept peer_reads app_send peer_reads",
    "never peer_close and close_sent": "app_accept app_close peer_close",
}
"""For what does not hold a shortest run; it may be another of the same length."""


@cache
def what_does_not_hold() -> Report:
    return checked(all_of(*PATHS))


@pytest.mark.parametrize("holds", PATHS)
def test_counterexample_is_a_shortest_run(holds: str) -> None:
    report = what_does_not_hold()
    (violation,) = (violation for violation in report.violations if violation.name == holds)
    assert_real(report, violation)
    assert length_of(violation) == len(PATHS[holds].split())
    assert (violation.says, violation.rule, violation.declared) == (holds, "R1", report.flat.spec.properties[holds])
    assert violation.finding.text == f"{holds} does not hold: {holds}."
    assert (violation.finding.code, violation.finding.line) == ("WSL034", 7)
    assert violation.finding.fix.endswith(".")


def test_run_without_an_answer_is_shown_with_what_is_repeated() -> None:
    """A peer that sends for ever and an app that never asks; there is no such round where nothing is fair."""
    report = checked(all_of("app_accept leads to peer_lost", fair=("app_send", "peer_reads")))
    (violation,) = report.violations
    assert_real(report, violation)
    assert violation.run is not None
    assert {"app_send", "peer_reads"} <= {
        (*report.graph.of[node].ways, *report.graph.of[node].still)[number].move.action
        for node, number in violation.run.round
    }
    idle = checked(all_of("app_accept leads to peer_lost"))
    (violation,) = idle.violations
    assert_real(idle, violation)
    assert violation.run is not None
    assert (length_of(violation), violation.run.round) == (1, ())


# ------------------------------------------------------------------------------------------------ what is built in


def test_every_built_in_check_is_tested_below() -> None:
    tests = [name for name in globals() if name.startswith("test_")]
    assert all(any(f"_{built_in}_" in name for name in tests) for built_in in BUILT_IN)


def ends_of(report: Report, name: str) -> tuple[Control, Violation]:
    (violation,) = (violation for violation in report.violations if violation.name == name)
    assert violation.run is not None
    assert violation.says == BUILT_IN[name]
    list(steps_of(report.graph, violation.run.steps))
    return report.graph.state(violation.run.ends)[0], violation


def test_event_that_is_impossible_and_happens_is_found() -> None:
    report = checked(planted(("peer_ping", "closing", IMPOSSIBLE)), "one_close")
    assert names(report) == {"impossible"}
    control, violation = ends_of(report, "impossible")
    assert control.state.startswith("closing/")
    assert length_of(violation) == 3  # app_accept, app_close, peer_ping


def test_receive_that_waits_for_ever_is_a_deadlock_and_is_found() -> None:
    untold = tuple(coupling for coupling in SPEC.couplings if coupling.target != "disconnect_due")
    report = checked(planted(couplings=untold), "one_close")
    assert names(report) == {"deadlock"}
    control, violation = ends_of(report, "deadlock")
    assert control.transport == "gone"
    assert control.receiving
    assert length_of(violation) == 4  # app_asks, gives, app_asks, peer_lost


def test_send_that_waits_for_ever_is_a_deadlock_and_is_found() -> None:
    report = checked(planted(("app_waited", "closed", WAITS)), "one_close")
    assert names(report) == {"deadlock"}
    control, violation = ends_of(report, "deadlock")
    assert control.transport == "gone"
    assert report.graph.state(violation.run.ends)[2].sending if violation.run else False
    assert length_of(violation) == 2  # app_accept, peer_lost


def test_state_from_which_no_end_is_reached_is_a_trap_and_is_found() -> None:
    """One of the surroundings, as the transport cannot tell of its end twice: none of the machine alone."""
    report = checked(planted(("peer_lost", "failing", {})), "one_close")
    assert names(report) == {"trap"}
    control, violation = ends_of(report, "trap")
    assert (control.state.split("/")[0], control.transport) == ("failing", "gone")
    assert not report.findings
    assert length_of(violation) == 3  # app_accept, peer_violation, peer_lost


def haunted(*rows: Row) -> Flat:
    """A machine with a state more, in which an app is like one that is done, and with these rows in place of others."""
    app = SPEC.regions["app"]
    regions = {**SPEC.regions, "app": replace(app, states={**app.states, "ghost": replace(GHOST, name="ghost")})}
    kept = [row for row in SPEC.rows if row.region != "app" or "app_return" not in row.events]
    kept += [replace(row, sources=("ghost",)) for row in SPEC.rows if row.region == "app" and "done" in row.sources]
    like_done = [
        replace(row, elsewhere={**row.elsewhere, "app": row.elsewhere["app"] | {"ghost"}})
        if "done" in row.elsewhere.get("app", ())
        else row
        for row in kept
    ]
    return Flat(replace(SPEC, regions=regions, rows=(*like_done, *rows)), SPEC.reference, "haunted")


GHOST = SPEC.regions["app"].states["done"]
(ENDS,) = (row for row in SPEC.rows if row.region == "app" and row.target == "done")
(ENDED,) = (row for row in SPEC.rows if row.region == "app" and row.sources == ("done",))


def ghosts(flat: Flat) -> set[str]:
    found = {state for state in flat.state_of if state.endswith("/ghost")}
    assert found
    return found


def never_reached(report: Report) -> set[str]:
    (violation,) = (violation for violation in report.violations if violation.name == "unreachable")
    assert violation.run is None
    return set(violation.says.removeprefix("never reached: ").split(", "))


def test_state_that_a_move_would_lead_to_is_unreachable_where_the_move_is_impossible() -> None:
    """An app that raises while a message is unread before the handshake, where none can be."""
    handshake = {"wire": frozenset({"handshake"})}
    raises = replace(ENDS, events=("app_raise",))
    flat = haunted(
        ENDED,
        replace(ENDS, events=("app_return",)),
        replace(raises, elsewhere={"wire": frozenset(SPEC.regions["wire"].states) - {"handshake"}}),
        replace(raises, elsewhere=handshake, guards=(("unread", False),)),
        replace(raises, elsewhere=handshake, guards=(("unread", True),), target="ghost"),
    )
    report = checked(flat, "one_close", bounds=QUEUES)
    listed = {report.graph.state_of(number) for number in range(report.graph.controls)}
    assert listed & ghosts(flat), "there is such a move"
    assert never_reached(report) == ghosts(flat)


VACUOUS = (
    "always give_message and told implies wire=closed",
    "at most once give_message and told",
    "app_send before give_message and told",
    "give_message and told leads to wire=closed",
    "sending and paused and close_sent leads to wire=closed",
)
HOLDING = (
    "always app_send implies not (give_message and told)",
    "always not (give_message and told)",
    "never give_message and told",
    "sometimes app_send",
    "sometimes peer_writes and paused",
    "at most once give_connect",
    "paused leads to (paused or not paused)",
)


@cache
def what_holds(bounds: Bounds) -> Report:
    return checked(all_of(*VACUOUS, *HOLDING), bounds=bounds)


def test_property_that_is_vacuous_is_found() -> None:
    said = [violation.says for violation in what_holds(QUEUES).violations]
    assert {violation.name for violation in what_holds(QUEUES).violations} == {"vacuous"}
    assert [text for text in VACUOUS if any(says.startswith(f"{text} holds for nothing") for says in said)] == [
        *VACUOUS
    ]
    assert len(said) == len(VACUOUS)
    assert {violation.line for violation in what_holds(QUEUES).violations} == {7}


def test_what_bounds_are_too_small_for_is_not_reported() -> None:
    assert what_holds(SMALL).violations == ()


# ------------------------------------------------------------------------------------------------ promises

BROKEN_BY: dict[str, tuple[Fault, ...]] = {
    "connect_is_given": (("give_connect", "connect_due", WAITS),),
    "close_is_seen": (("app_close", "handshake", {}),),
    "flood_is_answered": (("peer_violation", "handshake denial_held", {}),),
    "timeout_answers": (("handshake_timeout", "handshake denial_held", {}),),
    "close_is_answered": (("peer_close", "open", {}),),
    "both_closes_end_it": (("peer_close", "closing", {}),),
    "sent_is_read": (("app_send", "open", {}),),
    "send_goes_on": (("app_waited", "handshake denial_held denying open", WAITS),),
    "send_ends_with_the_connection": (("app_waited", OVER, WAITS),),
    "message_is_given": (("peer_message", "open", {}),),
    "end_is_told": (("give_disconnect", "disconnect_due", WAITS),),
    "receive_ends_with_the_connection": (("give_disconnect", "disconnect_due", WAITS),),
    "reading_goes_on": (("give_message", "flowing disconnect_due silent", {"gives": None}),),
    "close_leads_to_the_end": (("close_timeout", "closing failing", {}),),
    "end_is_reached": (("close_timeout", "closing failing", {}),),
    "return_ends_it": (("app_return", "open", {}),),
    "raise_ends_it": (("app_raise", "open", {}),),
    "violation_ends_it": (("peer_violation", "open", {}),),
    "shutdown_ends_it": (("server_shutdown", "open", {}),),
    "silence_ends_it": (("keepalive_expired", "open", {}),),
}
"""For each promise a fault of the machine that breaks it."""


def test_every_promise_has_a_fault_that_breaks_it() -> None:
    assert BROKEN_BY.keys() == set(forms(Form.LEADS_TO))


@pytest.mark.parametrize("name", BROKEN_BY)
def test_promise_is_broken_by_a_fault_of_the_machine(name: str) -> None:
    report = checked(planted(*BROKEN_BY[name]), name)
    (violation,) = (violation for violation in report.violations if violation.name == name)
    assert_real(report, violation)


NEEDLESS = {(name, "transport_ends") for name in forms(Form.LEADS_TO) if "transport_ends" in SPEC.properties[name].fair}
"""What a promise may do without: a transport that never ends by itself is aborted at the deadline."""


def weakened() -> Iterator[tuple[str, str, Property]]:
    """Each promise with one of its assumptions less."""
    for name in forms(Form.LEADS_TO):
        declared = SPEC.properties[name]
        for action in declared.fair:
            fair = tuple(other for other in declared.fair if other != action)
            yield name, action, replace(declared, name=f"{name} {action}", fair=fair)
        for action in declared.rare:
            rare = tuple(other for other in declared.rare if other != action)
            yield name, action, replace(declared, name=f"{name} {action}", rare=rare)


def test_promises_rely_on_all_that_they_say_they_rely_on() -> None:
    wanted = list(weakened())
    report = checked(with_properties(*(declared for _, _, declared in wanted)))
    for violation in report.violations:
        if violation.declared is not None:
            assert_real(report, violation)
    kept = {(name, action) for name, action, declared in wanted if declared.name not in names(report)}
    assert kept == NEEDLESS


# ------------------------------------------------------------------------------------------------ possibilities


def mute() -> Flat:
    """A machine that obeys nothing."""
    quiet = [row if row.refusal is Kind.NOT_DUE else replace(row, **NOTHING) for row in SPEC.rows]
    rows = [replace(row, refusal=Kind.NOT_DUE) if row.region == "inbox" else row for row in quiet]
    return Flat(replace(SPEC, rows=tuple(rows)), SPEC.reference, "mute")


ALWAYS_POSSIBLE = {"early_message_is_possible"}
"""What the surroundings do whatever the machine is."""


def test_what_is_possible_is_not_so_on_a_machine_that_obeys_nothing() -> None:
    report = checked(mute(), bounds=QUEUES)
    assert names(report) & set(forms(Form.SOMETIMES)) == set(forms(Form.SOMETIMES)) - ALWAYS_POSSIBLE
    assert {violation.name: violation.run for violation in report.violations}["accept_is_possible"] is None


@pytest.mark.parametrize("name", forms(Form.SOMETIMES))
def test_what_is_possible_is_shown_by_a_run_where_it_is_forbidden(name: str) -> None:
    report = forbidden()
    (violation,) = (violation for violation in report.violations if violation.name == name)
    assert_real(report, violation)


@cache
def forbidden() -> Report:
    """Every possibility as what never is."""
    possible = [SPEC.properties[name] for name in forms(Form.SOMETIMES)]
    turned = [replace(declared, holds=declared.holds.replace("sometimes", "never", 1)) for declared in possible]
    return checked(with_properties(*turned), bounds=QUEUES)
