"""Each answer to each choice is a machine of its own, or a value of its own.

Every answer is tried as the single deviation from the reference. None of them may be structurally wrong; some have
traps or break a property, because servers are like that: `UNSOUND` lists them. Each of those is checked alone, in the
small; all the others are checked together, as many at once as there are choices.
"""

from functools import cache
from itertools import combinations

import pytest

from wslifecycle.statemachine.check import check
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.model import Kind
from wslifecycle.statemachine.properties import Form, parse
from wslifecycle.statemachine.system import Bounds

SPEC = load_spec()
ANSWERS = [(number, answer) for number, choice in SPEC.choices.items() for answer in choice.answers]

UNTOLD = {"end_is_told", "receive_ends_with_the_connection", "deadlock"}
ENDLESS = {"close_leads_to_the_end", "end_is_reached", "return_ends_it", "raise_ends_it", "violation_ends_it"}

UNSOUND: dict[tuple[str, str], set[str]] = {
    ("C1", "refused"): {"late_connect_is_possible"},
    ("C2", "aborted"): {"nothing_sent_is_dropped", "sent_is_read"},
    ("C2", "stays_open"): {"return_ends_it"},
    ("C3", "aborted"): {"nothing_sent_is_dropped", "sent_is_read"},
    ("C6", "waits"): {"repeat_is_possible", "receive_ends_with_the_connection", "deadlock"},
    ("C6", "raises"): {"repeat_is_possible"},
    ("C7", "abnormal"): {"one_disconnect"},
    ("C8", "ignored"): {"WSL032", "late_after_own_end_is_told"},
    ("C8", "violation"): {"late_is_no_violation"},
    ("C9", "violation"): {"late_is_no_violation"},
    ("C9", "disconnected"): {"WSL032"},
    ("C10", "none"): UNTOLD,
    ("C11", "none"): UNTOLD,
    ("C12", "none"): UNTOLD,
    ("C15", "given"): {"nothing_kept_after_close", "end_is_told"},
    ("C26", "raises"): {"WSL030", "WSL033", "streaming_is_possible"},
    ("C32", "aborted"): {"nothing_sent_is_dropped", "sent_is_read"},
    ("C37", "ignored"): {"late_accept_is_told"},
    ("C41", "swallowed"): {"sent_is_read", "sent_in_order"},
    ("C42", "unanswered"): {"ping_is_answered", "pong_after_close_is_possible"},
    ("C43", "returns"): {"waiting_send_is_told"},
    ("C43", "hangs"): {"send_goes_on", "send_ends_with_the_connection", "deadlock"},
    ("C50", "at_once"): {"WSL030", "WSL033", "denial_is_possible"},
    ("C48", "never"): ENDLESS | {"shutdown_ends_it", "silence_ends_it"},
}
"""What is unsound about a single deviation: codes of findings, and the names of what does not hold."""

ADVERTISED = frozenset(name for name, fact in SPEC.facts.items() if fact.fixed)
"""All that a server may advertise. Connections with just these are a quarter of the states."""

SOMETIMES = [name for name, declared in SPEC.properties.items() if parse(declared.holds).form is Form.SOMETIMES]


@cache
def deviation(number: str, answer: str) -> Flat:
    return Flat(SPEC, {**SPEC.reference, number: answer}, f"{number} {answer}")


def broken(flat: Flat) -> set[str]:
    """What does not hold of a machine while no message is in flight."""
    return {violation.name for violation in check(flat, Bounds(queue=0, receivers=1, facts=ADVERTISED)).violations}


def missing(flat: Flat) -> set[str]:
    """What is not possible although it may be somewhere, with a message in flight."""
    return {
        violation.name
        for violation in check(flat, Bounds(queue=1, receivers=1, facts=ADVERTISED), SOMETIMES).violations
    }


@pytest.mark.parametrize(("number", "answer"), ANSWERS)
def test_single_deviation_compiles(number: str, answer: str) -> None:
    codes = {finding.code for finding in deviation(number, answer).findings}
    assert codes == {name for name in UNSOUND.get((number, answer), ()) if name.startswith("WSL")}


def raised_before_2_4(flat: Flat) -> set[str]:
    """The events that are refused as disconnected where the scope does not say that send() may raise."""
    raising = flat.bits["raising"]
    return {
        answer.event
        for cases in flat.answers.values()
        for case, answers in enumerate(cases)
        for answer in answers.values()
        if not case & raising and answer.refusal is Kind.DISCONNECTED
    }


@pytest.mark.parametrize(("number", "answer"), ANSWERS)
def test_no_answer_has_send_raise_where_it_may_not(number: str, answer: str) -> None:
    """What `broken` cannot see, since there all is advertised: `late_is_silent_before_2_4`.

    A receive() that raises is that answer itself, whatever the version is.
    """
    expected = {"give_disconnect"} if (number, answer) == ("C6", "raises") else set()
    assert raised_before_2_4(deviation(number, answer)) == expected


@pytest.mark.parametrize(("number", "answer"), UNSOUND)
def test_deviation_that_is_unsound_is_reported_and_not_refused(number: str, answer: str) -> None:
    flat = deviation(number, answer)
    names = {name for name in UNSOUND[number, answer] if not name.startswith("WSL")}
    assert broken(flat) == names - set(SOMETIMES)
    if names & set(SOMETIMES):
        assert missing(flat) >= names & set(SOMETIMES)


def sound_profiles() -> list[dict[str, str]]:
    """As few profiles as there can be in which every answer stands that breaks nothing alone."""
    sound = {
        number: [answer for answer in choice.answers if (number, answer) not in UNSOUND]
        for number, choice in SPEC.choices.items()
    }
    most = max(map(len, sound.values()))
    return [{number: answers[turn % len(answers)] for number, answers in sound.items()} for turn in range(most)]


@pytest.mark.parametrize("profile", sound_profiles(), ids=lambda profile: f"C2 {profile['C2']}")
def test_all_other_answers_hold_together(profile: dict[str, str]) -> None:
    flat = Flat(SPEC, profile, "together")
    assert broken(flat) == missing(flat) == set()


def test_every_answer_is_checked() -> None:
    checked = {*UNSOUND, *(answer for profile in sound_profiles() for answer in profile.items())}
    assert checked == set(ANSWERS)
    assert not UNSOUND.keys() & SPEC.reference.items()


@pytest.mark.parametrize("number", SPEC.choices)
def test_no_two_answers_are_the_same(number: str) -> None:
    choice = SPEC.choices[number]
    assert len(choice.answers) >= 2
    seen = [(deviation(number, answer).answers, dict(values)) for answer, values in choice.answers.items()]
    for position, one in enumerate(seen):
        assert one not in seen[:position]


NO_RULE_OF_OTHERS = {
    ("C2", "aborted"): "W13 does not say that what was sent is read before the transport is dropped",
    ("C3", "aborted"): "likewise",
    ("C32", "aborted"): "likewise",
    ("C6", "waits"): "R28 has been obeyed by the first disconnect",
    ("C7", "abnormal"): "R28 has been obeyed by the first disconnect",
    ("C15", "given"): "what is given late is given all the same, before the disconnect",
    ("C41", "swallowed"): "the app has broken a rule, and is owed nothing by W13",
    ("C48", "never"): "no document says for how long a Close is waited for",
}
"""Answers that break a property which comes from a rule, and no rule: each with the reason."""


@pytest.mark.parametrize(("number", "answer"), UNSOUND)
def test_an_answer_that_breaks_the_property_of_a_rule_breaks_that_rule(number: str, answer: str) -> None:
    names = UNSOUND[number, answer] - set(SOMETIMES)
    rules = {SPEC.properties[name].rule for name in names if name in SPEC.properties}
    of_documents = {rule for rule in rules if not rule.startswith("C")}
    broken = SPEC.choices[number].breaks.get(answer)
    if (number, answer) in NO_RULE_OF_OTHERS:
        assert of_documents
        assert broken is None
    else:
        assert broken in of_documents or not (of_documents or broken) or (number, answer) == ("C26", "raises")


def test_what_breaks_a_rule_is_no_answer_of_ours() -> None:
    broken = {(number, answer) for number, choice in SPEC.choices.items() for answer in choice.breaks}
    assert broken
    assert not broken & set(SPEC.reference.items())
    assert all(rule in SPEC.rules for choice in SPEC.choices.values() for rule in choice.breaks.values())


MACHINES = dict.fromkeys(("C1", "C7", "C12", "C13", "C15", "C23", "C25", "C26", "C32", "C37", "C41"), 2)
MACHINES |= dict.fromkeys(("C42", "C47", "C48", "C50"), 2)
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
