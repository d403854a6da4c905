"""Everything that a fuzzer finds in a server, each finding shrunk and as a program that repeats it.

    for found in survey(served("wsproto"), examples=500):
        print(found)

A fuzzer stops at the first finding. So it is run again and again, each time with what was found as known, until it
finds nothing new. Findings are kept apart by their name and by what brought them about (`Finding.key`).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from wslifecycle.conformance.orders.exchange import Act, Exchange
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Replay, read_token
from wslifecycle.conformance.orders.stateful import SETTINGS, Fuzz
from wslifecycle.conformance.orders.watched import Broken, Finding


@dataclass(frozen=True)
class Found:
    """A finding, and all that is needed to have it again."""

    subject: type[Fuzz]
    finding: Finding
    acts: tuple[Act, ...]
    token: str
    """Its schedule."""
    room: int
    high: int | None
    followed: int
    known: frozenset[str]
    """What did not count when it was found."""
    after: tuple[str, ...]
    """What was found before it in the same run, and did not count: then it may be no more than what follows of that."""
    story: str = field(repr=False)

    @property
    def needs(self) -> str:
        """How far its schedule is from the stock order."""
        return self.story.partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.finding}\n{self.story}"


def survey(
    subject: type[Fuzz],
    examples: int = 300,
    *,
    steps: int = 20,
    known: Collection[str] = (),
    first_seed: int = 0,
    shrinks: bool = True,
) -> list[Found]:
    """What is found until so many examples bring nothing new. Each of them has so many steps at most.

    The same is found each time, since each round has a seed of its own, the first one `first_seed`.
    """
    every: list[Found] = []
    while True:
        counted = {*known, *(one.finding.key for one in every)}
        found = search(subject, examples, steps, counted, first_seed + len(every), shrinks=shrinks)
        if found is None:
            return every
        every.append(found)


def search(
    subject: type[Fuzz], examples: int, steps: int, known: Collection[str], number: int, *, shrinks: bool = True
) -> Found | None:
    """The first thing that is found and not known, shrunk; None: so many examples bring nothing. `number`: the seed.

    Raises what is no finding, such as an error of the fuzzer itself.
    """
    failed: list[Found] = []

    def go(self: Fuzz, act: Any) -> None:
        try:
            subject._go(self, act)
        except Broken as broken:
            failed[:] = [_found(subject, self, broken.finding)]
            raise

    tried = type(subject.__name__, (subject,), {"known": frozenset(known), "_go": go})
    how = settings(
        SETTINGS,
        max_examples=examples,
        stateful_step_count=steps,
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
    )
    try:
        with quiet():
            run_state_machine_as_test(seed(number)(tried), settings=how)
    except Broken:
        return failed[0]
    return None


def _found(subject: type[Fuzz], failed: Fuzz, finding: Finding) -> Found:
    x = failed.x
    return Found(
        subject,
        finding,
        tuple(x.acts),
        x.loop.schedule.token,
        x.settings["room"] or 0,
        x.settings["high"],
        x.witness.followed,
        failed.known,
        tuple(other.key for other in x.witness.others),
        failed.told(),
    )


def repeat(found: Found) -> Finding | None:
    """What its program finds, run once more: the same."""
    fuzz = type(found.subject.__name__, (found.subject,), {"known": found.known})()
    level, _ = read_token(found.token)
    loop = ScheduledLoop(Replay(found.token), level)
    with quiet():
        try:
            x = Exchange(loop, fuzz.make, fuzz.witness(found.followed), room=found.room, high=found.high)
            for name, args, named in copy.deepcopy(found.acts):
                getattr(x, name)(*args, **named)
        except Broken as broken:
            return broken.finding
        finally:
            loop.dispose()
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged, which servers do for each app that fails."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
