"""Schedulers, each against a table of what may be chosen: no loop, no program.

A program is a function from the choices so far to the number of options, so that it is known by hand which runs there
are. Proved: a token says a schedule and nothing else is a token; `Dfs` leaves nothing out, runs nothing twice, and runs
what deviates least first; the others choose what they say, and the same again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from random import Random as Dice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wslifecycle.conformance.orders.schedulers import (
    Choice,
    Dfs,
    Fifo,
    Level,
    Pct,
    Random,
    Replay,
    Schedule,
    Scheduler,
    Tape,
    Undetermined,
    read_token,
    token,
)

Tree = Callable[[tuple[int, ...]], int]
"""How many options there are after some choices; 0: the run has ended."""


def run(tree: Tree, scheduler: Scheduler, level: Level = Level.LANES) -> Schedule:
    """One run, which does of a loop's work what a scheduler sees."""
    schedule = Schedule(level)
    while of := tree(tuple(choice.chosen for choice in schedule.choices)):
        chosen = scheduler.choose([f"option {number}" for number in range(of)])
        assert 0 <= chosen < of
        schedule.choices.append(Choice(level, chosen, of))
    return schedule


def runs(tree: Tree, scheduler: Scheduler, most: int = 10_000) -> Iterator[tuple[int, ...]]:
    """What was chosen in each run that a scheduler begins."""
    while most and scheduler.begin():
        most -= 1
        schedule = run(tree, scheduler)
        scheduler.end(schedule)
        yield tuple(choice.chosen for choice in schedule.choices)


def every(tree: Tree, so_far: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every run there is, by brute force."""
    if not (of := tree(so_far)):
        yield so_far
    for chosen in range(of):
        yield from every(tree, (*so_far, chosen))


def deviations(chosen: Sequence[int]) -> int:
    return sum(map(bool, chosen))


def tree_of(seed: int, depth: int = 5, width: int = 4) -> Tree:
    """A tree whose number of options, and whose length, depend on everything that was chosen before."""

    def tree(so_far: tuple[int, ...]) -> int:
        dice = Dice(f"{seed} {so_far}")
        return 0 if len(so_far) == depth or dice.random() < 0.15 else dice.randint(2, width)

    return tree


def even(depth: int, of: int = 2) -> Tree:
    """Always as many options."""
    return lambda so_far: of if len(so_far) < depth else 0


# ------------------------------------------------------------------------------------------------ schedules, tokens


def test_a_level_includes_those_before_it() -> None:
    assert list(Level) == [Level.ENVIRONMENT, Level.LATENCY, Level.LANES] == [0, 1, 2]


def test_a_schedule_knows_where_it_left_the_stock_order() -> None:
    levels = (Level.LANES, Level.ENVIRONMENT, Level.LATENCY, Level.LANES)
    chosen = (0, 2, 1, 0)
    schedule = Schedule(Level.LANES, [Choice(level, at, 3) for level, at in zip(levels, chosen, strict=True)])
    assert schedule.deviations == {1: 2, 2: 1}
    assert schedule.needed is Level.LATENCY
    assert schedule.token == "L2,1:2,2:1"
    assert Schedule(Level.LATENCY).needed is None
    assert Schedule(Level.LATENCY).token == "L1"


@given(st.sampled_from(Level), st.dictionaries(st.integers(0, 999_999_999), st.integers(0, 999_999_999), max_size=9))
@example(Level.ENVIRONMENT, {})
def test_a_token_says_its_level_and_its_deviations(level: Level, places: dict[int, int]) -> None:
    text = token(level, places)
    assert read_token(text) == read_token(f"  {text}\n") == (level, places)
    assert not set(text) - set("L0123456789,:")


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), unique_by=lambda pair: pair[0]))
def test_a_token_does_not_depend_on_the_order_of_its_deviations(pairs: list[tuple[int, int]]) -> None:
    assert token(Level.LANES, dict(pairs)) == token(Level.LANES, dict(reversed(pairs)))


NO_TOKENS = (
    *("", "L", "L3", "L00", "L-1", "l0", "0", "xL0", "L0x", "L0,", "L0,,1:1", "L0,1", "L0,1:", "L0,:1", "L0,-1:1"),
    *("L0,1:1,", "L0 1:1", "L0, 1:1", "L0;1:1", "L0,1:1:1", "L0,x:1", "L0,1.5:1", "L0,1:1\n,2:1", "L0,1:1x"),
    *("L0,1234567890:1", "L0,\N{ARABIC-INDIC DIGIT THREE}:1", "L0,1:1,1:2"),
)


@pytest.mark.parametrize("text", NO_TOKENS)
def test_what_is_no_token_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no token of a schedule. One looks like this: L0,5:1,17:2") as raised:
        read_token(text)
    assert repr(text) in str(raised.value)
    with pytest.raises(ValueError, match="is no token"):
        Replay(text)


@given(st.text(st.sampled_from("L012,:9 \n")))
def test_any_text_is_a_token_or_is_refused(text: str) -> None:
    try:
        level, places = read_token(text)
    except ValueError as error:
        assert "is no token" in str(error)  # noqa: PT017 - both are right
    else:
        assert read_token(token(level, places)) == (level, places)


# ------------------------------------------------------------------------------------------------ Fifo, Replay


def test_fifo_is_the_stock_order_once() -> None:
    scheduler = Fifo()
    assert list(runs(even(4, 3), scheduler)) == [(0, 0, 0, 0)]
    assert not scheduler.begin()
    assert not scheduler.begin()


@pytest.mark.parametrize("seed", range(20))
def test_replay_repeats_each_run_from_its_token_and_from_its_deviations(seed: int) -> None:
    tree = tree_of(seed)
    for chosen in every(tree):
        places = {number: at for number, at in enumerate(chosen) if at}
        for scheduler in (Replay(places), Replay(token(Level.LANES, places))):
            assert list(runs(tree, scheduler)) == [chosen]
            assert not scheduler.begin()


def test_replay_of_another_program_takes_what_there_is() -> None:
    """Fewer options: the last one. Fewer choices: what was said of them is ignored."""
    assert list(runs(even(3, 2), Replay("L2,1:7,99:1"))) == [(0, 1, 0)]


def test_replay_keeps_what_it_was_given() -> None:
    places = {0: 1}
    scheduler = Replay(places)
    places.clear()
    assert list(runs(even(2), scheduler)) == [(1, 0)]


# ------------------------------------------------------------------------------------------------ Random


@pytest.mark.parametrize("make", [Random, Pct])
def test_the_same_seed_makes_the_same_schedules(make: Callable[[int], Scheduler]) -> None:
    tree = tree_of(1, depth=9)
    first, second, other = (list(runs(tree, make(seed), 50)) for seed in (7, 7, 8))
    assert first == second != other
    assert len(first) == 50  # there is no end
    assert len(set(first)) > 5


def test_random_comes_to_every_schedule() -> None:
    tree = tree_of(3, depth=4, width=3)
    assert set(runs(tree, Random(1), 20_000)) == set(every(tree))


def test_a_calm_random_deviates_less() -> None:
    counts = {
        calm: sum(map(deviations, runs(even(20, 4), Random(1, (calm,)), 200))) / 4000 for calm in (0.0, 0.5, 0.95, 1.0)
    }
    assert counts[1.0] == 0
    assert counts[0.95] == pytest.approx(0.05 * 3 / 4, abs=0.01)
    assert counts[0.5] == pytest.approx(0.5 * 3 / 4, abs=0.03)
    assert counts[0.0] == pytest.approx(3 / 4, abs=0.03)


def test_each_run_of_random_draws_how_calm_it_is() -> None:
    counts = Counter(map(deviations, runs(even(40), Random(1, (0.0, 1.0)), 200)))
    assert counts.pop(0) == pytest.approx(100, abs=30)
    assert min(counts) > 8


# ------------------------------------------------------------------------------------------------ Pct


class Threads:
    """So many threads of so many steps, one choice for each step: the options are those that have steps left."""

    def __init__(self, *steps: int) -> None:
        self._steps = steps

    def run(self, scheduler: Scheduler) -> list[int]:
        """Which thread took each step."""
        left, taken, schedule = dict(enumerate(self._steps)), list[int](), Schedule(Level.LANES)
        while left:
            options = list(left)
            chosen = 0
            if len(options) > 1:
                chosen = scheduler.choose(options)
                schedule.choices.append(Choice(Level.LANES, chosen, len(options)))
            thread = options[chosen]
            taken.append(thread)
            left[thread] -= 1
            if not left[thread]:
                del left[thread]
        scheduler.end(schedule)
        return taken


def test_pct_without_changes_runs_one_thread_after_the_other() -> None:
    scheduler, orders = Pct(1, depth=1), set()
    for _ in range(200):
        assert scheduler.begin()
        taken = Threads(3, 3, 3).run(scheduler)
        order = tuple(dict.fromkeys(taken))
        assert taken == [thread for thread in order for _ in range(3)]
        orders.add(order)
    assert len(orders) == 6  # priorities are drawn for each run


def test_pct_changes_as_often_as_its_depth_says() -> None:
    for depth in (1, 2, 3):
        scheduler, switches = Pct(2, depth=depth), list[int]()
        for _ in range(300):
            assert scheduler.begin()
            taken = Threads(10, 10).run(scheduler)
            switches.append(sum(one != two for one, two in pairwise(taken)) - 1)
        assert max(switches) == depth - 1
        assert min(switches) == 0


def test_pct_finds_a_fault_of_depth_two() -> None:
    """A fault that takes one change at one place: thread 0 stops between its 5th and 6th step for all of thread 1."""
    found = dict[int, int]()
    for depth in (1, 2):
        scheduler = Pct(3, depth=depth)
        found[depth] = 0
        for _ in range(2000):
            assert scheduler.begin()
            found[depth] += Threads(12, 12).run(scheduler) == [0] * 5 + [1] * 12 + [0] * 7
    assert found[1] == 0
    assert found[2] >= 2000 / (2 * 23) / 2  # one in threads x places, and half of that for chance


def test_pct_moves_its_changes_into_the_longest_run_so_far() -> None:
    scheduler, behind = Pct(4, depth=2), 0
    for _ in range(400):
        assert scheduler.begin()
        taken = Threads(100, 100).run(scheduler)
        first = next(place for place, thread in enumerate(taken) if thread != taken[0])
        behind += 32 < first < 100
    assert behind > 50


# ------------------------------------------------------------------------------------------------ Dfs


@pytest.mark.parametrize("bound", [0, 1, 2, 3, None])
@pytest.mark.parametrize("seed", range(25))
def test_dfs_runs_every_schedule_within_its_bound_once_and_those_with_fewer_deviations_first(
    seed: int, bound: int | None
) -> None:
    tree = tree_of(seed)
    scheduler = Dfs(bound)
    assert not scheduler.complete
    found = list(runs(tree, scheduler))
    assert scheduler.complete
    expected = [chosen for chosen in every(tree) if bound is None or deviations(chosen) <= bound]
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(expected)
    counts = [deviations(chosen) for chosen in found]
    assert counts == sorted(counts)
    assert not scheduler.begin()


@given(st.dictionaries(st.lists(st.integers(0, 2), max_size=3).map(tuple), st.integers(2, 3)), st.integers(0, 4))
def test_dfs_is_exhaustive_on_any_tree(options: dict[tuple[int, ...], int], bound: int) -> None:
    def tree(so_far: tuple[int, ...]) -> int:
        return options.get(so_far, 0)

    expected = sorted(chosen for chosen in every(tree) if deviations(chosen) <= bound)
    assert sorted(runs(tree, Dfs(bound))) == expected


def test_dfs_runs_as_many_schedules_as_can_be_counted() -> None:
    """n choices of 2: 1, n, and n over 2 with 0, 1 and 2 deviations; with m alternatives each, m and m squared."""
    assert len(list(runs(even(10), Dfs(2)))) == 1 + 10 + 45
    assert len(list(runs(even(10, 4), Dfs(2)))) == 1 + 10 * 3 + 45 * 9
    assert sorted(runs(even(6, 3), Dfs(None))) == sorted(product(range(3), repeat=6))


def test_dfs_goes_on_where_it_was_left() -> None:
    """`search` may be called again with the same scheduler: neither is a schedule left out, nor is one run twice."""
    scheduler, tree = Dfs(2), even(6, 3)
    found = list[tuple[int, ...]]()
    while not scheduler.complete:
        found += runs(tree, scheduler, 7)
    assert len(found) == len(set(found)) == 1 + 6 * 2 + 15 * 4


def test_dfs_repeats_a_schedule_whose_run_was_given_up() -> None:
    scheduler, tree = Dfs(1), even(3)
    next(runs(tree, scheduler))
    assert scheduler.begin()
    given_up = run(tree, scheduler).token
    assert scheduler.begin()
    assert run(tree, scheduler).token == given_up


def test_dfs_is_complete_after_its_last_run_and_not_before() -> None:
    scheduler, tree = Dfs(1), even(2)
    seen = [scheduler.complete for _ in runs(tree, scheduler)]
    assert seen == [False, False, True]


@pytest.mark.parametrize("second", [(), (0,), (0, 0)])
def test_dfs_says_where_a_program_does_not_do_the_same_again(second: tuple[int, ...]) -> None:
    """The second choice is there in the stock run, and is not when it comes to deviate from it, or is another."""
    scheduler = Dfs(1)
    assert scheduler.begin()
    scheduler.end(run(even(2), scheduler))
    for _ in range(2):
        assert scheduler.begin()
        schedule = Schedule(Level.LANES, [Choice(Level.LANES, chosen, 2) for chosen in second])
        with pytest.raises(Undetermined, match="not under control"):
            scheduler.end(schedule)


# ------------------------------------------------------------------------------------------------ Tape


@given(st.binary(max_size=12), st.integers(0, 50))
def test_a_tape_is_a_byte_for_each_choice_and_then_the_stock_order(tape: bytes, seed: int) -> None:
    tree, scheduler = tree_of(seed, depth=8), Tape(tape)
    (chosen,) = runs(tree, scheduler)
    for number, at in enumerate(chosen):
        byte = tape[number] if number < len(tape) else 0
        assert at == byte % tree(chosen[:number])
    assert not scheduler.begin()


@given(st.integers(0, 50), st.data())
def test_every_schedule_is_on_a_tape(seed: int, data: st.DataObject) -> None:
    tree = tree_of(seed, depth=4, width=3)
    chosen = data.draw(st.sampled_from(list(every(tree))))
    assert list(runs(tree, Tape(bytes(chosen)))) == [chosen]
