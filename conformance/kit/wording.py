"""What all ways to show a report say alike: what a number stands for, where and how often, and text made safe.

Text that a server has brought about may hold anything: sequences that steer a terminal, marks that turn the direction
of writing, halves of a character. `visible` makes it harmless for every place where text is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from wslifecycle.conformance.kit.results import Deviation, Result, Verdict
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.model import Level, Spec

LEVELS: Mapping[Level, str] = {
    Level.MUST: "must",
    Level.SHOULD: "should",
    Level.MAY: "may",
    Level.DEFINITION: "definition",
    Level.INFORMATIVE: "informative",
}
"""How binding a rule is, in a word."""


@dataclass(frozen=True, slots=True)
class About:
    """What a number stands for."""

    number: str
    """Such as R28; empty for what no rule speaks of: the server's process."""
    level: str
    """One of `LEVELS`, `choice`, or `process`; empty where this release does not know the number."""
    place: str
    """Where it is written, such as `ASGI, Disconnect - receive event`; empty for a choice."""
    says: str
    line: int
    """Its line in spec/lifecycle.yaml."""


def about(number: str) -> About:
    """What a number stands for. A report of another release may have one that this release does not know."""
    spec = _spec()
    if number in spec.rules:
        rule = spec.rules[number]
        return About(number, LEVELS[rule.level], f"{rule.doc}, {rule.place}", rule.says, rule.line)
    if number in spec.choices:
        choice = spec.choices[number]
        return About(number, "choice", "", choice.about, choice.line)
    if not number:
        return About("", "process", "", "The server's process lives on, serves others, and logs no crash.", 1)
    return About(number, "", "", "This release does not know it.", 1)


@cache
def _spec() -> Spec:
    return load_spec()


def numbers(results: Iterable[Result]) -> list[str]:
    """Everything that was tried or deviated from, in the order of the spec; what has no number comes first."""
    found: set[str] = set()
    for result in results:
        found |= {number for number, cases in result.tried.items() if cases}
        found |= {number for deviation in result.deviations for number in concerned(deviation)}
        found |= result.answers.keys() | ({""} if result.cases else set())
    order = {number: place for place, number in enumerate(("", *_spec().rules, *_spec().choices))}
    return sorted(found, key=lambda number: (order.get(number, len(order)), number))


def concerned(deviation: Deviation) -> set[str]:
    """The rule that is broken, and the choice that was answered otherwise."""
    return {deviation.rule, deviation.choice} if deviation.choice else {deviation.rule}


def heaviest_first(deviations: Iterable[Deviation]) -> list[Deviation]:
    """Sorted by their verdicts, in the order of the spec among equals."""
    order = {number: place for place, number in enumerate(("", *_spec().rules, *_spec().choices))}
    return sorted(deviations, key=lambda found: (found.verdict.weight, order.get(found.rule, len(order)), found.key))


def counts(result: Result) -> Mapping[Verdict, int]:
    """How many deviations there are of each verdict, the heaviest first."""
    found = Counter(deviation.verdict for deviation in result.deviations)
    return {verdict: found[verdict] for verdict in Verdict}


def title(deviation: Deviation) -> str:
    """Its rule and its verdict, such as `R28 must`."""
    return f"{visible(deviation.rule)} {deviation.verdict}".strip()


def where(deviation: Deviation) -> str:
    """The state where the paths part, and the event there; empty if neither is told."""
    at = f"at {deviation.event}" if deviation.event else "at the end" if deviation.state else ""
    return visible(", ".join(filter(None, (deviation.state, at))))


def often(deviation: Deviation) -> str:
    """In how many of how many runs it was seen, and how many other cases show it."""
    more = len(deviation.cases)
    others = f"; {plural(more, 'other case shows', 'other cases show')} it, too" if more else ""
    return f"{deviation.times} of {deviation.of}{others}"


def plural(number: int, one: str, more: str = "") -> str:
    """A number of things: `1 case`, `2 cases`."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def visible(text: str) -> str:
    r"""The text with whatever cannot be seen written out, such as `\x1b`; only line feeds stay what they are."""
    if text.isprintable():
        return text
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
