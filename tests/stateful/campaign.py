"""A fuzzing campaign of our own runtime: what each of its workers does, what they tell, and what is told of them.

`make fuzz` and `make fuzz-long MINUTES=60` run one, in one process for each core. A worker runs Hypothesis in rounds,
each with a seed of its own, until its time is over or something is found, which is shrunk and kept. Since all workers
try first what any of them has kept, a campaign ends soon then. Set from the environment:

    WSLIFECYCLE_FUZZ_SECONDS    how long. Without it there is no campaign, and nothing of it is collected
    WSLIFECYCLE_FUZZ_DATABASE   redis://HOST:PORT/DB, where failing examples are shared with other machines. They are
                                kept in build/fuzz/examples as well, and wherever they come from they are tried first
    WSLIFECYCLE_FUZZ_DIRECTORY  where everything is kept instead of build/fuzz
    WSLIFECYCLE_FUZZ_SEED       the number that all seeds come from; by default another one each time
    WSLIFECYCLE_FUZZ_MUTANT     a named mutant of spec/mutants.yaml that the runtime has to obey, such as
                                `named:granian`: to see that a campaign finds it
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import Phase, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase, MultiplexedDatabase
from hypothesis.stateful import run_state_machine_as_test

from wslifecycle.conformance.orders.insider import Situation
from wslifecycle.conformance.orders.ours import Ours
from wslifecycle.conformance.orders.stateful import SETTINGS
from wslifecycle.conformance.orders.watched import Broken
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.mutate import Subject

ROOT = Path(__file__).parents[2]
EXAMPLES = 50
"""Those of one round: few, so that a worker ends soon after its time is over."""
STEPS = (30, 15, 50)
"""How many steps an example may have, one after the other."""
PATIENCE = 10.0
"""Seconds that a shared database may take."""
PHASES = (Phase.reuse, Phase.generate, Phase.shrink)


# ------------------------------------------------------------------------------------------------ what is asked for


@dataclass(frozen=True)
class Campaign:
    """What was asked for."""

    seconds: float
    directory: Path
    seed: int
    shared: str = ""
    mutant: str = ""

    @classmethod
    def asked(cls, environment: Mapping[str, str] = os.environ) -> Campaign | None:
        """The one that the environment asks for, if it does. Raises `ValueError` where it makes no sense."""
        if not (seconds := environment.get("WSLIFECYCLE_FUZZ_SECONDS")):
            return None
        if not float(seconds) > 0:
            raise ValueError(f"WSLIFECYCLE_FUZZ_SECONDS is more than 0, not {seconds!r}.")
        return cls(
            float(seconds),
            Path(environment.get("WSLIFECYCLE_FUZZ_DIRECTORY") or ROOT / "build" / "fuzz"),
            int(environment.get("WSLIFECYCLE_FUZZ_SEED") or 0),
            environment.get("WSLIFECYCLE_FUZZ_DATABASE", ""),
            environment.get("WSLIFECYCLE_FUZZ_MUTANT", ""),
        )

    def begin(self) -> None:
        """Removes what the workers of another campaign told."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for left in [*self.directory.glob("worker-*.json"), self.directory / "summary.json"]:
            left.unlink(missing_ok=True)

    @property
    def machine(self) -> Lifecycle | None:
        """The mutant that the runtime has to obey. None: it obeys the reference."""
        return planted(Subject(), self.mutant) if self.mutant else None


def planted(subject: Subject, name: str) -> Lifecycle:
    """The machine of a named mutant. Raises `ValueError` if there is none of this name."""
    named = {mutant.id: mutant for mutant in subject.book().named}
    if name not in named:
        raise ValueError(f"There is no mutant {name!r}. Those with a name: {', '.join(named)}.")
    spec = subject.spec_of(named[name])
    return Lifecycle(Flat(spec, spec.reference))


@contextmanager
def examples(directory: Path, shared: str = "") -> Iterator[ExampleDatabase]:
    """Where failing examples are kept: a folder, and Redis as well if there is one that is shared.

    Nothing is written in the background: examples are saved only while one is shrunk, and have to be there at the end.
    Raises `ConnectionError` where Redis cannot be reached.
    """
    local = DirectoryBasedExampleDatabase(directory)
    if not shared:
        yield local
        return
    from hypothesis.extra.redis import RedisExampleDatabase
    from redis import Redis
    from redis.exceptions import RedisError

    with Redis.from_url(shared, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
        try:
            client.ping()
        except RedisError as error:
            raise ConnectionError(f"WSLIFECYCLE_FUZZ_DATABASE: no Redis answers at {shared}: {error}") from error
        yield MultiplexedDatabase(local, RedisExampleDatabase(client))


# ------------------------------------------------------------------------------------------------ a worker


@dataclass
class Finding:
    """Something that a worker has found: its name, when that was first seen, and the program that repeats it."""

    name: str
    execution: int
    text: str


@dataclass
class Report:
    """What one worker has done so far."""

    worker: int
    rounds: int = 0
    executions: int = 0
    seconds: float = 0.0
    situations: set[Situation] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def save(self, directory: Path) -> None:
        """Puts it where others read it, the whole or nothing."""
        told = json.dumps(asdict(self) | {"situations": sorted(self.situations)})
        file = directory / f"worker-{self.worker}.json"
        part = file.with_suffix(".part")
        part.write_text(told, encoding="utf-8")
        part.replace(file)

    @classmethod
    def load(cls, text: str) -> Report:
        """One that was saved."""
        told = json.loads(text)
        told["situations"] = {(state, event, waiting) for state, event, waiting in told["situations"]}
        told["findings"] = [Finding(**finding) for finding in told["findings"]]
        return cls(**told)


def reports(directory: Path) -> list[Report]:
    """Those of all workers so far."""
    found = [Report.load(file.read_text(encoding="utf-8")) for file in directory.glob("worker-*.json")]
    return sorted(found, key=lambda report: report.worker)


class Worker:
    """Runs rounds until the time is over, and tells of it every second."""

    def __init__(self, campaign: Campaign, number: int) -> None:
        self.report = Report(number)
        self._begun = self._told = time.monotonic()
        self._campaign = campaign
        self._failed = 0  # the execution that failed first in this round
        self._fuzz = self._made()

    def run(self) -> Report:
        """Everything."""
        campaign, report = self._campaign, self.report
        draw = random.Random(f"{campaign.seed} {report.worker}")
        with examples(campaign.directory / "examples", campaign.shared) as database:
            while not report.findings and time.monotonic() - self._begun < campaign.seconds:
                steps = STEPS[report.rounds % len(STEPS)]
                report.rounds += 1
                how = settings(_SETTINGS, database=database, stateful_step_count=steps)
                self._round(draw.getrandbits(64), how)
                self._tell()
        return report

    def _round(self, number: int, how: settings) -> None:
        """One round."""
        self._failed = 0
        try:
            run_state_machine_as_test(seed(number)(self._fuzz), settings=how)
        except Exception as error:
            broken = error.finding if isinstance(error, Broken) else None
            name = broken.name if broken else type(error).__name__
            text = "".join(
                traceback.format_exception_only(error) if broken else traceback.format_exception(error)
            ).rstrip()
            self.report.findings.append(Finding(name, self._failed or self.report.executions, text))

    def _made(self) -> type[Ours]:
        """The fuzzer. One for all rounds, since Hypothesis keeps each for ever."""
        worker = self

        def teardown(machine: Ours) -> None:
            try:
                Ours.teardown(machine)
            finally:
                worker.saw(machine)

        # what is in the database belongs to this name, so that no mutant's is tried on the runtime as it is
        name = f"Fuzzed {self._campaign.mutant}".rstrip()
        return type(name, (Ours,), {"machine": self._campaign.machine, "spec": lifecycle(), "teardown": teardown})

    def saw(self, machine: Ours) -> None:
        """An example was run."""
        report = self.report
        report.executions += 1
        if hasattr(machine, "insider"):
            report.situations |= machine.insider.situations
            if machine.insider.finding is not None and not self._failed:
                self._failed = report.executions
        if time.monotonic() - self._told >= 1:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self.report.seconds = round(self._told - self._begun, 1)
        self.report.save(self._campaign.directory)


_SETTINGS = settings(SETTINGS, max_examples=EXAMPLES, phases=PHASES)


# ------------------------------------------------------------------------------------------------ what is told


def line(told: Sequence[Report], elapsed: float) -> str:
    """How far it is, in one line."""
    executions = sum(report.executions for report in told)
    seen = set[Situation]().union(*(report.situations for report in told))
    found = sum(len(report.findings) for report in told)
    rate = executions / elapsed if elapsed > 0 else 0
    return (
        f"{elapsed:5.0f} s  {executions:7} executions  {rate:5.0f}/s  {len(seen):4} situations  "
        f"{f'{found} found' if found else 'nothing found'}"
    )


@dataclass(frozen=True)
class Summary:
    """What became of a campaign. `reachable`: every situation that can be, None: nobody knows them. `broken`: a worker
    failed in another way than by a finding.
    """

    campaign: Campaign
    reports: Sequence[Report]
    seconds: float
    reachable: frozenset[Situation] | None = None
    broken: bool = False

    @property
    def verdict(self) -> str:
        """`PASS` if something was tried and nothing found, else `FAIL`, with the reason if that is no finding."""
        if self.findings:
            return "FAIL"
        if self.broken:
            return "FAIL: a worker came to no good end."
        return "PASS" if self.executions else "FAIL: nothing was tried."

    @property
    def passed(self) -> bool:
        """Whether anything was tried, and nothing found."""
        return self.verdict == "PASS"

    @property
    def executions(self) -> int:
        """The examples that were run."""
        return sum(report.executions for report in self.reports)

    @property
    def findings(self) -> list[Finding]:
        """Everything that was found, of each name the one with the shortest program."""
        every = sorted((f for report in self.reports for f in report.findings), key=lambda f: (f.name, len(f.text)))
        return [next(same) for _, same in itertools.groupby(every, key=lambda f: f.name)]

    @property
    def situations(self) -> set[Situation]:
        """Everything that was seen."""
        return set[Situation]().union(*(report.situations for report in self.reports))

    def plain(self) -> dict[str, Any]:
        """For machines."""
        known = self.reachable
        return {
            "passed": self.passed,
            "seed": self.campaign.seed,
            "seconds": round(self.seconds, 1),
            "executions": self.executions,
            "per_second": round(self.executions / self.seconds, 1) if self.seconds > 0 else 0,
            "situations": len(self.situations if known is None else self.situations & known),
            "reachable": None if known is None else len(known),
            "unknown": [] if known is None else sorted(self.situations - known),
            "findings": [asdict(finding) for finding in self.findings],
            "workers": [
                {
                    "worker": report.worker,
                    "rounds": report.rounds,
                    "executions": report.executions,
                    "seconds": report.seconds,
                    "situations": len(report.situations),
                    "findings": len(report.findings),
                }
                for report in self.reports
            ],
        }

    def table(self) -> list[str]:
        """For people."""
        plain = self.plain()
        columns = ("worker", "rounds", "executions", "seconds", "situations", "findings")
        rows: list[tuple[object, ...]] = [columns]
        rows += [tuple(worker[column] for column in columns) for worker in plain["workers"]]
        totals = (sum(report.rounds for report in self.reports), plain["executions"], plain["seconds"])
        rows.append(("all", *totals, len(self.situations), len(self.findings)))
        of = "" if plain["reachable"] is None else f" of {plain['reachable']}"
        beyond = f", {len(plain['unknown'])} that the model does not know" if plain["unknown"] else ""
        return [
            *("  ".join(f"{cell!s:>10}" for cell in row) for row in rows),
            f"{plain['executions']} executions, {plain['per_second']}/s; {plain['situations']}{of} situations (state, "
            f"event, and 0, 1 or more calls of receive() that wait){beyond}; seed {self.campaign.seed}.",
            *(f"FOUND {finding.name} (execution {finding.execution} of its worker)" for finding in self.findings),
            self.verdict,
        ]

    def save(self) -> Path:
        """Writes it down; tells where."""
        file = self.campaign.directory / "summary.json"
        file.write_text(json.dumps(self.plain(), indent=2) + "\n", encoding="utf-8")
        return file


def reachable(campaign: Campaign) -> frozenset[Situation]:
    """Every situation that the machine of a campaign can be in."""
    from wslifecycle.conformance.orders import coverage

    return coverage.reachable(campaign.machine)
