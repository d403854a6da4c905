"""Each answer to each choice is a machine of its own, or a value of its own.

Every answer is tried as the single deviation from the reference. None of them may be structurally wrong; some have
traps or break a property, because servers are like that: `UNSOUND` lists them.
"""

from functools import cache
from itertools import combinations

import pytest

from wslifecycle.statemachine import properties
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import load_spec

SPEC = load_spec()
ANSWERS = [(number, answer) for number, choice in SPEC.choices.items() for answer in choice.answers]

UNSOUND: dict[tuple[str, str], set[str]] = {
    ("C2", "stays_open"): {"done_ends_it"},
    ("C8", "ignored"): {"WSL032"},
    ("C9", "disconnected"): {"WSL032"},
    ("C6", "waits"): {"repeat_is_possible"},
    ("C6", "raises"): {"repeat_is_possible"},
    ("C10", "none"): {"end_is_told"},
    ("C11", "none"): {"end_is_told"},
    ("C12", "none"): {"end_is_told"},
    ("C42", "unanswered"): {"pong_after_close_is_possible"},
    ("C26", "raises"): {"WSL030", "WSL033", "streaming_is_possible"},
}
"""What is unsound about a single deviation: codes of findings, and the names of properties that do not hold."""


@cache
def deviation(number: str, answer: str) -> Flat:
    return Flat(SPEC, {**SPEC.reference, number: answer}, f"{number} {answer}")


@pytest.mark.parametrize(("number", "answer"), ANSWERS)
def test_single_deviation_compiles(number: str, answer: str) -> None:
    flat = deviation(number, answer)
    broken = {finding.text.split(" ", 1)[0] for finding in properties.findings(flat)}
    assert {finding.code for finding in flat.findings} | broken == UNSOUND.get((number, answer), set())


def test_the_reference_answers_are_sound() -> None:
    assert not any((number, answer) in UNSOUND for number, answer in SPEC.reference.items())
    assert set(UNSOUND) <= set(ANSWERS)


@pytest.mark.parametrize("number", SPEC.choices)
def test_no_two_answers_are_the_same(number: str) -> None:
    choice = SPEC.choices[number]
    assert len(choice.answers) >= 2
    seen = [(deviation(number, answer).answers, dict(values)) for answer, values in choice.answers.items()]
    for position, one in enumerate(seen):
        assert one not in seen[:position]


MACHINES = dict.fromkeys(("C1", "C7", "C12", "C13", "C15", "C23", "C25", "C26", "C32", "C37", "C41"), 2)
MACHINES |= dict.fromkeys(("C42", "C47", "C48"), 2)
MACHINES |= dict.fromkeys(("C4", "C5", "C6", "C8", "C9", "C11", "C27", "C43"), 3) | {"C2": 5, "C3": 4, "C10": 4}
"""How many machines the answers to a choice make; those to the others are values that a machine only carries."""


@pytest.mark.parametrize("number", SPEC.choices)
def test_answers_are_different_machines(number: str) -> None:
    made = [deviation(number, answer).answers for answer in SPEC.choices[number].answers]
    different = [machine for position, machine in enumerate(made) if machine not in made[:position]]
    assert len(different) == MACHINES.get(number, 1)


MEETING = ("C1", "C8", "C9", "C10", "C11", "C12", "C25", "C26", "C27", "C37", "C41")
"""Choices whose rows stand side by side in the same states."""


@pytest.mark.parametrize(("one", "other"), list(combinations(MEETING, 2)))
def test_two_deviations_at_once_compile(one: str, other: str) -> None:
    for answer in SPEC.choices[one].answers.keys() - {SPEC.reference[one]}:
        for beside in SPEC.choices[other].answers.keys() - {SPEC.reference[other]}:
            assert Flat(SPEC, {**SPEC.reference, one: answer, other: beside}, "both").states
