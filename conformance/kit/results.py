"""What a run of the kit says about servers, as values: to be shown, kept as JSON, and compared.

A `Deviation` is one way in which a server leaves the `reference` profile, confirmed by running its case alone. A
`Result` is everything about one server, a `Report` what was found about several in one run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How much a deviation weighs; the heaviest come first."""

    DIED = "died"
    """The server's process ended."""
    HUNG = "hung"
    """The server answered nobody any more."""
    CRASHED = "crashed"
    """The server's log has a traceback or a panic that no app caused."""
    MUST = "must"
    """A must, or a definition, is broken."""
    SHOULD = "should"
    """A should is broken."""
    CHOICE = "choice"
    """The documents are silent, and the server does otherwise than the reference."""

    @property
    def weight(self) -> int:
        """0 is the heaviest."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a trace. `side`: `app`, `peer`, or `server` for its process and its log."""

    side: str
    text: str
    wrong: bool = False
    """Whether the paths part here."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which a server leaves the reference."""

    verdict: Verdict
    rule: str
    """Its number, such as R28 or C10; empty if no rule is concerned (a process that died)."""
    state: str
    """The machine's state where the paths part, such as `open/flowing/running`."""
    event: str
    """What happened there, in the words of the spec, such as `app_close`; empty at the end of a case."""
    expected: str
    seen: str
    case: str
    """The shortest case that shows it, by its name."""
    times: int
    """In so many runs of the case alone it was seen,"""
    of: int
    """of so many."""
    trace: tuple[Line, ...]
    repeat: str
    """A command line that runs this case alone."""
    answer: str = ""
    """The named answer to a choice that this is, such as `none` (`rule` is that choice, or the rule that it breaks)."""
    choice: str = ""
    """The choice that `answer` answers."""
    log: str = ""
    """What the server logged meanwhile, cut to what matters."""
    cases: tuple[str, ...] = ()
    """The other cases that show it."""

    @property
    def share(self) -> float:
        """In which part of the runs it was seen, 0 to 1."""
        return self.times / self.of

    @property
    def key(self) -> str:
        """What makes it the same deviation in another run: rule, state, event and what was seen, without any data."""
        return f"{self.rule or self.verdict}: {self.event or 'end'} in {self.state or 'any state'}: {self.seen}"


@dataclass(frozen=True, slots=True)
class Result:
    """What was found about one server."""

    server: str
    """What it is called in tables, such as `uvicorn wsproto`."""
    version: str
    """Of the distributions that it is made of, such as `uvicorn 0.54.0, wsproto 1.3.2`; empty if not known."""
    command: str
    """How it was started, with `{app}` and `{port}`."""
    spec_version: str
    extensions: tuple[str, ...]
    cases: int
    """So many were run."""
    tried: Mapping[str, int]
    """For each rule the number of cases in which it was tried."""
    answers: Mapping[str, str]
    """The answers to the choices that were measured."""
    deviations: tuple[Deviation, ...]
    """The heaviest first."""
    seconds: float
    unasked: Mapping[str, str] = field(default_factory=dict)
    """What was not asked of this server, and why."""

    @property
    def passed(self) -> bool:
        """Whether nothing but choices was found."""
        return all(found.verdict is Verdict.CHOICE for found in self.deviations)

    def of_rule(self, rule: str) -> tuple[Deviation, ...]:
        """What was found about one rule."""
        return tuple(found for found in self.deviations if found.rule == rule)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found about several servers in one run. `date`: the day, in the form 2026-11-27."""

    date: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether every server passed."""
        return all(result.passed for result in self.results)

    def dump(self) -> str:
        """The report as JSON."""
        return json.dumps({"format": 1, "passed": self.passed, **asdict(self)}, indent=1) + "\n"


def load_report(text: str) -> Report:
    """A report from its JSON. Raises `ValueError` where it is none."""
    try:
        plain = json.loads(text)
        if plain["format"] != 1:
            raise ValueError(f"its format is {plain['format']}, and this release reads 1")
        return Report(plain["date"], tuple(map(_result, plain["results"])))
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise ValueError(f"This is no report of the conformance kit: {fault}.") from None


def _result(plain: dict[str, Any]) -> Result:
    deviations = tuple(
        Deviation(
            **found
            | {
                "verdict": Verdict(found["verdict"]),
                "trace": tuple(Line(**line) for line in found["trace"]),
                "cases": tuple(found["cases"]),
            }
        )
        for found in plain["deviations"]
    )
    return Result(**plain | {"extensions": tuple(plain["extensions"]), "deviations": deviations})
