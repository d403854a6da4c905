"""A report as text: what each server did, every deviation with its trace, and how it answers the choices.

It reads well without colour and from 100 columns on. The command that repeats a case is never broken by us, so that it
can be copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from wslifecycle.conformance.kit.results import Deviation, Line, Report, Result, Verdict
from wslifecycle.conformance.kit.wording import about, counts, heaviest_first, often, plural, title, visible, where

STYLES = {
    Verdict.DIED: "bold white on red",
    Verdict.HUNG: "bold white on red",
    Verdict.CRASHED: "bold white on red",
    Verdict.MUST: "bold red",
    Verdict.SHOULD: "bold yellow",
    Verdict.CHOICE: "bold blue",
}
"""How each verdict is coloured."""

MARK = "✗"
"""Stands before the line of a trace where the paths part."""

MIDDLE = Box("\n".join(["    ", "  │ ", "    ", "  │ ", *["    "] * 2, "  │ ", "    "]))
"""Nothing but a line between the columns."""

LOGGED = 12
"""So many lines of a server's log are shown at most, the last ones."""


def show(report: Report, console: Console) -> None:
    """Prints a report; colour and width are the console's."""
    for result in report.results:
        console.print(_summary(result))
    if not report.results:
        console.print("No server was tried.")
        return
    console.print(_verdicts(report.results))
    for result in report.results:
        if result.deviations or result.unasked:
            console.print(Rule(Text(visible(result.server), "bold"), align="left", style="dim"))
        last = None
        for deviation in heaviest_first(result.deviations):
            if deviation.verdict is not Verdict.CHOICE:
                _tell(deviation, console, said=deviation.rule == last)
                last = deviation.rule
        if any(deviation.verdict is Verdict.CHOICE for deviation in result.deviations):
            console.print()
            console.print(_choices(result))
        for name, why in result.unasked.items():
            console.print(Text(f"Not asked: {visible(name)}: {visible(why)}"))
    console.print(Text("PASS", "bold green") if report.passed else Text("FAIL", "bold red"))


# ------------------------------------------------------------------------------------------------ in short


def _summary(result: Result) -> Text:
    """What was tried, and how much was found, in a line or two."""
    extensions = f" and {', '.join(result.extensions)}" if result.extensions else ""
    clean = Text("as the reference", "green") if result.cases else Text("nothing was tried")
    found = [Text(plural(number, str(verdict), str(verdict)), STYLES[verdict]) for verdict, number in _found(result)]
    return Text.assemble(
        (visible(result.server), "bold"),
        f" ({visible(result.version)})" if result.version else "",
        f": {plural(result.cases, 'case')} in {result.seconds:.1f} s, ",
        f"with spec_version {visible(result.spec_version)}{visible(extensions)}: ",
        Text(", ").join(found) if found else clean,
    )


def _found(result: Result) -> list[tuple[Verdict, int]]:
    return [(verdict, number) for verdict, number in counts(result).items() if number]


def _verdicts(results: Sequence[Result]) -> Table:
    """All servers, with how much was found of each verdict."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("server", overflow="fold")
    for verdict in Verdict:
        table.add_column(str(verdict), justify="right", no_wrap=True)
    for column in ("rules", "cases"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        cells = [Text(str(number), STYLES[verdict]) if number else "-" for verdict, number in counts(result).items()]
        tried = sum(1 for cases in result.tried.values() if cases)
        table.add_row(Text(visible(result.server)), *cells, str(tried), f"{result.cases:,}")
    return table


# ------------------------------------------------------------------------------------------------ a deviation


def _tell(deviation: Deviation, console: Console, *, said: bool) -> None:
    """One deviation with all that was seen. `said`: the words of its rule stand above already."""
    rule = about(deviation.rule)
    console.print()
    place = f" {visible(rule.place)}" if rule.place else ""
    console.print(Text.assemble((f"[{title(deviation)}]", STYLES[deviation.verdict]), (place, "bold")))
    if not said:
        console.print(_indented(Text(rule.says, "italic")))
    console.print(_indented(_facts(deviation)))
    console.print(Padding(_trace(deviation.trace), (0, 0, 0, 2)))
    if deviation.verdict.weight < Verdict.MUST.weight and deviation.log.strip():
        lines = deviation.log.strip().splitlines()[-LOGGED:]
        console.print(_indented(Group(Text("the end of its log", "dim"), Text(visible("\n".join(lines))))))
    console.print(Text.assemble("  ", ("repeat    ", "dim"), visible(deviation.repeat)), soft_wrap=True)


def _indented(what: RenderableType) -> Padding:
    return Padding(what, (0, 0, 0, 2), expand=False)


def _facts(deviation: Deviation) -> Table:
    """What was expected, seen, where and how often."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", width=8)
    table.add_column(overflow="fold")
    for name, value in (
        ("choice", f"{deviation.choice} {about(deviation.choice).says}" if deviation.choice else ""),
        ("expected", deviation.expected),
        ("seen", deviation.seen),
        ("where", where(deviation)),
        ("runs", often(deviation)),
    ):
        if value:
            table.add_row(name, Text(visible(value)))
    return table


def _trace(trace: Sequence[Line]) -> RenderableType:
    """A trace in two columns; what the server says of itself goes across both."""
    if not trace:
        return Text("There is no trace.", "dim")
    parts: list[RenderableType] = []
    for lines in _stretches(trace):
        if lines[0].side == "server":
            parts += [_marked(line, "── server: ") for line in lines]
        else:
            parts.append(_columns(lines, headed=not parts))
    return Group(*parts)


def _stretches(trace: Sequence[Line]) -> Iterator[list[Line]]:
    """The trace, cut where the server begins or ends to say something of itself."""
    for _, lines in groupby(trace, key=lambda line: line.side == "server"):
        yield list(lines)


def _columns(lines: Sequence[Line], *, headed: bool) -> Table:
    """Lines of the app on the left, of the peer on the right."""
    table = Table(box=MIDDLE, show_header=False, show_edge=False, expand=True, padding=(0, 1, 0, 0))
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    if headed:
        table.add_row("  app", "  peer", style="dim")
    for line in lines:
        table.add_row("" if line.side == "peer" else _marked(line), _marked(line) if line.side == "peer" else "")
    return table


def _marked(line: Line, before: str = "") -> Table:
    """A line behind the place of its mark."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    style = "bold red" if line.wrong else ""
    table.add_row(Text(MARK if line.wrong else "", style), Text(before + visible(line.text), style))
    return table


# ------------------------------------------------------------------------------------------------ choices


def _choices(result: Result) -> Table:
    """Where the documents are silent and the server does otherwise; what is the same in several states once."""
    table = Table(
        title="Otherwise than the reference, where the documents leave the choice",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        expand=True,
    )
    table.add_column("choice", no_wrap=True)
    table.add_column("about", ratio=6, overflow="fold")
    table.add_column("reference", ratio=4, overflow="fold")
    table.add_column("this server", ratio=5, overflow="fold")
    table.add_column("times", justify="right", no_wrap=True)
    same = Counter(
        (found.choice or found.rule, found.expected, found.answer or found.seen)
        for found in heaviest_first(result.deviations)
        if found.verdict is Verdict.CHOICE
    )
    last = None
    for (number, reference, answer), times in same.items():
        said = ("", "") if number == last else (number, about(number).says)
        table.add_row(*(Text(visible(cell)) for cell in (*said, reference, answer, f"×{times}")))
        last = number
    return table
