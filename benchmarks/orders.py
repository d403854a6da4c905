"""How many orders of a program are run in a second.

Three loads take turns in one process, so that whatever the machine does besides hits all of them; the medians over the
rounds are shown. The toy are three tasks of three steps, in all orders within a bound (`Level.LANES`). The scenario are
two WebSocket connections that this package serves, from the request to the closing handshake, each with a peer of its
own: when and in which pieces their bytes come is chosen (`Level.ENVIRONMENT`). The cases are those of Hypothesis, which
draws a tape of bytes for each of them; without Hypothesis, which the package does not need, they are left out.

    python benchmarks/orders.py [--json] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import logging
import platform
import statistics
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from wslifecycle.conformance.orders.explore import Program, search
from wslifecycle.conformance.orders.kernel import Script
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Dfs, Level, Tape
from wslifecycle.conformance.orders.sockets import Far
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Message, Receive, Send, Service

CASES = 3000
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def toy(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    async def main() -> None:
        async def steps() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(steps())

    return main()


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def peer(far: Far) -> Script:
    """Sends the request, a message and a Close, each after the answer to the one before."""
    for sends, answer in ((REQUEST, b"\r\n\r\n"), (frame(1, b"hi"), b"hi")):
        far.write(sends)
        got = b""
        while answer not in got:
            yield lambda: bool(far.unread)
            got += far.read()
    far.write(frame(8, b"\x03\xe8"))
    yield lambda: bool(far.unread) or far.at_end


def scenario(loop: ScheduledLoop) -> Coroutine[Any, Any, None]:
    async def main() -> None:
        service, connections = Service(echo, Options()), set[Acceptor]()
        for _ in range(2):
            loop.script(peer(loop.connect(lambda: Acceptor(service, connections))[1]))
        await asyncio.sleep(0)
        while connections or service.tasks:
            await asyncio.wait([*(connection.gone for connection in connections), *service.tasks])

    return main()


class Load(NamedTuple):
    """What is run, and how many a second we aim at. `run` returns how many there were."""

    name: str
    unit: str
    aim: int
    run: Callable[[], int]


def all_of(program: Program, bound: int, level: Level) -> Callable[[], int]:
    def run() -> int:
        explored = search(program, Dfs(bound), level=level, schedules=100_000)
        assert explored.complete, explored.failure
        return explored.schedules

    return run


def cases() -> int:
    from hypothesis import Phase, given, settings
    from hypothesis import strategies as st

    count = 0

    @settings(database=None, deadline=None, phases=[Phase.generate], max_examples=CASES)
    @given(st.binary().map(Tape))
    def test(tape: Tape) -> None:
        nonlocal count
        count += 1
        assert search(toy, tape, level=Level.LANES).failure is None

    test()
    return count


def loads() -> list[Load]:
    found = [
        Load("three tasks, Dfs(4)", "schedules", 5000, all_of(toy, 4, Level.LANES)),
        Load("two connections, Dfs(2)", "schedules", 800, all_of(scenario, 2, Level.ENVIRONMENT)),
    ]
    if importlib.util.find_spec("hypothesis") is not None:
        found.append(Load("three tasks, Hypothesis", "cases", 2000, cases))
    return found


def measure(load: Load) -> tuple[int, float]:
    """How many there were, and how many a second."""
    gc.collect()
    began = time.perf_counter()
    count = load.run()
    return count, count / (time.perf_counter() - began)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How many orders of a program are run in a second.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="how often each of them runs (default: %(default)s)")
    chosen = parser.parse_args(arguments if arguments is None else list(arguments))
    logging.disable(logging.CRITICAL)
    taken: dict[Load, list[tuple[int, float]]] = {load: [] for load in loads()}
    for _ in range(chosen.rounds):
        for load, rounds in taken.items():
            rounds.append(measure(load))
    rows: list[dict[str, Any]] = [
        {
            "name": load.name,
            "unit": load.unit,
            "count": statistics.median(count for count, _ in rounds),
            "per_second": statistics.median(rate for _, rate in rounds),
            "aim": load.aim,
        }
        for load, rounds in taken.items()
    ]
    if chosen.json:
        print(json.dumps({"python": platform.python_version(), "rounds": chosen.rounds, "rows": rows}))
        return
    print(f"{chosen.rounds} rounds each, Python {platform.python_version()}; medians")
    for row in rows:
        met = "met" if row["per_second"] >= row["aim"] else "MISSED"
        print(
            f"  {row['name']:<25}{row['count']:>7,.0f} {row['unit']:<10}{row['per_second']:>8,.0f} a second"
            f"   aim: at least {row['aim']:,}   {met}"
        )


if __name__ == "__main__":
    main()
