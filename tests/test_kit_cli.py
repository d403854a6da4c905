"""What stands around the kit: the commands, the baseline, profiles and their difference, pairs, the pytest plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from wslifecycle.__main__ import main
from wslifecycle.conformance.kit import pairs, profiles, releases
from wslifecycle.conformance.kit import results as made
from wslifecycle.conformance.kit.baseline import Baseline, compare, load_baseline, without
from wslifecycle.conformance.kit.results import Deviation, Line, Report, Verdict
from wslifecycle.statemachine.difference import difference
from wslifecycle.statemachine.load import load_profile, load_spec

pytestmark = pytest.mark.xdist_group("servers")  # one at a time: they are judged by what they do in time

ROOT = Path(__file__).parents[1]
SPEC = load_spec()


def deviation(
    rule: str = "R28",
    verdict: Verdict = Verdict.MUST,
    seen: str = "receive() is pending",
    *,
    choice: str = "",
    answer: str = "",
) -> Deviation:
    trace = (Line("app", "receive()"), Line("peer", "> resets the connection", wrong=True))
    state, event = "closed/disconnect_due/running", "peer_lost"
    expected = "receive() gives websocket.disconnect"
    return Deviation(verdict, rule, state, event, expected, seen, "way:peer_lost", 3, 3, trace, "again", answer, choice)


def result(*deviations: Deviation, server: str = "other server") -> made.Result:
    answers = {"C2": "aborted", "C10": "none"}
    return made.Result(server, "other 1.0", "other {app} {port}", "2.4", (), 9, {"R28": 3}, answers, deviations, 1.5)


def report(*deviations: Deviation) -> Report:
    return Report("2026-11-27", (result(*deviations),))


def wslifecycle(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


# ------------------------------------------------------------------------------------------------ the command


def test_report_that_was_kept_is_shown_and_judged_again(tmp_path: Path) -> None:
    kept = tmp_path / "report.json"
    kept.write_text(report(deviation()).dump(), encoding="utf-8")
    html, junit, sarif = (tmp_path / f"r.{ending}" for ending in ("html", "xml", "sarif"))
    shown = wslifecycle("conformance", "--from", kept, "--html", html, "--junit", junit, "--sarif", sarif)
    assert shown.exit_code == 1
    assert "R28" in shown.output
    assert "<html" in html.read_text(encoding="utf-8")
    assert "<testsuites" in junit.read_text(encoding="utf-8")
    assert json.loads(sarif.read_text(encoding="utf-8"))["version"] == "2.1.0"
    kept.write_text(report(deviation("C2", Verdict.CHOICE)).dump(), encoding="utf-8")
    assert wslifecycle("conformance", "--from", kept).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Which server?"),
        (("nobody",), "There is no server 'nobody'"),
        (("--command", "server {app}"), "There is no {port}"),
        (("--write-baseline", "uvicorn"), "add --baseline"),
        (("--baseline", "nowhere.json", "uvicorn"), "cannot be read"),
        (("--from", __file__), "no report of the conformance kit"),
        (("--from", __file__, "uvicorn"), "goes without servers"),
        (("wslifecycle:start_server", "--case", "way:nothing"), "There is no case way:nothing"),
    ],
)
def test_misuse_is_said(arguments: tuple[str, ...], said: str) -> None:
    found = wslifecycle("conformance", *arguments)
    assert found.exit_code == 2
    assert said in found.output.replace("\n", " ")


def test_one_case_is_held_as_a_failure_says(tmp_path: Path) -> None:
    kept = tmp_path / "report.json"
    run = wslifecycle("conformance", "wslifecycle:start_server", "--case", "scenario:granian-591", "--json", kept)
    assert run.exit_code == 0, run.output
    (only,) = made.load_report(kept.read_text(encoding="utf-8")).results
    assert only.cases == 1
    assert "R20" in only.tried


def test_github_gets_annotations_of_what_is_new_only(tmp_path: Path) -> None:
    kept, baseline = tmp_path / "report.json", tmp_path / "baseline.json"
    kept.write_text(report(deviation()).dump(), encoding="utf-8")
    assert "::error" in wslifecycle("conformance", "--from", kept, "--github").output
    assert wslifecycle("conformance", "--from", kept, "--baseline", baseline, "--write-baseline").exit_code == 0
    again = wslifecycle("conformance", "--from", kept, "--baseline", baseline, "--github")
    assert again.exit_code == 0
    assert "::error" not in again.output
    kept.write_text(report(deviation(), deviation("R36", seen="HTTP 500")).dump(), encoding="utf-8")
    fresh = wslifecycle("conformance", "--from", kept, "--baseline", baseline, "--github")
    assert fresh.exit_code == 1
    assert "new: other server: must R36" in fresh.output
    kept.write_text(report().dump(), encoding="utf-8")
    assert "fixed: other server: R28" in wslifecycle("conformance", "--from", kept, "--baseline", baseline).output


def test_fuzz_and_diff_say_misuse() -> None:
    assert wslifecycle("fuzz").exit_code == 2
    assert wslifecycle("fuzz", "nobody").exit_code == 2
    assert wslifecycle("diff", "reference", "reference", "-o", "a.gif").exit_code == 2
    assert wslifecycle("diff", "reference", "nobody").exit_code == 2
    assert wslifecycle("pairs", "--only", "X99").exit_code == 2


# ------------------------------------------------------------------------------------------------ baselines


def test_baseline_there_and_back() -> None:
    found = report(deviation(), deviation("C2", Verdict.CHOICE))
    baseline = load_baseline(Baseline.of(found).dump())
    assert baseline.known == {"other server": frozenset({deviation().key})}
    assert compare(found, baseline).passed
    assert without(found, baseline).results[0].deviations == (deviation("C2", Verdict.CHOICE),)
    for text in ("", "{}", '{"format": 2, "known": {}}', "[]"):
        with pytest.raises(ValueError, match="no baseline"):
            load_baseline(text)


def test_report_there_and_back() -> None:
    found = report(deviation(), deviation("", Verdict.DIED, "the process died"))
    assert made.load_report(found.dump()) == found
    with pytest.raises(ValueError, match="no report"):
        made.load_report('{"format": 1}')


# ------------------------------------------------------------------------------------------------ profiles


def test_profile_has_what_was_measured_and_no_recipe(tmp_path: Path) -> None:
    died = deviation("", Verdict.DIED, "the process died")
    answered = deviation("R28", seen="C10 none", choice="C10", answer="none")
    text = profiles.write(result(deviation(), died, answered), "2026-11-27")
    assert text == profiles.write(result(deviation(), died, answered), "2026-11-27")
    path = tmp_path / profiles.file_name("other server")
    assert path.name == "other-server.yaml"
    path.write_text(text, encoding="utf-8")
    profile = load_profile(SPEC, str(path))
    assert (profile.server, profile.version, profile.measured) == ("other server", "other 1.0", "2026-11-27")
    assert (profile.spec_version, profile.extensions) == ("2.4", ())
    assert {choice: answer for choice, answer in profile.answers.items() if answer != SPEC.reference[choice]} == {
        "C2": "aborted",
        "C10": "none",
    }
    assert [(one.rule, one.seen) for one in profile.deviations] == [
        ("R28", "receive() is pending"),
        ("", "the process died"),
    ]
    assert profile.deviations[1].event == profile.deviations[1].state == ""


@pytest.mark.parametrize("file", sorted((ROOT / "spec" / "profiles").glob("*.yaml")), ids=lambda file: file.stem)
def test_measured_profile_can_be_compiled_drawn_and_compared(file: Path) -> None:
    schema = json.loads((ROOT / "spec" / "lifecycle.schema.json").read_text(encoding="utf-8"))
    profile = {"$ref": "#/$defs/profile", "$defs": schema["$defs"]}
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), profile)
    drawn = wslifecycle("draw", "--profile", file.stem, "--format", "dot")
    assert drawn.exit_code == 0
    assert "digraph" in drawn.output
    assert wslifecycle("diff", "reference", file.stem).exit_code == (0 if "start-server" in file.stem else 1)


def test_there_are_profiles_of_every_server() -> None:
    names = {file.stem for file in (ROOT / "spec" / "profiles").glob("*.yaml")}
    assert {"hypercorn", "daphne", "granian", "gunicorn", "uvicorn-wsproto", "uvicorn-websockets"} <= names
    assert {
        "uvicorn-websockets-sansio",
        "wslifecycle-h11",
        "wslifecycle-httptools",
        "wslifecycle-start-server",
    } <= names


def test_difference_tells_choices_deeds_and_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(profiles.write(result(deviation()), "2026-11-27"), encoding="utf-8")
    told = wslifecycle("diff", "reference", path, "-o", tmp_path / "both.svg")
    assert told.exit_code == 1
    assert "advertised spec_version: 2.5 and 2.4" in told.output
    assert f"{path}: none (breaks R28)" in told.output
    assert "app_return in open/" in told.output
    assert "was seen to do [R28 must]" in told.output
    assert "both.svg" not in told.output
    svg = (tmp_path / "both.svg").read_text(encoding="utf-8")
    assert "only reference" in svg
    assert "silent" in svg  # the trap
    plain = json.loads(wslifecycle("diff", "reference", path, "--json").output)
    assert {chosen["number"] for chosen in plain["choices"]} == {"C2", "C10"}
    same = difference(SPEC, load_profile(SPEC, "reference"), load_profile(SPEC, "reference"))
    assert not same
    assert wslifecycle("diff", "reference", "reference").exit_code == 0


# ------------------------------------------------------------------------------------------------ pairs and releases


def test_pairs_of_the_package_name_rules_that_there_are() -> None:
    every = pairs.packaged()
    assert len(every) == 38
    assert all(pair.numbers for pair in every)
    assert all(number in SPEC.rules or number in SPEC.choices for pair in every for number in pair.numbers)


def test_bug_is_found_where_only_the_buggy_release_deviates_on_its_rule() -> None:
    pair = replace(pairs.packaged()[0], numbers=frozenset({"R28"}))
    judged = pairs.judge(pair, result(deviation()), result())
    assert (judged.outcome, len(judged.shown)) == (pairs.Outcome.FOUND, 1)
    assert pairs.judge(pair, result(deviation("R36")), result()).outcome is pairs.Outcome.ELSEWHERE
    assert pairs.judge(pair, result(deviation()), result(deviation())).outcome is pairs.Outcome.NOT_FOUND
    alarm = pairs.judge(pair, result(), result(deviation("R36")))
    assert [found.rule for found in alarm.alarms] == ["R36"]
    assert "only in 2.3.2" in alarm.text()
    held_back = pairs.load_pairs(",".join(pairs.COLUMNS) + "\nX1,granian,,1,2,granian==1,granian==2,a bug\n")
    assert pairs.judge(held_back[0], result(deviation("R36")), result()).outcome is pairs.Outcome.FOUND
    with pytest.raises(ValueError, match="no column"):
        pairs.load_pairs("id,server\n")


def test_page_of_releases_tells_no_recipe() -> None:
    page = releases.page(report(deviation(), deviation("", Verdict.DIED, "the process died")))
    assert page.startswith("<!-- Generated")
    assert "| other server | other 1.0 | 2.4 | 1 |" in page
    assert "**R28 must, ASGI, Disconnect - receive event**" in page
    died = next(line for line in page.splitlines() if "the process died" in line)
    assert "peer_lost" not in died


# ------------------------------------------------------------------------------------------------ the plugin


def test_plugin_tries_a_server_among_other_tests(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine():\n    pass\n", encoding="utf-8")
    options = ["--wslifecycle-server", "wslifecycle:start_server", "--wslifecycle-fuzz", "1"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout
    assert "failed" not in run.stdout


def test_plugin_says_what_it_cannot_try(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--wslifecycle-server",
        "nobody",
        str(tmp_path),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 4
    assert "There is no server 'nobody'" in run.stdout + run.stderr
