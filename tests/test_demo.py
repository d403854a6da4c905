"""`make demo` and `make demo-granian`: what they tell, what they write, and that they fail when something differs."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from wslifecycle.__main__ import main
from wslifecycle.conformance import conversations, demo, granian, peer, probe, talk
from wslifecycle.conformance.conversations import CONVERSATIONS, Conversation
from wslifecycle.conformance.scenarios import find, load_scenarios
from wslifecycle.statemachine.flatten import Answer

LONG = 20.0  # seconds that another process may take


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["demo", *map(str, arguments)])


def held(conversation: Conversation) -> list[str]:
    return asyncio.run(talk.hold(conversation)).differences


# ------------------------------------------------------------------------------------------------ what is told


class TestTelling:
    def test_every_conversation_is_told_and_drawn(self, tmp_path: Path) -> None:
        result = run("-o", tmp_path)
        assert result.exit_code == 0, result.output
        assert "9 conversations over real sockets: as the documents say." in result.output
        for name, conversation in CONVERSATIONS.items():
            assert f"{name}: {conversation.title}" in result.output
            (picture,) = tmp_path.glob(f"{name}.*")
            assert picture.stat().st_size > 1000
            assert f"The way through the lifecycle: {picture}" in result.output.replace("\n", "")
        assert "receive() gave websocket.receive text='two'" in result.output  # what the app saw
        assert "< HTTP 403" in result.output  # what the wire saw
        assert "open/flowing/running" in result.output  # the states passed
        assert "From ASGI, Close - send event (R37); ASGI, Disconnect - receive event (R28)" in result.output
        assert "make demo-granian" in result.output
        assert "DIFFERENT" not in result.output

    def test_colour_is_for_terminals(self, tmp_path: Path) -> None:
        assert "\x1b" not in run("reject-403", "-o", tmp_path).output
        screen = io.StringIO()
        demo.demo(Console(file=screen, force_terminal=True, color_system="standard"), tmp_path, ["reject-403"])
        assert "\x1b[" in screen.getvalue()

    def test_the_way_is_highlighted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths: list[list[tuple[str, str, str]]] = []

        def draw(machine: object, kind: str, path: list[tuple[str, str, str]]) -> bytes:
            paths.append(path)
            return b""

        monkeypatch.setattr(demo, "draw", draw)
        assert run("reject-403", "-o", tmp_path).exit_code == 0
        assert [event for event, _, _ in paths[0]] == ["give_connect", "app_close", "give_disconnect", "app_return"]

    def test_without_dot_the_picture_is_mermaid(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        result = run("reject-403", "reject", "-o", tmp_path)
        assert result.exit_code == 0
        assert (tmp_path / "reject-403.mmd").read_text()
        assert (tmp_path / "reject.mmd").read_text()
        assert "apt" in result.output

    def test_entries_are_laid_out_in_the_order_of_reading(self) -> None:
        entries = [(1, "a"), (2, "b"), (0, "c"), (2, "d"), (2, "e"), (1, "f")]
        assert demo._rows(entries, 3) == [["", "a", "b"], ["c", "", "d"], ["", "", "e"], ["", "f", ""]]

    def test_a_call_that_waits_stands_where_it_began_and_where_it_ended(self) -> None:
        told = talk.Told()
        told.note(1, "receive", "starts", None)
        told.note(2, "send", "starts", {"type": "websocket.accept"})
        told.note(2, "send", "took", {"type": "websocket.accept"})
        told.note(1, "receive", "waits", None)
        told.tell("> TEXT 'hi'")
        told.note(1, "receive", "cancelled", None)
        assert [text for _, text in told.entries] == [
            "receive() waits",
            "send() took websocket.accept",
            "> TEXT 'hi'",
            "receive() was cancelled",
        ]


class TestNames:
    def test_conversations_and_scenarios_are_listed_and_no_name_is_both(self) -> None:
        lines = run("--list").output.splitlines()
        assert lines[0] == f"echo-text: {CONVERSATIONS['echo-text'].title}"
        names = [line.partition(":")[0] for line in lines]
        assert names == [*CONVERSATIONS, *load_scenarios()]
        assert len(set(names)) == len(names)

    def test_both_kinds_are_told_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        result = run("peer-close-with-unread", "server-close", "-o", tmp_path)
        assert result.exit_code == 0, result.output
        assert result.output.index("peer-close-with-unread: ") < result.output.index("server-close: ")
        assert "what is done" in result.output  # the scenario's driver
        assert "2 conversations over real sockets: as the documents say." in result.output
        assert "make demo-granian" not in result.output
        assert {path.stem for path in tmp_path.iterdir()} == {"peer-close-with-unread", "server-close"}

    def test_an_unknown_name_is_misuse_before_anything_is_run(self, tmp_path: Path) -> None:
        result = run("echo-text", "sub-protocol", "-o", tmp_path)
        assert result.exit_code == 2
        assert "Conversations like it: subprotocol." in result.output
        assert "echo-text:" not in result.output

    @pytest.mark.parametrize("library", ["channels", "uvicorn"])
    def test_a_missing_library_is_misuse_and_says_what_to_install(self, library: str) -> None:
        code = f"import sys; sys.modules[{library!r}] = None; from wslifecycle.__main__ import main; main(['demo'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert f"The demo needs {library}: pip install 'wslifecycle[demo]'" in done.stderr


# ------------------------------------------------------------------------------------------------ verdicts


class TestVerdict:
    @pytest.mark.parametrize(
        ("side", "due", "instead", "says"),
        [
            (
                "app_sees",
                "send() took websocket.send text='two'",
                "send() took websocket.send text='three'",
                "the app saw send() took websocket.send text='two' where send() took websocket.send text='three' was",
            ),
            ("wire_sees", "< HTTP 101", "< HTTP 403", "the wire saw < HTTP 101 where < HTTP 403 was due"),
        ],
    )
    def test_a_conversation_that_goes_otherwise_is_1(
        self, side: str, due: str, instead: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        echo = CONVERSATIONS["echo-text"]
        wanted = tuple(instead if text == due else text for text in getattr(echo, side))
        changes: dict[str, Any] = {side: wanted}
        monkeypatch.setitem(CONVERSATIONS, "echo-text", dataclasses.replace(echo, **changes))
        result = run("echo-text", "-o", tmp_path)
        assert result.exit_code == 1
        assert f"DIFFERENT {says}" in result.output
        assert "1 conversation over real sockets: 1 otherwise than the documents say." in result.output

    @pytest.mark.parametrize(
        ("wanted", "seen", "difference"),
        [
            (["a", "b"], ["a", "b"], []),
            (["a", "b"], ["a"], ["it saw nothing where b was due"]),
            (["a"], ["a", "b"], ["it saw b where nothing was due"]),
            (["a", "b", "c"], ["b", "c"], ["it saw b where a was due"]),
        ],
    )
    def test_nothing_may_be_missing_and_nothing_added(
        self, wanted: list[str], seen: list[str], difference: list[str]
    ) -> None:
        assert list(talk.difference("it", wanted, seen)) == difference

    def test_a_scenario_that_goes_otherwise_is_1(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        echo = find("echo")
        acts = [
            dataclasses.replace(act, peer=({"text": "hello, world"},)) if act.peer == ({"text": "hello"},) else act
            for act in echo.acts
        ]
        monkeypatch.setattr(demo, "find", lambda name: dataclasses.replace(echo, acts=tuple(acts)))
        monkeypatch.setattr(peer, "PATIENCE", 0.2)
        result = run("echo", "-o", tmp_path)
        assert result.exit_code == 1
        assert "the peer saw text 'hello' instead of text 'hello, world'" in result.output
        assert "1 otherwise than the documents say" in result.output

    def test_a_server_without_the_machine_is_found_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(talk, "PROTOCOL", "uvicorn.protocols.websockets.wsproto_impl:WSProtocol")
        found = held(CONVERSATIONS["echo-text"])
        assert any("the lifecycle has not ended but is in handshake/connect_due/running" in text for text in found)

    def test_a_lifecycle_that_stops_half_way_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        observe = talk.Told.observe

        def inattentive(told: talk.Told, answer: Answer) -> None:
            if answer.event != "app_return":
                observe(told, answer)

        monkeypatch.setattr(talk.Told, "observe", inattentive)
        assert held(CONVERSATIONS["reject-403"]) == ["the lifecycle has not ended but is in closed/ended/left"]

    def test_an_app_that_neither_answers_nor_ends_is_no_endless_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def silent(scope: Any, receive: Any, send: Any) -> None:
            while True:
                await receive()

        monkeypatch.setattr(peer, "PATIENCE", 0.2)
        found = held(dataclasses.replace(CONVERSATIONS["echo-text"], app=silent))
        assert found[0].startswith("the client ")
        assert found[1] == "the app has not ended"
        assert found[2].startswith("the app saw receive() ")

    def test_a_client_that_fails_is_said(self) -> None:
        async def strange(connect: Any, tell: Any) -> None:
            await conversations.is_refused(connect, tell)
            raise ValueError("a strange answer")

        found = held(dataclasses.replace(CONVERSATIONS["reject-403"], client=strange))
        assert found == ["the client failed: ValueError: a strange answer"]

    def test_an_error_that_the_server_logs_is_said(self) -> None:
        async def noisy(scope: Any, receive: Any, send: Any) -> None:
            await conversations.rejecter(scope, receive, send)
            logging.getLogger("uvicorn.error").error("something broke\nin a long way", exc_info=ValueError("why"))

        found = held(dataclasses.replace(CONVERSATIONS["reject-403"], app=noisy))
        assert found == ["the server logged an error: something broke (ValueError('why'))"]


# ------------------------------------------------------------------------------------------------ Granian

GOOD = "from probe import app"
REPEATS = """
import asyncio
import probe

async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return await probe.app(scope, receive, send)
    taken, accepted = asyncio.create_task(receive()), asyncio.Event()

    async def again():
        await asyncio.sleep(0.001)
        await taken
        return await receive() if accepted.is_set() else {"type": "websocket.connect"}

    async def strict(message):
        if message["type"] == "websocket.accept":
            if accepted.is_set():
                raise RuntimeError("ASGI flow error")
            accepted.set()
        await send(message)

    await probe.app(scope, again, strict)
"""
MUTE = "import asyncio\nasync def app(scope, receive, send): await asyncio.Event().wait()"
SERVES = """#!{python}
import os, signal, subprocess, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("stand-in 1.0"))
{first}
open("served.py", "w").write({app!r})
sys.path.insert(0, "")
import uvicorn
port = int(sys.argv[sys.argv.index("--port") + 1])
assert sys.argv[-1] == "probe:app"
uvicorn.run("served:app", ws="wsproto", port=port, lifespan="off")
"""


def stand_in(folder: Path, app: str = GOOD, first: str = "") -> Path:
    """A folder with a program that is called like Granian; it is Uvicorn with a WebSocket protocol of its own."""
    program = folder / "granian"
    program.write_text(SERVES.format(python=sys.executable, app=app, first=first))
    program.chmod(0o755)
    return folder


class TestGranian:
    def test_one_that_repeats_connect_fails_and_that_is_what_is_shown(self, tmp_path: Path) -> None:
        result = run("--granian", stand_in(tmp_path, REPEATS))
        assert result.exit_code == 0, result.output
        theirs, ours = result.output.splitlines()
        assert theirs.startswith("stand-in 1.0: FAILS: websocket.connect was given ")
        assert "send() raised RuntimeError('ASGI flow error')" in theirs
        assert ours.startswith("wslifecycle: ok: websocket.connect was given once")

    def test_one_that_works_is_a_verdict(self, tmp_path: Path) -> None:
        result = run("--granian", stand_in(tmp_path))
        assert result.exit_code == 1
        assert result.output.startswith("stand-in 1.0: ok: websocket.connect was given once")

    def test_ours_failing_too_is_a_verdict(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = dataclasses.replace(granian.CONVERSATION, app_sees=())
        monkeypatch.setattr(granian, "CONVERSATION", broken)
        result = run("--granian", stand_in(tmp_path, REPEATS))
        assert result.exit_code == 1
        assert "wslifecycle: FAILS: the app saw receive() gave websocket.connect where nothing was due" in result.output

    def test_another_fault_is_not_the_pattern(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(granian, "FAREWELL", 0.1)
        monkeypatch.setattr(peer, "PATIENCE", 0.3)
        result = run("--granian", stand_in(tmp_path, f"{GOOD} as all\n{MUTE}".replace("await asyncio", MUTE_WS)))
        assert result.exit_code == 1
        assert (
            "stand-in 1.0: FAILS: websocket.connect was given 0 times; the app has not ended; the cl" in result.output
        )

    def test_one_that_ends_is_misuse_and_says_what_it_said(self, tmp_path: Path) -> None:
        start = time.monotonic()
        result = run("--granian", stand_in(tmp_path, first="sys.exit('no such interface')"))
        assert time.monotonic() - start < granian.START_UP / 2
        assert result.exit_code == 2
        assert "The server has ended. It said: no such interface" in result.output

    def test_one_that_does_not_answer_is_misuse(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(granian, "START_UP", 1.0)
        monkeypatch.setattr(granian, "FAREWELL", 0.1)
        monkeypatch.setattr(peer, "PATIENCE", 0.2)
        result = run("--granian", stand_in(tmp_path, MUTE))
        assert result.exit_code == 2
        assert "The server does not answer within 1 s." in result.output

    @pytest.mark.parametrize("program", [None, "#!/nowhere/python", "#!/bin/sh\nexit 3"])
    def test_none_at_all_is_misuse(self, program: str | None, tmp_path: Path) -> None:
        if program is not None:
            (tmp_path / "granian").write_text(program)
            (tmp_path / "granian").chmod(0o755)
        result = run("--granian", tmp_path)
        assert result.exit_code == 2
        assert ("make demo-granian" if program is None else "does not run") in result.output

    @pytest.mark.parametrize("more", ["echo-text", "--list"])
    def test_it_goes_alone(self, more: str, tmp_path: Path) -> None:
        result = run("--granian", tmp_path, more)
        assert result.exit_code == 2
        assert "without names and without --list" in result.output

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
    def test_what_is_interrupted_leaves_nothing_behind(self, number: signal.Signals, tmp_path: Path) -> None:
        """Neither the server, which does not want to end, nor a process that it has started."""
        first = (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            f"open({str(tmp_path / 'new')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
            f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pids')!r})\n"
            "child.wait()"
        )
        command = [sys.executable, "-m", "wslifecycle", "demo", "--granian", str(stand_in(tmp_path, first=first))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                until((tmp_path / "pids").exists)
                process.send_signal(number)
                output, _ = process.communicate(timeout=LONG)
            finally:
                process.kill()
        assert process.returncode == 130, output
        assert "Traceback" not in output
        for pid in (tmp_path / "pids").read_text().split():
            until(lambda pid=pid: gone(int(pid)))  # type: ignore[misc]

    def test_the_probe_needs_nothing_but_python(self) -> None:
        tree = ast.parse(Path(probe.__file__).read_text())
        modules = {
            name
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert {name.partition(".")[0] for name in modules} <= sys.stdlib_module_names


MUTE_WS = "await all(scope, receive, send) if scope['type'] != 'websocket' else await asyncio"


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether there is no such process, or only what is left of one until its parent has asked."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True
