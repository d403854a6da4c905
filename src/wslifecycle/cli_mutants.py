"""The command `mutants`: breaks the spec in every mechanical way and reports what notices.

It derives the mutants (`statemachine.mutate`), runs them in all cores (`conformance.mutants`), and shows each survivor,
a table of what killed the others, and the score. Exit status: 0 enough was killed and every survivor has its reason in
`spec/mutants.yaml`, 1 if not, 2 misuse.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from wslifecycle.cli import console
from wslifecycle.conformance.mutants import ENOUGH, STAGES, Report, judge_all, report, sample
from wslifecycle.statemachine.mutate import Book, Mutant, Subject

COLUMNS = {"loader": "loader", "checker": "property", "scenarios": "scenario"}
"""What the table calls a kill by each stage."""


@click.command()
@click.option(
    "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="all cores", help="Processes."
)
@click.option("--sample", "size", type=click.IntRange(1), metavar="N", help="About N of them, of every operator some.")
@click.option(
    "--select", metavar="TEXT", help="Only those whose id holds this text, such as `app_close@open:retarget`."
)
@click.option("--all-stages", is_flag=True, help="Run every stage on each mutant, not only up to the first kill.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--list", "listed", is_flag=True, help="Name the mutants and run none.")
@click.pass_context
def mutants(
    ctx: click.Context, jobs: int, size: int | None, select: str | None, all_stages: bool, as_json: bool, listed: bool
) -> None:
    """Break the spec in every mechanical way, and see what notices.

    Each mutant of spec/lifecycle.yaml has one thing changed: another target, a row or an effect dropped, two of them
    exchanged, something refused that was obeyed. The loader, the properties and the scenarios have to kill it. One that
    survives must mean the same as the reference, and spec/mutants.yaml has to say why.
    """
    subject = Subject()
    book = subject.book()
    chosen: Sequence[Mutant] = [m for m in (*book.named, *subject.mutants) if select is None or select in m.id]
    if not chosen:
        raise click.UsageError(f"No mutant's id holds {select!r}. `--list` names them all.")
    if size is not None:
        chosen = sample(chosen, size)
    if listed:
        rows = [{"id": m.id, "line": m.line, "says": m.says} for m in chosen]
        click.echo(json.dumps(rows, indent=2) if as_json else "\n".join(_line(subject, m) for m in chosen))
        return
    with _progress(len(chosen)) as done:
        verdicts = judge_all(subject, chosen, jobs=jobs, all_stages=all_stages, done=done)
    made = report(subject, chosen, verdicts, book)
    if as_json:
        click.echo(json.dumps(_plain(chosen, made), indent=2))
    else:
        _show(subject, book, chosen, made)
    ctx.exit(0 if made.passed else 1)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], object]]:
    """A bar on standard error, where that is a terminal."""
    error = Console(stderr=True)
    with Progress(console=error, disable=not error.is_terminal, transient=True) as progress:
        task = progress.add_task("mutants", total=total)
        yield lambda: progress.advance(task)


def _line(subject: Subject, mutant: Mutant) -> str:
    return f"{subject.spec.file}:{mutant.line}: {mutant.id}: {mutant.says}"


# ------------------------------------------------------------------------------------------------ for people


def _show(subject: Subject, book: Book, chosen: Sequence[Mutant], made: Report) -> None:
    for mutant in made.errors:
        click.echo(f"ERROR {_line(subject, mutant)}: {made.verdicts[mutant.id].error}")
    for mutant in made.alive:
        reason = "NOT LISTED" if mutant in made.unlisted else f"equivalent: {book.reason(mutant.id)}"
        click.echo(f"{_line(subject, mutant)} [{reason}]")
    for entry in made.stale:
        click.echo(f"STALE spec/mutants.yaml: {entry}")
    console().print(_table(chosen, made))
    click.echo(summary(made))


def _table(chosen: Sequence[Mutant], made: Report) -> Table:
    shown = Table(title="What killed the mutants", title_justify="left")
    shown.add_column("operator")
    for column in (*(COLUMNS[stage] for stage in STAGES), "survived", "repeated", "trivial"):
        shown.add_column(column, justify="right")
    counts = Counter((mutant.operator, made.outcome(mutant)) for mutant in chosen)
    for operator in dict.fromkeys(mutant.operator for mutant in chosen):
        cells = (counts[operator, outcome] for outcome in (*STAGES, "survived", "repeated", "trivial"))
        shown.add_row(operator, *(str(count or "") for count in cells))
    return shown


def summary(made: Report) -> str:
    """The verdict in one line. What the loader kills is easy prey, so the rest has a score of its own, too."""
    by = Counter(map(made.outcome, made.killed))
    parts = ", ".join(f"{COLUMNS[stage]} {by[stage]}" for stage in STAGES)
    harder = len(made.killed) - by["loader"], made.counted - by["loader"]
    line = f"{len(made.killed)} of {made.counted} different mutants killed ({percent(len(made.killed), made.counted)}: "
    line += f"{parts}); of those that compile {percent(*harder)}. "
    line += f"{len(made.survivors)} survived, {len(made.unlisted)} without a reason in spec/mutants.yaml; "
    line += (
        f"{len(made.stale)} stale entries, {len(made.errors)} errors. Not counted: {len(made.repeated)} that compile "
    )
    line += f"to the machine of another mutant, {len(made.trivial)} to that of the reference."
    return f"{line} {'PASS' if made.passed else f'FAIL: wanted are {ENOUGH:.0%}, and a reason for every survivor.'}"


def percent(part: int, whole: int) -> str:
    """A share, rounded down: 94.99 % is not 95."""
    return f"{1000 * part // whole / 10 if whole else 100:.1f} %"


# ------------------------------------------------------------------------------------------------ for machines


def _plain(chosen: Sequence[Mutant], made: Report) -> dict[str, Any]:
    return {
        "passed": made.passed,
        "score": made.score,
        "killed": len(made.killed),
        "survived": len(made.survivors),
        "stale": made.stale,
        "unlisted": [mutant.id for mutant in made.unlisted],
        "mutants": [
            {
                "id": mutant.id,
                "operator": mutant.operator,
                "says": mutant.says,
                "line": mutant.line,
                "outcome": made.outcome(mutant),
                "kills": dict(made.verdicts[mutant.id].kills),
                "error": made.verdicts[mutant.id].error,
            }
            for mutant in chosen
        ],
    }
