"""How the kit starts servers, looks at them and ends them; and the environments that they are in."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.processes import exists, until
from wslifecycle.conformance.kit import environments, servers
from wslifecycle.conformance.kit.environments import NoEnvironment, environment

pytestmark = pytest.mark.xdist_group("servers")  # one at a time: they are judged by what they do in time

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope.get("root_path", "")})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
"""

PLAIN = """
import http.server, json, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({"child": child.pid, "cwd": os.getcwd(), "environment": dict(os.environ)}), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
"""A server with a child, which nobody has told to end."""

OWN = "wslifecycle:start_server"
OPTIONS: Mapping[str, Any] = {"root_path": "/mounted", "max_size": 1024, "ping": (20.0, 20.0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "app"
    place.mkdir()
    (place / "wslifecycle_agent.py").write_text(APP, encoding="utf-8")
    return place


def script(folder: Path, text: str) -> servers.Server:
    file = folder / "server.py"
    file.write_text(text, encoding="utf-8")
    return servers.custom(f"{shlex.quote(sys.executable)} {shlex.quote(str(file))} {{app}} {{port}}")


def gone(pid: int) -> bool:
    """Whether a process has ended; a dead one may stay in the table until its new parent has looked."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return not exists(pid)


# ------------------------------------------------------------------------------------------------ those that we know


def installed() -> list[str]:
    """The names of single servers that are here; those of the extra `dev` are everywhere."""
    found = []
    for name in servers.names():
        with contextlib.suppress(LookupError):
            found += [name] if len(servers.find(name)) == 1 else []
    assert {"uvicorn:wsproto", "uvicorn:websockets", "hypercorn", "wslifecycle:start_server"} <= {*found}
    return found


@pytest.mark.parametrize("name", installed())
def test_server_is_started_with_its_options_and_ended(name: str, folder: Path) -> None:
    (server,) = servers.find(name)
    said = {option: value for option, value in OPTIONS.items() if server.can(option)}
    assert "root_path" in said
    assert server.name.split()[0] in asyncio.run(servers.version(server))

    async def conversation() -> None:
        async with servers.running(server, folder, {}, log=folder / "log", **said) as process:
            assert process.alive
            assert await process.healthy(5)
            async with connect(f"ws://127.0.0.1:{process.port}/", proxy=None) as peer:
                assert await peer.recv() == "/mounted"
                await peer.send("short")
                assert await peer.recv() == "short"
                if "max_size" in said:
                    await peer.send("long" * 1000)
                    with pytest.raises(ConnectionClosed):
                        await asyncio.wait_for(peer.recv(), 5)
            process.terminate()
            assert await process.wait(20) in (0, -signal.SIGTERM), process.log_since(0)
            assert not process.alive
            assert not await process.healthy(1)

    asyncio.run(conversation())


def test_uvicorn_is_tried_with_the_libraries_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "versions", lambda folder, names: {name: "1" for name in names if name != "wsproto"})
    assert [server.name for server in servers.find("uvicorn")] == ["uvicorn websockets", "uvicorn websockets-sansio"]
    with pytest.raises(LookupError, match="wsproto is not installed: pip install wsproto"):
        servers.find("uvicorn:wsproto")
    with pytest.raises(LookupError, match="wsproto is not installed"):  # of our own nothing is left out silently
        servers.find("wslifecycle")


def test_uvicorn_is_tried_with_what_its_release_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "usage", lambda program: "--ws [auto|none|websockets|wsproto]")
    assert [server.name for server in servers.find("uvicorn")] == ["uvicorn wsproto", "uvicorn websockets"]
    with pytest.raises(LookupError, match="has no --ws websockets-sansio"):
        servers.find("uvicorn:websockets-sansio")


def test_folder_of_that_name_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a checkout of the server."""
    (tmp_path / "granian").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LookupError, match="granian is not installed"):
        servers.find("granian", tmp_path / "bin")


def test_environment_may_be_named_from_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(servers.here().parent)
    (server,) = servers.find(OWN, Path(servers.here().name))

    async def start() -> None:
        async with servers.running(server, folder, {}, log=folder / "log") as process:
            assert process.alive

    asyncio.run(start())
    assert asyncio.run(servers.version(server)).startswith(f"wslifecycle {importlib.metadata.version('wslifecycle')}")


def test_option_goes_before_the_app_and_says_its_values() -> None:
    known = servers._known(Path("/nowhere"))
    (daphne,), (uvicorn,) = known["daphne"], known["uvicorn:wsproto"]
    line = daphne.line(8000, {"ping": (2.0, 3.0)})
    assert shlex.join(line[1:]) == "-b 127.0.0.1 -p 8000 --ping-interval 2 --ping-timeout 3 wslifecycle_agent:app"
    line = uvicorn.line(8000, {"max_size": 1024})
    assert shlex.join(line[1:]) == "--ws-max-size 1024 wslifecycle_agent:app --port 8000 --ws wsproto"


def test_environment_without_an_interpreter_tells_no_version(tmp_path: Path) -> None:
    assert environments.interpreter(tmp_path) is None
    assert environments.versions(tmp_path, ("uvicorn",)) is None
    (tmp_path / "python3").touch()
    assert environments.interpreter(tmp_path) == tmp_path / "python3"


# ------------------------------------------------------------------------------------------------ any others


def test_command_of_a_program_that_is_nowhere_is_said() -> None:
    with pytest.raises(LookupError, match="no program 'no-such-server'"):
        servers.custom("no-such-server {app} {port}")
    with pytest.raises(ValueError, match="quotation"):
        servers.custom("'server {app} {port}")


def test_command_may_be_beside_the_user(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "serve.sh"
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m http.server "$2" --bind 127.0.0.1\n')
    file.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    server = servers.custom("./serve.sh {app} {port}")

    async def start() -> None:
        async with servers.running(server, folder, {}, log=folder / "log") as process:  # elsewhere
            assert await process.healthy(5)

    asyncio.run(start())
    file.write_text("no program at all", encoding="utf-8")
    with pytest.raises(servers.NotStarted, match=r"serve\.sh cannot be started: .*Exec format error"):
        asyncio.run(start())


def test_server_gets_a_clean_environment_and_its_children_end_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.setenv("KEPT", "yes")
    server = script(folder, PLAIN)
    seen: dict[str, Any] = {}

    async def start() -> None:
        async with servers.running(server, folder, {"GIVEN": "too"}, log=folder / "log") as process:
            seen.update(json.loads(process.log_since(0).splitlines()[0]))
            size = process.log_size()
            assert await process.healthy(5)
            assert "GET / HTTP/1.1" in process.log_since(size)
            assert "child" not in process.log_since(size)
            assert not gone(seen["child"])

    asyncio.run(start())
    until(lambda: gone(seen["child"]), lambda: "a child of the server lives on")
    given = seen["environment"]
    assert seen["cwd"] == str(folder)
    assert (given["PYTHONPATH"], given["PYTHONUNBUFFERED"], given["KEPT"], given["GIVEN"]) == (
        str(folder),
        "1",
        "yes",
        "too",
    )
    assert "PYTHONWARNINGS" not in given


def test_server_that_dies_at_once_is_told_with_the_end_of_its_log(folder: Path) -> None:
    server = script(folder, "import sys; print('no luck today'); sys.exit(3)")

    async def start() -> None:
        async with servers.running(server, folder, {}, log=folder / "log"):
            raise AssertionError("it has not started")

    with pytest.raises(servers.NotStarted, match=r"(?s)ended with status 3: .*server\.py.*no luck today"):
        asyncio.run(start())


def test_server_that_never_listens_is_given_up_and_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_UP", 0.5)
    server = script(folder, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")

    async def start() -> None:
        async with servers.running(server, folder, {}, log=folder / "log"):
            raise AssertionError("it has not started")

    with pytest.raises(servers.NotStarted, match="has not answered"):
        asyncio.run(start())
    assert gone(int((folder / "log").read_text(encoding="utf-8")))


def test_frozen_server_is_not_healthy(folder: Path) -> None:
    async def freeze() -> None:
        async with servers.running(servers.find(OWN)[0], folder, {}, log=folder / "log") as process:
            os.killpg(process._process.pid, signal.SIGSTOP)
            began = time.monotonic()
            assert not await asyncio.wait_for(process.healthy(0.3), 5)
            assert time.monotonic() - began > 0.2
            assert process.alive
            assert await process.wait(0.05) is None
            os.killpg(process._process.pid, signal.SIGCONT)
            assert await process.healthy(5)

    asyncio.run(freeze())


def test_port_that_was_taken_meanwhile_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = servers._free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = [taken.getsockname()[1], free]
        monkeypatch.setattr(servers, "_free_port", lambda: ports.pop(0))

        async def start() -> None:
            async with servers.running(servers.find(OWN)[0], folder, {}, log=folder / "log") as process:
                assert process.port == free

        asyncio.run(start())


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is free, but a server that has it may not have bound it yet."""
    first = servers._free_port()
    ports = [first, first, 0]

    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(("127.0.0.1", ports.pop(0)))

    monkeypatch.setattr(socket, "socket", Socket)
    assert servers._free_port() != first
    assert not ports


def test_start_that_is_cancelled_leaves_nothing(folder: Path) -> None:
    server = script(folder, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    log = folder / "log"

    async def cancelled() -> None:
        async def start() -> None:
            async with servers.running(server, folder, {}, log=log):
                pass

        task = asyncio.create_task(start())
        async with asyncio.timeout(10):
            while not log.exists() or not log.read_text(encoding="utf-8"):  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert gone(int(log.read_text(encoding="utf-8")))


# ------------------------------------------------------------------------------------------------ environments


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The requirements for which an environment was made; none is really made."""
    found: list[list[str]] = []

    def make(place: Path, requirements: list[str]) -> None:
        found.append(requirements)
        (place / "bin").mkdir(parents=True)
        if "interrupted" in requirements and found.count(requirements) == 1:
            raise KeyboardInterrupt
        time.sleep(0.1)

    monkeypatch.setattr(environments, "_make", make)
    return found


def test_environment_is_made_once_for_its_requirements(
    made: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = environment("granian==2.3.1 h11==0.16.0", Path("root"))
    assert place.is_dir()
    assert place.is_absolute()  # servers are started elsewhere
    assert environment("granian==2.3.1 h11==0.16.0", Path("root")) == place
    assert environment("granian==2.3.2", Path("root")) != place
    assert made == [["granian==2.3.1", "h11==0.16.0"], ["granian==2.3.2"]]


def test_environment_that_is_half_made_is_made_anew(made: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        environment("interrupted", tmp_path)
    assert environment("interrupted", tmp_path).is_dir()
    assert len(made) == 2


def test_environment_is_not_made_by_two_at_once(made: list[list[str]], tmp_path: Path) -> None:
    threads = [threading.Thread(target=environment, args=("granian", tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert made == [["granian"]]


def test_installer_that_fails_or_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoEnvironment, match=r"non-zero exit status 1.*no such release"):
        environments._run(sys.executable, "-c", "import sys; sys.exit('no such release')")
    monkeypatch.setattr(environments, "INSTALLER", 0.2)
    with pytest.raises(NoEnvironment, match=r"timed out.*so far"):
        environments._run(sys.executable, "-c", "import time; print('so far', flush=True); time.sleep(600)")
