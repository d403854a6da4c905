"""What is known of servers and does not fail a build: a baseline, held against what was found now.

It is JSON: for each server the keys of the deviations that are known (`Deviation.key`). Choices are never in it, since
they fail nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from wslifecycle.conformance.kit.results import Deviation, Report, Verdict


@dataclass(frozen=True, slots=True)
class Baseline:
    """The keys that are known, by the name of the server."""

    known: Mapping[str, frozenset[str]]

    @staticmethod
    def of(report: Report) -> Baseline:
        """Everything that a report found."""
        return Baseline(
            {result.server: frozenset(found.key for found in _failing(result.deviations)) for result in report.results}
        )

    def dump(self) -> str:
        """The baseline as JSON."""
        known = {server: sorted(keys) for server, keys in sorted(self.known.items())}
        return json.dumps({"format": 1, "known": known}, indent=1) + "\n"


def load_baseline(text: str) -> Baseline:
    """A baseline from its JSON. Raises `ValueError` where it is none."""
    try:
        plain = json.loads(text)
        if plain["format"] != 1:
            raise ValueError(f"its format is {plain['format']}, and this release reads 1")
        return Baseline({str(server): frozenset(map(str, keys)) for server, keys in plain["known"].items()})
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise ValueError(f"This is no baseline of the conformance kit: {fault}.") from None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a report has that a baseline does not know, and the other way round; each with the name of the server."""

    fresh: tuple[tuple[str, Deviation], ...]
    known: int
    fixed: tuple[tuple[str, str], ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is new."""
        return not self.fresh

    def text(self) -> str:
        """In words."""
        lines = [f"{self.known} known deviations were found again."]
        lines += [f"fixed: {server}: {key} (take it out with --write-baseline)" for server, key in self.fixed]
        lines += [f"new: {server}: {found.verdict} {found.key}" for server, found in self.fresh]
        return "\n".join(lines)


def compare(report: Report, baseline: Baseline) -> Comparison:
    """Holds a report against a baseline. What is known of a server that was not tried is not fixed."""
    fresh: list[tuple[str, Deviation]] = []
    fixed: list[tuple[str, str]] = []
    again = 0
    for result in report.results:
        known = baseline.known.get(result.server, frozenset())
        found = _failing(result.deviations)
        fresh += [(result.server, one) for one in found if one.key not in known]
        again += sum(one.key in known for one in found)
        fixed += [(result.server, key) for key in sorted(known - {one.key for one in found})]
    return Comparison(tuple(fresh), again, tuple(fixed))


def without(report: Report, baseline: Baseline) -> Report:
    """A report without what is known."""
    return replace(
        report,
        results=tuple(
            replace(
                result,
                deviations=tuple(
                    one for one in result.deviations if one.key not in baseline.known.get(result.server, frozenset())
                ),
            )
            for result in report.results
        ),
    )


def _failing(deviations: tuple[Deviation, ...]) -> list[Deviation]:
    return [found for found in deviations if found.verdict is not Verdict.CHOICE]
