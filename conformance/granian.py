"""The pattern that broke Granian before 2.3.2, on a Granian of an environment of its own, and on ours.

The very app of the conversation `granian-591-plain`, the file `probe`, is copied into a folder of its own and served
there by the other server, in a process group of its own that is ended whatever happens. The same client talks to it.
Then a plain HTTP request asks what the app saw. What is looked at is the pattern alone: `websocket.connect` once, no
call that raises, and a client that is greeted and answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from wslifecycle.conformance import peer as peers
from wslifecycle.conformance import probe
from wslifecycle.conformance.conversations import CONVERSATIONS
from wslifecycle.conformance.talk import WIRE, Told, difference, hold, talk

CONVERSATION = CONVERSATIONS["granian-591-plain"]

START_UP = 20.0
"""Seconds that another server may take until it answers its first HTTP request."""

FAREWELL = 1.0
"""Seconds that it may take to end before it is killed."""

Outcome = tuple[str, str, str]
"""What `probe` remembers: a call (`receive`, `send`, `app`), what became of it, the message's type or the exception."""


class ServerError(OSError):
    """The other server cannot be asked: it is not there, does not start, or ends."""


def granian(console: Console, directory: Path) -> bool:
    """Runs the pattern on the `granian` of an environment, whose `bin` folder is given, and on ours; a line for each.

    True when Granian gives `websocket.connect` again and ours does as it has to. Raises `ServerError` where there is no
    Granian that starts.
    """
    program = str(directory.absolute() / "granian")
    version = _version(program)
    seen, faults = ask([program, "--interface", "asgi", "--workers", "1", "--host", "127.0.0.1", "--port", "{port}"])
    ours = asyncio.run(hold(CONVERSATION)).differences
    _tell(console, version, faults)
    _tell(console, "wslifecycle", ours)
    return connects(seen) > 1 and not ours


def _tell(console: Console, server: str, faults: Sequence[str]) -> None:
    good = "websocket.connect was given once, no call raised, the client was greeted and answered"
    verdict = f"FAILS: {'; '.join(faults)}" if faults else f"ok: {good}"
    line = Text(f"{server}: {verdict}", "bold red" if faults else "green")
    console.print(line, soft_wrap=True)


def _version(program: str) -> str:
    """Such as `granian 2.3.1`."""
    if not Path(program).is_file():
        raise ServerError(f"There is no {program}. `make demo-granian` makes an environment with a Granian in it.")
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=START_UP)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError(f"{program} does not run: {error}") from error
    return done.stdout.strip()


# ------------------------------------------------------------------------------------------------ any server


def ask(command: Sequence[str]) -> tuple[list[Outcome], list[str]]:
    """Runs the pattern on a server; returns what the app saw, and what is wrong with the pattern. Empty: nothing.

    `command` starts the server in the current folder with the app `probe:app` as its last argument, which is added
    here, on the port that stands in the place of `{port}`. Raises `ServerError` if it does not answer HTTP.
    """
    port = _free_port()
    told = Told()
    with tempfile.TemporaryDirectory() as folder, _running(command, port, Path(folder)):
        hindered = asyncio.run(talk(CONVERSATION, port, told))
        seen = _what_was_seen(port)
    faults = [*_faults(seen), *hindered]
    return seen, faults or list(difference("the client", CONVERSATION.wire_sees, told.side(WIRE)))


def connects(seen: Sequence[Outcome]) -> int:
    """How often `receive()` gave `websocket.connect`."""
    return seen.count(("receive", "gave", "websocket.connect"))


def _faults(seen: Sequence[Outcome]) -> Iterator[str]:
    """What is wrong with what the app saw."""
    if (times := connects(seen)) != 1:
        yield f"websocket.connect was given {times} times"
    hindered = Counter(entry for entry in seen if entry[1] in ("raised", "cancelled"))
    for (name, outcome, value), times in hindered.items():
        what = f"raised {value}" if outcome == "raised" else "was cancelled"
        yield f"{'the app' if name == 'app' else f'{name}()'} {what}" + (f" {times} times" if times > 1 else "")
    if not any(name == "app" for name, _, _ in seen):
        yield "the app has not ended"


@contextlib.contextmanager
def _running(command: Sequence[str], port: int, folder: Path) -> Iterator[None]:
    """Serves `probe:app` out of a folder, until the `with` is left, be it by Ctrl-C or by a SIGTERM."""
    shutil.copy(probe.__file__, folder / "probe.py")
    log = folder / "log"
    filled = [part.replace("{port}", str(port)) for part in command]
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*filled, "probe:app"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which is ended as a whole
            )
        try:
            _ready(process, port, log)
            yield
        finally:
            _end(process)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to end, and ends what is left of its group."""
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL)
    finally:
        with contextlib.suppress(ProcessLookupError):  # nobody is left in it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Waits for the answer to an HTTP request: a port may take connections long before there is an app behind it."""
    deadline = time.monotonic() + START_UP
    while _get(port) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            ended = "has ended" if process.poll() is not None else f"does not answer within {START_UP:g} s"
            raise ServerError(f"The server {ended}. It said: {log.read_text(errors='replace')[-2000:].strip()}")
        time.sleep(0.05)


def _what_was_seen(port: int) -> list[Outcome]:
    """Asks the app until its call of the conversation has ended, as long as patience lasts."""
    deadline = time.monotonic() + peers.PATIENCE
    while True:
        seen: list[Outcome] = [(name, outcome, value) for name, outcome, value in json.loads(_get(port) or b"[]")]
        if any(name == "app" for name, _, _ in seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.05)


def _get(port: int) -> bytes | None:
    """The body of the 200 to a plain HTTP request; None if there is no such answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=peers.PATIENCE)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
