"""A report for the machines of others: JUnit XML, SARIF, annotations of GitHub. `Report.dump` is its JSON.

What breaks a must or a should fails in all of them; a server that dies, hangs or crashes is an error; a choice is told
and fails nowhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any
from xml.etree import ElementTree

from wslifecycle.conformance.kit.results import Deviation, Report, Result, Verdict
from wslifecycle.conformance.kit.wording import about, heaviest_first, numbers, often, plural, title, visible, where

SPEC_FILE = "spec/lifecycle.yaml"
"""Where the rules are written down."""

LEVELS = {Verdict.SHOULD: "warning", Verdict.CHOICE: "note"}
"""The levels of SARIF and GitHub; every other verdict is an `error`."""


def _says(deviation: Deviation) -> list[str]:
    """A deviation in lines that stand alone."""
    lines = [
        f"expected: {deviation.expected}",
        f"seen: {deviation.seen}",
        f"where: {where(deviation)}" if where(deviation) else "",
        f"runs: {often(deviation)}",
        f"repeat: {deviation.repeat}",
    ]
    return [visible(line) for line in lines if line]


# ------------------------------------------------------------------------------------------------ JUnit


def junit(report: Report) -> str:
    """The report as JUnit XML, in the shape that Jenkins takes: a suite for each server, a test for each rule tried."""
    suites = [_suite(result, report.date) for result in report.results]
    totals = {name: str(sum(int(suite.get(name, 0)) for suite in suites)) for name in ("tests", "failures", "errors")}
    seconds = sum(result.seconds for result in report.results)
    name = {"name": "wslifecycle conformance", "time": f"{seconds:.3f}"}
    root = ElementTree.Element("testsuites", name | totals)
    root.extend(suites)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(result: Result, date: str) -> ElementTree.Element:
    """Everything about one server."""
    rules = [number for number in numbers([result]) if about(number).level != "choice" or _wrong(result, number)]
    cases = [_testcase(result, number) for number in rules]
    failures = sum(case.find("failure") is not None and case.find("error") is None for case in cases)
    errors = sum(case.find("error") is not None for case in cases)
    suite = ElementTree.Element(
        "testsuite",
        name=visible(result.server),
        tests=str(len(cases)),
        failures=str(failures),
        errors=str(errors),
        time=f"{result.seconds:.3f}",
        timestamp=f"{visible(date)}T00:00:00",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (
        ("version", result.version),
        ("command", result.command),
        ("spec_version", result.spec_version),
        ("extensions", ", ".join(result.extensions)),
        ("cases", str(result.cases)),
        *result.answers.items(),
        *((f"not asked: {key}", why) for key, why in result.unasked.items()),
    ):
        ElementTree.SubElement(properties, "property", name=visible(key), value=visible(value))
    suite.extend(cases)
    choices = [
        f"{title(found)}: {found.expected} expected, {found.answer or found.seen} seen"
        for found in heaviest_first(result.deviations)
        if found.verdict is Verdict.CHOICE
    ]
    if choices:
        ElementTree.SubElement(suite, "system-out").text = visible("\n".join(choices))
    return suite


def _wrong(result: Result, number: str) -> list[Deviation]:
    """What was found about a number that is more than a choice."""
    return [found for found in heaviest_first(result.of_rule(number)) if found.verdict is not Verdict.CHOICE]


def _testcase(result: Result, number: str) -> ElementTree.Element:
    """A rule that was tried."""
    rule = about(number)
    case = ElementTree.Element(
        "testcase",
        classname=f"wslifecycle.{visible(result.server)}",
        name=f"{visible(number) or 'process'} {_short(rule.says)}",
    )
    for found in _wrong(result, number):
        kind = "failure" if found.verdict.weight >= Verdict.MUST.weight else "error"
        message = visible(f"{found.expected} expected, {found.seen} seen")
        element = ElementTree.SubElement(case, kind, type=str(found.verdict), message=message)
        element.text = visible("\n".join([*_says(found), "", *_traced(found), *_logged(found)]))
    return case


def _traced(deviation: Deviation) -> Iterator[str]:
    for line in deviation.trace:
        yield f"{'=> ' if line.wrong else '   '}{line.side:6} {line.text}"


def _logged(deviation: Deviation) -> list[str]:
    return ["", "log:", deviation.log.strip()] if deviation.log.strip() else []


def _short(says: str, most: int = 80) -> str:
    """The first words of a rule."""
    return says if len(says) <= most else says[:most].rpartition(" ")[0].rstrip(",;:.") + " …"


# ------------------------------------------------------------------------------------------------ SARIF


def sarif(report: Report) -> str:
    """The report as SARIF 2.1.0: one run, with a result for each deviation of each server."""
    rules = [_descriptor(number) for number in numbers(report.results) if number]
    rules += [_of_process(verdict) for verdict in Verdict if verdict.weight < Verdict.MUST.weight]
    index = {rule["id"]: place for place, rule in enumerate(rules)}
    results = [
        _sarif_result(result, found, index) for result in report.results for found in heaviest_first(result.deviations)
    ]
    driver = {"name": "wslifecycle", "version": version("wslifecycle"), "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False) + "\n"


SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
"""The name of the format's schema."""


def _descriptor(number: str) -> dict[str, Any]:
    rule = about(number)
    level = {"should": "warning", "must": "error", "definition": "error"}.get(rule.level, "note")
    properties = {"tags": [tag for tag in (rule.level, rule.place) if tag]}
    return {
        "id": visible(number),
        "shortDescription": {"text": rule.says},
        "defaultConfiguration": {"level": level},
        "properties": properties,
    }


def _of_process(verdict: Verdict) -> dict[str, Any]:
    """What stands for a rule where the process of a server is at fault."""
    says = {
        Verdict.DIED: "The server's process lives on.",
        Verdict.HUNG: "The server answers others.",
        Verdict.CRASHED: "The server logs no traceback or panic that no app caused.",
    }
    return {
        "id": str(verdict),
        "shortDescription": {"text": says[verdict]},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["process"]},
    }


def _sarif_result(result: Result, found: Deviation, index: dict[str, int]) -> dict[str, Any]:
    server, rule = visible(result.server), visible(found.rule) or str(found.verdict)
    key = f"{server}: {visible(found.key)}"
    state = visible(found.state)
    logical = {"name": state or server, "fullyQualifiedName": f"{server}/{state}" if state else server}
    place = {
        "physicalLocation": {
            "artifactLocation": {"uri": SPEC_FILE},
            "region": {"startLine": about(found.rule).line},
        },
        "logicalLocations": [logical],
    }
    return {
        "ruleId": rule,
        "ruleIndex": index[rule],
        "level": LEVELS.get(found.verdict, "error"),
        "message": {"text": f"{server}: {title(found)}\n" + "\n".join(_says(found))},
        "locations": [place],
        "partialFingerprints": {
            "deviation/v1": key,
            "primaryLocationLineHash": hashlib.sha256(key.encode()).hexdigest(),
        },
    }


# ------------------------------------------------------------------------------------------------ GitHub


def github(report: Report) -> str:
    """The report as commands of a GitHub workflow, a line each: errors, warnings, and how many choices there are."""
    lines = []
    choices = 0
    for result in report.results:
        for found in heaviest_first(result.deviations):
            if found.verdict is Verdict.CHOICE:
                choices += 1
            else:
                level = LEVELS.get(found.verdict, "error")
                lines.append(
                    _command(
                        level, f"{visible(result.server)}: {title(found)}", [about(found.rule).says, *_says(found)]
                    )
                )
    if choices:
        text = f"{plural(choices, 'choice is', 'choices are')} answered otherwise than by the reference."
        lines.append(_command("notice", "wslifecycle conformance", [text]))
    return "".join(f"{line}\n" for line in lines)


def _command(level: str, name: str, text: Sequence[str]) -> str:
    message = _escaped("\n".join(text))
    return f"::{level} title={_escaped(name).replace(':', '%3A').replace(',', '%2C')}::{message}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
