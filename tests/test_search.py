"""The searches of the checker against brute force, on hundreds of small random graphs.

What is found here by closing sets under reachability is found there by taking states away; whether a run exists at all,
and how short it may be, has to be the same. Every run that a search hands out is walked again, step by step. Coarse
views are held against the whole on random systems with queues: what holds in the view holds in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from random import Random

import pytest

from wslifecycle.statemachine.explore import Graph
from wslifecycle.statemachine.properties import Kind, Term
from wslifecycle.statemachine.queues import FULL, HELD, HELD_FULL, PAUSED, SENDING, UNREAD, WRITTEN, Op, Queues
from wslifecycle.statemachine.search import Arc, Fairness, Hit, Part, Unanswered, View, Whole, masks_of, ordered
from wslifecycle.statemachine.system import Control, Move, System

ACTIONS = ("a", "b", "c")
STATES, EVENTS = (1, 2), (4, 8)
"""The bits of a mask that tell of the state before a step, and those that tell of the step."""


class Test(Container[int]):
    """An expression about the mask of a step."""

    __test__ = False

    def __init__(self, holds: Callable[[int], object]) -> None:
        self.holds = holds

    def __call__(self, mask: int) -> bool:
        return bool(self.holds(mask))

    def __contains__(self, mask: object) -> bool:
        return isinstance(mask, int) and self(mask)


class Net:
    """A small graph by hand: for each state its bits, and its steps as (target, bits of the step, action)."""

    def __init__(self, bits: Sequence[int], steps: Sequence[Sequence[tuple[int, int, str]]], starts: int = 1) -> None:
        self.starts: Sequence[int] = range(starts)
        self.size = len(bits)
        self._arcs = [
            [Arc(target, bits[node] | event, action, number) for number, (target, event, action) in enumerate(found)]
            for node, found in enumerate(steps)
        ]
        self._idle = [(bits[node], frozenset(arc.action for arc in arcs)) for node, arcs in enumerate(self._arcs)]

    def arcs(self, node: int) -> Iterable[Arc]:
        return self._arcs[node]

    def idle(self, node: int) -> Iterable[tuple[int, frozenset[str]]]:
        return (self._idle[node],)

    masks = cached_property(masks_of)


def subset(draw: Random, items: Collection[int]) -> int:
    return sum(item for item in items if draw.random() < 0.4)


def random_net(draw: Random) -> Net:
    """Up to eight states, each of which can be reached."""
    size, starts = draw.randint(1, 8), draw.randint(1, 2)
    steps = [
        [
            (draw.randrange(size), subset(draw, EVENTS), draw.choice(ACTIONS))
            for _ in range(draw.choice((0, 1, 1, 2, 2, 3)))
        ]
        for _ in range(size)
    ]
    order = list(range(min(starts, size)))
    for node in order:
        order += [target for target in dict.fromkeys(step[0] for step in steps[node]) if target not in order]
    number = {node: position for position, node in enumerate(order)}
    kept = [[(number[target], event, action) for target, event, action in steps[node]] for node in order]
    return Net([subset(draw, STATES) for _ in order], kept, min(starts, size))


def random_test(draw: Random, bits: Sequence[int]) -> Test:
    """One of the shapes that expressions have: a term, none, or two of them."""
    one, other = draw.choice(bits), draw.choice(bits)
    shapes = (
        Test(lambda mask: mask & one),
        Test(lambda mask: not mask & one),
        Test(lambda mask: mask & one and not mask & other),
        Test(lambda mask: mask & one or mask & other),
        Test(lambda mask: mask & one and mask & other),
    )
    return draw.choice((shapes[0], *shapes))


def random_fairness(draw: Random, actions: Sequence[str] = ACTIONS) -> Fairness:
    fair = draw.sample(actions, draw.choice((0, 1, 1, 2, 3)))
    return Fairness(frozenset(fair), frozenset(draw.sample(actions, draw.choice((0, 0, 1, 2)))))


# ------------------------------------------------------------------------------------------------ brute force


def shortest_out_of_order(view: View, first: Test, second: Test, *, allowed: bool) -> int | None:
    """How many steps the shortest run has that breaks `first before second`, or `at most once first`."""
    level = {(node, False) for node in view.starts}
    met: set[tuple[int, bool]] = set()
    steps = 0
    while level - met:
        met |= level
        steps += 1
        following = set()
        for node, seen in level:
            for arc in view.arcs(node):
                if second(arc.mask) and seen != allowed:
                    return steps
                following.add((arc.target, seen or first(arc.mask)))
        level = following
    return None


Edge = tuple[int, int, str]
"""A step that is no B: where from, where to, its action; nothing is done by ``."""


def silent_edges(view: View, second: Test, rare: Collection[str]) -> list[Edge]:
    """Every step that is no B and may happen again and again, doing nothing among them."""
    edges = []
    for node in range(view.size):
        edges += [(node, node, "") for mask, _ in view.idle(node) if not second(mask)]
        edges += [
            (node, arc.target, arc.action) for arc in view.arcs(node) if not second(arc.mask) and arc.action not in rare
        ]
    return edges


def reachable(edges: Iterable[Edge], start: int) -> set[int]:
    following: dict[int, set[int]] = {}
    for source, target, _ in edges:
        following.setdefault(source, set()).add(target)
    found, waiting = {start}, [start]
    while waiting:
        fresh = following.get(waiting.pop(), set()) - found
        found |= fresh
        waiting += fresh
    return found


def doomed(view: View, second: Test, fairness: Fairness) -> set[int]:
    """The states from which a fair run without a B goes on for ever: they lead to a component that is fair."""
    edges = silent_edges(view, second, fairness.rare)
    reach = {node: reachable(edges, node) for node in range(view.size)}
    good = set()
    for node in range(view.size):
        component = {other for other in reach[node] if node in reach[other]}
        inner = [edge for edge in edges if edge[0] in component and edge[1] in component]
        satisfied = {action for _, _, action in inner} | {
            action
            for member in component
            for action in fairness.fair
            if any(action not in possible for _, possible in view.idle(member))
        }
        if inner and fairness.fair <= satisfied:
            good.add(node)
    return {node for node in range(view.size) if reach[node] & good}


def steps_to_doom(view: View, first: Test, second: Test, fairness: Fairness) -> int | None:
    """How many steps it takes at least until a B is owed that a fair run may never have."""
    lost = doomed(view, second, fairness)
    level = {(node, False) for node in view.starts}
    met: set[tuple[int, bool]] = set()
    steps = 0
    while level - met:
        level |= {
            (node, True)
            for node, _ in level
            if any(first(mask) and not second(mask) for mask, _ in view.idle(node))  # an A while nothing happens
        }
        if any(owed and node in lost for node, owed in level):
            return steps
        met |= level
        steps += 1
        following = set()
        for node, owed in level:
            for arc in view.arcs(node):
                following.add((arc.target, not second(arc.mask) and (owed or first(arc.mask))))
        level = following
    return None


# ------------------------------------------------------------------------------------------------ runs are real


def walked(view: View, start: int, steps: Sequence[tuple[int, int]]) -> Iterator[Arc]:
    """The steps of a run, each of which has to be possible where the run is."""
    here = start
    for node, number in steps:
        assert node == here
        (arc,) = (arc for arc in view.arcs(node) if arc.number == number)
        yield arc
        here = arc.target


def end_of(start: int, arcs: Sequence[Arc]) -> int:
    return arcs[-1].target if arcs else start


def assert_out_of_order(view: View, hit: Hit, first: Test, second: Test, *, allowed: bool) -> None:
    start = hit.steps[0][0]
    assert start in view.starts
    *before, last = walked(view, start, hit.steps)
    assert last.target == hit.ends
    assert second(last.mask)
    assert any(first(arc.mask) for arc in before) is not allowed
    assert hit.round == ()


def assert_unanswered(view: View, hit: Hit, first: Test, second: Test, fairness: Fairness) -> int:
    """Walks a run, which has to be fair and to owe a B for ever; returns after how many steps nothing can help."""
    start = hit.steps[0][0] if hit.steps else hit.ends
    assert start in view.starts
    way = list(walked(view, start, hit.steps))
    assert end_of(start, way) == hit.ends
    round_ = list(walked(view, hit.ends, hit.round))
    assert end_of(hit.ends, round_) == hit.ends
    ((idle, possible),) = view.idle(hit.ends)
    if round_:
        passed = [set(chain.from_iterable(actions for _, actions in view.idle(node))) for node, _ in hit.round]
        for action in fairness.fair:
            assert any(action not in there for there in passed) or action in {arc.action for arc in round_}
        assert not any(second(arc.mask) or arc.action in fairness.rare for arc in round_)
    else:
        assert not second(idle)
        assert not fairness.fair & possible
    lost = doomed(view, second, fairness)
    nodes = [start, *(arc.target for arc in way)]
    owed = False
    helpless = []
    for position, node in enumerate(nodes):
        if position:
            arc = way[position - 1]
            owed = not second(arc.mask) and (owed or first(arc.mask))
        owes_here = owed or any(first(mask) and not second(mask) for mask, _ in view.idle(node))
        silent = not any(second(arc.mask) for arc in way[position:])
        if owes_here and silent and node in lost:
            helpless.append(position)
        owed = owed or (owes_here and silent)
    assert helpless, "nothing is owed in the end"
    return helpless[0]


# ------------------------------------------------------------------------------------------------ by hand


def bit(mask: int) -> Test:
    return Test(lambda found: found & mask)


def unanswered(net: Net, fairness: tuple[str, str] = ("", ""), first: Test | None = None) -> Hit | None:
    """`4 leads to 8`, if the actions of the first word are fair and those of the second are rare."""
    fair, rare = map(frozenset, fairness)
    return Unanswered(net, first or bit(4), bit(8), Fairness(fair, rare)).hit()


class TestOrder:
    AB = Net([0, 0, 0], [[(1, 4, "a"), (2, 8, "b")], [(2, 8, "b")], []])

    def test_b_without_an_earlier_a_breaks_it(self) -> None:
        assert ordered(self.AB, bit(4), bit(8), allowed=True) == Hit(((0, 1),), 2)

    def test_b_after_an_a_does_not(self) -> None:
        assert ordered(Net([0, 0, 0], [[(1, 4, "a")], [(2, 8, "b")], []]), bit(4), bit(8), allowed=True) is None

    def test_b_in_the_same_step_as_the_first_a_does(self) -> None:
        assert ordered(Net([0, 0], [[(1, 12, "a")], []]), bit(4), bit(8), allowed=True) == Hit(((0, 0),), 1)

    def test_once_is_not_twice(self) -> None:
        assert ordered(self.AB, bit(4), bit(4), allowed=False) is None

    def test_twice_is_found_on_a_round(self) -> None:
        assert ordered(Net([0], [[(0, 0, "b"), (0, 4, "a")]]), bit(4), bit(4), allowed=False) == Hit(((0, 1),) * 2, 0)


class TestAnswer:
    def test_that_must_come_does(self) -> None:
        assert unanswered(Net([0, 0, 0], [[(1, 4, "a")], [(2, 8, "b")], []]), ("b", "")) is None

    def test_that_nothing_hurries_may_be_put_off_for_ever(self) -> None:
        assert unanswered(Net([0, 0, 0], [[(1, 4, "a")], [(2, 8, "b")], []])) == Hit(((0, 0),), 1)

    def test_may_be_put_off_by_going_round(self) -> None:
        net = Net([0, 0, 0], [[(1, 4, "a")], [(1, 0, "a"), (2, 8, "b")], []])
        assert unanswered(net, ("a", "")) == Hit(((0, 0),), 1, ((1, 0),))

    def test_may_not_be_put_off_by_what_is_rare(self) -> None:
        net = Net([0, 0, 0], [[(1, 4, "a")], [(1, 0, "c"), (2, 8, "b")], []])
        assert unanswered(net, ("b", "c")) is None

    def test_is_not_owed_where_it_comes_with_the_question(self) -> None:
        assert unanswered(Net([0, 0], [[(1, 12, "a")], []])) is None

    def test_is_owed_from_a_state_on(self) -> None:
        assert unanswered(Net([1], [[]]), first=bit(1)) == Hit((), 0)

    def test_is_owed_again_after_it_came(self) -> None:
        """The state asks twice, and only the second time nothing answers."""
        net = Net([1, 0, 1], [[(1, 8, "a")], [(2, 0, "a")], []])
        hit = unanswered(net, ("a", ""), first=bit(1))
        assert hit == Hit(((0, 0), (1, 0)), 2)

    def test_never_comes_where_a_fair_action_is_impossible_now_and_then(self) -> None:
        """The action that answers is possible in one state of the round and not in the other: nothing forces it."""
        net = Net([0, 0, 0, 0], [[(1, 4, "a")], [(2, 0, "a"), (3, 8, "b")], [(1, 0, "a")], []])
        hit = unanswered(net, ("ab", ""))
        assert hit is not None
        assert {node for node, _ in hit.round} == {1, 2}

    def test_of_several_fair_actions_each_is_satisfied_in_the_round(self) -> None:
        net = Net([0, 0, 0], [[(1, 4, "c")], [(1, 0, "a"), (2, 0, "b")], [(1, 0, "c")]])
        hit = unanswered(net, ("abc", ""))
        assert hit is not None
        assert assert_unanswered(net, hit, bit(4), bit(8), Fairness(frozenset("abc"), frozenset())) == 1

    def test_that_an_action_is_fair_and_rare_means_that_it_is_impossible_in_the_end(self) -> None:
        net = Net([0, 0, 0], [[(1, 4, "a")], [(1, 0, "b"), (2, 0, "a")], []])
        assert unanswered(net, ("b", "b")) == Hit(((0, 0), (1, 1)), 2)
        assert unanswered(Net([0, 0], [[(1, 4, "a")], [(1, 0, "b")]]), ("b", "b")) is None


# ------------------------------------------------------------------------------------------------ at random


def cases(draw: Random) -> tuple[Net, Test, Test, Fairness]:
    bits = STATES + EVENTS
    return random_net(draw), random_test(draw, bits), random_test(draw, bits), random_fairness(draw)


@pytest.mark.parametrize("allowed", [True, False], ids=["before", "at most once"])
def test_order_is_judged_like_by_brute_force(allowed: bool) -> None:
    draw, broken = Random(1), 0
    for _ in range(600):
        net, first, second, _ = cases(draw)
        second = second if allowed else first
        hit = ordered(net, first, second, allowed=allowed)
        length = shortest_out_of_order(net, first, second, allowed=allowed)
        assert (len(hit.steps) if hit else None) == length
        if hit:
            broken += 1
            assert_out_of_order(net, hit, first, second, allowed=allowed)
    assert 100 < broken < 500


def test_answers_are_judged_like_by_brute_force() -> None:
    draw, broken, idle, going = Random(2), 0, 0, 0
    for _ in range(3000):
        net, first, second, fairness = cases(draw)
        hit = Unanswered(net, first, second, fairness).hit()
        length = steps_to_doom(net, first, second, fairness)
        assert (hit is None) == (length is None)
        if hit:
            broken += 1
            idle, going = idle + (not hit.round), going + bool(hit.round)
            assert assert_unanswered(net, hit, first, second, fairness) == length
    assert 600 < broken < 2400
    assert min(idle, going) > 100


def test_brute_force_is_no_yes_man() -> None:
    """It tells apart what the searches have to tell apart, where the answer is known."""
    net = Net([0, 0, 0], [[(1, 4, "a")], [(1, 0, "c"), (2, 8, "b")], []])
    assert steps_to_doom(net, bit(4), bit(8), Fairness(frozenset(), frozenset())) == 1
    assert steps_to_doom(net, bit(4), bit(8), Fairness(frozenset("b"), frozenset())) is None
    assert steps_to_doom(net, bit(4), bit(8), Fairness(frozenset("c"), frozenset("c"))) is None
    assert shortest_out_of_order(TestOrder.AB, bit(4), bit(8), allowed=True) == 1


# ------------------------------------------------------------------------------------------------ coarse views


class Toy(System):
    """A random system: a few controls, and moves that ask for flags of the queues and do something to them."""

    INBOUND: tuple[tuple[Op, int, int], ...] = (
        (("keep", "a"), FULL, 0),
        (("take", ""), UNREAD, UNREAD),
        (("hold", "a"), HELD_FULL, 0),
        (("decode", ""), HELD, HELD),
        (("discard", ""), 0, 0),
        (("resume", ""), 0, 0),
    )
    OUTBOUND: tuple[tuple[Op, int, int], ...] = (
        (("write", "a"), 0, 0),
        (("wait", ""), WRITTEN, WRITTEN),
        (("go on", ""), 0, 0),
        (("read", ""), WRITTEN, WRITTEN),
        (("drop", ""), 0, 0),
    )
    ASKED = (UNREAD, PAUSED, HELD, WRITTEN, SENDING)

    def __init__(self, draw: Random) -> None:
        self.queues = Queues(draw.randint(0, 1))
        self.places = [
            Control(f"s{number}", 0, True, 0, False, False, False, "up", frozenset(), None, "") for number in range(3)
        ]
        self.starting = draw.randint(1, 2)
        self.moving = {place: [self._move(draw) for _ in range(draw.randint(1, 4))] for place in self.places}

    def _move(self, draw: Random) -> Move:
        mask = flags = 0
        inbound: tuple[Op, ...] = ()
        outbound: tuple[Op, ...] = ()
        if draw.random() < 0.5:
            op, mask, flags = draw.choice(self.INBOUND)
            inbound = (op,)
        if draw.random() < 0.5:
            op, more, has = draw.choice(self.OUTBOUND)
            outbound, mask, flags = (op,), mask | more, flags | has
        if draw.random() < 0.3:
            asked = draw.choice(self.ASKED) & ~mask
            mask, flags = mask | asked, flags | draw.choice((0, asked))
        action, target = draw.choice(ACTIONS), draw.choice(self.places)
        marks = frozenset(draw.sample(("followed",), draw.randint(0, 1)))
        return Move(action, action, None, target, mask, flags, inbound, outbound, marks)

    def starts(self) -> Iterator[Control]:
        yield from self.places[: self.starting]

    def terms(self, c: Control) -> frozenset[str]:
        return frozenset((f"at={c.state}",))

    def moves(self, c: Control) -> Iterator[Move]:
        yield from self.moving[c]


TERMS = [Term(Kind.STATE, f"at=s{number}", after) for number in range(3) for after in (False, True)]
TERMS += [Term(Kind.STATE, name) for name in ("unread", "paused", "sending")]
TERMS += [*(Term(Kind.EVENT, action) for action in ACTIONS), Term(Kind.MARK, "followed")]
COARSE: tuple[Callable[[Graph], Part], ...] = (
    Part,
    lambda graph: Part(graph, inbound=True),
    lambda graph: Part(graph, outbound=True),
)


def test_what_holds_in_a_coarse_view_holds_in_the_whole() -> None:
    """And the whole is judged like by brute force, its runs are real ones of the system."""
    draw = Random(3)
    answers = dict.fromkeys((str(kind) for kind in ("holds in both", "broken in both", "broken in the view")), 0)
    for _ in range(150):
        graph = Graph(Toy(draw), TERMS, 10_000)
        whole, parts = Whole(graph), [coarse(graph) for coarse in COARSE]
        for _ in range(6):
            bits = list(graph.bits.bit.values())
            first, second, fairness = random_test(draw, bits), random_test(draw, bits), random_fairness(draw)
            searches: list[tuple[Callable[[View], Hit | None], int | None]] = [
                (
                    lambda view, first=first, second=second: ordered(view, first, second, allowed=True),  # type: ignore[misc]
                    shortest_out_of_order(whole, first, second, allowed=True),
                ),
                (
                    lambda view, first=first: ordered(view, first, first, allowed=False),  # type: ignore[misc]
                    shortest_out_of_order(whole, first, first, allowed=False),
                ),
                (
                    lambda view, first=first, second=second, fair=fairness: (  # type: ignore[misc]
                        Unanswered(view, first, second, fair).hit()
                    ),
                    steps_to_doom(whole, first, second, fairness),
                ),
            ]
            for search, length in searches:
                found = search(whole)
                assert (found is None) == (length is None)
                for part in parts:
                    coarse = search(part)
                    assert found is None or coarse is not None, "the view misses a run"
                    if found is None:
                        answers["holds in both" if coarse is None else "broken in the view"] += 1
                    else:
                        answers["broken in both"] += 1
    assert min(answers.values()) > 50, answers


def test_a_coarse_view_tells_its_queues_apart_and_no_others() -> None:
    draw = Random(4)
    for _ in range(50):
        graph = Graph(Toy(draw), TERMS, 10_000)
        states = [graph.state(node) for node in range(len(graph))]
        assert Part(graph).size == len({control for control, _, _ in states})
        assert Part(graph, inbound=True).size == len({(control, queue) for control, queue, _ in states})
        assert Part(graph, outbound=True).size == len({(control, queue) for control, _, queue in states})
        assert len(Part(graph).starts) == graph.starts
