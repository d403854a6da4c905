"""Runs SPIN on the models of `promela`, and compares what it finds with what our checker finds.

SPIN is believed only where it says plainly that it looked at everything. It exits with 0 on errors, and it says
`errors: 0` also of a search that its depth or memory limit cut short; so every line of its output has to be one that a
whole search has, and a run that is not understood is a `SpinError`, never a pass.

A model holds a share of the properties, so that all cores compile at once; then each claim is a run of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from wslifecycle.statemachine.check import Report, check, parsed_properties
from wslifecycle.statemachine.explore import Progress
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.promela import BUILT_IN, Claim, Question, built_in, promela, questions
from wslifecycle.statemachine.system import Bounds

DEPTH = 1_000_000
MEGABYTES = 4096
MINUTES = 10
"""What one run may have: steps on its stack, memory, time. More is an error."""

PROGRAMS = ("spin", "gcc")
"""What has to be installed; so are Debian's packages called."""


class SpinError(Exception):
    """SPIN gave no verdict."""


class Missing(SpinError):
    """A program is not installed."""


# ------------------------------------------------------------------------------------------------ what SPIN says


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of SPIN found: whether there is a run that matches the claim, and how many states it stored."""

    found: bool
    states: int


_BEFORE = (r"pan: ltl formula \w+", r"pan:1: .*", r"pan: wrote \S+\.trail", r"Depth= .* R= .*", "")
"""All that a run that can be believed may say before it sums up."""

_OTHERS = "warning: never claim + accept labels requires -a flag to fully verify"
"""Said where other claims of the model are about cycles, and the one that is searched for is not."""

_CLAIM = re.compile(r"^\tnever claim\s+([+-]) \((.+)\)$", re.MULTILINE)
_CYCLES = re.compile(r"^\tacceptance   cycles \t\+ \(fairness disabled\)$", re.MULTILINE)
_ERRORS = re.compile(r"^State-vector \d+ byte, depth reached \d+, errors: (\d+)$", re.MULTILINE)
_STATES = re.compile(r"^ *([\d.e+]+) states, stored(?: \([\d.e+]+ visited\))?$", re.MULTILINE)
_REASONS = {False: "end state in claim reached", True: "acceptance cycle"}


def outcome(output: str, status: int, claim: Claim | None) -> Outcome:
    """Reads what `pan` wrote, for one claim or none. Raises `SpinError` unless it is sure what was found."""
    head, found, rest = output.partition("\n(Spin Version ")
    if status or not found:
        raise SpinError(f"pan ended with status {status} and said:\n{output.strip()}")
    cycles = claim is not None and claim.cycles
    known = "|".join(_BEFORE if cycles else (*_BEFORE, re.escape(_OTHERS)))
    strange = [line for line in head.split("\n") if not re.fullmatch(known, line)]
    if strange:
        raise SpinError(f"The search was not what it should be: {strange[0]}")
    searched = re.search(_CLAIM, rest)
    wanted = ("+", claim.name) if claim is not None else ("-", "not selected")
    if searched is None or searched.groups() != wanted:
        raise SpinError(f"The search was for another claim than {wanted[1]}.")
    if cycles != bool(re.search(_CYCLES, rest)):
        raise SpinError(f"The search for {wanted[1]} was {'not ' if cycles else ''}for cycles.")
    errors, states = re.findall(_ERRORS, rest), re.findall(_STATES, rest)
    if len(errors) != 1 or len(states) != 1:
        raise SpinError(f"It is not said what was found:\n{rest.strip()}")
    reasons = re.findall(r"^pan:1: (.*?)(?: \(at depth \d+\))?$", head, re.MULTILINE)
    whole = "Warning: Search not completed" not in rest
    match int(errors[0]), reasons:
        case 0, [] if whole:
            return Outcome(False, int(float(states[0])))
        case 1, [reason] if claim is not None and reason == _REASONS[cycles]:
            return Outcome(True, int(float(states[0])))
    raise SpinError(
        f"{errors[0]} errors, {', '.join(reasons) or 'no reason'}{'' if whole else ', search not completed'}"
    )


# ------------------------------------------------------------------------------------------------ running it


class Programs:
    """Runs programs, and ends those that still run when it is left."""

    def __init__(self) -> None:
        for program in PROGRAMS:
            if shutil.which(program) is None:
                raise Missing(f"`{program}` is not installed (Debian: apt install {program}).")
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends what runs, with its children, and starts nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def run(self, folder: Path, *command: str) -> tuple[str, int]:
        """Runs a program in a folder; returns what it wrote, and its exit status."""
        with self._lock:
            if self._stopped:
                raise SpinError("stopped")
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        with process:
            try:
                output, _ = process.communicate(timeout=MINUTES * 60 + 30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise SpinError(f"{command[0]} took more than {MINUTES} minutes.") from None
            finally:
                with self._lock:
                    self._running.discard(process)
        return output, process.returncode


class Model:
    """A model that was compiled: it can be run for each of its claims, or just to count states if it has none."""

    def __init__(self, programs: Programs, folder: Path, text: str, claims: int) -> None:
        self.programs = programs
        self.folder = folder
        self.claims = claims
        folder.mkdir()
        (folder / "system.pml").write_text(text, encoding="utf-8")
        # no partial order reduction: there is one process, and claims look at each single step
        flags = ["-DNOREDUCE", f"-DMEMLIM={MEGABYTES}", *([] if claims else ["-DNOCLAIM", "-DSAFETY"])]
        self._made("pan.c", "spin", "-a", "system.pml")
        self._made("pan", "gcc", "-O1", "-w", *flags, "-o", "pan", "pan.c")

    def _made(self, file: str, *command: str) -> None:
        output, status = self.programs.run(self.folder, *command)
        if status or not (self.folder / file).is_file():
            raise SpinError(f"`{' '.join(command)}` failed:\n{output.strip()}")

    def ask(self, claim: Claim | None = None) -> Outcome:
        """Searches for a run that matches a claim; without one just counts the states."""
        name = claim.name if claim is not None else "states"
        folder = self.folder / name  # where it may write its trail
        folder.mkdir()
        options = [f"-m{DEPTH}", "-w20", f"-Q{MINUTES}"]
        if claim is not None:
            options += [*(["-N", claim.name] if self.claims > 1 else []), *(["-a"] if claim.cycles else [])]
        output, status = self.programs.run(folder, str(self.folder / "pan"), *options)
        try:
            return outcome(output, status, claim)
        except SpinError as error:
            raise SpinError(f"{name}: {error}") from None


# ------------------------------------------------------------------------------------------------ the two engines


@dataclass(frozen=True, slots=True)
class Row:
    """What both engines say of one property: `holds`, `broken` or `vacuous`; or of how many states there are."""

    name: str
    ours: str
    theirs: str
    states: int
    """That SPIN stored."""
    seconds: float
    """That SPIN took."""

    @property
    def agrees(self) -> bool:
        """Whether both say the same."""
        return self.ours == self.theirs


@dataclass(frozen=True)
class Comparison:
    """What came of asking both."""

    report: Report
    rows: tuple[Row, ...]
    seconds: float

    @property
    def disagreements(self) -> list[Row]:
        """Where the engines do not say the same."""
        return [row for row in self.rows if not row.agrees]


STATES = "states"
"""The row that compares how many states there are."""


def compare(
    flat: Flat,
    bounds: Bounds,
    names: Sequence[str] = (),
    jobs: int = 1,
    progress: Progress | None = None,
    done: Callable[[int, int], object] = lambda _done, _all: None,
) -> Comparison:
    """Asks both engines about each property that is named (all and what is built in, if none is).

    Raises `SpinError` where SPIN gives no verdict, `Missing` where it is not installed.
    """
    began = time.perf_counter()
    with Programs() as programs:
        asked = questions_about(flat, names)
        if bounds.queue < 1:  # too little fits to show all that may happen, so that our checker does not say so either
            asked = [replace(question, happens=None) for question in asked if not question.sought]
        report = check(flat, bounds, [question.name for question in asked if question.name not in BUILT_IN], progress)
        spins = _ask(programs, flat, bounds, asked, jobs, done)
    rows = [Row(STATES, str(len(report.graph) + 1), *spins[STATES])]
    rows += [Row(question.name, ours(report, question.name), *spins[question.name]) for question in asked]
    return Comparison(report, tuple(rows), time.perf_counter() - began)


def questions_about(flat: Flat, names: Sequence[str] = ()) -> list[Question]:
    """The questions about what is named, be it a property or built in; about everything, if nothing is.

    Raises `LookupError` for a name that does not exist.
    """
    properties = [name for name in names if name not in BUILT_IN]
    wanted = parsed_properties(flat, properties) if properties or not names else {}
    built = [question for question in built_in() if not names or question.name in names]
    return [*questions(flat, wanted.values()), *built]


def ours(report: Report, name: str) -> str:
    """What our checker says of a property or of something built in."""
    for violation in report.violations:
        if violation.declared is None and violation.name == "vacuous":
            if violation.says.startswith(f"{name} "):
                return "vacuous"
        elif violation.name == name:
            return "broken"
    return "holds"


def _ask(
    programs: Programs,
    flat: Flat,
    bounds: Bounds,
    asked: Sequence[Question],
    jobs: int,
    done: Callable[[int, int], object],
) -> dict[str, tuple[str, int, float]]:
    """For each question SPIN's verdict, its states and seconds; and for `STATES` the states of the bare system."""
    shares: list[Sequence[Question]] = [share for number in range(jobs) if (share := asked[number::jobs])]
    shares.append(())
    answers: dict[str, tuple[str, int, float]] = {}
    with TemporaryDirectory(prefix="wslifecycle-spin-") as folder, ThreadPoolExecutor(jobs) as pool:

        def model(number: int) -> Model:
            share = shares[number]
            claims = sum(1 if question.happens is None else 2 for question in share)
            return Model(programs, Path(folder) / str(number), promela(flat, bounds, share), claims)

        try:
            models = list(pool.map(model, range(len(shares))))
            futures = {pool.submit(_timed, models[-1], None): STATES}
            for share, made in zip(shares, models, strict=True):
                futures |= {pool.submit(_timed, made, question): question.name for question in share}
            for number, future in enumerate(as_completed(futures), 1):
                answers[futures[future]] = future.result()
                done(number, len(futures))
        except BaseException:
            programs.stop()  # lest the pool wait for them
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return answers


def _timed(model: Model, question: Question | None) -> tuple[str, int, float]:
    began = time.perf_counter()
    if question is None:
        found = model.ask()
        return str(found.states), found.states, time.perf_counter() - began
    found = model.ask(question.claim)
    verdict = "holds" if found.found == question.sought else "broken"
    if verdict == "holds" and question.happens is not None and not model.ask(question.happens).found:
        verdict = "vacuous"
    return verdict, found.states, time.perf_counter() - began
