"""Pages of `diagrams/` that take more than the machine: which rule is held by what, and what the named mutants break.

Both are generated like the pictures beside them, and `make check-diagrams` fails where they are out of date.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from wslifecycle.conformance.scenarios import load_scenarios
from wslifecycle.statemachine.check import check
from wslifecycle.statemachine.counterexample import run_of
from wslifecycle.statemachine.draw import GENERATED
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.mutate import Mutant, Subject
from wslifecycle.statemachine.system import Bounds

BOUNDS = Bounds(queue=0, receivers=1)
"""Enough for each of the named mutants, and quick."""


def pages(flat: Flat) -> dict[str, bytes]:
    """The pages by their names."""
    return {"rules.md": _page(rules(flat)), "counterexamples.md": _page(counterexamples())}


def _page(lines: Iterable[str]) -> bytes:
    return "\n".join([f"<!-- {GENERATED} -->", "", *lines, ""]).encode()


# ------------------------------------------------------------------------------------------------ rules


def rules(flat: Flat) -> Iterator[str]:
    """Each rule and choice with the properties that hold it and the tests that try it."""
    spec = flat.spec
    properties: dict[str, list[str]] = defaultdict(list)
    for declared in spec.properties.values():
        properties[declared.rule].append(f"`{declared.name}`")
    scenarios: dict[str, list[str]] = defaultdict(list)
    for scenario in load_scenarios().values():
        for number in dict.fromkeys((*(cite.rule for cite in scenario.cites), *scenario.assumes)):
            scenarios[number].append(scenario.name)
    answers = {(answer.event, state, answer.rule) for state in flat.state_of for answer in flat.distinct(state)}
    pairs = Counter(rule for _, _, rule in answers)
    yield "# Rules, properties, tests"
    yield ""
    yield "Which property of `spec/lifecycle.yaml` holds a rule in every run of the model (`make check`), and what"
    yield "tries it: scenarios of `spec/scenarios/`, written from the documents, and the pairs of state and event"
    yield "whose answer carries its number, each of which the covers try (`make cover`). A rule with neither is none"
    yield "of the lifecycle: it speaks of the scope, of values or of bytes, and modules of `tests/` try it. *order*: a"
    yield "must that says what comes before what; each of these has a property."
    yield ""
    yield "| rule | level | says | properties | scenarios | pairs |"
    yield "|---|---|---|---|---|---|"
    for number, rule in spec.rules.items():
        level = f"{rule.level} *order*" if rule.order else str(rule.level)
        yield _row(number, level, rule.says, properties[number], scenarios[number], pairs[number])
    for number, choice in spec.choices.items():
        yield _row(number, choice.reference, choice.about, properties[number], scenarios[number], pairs[number])


def _row(number: str, level: str, says: str, properties: list[str], scenarios: list[str], pairs: int) -> str:
    said = " ".join(says.split()).replace("|", "\\|")
    cells = (number, level, said, ", ".join(properties), ", ".join(scenarios), str(pairs or ""))
    return f"| {' | '.join(cells)} |"


# ------------------------------------------------------------------------------------------------ counterexamples


def counterexamples() -> Iterator[str]:
    """The named mutants, each with what breaks first and a shortest run that shows it."""
    subject = Subject()
    yield "# Bugs that servers have had, and what finds them"
    yield ""
    command = f"wslifecycle check --queue {BOUNDS.queue} --receivers {BOUNDS.receivers}"
    yield "Each of these is the lifecycle with one thing in it changed (`named` in `spec/mutants.yaml`), and what"
    yield f"`{command}` says of it: a property that does not hold, and a shortest run that"
    yield "shows it. An indented line is what a step changes."
    for mutant in subject.book().named:
        yield from _counterexample(subject, mutant)


def _counterexample(subject: Subject, mutant: Mutant) -> Iterator[str]:
    spec = subject.spec_of(mutant)
    report = check(Flat(spec, spec.reference), BOUNDS, (mutant.breaks,))
    run = run_of(report, next(violation for violation in report.violations if violation.name == mutant.breaks))
    assert run is not None
    yield ""
    yield f"## {mutant.id.removeprefix('named:')}"
    yield ""
    yield mutant.says
    yield ""
    yield f"`{run.name}` ({run.rule}) does not hold: {run.says}."
    yield ""
    yield "```"
    yield from run.text().splitlines()[3:]
    yield "```"
    yield ""
    yield "```mermaid"
    yield from run.mermaid().splitlines()
    yield "```"
