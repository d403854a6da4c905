"""`wslifecycle serve`: Uvicorn's command with our protocol in it, whichever Uvicorn is installed.

What reaches Uvicorn is looked at where Uvicorn's command hands it on; tests/test_uvicorn_processes.py starts it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import click
import pytest
import uvicorn
from click.testing import CliRunner, Result

from wslifecycle import __version__
from wslifecycle.__main__ import main
from wslifecycle.integrations.uvicorn import LifecycleProtocol
from wslifecycle.serve import PROTOCOL, from_uvicorn

THEIRS: click.Command = uvicorn.main
MODULE = sys.modules["uvicorn.main"]  # as an attribute, `uvicorn.main` is the command
Told = list[tuple[tuple[Any, ...], dict[str, Any]]]
WITHOUT_UVICORN = "import sys; sys.modules['uvicorn'] = None; from wslifecycle.__main__ import main; main()"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["serve", *arguments], env=environment)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What `uvicorn.run` is called with, instead of running anything."""
    calls: Told = []
    monkeypatch.setattr(MODULE, "run", lambda *args, **settings: calls.append((args, settings)))
    return calls


class TestOptions:
    def test_they_are_uvicorns_but_for_the_protocol_and_the_version(self) -> None:
        def flags(command: click.Command) -> Iterable[tuple[str, ...]]:
            return [(*parameter.opts, *parameter.secondary_opts) for parameter in command.params]

        assert flags(from_uvicorn()) == [flag for flag in flags(THEIRS) if flag not in {("--ws",), ("--version",)}]

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("--port", "0", "--ws-max-size", "1000", "--ws-ping-interval", "1.5", "--ws-per-message-deflate", "false"),
            ("--workers", "2", "--factory", "--uds", "path", "--header", "X-Own:yes", "--no-date-header"),
            ("--reload", "--reload-dir", ".", "--ssl-keyfile", "key", "--ssl-certfile", "chain", "--app-dir", "folder"),
        ],
    )
    def test_uvicorn_is_told_what_its_own_command_would_tell_it(self, told: Told, arguments: tuple[str, ...]) -> None:
        assert run("app:app", *arguments).exit_code == 0
        assert CliRunner().invoke(THEIRS, ["app:app", "--ws", "none", *arguments]).exit_code == 0
        (ours, settings), (theirs, theirs_settings) = told
        assert (ours, settings) == (theirs, theirs_settings | {"ws": LifecycleProtocol})

    def test_our_protocol_is_what_the_help_says(self) -> None:
        module, _, name = PROTOCOL.partition(":")
        assert (LifecycleProtocol.__module__, LifecycleProtocol.__qualname__) == (module, name)

    def test_the_environment_says_what_it_says_to_uvicorn_but_for_the_protocol(self, told: Told) -> None:
        assert run(UVICORN_APP="app:app", UVICORN_PORT="1234", UVICORN_WS="none").exit_code == 0
        ((args, settings),) = told
        assert (args, settings["port"], settings["ws"]) == (("app:app",), 1234, LifecycleProtocol)

    @pytest.mark.parametrize("arguments", [(), ("app:app", "--ws", "none"), ("app:app", "--port", "many")])
    def test_misuse_is_2(self, told: Told, arguments: tuple[str, ...]) -> None:
        result = run(*arguments)
        assert (result.exit_code, told) == (2, [])
        assert "Usage: main serve [OPTIONS] APP" in result.output


class TestHelp:
    def test_it_begins_in_our_words_and_goes_on_in_uvicorns(self) -> None:
        result = run("--help")
        assert result.exit_code == 0
        text = " ".join(result.output.split())
        assert text.startswith("Usage: main serve [OPTIONS] APP Serve the ASGI application APP")
        assert f"The same as `uvicorn APP --ws {PROTOCOL}`" in text
        assert "3 for a start-up that fails" in text
        assert f"The options are those of Uvicorn {uvicorn.__version__}" in text
        assert "Bind socket to this host." in text

    def test_there_is_one_version_only(self) -> None:
        assert run("--version").exit_code == 2
        assert CliRunner().invoke(main, ["--version"]).output == f"{__version__}\n"


class TestEnd:
    def test_ctrl_c_that_uvicorn_lets_pass_is_1_as_under_its_own_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*args: object, **settings: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(MODULE, "run", interrupted)
        assert run("app:app").exit_code == CliRunner().invoke(THEIRS, ["app:app"]).exit_code == 1

    @pytest.mark.parametrize("fault", [FileNotFoundError("no file"), LookupError("no entry"), ValueError("no sense")])
    def test_a_fault_is_1_with_its_traceback_and_no_misuse(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: Exception
    ) -> None:
        def faulty(*args: object, **settings: object) -> None:
            raise fault

        monkeypatch.setattr(MODULE, "run", faulty)
        result = run("app:app")
        assert result.exit_code == 1
        assert "Usage" not in result.output
        assert "in faulty" in result.output
        assert str(fault) in result.output

    def test_uvicorns_exit_status_is_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MODULE, "run", lambda *args, **settings: sys.exit(3))
        assert run("app:app").exit_code == 3


class TestWithoutUvicorn:
    @pytest.mark.parametrize("arguments", [("app:app",), ("--help",)])
    def test_serve_says_what_to_install(self, arguments: tuple[str, ...]) -> None:
        done = python(WITHOUT_UVICORN, "serve", *arguments)
        assert done.returncode == 2
        assert "serve needs uvicorn: pip install 'wslifecycle[uvicorn]'" in done.stderr

    def test_the_rest_of_the_command_line_works(self) -> None:
        done = python(WITHOUT_UVICORN, "--help")
        assert done.returncode == 0
        assert re.search(r"^  serve +Serve an app with Uvicorn", done.stdout, re.MULTILINE)

    def test_nothing_but_serve_imports_it(self) -> None:
        code = "import sys, wslifecycle.__main__; sys.exit('uvicorn' in sys.modules or 'asyncio' in sys.modules)"
        assert python(code).returncode == 0
