"""The oracle explains what may be and blames what may not: no server, only logs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wslifecycle.conformance.kit.blame import blame
from wslifecycle.conformance.kit.cases import BEYOND, cases, start, touches
from wslifecycle.conformance.kit.compare import differences
from wslifecycle.conformance.kit.confirm import verdict_of
from wslifecycle.conformance.kit.oracle import explain
from wslifecycle.conformance.kit.plays import OF_VALUES, SPEC, machine_of, played
from wslifecycle.conformance.kit.results import Verdict
from wslifecycle.conformance.kit.script import Entry, Log, Step, Terms, delays, play
from wslifecycle.conformance.scenarios import load_scenarios
from wslifecycle.statemachine.cover import reachable
from wslifecycle.statemachine.findings import SpecError

TERMS = Terms("2.5", ("websocket.http.response",))
ASKS = Step("app asks")
ACCEPTS = Step("app sends", {"type": "websocket.accept"})
CLOSES = Step("app sends", {"type": "websocket.close", "code": 3000, "reason": "enough"})
RETURNS = Step("app returns")
CONNECT, DISCONNECT = {"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}
HANDSHAKE = {"handshake": {"subprotocol": None, "headers": ()}}


def log(
    received: list[tuple[int, object]], sends: dict[int, object], peer: list[tuple[int, object]], waiting: int
) -> Log:
    return Log(
        [Entry(step, what) for step, what in received],
        {step: Entry(step, what) for step, what in sends.items()},
        [Entry(step, what) for step, what in peer],
        waiting,
    )


@pytest.mark.parametrize("terms", [TERMS, Terms("2.3"), Terms("2.0")], ids=str)
def test_the_reference_explains_itself_in_every_case(terms: Terms) -> None:
    for case in cases(terms):
        own = Terms(terms.spec_version, terms.extensions, case.subprotocols)
        seen = play(machine_of({}), own, case.steps)
        assert explain({}, own, case.steps, seen) == ({}, {}), case.name


@pytest.mark.parametrize(
    ("choice", "answer", "script"),
    [
        ("C2", "aborted", (ASKS, ACCEPTS, RETURNS)),
        ("C2", "stays_open", (ASKS, ACCEPTS, RETURNS)),
        ("C10", "none", (ASKS, ACCEPTS, CLOSES, ASKS)),
        ("C13", "both_1005", (ASKS, ACCEPTS, ASKS, Step("peer vanishes"))),
        ("C4", "http_403", (ASKS, RETURNS)),
    ],
)
def test_another_answer_to_a_choice_is_told_apart(choice: str, answer: str, script: tuple[Step, ...]) -> None:
    seen = play(machine_of({choice: answer}), TERMS, script)
    assert explain({}, TERMS, script, seen) == ({choice: answer}, {})
    assert explain({choice: answer}, TERMS, script, seen) == ({}, {})  # and is believed from then on


def test_connect_that_is_given_twice_breaks_r20() -> None:
    """What Granian 2.3.1 does."""
    script = (ASKS, ASKS)
    seen = log([(0, CONNECT), (1, CONNECT)], {}, [], 0)
    assert explain({}, TERMS, script, seen) is None
    wrong = blame({}, TERMS, script, seen)
    assert (wrong.rule, wrong.state, wrong.event) == ("R20", "handshake/waiting/running", "receive")
    assert verdict_of("R20", "2.5") is Verdict.MUST


def test_loss_that_nobody_is_told_of_breaks_r28() -> None:
    script = (ASKS, ACCEPTS, ASKS, Step("peer vanishes"))
    seen = log([(0, CONNECT)], {1: None}, [(1, HANDSHAKE)], 1)
    assert explain({}, TERMS, script, seen) is None
    assert blame({}, TERMS, script, seen).rule == "R28"


def test_message_that_is_missing_breaks_w13() -> None:
    script = (ASKS, ACCEPTS, Step("app sends", {"type": "websocket.send", "text": ""}))
    seen = log([(0, CONNECT)], {1: None, 2: None}, [(1, HANDSHAKE)], 0)
    assert blame({}, TERMS, script, seen).rule == "W13"


def test_handshake_before_the_answer_is_too_early() -> None:
    script = (ASKS, Step("app asks"), ACCEPTS)
    seen = log([(0, CONNECT)], {2: None}, [(0, HANDSHAKE)], 1)
    assert explain({}, TERMS, script, seen) is None


def test_what_the_peer_does_at_once_with_the_app_may_come_before_or_behind() -> None:
    script = (ASKS, ACCEPTS, Step("peer closes", {"code": 1000}, together=True), CLOSES, ASKS)
    machine = machine_of({})
    for late in delays(script):
        assert explain({}, TERMS, script, play(machine, TERMS, script, late)) is not None
    assert len(list(delays(script))) > 1


def test_what_comes_by_itself_is_read_at_once_unless_a_message_is_unread() -> None:
    assert list(delays((ASKS, ACCEPTS, Step("peer closes", {"code": 1000}), ASKS))) == [{}]
    unread = (ASKS, ACCEPTS, Step("peer sends", "a"), Step("peer closes", {"code": 1000}), CLOSES)
    assert {3: 6} in list(delays(unread))  # a server that has paused reading may never see it


def test_a_tasks_calls_after_the_app_has_ended_bind_nobody() -> None:
    script = (ASKS, ACCEPTS, ASKS, RETURNS)
    seen = log([(0, CONNECT)], {1: None}, [(1, HANDSHAKE), (3, {"close": {"code": 1000, "reason": ""}})], 1)
    assert blame({}, TERMS, script, seen).rule == "R52"
    stays = {"C2": "stays_open"}
    sends = Step("app sends", {"type": "websocket.send", "text": "late"})
    late = (ASKS, ACCEPTS, RETURNS, sends)
    seen = log([(0, CONNECT)], {1: None, 3: None}, [(1, HANDSHAKE), (2, {"end": "eof"})], 0)
    assert blame(stays, TERMS, late, seen).rule == "R52"
    seen = log([(0, CONNECT)], {1: None, 2: None}, [(1, HANDSHAKE), (2, {"end": "eof"})], 0)
    assert blame(stays, TERMS, (ASKS, ACCEPTS, sends), seen).rule == "W13"  # while the app's call runs
    assert verdict_of("R52", "2.5") is Verdict.CHOICE


def test_what_a_later_version_brought_is_a_choice_of_an_older_server() -> None:
    script = (ASKS, ACCEPTS, CLOSES)
    closed = {"close": {"code": 3000, "reason": ""}}
    seen = log([(0, CONNECT)], {1: None, 2: None}, [(1, HANDSHAKE), (2, closed)], 0)
    wrong = blame({}, Terms("2.1"), script, seen)
    assert (wrong.rule, wrong.seen) == ("R39", "a Close with 3000, with another reason")
    assert [verdict_of("R39", version) for version in ("2.1", "2.3")] == [Verdict.CHOICE, Verdict.MUST]


def test_differences_of_a_log_with_itself_are_none() -> None:
    for case in cases(TERMS)[::50]:
        seen = play(machine_of({}), TERMS, case.steps)
        assert not differences(seen, seen)


# ------------------------------------------------------------------------------------------------ cases


def test_cases_try_every_event_in_every_state_that_both_sides_can_bring_about() -> None:
    begin = start(TERMS)
    wanted = {(state, event) for state, _, event in reachable(begin) if event not in BEYOND}
    tried = set()
    for case in cases(TERMS):
        if case.kind in ("way", "eager"):
            log = play(machine_of({}), TERMS, case.steps)
            tried |= {(answer.source, answer.event) for answer in log.taken}
    given = {"give_connect", "give_message", "give_disconnect"}
    refused = {(s, e) for s, e in wanted if e in given}  # that nothing else is given is seen by waiting
    missing = {(s, e) for s, e in wanted - tried - refused if not e.startswith("peer_") or not s.startswith("closed")}
    assert not {(s, e) for s, e in missing if e not in ("app_return", "app_raise")}, sorted(missing)


def test_every_scenario_that_can_be_held_is_a_case() -> None:
    names = {case.name for case in cases(TERMS)}
    left = {f"scenario:{name}" for name in load_scenarios()} - names
    assert len(left) < 45  # those of other versions, of the clock and of shutdowns, and those that are derived anyway
    assert "scenario:granian-591" in names


def test_names_are_unique_and_short_cases_come_first() -> None:
    every = cases(TERMS)
    assert len({case.name for case in every}) == len(every)
    ways = [len(case.steps) for case in every if case.kind == "way"]
    assert ways[0] == 1


def test_a_server_is_not_asked_for_what_it_does_not_advertise() -> None:
    assert not any(
        "websocket.http" in str(step) for case in cases(Terms("2.3")) if case.kind == "value" for step in case.steps
    )


def test_touches_names_rules_and_states() -> None:
    case = next(case for case in cases(TERMS) if case.name == "way:app_accept+app_close+peer_close")
    assert {"R22", "R37", "W7", "closing", "closing/connect_due/left"} <= touches(case, TERMS)


def test_choices_of_values_are_those_that_no_machine_tells_apart() -> None:
    assert {"C20", "C21", "C38"} <= OF_VALUES
    assert not {"C2", "C10", "C50"} & OF_VALUES


_OTHERS = [(number, answer) for number, choice in SPEC.choices.items() for answer in sorted(choice.answers)]
_PROFILES = st.lists(st.sampled_from(_OTHERS), max_size=6).map(dict)
_CASES = {terms: cases(terms) for terms in (TERMS, Terms("2.1"))}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_play_that_is_kept_is_what_the_machine_says(data: st.DataObject) -> None:
    terms = data.draw(st.sampled_from(sorted(_CASES, key=str)))
    script = data.draw(st.sampled_from(_CASES[terms])).steps
    played({}, terms, script)
    for profile in data.draw(st.lists(_PROFILES, min_size=1, max_size=4)):
        try:
            machine = machine_of(profile)
        except SpecError:
            continue  # the answers do not go together
        kept, made = played(profile, terms, script), play(machine, terms, script)
        assert not differences(kept, made)
        assert kept.states == made.states
        assert [(answer.event, answer.refusal, answer.target) for answer in kept.taken] == [
            (answer.event, answer.refusal, answer.target) for answer in made.taken
        ]


@pytest.mark.parametrize(
    ("choice", "answer", "name"),
    [
        ("C14", "refused", "race:handshake:peer_message|app_accept"),
        ("C20", "sent", "value:websocket.close:code=999"),
        ("C28", "ignored", "value:websocket.unknown"),
    ],
)
def test_a_play_that_is_kept_is_none_of_another_answer_about_a_value(choice: str, answer: str, name: str) -> None:
    script = next(case.steps for case in _CASES[TERMS] if case.name == name)
    assert differences(played({}, TERMS, script), played({choice: answer}, TERMS, script))
