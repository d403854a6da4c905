"""What is unsound about a compiled profile: states never reached, traps, states that nobody can tell apart, dead rows.

A structural fault means that a spec says nothing definite; these mean that what it says is doubtful. Real servers do
have such states, so that a profile other than `reference` may, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wslifecycle.statemachine.findings import Finding

if TYPE_CHECKING:
    from wslifecycle.statemachine.flatten import Flat


def unsound(flat: Flat) -> Iterator[Finding]:
    """All findings about the soundness of a profile."""
    yield from _unreachable(flat)
    yield from _traps(flat)
    yield from _bisimilar(flat)
    yield from _dead_rows(flat)


def _unreachable(flat: Flat) -> Iterator[Finding]:
    for position, region in enumerate(flat.regions):
        reached = {state[position] for state in flat.states}
        for local in flat.present[region]:
            if local not in reached:
                line = flat.spec.regions[region].states[local].line
                yield Finding("WSL030", line, f"`{local}` of {region} is never reached.", "Add a way or remove it.")


def _traps(flat: Flat) -> Iterator[Finding]:
    sources: dict[str, set[str]] = defaultdict(set)
    for state in flat.state_of:
        for answer in flat.distinct(state):
            sources[answer.target].add(state)
    alive, queue = set(flat.final), list(flat.final)
    for state in queue:
        fresh = sources[state] - alive
        alive |= fresh
        queue += sorted(fresh)
    for trapped, local in flat.state_of.items():
        if trapped not in alive:
            line = flat.spec.regions[flat.regions[0]].states[local[0]].line
            yield Finding("WSL031", line, f"There is no way out of {trapped}.", "Add a way to the end.")


def _bisimilar(flat: Flat) -> Iterator[Finding]:
    """Refines a partition until states of one block answer everything alike: then nobody can tell them apart."""
    block = dict.fromkeys(flat.state_of, 0)
    while True:
        signature: dict[str, object] = {}
        for state in flat.state_of:
            signature[state] = (
                block[state],
                state in flat.final,
                tuple(
                    (a.event, a.effects, a.assigns, a.gives, a.refusal, block[a.target])
                    for cases in flat.answers.values()
                    for case in cases
                    if (a := case.get(state))
                ),
            )
        numbers: dict[object, int] = {}
        refined = {state: numbers.setdefault(signature[state], len(numbers)) for state in flat.state_of}
        if len(numbers) == len(set(block.values())):
            break
        block = refined
    blocks: dict[int, list[str]] = defaultdict(list)
    for state, number in block.items():
        blocks[number].append(state)
    for alike in blocks.values():
        for other in alike[1:]:
            line = flat.spec.regions[flat.regions[0]].states[flat.state_of[other][0]].line
            yield Finding("WSL032", line, f"{alike[0]} and {other} cannot be told apart.", "Merge them.")


def _dead_rows(flat: Flat) -> Iterator[Finding]:
    for row in flat.rows:
        if row not in flat.used_rows:
            yield Finding("WSL033", row.line, f"This row for {', '.join(row.events)} never answers.", "Remove it.")
    for coupling in flat.spec.couplings:
        if coupling not in flat.used_couplings:
            yield Finding("WSL033", coupling.line, f"The coupling to {coupling.target} never applies.", "Remove it.")
