"""How each server is started, asked for its health, and ended.

A `Server` is a command line as a user writes it. `running` starts it in a session of its own and ends the whole session
at the end; if the kit itself is killed, a guard ends what it has started.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from wslifecycle.conformance.kit.environments import interpreter, usage, versions

START_UP = 20.0
"""Seconds until a server has to answer its first request."""

APP = "wslifecycle_agent:app"
"""What `{app}` stands for."""

Option: TypeAlias = tuple[str, ...]
"""The arguments that say an option; `{0}`, `{1}` stand for its values, and the first one is its name."""


class NotStarted(Exception):
    """A server has ended before it answered anything, or has not answered in time."""


@dataclass(frozen=True, slots=True)
class Server:
    """A command line with `{app}` and `{port}`; its options are put before `{app}`.

    `name` is shown, `argument` is what a user writes to have it tried, `bin` the folder with the programs of its
    environment, `distributions` what its version is made of. `files`: what is in the file that the last argument of an
    option names, with the same `{0}`.
    """

    name: str
    argument: str
    command: tuple[str, ...]
    bin: Path
    options: Mapping[str, Option] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def program(self) -> str:
        """The program that is run: that of its environment, or else what is on the path."""
        if self.command[0] == "python":
            return str(interpreter(self.bin) or "python")
        found = shutil.which(self.command[0], path=f"{self.bin}{os.pathsep}{os.environ.get('PATH', '')}")
        return str(Path(found).absolute()) if found else self.command[0]

    def can(self, option: str) -> bool:
        """Whether the release that is installed has an option."""
        module = self.command[1:3] if self.command[1] == "-m" else ()
        return option in self.options and self.options[option][0] in usage(self.program, module)

    def line(self, port: int, options: Mapping[str, Any]) -> list[str]:
        """The command line for a port and these options."""
        words = [self.program]
        for word in self.command[1:]:
            if word == "{app}":
                words += [part for name, value in options.items() for part in self._said(name, value)]
            words.append(word.replace("{app}", APP).replace("{port}", str(port)))
        return words

    def lay(self, folder: Path, options: Mapping[str, Any]) -> None:
        """Writes the files that these options name into the folder in which it is started."""
        for name in options.keys() & self.files.keys():
            file = folder / self._said(name, options[name])[-1]
            if not file.exists():  # a process that was started before may be reading it
                file.write_text(self.files[name].format(options[name]), encoding="utf-8")

    def _said(self, name: str, value: Any) -> list[str]:
        values = value if isinstance(value, tuple) else (value,)
        return [part.format(*values) for part in self.options[name]]


# ------------------------------------------------------------------------------------------------ those that we know

_UVICORN: Mapping[str, Option] = {
    "max_size": ("--ws-max-size", "{0}"),
    "ping": ("--ws-ping-interval", "{0}", "--ws-ping-timeout", "{1}"),
    "root_path": ("--root-path", "{0}"),
    "grace": ("--timeout-graceful-shutdown", "{0}"),
    "loop": ("--loop", "{0}"),
    "quiet": ("--log-level", "warning", "--no-access-log"),
}
_OWN = "wslifecycle.integrations.uvicorn:LifecycleProtocol"


def _uvicorn(ws: str, folder: Path, *, argument: str = "", name: str = "", more: tuple[str, ...] = ()) -> Server:
    parts = {"wsproto": ("wsproto",)}.get(ws, ("websockets",) if "websockets" in ws else ("wslifecycle",))
    command = ("uvicorn", "{app}", "--port", "{port}", "--ws", ws, *more)
    name = name or f"uvicorn {ws}"
    return Server(name, argument or name.replace(" ", ":"), command, folder, _UVICORN, ("uvicorn", *parts))


def _other(command: str, folder: Path, options: Mapping[str, Option], parts: str, **files: str) -> Server:
    words = tuple(command.split())
    return Server(words[0], words[0], words, folder, options, tuple(parts.split()), files)


def _known(folder: Path) -> dict[str, list[Server]]:
    """The servers by the names that a user may write."""
    stacks = [_uvicorn(ws, folder) for ws in ("wsproto", "websockets", "websockets-sansio")]
    own = [
        _uvicorn(_OWN, folder, argument=f"wslifecycle:{http}", name=f"wslifecycle {http}", more=("--http", http))
        for http in ("h11", "httptools")
    ]
    own.append(
        Server(
            "wslifecycle start_server",
            "wslifecycle:start_server",
            ("python", "-m", "wslifecycle.conformance.kit.own", "{app}", "--port", "{port}"),
            folder,
            {
                "max_size": ("--max-size", "{0}"),
                "ping": ("--ping", "{0}", "{1}"),
                "root_path": ("--root-path", "{0}"),
                "grace": ("--grace", "{0}"),
                "loop": ("--loop", "{0}"),
            },
            ("wslifecycle", "wsproto"),
        )
    )
    others = [
        _other(
            "hypercorn -b 127.0.0.1:{port} {app}",
            folder,
            {
                "max_size": ("--config", "max-size-{0}.toml"),
                "ping": ("--websocket-ping-interval", "{0:.0f}"),
                "root_path": ("--root-path", "{0}"),
                "grace": ("--graceful-timeout", "{0}"),
                "loop": ("--worker-class", "{0}"),
                "quiet": ("--log-level", "WARNING"),
            },
            "hypercorn wsproto",
            max_size="websocket_max_message_size = {0}\n",
        ),
        _other(
            "daphne -b 127.0.0.1 -p {port} {app}",
            folder,
            {
                "max_size": ("--websocket-max-message-size", "{0}"),
                "ping": ("--ping-interval", "{0:.0f}", "--ping-timeout", "{1:.0f}"),
                "root_path": ("--root-path", "{0}"),
                "quiet": ("--verbosity", "0"),
            },
            "daphne autobahn twisted",
        ),
        _other(
            "granian --interface asgi --workers 1 --port {port} {app}",
            folder,
            {
                "root_path": ("--url-path-prefix", "{0}"),
                "grace": ("--workers-kill-timeout", "{0}"),
                "loop": ("--loop", "{0}"),
                "quiet": ("--log-level", "warning"),
            },
            "granian",
        ),
        _other(
            "gunicorn -k asgi -w 1 -b 127.0.0.1:{port} {app}",
            folder,
            {
                "max_size": ("--websocket-max-message-size", "{0}"),
                "root_path": ("--root-path", "{0}"),
                "grace": ("--graceful-timeout", "{0}"),
                "loop": ("--asgi-loop", "{0}"),
                "quiet": ("--log-level", "warning", "--no-control-socket"),
            },
            "gunicorn",
        ),
    ]
    each = {server.argument: [server] for server in (*stacks, *own, *others)}
    return {"uvicorn": stacks, "wslifecycle": own} | each


def names() -> list[str]:
    """What a user may write."""
    return sorted(_known(here()))


def here() -> Path:
    """The folder with the programs of this environment."""
    return Path(sys.executable).parent


def find(name: str, folder: Path | None = None) -> list[Server]:
    """The servers that a name stands for, of this environment or of the one with this folder of programs.

    `uvicorn` stands for as many of its implementations as are there. Raises `LookupError` for a name that nobody knows,
    and for a server that is not installed.
    """
    known = _known((folder or here()).absolute())
    if name not in known:
        raise LookupError(f"There is no server {name!r}. Names: {', '.join(known)}; or write --command.")
    wanting = [_wanting(server) for server in known[name]]
    servers = [server for server, text in zip(known[name], wanting, strict=True) if not text]
    if not servers or (name != "uvicorn" and any(wanting)):
        raise LookupError(next(filter(None, wanting)))
    return servers


def _wanting(server: Server) -> str:
    """What is missing for it to be started; empty if nothing is."""
    program = server.command[0]
    if program != "python" and not (server.bin / program).exists():
        return f"{program} is not installed: pip install {program}"
    there = versions(server.bin, server.distributions)
    lacking = [] if there is None else [name for name in server.distributions if name not in there]
    if lacking:
        return f"{lacking[0]} is not installed: pip install {lacking[0]}"
    if server.name.startswith("uvicorn "):
        ws = server.command[server.command.index("--ws") + 1]
        if not re.search(rf"\b{ws}\b(?!-)", usage(server.program)):
            return f"The uvicorn that is installed has no --ws {ws}."
    return ""


def custom(command: str) -> Server:
    """A server by its command line. Raises `ValueError` if it cannot be read, `LookupError` without its program."""
    words = tuple(shlex.split(command))
    for place in ("{app}", "{port}"):
        if place not in command:
            raise ValueError(f"There is no {place} in {command!r}. Write 'myserver {{app}} --port {{port}}'.")
    server = Server(Path(words[0]).name, f"--command {shlex.quote(command)}", words, here())
    if shutil.which(server.program) is None:
        raise LookupError(f"There is no program {words[0]!r}, neither beside this Python nor on the path.")
    return server


def chosen(names: Sequence[str], commands: Sequence[str], folder: Path | None = None) -> list[Server]:
    """The servers that somebody has named or written down. Raises what `find` and `custom` raise, and `ValueError`
    where there is none.
    """
    if not names and not commands:
        raise ValueError(f"Which server? One of {', '.join(sorted(_known(here())))}; or --command.")
    return [*(server for name in names for server in find(name, folder)), *map(custom, commands)]


async def version(server: Server) -> str:
    """What is installed of it, such as `uvicorn 0.54.0, wsproto 1.3.2`; empty if nothing is known."""
    found = await asyncio.to_thread(versions, server.bin, server.distributions) if server.distributions else None
    return ", ".join(f"{name} {number}" for name, number in (found or {}).items())


# ------------------------------------------------------------------------------------------------ one that runs


class Running:
    """A server that runs. `port` is where it listens on 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.pid = process.pid
        """Its main process, which leads the session of all that it starts."""
        self.port = port
        self._process = process
        self._log = log

    @property
    def returncode(self) -> int | None:
        """The status that its main process has ended with; None while it runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self.returncode is None

    async def get(self, path: str, seconds: float) -> bytes:
        """The whole answer to a plain HTTP request. Raises `OSError`, `EOFError` where it is none, `TimeoutError` when
        it takes longer.
        """
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                return head + await (reader.readexactly(int(length[1])) if length else reader.read())
            finally:
                writer.close()

    async def healthy(self, seconds: float) -> bool:
        """Whether a plain HTTP request is answered in this time."""
        try:
            return (await self.get("/", seconds)).startswith(b"HTTP/1.")
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            return False

    def terminate(self) -> None:
        """What a process manager does: SIGTERM, to the main process."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def wait(self, seconds: float) -> int | None:
        """The status that its main process ends with; None if it does not end in this time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.alive and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        return self.returncode

    def log_size(self) -> int:
        """How many bytes it has logged."""
        return self._log.stat().st_size

    def log_since(self, offset: int) -> str:
        """What it has logged behind so many bytes."""
        with self._log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")


@contextmanager
def laid(app: str) -> Iterator[Path]:
    """A folder with a file that has the app that a server is to serve, as `APP` names it."""
    # what a server has started may write into it until it is gone, too
    with tempfile.TemporaryDirectory(prefix="wslifecycle-", ignore_cleanup_errors=True) as folder:
        shutil.copy(app, Path(folder, f"{APP.partition(':')[0]}.py"))
        yield Path(folder)


@asynccontextmanager
async def running(
    server: Server, folder: Path, env: Mapping[str, str], *, log: Path, **options: Any
) -> AsyncIterator[Running]:
    """Starts a server on a free port, with the app that is in `folder`, and ends it with everything that it started.

    Raises `NotStarted`, with the end of its log.
    """
    server.lay(folder, options)
    for attempt in range(3):
        port = _free_port()
        try:
            process = _start(server.line(port, options), folder, env, log)
        except OSError as error:
            raise NotStarted(f"{server.name} cannot be started: {error}") from None
        try:
            found = Running(process, port, log)
            if await _ready(found):
                yield found
                return
        finally:
            _end(process)
        if "in use" not in found.log_since(0) or attempt == 2:
            break
    status = "has not answered" if process.returncode == -signal.SIGKILL else f"ended with status {process.returncode}"
    raise NotStarted(f"{server.name} {status}: {shlex.join(server.line(port, options))}\n{found.log_since(0)[-1500:]}")


async def _ready(process: Running) -> bool:
    """Whether it answers, once it does."""
    deadline = asyncio.get_running_loop().time() + START_UP
    while process.alive and asyncio.get_running_loop().time() < deadline:
        if await process.healthy(1.0):
            return True
        await asyncio.sleep(0.03)
    return False


_GIVEN: set[int] = set()
"""The ports that were given out: one that is free may have been given to a server that has not bound it yet."""


def _free_port() -> int:
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = int(sock.getsockname()[1])
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def _start(words: list[str], folder: Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    settings = {**kept, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **env}
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _guard(f"+{process.pid}")
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _guard(f"-{process.pid}")


_GUARD = """
import contextlib, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)
"""


@cache
def _guarding() -> subprocess.Popen[bytes]:
    """A process that ends what is left of the servers as soon as this one is gone, however it went."""
    guard = subprocess.Popen([sys.executable, "-ISc", _GUARD], stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(guard.communicate)
    return guard


def _guard(line: str) -> None:
    """Tells the guard that a server's session has begun (`+`) or has ended (`-`)."""
    guard = _guarding()
    assert guard.stdin is not None
    with suppress(BrokenPipeError):
        guard.stdin.write(f"{line}\n".encode())
        guard.stdin.flush()
