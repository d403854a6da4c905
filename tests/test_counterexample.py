"""Runs that break a property: they are real, they say what changes and nothing else, and they survive being written."""

from __future__ import annotations

import json
from functools import cache

import pytest

from tests.planted import GRANIAN, OTHER_CODE, UNTOLD, planted
from wslifecycle.statemachine.check import Report, check
from wslifecycle.statemachine.counterexample import Run, RunError, load_run, run_of
from wslifecycle.statemachine.draw import draw
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import parse_spec
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.system import Bounds

FAULTS = {"connect_once": GRANIAN, "end_is_told": UNTOLD, "one_disconnect": OTHER_CODE}
"""A property for each planted fault that it finds."""
LITTLE = Bounds(queue=0, receivers=1, facts=frozenset({"denial", "raising"}))


@cache
def report(name: str) -> Report:
    spec = parse_spec(planted(FAULTS[name]), "own.yaml")
    return check(Flat(spec, spec.reference, "own"), LITTLE, (name,))


def teardown_module() -> None:
    """What is large is not kept for the tests of other modules."""
    report.cache_clear()


def run(name: str) -> Run:
    (violation,) = [violation for violation in report(name).violations if violation.name == name]
    made = run_of(report(name), violation)
    assert made is not None
    return made


class TestText:
    def test_tells_who_does_what_and_only_what_changes(self) -> None:
        assert run("connect_once").text().splitlines() == [
            "connect_once does not hold [R20]: at most once give_connect",
            f"own.yaml:{run('connect_once').line}, profile own, facts of the connection: denial, raising",
            "",
            "   1  app     app_asks",
            "                  receive() calls that wait: 0 -> 1",
            "   2  server  gives: give_connect [R20]",
            "                  inbox: connect_due -> waiting",
            "                  receive() calls that wait: 1 -> 0",
            "   3  app     app_asks",
            "                  receive() calls that wait: 0 -> 1",
            "   4  server  gives: give_connect [R20]",
            "                  receive() calls that wait: 1 -> 0",
        ]

    def test_says_what_waits_for_ever(self) -> None:
        last = run("end_is_told").text().splitlines()[-1]
        assert last == "  and then nothing more has to happen; a receive() waits for ever."

    def test_says_what_goes_round(self) -> None:
        made = run("end_is_told")
        going_round = Run(**{**{key: getattr(made, key) for key in Run.__slots__}, "again": 1, "waits": ()})
        lines = going_round.text().splitlines()
        assert lines[lines.index("  and then, again and again:") + 1].startswith("   2  ")

    def test_of_a_refusal_names_the_rule(self) -> None:
        spec = parse_spec(planted(("at most once give_connect", "never refused and called")), "own.yaml")
        found = check(Flat(spec, spec.reference, "own"), LITTLE, ("connect_once",))
        made = run_of(found, found.violations[0])
        assert made is not None
        (step,) = made.steps
        assert step.refused == "violation"
        assert f"which is refused (violation) [{step.rule}]" in made.text()


class TestSteps:
    @pytest.mark.parametrize("name", FAULTS)
    def test_follow_each_other_in_the_machine(self, name: str) -> None:
        made, flat = run(name), report(name).flat
        state = next(iter(flat.state_of))
        for step in made.steps:
            assert step.source == state
            assert {"wire", "inbox", "app"}.isdisjoint(step.changed) == (step.source == step.target)
            if step.rule:
                answers = [answer for answer in flat.distinct(step.source) if answer.event == step.event]
                assert (step.target, step.rule) in {(answer.target, answer.rule) for answer in answers}
            state = step.target

    @pytest.mark.parametrize(("name", "events"), [
        ("connect_once", ["app_asks", "give_connect", "app_asks", "give_connect"]),
        ("end_is_told", ["app_close", "app_asks", "give_connect", "app_asks"]),
    ])  # fmt: skip
    def test_are_as_few_as_can_be(self, name: str, events: list[str]) -> None:
        assert [step.event for step in run(name).steps] == events


class TestOtherForms:
    @pytest.mark.parametrize("name", FAULTS)
    def test_json_and_back_is_the_same_run(self, name: str) -> None:
        assert load_run(json.dumps(run(name).json())).text() == run(name).text()

    @pytest.mark.parametrize("name", FAULTS)
    def test_sequence_diagram_has_every_message_between_the_sides(self, name: str) -> None:
        lines = [line.strip() for line in run(name).mermaid().splitlines()]
        assert lines[0] == "sequenceDiagram"
        given = [line for line in lines if line.startswith("Server->>App: ")]
        assert given == [
            f"Server->>App: {step.event.removeprefix('give_')}" for step in run(name).steps if step.action == "gives"
        ]
        assert lines[-1] == f"Note over App,Peer: {name} does not hold"
        assert lines.count("loop again and again") == lines.count("end")

    @pytest.mark.parametrize("name", FAULTS)
    def test_picture_has_the_way(self, name: str) -> None:
        made = run(name)
        drawn = draw(Lifecycle(report(name).flat).seal(), "mermaid", None, made.path()).decode()
        for number in range(1, len(made.path()) + 1):
            assert f"({number})" in drawn or f"({number}," in drawn or f", {number})" in drawn


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"),
        ("[]", "no run of format 1"),
        ('{"format": 2}', "no run of format 1"),
        ('{"format": 1}', "'steps'"),
        ('{"format": 1, "steps": []}', "missing"),
        ('{"format": 1, "steps": [{"action": "gives"}]}', "missing"),
        ('{"format": 1, "steps": [1]}', "lacks something"),
        ('{"format": 1, "steps": null}', "lacks something"),
    ],
)
def test_what_is_no_run_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(RunError, match=says):
        load_run(text)


def test_a_step_of_numbers_is_refused_in_words() -> None:
    tree = json.loads(json.dumps(run("connect_once").json()))
    tree["steps"][0]["event"] = 5
    with pytest.raises(RunError, match="`event` of a step has to be text"):
        load_run(json.dumps(tree))
