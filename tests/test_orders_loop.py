"""The loop whose order is chosen, against asyncio: whatever it is made to do, a stock loop could do.

Proved on every schedule within a bound, and on some at random: what asyncio promises of the order of callbacks, of
protocols and of timers is kept. Proved by comparison with the stock loop: the stock order is its order, with tasks of
all kinds, and, on a real TCP connection, what a protocol is told of bytes, ends and resets.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import random
import re
import secrets
import socket
import struct
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wslifecycle.conformance.orders.explore import attempt, deterministic, explore
from wslifecycle.conformance.orders.kernel import Script, Transport
from wslifecycle.conformance.orders.loop import BEGIN, ScheduledLoop, Stuck
from wslifecycle.conformance.orders.schedulers import Dfs, Fifo, Level, Random, Replay, Scheduler, Undetermined
from wslifecycle.conformance.orders.sockets import Far, Near

RESET = ConnectionResetError
Calls = list[tuple[str, object]]


@contextmanager
def looping(
    scheduler: Scheduler | None = None, level: Level = Level.ENVIRONMENT, **more: Any
) -> Iterator[ScheduledLoop]:
    loop = ScheduledLoop(scheduler, level, **more)
    try:
        yield loop
    finally:
        loop.dispose()


def run(main: Callable[[], Coroutine[Any, Any, Any]], *, level: Level = Level.ENVIRONMENT, **more: Any) -> Any:
    """What a coroutine returns in the stock order."""
    with looping(None, level, **more) as loop:
        return loop.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - as an app would that knows of nothing but the time
        await asyncio.sleep(0.1)


class Heard(asyncio.Protocol):
    """What a protocol is told. `keeps`: whether the connection stays open when the peer has ended its side."""

    transport: Transport

    def __init__(self, *, keeps: bool = True) -> None:
        self.calls: Calls = []
        self._keeps = keeps

    def __str__(self) -> str:
        return " ".join(name for name, _ in self.calls)

    @property
    def data(self) -> bytes:
        return b"".join(cast(bytes, value) for name, value in self.calls if name == "data")

    @property
    def lost(self) -> object:
        """The class of the error that the connection was lost with, None for none; "" if it is not lost."""
        return dict(self.calls).get("lost", "")

    @property
    def is_lost(self) -> bool:
        return self.lost != ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(Transport, transport)
        self.calls.append(("made", None))

    def data_received(self, data: bytes) -> None:
        self.calls.append(("data", data))

    def eof_received(self) -> bool:
        self.calls.append(("eof", None))
        return self._keeps

    def pause_writing(self) -> None:
        self.calls.append(("pause", None))

    def resume_writing(self) -> None:
        self.calls.append(("resume", None))

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(("lost", exc and type(exc)))


@contextmanager
def connected(
    *, keeps: bool = True, room: int = 65536, **more: Any
) -> Iterator[tuple[ScheduledLoop, Heard, Transport, Far]]:
    """A connection that is made."""
    with looping(**more) as loop:
        heard = Heard(keeps=keeps)
        transport, far = loop.connect(lambda: heard, room=room)
        loop.run_until_idle()
        yield loop, heard, transport, far


def legal(calls: Calls) -> None:
    """What asyncio's documentation promises of the order in which a protocol is told of things."""
    names = [name for name, _ in calls]
    assert names.index("made") == 0
    assert [names.count(name) for name in ("made", "lost")] == [1, 1]
    assert names[-1] == "lost"
    assert all(value for name, value in calls if name == "data")
    if "eof" in names:
        assert names.count("eof") == 1
        assert "data" not in names[names.index("eof") :]
    flow = [name for name in names if name in ("pause", "resume")]
    assert flow == ["pause", "resume"] * (len(flow) // 2) + ["pause"] * (len(flow) % 2)


# ------------------------------------------------------------------------------------------------ callbacks, tasks


def test_call_soon_is_first_in_first_out_on_every_schedule() -> None:
    """Also where tasks go on between the callbacks."""
    orders = set[tuple[object, ...]]()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        log = list[object]()

        async def task(name: str) -> None:
            for number in range(3):
                log.append(f"{name}{number}")
                loop.call_soon(log.append, next(numbers))
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(task("a"), task("b"))
            await asyncio.sleep(0)
            called = [entry for entry in log if isinstance(entry, int)]
            assert called == sorted(called)
            for name in "ab":
                assert [f"{name}{number}" for number in range(3)] == [entry for entry in log if str(entry)[0] == name]
            orders.add(tuple(log))

        numbers = iter(range(99))
        return main()

    for level in Level:
        orders.clear()
        assert explore(program, Dfs(2), level=level, schedules=5000).complete
        assert (len(orders) > 10) is (level is Level.LANES)
        explore(program, Random(1), level=level, schedules=200)


@pytest.mark.parametrize("level", Level)
def test_what_is_cancelled_is_not_called_and_not_told(level: Level) -> None:
    with looping(Random(1), level, traced=True) as loop:
        called = list[int]()
        handles = [loop.call_soon(called.append, number) for number in range(3)]
        handles[1].cancel()
        loop.run_until_idle()
        assert called == [0, 2]
        assert loop.trace == ["list.append() is called"] * 2


def test_done_callbacks_are_called_in_the_order_in_which_they_were_added() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            called = list[int]()
            futures = [loop.create_future() for _ in range(2)]
            for number in range(6):
                futures[number % 2].add_done_callback(partial(lambda number, future: called.append(number), number))
            other = asyncio.create_task(asyncio.sleep(0))
            futures[1].set_result(None)
            futures[0].set_result(None)
            await other
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert called in ([], [1, 3, 5, 0, 2, 4][: len(called)])

        return main()

    for level in Level:
        assert explore(program, Dfs(3), level=level).complete


def steps_of(seed: int) -> Callable[[list[str]], Coroutine[Any, Any, None]]:
    """A program of tasks that yield, call, wait for each other, cancel, lock and queue, drawn at random."""

    async def main(log: list[str]) -> None:
        dice, loop = random.Random(seed), asyncio.get_running_loop()
        events = [asyncio.Event() for _ in range(2)]
        lock, queue, futures = asyncio.Lock(), asyncio.Queue[int](2), [loop.create_future() for _ in range(2)]
        tasks = list[asyncio.Task[None]]()

        async def act(name: str, act: str, at: int) -> None:
            match act:
                case "yield":
                    await asyncio.sleep(0)
                case "call":
                    loop.call_soon(log.append, f"{name} called")
                case "set":
                    events[at].set()
                case "clear":
                    events[at].clear()
                case "wait":
                    await events[at].wait()
                case "lock":
                    async with lock:
                        log.append(f"{name} has the lock")
                        await asyncio.sleep(0)
                case "put":
                    await queue.put(at)
                case "get":
                    log.append(f"{name} got {await queue.get()}")
                case "resolve" if not futures[at].done():
                    futures[at].set_result(None)
                case "future":
                    await asyncio.shield(futures[at])
                case "cancel":
                    tasks[at].cancel()
                case "both":
                    await asyncio.wait(
                        [asyncio.ensure_future(asyncio.sleep(0)), futures[at]], return_when="FIRST_COMPLETED"
                    )

        async def task(name: str, acts: Sequence[tuple[str, int]]) -> None:
            try:
                for number, (what, at) in enumerate(acts):
                    log.append(f"{name} {number} {what}")
                    await act(name, what, at)
            except asyncio.CancelledError:
                log.append(f"{name} is cancelled")
                await asyncio.sleep(0)
            finally:
                log.append(f"{name} ends")

        words = ("yield", "call", "set", "clear", "wait", "lock", "put", "get", "resolve", "future", "cancel", "both")
        for name in "abcd":
            acts = [(dice.choice(words), dice.randrange(2)) for _ in range(6)]
            tasks.append(asyncio.create_task(task(name, acts), name=name))
        for _ in range(30):
            await asyncio.sleep(0)
        for left in tasks:
            left.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return main


@pytest.mark.parametrize("level", Level)
def test_the_stock_order_is_that_of_the_stock_loop(level: Level) -> None:
    for seed in range(100):
        ours, stock = list[str](), list[str]()
        run(partial(steps_of(seed), ours), level=level)
        asyncio.run(steps_of(seed)(stock))
        assert ours == stock


def test_what_asyncio_has_of_tasks_is_deterministic() -> None:
    for seed in range(20):
        body = steps_of(seed)
        assert deterministic(lambda loop: body([]), Random(seed), level=Level.LANES, schedules=5) == 5  # noqa: B023


def test_lanes_keep_the_order_of_each_task_and_nothing_else() -> None:
    """Three tasks of two steps: every order in which they can be merged is there."""
    orders = set[str]()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            log = list[str]()

            async def task(name: str) -> None:
                log.append(name)
                await asyncio.sleep(0)
                log.append(name.upper())

            await asyncio.gather(*map(task, "abc"))
            orders.add("".join(log))

        return main()

    assert explore(program, Dfs(None), level=Level.LANES, schedules=10_000).complete
    merged = {
        "".join(order)
        for order in permutations("aAbBcC")
        if all(order.index(n) < order.index(n.upper()) for n in "abc")
    }
    assert orders == merged
    orders.clear()
    explore(program, Random(1), level=Level.LATENCY)
    assert orders == {"abcABC"}


# ------------------------------------------------------------------------------------------------ timers


@pytest.mark.parametrize("level", Level)
def test_timers_are_never_early_and_come_in_the_order_of_their_times(level: Level) -> None:
    """With a peer that writes meanwhile: time may go on before what it has written is read, or after it."""
    orders = set[str]()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        heard = Heard()
        far = loop.connect(lambda: heard)[1]

        def peer() -> Script:
            for _ in range(2):
                far.write(b"x")
                yield None

        async def main() -> None:
            called = list[float]()
            begun = loop.time()
            assert begun == BEGIN
            loop.script(peer())

            def note(when: float) -> None:
                assert loop.time() >= when
                called.append(when)
                heard.calls.append(("timer", None))

            for delay in (0.3, 0.1, 0.2, 0.1, 5):
                loop.call_later(delay, note, begun + delay)
            never = loop.call_later(0.15, note, -1.0)
            never.cancel()
            await asyncio.sleep(0.25)
            assert loop.time() >= begun + 0.25
            assert called[:3] == [begun + 0.1, begun + 0.1, begun + 0.2]
            await asyncio.sleep(6)
            assert called == sorted(called)
            assert len(called) == 5
            orders.add(str(heard))

        return main()

    assert explore(program, Dfs(2), level=level, schedules=20_000).complete
    first, last = "made data data timer timer timer timer timer", "made timer timer data data timer timer timer"
    assert {first, last} <= orders
    explore(program, Random(2), level=level, schedules=200)


def test_time_stands_still_while_anything_can_happen() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            await asyncio.sleep(0)
        assert loop.time() == time.time() == time.monotonic() == BEGIN
        await asyncio.sleep(3600)
        assert loop.time() == time.time() == time.monotonic() == BEGIN + 3600

    run(main)


def test_advance_runs_what_is_due_and_stops_there() -> None:
    with looping() as loop:
        called = list[tuple[str, float]]()

        def note(name: str) -> None:
            called.append((name, loop.time() - BEGIN))

        def again() -> None:
            note("again")
            loop.call_later(2, again)

        loop.call_later(2, again)
        loop.call_later(3, note, "three")
        loop.call_later(5.5, note, "five and a half")
        loop.call_later(1, note, "never").cancel()
        assert loop.next_timer() == 2
        loop.advance(3)
        assert called == [("again", 2), ("three", 3)]
        assert loop.time() == BEGIN + 3
        loop.advance(0.5)
        assert len(called) == 2
        assert loop.time() == BEGIN + 3.5
        loop.advance(2.5)
        assert called[2:] == [("again", 4), ("five and a half", 5.5), ("again", 6)]
        assert (loop.time(), loop.next_timer()) == (BEGIN + 6, 2)


def test_advance_finishes_what_can_happen_before_time_goes_on() -> None:
    with connected() as (loop, heard, _, far):
        loop.call_later(1, lambda: heard.calls.append(("timer", None)))
        far.write(b"x")
        loop.advance(1)
        assert str(heard) == "made data timer"


def test_run_until_idle_waits_for_no_timer() -> None:
    with looping() as loop:
        called = list[int]()
        loop.call_later(0, called.append, 0)
        loop.call_later(1, called.append, 1)
        loop.run_until_idle()
        assert (called, loop.time()) == ([0], BEGIN)


@pytest.mark.parametrize("count", range(5))
def test_run_iterations_runs_so_many(count: int) -> None:
    with looping() as loop:
        called = list[int]()

        def again(number: int) -> None:
            called.append(number)
            loop.call_soon(again, number + 1)

        loop.call_soon(again, 0)
        loop.run_iterations(count)
        assert called == list(range(count))
        loop.run_iterations(2)
        assert called == list(range(count + 2))


def test_run_iterations_ends_where_nothing_can_happen() -> None:
    with looping() as loop:
        loop.call_later(1, lambda: None)
        loop.run_iterations(10)
        assert loop.time() == BEGIN


def test_call_now_is_as_if_the_loop_ran() -> None:
    with looping() as loop:
        found = list[object]()
        loop.call_now(lambda: found.append(asyncio.get_running_loop()))
        assert found == [loop]
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()


# ------------------------------------------------------------------------------------------------ what is controlled


def drawn() -> tuple[object, ...]:
    """Whatever differs from one process to the other, and from one moment to the next."""
    draws = (os.urandom(8), random.random(), random.SystemRandom().random(), secrets.token_hex(), uuid.uuid4())
    return (*draws, time.time(), time.monotonic())


def test_what_a_program_draws_is_the_same_in_each_run() -> None:
    async def main() -> tuple[object, ...]:
        first = drawn()
        assert not {*first[:5]} & {*drawn()[:5]}
        return first

    assert run(main) == run(main)


def test_nothing_is_drawn_twice_in_one_run() -> None:
    """Also where the loop runs more than once: a nonce is used once."""
    with looping() as loop:
        found = list[object]()
        for _ in range(3):
            loop.call_soon(lambda: found.extend(drawn()[:5]))
            loop.run_until_idle()
        loop.call_now(lambda: found.extend(drawn()[:5]))
        assert len(set(found)) == len(found) == 20


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_controlled_is_given_back(fails: bool) -> None:
    async def main() -> None:
        random.seed(5)
        assert not gc.isenabled()
        if fails:
            raise KeyError

    random.seed(3)
    before = (os.urandom, time.time, time.monotonic, vars(random)["_urandom"], random.getstate())
    with contextlib.suppress(KeyError):
        run(main)
    assert before == (os.urandom, time.time, time.monotonic, vars(random)["_urandom"], random.getstate())
    assert gc.isenabled()
    gc.disable()
    try:
        with contextlib.suppress(KeyError):
            run(main)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_sets_of_tasks_and_futures_have_the_same_order_in_each_run() -> None:
    async def main() -> tuple[object, ...]:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(asyncio.sleep(0), name=f"{number}") for number in range(50)]
        futures = [loop.create_future() for _ in range(50)]
        names = [task.get_name() for task in set(tasks)]
        places = [futures.index(future) for future in set(futures)]
        done, _ = await asyncio.wait(tasks)
        unnamed = asyncio.create_task(asyncio.sleep(0))
        await unnamed
        hashes = [hash(one) for one in (*tasks, *futures)]
        assert len(set(hashes)) == 100
        return names, places, [task.get_name() for task in done], hashes, unnamed.get_name()

    kept = [object() for _ in range(7)]  # so that ids are others
    first = run(main)
    del kept[::2]
    assert first == run(main)


def test_tasks_are_named_by_their_numbers_or_as_they_were_told() -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0), name=name) for name in (None, "mine")]
        tasks.append(asyncio.create_task(asyncio.sleep(0), context=contextvars.copy_context()))
        await asyncio.gather(*tasks)
        this = asyncio.current_task()
        assert this is not None
        return [task.get_name() for task in (this, *tasks)]

    assert run(main) == ["task 1", "task 2", "mine", "task 4"]


# ------------------------------------------------------------------------------------------------ executors, external


def test_an_executor_answers_or_raises() -> None:
    variable = contextvars.ContextVar("variable", default=0)

    def fails() -> None:
        raise KeyError("no")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        variable.set(5)
        assert await asyncio.to_thread(variable.get) == 5
        assert await asyncio.to_thread(pow, 2, 3) == 8
        assert await loop.run_in_executor(None, "a-b".split, "-") == ["a", "b"]
        with pytest.raises(KeyError, match="no"):
            await asyncio.to_thread(fails)
        waits = asyncio.create_task(asyncio.to_thread(fails))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        for _ in range(3):
            await asyncio.sleep(0)

    for level in Level:
        explore(lambda loop: main(), Dfs(2), level=level)


def test_executors_may_be_done_in_any_order() -> None:
    orders = set[tuple[int, ...]]()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            done = list[int]()
            await asyncio.gather(*(asyncio.to_thread(done.append, number) for number in range(3)))
            orders.add(tuple(done))

        return main()

    assert explore(program, Fifo()).schedules == 1
    assert orders == {(0, 1, 2)}
    assert explore(program, Dfs(3)).complete
    assert orders == set(permutations(range(3)))


def externals(orders: set[tuple[object, ...]]) -> Callable[[ScheduledLoop], Coroutine[Any, Any, None]]:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            done = list[object]()

            async def one(number: int) -> None:
                done.append(await loop.external(f"database {number}", number))

            await asyncio.gather(*map(one, range(3)))
            orders.add(tuple(done))

        return main()

    return program


def test_what_is_external_answers_in_turn_below_the_level_of_latency() -> None:
    orders = set[tuple[object, ...]]()
    assert explore(externals(orders), Dfs(None)).complete
    explore(externals(orders), Random(1))
    assert orders == {(0, 1, 2)}


def test_what_is_external_answers_in_any_order_at_the_level_of_latency() -> None:
    orders = set[tuple[object, ...]]()
    explore(externals(orders), Fifo(), level=Level.LATENCY)
    assert orders == {(0, 1, 2)}
    assert explore(externals(orders), Dfs(3), level=Level.LATENCY).complete
    assert orders == set(permutations(range(3)))


@pytest.mark.parametrize("level", Level)
def test_one_external_is_enough_to_go_on(level: Level) -> None:
    """Nothing else can happen, and it is no reason for time to pass."""

    async def main() -> None:
        loop = cast(ScheduledLoop, asyncio.get_running_loop())
        loop.call_later(1, lambda: None)
        assert await loop.external("database", 5) == 5
        assert loop.time() == BEGIN
        waits = asyncio.create_task(loop.external())
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait([waits])
        await asyncio.sleep(2)

    run(main, level=level)


def test_something_external_may_come_too_late() -> None:
    outcomes = set[bool]()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            try:
                async with asyncio.timeout(5):
                    await loop.external()
            except TimeoutError:
                outcomes.add(False)
            else:
                outcomes.add(True)

        return main()

    explore(program, Fifo(), level=Level.LATENCY)
    assert outcomes == {True}
    assert explore(program, Dfs(1), level=Level.LATENCY).complete
    assert outcomes == {True, False}


# ------------------------------------------------------------------------------------------------ no end, no network


def test_a_run_in_which_nothing_can_happen_says_what_its_tasks_wait_for() -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        asyncio.create_task(inner(), name="the other").add_done_callback(lambda task: None)
        await asyncio.get_running_loop().create_future()

    with looping() as loop, pytest.raises(Stuck) as raised:
        loop.run(main())
    text = str(raised.value)
    assert text.startswith("Nothing can happen any more, and task 1 waits in ")
    assert "main, line" in text
    assert re.search(r"; the other waits in .*inner, line [0-9]+ > Event.wait, line [0-9]+\.$", text)


def test_a_run_without_an_end_is_stopped() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - this is the fault
            await asyncio.sleep(1)

    with (
        looping(limit=100) as loop,
        pytest.raises(Stuck, match=r"does not end. Time is at 50 s, and task 1"),
    ):
        loop.run(main())


@pytest.mark.parametrize("limit", [5, 50])
def test_a_run_has_so_many_iterations(limit: int) -> None:
    with looping(limit=limit) as loop:
        called = list[int]()

        def again() -> None:
            called.append(0)
            loop.call_soon(again)

        loop.call_soon(again)
        with pytest.raises(Stuck, match="no task waits"):
            loop.run_until_idle()
        assert len(called) == limit


def _socket() -> socket.socket:
    return cast(socket.socket, None)  # it is refused before anybody looks at it


REAL: dict[str, Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, Any]]] = {
    "create_server": lambda loop: loop.create_server(asyncio.Protocol, "127.0.0.1", 0),
    "start_server": lambda loop: asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0),
    "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 80),
    "open_connection": lambda loop: asyncio.open_connection("127.0.0.1", 80),
    "create_unix_server": lambda loop: loop.create_unix_server(asyncio.Protocol, "path"),
    "create_unix_connection": lambda loop: loop.create_unix_connection(asyncio.Protocol, "path"),
    "connect_accepted_socket": lambda loop: loop.connect_accepted_socket(asyncio.Protocol, _socket()),
    "create_datagram_endpoint": lambda loop: loop.create_datagram_endpoint(asyncio.DatagramProtocol),
    "connect_read_pipe": lambda loop: loop.connect_read_pipe(asyncio.Protocol, None),
    "connect_write_pipe": lambda loop: loop.connect_write_pipe(asyncio.Protocol, None),
    "subprocess_exec": lambda loop: asyncio.create_subprocess_exec("true"),
    "subprocess_shell": lambda loop: asyncio.create_subprocess_shell("true"),
    "getaddrinfo": lambda loop: loop.getaddrinfo("localhost", 80),
    "getnameinfo": lambda loop: loop.getnameinfo(("127.0.0.1", 80)),
    "sock_recv": lambda loop: loop.sock_recv(_socket(), 1),
    "sock_recv_into": lambda loop: loop.sock_recv_into(_socket(), bytearray(1)),
    "sock_recvfrom": lambda loop: loop.sock_recvfrom(_socket(), 1),
    "sock_recvfrom_into": lambda loop: loop.sock_recvfrom_into(_socket(), bytearray(1)),
    "sock_sendall": lambda loop: loop.sock_sendall(_socket(), b""),
    "sock_sendto": lambda loop: loop.sock_sendto(_socket(), b"", ("127.0.0.1", 80)),
    "sock_sendfile": lambda loop: loop.sock_sendfile(_socket(), cast(Any, None)),
    "sock_connect": lambda loop: loop.sock_connect(_socket(), ("127.0.0.1", 80)),
    "sock_accept": lambda loop: loop.sock_accept(_socket()),
    "sendfile": lambda loop: loop.sendfile(cast(Any, None), cast(Any, None)),
}


@pytest.mark.parametrize("name", REAL)
def test_what_is_real_is_refused(name: str) -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError, match=r"has no real network, files or processes. Use its connect\(\)"):
            await REAL[name](asyncio.get_running_loop())

    run(main)


@pytest.mark.parametrize("name", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_no_file_descriptor_is_polled(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        with (tmp_path / "file").open("w") as file, pytest.raises(NotImplementedError, match="has no real network"):
            getattr(asyncio.get_running_loop(), name)(file, *([print] if name.startswith("add") else []))

    run(main)


# ------------------------------------------------------------------------------------------------ errors, dispose


def test_errors_that_nobody_else_is_told_of_are_kept() -> None:
    with looping() as loop:
        loop.call_soon(list[int]().pop)
        loop.fail(KeyError("told"))
        loop.run_until_idle()
        assert [type(context["exception"]) for context in loop.errors] == [KeyError, IndexError]
        assert loop.unheard() == []


def test_an_error_that_nobody_has_asked_a_task_for_is_known_before_it_is_collected() -> None:
    class Owner:
        task: asyncio.Task[None]

        async def fails(self) -> None:
            raise KeyError(self.task)  # a ring: only the garbage collector would end it

    async def main() -> None:
        owner, heard = Owner(), Owner()
        owner.task = asyncio.create_task(owner.fails())
        heard.task = asyncio.create_task(heard.fails())
        await asyncio.wait([owner.task, heard.task])
        heard.task.exception()

    with looping() as loop, loop.controlled():  # the garbage collector does not come before we have looked
        loop.run(main())
        assert [type(error) for error in loop.unheard()] == [KeyError]
        assert len(loop.unheard()) == 1  # it is not heard by this
    gc.collect()


def test_dispose_ends_what_is_left() -> None:
    log = list[str]()

    async def stays() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async def goes() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            log.append("gone")

    loop = ScheduledLoop(Random(1), Level.LANES, traced=True)
    heard = Heard()
    far = loop.connect(lambda: heard)[1]
    loop.script(iter_forever(far))
    loop.run_in_executor(None, log.append, "never")
    tasks = [loop.create_task(act(), name=act.__name__) for act in (goes, stays)]
    loop.run_iterations(3)
    assert [task.get_name() for task in loop.tasks()] == ["goes", "stays"]
    before = loop.schedule.token, len(loop.schedule.choices)
    loop.dispose()
    assert (loop.schedule.token, len(loop.schedule.choices)) == before  # it is no part of the run
    assert loop.is_closed()
    assert "gone" in log
    assert heard.lost is None
    assert far.at_end
    del tasks
    gc.collect()


def iter_forever(far: Far) -> Script:
    while True:
        far.read()
        yield None


def test_a_scheduler_cannot_choose_what_is_not_there() -> None:
    class Wrong(Fifo):
        def choose(self, options: Sequence[object]) -> int:
            return len(options)

    with looping(Wrong()) as loop, pytest.raises(Undetermined, match="Choice 0 is 2, of 2 options"):
        loop.choose(("a", "b"), Level.ENVIRONMENT)


def test_nothing_is_asked_where_there_is_nothing_to_choose() -> None:
    with looping(Random(1, (0.0,)), Level.LATENCY) as loop:
        assert loop.choose(("a",), Level.ENVIRONMENT) == loop.choose("abcdef", Level.LANES) == 0
        assert loop.schedule.choices == []
        loop.choose("abcdef", Level.LATENCY)
        assert [choice.of for choice in loop.schedule.choices] == [6]


# ------------------------------------------------------------------------------------------------ protocols


def talk(ends: str, outcomes: set[str], room: int = 4) -> Callable[[ScheduledLoop], Coroutine[Any, Any, None]]:
    """Both sides write, more than there is room for, and the peer ends in some way."""

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        heard, answer, got = Heard(), b"0123456789", bytearray()
        transport, far = loop.connect(lambda: heard, room=room)

        def peer() -> Script:
            for piece in (b"ab", b"cdef"):
                far.write(piece)
                yield None
            if ends != "end":
                getattr(far, ends)()
                return
            far.write_eof()
            while not far.at_end:
                yield lambda: bool(far.unread) or far.at_end
                got.extend(far.read(3))
            far.close()

        async def main() -> None:
            transport.set_write_buffer_limits(high=4, low=2)
            loop.script(peer())
            await until(lambda: bool(heard.data) or heard.is_lost)
            transport.write(answer[:7])
            transport.write(answer[7:])
            await asyncio.sleep(0.1)
            transport.close()
            await until(lambda: heard.is_lost)
            await until(lambda: ends != "end" or far.at_end)
            legal(heard.calls)
            assert b"abcdef".startswith(heard.data)
            assert answer.startswith(bytes(got))
            if ends == "end":
                assert (heard.lost, bytes(got)) == (None, answer)
                assert ("pause" in str(heard)) == ("resume" in str(heard))
            outcomes.add(str(heard))

        return main()

    return program


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("ends", ["end", "close", "reset"])
def test_a_protocol_is_told_of_things_in_a_legal_order_on_every_schedule(ends: str, level: Level) -> None:
    outcomes = set[str]()
    explored = explore(talk(ends, outcomes), Dfs(2), level=level, schedules=20_000)
    assert explored.complete
    explore(talk(ends, outcomes), Random(1), level=level, schedules=300)
    assert len(outcomes) > 8
    assert any("eof" in outcome for outcome in outcomes) is (ends != "reset")


@pytest.mark.parametrize("level", Level)
def test_bytes_come_in_any_pieces_and_in_their_order(level: Level) -> None:
    cuts = set[tuple[object, ...]]()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            heard = Heard(keeps=False)
            far = loop.connect(lambda: heard)[1]
            for piece in (b"abcd", b"ef", b"g"):
                far.write(piece)
            far.write_eof()
            await until(lambda: heard.is_lost)
            legal(heard.calls)
            assert heard.data == b"abcdefg"
            cuts.add(tuple(value for name, value in heard.calls if name == "data"))

        return main()

    explore(program, Fifo(), level=level)
    assert cuts == {(b"abcdefg",)}
    assert explore(program, Dfs(2), level=level).complete
    assert {(b"abcd", b"efg"), (b"abcd", b"ef", b"g"), (b"a", b"bcdefg"), (b"abc", b"defg")} <= cuts
    explore(program, Random(1), level=level, schedules=300)
    assert (b"a", b"b", b"c", b"d", b"e", b"f", b"g") in cuts or len(cuts) > 15


def test_a_connection_can_be_read_and_written_at_once_or_one_after_the_other() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            heard = Heard()
            transport, far = loop.connect(lambda: heard, room=3)
            transport.write(b"abcdef")
            far.read()
            far.write(b"x")
            await until(lambda: heard.data == b"x" and far.unread == 3)

        return main()

    scheduler, lines = Dfs(1), set[str]()
    while scheduler.begin():
        done = attempt(program, scheduler, Level.ENVIRONMENT, 1000, traced=True)
        assert done.error is None
        scheduler.end(done.schedule)
        lines.update(done.trace)
    assert {f"connection 1 can be {what}" for what in ("read", "written", "read and written")} <= lines


def test_what_is_written_fills_the_room_and_pauses_until_the_peer_reads() -> None:
    with connected(room=10) as (loop, heard, transport, far):
        transport.set_write_buffer_limits(high=8, low=3)
        transport.write(b"x" * 10)
        assert (far.unread, transport.get_write_buffer_size()) == (10, 0)
        transport.write(b"y" * 8)
        assert transport.get_write_buffer_size() == 8
        assert str(heard) == "made"
        transport.write(b"z")
        assert str(heard) == "made pause"
        loop.run_until_idle()
        assert (far.unread, transport.get_write_buffer_size()) == (10, 9)
        assert far.read(5) == b"xxxxx"
        loop.run_until_idle()
        assert (far.unread, transport.get_write_buffer_size(), str(heard)) == (10, 4, "made pause")
        assert far.read(1) == b"x"
        loop.run_until_idle()
        assert (far.unread, transport.get_write_buffer_size(), str(heard)) == (10, 3, "made pause resume")
        assert far.read() == b"xxxxyyyyyy"
        loop.run_until_idle()
        assert far.read() == b"yyz"
        assert (far.read(), far.at_end) == (b"", False)


def test_a_peer_that_does_not_read_holds_up_the_end() -> None:
    with connected(room=3) as (loop, heard, transport, far):
        transport.write(b"abcdef")
        transport.close()
        loop.advance(1000)
        assert (transport.is_closing(), str(heard), far.at_end) == (True, "made", False)
        assert far.read() == b"abc"
        loop.run_until_idle()
        assert (heard.lost, far.at_end, far.told_end) == (None, False, True)
        assert (far.read(), far.at_end, far.told_reset) == (b"def", True, False)


def test_half_a_connection_stays() -> None:
    with connected() as (loop, heard, transport, far):
        far.write(b"question")
        far.write_eof()
        loop.run_until_idle()
        assert str(heard) == "made data eof"
        transport.write(b"answer")
        transport.write_eof()
        loop.run_until_idle()
        assert (far.read(), far.at_end, heard.lost) == (b"answer", True, "")
        transport.close()
        loop.run_until_idle()
        assert heard.lost is None


def test_half_a_connection_that_the_server_has_ended_can_be_read() -> None:
    with connected() as (loop, heard, transport, far):
        transport.write_eof()
        assert far.at_end
        far.write(b"still here")
        loop.run_until_idle()
        assert heard.data == b"still here"
        far.write_eof()
        loop.run_until_idle()
        assert str(heard) == "made data eof"


@pytest.mark.parametrize("data", [b"", b"data"])
def test_a_reset_comes_behind_what_has_arrived_in_the_stock_order(data: bytes) -> None:
    with connected() as (loop, heard, _, far):
        far.write(data)
        far.reset()
        loop.run_until_idle()
        assert (heard.data, heard.lost) == (data, RESET)
        legal(heard.calls)


def test_a_peer_that_has_reset_reads_nothing_more() -> None:
    with connected() as (_, _, transport, far):
        transport.write(b"unread")
        far.reset()
        assert (far.unread, far.read()) == (0, b"")


def test_nothing_blocks() -> None:
    near = Near(1, 4, lambda options: 0)
    with pytest.raises(BlockingIOError):
        near.recv(1)
    assert near.send(b"abcdef") == 4
    with pytest.raises(BlockingIOError):
        near.send(b"ef")


def test_a_reset_may_overtake_what_has_arrived() -> None:
    found = set[tuple[bytes, object]]()

    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            heard = Heard()
            far = loop.connect(lambda: heard)[1]
            far.write(b"ab")
            far.write(b"cd")
            far.reset()
            await until(lambda: heard.is_lost)
            found.add((heard.data, heard.lost))

        return main()

    assert explore(program, Dfs(2)).complete
    assert found == {(b"", RESET), (b"a", RESET), (b"ab", RESET), (b"abcd", RESET)}


@pytest.mark.parametrize("ended", [False, True])
def test_a_write_after_a_reset_fails(ended: bool) -> None:
    with connected() as (loop, heard, transport, far):
        if ended:
            far.write_eof()
            loop.run_until_idle()
        transport.pause_reading()
        far.reset()
        loop.run_until_idle()
        assert not heard.is_lost
        transport.write(b"x")
        loop.run_until_idle()
        assert heard.lost is (BrokenPipeError if ended else RESET)


def test_to_end_a_side_of_a_connection_that_is_lost_fails() -> None:
    with connected() as (_, _, transport, far):
        far.reset()
        with pytest.raises(OSError, match="not connected"):
            transport.write_eof()


def test_the_first_write_to_a_peer_that_has_closed_succeeds() -> None:
    with connected() as (loop, heard, transport, far):
        far.close()
        loop.run_until_idle()
        assert str(heard) == "made eof"
        transport.write(b"in vain")
        loop.run_until_idle()
        assert (heard.lost, far.read()) == ("", b"")
        transport.write(b"x")
        loop.run_until_idle()
        assert heard.lost is BrokenPipeError


def test_a_peer_that_closes_with_something_unread_resets() -> None:
    with connected() as (loop, heard, transport, far):
        transport.write(b"unread")
        far.close()
        loop.run_until_idle()
        assert (str(heard), heard.lost) == ("made lost", RESET)


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("unread", [False, True])
def test_a_server_that_closes_with_something_unread_resets(end: str, unread: bool) -> None:
    with connected() as (loop, heard, transport, far):
        transport.pause_reading()
        far.write(b"unread" * unread)
        getattr(transport, end)()
        loop.run_until_idle()
        assert (far.told_end, far.told_reset, heard.lost) == (True, unread, None)
        far.write(b"lost")
        far.close()
        assert far.written == 6 * unread + 4


def test_what_was_written_before_an_end_is_read_before_it() -> None:
    with connected() as (loop, _, transport, far):
        transport.write(b"last words")
        transport.close()
        loop.run_until_idle()
        assert (far.unread, far.at_end) == (10, False)
        assert (far.read(4), far.read(), far.at_end) == (b"last", b" words", True)


@pytest.mark.parametrize("end", ["write_eof", "close", "reset"])
def test_a_peer_that_has_ended_cannot_write(end: str) -> None:
    with connected() as (_, _, _, far):
        getattr(far, end)()
        with pytest.raises(ValueError, match="has ended"):
            far.write(b"x")


def test_the_far_end_tells_how_much_was_read_before_the_protocol_hears_of_it() -> None:
    with connected() as (loop, heard, _, far):
        told = list[tuple[int, str]]()
        far.watch(lambda taken: told.append((taken, str(heard))))
        far.write(b"abc")
        loop.run_until_idle()
        far.write(b"de")
        far.write_eof()
        loop.run_until_idle()
        assert told == [(3, "made"), (5, "made data"), (5, "made data data")]


def test_a_tap_tells_what_a_protocol_has_its_transport_do() -> None:
    with connected(room=4) as (loop, heard, transport, far):
        told = list[tuple[str, int, str]]()
        transport.tap = lambda what, data: told.append((what, len(data), str(heard)))
        transport.write(b"ab")
        transport.write(b"")
        transport.writelines([b"cd", b"ef"])
        transport.write_eof()
        transport.write_eof()
        transport.close()
        transport.close()
        transport.abort()
        transport.abort()
        transport.write_eof()
        loop.run_until_idle()
        assert told == [
            ("write", 2, "made"),
            ("write", 4, "made"),
            ("write_eof", 0, "made"),
            ("close", 0, "made"),
            ("abort", 2, "made"),
            ("lost", 0, "made"),
        ]
        assert far.read() == b"abcd"


def test_an_end_of_one_side_behind_the_end_of_all_is_not_told() -> None:
    with connected() as (_, _, transport, _):
        told = list[str]()
        transport.tap = lambda what, data: told.append(what)
        transport.close()
        transport.write_eof()
        assert told == ["close"]


def test_what_cannot_go_anywhere_is_not_told() -> None:
    with connected() as (loop, heard, transport, far):
        told = list[str]()
        far.reset()
        loop.run_until_idle()
        transport.tap = lambda what, data: told.append(what)
        transport.write(b"x")
        transport.close()
        transport.abort()
        assert told == []
        assert heard.lost is RESET


def test_a_connection_has_addresses_of_its_own() -> None:
    with looping() as loop:
        infos = [
            [transport.get_extra_info(name) for name in ("sockname", "peername", "socket")]
            for transport in (loop.connect(Heard)[0], loop.connect(Heard)[0])
        ]
        assert [info[0] for info in infos] == [("192.0.2.1", 80)] * 2
        assert [info[1] for info in infos] == [("192.0.2.2", 50001), ("192.0.2.2", 50002)]
        assert len({info[2].fileno() for info in infos}) == 2
        assert all(info[2].fileno() >= 1_000_000 for info in infos)


def test_streams_of_asyncio_work_over_a_connection() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        async def main() -> None:
            answered = list[bytes]()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()
                writer.close()
                await writer.wait_closed()
                over.set()

            over = asyncio.Event()
            far = loop.connect(lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve), room=3)[1]

            def peer() -> Script:
                far.write(b"one\ntw")
                yield None
                far.write(b"o\n")
                yield None
                far.write_eof()
                while not far.at_end:
                    yield lambda: bool(far.unread) or far.at_end
                    answered.append(far.read(2))

            loop.script(peer())
            await over.wait()
            for _ in range(3):
                await asyncio.sleep(1)
            assert b"".join(answered) == b"ONE\nTWO\n"

        return main()

    for level in Level:
        explore(program, Dfs(1), level=level)
        explore(program, Random(1), level=level, schedules=100)


# ------------------------------------------------------------------------------------------------ scripts


def test_a_script_goes_on_step_by_step_and_where_its_condition_holds() -> None:
    with looping() as loop:
        log, may = list[str](), list[int]()

        def steps() -> Script:
            log.append("begun")
            yield None
            log.append("one")
            yield lambda: bool(may)
            log.append("two")

        loop.script(steps(), "the tester")
        assert log == []
        loop.run_until_idle()
        assert log == ["begun", "one"]
        loop.run_until_idle()
        may.append(1)
        loop.run_until_idle()
        assert log == ["begun", "one", "two"]


def test_a_script_may_go_on_more_than_once_in_an_iteration() -> None:
    def program(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
        def steps() -> Script:
            yield None
            yield None

        async def main() -> None:
            loop.script(steps())
            for number in range(5):
                loop.note(f"iteration {number}")
                await asyncio.sleep(0)

        return main()

    def most(scheduler: Scheduler) -> int:
        found = 0
        while scheduler.begin():
            done = attempt(program, scheduler, Level.ENVIRONMENT, 1000, traced=True)
            scheduler.end(done.schedule)
            iterations = " ".join(done.trace).split("iteration")
            found = max(found, *(iteration.count("the peer goes on") for iteration in iterations))
        return found

    assert [most(Fifo()), most(Dfs(1)), most(Dfs(2))] == [1, 2, 3]


def test_the_trace_tells_what_happens() -> None:
    with connected(traced=True) as (loop, _, transport, far):

        def steps() -> Script:
            far.write(b"ab")
            yield None

        loop.script(steps(), "the tester")
        loop.note("noted")
        transport.write(b"x" * 70000)
        loop.run_until_idle()
        far.read()
        loop.run_until_idle()
        text = "\n".join(loop.trace or ())
        for line in ("Heard.connection_made() is called", "noted", "the tester goes on", "connection 1 can be read"):
            assert line in text
        assert "connection 1 can be written" in text


def test_a_trace_tells_which_tasks_go_on_and_in_which_pieces_bytes_come() -> None:
    async def main() -> None:
        heard = Heard()
        far = cast(ScheduledLoop, asyncio.get_running_loop()).connect(lambda: heard)[1]
        far.write(b"abcd")
        await asyncio.create_task(asyncio.sleep(1), name="the sleeper")

    with looping(Replay(dict.fromkeys(range(9), 1)), traced=True) as loop:
        loop.run(main())
    assert "the sleeper goes on" in (loop.trace or ())
    assert "of 4 bytes come or go 1" in (loop.trace or ())


# ------------------------------------------------------------------------------------------------ a real connection

BIG = 1_000_000
"""More than fits into a connection that nobody reads, with the sizes of `ends_of_a_connection`."""

Op = tuple[str, int]
Seen = tuple[Calls, bool, bool, object, list[str]]


class Side:
    """A connection, a protocol at the near end, and operations on both ends, one after the other."""

    heard: Heard
    transport: asyncio.Transport

    def __init__(self, *, keeps: bool) -> None:
        self.heard = Heard(keeps=keeps)
        self.got = 0
        self.reset = self.peer_ended = self.peer_closed = False
        self.raised: object = None

    def do(self, op: Op) -> None:
        name, value = op
        self.raised = None
        if name.startswith("peer_"):
            if self.peer_closed or (self.peer_ended and name in ("peer_write", "peer_eof")):
                return
            self.peer_ended |= name == "peer_eof"
            self.peer_closed = name in ("peer_close", "peer_reset")
            getattr(self, name)(*([value] if value else []))
            return
        try:
            match name:
                case "write":
                    self.transport.write(b"x" * value)
                case "limits":
                    self.transport.set_write_buffer_limits(high=value)
                case _:
                    getattr(self.transport, name)()
        except (OSError, RuntimeError, AttributeError) as error:  # asyncio's own, of abort() after the end
            self.raised = type(error)

    def seen(self) -> Seen:
        """The calls, data that came in several pieces joined; then what the transport shows."""
        calls = Calls()
        for name, value in self.heard.calls:
            joins = name == "data" and calls and calls[-1][0] == "data"
            calls.append((name, cast(bytes, calls.pop()[1]) + cast(bytes, value) if joins else value))
        pending = self.transport.get_write_buffer_size() > 0
        return calls, self.transport.is_closing(), pending, self.raised, self.errors()

    def errors(self) -> list[str]:
        raise NotImplementedError


class InMemory(Side):
    """On a `ScheduledLoop` in the stock order."""

    def __init__(self, loop: ScheduledLoop, *, keeps: bool) -> None:
        super().__init__(keeps=keeps)
        self._loop = loop
        self.transport, self.far = loop.connect(lambda: self.heard, room=100_000)
        loop.run_until_idle()

    def peer_write(self, size: int) -> None:
        self.far.write(b"y" * size)

    def peer_eof(self) -> None:
        self.far.write_eof()

    def peer_close(self) -> None:
        self.far.close()

    def peer_reset(self) -> None:
        self.far.reset()

    def peer_read(self) -> None:
        self.settle()
        while data := self.far.read():
            self.got += len(data)
            self.settle()
        self.reset = self.far.told_reset

    def settle(self) -> None:
        self._loop.run_until_idle()

    def errors(self) -> list[str]:
        return [type(context["exception"]).__name__ for context in self._loop.errors]


def ends_of_a_connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection, whose buffers are small."""
    with socket.socket() as listener:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            listener.setsockopt(socket.SOL_SOCKET, option, 65536)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        far.connect(listener.getsockname())
        near = listener.accept()[0]
    near.setblocking(False)
    far.setblocking(False)
    return near, far


class OnTheKernel(Side):
    """On the stock loop, and a real connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, keeps: bool) -> None:
        super().__init__(keeps=keeps)
        self.wanted = 0
        """So much is to be read: what the kernel has taken need not be there at once."""
        self._loop = loop
        self._told = False
        self._errors = list[str]()
        loop.set_exception_handler(lambda _, context: self._errors.append(type(context["exception"]).__name__))
        near, self._far = ends_of_a_connection()
        made = loop.run_until_complete(loop.connect_accepted_socket(lambda: self.heard, near))
        self.transport = made[0]

    def peer_write(self, size: int) -> None:
        try:
            self._far.send(b"y" * size)
        except ConnectionResetError:  # whoever is told of it first, is told alone
            self._told = True
        except BrokenPipeError:
            pass

    def peer_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._far.shutdown(socket.SHUT_WR)

    def peer_close(self) -> None:
        self._far.close()

    def peer_reset(self) -> None:
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._far.close()

    def peer_read(self) -> None:
        deadline = time.monotonic() + 5
        while True:
            try:
                data = self._far.recv(BIG)
            except BlockingIOError:
                if self.got >= self.wanted or time.monotonic() > deadline:
                    return
                self._turn(0.001)
            except ConnectionError:
                self.reset = True
                return
            else:
                if not data:
                    self.reset |= self._told
                    return
                self.got += len(data)
                self._turn(0)

    def _turn(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._loop.stop)
        self._loop.run_forever()

    def settle_as(self, wanted: Seen) -> None:
        """Some turns of the loop, and more, up to a time, as long as it has not come to what is wanted."""
        deadline = time.monotonic() + 2
        for _ in range(4):
            self._turn(0)
        while self.seen() != wanted and time.monotonic() < deadline:
            self._turn(0.001)

    def errors(self) -> list[str]:
        return self._errors

    def close(self) -> None:
        self._far.close()
        if not self.heard.is_lost:
            self.transport.abort()
        self._turn(0)
        self._turn(0)


SIZES = st.integers(1, 100)
OPS = st.one_of(
    st.tuples(st.just("write"), SIZES | st.just(BIG)),
    st.tuples(st.just("limits"), st.sampled_from((0, 1000, 65536))),
    st.tuples(st.sampled_from(("write_eof", "close", "abort", "pause_reading", "resume_reading")), st.just(0)),
    st.tuples(st.just("peer_write"), SIZES),
    st.tuples(st.sampled_from(("peer_read", "peer_eof", "peer_close", "peer_reset")), st.just(0)),
)


def script(text: str) -> list[Op]:
    return [(word.partition(":")[0], int(word.partition(":")[2] or 0)) for word in text.split()]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(OPS, max_size=10), st.booleans())
@example(script("peer_write:3 peer_reset"), True)
@example(script("pause_reading peer_write:3 peer_reset resume_reading"), True)
@example(script("pause_reading peer_write:3 peer_eof peer_reset resume_reading write:1"), True)
@example(script("pause_reading peer_write:3 peer_close write:1 resume_reading write:1"), True)
@example(script("peer_close write:1 write_eof"), True)
@example(script("peer_close write:1 write:1"), True)
@example(script("pause_reading peer_reset write_eof"), True)
@example(script("pause_reading peer_close write:1000000"), True)
@example(script("pause_reading peer_reset write:1"), True)
@example(script("write:1 peer_close"), True)
@example(script("write_eof peer_reset"), True)
@example(script("limits:1000 write:1000000 peer_read write:1"), True)
@example(script("write:1000000 peer_reset"), True)
@example(script("pause_reading write:1000000 peer_eof peer_reset"), True)
@example(script("write:1000000 write_eof peer_read"), True)
@example(script("write:1000000 close peer_read"), True)
@example(script("pause_reading peer_write:1 write:5 close peer_read"), True)
@example(script("write_eof pause_reading peer_write:1 close peer_read"), True)
@example(script("pause_reading peer_write:1 close peer_write:1 peer_read"), False)
@example(script("write:1 peer_eof"), False)
@example(script("write:1000000 peer_eof peer_read"), False)
def test_a_protocol_is_told_what_it_is_told_on_a_real_connection(ops: list[Op], keeps: bool) -> None:
    """Each operation has its whole effect before the next one, so that what comes of it is determined on both.

    What is not determined, and so is not compared: how many bytes fit into a connection that nobody reads (the sizes
    are such that it does not matter to the server), and how many of these the peer can still read, and what then ends
    them, once the server has cut them off. Nor is anything done while a reset is on its way: on loopback, it is there
    at once.
    """
    stock = asyncio.SelectorEventLoop()
    try:
        with looping() as loop:
            ours, real = InMemory(loop, keeps=keeps), OnTheKernel(stock, keeps=keeps)
            try:
                for op in ops:
                    ours.do(op)
                    real.wanted = ours.got
                    real.do(op)
                    ours.settle()
                    wanted = ours.seen()
                    real.settle_as(wanted)
                    assert real.seen() == wanted, op
                    if ("write", BIG) not in ops or ("abort", 0) not in ops:
                        assert ours.reset == real.reset
                        assert ours.got == real.got or (ours.reset and ("write", BIG) in ops)
            finally:
                real.close()
    finally:
        stock.close()


def test_an_operation_that_has_another_effect_would_be_seen() -> None:
    """The comparison, with something wrong planted into one of its sides."""
    with looping() as one, looping() as two:
        first, second = (InMemory(loop, keeps=True) for loop in (one, two))
        for side, size in ((first, 3), (second, 4)):
            side.do(("peer_write", size))
            side.settle()
        assert first.seen() != second.seen()
