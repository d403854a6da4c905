"""The language of the properties, the monitors that watch runs, and the checker that searches the machine.

Every property of the spec holds of the reference, and every one of them can fail: `BROKEN` has a run by hand for each
that forbids something, and each `sometimes` fails on a machine without it.
"""

import dataclasses

import pytest

from wslifecycle.statemachine import properties
from wslifecycle.statemachine.flatten import Flat, compile_profile
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.model import Kind, Property, Row, Spec
from wslifecycle.statemachine.properties import Form, Monitor, PropertyError, Step, check, parse, step_of

SPEC = load_spec()
FLAT = compile_profile(SPEC)
KNOWN = {"state": {"wire=open", "wire=closed"}, "effect": {"effect=ping"}, "event": {"a", "b", "c"}}


def step(event: str, before: str = "", after: str | None = None, effects: str = "", *, refused: bool = False) -> Step:
    states = frozenset(before.split())
    return Step(
        event, states, states if after is None else frozenset(after.split()), frozenset(effects.split()), refused
    )


def monitor(holds: str) -> Monitor:
    return Monitor(Property("mine", holds, "R1", 1))


def run(holds: str, *steps: Step) -> list[bool]:
    """What a monitor says to each step."""
    watching = monitor(holds)
    return [watching.observe(taken) for taken in steps]


# ------------------------------------------------------------------------------------------------ the language


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("always a", Form.ALWAYS),
        ("never a", Form.NEVER),
        ("at most once a", Form.AT_MOST_ONCE),
        ("sometimes a", Form.SOMETIMES),
        ("a before b", Form.BEFORE),
        ("a leads to b", Form.LEADS_TO),
    ],
)
def test_form_is_read(text: str, form: Form) -> None:
    parsed = parse(text, KNOWN)
    assert parsed.form is form
    assert (parsed.second is not None) == (form in (Form.BEFORE, Form.LEADS_TO))


@pytest.mark.parametrize(
    ("term", "true"),
    [
        ("a", True),
        ("b", False),
        ("not b", True),
        ("not not a", True),
        ("wire=open", True),
        ("after wire=open", False),
        ("after wire=closed", True),
        ("after (wire=open or wire=closed)", True),
        ("after not wire=open", True),
        ("effect=ping", True),
        ("moved", True),
        ("refused", False),
        ("a or a and b", True),  # and binds tighter than or
        ("(a or a) and b", False),
        ("not b and b", False),  # not binds tighter than and
        ("not (b and b)", True),
        ("a or b implies b", False),  # implies binds loosest
        ("a or (b implies b)", True),
        ("b implies b implies b", True),  # and to the right
        ("(b implies b) implies b", False),
        ("b implies a", True),
    ],
)
def test_expression_has_its_value(term: str, true: bool) -> None:
    taken = step("a", "wire=open", "wire=closed", "ping")
    assert parse(f"always {term}", KNOWN).first(taken) is true


def test_refused_event_did_not_take_place() -> None:
    taken = step("a", "wire=open", refused=True)
    assert not parse("always a").first(taken)
    assert parse("always refused and not moved").first(taken)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "`` has none of the forms always, never, at most once, sometimes, before, leads to"),
        ("a and b", "`a and b` has none of the forms"),
        ("at most twice a", "has none of the forms"),
        ("always", "it ends too soon"),
        ("always a and", "it ends too soon"),
        ("a before", "it ends too soon"),
        ("always a b", "`b` was not expected"),
        ("always a)", "`)` was not expected"),
        ("always (a or b", "a bracket is not closed"),
        ("always a ? b", "`? b` is not a term"),
        ("always d", "there is no event `d`"),
        ("always wire=opened", "there is no state `wire=opened`"),
        ("always effect=pong", "there is no effect `effect=pong`"),
        ("always " + "(" * 200, "it has 201 words and may have 100"),
    ],
)
def test_error_says_what_is_wrong(text: str, error: str) -> None:
    with pytest.raises(PropertyError) as raised:
        parse(text, KNOWN)
    assert error in str(raised.value)


def test_deepest_property_that_is_allowed_can_be_read_and_asked() -> None:
    assert parse("always " + "(" * 49 + "a" + ")" * 49).first(step("a"))
    assert not parse("always " + "not " * 97 + "a").first(step("a"))


# ------------------------------------------------------------------------------------------------ monitors


A, B, C = step("a"), step("b"), step("c")


@pytest.mark.parametrize(
    ("holds", "steps", "verdicts"),
    [
        ("always a", (A, B, A), [True, False, True]),
        ("never b", (A, B, A), [True, False, True]),
        ("at most once a", (A, B, A, B), [True, True, False, True]),
        ("a before b", (C, B), [True, False]),
        ("a before b", (A, B, B), [True, True, True]),
        ("a before a", (A,), [False]),
        ("sometimes a", (B, B), [True, True]),
        ("a leads to b", (A, A), [True, True]),
    ],
)
def test_monitor_judges_a_run(holds: str, steps: tuple[Step, ...], verdicts: list[bool]) -> None:
    assert run(holds, *steps) == verdicts


def test_monitor_remembers_what_it_has_seen() -> None:
    watching = monitor("sometimes a")
    watching.observe(B)
    assert not watching.seen
    watching.observe(A)
    watching.observe(B)
    assert watching.seen


GIVE_CONNECT, GIVE_MESSAGE, GIVE_DISCONNECT = "give_connect", "give_message", "give_disconnect"

BROKEN: dict[str, tuple[Step, ...]] = {
    "connect_once": (step(GIVE_CONNECT), step(GIVE_CONNECT)),
    "connect_first": (step(GIVE_MESSAGE),),
    "reply_before_message": (step(GIVE_CONNECT), step(GIVE_MESSAGE)),
    "nothing_between_connect_and_reply": (step(GIVE_DISCONNECT, "wire=handshake"),),
    "handshake_completed_once": (step("app_accept", effects="complete_handshake"),) * 2,
    "accept_completes_it": (step("app_send", effects="complete_handshake"),),
    "answered_once": (step("app_accept", effects="complete_handshake"), step("app_close", effects="send_response")),
    "no_data_before_accept": (step("app_send", effects="send_message"),),
    "no_frame_after_denial": (step("app_close", "wire=denying", effects="send_close"),),
    "one_close": (step("app_close", effects="send_close"), step("peer_close", effects="send_close")),
    "no_data_after_close": (step("app_send", "wire=closing", effects="send_message"),),
    "one_disconnect": (step(GIVE_DISCONNECT, "inbox=disconnect_due"),) * 2,
    "disconnect_is_last": (step(GIVE_MESSAGE, "inbox=ended"),),
    "end_is_told": (step("peer_lost", "wire=open inbox=waiting", "wire=closed inbox=waiting"),),
    "done_ends_it": (step("app_return", "wire=open app=running", "wire=open app=done"),),
    "refused_changes_nothing": (step("app_send", "wire=open", "wire=closed", refused=True),),
    "closed_is_final": (step("app_accept", "wire=closed", "wire=open"),),
    "one_end": (step("close_timeout", "wire=closed", effects="abort_transport"),),
    "ended_transport": (step("peer_lost", "wire=open", "wire=closed"),),
    "silent_after_the_end": (step("peer_ping", "wire=failing", effects="send_pong"),),
    "failed_is_deaf": (step("peer_close", "wire=failing", "wire=closed"),),
}


def forms(*wanted: Form) -> list[str]:
    return [name for name, declared in SPEC.properties.items() if parse(declared.holds).form in wanted]


SAFETY = forms(Form.ALWAYS, Form.NEVER, Form.AT_MOST_ONCE, Form.BEFORE)


@pytest.mark.parametrize("name", SAFETY)
def test_every_safety_property_can_fail(name: str) -> None:
    *before, last = run(SPEC.properties[name].holds, *BROKEN[name])
    assert all(before)
    assert not last


def test_every_safety_property_has_a_broken_run() -> None:
    assert BROKEN.keys() == set(SAFETY)


# ------------------------------------------------------------------------------------------------ the checker


def test_all_properties_hold_of_the_reference() -> None:
    assert properties.findings(FLAT) == []
    verdicts = {verdict.property.name: verdict for verdict in check(FLAT)}
    assert verdicts.keys() == SPEC.properties.keys()
    unchecked = [name for name, verdict in verdicts.items() if verdict.holds is None]
    assert unchecked == forms(Form.LEADS_TO)


@pytest.mark.parametrize("name", forms(Form.SOMETIMES))
def test_what_is_possible_comes_with_a_run_that_shows_it(name: str) -> None:
    (verdict,) = (verdict for verdict in check(FLAT) if verdict.property.name == name)
    watching = Monitor(verdict.property)
    for number, answer in enumerate(verdict.path, 1):
        watching.observe(step_of(FLAT, answer))
        assert watching.seen == (number == len(verdict.path))
    for earlier, later in zip(verdict.path, verdict.path[1:], strict=False):
        assert earlier.target == later.source


def with_property(holds: str, spec: Spec = SPEC) -> Flat:
    """A machine whose only property is this one."""
    return Flat(
        dataclasses.replace(spec, properties={"mine": Property("mine", holds, "R1", 7)}), spec.reference, "mutant"
    )


@pytest.mark.parametrize("name", forms(Form.SOMETIMES))
def test_sometimes_fails_on_a_machine_without_it(name: str) -> None:
    """As long as a run shows it, the rows of its last step are made impossible."""
    spec, holds = SPEC, SPEC.properties[name].holds
    for _ in range(len(SPEC.rows)):
        (verdict,) = check(with_property(holds, spec))
        if not verdict.holds:
            break
        rows = [without(row) if row.line in verdict.path[-1].lines else row for row in spec.rows]
        spec = dataclasses.replace(spec, rows=tuple(rows))
    assert verdict.holds is False
    assert spec is not SPEC
    (finding,) = properties.findings(with_property(holds, spec))
    assert finding.text == f"mine does not hold in mutant: {holds}. No run shows it."


def without(row: Row) -> Row:
    return dataclasses.replace(row, target=None, effects=(), assigns=(), gives=None, refusal=Kind.IMPOSSIBLE)


@pytest.mark.parametrize(
    ("holds", "path"),
    [
        ("never app_send", ["app_accept", "app_send"]),
        ("never effect=end_response", ["app_response_start", "app_response_body", "app_response_end"]),
        ("at most once app_send", ["app_accept", "app_send", "app_send"]),
        ("give_connect before app_accept", ["app_accept"]),
        ("never give_disconnect and inbox=ended", ["app_close", "give_connect", "give_disconnect", "give_disconnect"]),
        ("never give_message", ["give_connect", "app_accept", "peer_message", "give_message"]),
    ],
)
def test_counterexample_is_a_shortest_run(holds: str, path: list[str]) -> None:
    (verdict,) = check(with_property(holds))
    assert verdict.holds is False
    assert len(verdict.path) == len(path)
    assert sorted(answer.event for answer in verdict.path[-1:]) == path[-1:]
    (finding,) = properties.findings(with_property(holds))
    assert (finding.code, finding.line, finding.structural) == ("WSL034", 7, False)
    assert finding.text.startswith(f"mine does not hold in mutant: {holds}. A shortest run: {verdict.path[0].event} (")
    assert finding.fix


def test_fact_that_begins_with_an_effect_cannot_hold_before_it() -> None:
    (verdict,) = check(with_property("effect=keep_message before give_message"))
    assert verdict.holds


def test_mutant_without_a_coupling_leaves_the_app_waiting() -> None:
    couplings = tuple(coupling for coupling in SPEC.couplings if coupling.target != "disconnect_due")
    assert len(couplings) == len(SPEC.couplings) - 1
    flat = compile_profile(dataclasses.replace(SPEC, couplings=couplings), profile="mutant")
    found = {finding.text.split(" ", 1)[0]: finding for finding in properties.findings(flat)}
    assert {"end_is_told", "disconnect_is_possible"} <= found.keys()
    assert found["end_is_told"].line == SPEC.properties["end_is_told"].line
    assert found["disconnect_is_possible"].text.endswith("No run shows it.")


def test_mutant_with_another_target_leaves_the_transport_open() -> None:
    """The app returns and nothing is closed, as with C2 stays_open, but by another row."""
    closes = [row for row in SPEC.rows if row.events == ("app_return",) and row.target == "closing"]
    assert len(closes) == 1
    stays = dataclasses.replace(closes[0], target="open", effects=(), assigns=())
    rows = tuple(stays if row is closes[0] else row for row in SPEC.rows)
    flat = compile_profile(dataclasses.replace(SPEC, rows=rows), profile="mutant")
    (finding,) = properties.findings(flat)
    assert finding.line == SPEC.properties["done_ends_it"].line
    assert "A shortest run: app_accept (" in finding.text
    assert finding.text.count(" -> ") == 2
