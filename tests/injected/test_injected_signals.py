"""SIGTERM and SIGINT to a real server with a peer in every state at once (C32).

Every peer is told what its state has left to say, every app is told of the end, and the process ends as Uvicorn does,
within the time of grace, although some peers never answer. What the exit status has to be is asked of Uvicorn itself,
with a protocol of its own. tests/test_uvicorn_processes.py has idle peers, over each transport and with workers;
the kit's `probe:shutdown` asks other servers.
"""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvicorn

from tests.processes import PATIENCE, Bare, Server, served, started, until
from tests.raw import asking, close_frame, text
from wslifecycle.conformance.peer import frame
from wslifecycle.serve import PROTOCOL

pytestmark = pytest.mark.xdist_group("servers")  # one at a time: they are judged by what they do in time

HERE = Path(__file__).parent
GRACE = 2
SLACK = 10
"""Seconds that a slow machine may take besides."""
UVICORN = (sys.executable, "-m", "uvicorn")
SERVE = (str(Path(sys.executable).with_name("wslifecycle")), "serve")
TAKES_ANY_NAME = tuple(map(int, uvicorn.__version__.split(".")[:2])) >= (0, 36)
OURS = (*UVICORN, "--ws", PROTOCOL) if TAKES_ANY_NAME else SERVE
TWIN = (*UVICORN, "--ws", "wsproto")
SETTINGS = ("signalled:app", "--timeout-graceful-shutdown", str(GRACE))
OWN = (sys.executable, "-m", "wslifecycle.conformance.kit.own", "signalled:app", "--grace", str(GRACE))
HUGE = bytes(1 << 24)
NUMBERS = [str(number) for number in range(1, 6)]


class Client:
    """A peer on a bare socket."""

    def __init__(self, server: Server, request: bytes) -> None:
        self.sock = server.dial()
        self.sock.sendall(request)
        self._file = self.sock.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def head(self) -> bytes:
        return b"".join(iter(self._file.readline, b"\r\n"))

    def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: opcode and payload."""
        first, size = self._file.read(2)
        if size >= 126:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8))
        return first & 15, self._file.read(size)

    def closed_with(self) -> int:
        """The code of the Close that comes next."""
        opcode, payload = self.frame()
        assert opcode == 8
        return int.from_bytes(payload[:2])

    def rest(self) -> bytes:
        """Everything up to the end, which may be an RST."""
        data = b""
        with suppress(ConnectionError):
            while piece := self._file.read1(1 << 16):
                data += piece
        return data


APPS = {
    "waiting": "websocket.connect, websocket.disconnect 1012",
    "held": "websocket.connect, websocket.disconnect 1012",
    "denying": "websocket.connect, websocket.disconnect 1012",
    "open": "websocket.connect, websocket.disconnect 1012",
    "mute": "websocket.connect, websocket.disconnect 1012",
    "slow": f"websocket.connect, {', '.join(NUMBERS)}, websocket.disconnect 1012",
    "deaf": "websocket.connect, websocket.disconnect 1012",
    "closing": "websocket.connect, websocket.disconnect 3000",
    "failing": "websocket.connect, websocket.disconnect 1002",
}
"""What each app is given. `mute` answers no Close, `slow` has unread messages, `deaf` does not read."""
HANDSHAKES = ("waiting", "held", "denying")


@contextmanager
def crowded(server: Server) -> Iterator[dict[str, Client]]:
    """A peer in each state, and one whose request is not complete."""
    requests = {name: asking(target=b"/" + name.encode()) for name in APPS}
    peers = {name: Client(server, request) for name, request in requests.items()}
    peers["incomplete"] = Client(server, requests["open"][:-2])
    try:
        for name in APPS.keys() - HANDSHAKES:
            assert peers[name].head().startswith(b"HTTP/1.1 101 ")
        until(lambda: all(f"{name}: there" in server.output() for name in APPS), server.output)
        peers["slow"].sock.sendall(b"".join(text(number) for number in NUMBERS) + frame(9))
        assert peers["slow"].frame() == (10, b"")  # they were read, all of them
        assert peers["closing"].closed_with() == 3000
        peers["failing"].sock.sendall(frame(3))
        assert peers["failing"].closed_with() == 1002
        assert peers["denying"].head().startswith(b"HTTP/1.1 418 ")
        yield peers
    finally:
        for peer in peers.values():
            peer.close()


def sees_the_end(peers: dict[str, Client]) -> None:
    """Holds that each peer is told what it has to be told; those that wait for an answer get one, but for some."""
    for name in ("waiting", "held"):
        assert peers[name].head().startswith(b"HTTP/1.1 503 "), name
    assert peers["denying"].rest() == b"4\r\npart\r\n", "cut off, and not ended"
    assert peers["deaf"].frame() == (2, HUGE)
    for name in ("open", "mute", "slow", "deaf"):
        assert peers[name].closed_with() == 1012, name
        if name != "mute":
            peers[name].sock.sendall(close_frame(1012))
            assert peers[name].rest() == b"", name
    assert peers["incomplete"].rest() == b""


def ends(server: Server, number: signal.Signals) -> int:
    """Signals a server that has a peer in each state; its exit status, once everybody was told."""
    with crowded(server) as peers:
        began = time.monotonic()
        server.process.send_signal(number)
        sees_the_end(peers)
        assert time.monotonic() - began < GRACE, "nobody had to wait until its end"
        status = server.process.wait(PATIENCE)
        assert time.monotonic() - began < GRACE + SLACK
        for name in ("mute", "closing", "failing"):
            assert peers[name].rest() == b"", name
    output = server.output()
    assert dict(re.findall(r"^(\w+): given (.*)$", output, re.MULTILINE)) == APPS
    assert not re.search("Exception in ASGI|never retrieved|was destroyed", output), output
    return status


def status_of_uvicorn(folder: Path, number: signal.Signals) -> int:
    """What Uvicorn ends with that has a protocol of its own, and a peer that is open."""
    with served(*TWIN, *SETTINGS, folder=folder, cwd=HERE) as server, Bare(server, "open"):
        server.process.send_signal(number)
        return server.process.wait(PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
class TestASignalInEveryState:
    def test_ends_all_of_them_as_uvicorn_does(self, number: signal.Signals, tmp_path: Path) -> None:
        (tmp_path / "twin").mkdir()
        with served(*OURS, *SETTINGS, folder=tmp_path, cwd=HERE) as server:
            assert ends(server, number) == status_of_uvicorn(tmp_path / "twin", number)

    def test_ends_all_of_them_at_a_server_of_our_own(self, number: signal.Signals, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = free.getsockname()
        log = tmp_path / "log"
        with started(*OWN, "--port", str(address[1]), log=log, cwd=HERE) as process:
            server = Server(process, log, address, None)
            until(lambda: server.get().startswith(b"HTTP/1.1 426 "), server.output)
            assert ends(server, number) == 0
