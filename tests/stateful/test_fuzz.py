"""Our runtime keeps what the spec says in any order of what can happen; where it does not, a fuzzer finds it.

Hypothesis draws apps, peers, settings and orders; the witness judges. To show that this means something, faults are
planted in the machine that the runtime obeys and in the runtime itself: each is found, and what is printed repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import FAULTS, faulty
from tests.planted import planted as text
from tests.stateful.campaign import planted
from wslifecycle.conformance.orders.exchange import AppError, Exchange
from wslifecycle.conformance.orders.insider import Insider
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.ours import Ours
from wslifecycle.conformance.orders.schedulers import Level, Replay
from wslifecycle.conformance.orders.survey import quiet
from wslifecycle.conformance.orders.watched import Broken
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service
from wslifecycle.statemachine.cover import scopes
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.mutate import Subject

SUBJECT = Subject()

SETTINGS = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
FINDS = settings(SETTINGS, max_examples=2000, phases=(Phase.generate,))

MUTANTS = {
    "named:granian": {"connect_once"},
    "named:second_disconnect_differs": {"one_disconnect"},
    "named:last_message_lost": {"messages_before_disconnect"},
    "named:own_close_untold": {"end_is_told"},
    "named:close_frame_twice": {"one_close"},
    "named:reject_untold": {"end_is_told", "message_is_given"},
}
"""What shows each of them to somebody who sees only one connection: whichever comes first."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What apps raise is logged, thousands of times."""
    with quiet():
        yield


class Drawn(Ours):
    """Keeps what was drawn."""

    settings_seen: ClassVar[set[tuple[str, Any]]] = set()

    def witness(self, followed: int) -> Insider:
        """Who judges."""
        self.settings_seen.update(self.chosen.items())
        return super().witness(followed)


def test_any_app_any_peer_and_any_order_keep_what_the_spec_says() -> None:
    run_state_machine_as_test(Drawn, settings=SETTINGS)
    assert Drawn.executions >= SETTINGS.max_examples
    assert len(Drawn.situations) > 130, "the search is too shallow to mean anything"
    assert {waiting for _, _, waiting in Drawn.situations} == {0, 1, 2}
    versions, extensions = zip(*scopes(lifecycle()), strict=True)
    assert Drawn.settings_seen == {
        *(("spec_version", version) for version in versions),
        *(("extensions", names) for names in extensions),
        *(("max_queue", number) for number in (None, 1, 2)),
        *(("ping_interval", seconds) for seconds in (None, 5)),
        *(("handshake_timeout", seconds) for seconds in (None, 15)),
        ("max_size", 65536),
    }


def test_each_subclass_counts_for_itself() -> None:
    class Other(Ours):
        pass

    run_state_machine_as_test(Other, settings=settings(SETTINGS, max_examples=2))
    assert Other.executions >= 2
    assert Other.situations
    assert (Ours.executions, Ours.situations) == (0, set())


def found(fuzz: type[Ours], how: settings = FINDS) -> Broken:
    """What a fuzzer finds."""
    with pytest.raises(Broken) as caught:
        run_state_machine_as_test(fuzz, settings=how)
    return caught.value


@pytest.mark.parametrize(("name", "shown"), MUTANTS.items(), ids=MUTANTS)
def test_a_fault_that_is_planted_in_the_machine_is_found(name: str, shown: set[str]) -> None:
    fuzz = type("Planted", (Ours,), {"machine": planted(SUBJECT, name), "spec": lifecycle()})
    assert found(fuzz).finding.name in shown


@pytest.mark.parametrize(("name", "shown"), [("unpaced", "paced"), ("connect_again", "obeys")])
def test_a_fault_that_is_planted_in_the_runtime_is_found(name: str, shown: str) -> None:
    (fault,) = [fault for fault in FAULTS if fault.name == name]
    fuzz = type("Faulty", (Ours,), {"make_protocol": staticmethod(faulty(fault))})
    assert found(fuzz).finding.name == shown


def test_another_spec_judges_what_the_machine_does() -> None:
    fault = ("connect_once: {holds: at most once give_connect", "connect_once: {holds: never give_connect")
    fuzz = type("Judged", (Ours,), {"spec": Lifecycle(Subject(text(fault)).flat)})
    assert found(fuzz).finding.name == "connect_once"


def test_what_is_printed_repeats_what_was_found() -> None:
    machine = planted(SUBJECT, "named:last_message_lost")
    fuzz = type("Planted", (Ours,), {"machine": machine, "spec": lifecycle()})
    broken = found(fuzz, settings(FINDS, phases=(Phase.generate, Phase.shrink)))
    program, _, story = broken.__notes__[0].partition("It went so:\n")
    assert "receive() gives websocket.disconnect" in story
    names: dict[str, Any] = {"machine": machine, "spec": lifecycle()}
    known = (Acceptor, AppError, Exchange, Insider, Level, Options, Replay, ScheduledLoop, Service)
    names |= {one.__name__: one for one in known}
    with pytest.raises(Broken) as again:
        exec("\n".join(program.splitlines()[1:]), names)
    names["loop"].dispose()
    assert str(again.value) == str(broken)
