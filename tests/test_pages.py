"""The generated pages: each must that speaks of order has a property, and each named mutant a run that shows it."""

from __future__ import annotations

import re

import pytest

from wslifecycle.conformance.pages import pages
from wslifecycle.conformance.scenarios import load_scenarios
from wslifecycle.statemachine.machine import lifecycle
from wslifecycle.statemachine.model import Level
from wslifecycle.statemachine.mutate import Subject

FLAT = lifecycle().flat
SPEC = FLAT.spec
ORDER = [number for number, rule in SPEC.rules.items() if rule.order]

pytestmark = pytest.mark.xdist_group("pages")  # they are made once


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: content.decode() for name, content in pages(FLAT).items()}


def row(text: str, number: str) -> list[str]:
    """The cells of a rule or choice."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {number} |"))
    return [cell.strip() for cell in line.replace("\\|", "").strip("| ").split("|")]


@pytest.mark.parametrize("number", ORDER)
def test_each_must_that_speaks_of_order_has_a_property_that_forbids_or_promises(number: str) -> None:
    assert SPEC.rules[number].level is Level.MUST
    held = [p for p in SPEC.properties.values() if p.rule == number and not p.holds.startswith("sometimes")]
    assert held


def test_the_musts_that_speak_of_order_are_marked() -> None:
    assert set(ORDER) >= {"R20", "R21", "R22", "R36", "R37", "R46", "R55", "R56", "W7", "W8", "W9", "W13"}


def test_table_names_every_property_and_every_scenario_at_its_rule(texts: dict[str, str]) -> None:
    text = texts["rules.md"]
    for declared in SPEC.properties.values():
        assert f"`{declared.name}`" in row(text, declared.rule)[3]
    for scenario in load_scenarios().values():
        for number in (*(cite.rule for cite in scenario.cites), *scenario.assumes):
            assert scenario.name in row(text, number)[4].split(", ")
    assert [number for number in ORDER if row(text, number)[1] != "M *order*"] == []


def test_every_rule_that_answers_has_its_pairs_of_state_and_event(texts: dict[str, str]) -> None:
    answering = {answer.rule for state in FLAT.state_of for answer in FLAT.distinct(state)}
    for number in (*SPEC.rules, *SPEC.choices):
        cells = row(texts["rules.md"], number)
        assert (len(cells) == 6 and int(cells[5]) > 0) == (number in answering)


def test_every_named_mutant_is_shown_breaking_its_property(texts: dict[str, str]) -> None:
    sections = re.split(r"^## ", texts["counterexamples.md"], flags=re.MULTILINE)[1:]
    named = Subject().book().named
    assert len(named) == len(sections) >= 8
    for mutant, section in zip(named, sections, strict=True):
        assert section.startswith(f"{mutant.id.removeprefix('named:')}\n\n{mutant.says}\n")
        assert f"`{mutant.breaks}` (" in section
        assert "   1  " in section
        assert "```mermaid\nsequenceDiagram\n" in section
