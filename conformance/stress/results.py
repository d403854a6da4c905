"""What came of the trials: a figure each, whether it is within its bound, and the table of all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What came of a trial.

    `says` is what was measured, in a few words; `good`: within its bound; None: the trial does not apply, `says` why.
    """

    says: str
    good: bool | None


@dataclass(frozen=True, slots=True)
class Tried:
    """A server and what came of each trial, by its name."""

    server: str
    version: str
    figures: dict[str, Figure]

    @property
    def passed(self) -> bool:
        """Whether everything was within its bound."""
        return all(figure.good is not False for figure in self.figures.values())


@dataclass(frozen=True, slots=True)
class Report:
    """What came of trials on servers, and when."""

    date: str
    tried: tuple[Tried, ...]

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def load(data: str) -> Report:
    """A report of what `dump` made. Raises `ValueError` for anything else."""
    try:
        plain = json.loads(data)
        tried = [
            Tried(one["server"], one["version"], {name: Figure(**figure) for name, figure in one["figures"].items()})
            for one in plain["tried"]
        ]
        return Report(plain["date"], tuple(tried))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"This is no report of stress: {error!r}") from None


def table(report: Report, names: Sequence[tuple[str, str]]) -> str:
    """Markdown: a row for each trial (its name, and what it says), a column for each server; bold is out of bounds."""
    servers = report.tried
    lines = [
        f"| what was tried | {' | '.join(one.server for one in servers)} |",
        f"|---|{'---|' * len(servers)}",
    ]
    for name, says in names:
        if any(name in one.figures for one in servers):
            lines.append(f"| {says} | {' | '.join(_cell(one.figures.get(name)) for one in servers)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"**{figure.says}**" if figure.good is False else figure.says
