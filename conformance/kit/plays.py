"""What the machine of every profile says to a script.

There are more profiles than machines that can be made while a server waits. But what comes of a script depends on a
few choices only: those that the rows mention which it consults, and those about values, for which no other machine is
needed. So a play is kept with the choices that it depends on, and stands for every profile that answers them alike.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from wslifecycle.conformance.kit.script import Log, Step, Terms, play
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle, build, lifecycle
from wslifecycle.statemachine.mentions import mentioned, of_values
from wslifecycle.statemachine.model import Actor

SPEC = lifecycle().spec
REFERENCE = SPEC.reference
"""The reference's answers."""

OF_VALUES = of_values(SPEC)
"""The choices that are about values only. One that was answered so may be answered otherwise for the next value."""


@lru_cache(maxsize=400)  # each takes a megabyte
def _built(others: frozenset[tuple[str, str]]) -> Lifecycle:
    if not others:
        return lifecycle()
    collects = gc.isenabled()
    gc.disable()  # nothing of what is being made is garbage, and looking for it takes as long as making it
    try:
        return build(SPEC, {**REFERENCE, **dict(others)}, "measured")
    finally:
        if collects:
            gc.enable()


@lru_cache(maxsize=4000)
def _answering(others: frozenset[tuple[str, str]]) -> Lifecycle:
    values = {choice: answer for choice, answer in others if choice in OF_VALUES}
    machine = _built(frozenset(others - values.items()))
    return machine.answering(values) if values else machine


def machine_of(answers: Mapping[str, str]) -> Lifecycle:
    """The machine of a profile. `answers` may be less than all: the others are the reference's."""
    return _answering(frozenset(answers.items() - REFERENCE.items()))


def played(
    answers: Mapping[str, str], terms: Terms, script: Sequence[Step], delay: Mapping[int, int] | None = None
) -> Log:
    """What has to come of a script by the machine of a profile (`play`). The log is shared: it is only to be read."""
    delay = delay or {}
    plays = _plays(repr((terms, tuple(script), sorted(delay.items()))))
    for depends, log in plays:
        if all(answers.get(choice, REFERENCE[choice]) == answer for choice, answer in depends):
            return log
    log = play(machine_of(answers), terms, script, delay)
    depends = tuple((choice, answers.get(choice, REFERENCE[choice])) for choice in sorted(_depends(log.taken)))
    plays.append((depends, log))
    return log


@lru_cache(maxsize=8000)
def _plays(asked: str) -> list[tuple[tuple[tuple[str, str], ...], Log]]:
    """The plays that are kept of what was asked, each with the answers that it depends on: none at first."""
    return []


@cache
def _mentions() -> Mapping[tuple[str, str, str], frozenset[str]]:
    """The choices that are mentioned where an event concerns a state of a region, whether the row holds or not."""
    found: dict[tuple[str, str, str], frozenset[str]] = defaultdict(frozenset)
    for row in SPEC.rows:
        choices = mentioned(SPEC, row)
        for event in row.events:
            for state in row.sources:
                found[event, row.region, state] |= choices
    return found


@cache
def _concerning(event: str, state: str) -> frozenset[str]:
    """The choices that are mentioned where an event concerns a product state."""
    regions = zip(SPEC.regions, state.split("/"), strict=True)
    found = [_mentions().get((event, region, local), frozenset()) for region, local in regions]
    return mentioned(SPEC, SPEC.events[event]).union(*found)


def _depends(taken: Sequence[Answer]) -> frozenset[str]:
    """The choices on which a play depends in which these answers were given, and nothing else was asked.

    A call of receive() asks for all that may be given, in every state.
    """
    states = {"/".join(region.initial for region in SPEC.regions.values())}
    states.update(*((answer.source, answer.target) for answer in taken))
    asked = {(answer.event, answer.source) for answer in taken} | {(gift, state) for gift in _GIFTS for state in states}
    return _EVERYWHERE.union(*(_concerning(event, state) for event, state in asked))


_GIFTS = [event.name for event in SPEC.events.values() if event.actor is Actor.GIVEN]

_EVERYWHERE = OF_VALUES | mentioned(
    SPEC, [state.enter for region in SPEC.regions.values() for state in region.states.values()]
)
"""What any play may depend on. A play has no clock: how long a timer runs makes no difference to it."""
