"""Several connections of one server, each a copy of the graph of one.

They share nothing but the sealed machine, which never changes, and the server's shutdown, which comes to all of them at
once. So a run of several, seen through one of them, is a run of one, and what was checked of one holds of each. This
explores the product to show it: every state that one connection can be in, it can be in beside any other of the same
server, and nothing is in the way.
"""

from __future__ import annotations

from itertools import product as combinations
from typing import NamedTuple

from wslifecycle.statemachine.explore import Graph, Progress, TooLarge

_REPORT = 16384


class Product(NamedTuple):
    """How many states and transitions several connections have. States that differ in who is who count once."""

    states: int
    transitions: int


def multiply(graph: Graph, connections: int, limit: int, progress: Progress | None = None) -> Product:
    """Explores so many copies of a graph, with one set of facts for all of them.

    Raises `TooLarge` where there are more states than `limit`.
    """
    steps: list[list[int]] = []
    shutdowns: list[list[int]] = []
    for node, targets in enumerate(graph.targets):
        table = graph.of[node]
        alone: list[int] = []
        together: list[int] = []
        for way, target in zip(table.ways, targets, strict=True):
            (together if way.move.action == "server_shutdown" else alone).append(target)
        steps.append(alone)
        shutdowns.append(together or [node])  # where it changes nothing it comes all the same
    found: set[tuple[int, ...]] = set()
    queue: list[tuple[int, ...]] = [(start,) * connections for start in range(graph.starts)]
    found.update(queue)
    transitions = 0
    for count, state in enumerate(queue):
        reached = [
            (*state[:position], target, *state[position + 1 :])
            for position, node in enumerate(state)
            if position == 0 or state[position - 1] != node  # equal ones take equal steps
            for target in steps[node]
        ]
        reached += combinations(*(shutdowns[node] for node in state))
        transitions += len(reached)
        for several in reached:
            ordered = tuple(sorted(several))
            if ordered not in found:
                found.add(ordered)
                queue.append(ordered)
        if not count % _REPORT:
            if len(found) > limit:
                raise TooLarge(f"{connections} connections have more than {limit:,} states. Lower the bounds.")
            if progress is not None:
                progress(count, len(found))
    return Product(len(found), transitions)
