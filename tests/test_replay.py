"""Runs of the checker are played against a real connection: it does the same as the machine they were found on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from tests.planted import GRANIAN, OTHER_CODE, UNTOLD, planted
from wslifecycle.statemachine.check import LIMIT, Report, Violation, check
from wslifecycle.statemachine.counterexample import Run, RunError, RunStep, run_of
from wslifecycle.statemachine.explore import Graph
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import parse_spec
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.replay import AROUND, replay
from wslifecycle.statemachine.search import Hit
from wslifecycle.statemachine.system import ACTIONS, Bounds, System

FAULTS = {"connect_once": GRANIAN, "end_is_told": UNTOLD, "one_disconnect": OTHER_CODE}
LITTLE = Bounds(queue=0, receivers=1, facts=frozenset({"denial", "raising"}))


@cache
def flat_of(*faults: tuple[str, str]) -> Flat:
    spec = parse_spec(planted(*faults), "own.yaml")
    return Flat(spec, spec.reference, "own")


@cache
def run_for(name: str) -> Run:
    report = check(flat_of(FAULTS[name]), LITTLE, (name,))
    made = run_of(report, report.violations[0])
    assert made is not None
    return made


@pytest.mark.parametrize("name", FAULTS)
def test_connection_of_the_faulty_machine_does_the_same(name: str) -> None:
    result = replay(run_for(name), Lifecycle(flat_of(FAULTS[name])).seal())
    assert result.departs is None
    assert result.same
    assert len(result.lines) >= len(run_for(name).steps)


@pytest.mark.parametrize("name", FAULTS)
def test_connection_of_the_reference_goes_another_way(name: str) -> None:
    """Of the run whose second disconnect has another code only the code differs, so that it is followed to the end."""
    result = replay(run_for(name), lifecycle())
    given = [line for line in result.lines if "gives websocket.disconnect" in line]
    if name == "one_disconnect":
        assert result.same
        first, second = (line.partition("gives ")[2] for line in given)
        assert first == second
    else:
        assert not result.same
        assert result.departs is not None
        assert f"step {len(result.lines)}, " in result.departs


def test_values_of_a_disconnect_are_told() -> None:
    result = replay(run_for("one_disconnect"), Lifecycle(flat_of(OTHER_CODE)).seal())
    assert any("gives websocket.disconnect code=1006" in line for line in result.lines)


@cache
def around_the_reference() -> Report:
    """What a check has to look at, without looking."""
    bounds = Bounds(queue=1, receivers=1)
    return Report(Graph(System(lifecycle().flat, bounds), (), LIMIT), bounds, (), (), (), 0)


def teardown_module() -> None:
    """What is large is not kept for the tests of other modules."""
    around_the_reference.cache_clear()


def walks(count: int) -> Iterator[Run]:
    """Random walks through the whole system around the reference, as runs."""
    graph, chance = around_the_reference().graph, Random(6455)
    for _ in range(count):
        node, steps = chance.randrange(graph.starts), list[tuple[int, int]]()
        for _ in range(chance.randrange(5, 40)):
            table = graph.of[node]
            number = chance.randrange(len(table.labels))
            steps.append((node, number))
            node = graph.targets[node][number] if number < len(table.ways) else node
        walk = Violation("walk", "a random walk", "", 1, None, Hit(tuple(steps), node))
        run = run_of(around_the_reference(), walk)
        assert run is not None
        yield run


def test_connection_does_whatever_the_model_does() -> None:
    """Random walks with every kind of step: model and connection agree on each answer, effect and message."""
    met: set[str] = set()
    for run in walks(400):
        result = replay(run, lifecycle())
        assert result.same, f"{result.departs}\n{run.text()}"
        met.update(step.action for step in run.steps)
    assert met >= {*ACTIONS, *(name for name, e in lifecycle().spec.events.items() if e.actor != "given")}


ELSEWHERE = "closed/ended/done"
DIFFERENCES: dict[str, Callable[[RunStep], RunStep]] = {
    "source": lambda step: replace(step, source=ELSEWHERE),
    "target": lambda step: replace(step, target=ELSEWHERE),
    "effects": lambda step: replace(step, effects=(*step.effects, "send_close")),
    "refused": lambda step: replace(step, refused="violation"),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_each_difference_is_noticed(what: str) -> None:
    """The last step that is obeyed and comes from elsewhere is told otherwise than it was."""
    noticed = 0
    for run in walks(60):
        told = [n for n, step in enumerate(run.steps) if step.action not in AROUND and not step.refused]
        told = [n for n in told if ELSEWHERE not in (run.steps[n].source, run.steps[n].target)]
        if told:
            changed = (*run.steps[: told[-1]], DIFFERENCES[what](run.steps[told[-1]]))
            assert not replay(replace(run, steps=changed), lifecycle()).same
            noticed += 1
    assert noticed >= 30


class TestWhatIsNoRunOfThisMachine:
    def step_changed(self, **values: object) -> Run:
        run = run_for("connect_once")
        return replace(run, steps=(*run.steps[:1], replace(run.steps[1], **values)))  # type: ignore[arg-type]

    def test_unknown_fact(self) -> None:
        with pytest.raises(RunError, match="cannot advertise unread"):
            replay(replace(run_for("connect_once"), facts=("unread",)), lifecycle())

    def test_unknown_event(self) -> None:
        with pytest.raises(RunError, match="no event 'app_sings'"):
            replay(self.step_changed(event="app_sings"), lifecycle())
