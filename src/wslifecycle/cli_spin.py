"""The commands `wslifecycle spin` and `wslifecycle export`: have SPIN check the same, write it for other engines.

Exit status of `spin`: 0 both engines say that all holds, 1 they disagree, or something does not hold, or SPIN did not
get to its end; 2 misuse, or a program is missing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from wslifecycle.cli import bound_options, console, flat_of, machine_options
from wslifecycle.statemachine.promela import promela
from wslifecycle.statemachine.spin import Comparison, Missing, SpinError, compare, questions_about
from wslifecycle.statemachine.system import Bounds
from wslifecycle.statemachine.tla import tla


@click.command("spin")
@machine_options
@bound_options(queue=1, receivers=1)
@click.option(
    "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="all cores", help="Runs at a time."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def spin_command(
    ctx: click.Context,
    spec: str | None,
    profile: str,
    queue: int,
    receivers: int,
    names: tuple[str, ...],
    jobs: int,
    as_json: bool,
) -> None:
    """Check the lifecycle with SPIN, too, and compare: every property, and how many states there are.

    SPIN gets a model of its own, in Promela, of which only the machine's answers are generated. `deadlock` and
    `impossible` may be given as properties. Needs `spin` and `gcc`.
    """
    flat = flat_of(profile, spec)
    try:
        with _progress() as done:
            comparison = compare(flat, Bounds(1, queue, receivers), names, jobs, done=done)
    except Missing as error:
        raise click.UsageError(str(error)) from error
    except SpinError as error:
        click.echo(f"SPIN gave no verdict. {error}", err=True)
        ctx.exit(1)
    if as_json:
        click.echo(json.dumps(_plain(comparison), indent=2))
    else:
        _show(comparison)
    ctx.exit(1 if comparison.disagreements or (profile == "reference" and not comparison.report.holds) else 0)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    error = Console(stderr=True)
    with Progress(console=error, disable=not error.is_terminal, transient=True) as progress:
        task = progress.add_task("exploring, compiling", total=None)
        yield lambda done, count: progress.update(task, description="SPIN", completed=done, total=count)


def _show(comparison: Comparison) -> None:
    shown = Table(title="What our checker says, and what SPIN says", title_justify="left")
    shown.add_column("property")
    shown.add_column("ours")
    shown.add_column("SPIN")
    for column in ("states ours", "states SPIN", "seconds"):
        shown.add_column(column, justify="right")
    states = f"{len(comparison.report.graph):,}"
    for row in comparison.rows:
        style = None if row.agrees else "red"
        shown.add_row(row.name, row.ours, row.theirs, states, f"{row.states:,}", f"{row.seconds:.1f}", style=style)
    console().print(shown)
    for finding in (*comparison.report.findings, *(v.finding for v in comparison.report.violations)):
        click.echo(str(finding))
    click.echo(summary(comparison))


def summary(comparison: Comparison) -> str:
    """What came of it, in one line."""
    report = comparison.report
    apart = ", ".join(f"{row.name} (ours: {row.ours}, SPIN: {row.theirs})" for row in comparison.disagreements)
    broken = len(report.violations) + len(report.findings)
    verdict = f"SPIN and our checker DISAGREE about {apart}." if apart else "SPIN and our checker agree."
    found = "All hold" if report.holds else f"{broken} {'finding' if broken == 1 else 'findings'}"
    return (
        f"{report.flat.profile}: {verdict} {found}: {len(comparison.rows) - 1} properties, {len(report.graph):,} "
        f"states (SPIN stores one more), queue {report.bounds.queue}, receivers {report.bounds.receivers}, "
        f"{comparison.seconds:.1f} s"
    )


def _plain(comparison: Comparison) -> dict[str, Any]:
    report = comparison.report
    return {
        "profile": report.flat.profile,
        "spec": report.flat.spec.file,
        "bounds": {"queue": report.bounds.queue, "receivers": report.bounds.receivers},
        "agree": not comparison.disagreements,
        "holds": report.holds,
        "states": len(report.graph),
        "seconds": round(comparison.seconds, 3),
        "rows": [
            {
                "name": row.name,
                "ours": row.ours,
                "spin": row.theirs,
                "agree": row.agrees,
                "states": row.states,
                "seconds": round(row.seconds, 3),
            }
            for row in comparison.rows
        ],
    }


# ------------------------------------------------------------------------------------------------ export


@click.command("export")
@click.argument("language", type=click.Choice(["promela", "tla"]))
@machine_options
@bound_options(queue=1, receivers=1)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; else standard output.")
def export_command(
    language: str,
    spec: str | None,
    profile: str,
    queue: int,
    receivers: int,
    names: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write the system that is checked for another engine: in Promela for SPIN, in TLA+ for readers.

    Promela has the properties that are named and none without any; each is a claim `p_NAME`. TLA+ has all of them, if
    none is named.
    """
    flat, bounds = flat_of(profile, spec), Bounds(1, queue, receivers)
    if language == "promela":
        text = promela(flat, bounds, questions_about(flat, names) if names else ())
    else:
        text = tla(flat, bounds, names)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
