"""Real bugs as a measure of the kit: pairs of releases, of which one has a bug and the other has not.

    rows = load_pairs(text)
    for row in rows:
        print(judge(row, buggy, good).text())

`pairs.csv` has bugs of ASGI servers that were seen as a difference between two releases; its column `numbers` has the
rules that the words of the bug speak of. No case of the kit knows of any row.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.kit.environments import environment
from wslifecycle.conformance.kit.plays import OF_VALUES
from wslifecycle.conformance.kit.results import Deviation, Report, Result, Verdict, load_report

Conform: TypeAlias = Callable[[servers.Server], Result]

COLUMNS = (
    "id",
    "server",
    "websocket_implementation",
    "buggy",
    "good",
    "buggy_requirements",
    "good_requirements",
    "bug",
)
FIELDS = ("name", "server", "implementation", *COLUMNS[3:])


@dataclass(frozen=True, slots=True)
class Pair:
    """A bug: in which release it is, in which not, and the rules that it breaks (none: any)."""

    name: str
    server: str
    implementation: str
    buggy: str
    good: str
    buggy_requirements: str
    good_requirements: str
    bug: str
    numbers: frozenset[str]

    @property
    def argument(self) -> str:
        """How the server is named."""
        return f"{self.server}:{self.implementation}" if self.implementation else self.server


class Outcome(StrEnum):
    """What the kit says to a pair."""

    FOUND = "found"
    ELSEWHERE = "found elsewhere"
    NOT_FOUND = "not found"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the kit says to one pair: what only the buggy release does, and what only the good one is blamed for."""

    pair: Pair
    outcome: Outcome
    shown: tuple[Deviation, ...] = ()
    alarms: tuple[Deviation, ...] = ()
    """Musts and shoulds that only the good release breaks, as far as the kit says."""
    error: str = ""

    def text(self) -> str:
        """In words, in a few lines."""
        pair = self.pair
        lines = [f"{pair.name:5} {self.outcome:15} {pair.argument} {pair.buggy} / {pair.good}: {pair.bug}"]
        lines += [f"      {_told(found)}" for found in self.shown[:3]]
        lines += [f"      only in {pair.good}: {_told(found)}" for found in self.alarms]
        lines += [f"      {self.error}"] if self.error else []
        return "\n".join(lines)


def _told(found: Deviation) -> str:
    where = f"{found.event} in {found.state}: " if found.state else ""
    return f"[{found.rule or found.verdict} {found.verdict}] {where}{found.seen}, not: {found.expected} ({found.case})"


def load_pairs(text: str) -> list[Pair]:
    """The pairs of a file; `numbers` may be missing. Raises `ValueError` where another column is."""
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"there is no column {', '.join(missing)}")
    return [
        Pair(**dict(zip(FIELDS, map(row.__getitem__, COLUMNS), strict=True)), numbers=_numbers(row)) for row in reader
    ]


def _numbers(row: dict[str, str]) -> frozenset[str]:
    return frozenset((row.get("numbers") or "").split())


def packaged() -> list[Pair]:
    """The pairs that come with the package."""
    return load_pairs(
        (resources.files("wslifecycle") / "conformance" / "kit" / "pairs.csv").read_text(encoding="utf-8")
    )


def judge(pair: Pair, buggy: Result, good: Result) -> Judgement:
    """Holds the results of both releases against each other."""
    fine: dict[tuple[str, ...], set[str]] = {}
    for found in good.deviations:
        fine.setdefault(_key(found), set()).update((found.case, *found.cases))
    only = [
        found
        for found in buggy.deviations
        if _key(found) not in fine  # an answer about values may be another one for each of them
        or (found.choice in OF_VALUES and {found.case, *found.cases} - fine[_key(found)])
    ]
    asked = [found for found in only if not pair.numbers or pair.numbers & {found.rule, found.choice} or not found.rule]
    known = {_key(found) for found in buggy.deviations}
    alarms = [f for f in good.deviations if f.verdict is not Verdict.CHOICE and _key(f) not in known]
    outcome = Outcome.FOUND if asked else Outcome.ELSEWHERE if only else Outcome.NOT_FOUND
    return Judgement(pair, outcome, tuple(asked or only), tuple(alarms))


def _key(found: Deviation) -> tuple[str, ...]:
    return (found.verdict, found.rule, found.event, found.state.partition("/")[0], found.seen)


# ------------------------------------------------------------------------------------------------ measuring


_ONLY_TELL = frozenset({"formats.py", "html.py", "pairs.py", "show.py", "wording.py"})
"""What only judges and tells what was found."""


@cache
def fingerprint() -> str:
    """Of all that decides what the kit finds: its own sources, those of the machine, and the spec."""
    digest = hashlib.sha256()
    package = resources.files("wslifecycle")
    for folder in ("conformance", "conformance/kit", "statemachine", "spec", "spec/scenarios"):
        place = package.joinpath(*folder.split("/"))
        for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith((".py", ".yaml")) and entry.name not in _ONLY_TELL:
                digest.update(entry.read_bytes())
    return digest.hexdigest()[:12]


def _kept(pair: Pair, requirements: str, root: Path) -> Path:
    """Where the result of one release is kept: another place for another kit."""
    name = hashlib.sha256(f"{pair.argument} {requirements} {fingerprint()}".encode()).hexdigest()[:12]
    return root / "results" / f"{name}.json"


def forget(pairs: Iterable[Pair], root: Path) -> None:
    """Removes the results that are kept of these pairs, so that their releases are tried again."""
    for pair in pairs:
        for requirements in (pair.buggy_requirements, pair.good_requirements):
            _kept(pair, requirements, root).unlink(missing_ok=True)


def measured(pair: Pair, root: Path, conform: Conform) -> Iterator[Result]:
    """The results of the buggy release, then of the good one; those that are kept in `root` are not tried again.

    Raises `NoEnvironment`, `LookupError` for a server that the environment has not, and what `conform` raises.
    """
    for requirements in (pair.buggy_requirements, pair.good_requirements):
        kept = _kept(pair, requirements, root)
        if kept.exists():
            yield load_report(kept.read_text(encoding="utf-8")).results[0]
            continue
        server = servers.find(pair.argument, environment(requirements, root / "environments"))[0]
        result = conform(server)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unready = kept.with_suffix(".part")
        unready.write_text(Report("", (result,)).dump(), encoding="utf-8")
        unready.rename(kept)
        yield result
