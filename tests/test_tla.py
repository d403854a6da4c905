"""The TLA+ text is for readers; nothing runs TLC here, so that it is read for what a parser would find first."""

from __future__ import annotations

import re

import pytest

from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.system import ACTIONS, Bounds
from wslifecycle.statemachine.tla import tla

SPEC = load_spec()
FLAT = Flat(SPEC, SPEC.reference)
TEXT = tla(FLAT, Bounds(queue=1, receivers=1))
WORDS = {
    "ASSUME", "BOOLEAN", "CASE", "CHOOSE", "DOMAIN", "ELSE", "ENABLED", "EXCEPT", "EXTENDS", "FALSE", "IF", "IN", "LET",
    "MODULE", "OTHER", "RECURSIVE", "THEN", "TRUE", "VARIABLES", "WF_vars", "_vars", "_",
    "Append", "Head", "Len", "Naturals", "Sequences", "Tail",
}  # fmt: skip
"""What TLA+ and the two modules that are extended bring."""


def bare(text: str) -> str:
    r"""Without comments, strings and the names of operators such as `\in`."""
    text = re.sub(r"\(\*.*?\*\)|\\\*.*?$", " ", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r'"[^"]*"|\\[A-Za-z]+', " ", text)


def test_it_is_one_module_and_says_that_it_is_not_checked() -> None:
    assert TEXT.startswith("---- MODULE Lifecycle ----\n")
    assert TEXT.endswith("\n====\n")
    assert "NOT CHECKED" in TEXT.split("*)")[0]


def test_nothing_is_left_of_the_template() -> None:
    assert "$" not in bare(TEXT)


@pytest.mark.parametrize(("opens", "closes"), ["()", "[]", "{}", ("<<", ">>")])
def test_brackets_are_closed(opens: str, closes: str) -> None:
    text = bare(TEXT)
    if opens == "[":  # that which is in a CASE is no bracket
        text = text.replace("[]", " ")
    assert text.count(opens) == text.count(closes) > 0


def test_every_name_is_known() -> None:
    """An operator, a parameter, a bound variable or a field."""
    text = bare(TEXT)
    groups = re.findall(r"VARIABLES ([\w, ]+)", text) + re.findall(r"\\E ([\w, ]+?) \\in", TEXT)
    groups += [", ".join(found) for found in re.findall(r"(\w+)(?:\(([\w, ]*)\))? ==", text)]
    groups += [", ".join(found) for found in re.findall(r"CHOOSE (\w+)|(\w+) \|->|\.(\w+)", text)]
    known = WORDS | {"Lifecycle"} | {name for group in groups for name in group.split(", ")}
    assert set(re.findall(r"\b[A-Za-z_]\w*\b", text)) - known == set()


def test_every_operator_is_defined_before_it_is_used() -> None:
    text = bare(TEXT)
    for definition in re.finditer(r"^(\w+)(?:\([\w, ]*\))? ==", text, re.MULTILINE):
        first = re.search(rf"(?<![.\w]){definition[1]}\b(?! \|->)", text)
        assert first is not None
        assert first.start() == definition.start() or text[: first.start()].endswith("RECURSIVE "), definition[1]


def test_every_action_is_a_step() -> None:
    steps = set(re.findall(r"\w+", TEXT.partition("\nNext ==")[2].partition("\nSpec ==")[0]))
    assert steps >= {*ACTIONS, *(name for name, event in SPEC.events.items() if event.actor != "given")}
    for step in steps:
        assert re.search(rf"^{step} ==", TEXT, re.MULTILINE), step


def test_every_property_is_there_with_what_it_relies_on() -> None:
    assert set(re.findall(r"^(?:Not)?P_(\w+) ==", TEXT, re.MULTILINE)) == set(SPEC.properties)
    (told,) = re.findall(r"^P_end_is_told ==.*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    assert "WF_vars(app_asks)" in told
    assert '<>[](step.action # "app_cancels")' in told
    assert '~> ((step.was.told # ""))' in told
    assert "WF_vars(keepalive_expired)" not in TEXT


def test_only_what_is_named_is_written() -> None:
    text = tla(FLAT, Bounds(), ["one_close"])
    assert re.findall(r"^P_(\w+) ==", text, re.MULTILINE) == ["one_close"]
    assert re.findall(r'THEN \{"(\w+)"\} ELSE \{\}\)$', text.partition("Remembered")[2], re.MULTILINE)[0] == "one_close"


def test_unknown_property_is_misuse() -> None:
    with pytest.raises(LookupError, match="no property"):
        tla(FLAT, Bounds(), ["nobody"])
