"""A report as one HTML page: servers by rules, each cell with what was found, its traces as sequence diagrams.

The page is whole: style, script and data are inlined, and its policy forbids every connection and every script but its
own. The table is made here; the script filters it and opens the details, which it makes of the data.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from string import Template
from typing import Any

from wslifecycle.conformance.kit.results import Deviation, Line, Report, Result, Verdict
from wslifecycle.conformance.kit.wording import (
    About,
    about,
    concerned,
    heaviest_first,
    numbers,
    often,
    plural,
    visible,
    where,
)

PROCESS = "process"
"""The row of what no rule speaks of."""

HELD = "✓"
GLYPHS: Mapping[Verdict, str] = {
    Verdict.DIED: "●",
    Verdict.HUNG: "◐",
    Verdict.CRASHED: "◆",
    Verdict.MUST: "✕",
    Verdict.SHOULD: "▲",
    Verdict.CHOICE: "◇",
}
"""What tells the verdicts apart where colours do not."""

WORDS: Mapping[Verdict, str] = {
    Verdict.DIED: "The server's process ended.",
    Verdict.HUNG: "The server answered nobody any more.",
    Verdict.CRASHED: "The server's log has a traceback or a panic that no app caused.",
    Verdict.MUST: "A must or a definition of the documents is broken.",
    Verdict.SHOULD: "A should of the documents is broken.",
    Verdict.CHOICE: "The documents are silent, and the server does otherwise than the reference. That is no fault.",
}

GROUPS = {
    PROCESS: ("Process", "of the server"),
    "R": ("R", "ASGI"),
    "W": ("W", "RFC 6455 and RFC 7692"),
    "C": ("C", "Choices, where the documents are silent"),
}
"""The rows in groups: by the first letter of their number."""


def page(report: Report) -> str:
    """The report as the text of an HTML page. The same report gives the same text."""
    results = [replace(result, deviations=tuple(heaviest_first(result.deviations))) for result in report.results]
    report = replace(report, results=tuple(results))
    style = f":root {{ --servers: {len(report.results)}; }}\n{_file('matrix.css')}"
    script = _file("matrix.js")
    rows = numbers(report.results)
    return Template(_file("matrix.html")).substitute(
        date=_text(report.date),
        policy=_policy(style, script),
        style=style,
        script=script,
        summary=_summary(report),
        words="".join(f"<dt>{_mark(verdict)} {verdict}</dt><dd>{_text(says)}</dd>" for verdict, says in WORDS.items()),
        filters=_filters(report, rows),
        table=_table(report, rows) if report.results else '<p class="none">No server was tried.</p>',
        data=_data(report, rows),
    )


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing is loaded, nothing is sent, and no style or script but these is obeyed."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _text(text: str) -> str:
    """Text of others as markup, within elements and attributes."""
    return escape(visible(text))


def _name(text: str) -> str:
    """A name such as `close_1000`, which may be broken behind each underscore."""
    return _text(text).replace("_", "_<wbr>")


def _mark(verdict: Verdict) -> str:
    return f'<span class="glyph" aria-hidden="true">{GLYPHS[verdict]}</span>'


def _summary(report: Report) -> str:
    cases = sum(result.cases for result in report.results)
    parts = [
        report.date,
        plural(len(report.results), "server"),
        plural(cases, "case"),
        "passed" if report.passed else "not passed",
    ]
    return _text(" · ".join(filter(None, parts)))


def _filters(report: Report, rows: Sequence[str]) -> str:
    """One chip for each verdict that there is, with how many rules have it."""
    verdicts = Counter(verdict for row in rows for verdict in _verdicts(report, row))
    different = sum(bool(_verdicts(report, row)) for row in rows)
    chips = [_chip("all", "all", len(rows), checked=True), _chip("different", "differences", different)]
    chips += [
        _chip(verdict, f"{_mark(verdict)} {verdict}", verdicts[verdict]) for verdict in Verdict if verdicts[verdict]
    ]
    return "".join(chips)


def _chip(value: str, name: str, number: int, *, checked: bool = False) -> str:
    state = " checked" if checked else ""
    return (
        f'<label class="chip"><input type="radio" name="show" value="{value}"{state}>'
        f"<span>{name} <b>{number}</b></span></label>"
    )


def _verdicts(report: Report, row: str) -> list[Verdict]:
    """The verdicts in a row, the heaviest first."""
    found = {deviation.verdict for result in report.results for deviation in _found(result, row)}
    return sorted(found, key=lambda verdict: verdict.weight)


def _found(result: Result, row: str) -> list[Deviation]:
    """What the cell of a server in a row has."""
    return [deviation for deviation in result.deviations if row in concerned(deviation)]


# ------------------------------------------------------------------------------------------------ the table


def _table(report: Report, rows: Sequence[str]) -> str:
    columns = "<col>" * len(report.results)
    heads = "".join(
        f'<th scope="col"><button type="button" class="server" data-server="{place}" aria-haspopup="dialog">'
        f"<b>{_text(result.server)}</b><small>{_text(result.version)}</small></button></th>"
        for place, result in enumerate(report.results)
    )
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row[:1] or PROCESS, []).append(_row(report, row))
    bodies = "".join(_group(name, len(report.results), "".join(lines)) for name, lines in groups.items())
    return (
        f'<table><caption class="unseen">What each server does about each rule</caption>'
        f'<colgroup><col class="rule">{columns}</colgroup>'
        f'<thead><tr><th scope="col">rule</th>{heads}</tr></thead>{bodies}</table>'
    )


def _group(name: str, columns: int, lines: str) -> str:
    letter, says = GROUPS.get(name, (name, "not known to this release"))
    head = f'<th scope="rowgroup" colspan="{columns + 1}"><span><b>{_text(letter)}</b> {says}</span></th>'
    return f'\n<tbody><tr class="group">{head}</tr>{lines}</tbody>'


def _row(report: Report, row: str) -> str:
    rule, name = about(row), _text(row or PROCESS)
    verdicts = " ".join(_verdicts(report, row))
    cells = "".join(f"<td>{_cell(place, result, row)}</td>" for place, result in enumerate(report.results))
    level = "" if rule.level in ("choice", "process") else rule.level
    return (
        f'\n<tr data-rule="{name}" data-verdicts="{verdicts}"><th scope="row">'
        f'<button type="button" class="about" data-rule="{name}" aria-haspopup="dialog">'
        f'<span class="number">{name if row else ""}</span> <span class="level">{level}</span> '
        f'<span class="says">{_text(rule.says)}</span></button></th>{cells}</tr>'
    )


def _cell(place: int, result: Result, row: str) -> str:
    """The heaviest verdict, that the rule is held, the answer to a choice, or nothing."""
    found = _found(result, row)
    cases = result.tried.get(row, 0) if row else result.cases
    if found:
        verdict = found[0].verdict
        what = result.answers.get(row) or (found[0].answer if row == found[0].choice else "") or str(verdict)
        many = f' <span class="many">×{len(found)}</span>' if len(found) > 1 else ""
        says = "" if what == verdict else f'<span class="unseen">, {verdict}</span>'
        return (
            f'<button type="button" class="cell {verdict}" data-server="{place}" data-rule="{_text(row or PROCESS)}" '
            f'aria-haspopup="dialog"><span class="unseen">{_text(result.server)}, {_text(row or PROCESS)}: </span>'
            f'{_mark(verdict)}<span class="what">{_name(what)}{says}</span>{many}</button>'
        )
    if row in result.answers or cases:
        many = f' <span class="many">{cases:,}</span>' if cases else ""
        return (
            f'<span class="cell held" title="held in {plural(cases, "case")}"><span class="glyph" aria-hidden="true">'
            f'{HELD}</span><span class="what">{_name(result.answers.get(row, "held"))}</span>{many}</span>'
        )
    return ""


# ------------------------------------------------------------------------------------------------ the data


def _data(report: Report, rows: Sequence[str]) -> str:
    """What the script makes the details of, in a form that cannot end its element."""
    names = _names(report.results)
    data = {
        "servers": [_server(result, name) for result, name in zip(report.results, names, strict=True)],
        "rules": {visible(row) or PROCESS: _rule(about(row)) for row in rows},
        "glyphs": GLYPHS,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _names(results: Sequence[Result]) -> Iterator[str]:
    """What the servers are called in links: the second of one name is `name (2)`."""
    seen: Counter[str] = Counter()
    for result in results:
        name = visible(result.server)
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def _rule(rule: About) -> dict[str, str]:
    return {"level": rule.level, "place": visible(rule.place), "says": rule.says}


def _server(result: Result, name: str) -> dict[str, Any]:
    facts = {
        "version": result.version,
        "started with": result.command,
        "spec_version": result.spec_version,
        "extensions": ", ".join(result.extensions) or "none",
        "cases": f"{result.cases:,} in {result.seconds:.1f} s",
    }
    return {
        "id": name,
        "name": visible(result.server),
        "facts": [[key, visible(value)] for key, value in facts.items()],
        "unasked": [[visible(what), visible(why)] for what, why in result.unasked.items()],
        "found": [_deviation(deviation) for deviation in result.deviations],
    }


def _deviation(deviation: Deviation) -> dict[str, Any]:
    facts = {
        "expected": deviation.expected,
        "seen": deviation.seen,
        "where": where(deviation),
        "runs": often(deviation),
        "case": deviation.case,
    }
    return {
        "verdict": deviation.verdict,
        "concerns": [visible(number) or PROCESS for number in sorted(concerned(deviation), key=_choices_last)],
        "facts": [[key, visible(value)] for key, value in facts.items()],
        "repeat": visible(deviation.repeat),
        "trace": [_line(line) for line in deviation.trace],
        "cases": [visible(case) for case in deviation.cases],
        "log": visible(deviation.log.strip()),
    }


def _choices_last(number: str) -> tuple[bool, str]:
    return number.startswith("C"), number


def _line(line: Line) -> dict[str, Any]:
    """A line of a trace, with the way of its arrow: `in` to the server, `out` of it, or none."""
    text, way = line.text, ""
    if line.side == "peer" and text[:2] in ("> ", "< "):
        text, way = text[2:], "in" if text[0] == ">" else "out"
    elif line.side == "app" and text.startswith(("receive() ", "send() ", "is ", "scope[")):
        way = "out"
    elif line.side == "app" and text.startswith(("receive()", "send(")):
        way = "in"
    return {"side": line.side, "way": way, "text": visible(text), "wrong": line.wrong}
