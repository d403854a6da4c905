"""Hunts the faults of `tests/faults.py`: which does the fuzzer find, after how many schedules, and in how few acts?

`make faults` hunts all of them, in one process for each core, prints a table, and fails if one is not found. A hunt
goes in rounds of examples, each round with the next seed, so that it is the same each time.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import FAULTS, Fault, faulty
from wslifecycle.conformance.orders.ours import Ours
from wslifecycle.conformance.orders.stateful import SETTINGS
from wslifecycle.conformance.orders.watched import Broken

EXAMPLES = 150
"""Those of one round."""
ROUNDS = 60
STEPS = 30


@dataclass(frozen=True)
class Hunted:
    """What came of a hunt: the finding's name, "" if there was none, how many schedules were run until then, of how
    many acts the shrunk program is, how far it is from the stock order, and the program itself.
    """

    fault: str
    finding: str
    schedules: int
    acts: int
    needs: str
    program: str
    seconds: float

    def __str__(self) -> str:
        found = self.finding or "NOT FOUND"
        return f"{self.fault:30} {found:34} {self.schedules:6} {self.acts:4} {self.seconds:6.1f} s  {self.needs}"


def hunt(fault: Fault | None, *, rounds: int = ROUNDS, examples: int = EXAMPLES, shrinks: bool = True) -> Hunted:
    """Fuzzes a runtime with a fault in it until that is found, and shrinks what is found."""
    began, schedules = time.monotonic(), 0
    for number in range(rounds):
        subject = _subject(fault)
        try:
            _go(subject, number, examples, (Phase.generate,))
        except Exception as error:
            schedules += subject.executions
            if shrinks:
                error = _shrunk(_subject(fault), number, examples) or error
            return _told(fault, error, schedules, time.monotonic() - began)
        schedules += subject.executions
    return Hunted(fault.name if fault else "", "", schedules, 0, "", "", time.monotonic() - began)


def _subject(fault: Fault | None) -> type[Ours]:
    class Hunted(Ours):
        make_protocol = staticmethod(faulty(fault))

    return Hunted


def _go(subject: type[Ours], number: int, examples: int, phases: Sequence[Phase]) -> None:
    how = settings(SETTINGS, max_examples=examples, stateful_step_count=STEPS, phases=phases)
    run_state_machine_as_test(seed(number)(subject), settings=how)


def _shrunk(subject: type[Ours], number: int, examples: int) -> Exception | None:
    try:
        _go(subject, number, examples, (Phase.generate, Phase.shrink))
    except Exception as error:
        return error
    return None


def _told(fault: Fault | None, error: Exception, schedules: int, seconds: float) -> Hunted:
    name = error.finding.name if isinstance(error, Broken) else type(error).__name__
    program = "\n".join(getattr(error, "__notes__", ()))
    acts = sum(line.startswith("x.") for line in program.splitlines())
    return Hunted(fault.name if fault else "", name, schedules, acts, program.partition("\n")[0], program, seconds)


def main(names: Sequence[str]) -> int:
    """Hunts the faults of these names, or all."""
    logging.disable(logging.CRITICAL)
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    print(f"{'fault':30} {'finding':34} {'runs':>6} acts   time    deviations", flush=True)
    missed = []
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for hunted in pool.imap_unordered(hunt, faults):
            print(hunted, flush=True)
            if not hunted.finding:
                missed.append(hunted.fault)
    print(f"{len(faults) - len(missed)} of {len(faults)} faults were found.{f' Missed: {missed}' if missed else ''}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
