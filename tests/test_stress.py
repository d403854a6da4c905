"""The kit of stress: a server that has every fault fails every trial, ours passes; reports, tables and commands."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from wslifecycle.__main__ import main
from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress import load, trials
from wslifecycle.conformance.stress import soak as soaking
from wslifecycle.conformance.stress.autobahn import Case, summary
from wslifecycle.conformance.stress.results import Figure, Report, Tried, table
from wslifecycle.conformance.stress.results import load as load_report
from wslifecycle.conformance.stress.run import site, tried
from wslifecycle.conformance.stress.soak import Sample, Soaked, draw, grown, soak
from wslifecycle.conformance.stress.watch import MIB

pytestmark = pytest.mark.xdist_group("servers")  # one at a time: they are judged by what they do in time

NAIVE = f"{sys.executable} {Path(__file__).with_name('naive.py')} {{app}} --port {{port}}"
BY_NAME = {trial.name: trial for trial in trials.TRIALS}


def figures(server: servers.Server, *names: str) -> dict[str, Figure]:
    """What comes of these trials, all at the same time: each has a process, and mostly waits."""

    async def all_of_them() -> dict[str, Figure]:
        each = await asyncio.gather(*(tried(server, [BY_NAME[name]], lambda name: None) for name in names))
        return {name: figure for one in each for name, figure in one.figures.items()}

    return asyncio.run(all_of_them())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less of everything: enough for a server without any bound."""
    monkeypatch.setattr(trials, "FLOOD", 40 * MIB)
    monkeypatch.setattr(trials, "SECONDS", 4.0)
    monkeypatch.setattr(trials, "WAITING", 3.0)
    monkeypatch.setattr(load, "SECONDS", 1.0)
    monkeypatch.setattr(load, "LATE", 1.0)
    monkeypatch.setattr(load, "BUSY", 50)


@pytest.mark.usefixtures("short")
class TestTrials:
    @pytest.mark.parametrize(
        "names",
        [
            ("bomb", "fragments", "unread", "dawdle", "head", "early", "deaf"),
            ("slow-request", "no-answer", "half-open", "greedy", "no-return", "shutdown", "bad-frames"),
            ("garbage", "cut", "busy"),
        ],
        ids=["memory", "time", "faults"],
    )
    def test_are_failed_by_a_server_that_has_every_fault(self, names: tuple[str, ...]) -> None:
        found = figures(servers.custom(NAIVE), *names)
        assert {name: figure for name, figure in found.items() if figure.good is not False} == {}

    def test_are_passed_by_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trials, "WAITING", 15.0)  # as the trials have it: nine servers at once are slow
        monkeypatch.setattr(load, "LATE", 20.0)
        names = ("bomb", "unread", "head", "half-open", "no-return", "shutdown", "bad-frames", "garbage", "busy")
        (server,) = servers.find("wslifecycle:start_server")
        assert {name: figure for name, figure in figures(server, *names).items() if not figure.good} == {}

    def test_that_a_server_has_no_option_for_do_not_apply(self) -> None:
        (figure,) = figures(servers.custom(NAIVE), "vanished").values()
        assert figure == Figure("no option: ping", None)

    def test_have_names_of_their_own_and_a_bound(self) -> None:
        assert len(BY_NAME) == len(trials.TRIALS)
        assert all(trial.says and trial.bound for trial in trials.TRIALS)


class TestASoak:
    def test_is_flat_where_memory_is(self) -> None:
        assert grown([10 * MIB, *[40 * MIB] * 20]) == []
        assert grown([40 * MIB] * 10 + [45 * MIB] * 10) == []

    def test_is_not_where_it_grows(self) -> None:
        assert grown([(40 + second) * MIB for second in range(40)]) == ["memory grew from 54 to 74 MiB"]

    def test_of_a_moment_says_nothing(self) -> None:
        assert grown([1, 1000 * MIB, 2000 * MIB]) == []

    @pytest.mark.parametrize(("server", "wrong"), [("ours", ()), ("naive", ("apps are left", "messages were lost"))])
    def test_sees_what_is_left_and_what_is_lost(
        self, server: str, wrong: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (chosen,) = servers.find("wslifecycle:start_server") if server == "ours" else [servers.custom(NAIVE)]
        if server == "naive":
            monkeypatch.setattr(soaking, "PATIENCE", 1.0)

        async def run() -> Soaked:
            async with site(chosen, {}) as one:
                return await soak(one, 3, lambda sample: None)

        done = asyncio.run(run())
        assert [text for text in wrong if not any(text in fault for fault in done.faults)] == []
        assert bool(wrong) == bool(done.faults), done.faults
        assert done.visits > 20
        draw(done, tmp_path / "new" / "soak.png")
        assert (tmp_path / "new" / "soak.png").read_bytes().startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------ what is told

REPORT = Report(
    "2026-12-01",
    (
        Tried("one", "one 1.0", {"bomb": Figure("+2 MiB", True), "head": Figure("+90 MiB", False)}),
        Tried("two", "two 2.0", {"bomb": Figure("no compression", None)}),
    ),
)


class TestAReport:
    def test_comes_back_from_json(self) -> None:
        assert load_report(REPORT.dump()) == REPORT

    @pytest.mark.parametrize("data", ["", "[]", "{}", '{"date": "", "tried": [{}]}', '{"date": "", "tried": 3}'])
    def test_that_is_none_is_refused(self, data: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            load_report(data)

    def test_is_a_table(self) -> None:
        assert table(REPORT, [("bomb", "a bomb"), ("head", "a long head"), ("cut", "not tried")]) == (
            "| what was tried | one | two |\n|---|---|---|\n"
            "| a bomb | +2 MiB | no compression |\n| a long head | **+90 MiB** | – |\n"
        )

    def test_of_autobahn_counts_failures_and_says_what_is_not_strict(self) -> None:
        cases = [
            Case("1.1", "OK", "OK", ""),
            Case("1.2", "NON-STRICT", "OK", ""),
            Case("1.3", "OK", "FAILED", ""),
            Case("1.4", "WRONG CODE", "OK", ""),
        ]
        assert summary(cases) == Figure("2 failed, 1 non-strict of 4", False)
        assert summary(cases[:2]) == Figure("0 failed, 1 non-strict of 2", True)
        assert summary([]).good is False


class TestTheCommands:
    def test_stress_shows_what_was_kept(self, tmp_path: Path) -> None:
        file = tmp_path / "kept.json"
        file.write_text(REPORT.dump())
        shown = CliRunner().invoke(main, ["stress", "--from", str(file)])
        assert shown.exit_code == 1
        assert "✗ +90 MiB" in shown.output
        assert "\x1b" not in shown.output
        marked = CliRunner().invoke(main, ["stress", "--from", str(file), "--from", str(file), "--markdown"])
        assert marked.output.startswith("| what was tried | one | two | one | two |\n")

    def test_stress_tries_a_trial(self, tmp_path: Path) -> None:
        arguments = ["stress", "wslifecycle:start_server", "--only", "shutdown", "--json", "-"]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        (tried_,) = json.loads(done.stdout)["tried"]
        assert tried_["figures"] == {"shutdown": {"says": "20 of 20: 1012", "good": True}}

    def test_stress_lists_its_trials(self) -> None:
        assert "bomb" in CliRunner().invoke(main, ["stress", "--list"]).output

    def test_autobahn_tells_the_cases(self) -> None:
        done = CliRunner().invoke(main, ["autobahn", "wslifecycle:start_server", "--case", "2.*", "--json"])
        assert done.exit_code == 0, done.output
        cases = json.loads(done.stdout)["wslifecycle start_server"]
        assert {case["number"]: case["behavior"] for case in cases} == {f"2.{n}": "OK" for n in range(1, 12)}

    def test_autobahn_fails_with_a_case(self) -> None:
        done = CliRunner().invoke(main, ["autobahn", "--command", NAIVE, "--case", "2.5", "--case", "5.1"])
        assert done.exit_code == 1, done.output
        assert "2.5" in done.output
        assert "2 failed" in done.output

    def test_soak_says_what_came_of_it(self, tmp_path: Path) -> None:
        picture = tmp_path / "soak.png"
        done = CliRunner().invoke(
            main, ["soak", "wslifecycle:start_server", "--minutes", "0.03", "-o", str(picture), "--json"]
        )
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told["faults"] == []
        assert [Sample(**sample).sockets > 1 for sample in told["samples"]] == [True] * len(told["samples"])
        assert picture.exists()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["stress"], "Which server?"),
            (["stress", "nobody"], "There is no server 'nobody'"),
            (["stress", "wslifecycle", "--only", "nothing"], "There is no trial nothing"),
            (["stress", "--command", "true"], "There is no {app}"),
            (["stress", "wslifecycle", "--from", __file__], "goes without servers"),
            (["stress", "--from", __file__], "Extra data"),
            (["autobahn"], "Which server?"),
            (["autobahn", "wslifecycle:start_server", "--case", "99.*"], "99.*"),
            (["soak"], "Name one SERVER"),
            (["soak", "nobody"], "There is no server 'nobody'"),
        ],
    )
    def test_that_are_misused_say_so(self, arguments: list[str], says: str) -> None:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2
        assert says in done.output

    def test_that_lack_a_library_say_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "wslifecycle.cli_soak", None)
        done = CliRunner().invoke(main, ["soak", "wslifecycle"])
        assert done.exit_code == 2
        assert "pip install 'wslifecycle[stress]'" in done.output
