"""The command line as a user runs it: what it prints, and its exit status (0 pass, 1 verdict, 2 misuse)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wslifecycle import __version__
from wslifecycle.__main__ import main

SPEC = Path(__file__).parent.parent / "spec" / "lifecycle.yaml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


class TestTable:
    def test_it_shows_every_state(self) -> None:
        result = run("table")
        assert result.exit_code == 0
        for state in ("handshake/connect_due/running", "failing/ended/done"):
            assert state in result.output

    def test_json_is_for_machines(self) -> None:
        (row,) = json.loads(run("table", "--state", "open/flowing", "--json").output)
        assert row["send"] == ["websocket.send", "websocket.close"]
        assert (row["receive"], row["receive_unread"]) == (None, "websocket.receive")
        assert row["others"]["closed/disconnect_due/running"] == ["peer_close", "peer_eof", "peer_lost"]

    def test_no_colour_without_a_terminal(self) -> None:
        assert "\x1b" not in run("table").output


class TestExplain:
    def test_a_message_in_a_state(self) -> None:
        result = run("explain", "websocket.send", "--state", "handshake/waiting")
        assert result.exit_code == 0
        assert "websocket.send: refused (violation)" in result.output
        assert "Allowed there: websocket.accept, websocket.close, websocket.http.response.start." in result.output

    @pytest.mark.parametrize("number", ["R20", "W7", "C9", "WSL020", "r20", "wsl020"])
    def test_a_number(self, number: str) -> None:
        result = run("explain", number)
        assert result.exit_code == 0
        assert result.output.startswith(number.upper())
        assert json.loads(run("explain", number, "--json").output)["number"] == number.upper()

    def test_the_facts_that_matter_are_explained(self) -> None:
        result = run("explain", "websocket.close", "--state", "closing/ended/running")
        assert "app: websocket.close (not raising): ignored" in result.output
        assert "  raising: The spec version has send() raise" in result.output

    def test_json_tells_the_facts_apart(self) -> None:
        found = json.loads(run("explain", "websocket.close", "--state", "closing/ended/running", "--json").output)
        assert {(entry["if"], entry["ignored"]) for entry in found} == {("raising", False), ("not raising", True)}

    def test_json(self) -> None:
        found = json.loads(run("explain", "app_close", "--state", "open/flowing", "--json").output)
        assert [(entry["target"], entry["effects"][0]) for entry in found] == [
            ("closing/disconnect_due/left", "send_close")
        ]

    def test_a_profile_of_ones_own(self, tmp_path: Path) -> None:
        profile = tmp_path / "mine.yaml"
        profile.write_text("title: mine\nanswers: {C9: violation}\n")
        result = run("explain", "websocket.close", "--state", "closing/disconnect_due/left", "--profile", str(profile))
        assert "refused (violation)" in result.output

    def test_a_spec_of_ones_own(self, tmp_path: Path) -> None:
        spec = tmp_path / "mine.yaml"
        spec.write_text(SPEC.read_text().replace("reference: close_1000", "reference: close_1011"))
        assert "* close_1011" in run("explain", "C2", "--spec", str(spec)).output


class TestDraw:
    def test_text_goes_to_standard_output(self) -> None:
        assert run("draw").output.startswith("digraph lifecycle {")
        assert "stateDiagram-v2" in run("draw", "--format", "mermaid", "--region", "wire").output

    @pytest.mark.parametrize(
        ("ending", "begins"),
        [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("dot", b"digraph"), ("md", b"#")],
    )
    def test_the_ending_of_the_file_says_the_format(self, tmp_path: Path, ending: str, begins: bytes) -> None:
        file = tmp_path / f"picture.{ending}"
        assert run("draw", "-o", str(file)).exit_code == 0
        assert file.read_bytes().startswith(begins)

    def test_a_scenario_or_a_file_is_a_path(self, tmp_path: Path) -> None:
        plain, drawn = run("draw").output, run("draw", "--path", "granian-591").output
        assert plain != drawn
        step = {
            "event": "give_connect",
            "source": "handshake/connect_due/running",
            "target": "handshake/waiting/running",
        }
        file = tmp_path / "path.json"
        file.write_text(json.dumps([step]))
        assert run("draw", "--path", str(file)).output not in (plain, drawn)

    def test_drift_is_a_verdict(self, tmp_path: Path) -> None:
        assert run("draw", "--all", str(tmp_path)).exit_code == 0
        (tmp_path / "lifecycle.mmd").write_text("something else")
        result = run("draw", "--all", str(tmp_path), "--check")
        assert result.exit_code == 1
        assert "lifecycle.mmd is not what the machine draws." in result.output
        assert result.output.count("is not what the machine draws.") == 1

    def test_without_dot_it_says_how_to_install_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        result = run("draw", "-o", str(tmp_path / "picture.svg"))
        assert result.exit_code == 2
        assert "apt install graphviz" in result.output
        assert run("draw", "--format", "dot").exit_code == 0


class TestMisuse:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("explain", "R99"), "There is no rule or choice 'R99'. There are R1-R56, W1-W13 and C1-C50."),
            (("explain", "WSL999"), "There is no finding WSL999"),
            (("explain", "nonsense"), "There is no message or event 'nonsense'"),
            (("explain", "R20", "--state", "open"), "--state goes with a message"),
            (("draw", "-o", "picture.bmp"), "The ending of picture.bmp is no format"),
            (("explain", "websocket.send", "--state", "opened"), "No state matches 'opened'"),
            (("table", "--profile", "nobody"), "There is no profile 'nobody'"),
            (("table", "--spec", "nowhere.yaml"), "does not exist"),
            (("demo", "nothing-like-it"), "`wslifecycle demo --list` names all"),
            (("nonsense",), "No such command"),
            (("draw", "--format", "gif"), "There is no format 'gif'"),
            (("draw", "--region", "moon"), "There is no picture 'moon'"),
            (("draw", "--path", "moon"), "There is no scenario 'moon'"),
            (("draw", "--check"), "--all DIR"),
        ],
    )
    def test_is_2_and_says_what_there_is(self, arguments: tuple[str, ...], says: str) -> None:
        result = run(*arguments)
        assert result.exit_code == 2
        assert says in result.output


class TestVerdict:
    def test_an_unsound_spec_is_1_with_its_findings(self, tmp_path: Path) -> None:
        spec = tmp_path / "mine.yaml"
        spec.write_text(
            SPEC.read_text().replace(
                "from: connect_due, to: waiting, rule: R20", "from: connect_due, to: wating, rule: R20"
            )
        )
        result = run("table", "--spec", str(spec))
        assert result.exit_code == 1
        assert "WSL011 There is no state of inbox `wating`." in result.output


class TestEntry:
    def test_it_runs_as_a_module_too(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "wslifecycle", "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == __version__

    def test_without_click_it_says_what_to_install(self) -> None:
        code = "import sys; sys.modules['click'] = None; import wslifecycle.__main__"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "pip install 'wslifecycle[cli,diagram]'" in done.stderr

    def test_a_demo_without_its_client_says_what_to_install(self) -> None:
        code = (
            "import sys; sys.modules['websockets.client'] = None; from wslifecycle.__main__ import main; main(['demo'])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert "pip install 'wslifecycle[demo]'" in done.stderr

    def test_a_reader_that_goes_away_is_no_verdict(self) -> None:
        code = "from wslifecycle.__main__ import main; main(['explain', 'websocket.send'])"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait(timeout=60) == 141
            assert process.stderr is not None
            assert process.stderr.read() == b""

    @pytest.mark.parametrize(
        "command",
        ["", "table", "explain", "draw", "check", "replay", "cover", "spin", "export", "mutants", "demo", "serve"],
    )
    def test_every_command_has_a_help_text(self, command: str) -> None:
        result = run(*command.split(), "--help")
        assert result.exit_code == 0
        assert len(result.output) > 100
