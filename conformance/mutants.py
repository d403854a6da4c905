"""Runs mutants of the spec: what kills each of them, and whether all that survive are known to be equivalent.

A mutant goes through three stages: the `loader` with everything that compiling finds, the `scenarios` on a real
`Connection`, which take milliseconds, and the `checker` of the properties. A snapshot is none of them. What is left is
compared with the reference: a machine that is the same is no mutant at all, and machines that equal each other count
once. A crash of the checker, or one that takes too long, is no kill but an error of ours.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from multiprocessing import get_context, parent_process
from typing import Any

from wslifecycle.conformance.sansio import run
from wslifecycle.conformance.scenarios import load_scenarios
from wslifecycle.statemachine.check import check
from wslifecycle.statemachine.findings import SpecError
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.mutate import Book, Mutant, Subject, signature
from wslifecycle.statemachine.system import Bounds

STAGES = ("loader", "scenarios", "checker")
BOUNDS = (Bounds(queue=1, receivers=1, facts=frozenset({"denial", "raising"})), Bounds())
"""What the checker searches: little at first, which finds most in a few seconds, then as much as for the reference."""
SECONDS = 600.0
"""What one mutant may take; most take less than a second, one that survives a minute."""
ENOUGH = 0.95
"""The share of the mutants that has to be killed."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant. `kills`: for each stage that killed it, what did; `machine`: what it compiled to."""

    mutant: str
    kills: Mapping[str, str]
    machine: str | None = None
    error: str | None = None


# ------------------------------------------------------------------------------------------------ one mutant


def judge(subject: Subject, mutant: Mutant, *, all_stages: bool = False, seconds: float = SECONDS) -> Verdict:
    """Runs one mutant up to the first stage that kills it, or through all of them."""
    kills: dict[str, str] = {}
    machine = None
    try:
        with _at_most(seconds):
            for stage, killer, made in _stages(subject, mutant):
                machine = made or machine
                if killer is not None:
                    kills[stage] = killer
                if (killer and not all_stages) or machine == subject.machine:
                    break
    except _TooLongError:
        return Verdict(mutant.id, kills, machine, f"took longer than {seconds:g} s")
    except Exception as error:
        return Verdict(mutant.id, kills, machine, f"{type(error).__name__}: {error}")
    return Verdict(mutant.id, kills, machine)


def _stages(subject: Subject, mutant: Mutant) -> Iterator[tuple[str, str | None, str | None]]:
    """The stages in their order, each with what killed the mutant in it, and the machine once there is one."""
    try:
        spec = subject.spec_of(mutant)
        flat = Flat(spec, spec.reference)
    except SpecError as error:
        yield "loader", error.findings[0].code, None
        return
    yield "loader", next(iter(unsound(flat)), None), signature(flat)
    yield "scenarios", played(Lifecycle(flat)), None
    yield "checker", checked(flat), None


def unsound(flat: Flat) -> list[str]:
    """The findings about soundness. A row that was split for the mutant is dead only if all its parts are."""
    alive = {row.line for row in flat.used_rows} | {coupling.line for coupling in flat.used_couplings}
    return [finding.code for finding in flat.findings if finding.code != "WSL033" or finding.line not in alive]


def checked(flat: Flat) -> str | None:
    """The first property that does not hold, or what else the checker finds."""
    found = (violation.name for bounds in BOUNDS for violation in check(flat, bounds, first=True).violations)
    return next(found, None)


def played(machine: Lifecycle) -> str | None:
    """The first scenario that is seen otherwise than it says; one that cannot be played to its end is that, too."""
    for name, scenario in load_scenarios().items():
        try:
            if run(scenario, machine):
                return name
        except Exception as error:  # such as ImpossibleEvent: what the documents allow cannot be done
            return f"{name} ({type(error).__name__})"
    return None


_AGAIN = 0.1
"""Seconds after which a limit strikes once more: what is raised inside of a finaliser is lost as well."""


class _TooLongError(BaseException):
    """Not an Exception, so that nothing in between takes it for one of its own."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Limits a block, where the system has a timer and this is the thread that hears it."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: Any) -> None:
        raise _TooLongError

    before, collects = signal.signal(signal.SIGALRM, late), gc.isenabled()
    gc.disable()  # what is raised while it collects is lost, so that the block would have no limit
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if collects:
            gc.enable()


# ------------------------------------------------------------------------------------------------ all of them


def judge_all(
    subject: Subject,
    mutants: Sequence[Mutant],
    *,
    jobs: int = 1,
    all_stages: bool = False,
    seconds: float = SECONDS,
    done: Callable[[], object] = lambda: None,
) -> list[Verdict]:
    """Runs mutants in `jobs` processes; the verdicts come in the order of the mutants. `done` is called after each."""
    verdicts = []
    if jobs == 1 or len(mutants) < 2 * jobs:
        for mutant in mutants:
            verdicts.append(judge(subject, mutant, all_stages=all_stages, seconds=seconds))
            done()
        return verdicts
    tasks = [(mutant, all_stages, seconds) for mutant in mutants]
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (subject.text,)) as pool:
        for verdict in pool.map(_judged, tasks, chunksize=8):
            verdicts.append(verdict)
            done()
    return verdicts


_of_this_process: list[Subject] = []


def _begin(text: str | bytes) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _of_this_process.append(Subject(text))


def _end_with_the_parent() -> None:
    """Lets no worker outlive the process that it works for, however that was ended."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _judged(task: tuple[Mutant, bool, float]) -> Verdict:
    mutant, all_stages, seconds = task
    return judge(_of_this_process[0], mutant, all_stages=all_stages, seconds=seconds)


def sample(mutants: Sequence[Mutant], size: int) -> list[Mutant]:
    """About `size` of them: of every operator each k-th, and one at least. Named ones are all taken."""
    step = max(1, -(-len(mutants) // size))
    taken = set()
    for operator in dict.fromkeys(mutant.operator for mutant in mutants):
        same = [mutant for mutant in mutants if mutant.operator == operator]
        taken |= set(same if operator == "named" else same[::step])
    return [mutant for mutant in mutants if mutant in taken]


# ------------------------------------------------------------------------------------------------ the whole


@dataclass
class Report:
    """What became of many mutants. Each list is in the order of the mutants.

    `repeated` compile to the machine of an earlier one, `trivial` to that of the reference; neither counts. `unlisted`
    are all that survived without a reason, `stale` the entries of `spec/mutants.yaml` that are wrong.
    """

    killed: list[Mutant] = field(default_factory=list)
    survivors: list[Mutant] = field(default_factory=list)
    repeated: list[Mutant] = field(default_factory=list)
    trivial: list[Mutant] = field(default_factory=list)
    errors: list[Mutant] = field(default_factory=list)
    alive: list[Mutant] = field(default_factory=list)
    unlisted: list[Mutant] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def counted(self) -> int:
        """How many different mutants there were."""
        return len(self.killed) + len(self.survivors) + len(self.errors)

    @property
    def score(self) -> float:
        """The share of them that was killed."""
        return len(self.killed) / self.counted if self.counted else 1.0

    @property
    def passed(self) -> bool:
        """Whether enough was killed, every survivor has its reason, and nothing went wrong on our side."""
        return self.score >= ENOUGH and not (self.errors or self.unlisted or self.stale)

    def outcome(self, mutant: Mutant) -> str:
        """In one word: the stage that killed it first, or where else it stands."""
        for name in ("repeated", "trivial", "errors"):
            if mutant in getattr(self, name):
                return name
        return next(iter(self.verdicts[mutant.id].kills), "survived")


def report(subject: Subject, mutants: Sequence[Mutant], verdicts: Iterable[Verdict], book: Book) -> Report:
    """Sorts the verdicts, and holds them against the reasons in the book.

    Every survivor needs one, also one that repeats another, so that a part of the mutants is judged like all of them.
    A named mutant has to die, whatever the book says.
    """
    made = Report(verdicts={verdict.mutant: verdict for verdict in verdicts})
    seen: set[tuple[str, bool]] = set()
    for mutant in mutants:
        verdict = made.verdicts[mutant.id]
        machine = (verdict.machine or mutant.id, bool(verdict.kills))
        if verdict.error is not None:
            made.errors.append(mutant)
            continue
        if verdict.machine == subject.machine:
            made.trivial.append(mutant)
            continue
        if not verdict.kills:
            made.alive.append(mutant)
        (made.repeated if machine in seen else made.killed if verdict.kills else made.survivors).append(mutant)
        seen.add(machine)
    made.unlisted = [mutant for mutant in made.alive if mutant.operator == "named" or not book.reason(mutant.id)]
    made.stale = list(_stale(subject, book, {m.id for m in mutants}, {m.id for m in (*made.alive, *made.errors)}))
    return made


def _stale(subject: Subject, book: Book, ran: set[str], alive: set[str]) -> Iterator[str]:
    """The entries that fit no mutant at all, or one that ran and did not survive."""
    for pattern in book.equivalent:
        fits = [mutant.id for mutant in subject.mutants if fnmatchcase(mutant.id, pattern)]
        dead = [name for name in fits if name in ran and name not in alive]
        if not fits:
            yield f"{pattern}: there is no such mutant"
        elif dead:
            yield f"{pattern}: {dead[0]} does not survive"


__all__ = ["ENOUGH", "STAGES", "Report", "Verdict", "checked", "judge", "judge_all", "report", "sample", "unsound"]
