"""Several connections of one server: together they can be in what each can be in alone, but for the shutdown."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations_with_replacement

import pytest

from wslifecycle.statemachine.explore import Graph, TooLarge
from wslifecycle.statemachine.machine import lifecycle
from wslifecycle.statemachine.product import multiply
from wslifecycle.statemachine.system import Bounds, Control, Move, System

LIMIT = 10_000_000


class Small(System):
    """A system of one set of facts whose app never asks, so that even pairs of its states are few."""

    def starts(self) -> Iterator[Control]:
        """The first set of facts."""
        yield next(super().starts())

    def moves(self, c: Control) -> Iterator[Move]:
        """All but the calls of receive() and what the peer reads."""
        return (move for move in super().moves(c) if move.action not in ("app_asks", "peer_reads"))


class Unshut(Small):
    """The same without a shutdown: then nothing at all is shared."""

    def moves(self, c: Control) -> Iterator[Move]:
        """All but the shutdown."""
        return (move for move in super().moves(c) if move.action != "server_shutdown")


@cache
def graph(kind: type[Small]) -> Graph:
    return Graph(kind(lifecycle().flat, Bounds(queue=0, receivers=1)), (), LIMIT)


def test_one_connection_is_the_graph_itself() -> None:
    product = multiply(graph(Small), 1, LIMIT)
    assert product.states == len(graph(Small))


def test_connections_that_share_nothing_have_every_pair_of_states() -> None:
    pairs = combinations_with_replacement(range(len(graph(Unshut))), 2)
    assert multiply(graph(Unshut), 2, LIMIT).states == sum(1 for _ in pairs)


def naive(graph: Graph) -> set[tuple[int, int]]:
    """All pairs of states, worked out in the plainest way: one step of one of them, or a shutdown of both."""
    found = {(start, start) for start in range(graph.starts)}
    queue = list(found)
    for one, other in queue:

        def steps(node: int, *, shutdown: bool) -> list[int]:
            ways = zip(graph.of[node].ways, graph.targets[node], strict=True)
            return [target for way, target in ways if (way.move.action == "server_shutdown") is shutdown]

        reached = [(target, other) for target in steps(one, shutdown=False)]
        reached += [(one, target) for target in steps(other, shutdown=False)]
        reached += [
            (first, second)
            for first in steps(one, shutdown=True) or [one]
            for second in steps(other, shutdown=True) or [other]
        ]
        for pair in reached:
            if pair not in found:
                found.add(pair)
                queue.append(pair)
    return found


def test_a_shutdown_comes_to_all_of_them_at_once() -> None:
    together = {tuple(sorted(pair)) for pair in naive(graph(Small))}
    assert multiply(graph(Small), 2, LIMIT).states == len(together)
    size = len(graph(Small))
    assert len(together) < size * (size + 1) // 2, "then a shutdown of one alone would be no difference"


def test_seen_through_one_of_them_nothing_is_missing_and_nothing_new() -> None:
    seen = {one for one, _ in naive(graph(Small))}
    assert seen == set(range(len(graph(Small))))


def test_too_many_states_are_refused_in_words() -> None:
    with pytest.raises(TooLarge, match="3 connections have more than 100 states"):
        multiply(graph(Small), 3, 100)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    multiply(graph(Small), 2, LIMIT, lambda done, known: told.append((done, known)))
    assert told
    assert all(done < known for done, known in told)
