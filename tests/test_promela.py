"""The Promela text: made of the machine's answers and of nothing that the explorer found, and sound as it stands."""

from __future__ import annotations

import dataclasses
import re
from types import CodeType

import pytest

from wslifecycle.statemachine.check import parsed_properties
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.model import Kind, Property
from wslifecycle.statemachine.promela import Question, built_in, promela, questions
from wslifecycle.statemachine.promela_system import Answers, options, state_name
from wslifecycle.statemachine.system import ACTIONS, Bounds

SPEC = load_spec()
FLAT = Flat(SPEC, SPEC.reference)
ANSWERS = Answers(FLAT)


def asked(*holds: str, fair: tuple[str, ...] = (), rare: tuple[str, ...] = ()) -> list[Question]:
    properties = {f"p{line}": Property(f"p{line}", text, "R1", line, fair, rare) for line, text in enumerate(holds)}
    flat = Flat(dataclasses.replace(SPEC, properties=properties), SPEC.reference)
    return list(questions(flat, parsed_properties(flat).values()))


def python(condition: str) -> CodeType:
    """A condition of the table in Python, which writes its operators otherwise."""
    text = condition.replace("(len(unread) > 0)", "fact_unread")
    return compile(text.replace("||", " or ").replace("&&", " and ").replace("!", " not "), condition, "eval")


@pytest.mark.parametrize("event", SPEC.events)
def test_table_answers_as_the_machine_does(event: str) -> None:
    """In every state and guard case exactly one line of the table applies, and it says what the machine says."""
    said = ANSWERS.grouped(
        event, lambda answer: f"{answer.target if answer.moves else ''} {answer.refusal} {answer.effects}"
    )
    table = {text: python(condition) for text, condition in said.items()}
    numbers = {state_name(state): number for number, state in enumerate(FLAT.state_of)}
    for case in range(FLAT.cases):
        facts = {f"fact_{name}": bool(case & bit) for name, bit in FLAT.bits.items()}
        for state, answer in FLAT.answers[event][case].items():
            values = numbers | facts | {"state": numbers[state_name(state)]}
            found = [text for text, condition in table.items() if eval(condition, values)]
            assert found == [f"{answer.target if answer.moves else ''} {answer.refusal} {answer.effects}"]


def test_condition_of_what_never_is_so_is_empty() -> None:
    assert ANSWERS.where("app_waited", lambda answer: answer.refusal is Kind.IMPOSSIBLE) == ""


def test_every_effect_has_its_inline_and_every_action_is_an_option() -> None:
    text = promela(FLAT, Bounds())
    inlines = set(re.findall(r"^inline (\w+)\(", text, re.MULTILINE))
    assert inlines >= set(SPEC.effects)
    assert {option.action for option in options(FLAT, ANSWERS)} == {
        *ACTIONS,
        *(name for name, event in SPEC.events.items() if event.actor != "given"),
    }


def test_bare_model_remembers_nothing_of_a_step() -> None:
    """What is there for properties only, or tells of the last step, is not there or hidden from SPIN's states."""
    text = promela(FLAT, Bounds())
    assert not re.search(r"\b(property|last|A|B)\b.*;", "\n".join(re.findall(r"^(?:byte|bool).*", text, re.MULTILINE)))
    assert "never p_" not in text
    kept = {name for line in re.findall(r"^(?:byte|bool) (.*);", text, re.MULTILINE) for name in line.split(", ")}
    assert not {name for name in kept if name.startswith("was_")}
    assert "action = 0; event = 0; letter = 0" in text


def test_model_with_properties_has_their_claims() -> None:
    text = promela(FLAT, Bounds(), [*asked("never app_send", "app_send leads to give_message"), *built_in()])
    claims = re.findall(r"^never (\w+) \{", text, re.MULTILINE)
    assert claims == ["p_p0", "p_p1", "happens_p1", "p_impossible", "p_deadlock"]
    assert "$" not in text


@pytest.mark.parametrize(
    ("text", "a", "b"),
    [
        ("never refused and not moved", "(refusal != 0) && ! (state != was_state)", "false"),
        ("always sending implies after wire=open", "! (! was_sending || (at_wire[state] == wire_open))", "was_sending"),
        ("never after receiving and sending", "(receiving > 0) && was_sending", "false"),
        ("never transport=up and followed", "(was_transport == up) && followed", "false"),
        ("app_send before gives", "(event == e_app_send && refusal == 0)", "(action == e_gives && refusal == 0)"),
    ],
)
def test_expressions_are_written_in_promela(text: str, a: str, b: str) -> None:
    (question,) = asked(text)
    assert (question.a, question.b) == (a, b)


def test_effect_is_one_of_the_sequences_that_have_it() -> None:
    (question,) = asked("never effect=send_pong")
    having = [number for effects, number in ANSWERS.done.items() if "send_pong()" in effects]
    assert having
    assert question.a == f"({' || '.join(f'does == {number}' for number in having)})"


def test_claim_waits_for_each_fair_action_that_is_not_switched_off() -> None:
    """The keepalive is off in the reference, so that nobody may rely on its running out."""
    (question,) = asked("app_send leads to told", fair=("gives", "keepalive_expired"), rare=("app_cancels",))
    assert question.claim.cycles
    assert question.watched == ("gives", "app_cancels")
    claim = "\n".join(question.claim.body)
    assert "CAN_gives" in claim
    assert "keepalive" not in claim
    assert claim.count("last != e_app_cancels") == 3  # the loop, the way out of it, and the round
