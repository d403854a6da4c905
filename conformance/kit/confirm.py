"""Which suspicions are the same, and what of them is confirmed: deviations, with the heaviest verdict of their rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wslifecycle.conformance.kit.oracle import SINCE
from wslifecycle.conformance.kit.plays import SPEC
from wslifecycle.conformance.kit.results import Deviation, Verdict
from wslifecycle.conformance.kit.trial import Outcome, Suspicion
from wslifecycle.statemachine.model import Level

AGAIN = 3
"""So many times what is suspicious is held again, alone."""

MOST_NAMED = 20
"""So many other cases that show the same are named, at most."""

_LEVELS = {Level.MUST: Verdict.MUST, Level.DEFINITION: Verdict.MUST, Level.SHOULD: Verdict.SHOULD}


def verdict_of(rule: str, version: str) -> Verdict:
    """How much it weighs that a server which advertises this version breaks a rule.

    A choice is what no document speaks of, or only permits, and what a later version has brought.
    """
    found = SPEC.rules.get(rule)
    if version < SINCE.get(rule, ""):
        return Verdict.CHOICE
    return Verdict.CHOICE if found is None else _LEVELS.get(found.level, Verdict.CHOICE)


def is_heavy(suspicion: Suspicion, version: str) -> bool:
    """Whether something suspicious is more than a choice."""
    return (suspicion.verdict or verdict_of(suspicion.blame.rule, version)) is not Verdict.CHOICE


@dataclass(frozen=True, slots=True)
class Group:
    """What is to be looked at once: the names of the cases that show it, the shortest first. `version`: advertised.

    `choice` and `answer` where it is an answer that breaks a rule.
    """

    cases: Sequence[str]
    version: str
    choice: str = ""
    answer: str = ""
    suspicious: bool = True
    """Whether something was seen, and not only that the server was hurt beside it."""
    heavy: bool = False
    """Whether it seemed to be more than a choice."""

    def wanted(self, runs: Sequence[Outcome], repeat: int) -> int:
        """How many runs it takes after these. A mere choice is believed at once."""
        if not runs:
            return max(AGAIN, repeat) if self.heavy else 1
        shown = [suspicion for run in runs for suspicion in run.suspicions]
        if self.choice or any(is_heavy(suspicion, self.version) for suspicion in shown):
            return max(AGAIN, repeat)
        return repeat if shown or not self.suspicious else 2

    def confirmed(self, runs: Sequence[Outcome], repeat: str) -> Iterator[tuple[tuple[str, ...], Deviation]]:
        """What was seen in these runs of the first case, each with its key."""
        if self.choice:
            shown = [run for run in runs if run.answers.get(self.choice) == self.answer]
            if shown:
                yield ("", self.choice, self.answer), self._answered(shown, len(runs), repeat)
            return
        seen: dict[tuple[str, ...], list[tuple[Suspicion, Outcome]]] = {}
        for run in runs:
            for key, suspicion in {suspicion.key: suspicion for suspicion in run.suspicions}.items():
                seen.setdefault(key, []).append((suspicion, run))
        for key, found in seen.items():
            suspicion, run = found[0]
            blame = suspicion.blame
            yield (
                key,
                Deviation(
                    suspicion.verdict or verdict_of(blame.rule, self.version),
                    blame.rule,
                    blame.state,
                    blame.event,
                    blame.expected,
                    blame.seen,
                    self.cases[0],
                    len(found),
                    len(runs),
                    suspicion.lines,
                    repeat,
                    log=run.log[-2000:],
                    cases=tuple(self.cases[1 : MOST_NAMED + 1]),
                ),
            )

    def _answered(self, shown: Sequence[Outcome], of: int, repeat: str) -> Deviation:
        declared = SPEC.choices[self.choice]
        rule = declared.breaks[self.answer]
        return Deviation(
            verdict_of(rule, self.version),
            rule,
            "",
            "",
            f"{self.choice} {declared.reference}",
            f"{self.choice} {self.answer}",
            self.cases[0],
            len(shown),
            of,
            shown[0].lines,
            repeat,
            self.answer,
            self.choice,
            shown[0].log[-2000:],
            tuple(self.cases[1 : MOST_NAMED + 1]),
        )


def grouped(suspects: Sequence[Outcome], version: str) -> list[Group]:
    """The suspicions by what they are; what has none (a case beside which the server was hurt) stands for itself."""
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in suspects:
        for suspicion in outcome.suspicions[:1]:
            groups.setdefault(suspicion.key, []).append(outcome)
        if not outcome.suspicions:
            groups.setdefault(("", outcome.case.name), []).append(outcome)
    return [
        Group(
            [outcome.case.name for outcome in sorted(found, key=lambda outcome: len(outcome.case.steps))],
            version,
            suspicious=bool(found[0].suspicions),
            heavy=any(is_heavy(suspicion, version) for suspicion in found[0].suspicions),
        )
        for found in groups.values()
    ]
