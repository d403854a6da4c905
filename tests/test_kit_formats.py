"""A report for the machines of others: JUnit XML, SARIF, annotations of GitHub; each is read as its readers do."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib import resources
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

import wslifecycle
from tests.reports import BROKEN, CHOICES, EMPTY, EVERY, HEAVY, REPORT, SPEC, WILD, choice, deviation, result
from wslifecycle.conformance.kit.formats import github, junit, sarif
from wslifecycle.conformance.kit.results import Deviation, Report, Result, Verdict
from wslifecycle.conformance.kit.wording import visible

LEVELS = {Verdict.SHOULD: "warning", Verdict.CHOICE: "note"}


def of(*results: Result) -> Report:
    return Report("2026-11-27", results)


def deviations(report: Report) -> list[Deviation]:
    return [found for one in report.results for found in one.deviations]


# ------------------------------------------------------------------------------------------------ JUnit

SHAPE: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"name", "tests", "failures", "errors", "time", "timestamp", "skipped", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": (
        {"name"},
        {"name", "time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
"""What Jenkins takes: for each element what it must have, what it may have, and what it may hold."""


def suites(report: Report) -> dict[str, ElementTree.Element]:
    return {suite.get("name", ""): suite for suite in ElementTree.fromstring(junit(report).encode())}


def case(report: Report, number: str) -> ElementTree.Element:
    """The test of a rule of the first server."""
    suite = ElementTree.fromstring(junit(report).encode())[0]
    (found,) = (one for one in suite.iter("testcase") if one.get("name", "").startswith(f"{number} "))
    return found


class TestJUnit:
    @pytest.mark.parametrize("name", EVERY)
    def test_it_has_the_shape_that_jenkins_takes(self, name: str) -> None:
        root = ElementTree.fromstring(junit(EVERY[name]).encode())
        assert root.tag == "testsuites"
        for element in root.iter():
            must, may, holds = SHAPE[element.tag]
            assert must <= set(element.keys()) <= may, element.tag
            assert {child.tag for child in element} <= holds, element.tag
        for element in root.iter("testsuite"):
            assert re.fullmatch(r"\d+\.\d{3}", element.get("time", ""))
        for element in (root, *root):
            cases = list(element.iter("testcase"))
            errors = sum(one.find("error") is not None for one in cases)
            failures = sum(one.find("failure") is not None for one in cases)
            counted = (len(cases), failures, errors)
            assert tuple(int(element.get(key, "")) for key in ("tests", "failures", "errors")) == counted

    def test_there_is_a_suite_for_each_server_and_a_test_for_each_rule_tried(self) -> None:
        found = suites(REPORT)
        assert list(found) == ["alpha", "beta h11", "gamma", "delta"]
        for name, more in (("alpha", ["W7"]), ("beta h11", []), ("gamma", [])):
            names = [one.get("name", "").split()[0] for one in found[name].iter("testcase")]
            assert names == ["process", *list(SPEC.rules)[:60], *more]
        assert found["delta"].get("tests") == "0"
        assert found["alpha"].get("timestamp") == "2026-11-27T00:00:00"

    def test_a_must_and_a_should_fail_with_all_about_them(self) -> None:
        first, second = case(REPORT, "R28")
        assert (first.tag, first.get("type"), second.get("type")) == ("failure", "must", "must")
        assert {first.get("message"), second.get("message")} == {
            "what R28 expects expected, what R28 sees seen",
            "what R28 expects expected, the code is 1005 seen",
        }
        for line in (
            "seen: what R28 sees",
            "where: open/flowing/running, at app_return",
            "runs: 2 of 3; 2 other cases show it, too",
            f"repeat: {BROKEN[0].repeat}",
            "   app    send() returned",
            "=> peer   < close 1006",
        ):
            assert line in (first.text or "").splitlines() + (second.text or "").splitlines()
        assert [one.get("type") for one in case(REPORT, "R43")] == ["should"]

    def test_a_process_that_is_at_fault_is_an_error(self) -> None:
        found = case(REPORT, "process")
        assert [(one.tag, one.get("type")) for one in found] == [
            ("error", verdict) for verdict in ("died", "hung", "crashed")
        ]
        assert (found[0].text or "").endswith("log:\none\n\\x1b[31mSegmentation fault")

    def test_a_test_that_has_both_counts_as_an_error(self) -> None:
        both = (deviation(Verdict.CRASHED, "R28"), deviation(Verdict.MUST, "R28"))
        (suite,) = suites(of(result("some", *both))).values()
        assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
        assert [one.tag for one in case(of(result("some", *both)), "R28")] == ["error", "failure"]

    def test_choices_fail_nowhere(self) -> None:
        (suite,) = suites(of(result("some", *CHOICES))).values()
        assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
        properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
        assert (properties["C2"], properties["C42"], properties["C3"]) == ("aborted", "unanswered", "close_1011")
        assert (suite.findtext("system-out") or "").splitlines() == [
            "R52 choice: what R52 expects expected, what R52 sees seen",
            "C2 choice: close_1000 expected, aborted seen",
            "C42 choice: answered expected, unanswered seen",
        ]
        assert not any(one.get("name", "").startswith("C") for one in suite.iter("testcase"))

    def test_a_server_is_told_by_its_properties(self) -> None:
        properties = {one.get("name"): one.get("value") for one in suites(REPORT)["alpha"].iter("property")}
        assert properties["version"] == "server 1.2.3, parts 4.5"
        assert properties["spec_version"] == "2.4"
        assert properties["not asked: probe:too big"] == "there is no option for max_size"

    def test_text_of_others_comes_through(self) -> None:
        suite = ElementTree.fromstring(junit(WILD).encode())[0]
        found = WILD.results[0].deviations[0]
        assert suite.get("name") == visible(WILD.results[0].server)
        (failure,) = case(WILD, "R28")
        assert f"repeat: {visible(found.repeat)}" in (failure.text or "").splitlines()


# ------------------------------------------------------------------------------------------------ SARIF


def only(**properties: Any) -> dict[str, Any]:
    """An object with these keys and no others; those whose name ends in `_` need not be there."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.rstrip("_"): shape for key, shape in properties.items()},
        "required": [key for key in properties if not key.endswith("_")],
    }


TEXT = {"type": "string", "minLength": 1}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
DESCRIPTOR = only(
    id=TEXT,
    shortDescription=only(text=TEXT),
    defaultConfiguration=only(level=LEVEL),
    properties=only(tags={"type": "array", "uniqueItems": True, "items": TEXT}),
)
PLACE = only(
    physicalLocation=only(
        artifactLocation=only(uri={"const": "spec/lifecycle.yaml"}),
        region=only(startLine={"type": "integer", "minimum": 1}),
    ),
    logicalLocations={"type": "array", "minItems": 1, "items": only(name=TEXT, fullyQualifiedName=TEXT)},
)
RESULT = only(
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    message=only(text=TEXT),
    locations={"type": "array", "items": PLACE},
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
)
DRIVER = only(name=TEXT, version=TEXT, rules={"type": "array", "uniqueItems": True, "items": DESCRIPTOR})
RUN = only(
    tool=only(driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
LOG = only(**{"$schema": TEXT}, version={"const": "2.1.0"}, runs={"type": "array", "minItems": 1, "items": RUN})
"""The part of the schema of SARIF 2.1.0 that we use."""


def run(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sarif(report))["runs"][0]
    return found


class TestSarif:
    @pytest.mark.parametrize("name", EVERY)
    def test_it_is_sound(self, name: str) -> None:
        text = sarif(EVERY[name])
        text.encode()
        jsonschema.Draft202012Validator(LOG).validate(json.loads(text))
        found = run(EVERY[name])
        rules = found["tool"]["driver"]["rules"]
        assert max(Counter(rule["id"] for rule in rules).values()) == 1
        assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in found["results"])

    def test_the_tool_is_ours(self) -> None:
        driver = run(EMPTY)["tool"]["driver"]
        assert (driver["name"], driver["version"]) == ("wslifecycle", wslifecycle.__version__)
        assert run(EMPTY)["results"] == []

    def test_each_rule_tried_is_described(self) -> None:
        rules = {rule["id"]: rule for rule in run(REPORT)["tool"]["driver"]["rules"]}
        assert rules.keys() == {*list(SPEC.rules)[:60], *SPEC.choices, "W7", "died", "hung", "crashed"}
        assert rules["R28"]["shortDescription"]["text"] == SPEC.rules["R28"].says
        levels = {
            number: rules[number]["defaultConfiguration"]["level"] for number in ("R20", "R28", "R43", "R52", "C2")
        }
        assert levels == {"R20": "error", "R28": "error", "R43": "warning", "R52": "note", "C2": "note"}
        assert not any("helpUri" in rule for rule in rules.values())

    def test_each_deviation_is_a_result(self) -> None:
        found = run(REPORT)["results"]
        expected = Counter(
            (deviation.rule or str(deviation.verdict), LEVELS.get(deviation.verdict, "error"))
            for deviation in deviations(REPORT)
        )
        assert Counter((one["ruleId"], one["level"]) for one in found) == expected

    def test_a_result_says_where_and_what(self) -> None:
        (found,) = run(of(result("some", BROKEN[0])))["results"]
        for text in ("some: R28 must", "what R28 expects", "what R28 sees", "2 of 3", BROKEN[0].repeat):
            assert text in found["message"]["text"]
        (place,) = found["locations"]
        line = place["physicalLocation"]["region"]["startLine"]
        assert line == SPEC.rules["R28"].line
        assert place["logicalLocations"] == [
            {"name": "open/flowing/running", "fullyQualifiedName": "some/open/flowing/running"}
        ]
        (heavy,) = run(of(result("some", HEAVY[0])))["results"]
        assert heavy["locations"][0]["logicalLocations"] == [{"name": "some", "fullyQualifiedName": "some"}]

    def test_the_line_is_the_one_of_the_rule_in_the_file(self) -> None:
        (found,) = run(of(result("some", choice("C42", "unanswered"))))["results"]
        line = found["locations"][0]["physicalLocation"]["region"]["startLine"]
        text = (resources.files("wslifecycle") / "spec" / "lifecycle.yaml").read_text(encoding="utf-8")
        assert text.splitlines()[line - 1].strip().startswith("C42:")

    def test_a_fingerprint_is_of_the_server_and_the_key_and_of_no_data(self) -> None:
        one = deviation(Verdict.MUST, "R28")
        other = deviation(Verdict.MUST, "R28", case="another", trace=(), times=1, repeat="another")
        prints = [
            run(of(result(server, found)))["results"][0]["partialFingerprints"]
            for server, found in (
                ("some", one),
                ("some", other),
                ("more", one),
                ("some", deviation(Verdict.MUST, "R27")),
            )
        ]
        assert prints[0] == prints[1]
        for key in ("deviation/v1", "primaryLocationLineHash"):
            assert len({found[key] for found in prints}) == 3
        assert prints[0]["deviation/v1"] == f"some: {one.key}"


# ------------------------------------------------------------------------------------------------ GitHub


def commands(report: Report) -> list[tuple[str, str, str]]:
    """The commands as a runner of GitHub reads them: level, title, message."""

    def plain(text: str) -> str:
        for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(code, char)
        return text

    found = []
    for line in github(report).splitlines():
        read = re.fullmatch("::(error|warning|notice) title=([^:,]+)::(.+)", line)
        assert read, line
        found.append((read[1], plain(read[2]), plain(read[3])))
    return found


class TestGitHub:
    def test_levels_are_those_of_the_verdicts(self) -> None:
        assert [(level, title) for level, title, _ in commands(REPORT)] == [
            ("error", "alpha: died"),
            ("error", "alpha: hung"),
            ("error", "alpha: crashed"),
            ("error", "alpha: R28 must"),
            ("error", "alpha: R28 must"),
            ("error", "alpha: W7 must"),
            ("warning", "alpha: R43 should"),
            ("warning", "beta h11: R1 should"),
            ("notice", "wslifecycle conformance"),
        ]

    def test_a_message_says_it_all(self) -> None:
        ((_, _, message),) = commands(of(result("some", BROKEN[0])))
        assert message.splitlines() == [
            SPEC.rules["R28"].says,
            "expected: what R28 expects",
            "seen: what R28 sees",
            "where: open/flowing/running, at app_return",
            "runs: 2 of 3; 2 other cases show it, too",
            f"repeat: {BROKEN[0].repeat}",
        ]

    def test_choices_are_only_counted(self) -> None:
        ((level, _, message),) = commands(of(result("some", *CHOICES), result("other", CHOICES[0])))
        assert (level, message) == ("notice", "4 choices are answered otherwise than by the reference.")

    def test_without_anything_there_is_nothing(self) -> None:
        assert github(of(result("some"))) == github(EMPTY) == ""

    def test_no_text_begins_a_command_of_its_own(self) -> None:
        found = commands(WILD)
        assert [title for _, title, _ in found[2:4]] == ["a/b#c?d%e=%f,g:h: R28 should", "a/b#c?d%e=%f,g:h: R28 must"]
        assert "seen: ::error::100%0A\\r\nmore, of: it\n" in found[2][2]
        assert found[0][1] == f"{visible(WILD.results[0].server)}: R28 must"
