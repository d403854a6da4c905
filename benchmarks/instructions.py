"""How many instructions an echo of 16 bytes takes, and how many of them are the machine's: `make instructions`.

Valgrind counts them. Other than times they are the same on each run, whatever else a machine is doing. Each program
goes through its loop some times and twice as many times; the difference is what the loop takes, without the start.

    echo        a whole echo: the session with its codec, an ASGI app, and asyncio's loop, on a transport that is not
                there. The kernel, which takes a good part of a real echo, is not counted.
    connection  of that what the lifecycle takes: the calls of `Connection` that an echo makes, with the queue of unread
                messages, the app's messages and the effects
    machine     of that its consultations: two of receive(), one each for the peer's message and the app's
    nothing     the empty loop, which is taken off the two before it

    python benchmarks/instructions.py [--keep]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wslifecycle import Connection
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service

TIMES = 500
KEPT = Path(__file__).with_suffix(".txt")
AT_MOST = 1.5
"""What we aim at: percent of an echo."""

PAYLOAD = b"sixteen bytes..."
FRAME = frame(2, PAYLOAD)
HEAD = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

# ------------------------------------------------------------------------------------------------ what is counted


class Transport(asyncio.Transport):
    """Answers each frame that is written with another one of the peer, in the next turn of the loop, some times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.acceptor: Acceptor
        self.done = asyncio.get_running_loop().create_future()
        self.times = times

    def write(self, data: Any) -> None:
        loop = asyncio.get_running_loop()
        if self.times:
            self.times -= 1
            loop.call_soon(self.acceptor.data_received, FRAME)
        else:
            self.done.set_result(None)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


def echo(times: int) -> None:
    async def run() -> None:
        transport = Transport(times)
        transport.acceptor = Acceptor(Service(app, Options(ping_interval=None)), set())
        transport.acceptor.connection_made(transport)
        transport.acceptor.data_received(HEAD)
        await transport.done

    asyncio.run(run())


def opened() -> Connection:
    connection = Connection()
    connection.started()
    connection.app_wants()
    connection.app_sent({"type": "websocket.accept"})
    return connection


def connection(times: int) -> None:
    connection = opened()
    for _ in range(times):
        connection.app_wants()
        connection.peer_sent(PAYLOAD)
        message = connection.app_wants().message
        assert message is not None
        connection.app_sent({"type": "websocket.send", "bytes": message["bytes"]})


def machine(times: int) -> None:
    connection = opened()
    for _ in range(times):
        connection._place.due  # noqa: B018
        connection._place.answers["peer_message"]
        connection._place.due  # noqa: B018
        connection._place.answers["app_send"]


def nothing(times: int) -> None:
    opened()
    for _ in range(times):
        pass


PROGRAMS: dict[str, Callable[[int], None]] = {
    "echo": echo,
    "connection": connection,
    "machine": machine,
    "nothing": nothing,
}

# ------------------------------------------------------------------------------------------------ counting


def counted(program: str, times: int) -> int:
    """The instructions of a process that runs a program. Raises `RuntimeError` where valgrind does not tell."""
    words = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}"]
    words += [sys.executable, __file__, "--run", program, str(times)]
    done = subprocess.run(
        words, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, timeout=600
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    return int(found[1])


def measure() -> dict[str, float]:
    """The instructions of one turn of each program."""
    taken = {}
    for number, program in enumerate(PROGRAMS, 1):
        print(f"{number}/{len(PROGRAMS)}: {program}", file=sys.stderr, flush=True)
        taken[program] = (counted(program, 2 * TIMES) - counted(program, TIMES)) / TIMES
    empty = taken.pop("nothing")
    return {name: count if name == "echo" else count - empty for name, count in taken.items()}


def shown(taken: dict[str, float]) -> str:
    """The figures as they are kept."""
    says = {
        "echo": "an echo of 16 bytes, without the kernel",
        "connection": "the lifecycle: machine, unread messages, the app's messages, effects",
        "machine": "the machine: four consultations",
    }
    lines = [f"Python {platform.python_version()}; instructions for one echo, by callgrind"]
    lines += [f"{count:>9,.0f}  {count / taken['echo']:>6.1%}  {says[name]}" for name, count in taken.items()]
    return "\n".join([*lines, f"aim: at most {AT_MOST} % for the machine"]) + "\n"


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How many instructions of an echo are the machine's.")
    parser.add_argument("--keep", action="store_true", help=f"write them into {KEPT.name}")
    parser.add_argument("--run", nargs=2, metavar=("PROGRAM", "TIMES"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments if arguments is None else list(arguments))
    if chosen.run:
        PROGRAMS[chosen.run[0]](int(chosen.run[1]))
        return
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed; on Debian: apt-get install valgrind")
    text = shown(measure())
    print(text, end="")
    if chosen.keep:
        KEPT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
