"""`wslifecycle check` and `wslifecycle replay` as people and machines use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.planted import GRANIAN, UNTOLD, planted
from wslifecycle.__main__ import main

SMALL = ("--queue", "0", "--receivers", "1")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(planted(GRANIAN), encoding="utf-8")
    return path


class TestCheck:
    def test_of_the_reference_ends_in_one_line(self) -> None:
        result = run("check", *SMALL)
        assert result.exit_code == 0
        (line,) = result.output.splitlines()
        assert line.startswith("reference: all hold")
        for part in ("11,032 states", "transitions", "depth", "properties", "queue 0", "receivers 1", "states/s"):
            assert part in line

    def test_of_a_fault_shows_the_run_and_exits_with_1(self, faulty: Path) -> None:
        result = run("check", *SMALL, "--spec", str(faulty), "-p", "connect_once")
        assert result.exit_code == 1
        assert result.output.startswith("connect_once does not hold [R20]: at most once give_connect\n")
        assert "4  server  gives: give_connect [R20]" in result.output
        assert result.output.splitlines()[-1].startswith("reference: 1 finding. 11,032 states")

    def test_of_one_property_looks_at_no_other(self, faulty: Path) -> None:
        result = run("check", *SMALL, "--spec", str(faulty), "-p", "one_close", "--property", "one_end")
        assert result.exit_code == 0
        assert "2 properties" in result.output

    def test_json_has_what_the_text_has(self, faulty: Path) -> None:
        result = run("check", *SMALL, "--spec", str(faulty), "-p", "connect_once", "-p", "one_close", "--json")
        assert result.exit_code == 1
        told = json.loads(result.output)
        assert told["holds"] is False
        assert told["states"] == 11032
        assert told["bounds"] == {"connections": 1, "queue": 0, "receivers": 1}
        assert told["properties"] == {"connect_once": False, "one_close": True}
        (violation,) = told["violations"]
        assert violation["run"]["steps"][-1]["event"] == "give_connect"

    def test_other_profile_is_reported_and_not_refused(self, tmp_path: Path) -> None:
        profile = tmp_path / "stays.yaml"
        profile.write_text("title: a server that keeps a connection whose app is gone\nanswers: {C2: stays_open}\n")
        result = run("check", *SMALL, "--profile", str(profile), "-p", "return_ends_it")
        assert result.exit_code == 0
        assert "return_ends_it does not hold [R4]" in result.output

    def test_spec_that_is_not_sound_is_told_with_what_it_breaks(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(planted(UNTOLD), encoding="utf-8")
        result = run("check", *SMALL, "--spec", str(path), "-p", "end_is_told")
        assert result.exit_code == 1
        assert "end_is_told does not hold [R28]" in result.output
        assert "a receive() waits for ever" in result.output

    def test_spec_that_means_nothing_is_a_verdict(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(
            planted(("event: give_message, from: ended, refuse", "event: give_message, from: silent, refuse"))
        )
        result = run("check", *SMALL, "--spec", str(path))
        assert result.exit_code == 1
        assert "WSL020" in result.output

    def test_several_connections_are_counted(self) -> None:
        result = run("check", *SMALL, "-p", "one_end", "--connections", "2", "--limit", "20000")
        assert result.exit_code == 2
        assert "2 connections have more than 20,000 states" in result.output

    def test_every_form_of_a_counterexample_is_written(self, faulty: Path, tmp_path: Path) -> None:
        folder = tmp_path / "found" / "here"
        assert run("check", *SMALL, "--spec", str(faulty), "-p", "connect_once", "-o", str(folder)).exit_code == 1
        assert sorted(path.name for path in folder.iterdir()) == [
            f"connect_once.{e}" for e in ("json", "mmd", "svg", "txt")
        ]
        assert "connect_once does not hold" in (folder / "connect_once.txt").read_text()
        assert (folder / "connect_once.mmd").read_text().startswith("sequenceDiagram\n")

    @pytest.mark.parametrize(("arguments", "says"), [
        (("-p", "nope"), "no property 'nope'"),
        (("--queue", "-1"), "--queue"),
        (("--receivers", "0"), "--receivers"),
        (("--connections", "0"), "--connections"),
        (("--limit", "10"), "more than 10 states"),
        (("--profile", "nobody"), "no profile 'nobody'"),
        (("--spec", "nowhere.yaml"), "nowhere.yaml"),
    ])  # fmt: skip
    def test_misuse_is_told_and_exits_with_2(self, arguments: tuple[str, ...], says: str) -> None:
        result = run("check", *SMALL, *arguments)
        assert result.exit_code == 2
        assert says in result.output


class TestReplay:
    @pytest.fixture
    def kept(self, faulty: Path, tmp_path: Path) -> Path:
        run("check", *SMALL, "--spec", str(faulty), "-p", "connect_once", "-o", str(tmp_path))
        return tmp_path / "connect_once.json"

    def test_of_the_faulty_spec_exits_with_1(self, kept: Path) -> None:
        result = run("replay", str(kept))
        assert result.exit_code == 1
        assert result.output.splitlines()[-1] == "The connection does the same: connect_once does not hold."

    def test_of_the_mended_spec_exits_with_0(self, kept: Path, faulty: Path) -> None:
        faulty.write_text(planted(), encoding="utf-8")
        result = run("replay", str(kept))
        assert result.exit_code == 0
        assert "The connection goes another way in step 4, gives" in result.output

    def test_json(self, kept: Path) -> None:
        told = json.loads(run("replay", str(kept), "--json").output)
        assert (told["name"], told["same"], told["departs"]) == ("connect_once", True, None)
        assert len(told["did"]) == 4

    @pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', "\N{LATIN SMALL LETTER E WITH ACUTE}"])
    def test_what_is_no_run_is_misuse(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "none.json"
        path.write_bytes(text.encode("latin-1"))
        result = run("replay", str(path))
        assert result.exit_code == 2
        assert "Error: " in result.output
