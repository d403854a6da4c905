"""What explores the orders of a program, on programs whose faults are known: which orders they need is said beforehand.

Proved: a fault is found at the level that it needs, with as few deviations as it needs, and its token repeats it; what
is not deterministic is told from what is wrong; limits are kept.
"""

import asyncio
import itertools
import os
import random
import re
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, find, given, settings
from hypothesis import strategies as st

from wslifecycle.conformance.orders.explore import (
    Cancelled,
    Explored,
    Failure,
    Leaked,
    Program,
    attempt,
    deterministic,
    explore,
    search,
)
from wslifecycle.conformance.orders.kernel import Script
from wslifecycle.conformance.orders.loop import ScheduledLoop, Stuck
from wslifecycle.conformance.orders.schedulers import (
    Dfs,
    Fifo,
    Level,
    Pct,
    Random,
    Replay,
    Scheduler,
    Tape,
    Undetermined,
    read_token,
)

LATENCY, LANES = Level.LATENCY, Level.LANES
Body = Callable[[ScheduledLoop], Coroutine[Any, Any, object]]


def failure_of(program: Program, scheduler: Scheduler | str | None = None, **more: Any) -> Failure:
    failure = search(program, scheduler, **more).failure
    assert failure is not None
    return failure


# ------------------------------------------------------------------------------------------------ programs


def pieces(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """Takes each piece for a whole message: fails where a message comes in two. Level ENVIRONMENT, 1 deviation."""

    class Wrong(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.append(data)

    got = list[bytes]()
    far = loop.connect(Wrong)[1]

    def peer() -> Script:
        far.write(b"message")
        yield None

    async def main() -> None:
        loop.script(peer())
        while sum(map(len, got)) < 7:  # noqa: ASYNC110 - its tasks and futures are not what this is about
            await asyncio.sleep(1)
        assert got == [b"message"]

    return main()


def update(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """Loses an update where the first answer comes last. Level LATENCY, 1 deviation."""

    async def main() -> None:
        value = 0

        async def set_to(number: int) -> None:
            nonlocal value
            await loop.external(f"database {number}")
            value = number

        async with asyncio.TaskGroup() as group:
            group.create_task(set_to(1), name="one")
            group.create_task(set_to(2), name="two")
        assert value == 2

    return main()


def lost(depth: int) -> Body:
    """Loses an update where one task overtakes the other by so many steps. Level LANES."""

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            value = 0

            async def adds() -> None:
                nonlocal value
                read = value
                await asyncio.sleep(0)
                value = read + 1

            async def later() -> None:
                for _ in range(depth):
                    await asyncio.sleep(0)
                await adds()

            async with asyncio.TaskGroup() as group:
                group.create_task(adds(), name="adds")
                group.create_task(later(), name="later")
            assert value == 2

        return main()

    return program


def always(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """Fails on the stock loop, too."""

    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
        raise KeyError("always")

    return main()


def right(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """Three tasks with a lock."""

    async def main() -> None:
        value, lock = 0, asyncio.Lock()

        async def adds() -> None:
            nonlocal value
            async with lock:
                read = value
                await asyncio.sleep(0)
                value = read + 1

        await asyncio.gather(adds(), adds(), adds())
        assert value == 3

    return main()


# ------------------------------------------------------------------------------------------------ faults are found


@pytest.mark.parametrize(
    ("program", "needed", "count"),
    [
        (pieces, Level.ENVIRONMENT, 1),
        (update, LATENCY, 1),
        (lost(1), LANES, 1),
        (lost(2), LANES, 2),
        (lost(3), LANES, 3),
    ],
)
def test_a_fault_is_found_at_the_level_that_it_needs_with_as_few_deviations_as_it_needs(
    program: Body, needed: Level, count: int
) -> None:
    for level in Level:
        if level < needed:
            explored = search(program, Dfs(3), level=level, schedules=50_000)
            assert (explored.failure, explored.complete) == (None, True)
            assert search(program, Random(1), level=level, schedules=200).failure is None
            continue
        assert search(program, Dfs(count - 1), level=level, schedules=50_000).complete
        failure = failure_of(program, Dfs(count), level=level, schedules=50_000)
        assert failure.schedule.needed is needed or level > needed  # more can be ordered otherwise: it may be another
        assert len(failure.schedule.deviations) == count
        assert type(failure.error) is AssertionError


@pytest.mark.parametrize("make", [Random, Pct])
@pytest.mark.parametrize("program", [pieces, update, lost(1), lost(2)])
def test_what_is_found_at_random_is_brought_down_to_what_it_needs(
    program: Body, make: Callable[[int], Scheduler]
) -> None:
    fewest = len(failure_of(program, Dfs(3), level=LANES).schedule.deviations)
    for seed in range(5):
        failure = failure_of(program, make(seed), level=LANES)
        deviations = failure.schedule.deviations
        assert fewest <= len(deviations) <= fewest + 2 or make is Pct  # which deviates nearly everywhere
        for number in deviations:  # without any one of them it does not fail
            less = {place: chosen for place, chosen in deviations.items() if place != number}
            assert attempt(program, Replay(less), LANES, 1000).error is None


def test_many_deviations_are_brought_down() -> None:
    """At random without calm, nearly every choice is a deviation."""
    deviations = [len(failure_of(lost(1), Random(seed, (0.0,)), level=LANES).schedule.deviations) for seed in range(20)]
    assert max(deviations) <= 2


def test_a_fault_of_a_lower_level_is_brought_down_to_it() -> None:
    """Not always: without the others, the choices that are left may have other numbers."""
    levels = [failure_of(pieces, Random(seed, (0.5,)), level=LANES).schedule.needed for seed in range(20)]
    assert levels.count(Level.ENVIRONMENT) > 10


def test_a_fault_is_not_brought_down_to_another_one() -> None:
    """The stock order fails, too, but in another way."""

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            order = list[str]()

            async def task(name: str) -> None:
                order.append(name)

            await asyncio.gather(*map(task, "abc"))
            if order == ["a", "b", "c"]:
                raise KeyError("the other one")
            raise IndexError

        return main()

    failure = failure_of(program, Random(1, (0.0,)), level=LANES)
    assert isinstance(failure.error, IndexError)
    assert len(failure.schedule.deviations) == 1


def test_what_fails_on_the_stock_loop_is_said_to() -> None:
    for scheduler in (Dfs(2), Fifo(), Random(1, (0.0,)), Tape(b"\1\1\1\1")):
        failure = failure_of(always, scheduler, level=LANES)
        assert "0 deviations: it fails on the stock loop, too" in str(failure)
        assert (failure.tried, failure.token, failure.schedule.deviations) == (1, "L2", {})


def test_the_note_tells_how_to_repeat_what_happened() -> None:
    with pytest.raises(AssertionError) as raised:
        explore(update, Dfs(2), level=LATENCY)
    (note,) = raised.value.__notes__
    match = re.search(r'explore\(\.\.\., "(.*)"\)', note)
    assert match is not None
    level, deviations = read_token(match[1])
    assert (level, len(deviations)) == (LATENCY, 1)
    assert re.match(r"Schedule [0-9]+ fails. 1 deviation from the stock order, of level LATENCY.\n", note)
    with pytest.raises(AssertionError) as again:
        explore(update, match[1])
    assert again.value.__notes__[0].partition("\n")[2] == note.partition("\n")[2]
    with pytest.raises(AssertionError, match="assert"):
        explore(update, match[1], level=Level.ENVIRONMENT)  # a token knows its level


def test_deviations_are_counted() -> None:
    assert "1 deviation from the stock order, of level ENVIRONMENT" in str(failure_of(pieces))
    assert "2 deviations from the stock order, of level LANES" in str(failure_of(lost(2), level=LANES))


def test_the_trace_is_numbered_and_tells_who_went_on_in_which_order() -> None:
    lines = str(failure_of(lost(1), Dfs(1), level=LANES)).splitlines()
    begin = lines.index("It went so:") + 1
    assert [line[:5] for line in lines[begin:]] == [f"{number:4}." for number in range(1, len(lines) - begin + 1)]
    told = [line[6:] for line in lines[begin:]]
    assert told[:3] == ["task 1 goes on", "later goes on", "adds goes on"]  # the stock order: adds, later


def test_tokens_repeat_what_any_scheduler_has_found() -> None:
    for scheduler in (Dfs(3), Random(3), Pct(3)):
        failure = failure_of(lost(2), scheduler, level=LANES)
        again = failure_of(lost(2), failure.token)
        assert (again.trace, again.token, type(again.error)) == (failure.trace, failure.token, type(failure.error))
        assert again.tried == 1


def test_what_a_token_says_in_vain_is_not_said_again() -> None:
    token = failure_of(lost(1), Dfs(1), level=LANES).token
    assert failure_of(lost(1), f"{token},999:1").token == token


# ------------------------------------------------------------------------------------------------ what is a failure


def told(body: Body, **more: Any) -> Failure:
    return failure_of(body, Fifo(), **more)


def test_tasks_that_are_left_are_a_failure() -> None:
    async def stays() -> None:
        await asyncio.sleep(1)

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            asyncio.create_task(stays(), name="the one").add_done_callback(lambda task: None)

        return main()

    failure = told(program)
    assert isinstance(failure.error, Leaked)
    assert re.fullmatch(r"When the program had ended, tasks were left: the one \(.*stays\)\.", str(failure.error))


def test_an_error_of_the_program_comes_before_what_it_leaves() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            asyncio.create_task(asyncio.sleep(1)).add_done_callback(lambda task: None)
            raise KeyError

        return main()

    assert isinstance(told(program).error, KeyError)


def test_an_error_of_a_callback_is_a_failure() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            loop.call_soon(list[int]().pop)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        return main()

    failure = told(program)
    assert isinstance(failure.error, IndexError)
    assert any("Exception in callback" in note for note in failure.error.__notes__)


def test_what_is_said_without_an_error_is_a_failure() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            loop.call_exception_handler({"message": "something is wrong"})

        return main()

    assert str(told(program).error) == "something is wrong"


@pytest.mark.parametrize("ring", [False, True])
def test_an_error_that_a_task_is_never_asked_for_is_a_failure(ring: bool) -> None:
    """Also where the task is part of a ring, as it is where a connection keeps the task that serves it."""

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        class Connection:
            task: asyncio.Task[None]

            async def serve(self) -> None:
                raise KeyError(self if ring else "")

        async def main() -> None:
            connection = Connection()
            connection.task = asyncio.create_task(connection.serve())
            if not ring:
                del connection.task
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        return main()

    failure = told(program)
    assert isinstance(failure.error, KeyError)
    assert re.search("never retrieved|nobody has asked", " ".join(failure.error.__notes__))


def test_an_error_that_a_task_was_asked_for_is_none() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def fails() -> None:
            raise KeyError

        async def main() -> None:
            task = asyncio.create_task(fails())
            await asyncio.wait([task])
            assert isinstance(task.exception(), KeyError)
            await asyncio.gather(fails(), fails(), return_exceptions=True)

        return main()

    assert search(program, Fifo()).failure is None


def test_a_program_that_is_cancelled_is_a_failure() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            this = asyncio.current_task()
            assert this is not None
            loop.call_soon(this.cancel)
            await asyncio.sleep(1)

        return main()

    failure = told(program)
    assert isinstance(failure.error, Cancelled)
    assert isinstance(failure.error.__cause__, asyncio.CancelledError)
    assert 'explore(..., "L0")' in str(failure)


@pytest.mark.parametrize("text", ["Nothing can happen any more", "does not end"])
def test_a_program_without_an_end_is_a_failure(text: str) -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            while "end" in text:  # noqa: ASYNC110 - this is the fault
                await asyncio.sleep(0)
            await loop.create_future()

        return main()

    failure = told(program, limit=50)
    assert isinstance(failure.error, Stuck)
    assert text in str(failure.error)
    assert "task 1 waits in" in str(failure.error)


def test_a_program_that_fails_before_it_begins_is_a_failure() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        raise KeyError

    assert isinstance(told(program).error, KeyError)


def test_what_is_left_open_is_no_choice_of_the_program() -> None:
    """What happens when a run is disposed of is not explored, and does not make it undetermined."""

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            for _ in range(2):
                loop.connect(asyncio.Protocol)[1].write(b"unread")
            loop.run_in_executor(None, int)

        return main()

    assert search(program, Dfs(3), level=LANES).complete


# ------------------------------------------------------------------------------------------------ what is undetermined


def by_address(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    class Thing:
        pass

    async def main() -> None:
        things = [Thing() for _ in range(20)]
        kept.append(things)  # so that no address comes again
        kept.append([bytearray(random.Random(len(kept)).randrange(100)) for _ in range(5)])
        for place in sorted(range(20), key=lambda place: id(things[place]) * 7919 % 1009):
            loop.note(f"{place}")
            await asyncio.sleep(0)

    kept = KEPT
    return main()


def by_clock(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    async def main() -> None:
        loop.note(f"it is {perf_counter()}")

    return main()


def by_counter(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    async def main() -> None:
        for _ in range(next(COUNTER) % 3):
            await asyncio.create_task(asyncio.sleep(0))

    return main()


def by_bytes(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """What happens is the same, but not what could be chosen."""

    async def main() -> None:
        far = loop.connect(asyncio.Protocol)[1]
        far.write(b"x" * (2 + next(COUNTER) % 2 * 5))
        await asyncio.sleep(1)

    return main()


KEPT = list[object]()
COUNTER = itertools.count()


@pytest.mark.parametrize("program", [by_address, by_clock, by_counter, by_bytes])
def test_a_program_that_does_not_do_the_same_again_is_undetermined(program: Body) -> None:
    with pytest.raises(Undetermined, match=r"Two runs of .*L2"):
        deterministic(program, Fifo(), level=LANES)


def test_dfs_finds_out_that_a_program_is_undetermined() -> None:
    runs = itertools.count(1)

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(next(runs) % 2 * 3)))

        return main()

    with pytest.raises(Undetermined, match="not under control"):
        search(program, Dfs(2), level=LANES)


def test_a_failure_that_does_not_come_again_is_undetermined() -> None:
    runs = itertools.count()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            assert next(runs) != 1

        return main()

    with pytest.raises(Undetermined, match=r"failed on the schedule L0 .* the second time it did not"):
        search(program, Random(1))


def test_a_failure_that_comes_and_goes_is_undetermined() -> None:
    runs = itertools.count()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            assert next(runs) % 2

        return main()

    with pytest.raises(Undetermined, match="end differently"):
        search(program, Fifo())


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("make", [Fifo, Dfs, Random, Pct])
def test_programs_are_deterministic_on_every_scheduler(make: Callable[[], Scheduler], level: Level) -> None:
    for program in (right, lost(0), pieces, update, always):
        schedules = deterministic(program, make(), level=level, schedules=20, limit=300)
        assert schedules >= 1
        assert schedules == 1 or make is not Fifo


def test_what_is_drawn_before_the_program_begins_is_controlled_too() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        draws = os.urandom(8), random.random()

        async def main() -> None:
            loop.note(f"{draws}")

        return main()

    assert deterministic(program, Fifo()) == 1


def group(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """A TaskGroup one of whose tasks fails, so that the others are cancelled: it keeps them in a set."""

    async def main() -> None:
        async def fails() -> None:
            await asyncio.sleep(0)
            raise KeyError

        async def ends(number: int) -> None:
            try:
                await asyncio.sleep(10)
            finally:
                loop.note(f"{number} ends")

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(10):
                    tasks.create_task(ends(number))
                tasks.create_task(fails())

        with pytest.raises(ExceptionGroup):
            await all_of_them()

    return main()


def waits(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """Sets of tasks and futures, in whose order something is done."""

    async def main() -> None:
        tasks = {asyncio.create_task(asyncio.sleep(number % 3), name=f"{number}") for number in range(12)}
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                loop.note(f"{task.get_name()} is done")
        futures = {loop.create_future() for _ in range(12)}
        numbers = {future: number for number, future in enumerate(sorted(futures, key=hash))}
        for future in futures:
            loop.note(f"future {numbers[future]}")

    return main()


def primitives(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    """A queue, a lock, an event, a condition and timeouts."""

    async def main() -> None:
        queue, lock, event = asyncio.Queue[int](1), asyncio.Lock(), asyncio.Event()
        condition, barrier = asyncio.Condition(), asyncio.Semaphore(2)

        async def puts() -> None:
            for number in range(4):
                await queue.put(number)
            event.set()

        async def takes(name: str) -> None:
            while not event.is_set() or not queue.empty():
                try:
                    async with asyncio.timeout(0.5), lock, barrier:
                        loop.note(f"{name} got {await queue.get()}")
                except TimeoutError:
                    loop.note(f"{name} had to wait")
            async with condition:
                condition.notify_all()

        async def watches() -> None:
            async with condition:
                await asyncio.wait_for(condition.wait(), 5)

        await asyncio.gather(watches(), puts(), takes("one"), takes("two"))

    return main()


@pytest.mark.parametrize("program", [group, waits, primitives])
def test_what_asyncio_offers_is_deterministic(program: Body) -> None:
    assert deterministic(program, Random(1), level=LANES, schedules=30) == 30
    assert deterministic(program, Dfs(1), level=LANES, schedules=30) >= 20


# ------------------------------------------------------------------------------------------------ limits


def test_no_more_schedules_are_run_than_allowed() -> None:
    for schedules in (0, 1, 7):
        explored = search(right, Random(1), level=LANES, schedules=schedules)
        assert (explored.schedules, explored.complete, explored.failure) == (schedules, False, None)
    whole = search(right, Dfs(1), level=LANES)
    assert whole.complete
    assert search(right, Dfs(1), level=LANES, schedules=whole.schedules).complete
    assert not search(right, Dfs(1), level=LANES, schedules=whole.schedules - 1).complete
    assert deterministic(right, Random(1), level=LANES, schedules=4) == 4


def test_a_search_goes_on_with_the_same_scheduler() -> None:
    whole, scheduler, schedules = search(right, Dfs(2), level=LANES, schedules=10_000), Dfs(2), 0
    while not scheduler.complete:
        schedules += search(right, scheduler, level=LANES, schedules=7).schedules
    assert schedules == whole.schedules


def test_no_schedule_is_begun_after_the_time_that_is_allowed() -> None:
    began = perf_counter()
    explored = search(right, Random(1), level=LANES, schedules=10**9, seconds=0.1)
    assert 0 < explored.schedules < 10**6
    assert 0.1 <= explored.seconds <= perf_counter() - began < 5
    assert not explored.complete
    assert search(right, Dfs(1), seconds=0).schedules == 0


def test_without_a_scheduler_every_schedule_with_two_deviations_is_run() -> None:
    assert (
        search(right, level=LANES, schedules=9999).schedules
        == search(right, Dfs(2), level=LANES, schedules=9999).schedules
    )


def test_what_was_explored_is_told() -> None:
    assert str(Explored(1000, True, 2.0)) == "1000 schedules (all there are within the bound) in 2.0 s, 500 a second"
    assert str(Explored(0, False, 0.0)) == "0 schedules (there are more) in 0.0 s, 0 a second"
    assert explore(right, Fifo()).schedules == 1


def test_a_failure_ends_the_search() -> None:
    explored = search(lost(1), Dfs(2), level=LANES)
    assert explored.failure is not None
    assert explored.failure.tried == explored.schedules
    assert not explored.complete


# ------------------------------------------------------------------------------------------------ Hypothesis


def test_a_tape_of_hypothesis_finds_a_fault_and_shrinks_it() -> None:
    tapes = list[bytes]()

    @settings(database=None, deadline=None, derandomize=True, verbosity=Verbosity.quiet, max_examples=2000)
    @given(st.binary(max_size=30))
    def fails(tape: bytes) -> None:
        tapes.append(tape)
        explore(lost(1), Tape(tape), level=LANES)

    with pytest.raises(AssertionError) as raised:
        fails()
    (place,) = failure_of(lost(1), Dfs(1), level=LANES).schedule.deviations
    assert tapes[-1] == bytes(place) + b"\1"  # nothing but the deviation that it takes
    assert any("1 deviation from the stock order" in note for note in raised.value.__notes__)


@settings(database=None, deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary().map(Tape))
def test_a_strategy_of_schedules(scheduler: Tape) -> None:
    explore(right, scheduler, level=LANES)


def test_tapes_lead_to_many_schedules() -> None:
    tokens = set[str]()

    @settings(database=None, deadline=None, derandomize=True, max_examples=200, phases=[Phase.generate])
    @given(st.binary().map(Tape))
    def runs(scheduler: Tape) -> None:
        tokens.add(attempt(right, scheduler, LANES, 1000).schedule.token)

    runs()
    assert len(tokens) > 50
    assert find(st.binary(), lambda tape: attempt(lost(1), Tape(tape), LANES, 1000).error is not None)
