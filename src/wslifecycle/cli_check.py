"""The commands `wslifecycle check` and `wslifecycle replay`: check the properties of a spec, show what breaks them."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wslifecycle.cli import bound_options, flat_of, machine_options
from wslifecycle.statemachine.check import LIMIT, Report, check
from wslifecycle.statemachine.counterexample import Run, RunError, load_run, run_of
from wslifecycle.statemachine.explore import TooLarge
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.product import Product, multiply
from wslifecycle.statemachine.replay import replay as replayed
from wslifecycle.statemachine.system import Bounds

_DEFAULT = Bounds()


@click.command("check")
@machine_options
@bound_options(_DEFAULT.queue, _DEFAULT.receivers)
@click.option("--connections", type=click.IntRange(1), default=_DEFAULT.connections, show_default=True,
              help="Connections of one server; they share nothing but its shutdown.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="Give up at so many states.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each counterexample into this folder: .txt, .json (for `replay`), .mmd, and .svg where `dot` is there.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def check_command(
    ctx: click.Context,
    spec: str | None,
    profile: str,
    names: tuple[str, ...],
    connections: int,
    queue: int,
    receivers: int,
    limit: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Check the lifecycle: every property of the spec, in every order of events.

    The machine is put among an app, a peer, a transport and a clock that may do anything, with bounded queues, for
    every set of facts that a server may advertise. Exits with 1 where something does not hold, and shows a shortest
    run for it. The findings of a profile other than `reference` are reported and are no fault: exit status 0.
    """
    flat = flat_of(profile, spec)
    bounds = Bounds(connections, queue, receivers)
    console = Console(stderr=True)
    product: Product | None = None
    try:
        with _bar(console) as bar:
            task = bar.add_task("states", total=None) if bar is not None else None

            def progress(explored: int, known: int) -> None:
                if bar is not None and task is not None:
                    bar.update(task, completed=explored, total=known)

            report = check(flat, bounds, names, progress, limit)
            if connections > 1:
                product = multiply(report.graph, connections, limit, progress)
    except TooLarge as error:
        raise click.UsageError(str(error)) from error
    runs = [run for violation in report.violations if (run := run_of(report, violation)) is not None]
    if output is not None:
        _write(output, runs, flat)
    if as_json:
        click.echo(json.dumps(_plain(report, runs, product), indent=2))
    else:
        _tell(report, runs, product)
    ctx.exit(1 if profile == "reference" and not report.holds else 0)


def _bar(console: Console) -> Any:
    """A progress bar where somebody sees it."""
    if not console.is_terminal:
        return nullcontext()
    columns = (TextColumn("exploring"), BarColumn(), MofNCompleteColumn(), TextColumn("states"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _tell(report: Report, runs: list[Run], product: Product | None) -> None:
    for finding in report.findings:
        click.echo(str(finding))
    shown = {run.name: run for run in runs}
    for violation in report.violations:
        run = shown.get(violation.name)
        if run is not None:
            click.echo(f"{run.text()}\n")
        else:
            click.echo(f"{violation.finding}\n")
    click.echo(summary(report, product))


def summary(report: Report, product: Product | None = None) -> str:
    """One honest line: how much was looked at, within which bounds, and what came of it."""
    graph, bounds = report.graph, report.bounds
    broken = len(report.violations) + len(report.findings)
    reach = "" if bounds.queue else " (with no queue, what never happens is not counted)"
    verdict = f"all hold{reach}" if report.holds else f"{broken} {'finding' if broken == 1 else 'findings'}"
    times = f" {product.states:,} states of {bounds.connections} connections," if product is not None else ""
    return (
        f"{report.flat.profile}: {verdict}.{times} {len(graph):,} states, {graph.transitions:,} transitions, depth "
        f"{graph.depth()}, {len(report.properties)} properties, queue {bounds.queue}, receivers {bounds.receivers}, "
        f"{report.seconds:.1f} s ({len(graph) / graph.seconds:,.0f} states/s explored)"
    )


def _plain(report: Report, runs: list[Run], product: Product | None) -> dict[str, Any]:
    graph, bounds = report.graph, report.bounds
    shown = {run.name: run.json() for run in runs}
    broken = {violation.name for violation in report.violations}
    return {
        "profile": report.flat.profile,
        "spec": report.flat.spec.file,
        "holds": report.holds,
        "bounds": {"connections": bounds.connections, "queue": bounds.queue, "receivers": bounds.receivers},
        "states": len(graph),
        "transitions": graph.transitions,
        "depth": graph.depth(),
        "seconds": round(report.seconds, 3),
        "product": product._asdict() if product is not None else None,
        "properties": {declared.name: declared.name not in broken for declared in report.properties},
        "violations": [
            {"name": v.name, "says": v.says, "rule": v.rule, "line": v.line, "run": shown.get(v.name)}
            for v in report.violations
        ],
        "findings": [{"code": f.code, "line": f.line, "text": f.text, "fix": f.fix} for f in report.findings],
    }


def _write(folder: Path, runs: list[Run], flat: Flat) -> None:
    """Every counterexample in each of its forms."""
    from wslifecycle.statemachine.draw import DrawingError, draw

    folder.mkdir(parents=True, exist_ok=True)
    machine = Lifecycle(flat).seal()
    for run in runs:
        file = folder / re.sub(r"\W", "_", run.name)
        file.with_suffix(".txt").write_text(run.text() + "\n", encoding="utf-8")
        file.with_suffix(".json").write_text(json.dumps(run.json(), indent=2) + "\n", encoding="utf-8")
        file.with_suffix(".mmd").write_text(run.mermaid(), encoding="utf-8")
        try:
            file.with_suffix(".svg").write_bytes(draw(machine, "svg", None, run.path()))
        except DrawingError as error:
            click.echo(f"{run.name}: no picture: {error}", err=True)


# ------------------------------------------------------------------------------------------------ replay


@click.command("replay")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--spec", type=click.Path(exists=True, dir_okay=False), help="Another spec than that of the run.")
@click.option("--profile", help="Another profile than that of the run.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def replay_command(ctx: click.Context, file: Path, spec: str | None, profile: str | None, as_json: bool) -> None:
    """Play a run that `check --output` wrote against a real Connection.

    Exits with 1 where the connection does what the run says, so that what it shows is true, and with 0 where it goes
    another way: kept runs are tests of what was mended.
    """
    try:
        run = load_run(file.read_text(encoding="utf-8"))
        if spec is None and Path(run.file).is_file() and run.file != "spec/lifecycle.yaml":
            spec = run.file
        result = replayed(run, Lifecycle(flat_of(profile or run.profile, spec)).seal())
    except RunError as error:
        raise click.UsageError(f"{file}: {error}") from error
    if as_json:
        click.echo(json.dumps({"name": run.name, "same": result.same, "departs": result.departs, "did": result.lines}))
    else:
        click.echo("\n".join(result.lines))
        outcome = f"The connection does the same: {run.name} does not hold." if result.same else (
            f"The connection goes another way in {result.departs}."
        )  # fmt: skip
        click.echo(outcome)
    ctx.exit(1 if result.same else 0)
