"""The protocol in Uvicorn as its users start it: by both command lines, in processes of its own, with real signals.

They serve tests/apps.py. What the exit status of a server has to be is asked of Uvicorn itself, with a protocol of its
own.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
import uvicorn

from tests.processes import PATIENCE, TESTS, Bare, Server, codes_at_shutdown, served, started, until, visit
from wslifecycle.serve import PROTOCOL

pytestmark = pytest.mark.xdist_group("servers")  # one at a time: they are judged by what they do in time

SERVE = (str(Path(sys.executable).with_name("wslifecycle")), "serve")
TAKES_ANY_NAME = tuple(map(int, uvicorn.__version__.split(".")[:2])) >= (0, 36)
UVICORN = (sys.executable, "-m", "uvicorn", "--ws", PROTOCOL) if TAKES_ANY_NAME else SERVE
"""Uvicorn's command line. Before 0.36 its --ws takes no protocol of others, and `serve` is the only command line."""
TWIN = (sys.executable, "-m", "uvicorn", "--ws", "wsproto")
"""The judge of exit statuses: Uvicorn with a protocol of its own."""


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, ...], ssl.SSLContext]:
    """The options that give a server its certificate, and the context of a client that trusts it."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    with (folder / "chain.pem").open("wb") as chain:
        chain.writelines(blob.bytes() for blob in certificate.cert_chain_pems)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return ("--ssl-keyfile", str(folder / "key.pem"), "--ssl-certfile", str(folder / "chain.pem")), context


# ------------------------------------------------------------------------------------------------ what they share


@pytest.fixture(
    scope="module",
    params=[
        (*UVICORN, "--http", "h11", "--loop", "asyncio"),
        (*UVICORN, "--http", "httptools", "--loop", "uvloop"),
        (*SERVE, "--http", "h11", "--loop", "uvloop"),
        (*SERVE, "--http", "httptools", "--loop", "asyncio"),
    ],
    ids=["uvicorn-h11-asyncio", "uvicorn-httptools-uvloop", "serve-h11-uvloop", "serve-httptools-asyncio"],
)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without any settings but what it is made of."""
    with served(*request.param, "apps:app", folder=tmp_path_factory.mktemp("plain")) as server:
        yield server


class TestWithoutSettings:
    def test_messages_come_back(self, plain: Server) -> None:
        seen = visit(plain, "echo", "text", b"bytes", "x" * 70_000)
        assert seen.messages == ["text", b"bytes", "x" * 70_000]
        assert seen.code == 4001

    def test_compression_is_agreed_on(self, plain: Server) -> None:
        agreed = visit(plain, "close").response.headers["Sec-WebSocket-Extensions"]
        assert agreed.startswith("permessage-deflate")

    def test_the_scope_has_the_state_of_the_lifespan(self, plain: Server) -> None:
        (scope,) = visit(plain, "scope").messages
        assert json.loads(scope) == {
            "type": "websocket",
            "scheme": "ws",
            "path": "/scope",
            "root_path": "",
            "state": {"number": 42},
        }

    @pytest.mark.parametrize(("route", "status"), [("close", 101), ("refuse", 403)])
    def test_a_response_has_uvicorns_headers_once(self, plain: Server, route: str, status: int) -> None:
        response = visit(plain, route).response
        assert response.status_code == status
        assert response.headers.get_all("server") == ["uvicorn"]
        assert len(response.headers.get_all("date")) == 1

    @pytest.mark.parametrize(
        ("route", "messages", "ends"),
        [
            ("close", (), ["[accepted]", "[closed 4000 'enough']"]),
            ("echo", ("hello",), ["[accepted]", "[closed 4001 'bye']"]),
            ("refuse", (), ["403"]),
        ],
        ids=["app-closes", "peer-closes", "refused"],
    )
    def test_the_log_tells_the_beginning_and_the_end_once(
        self, plain: Server, route: str, messages: tuple[str, ...], ends: list[str]
    ) -> None:
        visit(plain, f"{route}?log", *messages)
        line = re.compile(rf"^INFO: +127\.0\.0\.1:\d+ - \"WebSocket /{route}\?log\" (.*)$", re.MULTILINE)
        until(lambda: ends[-1] in line.findall(plain.output()), plain.output)
        assert line.findall(plain.output()) == ends


# ------------------------------------------------------------------------------------------------ settings

SETTINGS = (
    *("--ws-max-size", "1000", "--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.4"),
    *("--ws-per-message-deflate", "false", "--root-path", "/under", "--header", "X-Own:yes", "--header", "X-Own:no"),
    *("--no-server-header", "--no-date-header", "--factory", "apps:factory"),
)


@pytest.fixture(
    scope="module", params=[(*UVICORN, "--http", "h11"), (*SERVE, "--http", "httptools")], ids=["uvicorn", "serve"]
)
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every setting that concerns a WebSocket."""
    with served(*request.param, *SETTINGS, folder=tmp_path_factory.mktemp("tuned")) as server:
        yield server


class TestSettings:
    def test_max_size_is_the_longest_message(self, tuned: Server) -> None:
        assert visit(tuned, "echo", "x" * 1000).messages == ["x" * 1000]
        with Bare(tuned, "echo") as client:
            client.write(1, b"x" * 1001)
            opcode, payload = client.read()
            assert (opcode, int.from_bytes(payload[:2])) == (8, 1009)

    def test_who_answers_no_ping_is_closed_with_1011(self, tuned: Server) -> None:
        with Bare(tuned, "echo") as client:
            assert client.read()[0] == 9
            opcode, payload = client.read()
            assert (opcode, int.from_bytes(payload[:2])) == (8, 1011)

    def test_who_answers_pings_stays(self, tuned: Server) -> None:
        with Bare(tuned, "echo") as client:
            for _ in range(4):  # longer than the interval and the timeout together
                opcode, payload = client.read()
                assert opcode == 9
                client.write(10, payload)
            client.write(1, b"still here")
            assert client.read() == (1, b"still here")

    def test_no_compression_is_agreed_on(self, tuned: Server) -> None:
        assert "Sec-WebSocket-Extensions" not in visit(tuned, "close").response.headers

    def test_the_root_path_is_in_the_scope(self, tuned: Server) -> None:
        (scope,) = visit(tuned, "scope").messages
        assert json.loads(scope)["root_path"] == "/under"
        assert json.loads(scope)["path"] == "/under/scope"

    @pytest.mark.parametrize(("route", "status"), [("close", 101), ("refuse", 403)])
    def test_a_response_has_the_headers_asked_for(self, tuned: Server, route: str, status: int) -> None:
        response = visit(tuned, route).response
        assert response.status_code == status
        assert response.headers.get_all("x-own") == ["yes", "no"]
        assert response.headers.get_all("server") == response.headers.get_all("date") == []


# ------------------------------------------------------------------------------------------------ transports, shutdown


class TestShutdown:
    @pytest.mark.parametrize(
        ("command", "transport", "workers"),
        [
            (SERVE, "tcp", 1),
            (UVICORN, "tls", 1),
            (SERVE, "tls", 2),
            (SERVE, "unix", 1),
            (UVICORN, "unix", 2),
        ],
        ids=["serve-tcp", "uvicorn-tls", "serve-tls-2-workers", "serve-unix", "uvicorn-unix-2-workers"],
    )
    def test_sigterm_closes_with_1012_and_ends_as_uvicorn_does(
        self,
        tmp_path: Path,
        certified: tuple[tuple[str, ...], ssl.SSLContext],
        command: tuple[str, ...],
        transport: str,
        workers: int,
    ) -> None:
        files, context = certified if transport == "tls" else ((), None)
        settings = ("apps:app", *files, *(("--workers", "2") if workers == 2 else ()))
        with served(*command, *settings, folder=tmp_path, uds=transport == "unix", tls=context) as server:
            (scope,) = visit(server, "scope").messages
            assert json.loads(scope)["scheme"] == ("wss" if context else "ws")
            until(lambda: len(server.workers()) == workers, server.output)
            assert codes_at_shutdown(server, *["echo"] * 6) == [1012] * 6
            # Uvicorn ends by the signal once more; its parent of workers returns
            assert server.ended() == (-signal.SIGTERM if workers == 1 else 0)
            assert server.output().count("echo: websocket.disconnect 1012") == 6
            assert server.output().count("lifespan: shutdown") == workers

    def test_an_app_that_does_not_end_is_cancelled_when_the_grace_is_over(self, tmp_path: Path) -> None:
        with served(*UVICORN, "apps:app", "--timeout-graceful-shutdown", "2", folder=tmp_path) as server:
            began = time.monotonic()
            assert codes_at_shutdown(server, "stubborn") == [1012]
            assert "cancelled" not in server.output()
            assert server.ended() == -signal.SIGTERM
            assert time.monotonic() - began >= 2
            assert "stubborn: cancelled" in server.output()
            assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in server.output()

    def test_ctrl_c_ends_as_uvicorn_does(self, tmp_path: Path) -> None:
        with ExitStack() as stack:
            servers = []
            for number, command in enumerate((TWIN, UVICORN, SERVE)):
                folder = tmp_path / str(number)
                folder.mkdir()
                servers.append(stack.enter_context(served(*command, "apps:app", folder=folder)))
            for server in servers:
                server.process.send_signal(signal.SIGINT)
            statuses = [server.process.wait(PATIENCE) for server in servers]
            assert statuses == [statuses[0]] * 3
            assert all("lifespan: shutdown" in server.output() for server in servers)


# ------------------------------------------------------------------------------------------------ start-up


def ends_alike(folder: Path, *arguments: str) -> None:
    """`wslifecycle serve` fails with `arguments` as Uvicorn does: the same exit status, and the same last words."""
    logs = folder / "theirs", folder / "ours"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(*command, *arguments, log=log))
            for command, log in zip((TWIN, SERVE), logs, strict=True)
        ]
        theirs, ours = (process.wait(PATIENCE) for process in processes)
    assert theirs == ours != 0
    said = [log.read_text().splitlines()[-1] for log in logs]
    assert said[0] == said[1]


class TestStartUp:
    @pytest.mark.parametrize("app", ["apps:nowhere", "apps:fails_to_start", "broken:app"])
    def test_an_app_that_fails_to_start_ends_it_as_uvicorn_does(self, tmp_path: Path, app: str) -> None:
        (tmp_path / "broken.py").write_text("open('nowhere')\n")
        folder = tmp_path if app.startswith("broken") else TESTS
        ends_alike(tmp_path, app, "--port", "0", "--app-dir", str(folder))

    def test_a_port_that_is_taken_ends_it_as_uvicorn_does(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ends_alike(tmp_path, "apps:app", "--port", str(taken.getsockname()[1]))

    def test_a_change_of_the_app_is_reloaded(self, tmp_path: Path) -> None:
        code, file = (TESTS / "apps.py").read_text(), tmp_path / "apps.py"
        file.write_text(code)
        with served(*SERVE, "apps:app", "--reload", folder=tmp_path, cwd=tmp_path) as server:
            assert visit(server, "echo", "before").messages == ["before"]
            file.write_text(code.replace('"status": 200', '"status": 201 '))  # of another size: no bytecode fits it

            def reloaded() -> bool:
                if "Reloading" not in server.output():
                    file.touch()  # the change may have come before the reloader's first look
                return server.get().startswith(b"HTTP/1.1 201")

            until(reloaded, server.output)
            assert visit(server, "echo", "after").messages == ["after"]
            server.terminate()
            server.ended()
