"""What the machine says in words is what the machine does."""

from __future__ import annotations

import pytest

from wslifecycle.statemachine import explain
from wslifecycle.statemachine.machine import lifecycle
from wslifecycle.statemachine.model import Actor

MACHINE = lifecycle()


@pytest.mark.parametrize("state", MACHINE.states)
def test_a_row_of_the_table_agrees_with_the_machine(state: str) -> None:
    row = explain.row(MACHINE, state)
    case = MACHINE.flat.fixed
    for name, event in MACHINE.spec.events.items():
        answer = MACHINE.flat.answers[name][case][state]
        if event.actor is Actor.APP and event.message:
            if answer.refusal or answer.ignored:
                assert event.message not in row["send"] or event.message.endswith("body")
            else:
                assert event.message in row["send"]
        elif not event.message and answer.moves:
            assert name in row["others"][answer.target]
    assert row["receive"] in (None, "websocket.connect", "websocket.disconnect")


def test_every_event_is_explained_in_every_state() -> None:
    for event in MACHINE.spec.events:
        text = "\n".join(explain.explain_event(MACHINE, event, MACHINE.states))
        for state in MACHINE.states:
            assert state in text


def test_every_number_is_explained_with_its_place() -> None:
    for number in (*MACHINE.spec.rules, *MACHINE.spec.choices):
        first, second, *_ = explain.explain_number(MACHINE, number)
        assert first.startswith(number)
        text = "\n".join(explain.explain_number(MACHINE, number))
        assert "spec/lifecycle.yaml:" in text
        assert second


def test_a_row_of_another_profile_says_so() -> None:
    text = "\n".join(explain.explain_number(MACHINE, "C9"))
    assert "violation  (not in this profile)" in text
    assert "* ignored" in text


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("*", 35), ("open", 2), ("open/flowing", 1), ("*/ended", 9), ("*/*/done", 9), ("closing/ended/left", 1)],
)
def test_a_pattern_names_states(pattern: str, count: int) -> None:
    assert len(explain.matching(MACHINE, pattern)) == count


@pytest.mark.parametrize("pattern", ["", "opened", "open/flowing/running/on", "flowing", "open//running"])
def test_a_pattern_that_names_none_says_which_there_are(pattern: str) -> None:
    with pytest.raises(LookupError, match=r"wire: handshake, .*denying"):
        explain.matching(MACHINE, pattern)


def test_an_asgi_type_may_be_two_events() -> None:
    assert explain.events_of(MACHINE, "websocket.http.response.body") == ["app_response_body", "app_response_end"]
    with pytest.raises(LookupError, match=r"Messages: websocket\.accept"):
        explain.events_of(MACHINE, "websocket.foo")
