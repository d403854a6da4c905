"""The fuzzer finds realistic faults in copies of our runtime, soon and in few acts; `make faults` hunts all of them.

Those here are found within the first hundreds of schedules. The runtime as it is is hunted as well, in vain.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import FAULTS
from tests.stateful.hunt import hunt
from wslifecycle.conformance.orders.survey import quiet

SOON = (
    "asks_outside_its_turn",
    "keeps_its_turn",
    "turn_of_its_own",
    "shielded_receive",
    "connect_again",
    "news_for_one",
    "unpaced",
    "shutdown_is_no_news",
    "timeout_is_no_news",
    "violation_is_no_news",
    "return_is_no_news",
    "waits_before_it_decides",
    "waits_before_it_writes",
    "yields_before_it_writes",
    "waited_in_vain",
    "never_goes_on",
    "silent_when_closing",
    "held_forgotten",
    "fails_by_closing",
    "last_bytes_lost",
    "gentle_abort",
    "shutdown_a_turn_later",
    "reset_cancels_the_app",
    "timer_only_forgotten",
    "timers_outlive",
    "request_timer_runs_on",
    "orderly_loss_untold",
)
FAULT = {fault.name: fault for fault in FAULTS}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What apps raise is logged, thousands of times."""
    with quiet():
        yield


@pytest.mark.parametrize("name", SOON)
def test_a_fault_is_found(name: str) -> None:
    assert FAULT[name].quiet, "a plain conversation shows it: that is no art"
    hunted = hunt(FAULT[name], rounds=8, shrinks=False)
    assert hunted.finding
    assert 0 < hunted.schedules <= 8 * 200


@pytest.mark.parametrize("name", ["connect_again", "yields_before_it_writes", "held_forgotten"])
def test_what_is_found_is_shrunk_to_a_handful_of_acts(name: str) -> None:
    hunted = hunt(FAULT[name], rounds=8)
    assert hunted.finding
    assert 0 < hunted.acts <= 10
    assert "It went so:" in hunted.program


def test_the_runtime_as_it_is_is_hunted_in_vain() -> None:
    hunted = hunt(None, rounds=1)
    assert hunted.finding == ""
    assert hunted.schedules >= 150
