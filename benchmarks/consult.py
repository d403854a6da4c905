"""What one consultation of the machine costs, beside what one might have used instead.

    ours: consult    `machine.events[event].consult(model)`: the answer, nothing changed
    ours: trigger    the same, and the model is moved
    if/elif          the same lifecycle as code: a function for each event, its states asked for one after the other
    stock trigger    the same lifecycle in an unchanged `transitions.Machine`

All of them take the same steps: walks along the machine, mostly messages, in which nothing is refused. They run by
turns in one process; an empty loop over the steps is subtracted, and the median of the turns is shown.

    python benchmarks/consult.py [--json] [--rounds N]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import transitions

from wslifecycle import lifecycle
from wslifecycle.statemachine.flatten import Answer, Flat
from wslifecycle.statemachine.machine import transitions_of

STEPS = 10_000
SEED = 6455
MESSAGES = ("app_send", "peer_message", "give_message")
WEIGHT = 30
"""How much likelier a data message is than any other event that is not refused."""
AT_MOST, AT_LEAST = 1.2, 40
"""What we aim at: ours at most so many times if/elif, stock at least so many times ours."""


class Model:
    """What is consulted about. `case` is what ours reads; the facts behind it are what stock transitions reads."""

    __slots__ = ("case", "denial", "raising", "state", "unread")

    def __init__(self, flat: Flat, case: int) -> None:
        self.state = ""
        self.case = case
        for bit, fact in enumerate(flat.facts):
            setattr(self, fact.name, bool(case >> bit & 1))


class Step(NamedTuple):
    """One consultation: the event, and the model in the state and the case that it is asked about."""

    event: str
    state: str
    model: Model


def walk(flat: Flat) -> Iterator[Step]:
    """Connections from the handshake to the end, one after the other, the same ones at each call."""
    chance = random.Random(SEED)
    models = [Model(flat, case) for case in range(flat.cases)]
    unread_bit = 1 << list(flat.spec.facts).index("unread")
    while True:
        state, unread, fixed = next(iter(flat.state_of)), 0, chance.randrange(flat.cases) & ~unread_bit
        while state not in flat.final:
            case = fixed | (unread_bit if unread else 0)
            legal = [event for event, cases in flat.answers.items() if cases[case][state].refusal is None]
            [event] = chance.choices(legal, [WEIGHT if event in MESSAGES else 1 for event in legal])
            yield Step(event, state, models[case])
            answer = flat.answers[event][case][state]
            effects = [call.effect for call in answer.effects]
            unread += effects.count("keep_message") - effects.count("take_message")
            state = answer.target


# ---------------------------------------------------------------------------------------- if/elif


def chains(flat: Flat) -> tuple[str, list[Answer]]:
    """The lifecycle as Python source, and the answers that it names by their numbers.

    What a person would write: a function for each event, a chain over the states in the order of the spec, and in a
    state a test of the facts where they matter.
    """
    answers: list[Answer] = []

    def named(answer: Answer) -> str:
        answers.append(answer)
        return f"ANSWERS[{len(answers) - 1}]"

    lines = []
    for event, cases in flat.answers.items():
        lines += [f"def {event}(model):", "    state = model.state"]
        word = "if"
        for state in flat.state_of:
            lines.append(f"    {word} state == {state!r}:")
            word = "elif"
            read = flat.facts_read(event)
            if len({cases[case][state] for case in range(flat.cases)}) == 1:
                lines.append(f"        return {named(cases[0][state])}")
                continue
            tests = [f"model.{fact}" for fact, _ in read]
            for chosen in range(1 << len(read)):
                case = sum(bit for position, (_, bit) in enumerate(read) if chosen >> position & 1)
                wanted = " and ".join(t if chosen >> n & 1 else f"not {t}" for n, t in enumerate(tests))
                lines += [f"        if {wanted}:", f"            return {named(cases[case][state])}"]
        lines += ["    raise ValueError(state)", ""]
    return "\n".join(lines), answers
