"""A campaign says what it did: what its workers saw, what was found, and by its exit status whether that is anything.

It is run as `make fuzz` runs it, but for seconds: on the runtime as it is, with a fault in the machine, and until it is
interrupted. What is told of it is put to the test without any process.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import started, until
from tests.stateful import campaign
from tests.stateful.campaign import Campaign, Finding, Report, Summary, Worker, examples, line, planted, reports
from tests.stateful.campaigns import PATIENCE, ROOT, command, environment, run, summary
from wslifecycle.statemachine.mutate import Subject

CAMPAIGN = Campaign(1.0, Path("nowhere"), 7)
ONE = ("open/flowing/running", "app_send", 0)
TWO = ("open/flowing/running", "app_send", 1)
BROKEN = [
    Report(0, 2, 200, 5.0, {ONE}, [Finding("one_close", 150, "a long program"), Finding("Stuck", 3, "")]),
    Report(1, 3, 300, 5.0, {ONE, TWO}, [Finding("one_close", 9, "a program")]),
]


# ------------------------------------------------------------------------------------------------ whole ones


def test_campaign_on_the_runtime_as_it_is_finds_nothing(tmp_path: Path) -> None:
    status, output, told = run(tmp_path, "-n", "2", seconds=1)
    assert status == 0, output
    assert told is not None
    assert (told["passed"], told["findings"], told["seed"]) == (True, [], 1)
    assert [worker["worker"] for worker in told["workers"]] == [0, 1]
    assert told["executions"] == sum(worker["executions"] for worker in told["workers"]) > 0
    assert 0 < told["situations"] < told["reachable"]
    assert f"{told['situations']} of {told['reachable']} situations" in output
    assert "\nPASS\n" in output
    assert "\x1b" not in output, "no terminal reads this"
    assert "\r" not in output


def test_campaign_with_a_fault_fails_and_shows_it(tmp_path: Path) -> None:
    status, output, told = run(tmp_path, seconds=600, mutant="named:granian")
    assert status == 1, output
    assert told is not None
    assert not told["passed"]
    assert [finding["name"] for finding in told["findings"]] == ["connect_once"]
    assert "\nFOUND connect_once (execution " in output
    assert "\nFAIL\n" in output
    assert "x = Exchange(loop, make, witness" in output, "the program that repeats it"


def test_interrupted_campaign_says_what_it_did_so_far(tmp_path: Path) -> None:
    log = tmp_path / "log"
    asked = environment(tmp_path, 600, seed=1)
    with started(*command("-n", "2"), log=log, cwd=ROOT, env=asked) as process:
        until(lambda: len(reports(tmp_path)) == 2 or process.poll() is not None, log.read_text)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        status = process.wait(PATIENCE)
    output = log.read_text()
    assert status == pytest.ExitCode.INTERRUPTED, output
    told = summary(tmp_path)
    assert told is not None
    assert told["executions"] > 0
    assert re.search(r"^\d+ executions, .* situations .*seed 1\.$", output, re.MULTILINE), output


def test_campaign_is_collected_only_where_it_is_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    asked = environment(tmp_path, 1)
    del asked["WSLIFECYCLE_FUZZ_SECONDS"]
    folder = [*command("--collect-only")[:-1], "tests/stateful"]
    with started(*folder, log=log, cwd=ROOT, env=asked) as process:
        assert process.wait(PATIENCE) == 0
    assert "test_fuzz.py" in log.read_text()
    assert "test_campaign.py" not in log.read_text()


# ------------------------------------------------------------------------------------------------ what is asked for


def test_nothing_is_asked_for_by_default() -> None:
    assert Campaign.asked({}) is None
    assert Campaign.asked({"WSLIFECYCLE_FUZZ_SECONDS": ""}) is None


def test_everything_can_be_asked_for() -> None:
    asked = {"SECONDS": "90", "DIRECTORY": "here", "SEED": "7", "DATABASE": "redis://a:1/0", "MUTANT": "named:granian"}
    found = Campaign.asked({f"WSLIFECYCLE_FUZZ_{name}": value for name, value in asked.items()})
    assert found == Campaign(90.0, Path("here"), 7, "redis://a:1/0", "named:granian")
    assert Campaign.asked({"WSLIFECYCLE_FUZZ_SECONDS": "1"}) == Campaign(1.0, ROOT / "build" / "fuzz", 0)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_time_that_makes_no_sense_is_refused(seconds: str) -> None:
    with pytest.raises(ValueError, match=seconds):
        Campaign.asked({"WSLIFECYCLE_FUZZ_SECONDS": seconds})


def test_mutant_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no mutant 'granian'.*named:granian"):
        planted(Subject(), "granian")


# ------------------------------------------------------------------------------------------------ a worker


def test_worker_ends_with_what_it_finds(tmp_path: Path) -> None:
    report = Worker(Campaign(600.0, tmp_path, 1, mutant="named:granian"), 3).run()
    assert [finding.name for finding in report.findings] == ["connect_once"]
    assert report.executions > report.findings[0].execution > 0
    assert reports(tmp_path) == [report]


def test_worker_goes_on_as_long_as_it_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_SETTINGS", settings(campaign._SETTINGS, max_examples=2))  # rounds of no time
    report = Worker(Campaign(3.0, tmp_path, 1), 3).run()
    assert not report.findings
    assert report.rounds > 1
    assert report.seconds >= 3.0


def test_worker_ends_with_what_it_cannot_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("tests.stateful.campaign.run_state_machine_as_test", breaks)
    report = Worker(Campaign(60.0, tmp_path, 1), 0).run()
    assert report.rounds == 1
    assert [finding.name for finding in report.findings] == ["RuntimeError"]
    assert "out of order" in report.findings[0].text
    assert "in breaks" in report.findings[0].text, "where it was raised"


def test_report_is_read_as_it_was_saved(tmp_path: Path) -> None:
    for report in BROKEN:
        report.save(tmp_path)
    assert reports(tmp_path) == BROKEN


def test_campaign_removes_what_the_one_before_told_and_keeps_its_examples(tmp_path: Path) -> None:
    BROKEN[0].save(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with examples(tmp_path / "examples") as database:
        database.save(b"key", b"value")
        replace(CAMPAIGN, directory=tmp_path).begin()
        assert set(database.fetch(b"key")) == {b"value"}
    assert reports(tmp_path) == []
    assert summary(tmp_path) is None


# ------------------------------------------------------------------------------------------------ what is told


def test_line_says_how_far_it_is() -> None:
    assert line([], 0).split() == ["0", "s", "0", "executions", "0/s", "0", "situations", "nothing", "found"]
    assert line(BROKEN, 10).split() == ["10", "s", "500", "executions", "50/s", "2", "situations", "3", "found"]


def test_summary_tells_each_finding_once_and_of_which_situations_the_model_knows() -> None:
    made = Summary(CAMPAIGN, BROKEN, 10.0, frozenset({ONE, ("a", "b", 0)}))
    plain = made.plain()
    assert (plain["executions"], plain["per_second"]) == (500, 50.0)
    assert (plain["situations"], plain["reachable"], plain["unknown"]) == (1, 2, [TWO])
    assert [finding["name"] for finding in plain["findings"]] == ["Stuck", "one_close"]
    assert plain["findings"][1]["text"] == "a program"
    assert "1 of 2 situations" in "\n".join(made.table())
    assert "1 that the model does not know" in "\n".join(made.table())
    assert made.table()[-3:] == [
        "FOUND Stuck (execution 3 of its worker)",
        "FOUND one_close (execution 9 of its worker)",
        "FAIL",
    ]


def test_summary_fails_where_something_was_found_broke_or_nothing_was_tried() -> None:
    good = Report(0, 1, 100, 5.0, {ONE})
    assert Summary(CAMPAIGN, [good], 10.0).passed
    assert "1 situations" in "\n".join(Summary(CAMPAIGN, [good], 10.0).table())
    assert not Summary(CAMPAIGN, [good, BROKEN[0]], 10.0).passed
    assert not Summary(CAMPAIGN, [], 10.0).passed
    assert "nothing was tried" in Summary(CAMPAIGN, [], 10.0).verdict
    assert not Summary(CAMPAIGN, [good], 10.0, broken=True).passed
