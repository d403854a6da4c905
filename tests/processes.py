"""Servers in processes of their own, and clients for them: what the tests of whole processes are written with.

`served` runs a command line in a session of its own, waits until an app answers, and ends the whole session whatever
happens. `visit` is one conversation of a client of the websockets library, `Bare` a client that can misbehave. Nothing
here judges what a server answers.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

TESTS = Path(__file__).parent
PATIENCE = 20
"""Seconds that anything may take."""


# ------------------------------------------------------------------------------------------------ processes


@dataclass(frozen=True)
class Server:
    """A server that runs in a process of its own.

    `log` is the file that it writes to, `address` what to connect to, `tls` the client's context or None.
    """

    process: subprocess.Popen[bytes]
    log: Path
    address: tuple[str, int] | str
    tls: ssl.SSLContext | None

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def workers(self) -> set[int]:
        """The ids of all processes that have ever served here."""
        return {int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self.output())}

    def ended(self) -> int:
        """The exit status, once the process has ended by itself and has left no worker behind."""
        status = self.process.wait(PATIENCE)
        assert not [pid for pid in self.workers() if exists(pid)]
        assert not re.search("Traceback|never retrieved|was destroyed", self.output()), self.output()
        return status

    def terminate(self) -> None:
        """What a process manager does: SIGTERM, to the one process that it started."""
        self.process.send_signal(signal.SIGTERM)

    def dial(self) -> socket.socket:
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        sock = socket.socket(family)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(self.address)
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self, route: str) -> connect:
        scheme, name = ("wss", "localhost") if self.tls else ("ws", None)
        return connect(
            f"{scheme}://localhost/{route}",
            sock=self.dial(),
            ssl=self.tls,
            server_hostname=name,
            open_timeout=PATIENCE,
            ping_interval=None,
        )

    def get(self) -> bytes:
        """The whole answer to a plain HTTP request; empty if there is nobody who answers."""
        try:
            with ExitStack() as stack:
                sock = stack.enter_context(self.dial())
                if self.tls:
                    sock = stack.enter_context(self.tls.wrap_socket(sock, server_hostname="localhost"))
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b"".join(iter(lambda: sock.recv(65536), b""))
        except (ConnectionError, FileNotFoundError):
            return b""


def until(condition: Callable[[], object], explain: Callable[[], str]) -> None:
    """Wait until `condition` holds; fail with what `explain` says where it does not within `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def started(
    *command: str, log: Path, cwd: Path = TESTS, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`command` in a session of its own, all of which is ended at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=cwd, env=env, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # nothing is left of it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


@contextmanager
def served(
    *command: str, folder: Path, uds: bool = False, tls: ssl.SSLContext | None = None, cwd: Path = TESTS
) -> Iterator[Server]:
    """A server that answers, started by `command` in `cwd`, which holds its app."""
    log, path = folder / "log", str(folder / "socket")
    place = ("--uds", path) if uds else ("--port", "0")
    with started(*command, *place, log=log, cwd=cwd) as process:

        def announced() -> re.Match[str] | None:
            assert process.poll() is None, log.read_text()
            return re.search(r"Uvicorn running on (?:unix socket |\w+://127\.0\.0\.1:(\d+))", log.read_text())

        until(announced, log.read_text)
        found = announced()
        assert found is not None
        server = Server(process, log, path if uds else ("127.0.0.1", int(found[1])), tls)
        until(lambda: server.get().startswith(b"HTTP/1.1 200"), server.output)
        yield server


# ------------------------------------------------------------------------------------------------ clients


@dataclass(frozen=True)
class Visit:
    """What a client has seen: the response to its handshake, the messages, and the Close of the server if any."""

    response: Response
    messages: list[str | bytes]
    code: int | None = None
    reason: str | None = None


def visit(server: Server, route: str, *messages: str | bytes) -> Visit:
    """Connect, send each of `messages` and await a reply to it, then close; without messages, read to the end."""

    async def go() -> Visit:
        received: list[str | bytes] = []
        try:
            async with asyncio.timeout(PATIENCE), server.connect(route) as client:
                with suppress(ConnectionClosed):
                    for message in messages:
                        await client.send(message)
                        received.append(await client.recv())
                    if messages:
                        await client.close(4001, "bye")
                    while True:
                        received.append(await client.recv())
                assert client.response is not None
                return Visit(client.response, received, client.protocol.close_code, client.protocol.close_reason)
        except InvalidStatus as refused:
            return Visit(refused.response, received)

    return asyncio.run(go())


def codes_at_shutdown(server: Server, *routes: str) -> list[int | None]:
    """Connect to each of `routes`, terminate the server once all are open; the code of each one's Close."""

    async def go() -> list[int | None]:
        async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(server.connect(route)) for route in routes]
            server.terminate()
            for client in clients:
                await client.wait_closed()
            return [client.protocol.close_code for client in clients]

    return asyncio.run(go())


class Bare:
    """A client of bare bytes, which answers nothing by itself; to be entered by `with`, which opens it."""

    def __init__(self, server: Server, route: str) -> None:
        self._request = f"GET /{route} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        self._socket = server.dial()
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(f"{self._request}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        assert self._file.readline().startswith(b"HTTP/1.1 101 ")
        while self._file.readline() != b"\r\n":
            pass
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._socket.close()

    def read(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame, which has to be short and whole."""
        first, length = self._file.read(2)
        assert first & 0x80
        assert length < 126
        return first & 0x0F, self._file.read(length)

    def write(self, opcode: int, payload: bytes) -> None:
        """Send a frame of at most 64 KiB; masked by zeros, its payload stays as it is."""
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126, *size.to_bytes(2)])
        self._socket.sendall(bytes([0x80 | opcode]) + length + bytes(4) + payload)
