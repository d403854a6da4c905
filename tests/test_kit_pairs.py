"""Real bugs as a measure: how their releases are tried, what is kept, and what the command says and exits with."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result as Ran

from tests.reports import choice, deviation, result
from wslifecycle.__main__ import main
from wslifecycle.conformance.kit import pairs, run, servers
from wslifecycle.conformance.kit.environments import NoEnvironment
from wslifecycle.conformance.kit.results import Deviation, Result, Verdict
from wslifecycle.conformance.kit.run import KitError

HEAD = ",".join((*pairs.COLUMNS, "numbers"))
RED = deviation(Verdict.MUST, "R28")
BLUE = deviation(Verdict.SHOULD, "R43")
SHOWS = {"granian==1": (RED, BLUE), "granian==2": (BLUE,), "granian==3": (BLUE, RED), "granian==4": ()}
"""What each release is seen to do."""


def row(name: str, buggy: int, good: int, numbers: str = "R28") -> str:
    return f"{name},granian,,{buggy},{good},granian=={buggy},granian=={good},a bug,{numbers}"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The releases that were tried, in their order. None is installed, and no kit is run."""
    found: list[str] = []

    def install(requirements: str, root: Path) -> Path:
        if requirements == "granian==0":
            raise NoEnvironment("there is no granian 0")
        return root / requirements

    def find(name: str, folder: Path) -> list[servers.Server]:
        return [servers.Server(name, name, ("granian", "{app}", "{port}"), folder)]

    def conform(server: servers.Server, *, progress: run.Progress) -> Result:
        release = server.bin.name
        found.append(release)
        progress(1, 2)
        if release == "granian==9":
            raise KitError("granian 9 does not start")
        return result("granian", *SHOWS[release])

    monkeypatch.setattr(pairs, "environment", install)
    monkeypatch.setattr(servers, "find", find)
    monkeypatch.setattr(run, "conform", conform)
    return found


def measure(tmp_path: Path, *rows: str, options: tuple[str, ...] = ()) -> Ran:
    file = tmp_path / "pairs.csv"
    file.write_text("\n".join((HEAD, *rows)) + "\n", encoding="utf-8")
    arguments = ["pairs", "--file", str(file), "--root", str(tmp_path / "root"), *options]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_pairs_that_are_all_found_pass(tried: list[str], tmp_path: Path) -> None:
    ran = measure(tmp_path, row("X1", 1, 2))
    assert ran.exit_code == 0
    assert tried == ["granian==1", "granian==2"]
    assert "X1    found" in ran.output
    assert "[R28 must] app_return in open/flowing/running: what R28 sees, not: what R28 expects" in ran.output
    assert "R43" not in ran.output  # both do that
    assert ran.output.endswith("1 found, 0 found elsewhere, 0 not found, 0 error, of 1\n")


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (row("X1", 1, 2, "R36"), "0 found, 1 found elsewhere"),
        (row("X1", 1, 3), "1 not found"),
        (row("X1", 0, 2), "there is no granian 0"),
        (row("X1", 9, 2), "granian 9 does not start"),
    ],
)
def test_pair_that_is_not_found_fails(one: str, said: str, tried: list[str], tmp_path: Path) -> None:
    ran = measure(tmp_path, one)
    assert ran.exit_code == 1
    assert said in ran.output


def test_error_in_one_pair_does_not_keep_the_next_from_being_tried(tried: list[str], tmp_path: Path) -> None:
    ran = measure(tmp_path, row("X1", 9, 2), row("X2", 1, 2))
    assert ran.exit_code == 1
    assert "1 found, 0 found elsewhere, 0 not found, 1 error, of 2" in ran.output


def test_release_is_tried_once_and_its_result_is_kept(tried: list[str], tmp_path: Path) -> None:
    rows = (row("X1", 1, 2), row("X2", 1, 4, "R43"), row("X3", 3, 2))
    first = measure(tmp_path, *rows)
    assert tried == [f"granian=={number}" for number in (1, 2, 4, 3)]
    again = measure(tmp_path, *rows)
    assert len(tried) == 4
    assert (again.output, again.exit_code) == (first.output, 0)


def test_interrupted_run_goes_on(tried: list[str], tmp_path: Path) -> None:
    measure(tmp_path, row("X1", 1, 9))
    measure(tmp_path, row("X1", 1, 9))
    assert tried == ["granian==1", "granian==9", "granian==9"]


def test_fresh_tries_each_release_of_these_pairs_once_again(tried: list[str], tmp_path: Path) -> None:
    rows = (row("X1", 1, 2), row("X2", 1, 2), row("X3", 3, 4))
    measure(tmp_path, *rows)
    tried.clear()
    measure(tmp_path, *rows, options=("--fresh", "--only", "X1", "--only", "X2"))
    assert tried == ["granian==1", "granian==2"]
    measure(tmp_path, *rows)
    assert tried == ["granian==1", "granian==2"]


def test_another_kit_tries_all_again(tried: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(tmp_path, row("X1", 1, 2))
    monkeypatch.setattr(pairs, "fingerprint", lambda: "another")
    measure(tmp_path, row("X1", 1, 2))
    assert len(tried) == 4


def test_server_of_a_row_is_its_implementation(tried: list[str], tmp_path: Path) -> None:
    (pair,) = pairs.load_pairs(f"{HEAD}\nX1,uvicorn,wsproto,1,2,granian==1,granian==2,a bug,R28\n")
    seen: list[str] = []

    def conform(server: servers.Server) -> Result:
        seen.append(server.argument)
        return result(server.name)

    assert len(list(pairs.measured(pair, tmp_path, conform))) == 2
    assert seen == ["uvicorn:wsproto"] * 2


def test_what_only_the_good_release_is_blamed_for_is_told(tried: list[str], tmp_path: Path) -> None:
    ran = measure(tmp_path, row("X1", 4, 1), options=("--json",))
    plain = json.loads(ran.output)
    assert ran.exit_code == 1
    assert plain["counts"] == {"not found": 1}
    assert plain["pairs"][0]["alarms"] == [RED.key, BLUE.key]
    assert "only in 1: [R28 must]" in measure(tmp_path, row("X1", 4, 1)).output


def test_file_that_has_no_pairs_is_misuse(tmp_path: Path) -> None:
    file = tmp_path / "none.csv"
    file.write_text("id,server\n", encoding="utf-8")
    ran = CliRunner().invoke(main, ["pairs", "--file", str(file)])
    assert ran.exit_code == 2
    assert "there is no column websocket_implementation" in ran.output


@pytest.mark.parametrize(
    ("numbers", "buggy", "outcome"),
    [
        ("R28", (RED,), pairs.Outcome.FOUND),
        ("C10", (deviation(Verdict.MUST, "R28", choice="C10", answer="none"),), pairs.Outcome.FOUND),
        ("R28", (deviation(Verdict.HUNG, ""),), pairs.Outcome.FOUND),
        ("R20", (RED,), pairs.Outcome.ELSEWHERE),
        ("", (RED,), pairs.Outcome.FOUND),
        ("", (), pairs.Outcome.NOT_FOUND),
    ],
)
def test_bug_is_found_by_its_rules(numbers: str, buggy: tuple[Deviation, ...], outcome: pairs.Outcome) -> None:
    (pair,) = pairs.load_pairs(f"{HEAD}\n{row('X1', 1, 2, numbers)}\n")
    assert pairs.judge(pair, result("buggy", *buggy), result("good")).outcome is outcome


def test_fingerprint_is_of_what_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in ("conformance/kit", "statemachine", "spec/scenarios"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)

    def now() -> str:
        pairs.fingerprint.cache_clear()
        return pairs.fingerprint()

    try:
        seen = {now(), now()}
        assert len(seen) == 1
        for name in ("conformance/kit/cases.py", "conformance/peer.py", "statemachine/a.py", "spec/lifecycle.yaml"):
            (tmp_path / name).write_text("a change", encoding="utf-8")
            assert now() not in seen
            seen.add(now())
        (tmp_path / "conformance/kit/matrix.css").write_text("a change", encoding="utf-8")
        assert now() in seen
    finally:
        pairs.fingerprint.cache_clear()


def test_an_answer_about_values_may_differ_from_one_value_to_the_next(
    tried: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers, reason = "value:websocket.accept:headers=None", "value:websocket.close:reason=None"
    monkeypatch.setitem(SHOWS, "granian==5", (choice("C22", "raises", case=headers, cases=(reason,)),))
    monkeypatch.setitem(SHOWS, "granian==6", (choice("C22", "raises", case=headers),))
    assert measure(tmp_path, row("X1", 5, 6, "C22")).exit_code == 0
    assert measure(tmp_path, row("X2", 6, 5, "C22")).exit_code == 1  # what the good one does besides is no find
