"""`wslifecycle spin` and `wslifecycle export` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wslifecycle import cli_spin
from wslifecycle.__main__ import Commands
from wslifecycle.cli_spin import export_command, spin_command
from wslifecycle.statemachine.spin import SpinError

SPEC = Path(__file__).parent.parent / "spec" / "lifecycle.yaml"
GROUP = Commands(commands={"spin": spin_command, "export": export_command})
TOLD = "from: [waiting, flowing], to: disconnect_due, while: {wire: [closing, failing, closed]}"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(GROUP, list(arguments))


class TestSpin:
    def test_both_agree_and_all_holds(self) -> None:
        result = run("spin", "--queue", "0", "-p", "one_close", "-p", "deadlock")
        assert result.exit_code == 0, result.output
        assert "reference: SPIN and our checker agree. All hold: 2 properties, 11,032 states" in result.output
        assert [line.split("│")[1:4] for line in result.output.splitlines() if "holds" in line] == [
            [" one_close ", " holds ", " holds "],
            [" deadlock  ", " holds ", " holds "],
        ]

    def test_what_does_not_hold_is_a_verdict(self, tmp_path: Path) -> None:
        text = SPEC.read_text(encoding="utf-8")
        assert text.count(TOLD) == 1
        spec = tmp_path / "mine.yaml"
        spec.write_text(text.replace(TOLD, TOLD.replace(", closed]", "]")), encoding="utf-8")
        result = run("spin", "--spec", str(spec), "--queue", "0", "-p", "end_is_told", "--json")
        assert result.exit_code == 1, result.output
        found = json.loads(result.output)
        assert (found["agree"], found["holds"]) == (True, False)
        assert [(row["name"], row["ours"], row["spin"]) for row in found["rows"][1:]] == [
            ("end_is_told", "broken", "broken")
        ]
        assert found["rows"][0]["spin"] == str(found["states"] + 1)

    def test_missing_program_is_misuse(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        result = run("spin")
        assert result.exit_code == 2
        assert "apt install spin" in result.output

    def test_search_without_a_verdict_is_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def stopped(*_: object, **__: object) -> None:
            raise SpinError("p_one_close: max search depth too small")

        monkeypatch.setattr(cli_spin, "compare", stopped)
        result = run("spin", "-p", "one_close")
        assert result.exit_code == 1
        assert "SPIN gave no verdict. p_one_close: max search depth too small" in result.output

    def test_unknown_property_is_misuse(self) -> None:
        result = run("spin", "-p", "nobody")
        assert result.exit_code == 2
        assert "There is no property 'nobody'" in result.output


class TestExport:
    def test_promela_has_what_is_named(self) -> None:
        result = run("export", "promela", "--queue", "0", "--receivers", "2", "-p", "one_close", "-p", "deadlock")
        assert result.exit_code == 0
        assert "#define QUEUE 0\n#define RECEIVERS 2\n" in result.output
        assert "never p_one_close {" in result.output
        assert "never p_deadlock {" in result.output
        assert "never" not in run("export", "promela").output

    def test_tla_goes_into_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "Lifecycle.tla"
        result = run("export", "tla", "-o", str(file))
        assert (result.exit_code, result.output) == (0, "")
        assert file.read_text(encoding="utf-8").startswith("---- MODULE Lifecycle ----\n")

    def test_unknown_language_and_property_are_misuse(self) -> None:
        assert run("export", "alloy").exit_code == 2
        assert run("export", "promela", "-p", "nobody").exit_code == 2
        assert run("export", "tla", "-p", "nobody").exit_code == 2
