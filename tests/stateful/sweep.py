"""Every situation that the model knows is brought about on the real runtime, and nothing goes wrong in any of them.

A situation is a state of the machine, an event in it, refused ones too, and none, one or more calls of `receive()` that
are pending. That a sweep can miss some is shown by taking acts away from it. It takes a minute: `make fuzz` runs it,
and not `make test`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wslifecycle.conformance.orders import coverage
from wslifecycle.conformance.orders.survey import quiet
from wslifecycle.statemachine.machine import lifecycle


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What apps raise is logged, thousands of times."""
    with quiet():
        yield


def test_a_sweep_brings_about_every_situation_and_finds_nothing() -> None:
    swept = coverage.sweep()
    assert swept.failures == []
    assert swept.missing == []
    assert swept.situations == swept.wanted


def test_every_state_and_every_event_is_in_some_situation_with_none_one_and_two_pending_calls() -> None:
    wanted = coverage.reachable()
    machine = lifecycle()
    assert {state for state, _, _ in wanted} == set(machine.states)
    assert {event for _, event, _ in wanted} == set(machine.spec.events)
    for event in machine.spec.events:
        pending = {count for _, what, count in wanted if what == event}
        assert pending == ({1, 2} if event.startswith("give_") else {0, 1, 2})


def test_a_sweep_that_may_not_do_everything_says_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {event: acts for event, acts in coverage.BRINGS.items() if event in ("app_accept", "app_close", "peer_close")}
    monkeypatch.setattr(coverage, "BRINGS", few)
    monkeypatch.setattr(coverage, "ENDS", ())
    swept = coverage.sweep()
    assert ("open/flowing/running", "peer_close", 1) in swept.situations
    assert ("open/flowing/running", "peer_message", 0) in swept.missing
    assert ("denying/waiting/running", "app_response_body", 0) in swept.missing
