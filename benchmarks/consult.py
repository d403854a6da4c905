"""What one consultation of the machine costs, beside what one might have used instead.

    place               `place.answers[event]`: the answer, by one look into where a connection is, as each of them does
    consult             `machine.events[event].consult(model)`: the answer, nothing changed
    trigger             the same, and the model is moved
    if/elif by region   the same lifecycle as one writes it by hand: a function for each event, with a chain over the
                        states of the wire, in it one over those of the inbox, in it one over those of the app
    if/elif by state    the same with one chain over the product states
    stock trigger       the same lifecycle in an unchanged `transitions.Machine`

All of them take the same steps: walks along the machine, mostly messages, in which nothing is refused. They take turns
in one process; the cost of an empty loop over the steps is subtracted, and the median over the turns is shown.

    python benchmarks/consult.py [--json] [--turns N]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

import transitions

from wslifecycle import lifecycle
from wslifecycle.statemachine.flatten import Answer, Flat
from wslifecycle.statemachine.machine import Lifecycle, LifecycleEvent, Place, transitions_of

STEPS = 10_000
SEED = 6455
MESSAGES = ("app_send", "peer_message", "give_message")
WEIGHT = 30
"""How much likelier a data message is than any other event that is not refused."""
AT_MOST, AT_LEAST, NANOSECONDS = 1.2, 40.0, 100
"""What we aim at: consult at most so many times if/elif, stock at least so many times trigger, a look so long."""


class Model:
    """What is consulted about, in the words of each: state and case, the regions one by one, the facts one by one."""

    __slots__ = ("app", "case", "denial", "inbox", "raising", "state", "unread", "wire")

    def __init__(self, flat: Flat, state: str, case: int) -> None:
        self.state = state
        self.case = case
        for region, local in zip(flat.regions, flat.state_of[state], strict=True):
            setattr(self, region, local)
        for bit, fact in enumerate(flat.facts):
            setattr(self, fact.name, bool(case >> bit & 1))


class Step(NamedTuple):
    """One consultation: the event, the model that it is about, its state, and the place of a connection like it."""

    event: str
    model: Model
    state: str
    place: Place


def walk(machine: Lifecycle) -> Iterator[Step]:
    """Connections from the handshake to the end, one after the other without end; always the same ones."""
    flat = machine.flat
    chance = random.Random(SEED)
    models = {(state, case): Model(flat, state, case) for state in flat.state_of for case in range(flat.cases)}
    waits = 1 << list(flat.spec.facts).index("unread")
    while True:
        state, unread, fixed = next(iter(flat.state_of)), 0, chance.randrange(flat.cases) & ~waits
        while state not in flat.final:
            case = fixed | (waits if unread else 0)
            legal = [event for event, cases in flat.answers.items() if cases[case][state].refusal is None]
            [event] = chance.choices(legal, [WEIGHT if event in MESSAGES else 1 for event in legal])
            yield Step(event, models[state, case], state, machine.place(state, case))
            answer = flat.answers[event][case][state]
            effects = [call.effect for call in answer.effects]
            unread += effects.count("keep_message") - effects.count("take_message")
            state = answer.target


# ---------------------------------------------------------------------------------------- if/elif

Consult = Callable[[Model], Answer]


def by_hand(flat: Flat, *, by_region: bool) -> dict[str, Consult]:
    """A function for each event, compiled from `source`."""
    names: dict[str, Any] = {}
    exec("\n".join(source(flat, names, by_region=by_region)), names)
    return {event: names[event] for event in flat.answers}


def source(flat: Flat, names: dict[str, Any], *, by_region: bool) -> Iterator[str]:
    """The lifecycle as Python source, in the order of the spec; the answers that it returns are put into `names`.

    Nothing is tested that can only come out one way.
    """
    read = flat.regions if by_region else ("state",)

    def branches(event: str, states: list[str], depth: int) -> Iterator[str]:
        indent = "    " * (depth + 1)
        if depth == len(read):
            yield from (indent + line for line in facts(event, states[0]))
            return
        local = {state: flat.state_of[state][depth] if by_region else state for state in states}
        values = list(dict.fromkeys(local.values()))
        for value in values:
            within = [state for state in states if local[state] == value]
            if len(values) == 1:
                yield f"{indent}if True:"  # costs nothing: the compiler drops it
            else:
                yield f"{indent}{'if' if value == values[0] else 'elif'} model.{read[depth]} == {value!r}:"
            yield from branches(event, within, depth + 1)

    def facts(event: str, state: str) -> Iterator[str]:
        cases = [answers[state] for answers in flat.answers[event]]
        asked = flat.facts_read(event) if len(set(cases)) > 1 else []
        for chosen in range(1 << len(asked)):
            case = sum(bit for position, (_, bit) in enumerate(asked) if chosen >> position & 1)
            tests = [f"{'' if case & bit else 'not '}model.{fact}" for fact, bit in asked]
            name = f"ANSWER_{len(names)}"
            names[name] = cases[case]
            yield f"if {' and '.join(tests)}: return {name}" if tests else f"return {name}"

    for event in flat.answers:
        yield f"def {event}(model):"
        yield from branches(event, list(flat.state_of), 0)
        yield "    raise ValueError(model.state)"


# ---------------------------------------------------------------------------------------- measuring


def stock(flat: Flat) -> transitions.Machine:
    """The same lifecycle in transitions as it comes."""
    return transitions.Machine(
        model=None,
        states=list(flat.state_of),
        initial=next(iter(flat.state_of)),
        transitions=transitions_of(flat),
        auto_transitions=False,
    )


def contenders(steps: list[Step]) -> dict[str, Callable[[], None]]:
    """What is measured, each as a loop over the steps. The first does nothing."""
    machine = lifecycle()
    events = cast(dict[str, LifecycleEvent], machine.events)
    twins = stock(machine.flat).events
    regions, states = by_hand(machine.flat, by_region=True), by_hand(machine.flat, by_region=False)

    def nothing() -> None:
        for _event, model, state, _place in steps:
            model.state = state

    def place() -> None:
        for event, model, state, there in steps:
            model.state = state
            there.answers[event]

    def consult() -> None:
        for event, model, state, _place in steps:
            model.state = state
            events[event].consult(model)

    def trigger() -> None:
        for event, model, state, _place in steps:
            model.state = state
            events[event].trigger(model)

    def if_elif_by_region() -> None:
        for event, model, state, _place in steps:
            model.state = state
            regions[event](model)

    def if_elif_by_state() -> None:
        for event, model, state, _place in steps:
            model.state = state
            states[event](model)

    def stock_trigger() -> None:
        for event, model, state, _place in steps:
            model.state = state
            twins[event].trigger(model)

    for event, model, _, there in steps:
        assert there.answers[event] is events[event].consult(model)
        assert there.answers[event] == regions[event](model) == states[event](model)
    return {
        "nothing": nothing,
        "place": place,
        "consult": consult,
        "trigger": trigger,
        "if/elif by region": if_elif_by_region,
        "if/elif by state": if_elif_by_state,
        "stock trigger": stock_trigger,
    }


def measure(turns: int) -> dict[str, float]:
    """The nanoseconds of one consultation, by contender."""
    steps = list(islice(walk(lifecycle()), STEPS))
    loops = contenders(steps)
    taken: dict[str, list[float]] = {name: [] for name in loops}
    gc.disable()
    try:
        for _ in range(turns):
            for name, loop in loops.items():
                start = time.perf_counter()
                loop()
                taken[name].append((time.perf_counter() - start) / len(steps) * 1e9)
    finally:
        gc.enable()
    empty = statistics.median(taken.pop("nothing"))
    return {name: statistics.median(times) - empty for name, times in taken.items()}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What one consultation of the machine costs.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--turns", type=int, default=51, help="how often each of them runs (default: %(default)s)")
    chosen = parser.parse_args(arguments if arguments is None else list(arguments))
    spent = measure(chosen.turns)
    ratios = {
        "consult / if/elif by region": spent["consult"] / spent["if/elif by region"],
        "consult / if/elif by state": spent["consult"] / spent["if/elif by state"],
        "stock trigger / trigger": spent["stock trigger"] / spent["trigger"],
        "stock trigger / consult": spent["stock trigger"] / spent["consult"],
    }
    if chosen.json:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        print(json.dumps({"python": python, "steps": STEPS, "turns": chosen.turns, "ns": spent, "ratios": ratios}))
        return
    print(f"{STEPS} steps, {chosen.turns} turns each, Python {platform.python_version()}; ns for one, medians")
    for name, nanoseconds in spent.items():
        aim = f"   aim: at most {NANOSECONDS}" if name == "place" else ""
        print(f"  {name:<28}{nanoseconds:>9.1f}{aim}")
    aims = (f"aim: at most {AT_MOST}",) * 2 + (f"aim: at least {AT_LEAST:.0f}",) * 2
    for (name, ratio), aim in zip(ratios.items(), aims, strict=True):
        print(f"  {name:<28}{ratio:>9.2f}   {aim}")


if __name__ == "__main__":
    main()
