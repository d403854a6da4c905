"""The graph that is explored fast is the one that a slow and plain exploration finds.

The plain one keeps whole states in sets, asks the system for its moves in each of them and applies their operations one
by one. States, steps, what holds of them and how far away they are have to be the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

import pytest

from wslifecycle.statemachine import explore
from wslifecycle.statemachine.explore import Bits, Graph, TooLarge
from wslifecycle.statemachine.flatten import compile_profile
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.properties import Kind, Step, Term, judge
from wslifecycle.statemachine.queues import Inbound, Outbound
from wslifecycle.statemachine.system import FLAGS, Bounds, Control, Move, System

SPEC = load_spec()
FLAT = compile_profile(SPEC)
State = tuple[Control, Inbound, Outbound]

TERMS = [Term(Kind.STATE, "wire=open", after) for after in (False, True)]
TERMS += [Term(Kind.STATE, name) for name in ("receiving", "paused", "unread", "sending", "transport=ending", "told")]
TERMS += [Term(Kind.STATE, "receiving", after=True), Term(Kind.STATE, "close_sent", after=True)]
TERMS += [
    Term(Kind.EVENT, name) for name in ("give_message", "gives", "app_send", "decodes", "peer_message", "deadline")
]
TERMS += [Term(Kind.EFFECT, "send_close"), Term(Kind.EFFECT, "keep_message"), Term(Kind.MARK, "followed")]
TERMS += [
    Term(Kind.MARK, "dropped"),
    Term(Kind.WORD, "refused"),
    Term(Kind.WORD, "violation"),
    Term(Kind.WORD, "moved"),
]


BOUNDS = tuple(
    Bounds(queue=queue, receivers=receivers, facts=frozenset()) for queue, receivers in ((0, 1), (0, 2), (1, 1))
)
"""Connections with nothing that could be advertised are a quarter of the states."""

bounds = pytest.mark.parametrize("bounds", BOUNDS, ids=["no queues", "two receive() calls", "queues"])


@cache
def fast(bounds: Bounds) -> Graph:
    return Graph(System(FLAT, bounds), TERMS, 10**6)


def after(system: System, state: State, move: Move) -> State:
    _, inbound, outbound = state
    for op in move.inbound:
        inbound = system.queues.inbound_after(inbound, op)
    for op in move.outbound:
        outbound = system.queues.outbound_after(outbound, op)
    return move.control, inbound, outbound


class Slow:
    """The same, found plainly: for each state how far it is away and what may happen there."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.depth: dict[State, int] = {}
        self.steps: dict[State, list[tuple[Move, State]]] = {}
        self._moves = cache(lambda control: list(system.moves(control)))
        level: set[State] = {(control, Inbound(), Outbound()) for control in system.starts()}
        far = 0
        while level:
            self.depth |= dict.fromkeys(level, far)
            for state in level:
                self.steps[state] = [(move, after(system, state, move)) for move in self._possible(state)]
            level = {target for state in level for _, target in self.steps[state]} - self.depth.keys()
            far += 1

    def _possible(self, state: State) -> Iterable[Move]:
        control, inbound, outbound = state
        queues = self.system.queues
        flags = queues.flags_of_inbound(inbound) | queues.flags_of_outbound(outbound)
        return [move for move in self._moves(control) if flags & move.mask == move.flags]


@cache
def slow(bounds: Bounds) -> Slow:
    return Slow(System(FLAT, bounds))


def teardown_module() -> None:
    """What is large is not kept for the tests of other modules."""
    fast.cache_clear()
    slow.cache_clear()


def name_of(move: Move) -> tuple[object, ...]:
    return move.action, move.event, move.answer, move.marks, move.says


# ------------------------------------------------------------------------------------------------ the same graph


@bounds
def test_states_are_the_same_and_each_is_there_once(bounds: Bounds) -> None:
    graph = fast(bounds)
    states = [graph.state(node) for node in range(len(graph))]
    assert len(set(states)) == len(states)
    assert set(states) == slow(bounds).depth.keys()
    assert len(states) > 1000


@bounds
def test_steps_are_the_same(bounds: Bounds) -> None:
    graph, plain, count = fast(bounds), slow(bounds), 0
    for node in range(len(graph)):
        state, table = graph.state(node), graph.of[node]
        ways = [
            (name_of(way.move), graph.state(target))
            for way, target in zip(table.ways, graph.targets[node], strict=True)
        ]
        ways += [(name_of(way.move), state) for way in table.still]
        expected = [(name_of(move), target) for move, target in plain.steps[state]]
        assert Counter(ways) == Counter(expected)
        assert table.actions == {move.action for move, _ in plain.steps[state]}
        assert table.control == graph._controls[state[0]]
        count += len(ways)
    assert graph.transitions == count


@bounds
def test_states_are_met_breadth_first_each_by_a_shortest_way(bounds: Bounds) -> None:
    graph, plain = fast(bounds), slow(bounds)
    depths = [plain.depth[graph.state(node)] for node in range(len(graph))]
    assert depths == sorted(depths)
    assert graph.depth() == max(depths) == max(plain.depth.values())
    for node in range(0, len(graph), 11):
        way = graph.way(node)
        assert len(way) == depths[node]
        here = way[0][0] if way else node
        assert here < graph.starts
        for state, number in way:
            assert state == here
            here = graph.targets[state][number]
        assert here == node


def holding(system: System, state: State) -> frozenset[str]:
    """What holds in a state, said plainly."""
    control, inbound, outbound = state
    queues = {"unread": bool(inbound.unread), "paused": inbound.paused, "sending": outbound.sending}
    assert queues.keys() == FLAGS.keys()
    return system.terms(control) | {name for name, so in queues.items() if so}


def test_what_holds_of_a_step_is_the_same() -> None:
    """Each term by the mask of a step, and by what a monitor sees of it."""
    small = BOUNDS[2]
    graph, system = fast(small), slow(small).system
    judges = {bit: (term, judge(term)) for term, bit in graph.bits.bit.items()}
    seen: Counter[Term] = Counter()
    for node in range(0, len(graph), 17):
        state = graph.state(node)
        before = holding(system, state)
        table = graph.of[node]
        targets = [graph.state(target) for target in graph.targets[node]] + [state] * len(table.still)
        for way, target in zip((*table.ways, *table.still), targets, strict=True):
            answer = way.move.answer
            effects = frozenset(call.effect for call in answer.effects) if answer else frozenset[str]()
            refused = str(answer.refusal or "") if answer is not None else ""
            after, marks = holding(system, target), way.move.marks
            step = Step(way.move.event, before, after, effects, refused, marks, way.move.action)
            for bit, (term, holds) in judges.items():
                expected = holds(step)
                if term == Term(Kind.WORD, "moved"):
                    expected = state[0].state != target[0].state
                assert bool((way.mask | table.shown) & bit) == expected, (term, way)
                seen[term] += expected
        idle = Step("", before, before)
        for bit, (term, holds) in judges.items():
            assert bool(table.idle & bit) == holds(idle), term
    assert set(seen) == set(TERMS)
    assert min(seen.values()) > 0


def test_terms_of_the_same_name_are_told_apart() -> None:
    terms = [Term(Kind.STATE, "told"), Term(Kind.STATE, "told", after=True), Term(Kind.EVENT, "told")]
    bits = Bits([*terms, *terms])
    assert sorted(bits.bit.values()) == [1, 2, 4]
    assert bits.of_states(frozenset({"told"})) == (bits.bit[terms[0]], bits.bit[terms[1]])


# ------------------------------------------------------------------------------------------------ how it goes


@pytest.mark.parametrize("limit", [1, 100, 2000])
def test_more_states_than_are_allowed_are_too_many(limit: int) -> None:
    with pytest.raises(TooLarge, match=f"more than {limit} states. Lower the bounds"):
        Graph(System(FLAT, BOUNDS[0]), (), limit)


def test_as_many_states_as_are_allowed_are_not() -> None:
    size = len(fast(BOUNDS[0]))
    assert len(Graph(System(FLAT, BOUNDS[0]), (), size)) == size
    with pytest.raises(TooLarge):
        Graph(System(FLAT, BOUNDS[0]), (), size - 1)


def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "_REPORT", 500)
    told: list[tuple[int, int]] = []
    graph = Graph(System(FLAT, BOUNDS[0]), (), 10**6, lambda explored, known: told.append((explored, known)))
    assert len(told) == -(-len(graph) // 500)
    assert all(explored <= known <= len(graph) for explored, known in told)
    assert told == sorted(told)


def test_a_state_that_was_met_is_not_explored_again() -> None:
    graph = fast(BOUNDS[0])
    assert graph.starts == 1
    assert len(graph.nodes) == len(set(graph.nodes)) == len(graph.parents) == len(graph.targets) == len(graph.of)
    assert graph.parents[0] == -1
    assert all(parent < node for node, parent in enumerate(graph.parents))


def test_the_same_graph_comes_of_the_same_system() -> None:
    again = Graph(System(FLAT, BOUNDS[0]), TERMS, 10**6)
    assert (again.nodes, again.parents, again.targets) == (
        fast(BOUNDS[0]).nodes,
        fast(BOUNDS[0]).parents,
        fast(BOUNDS[0]).targets,
    )
