"""The command `conformance`: holds servers against the spec, from outside, and says how they differ.

Exit status: 0 nothing but choices was found (or nothing that the baseline does not know), 1 something was, 2 misuse.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from wslifecycle.cli import console
from wslifecycle.cli_servers import chosen, server_options
from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.kit.baseline import Baseline, compare, load_baseline, without
from wslifecycle.conformance.kit.formats import github as annotated
from wslifecycle.conformance.kit.formats import junit, sarif
from wslifecycle.conformance.kit.html import page
from wslifecycle.conformance.kit.profiles import file_name, write
from wslifecycle.conformance.kit.results import Report, Result, load_report
from wslifecycle.conformance.kit.show import show


@click.command("conformance")
@server_options
@click.option(
    "--select",
    multiple=True,
    metavar="RULE|STATE",
    help="Only what tries this rule (R28) or leads through this state (closing); may be given several times.",
)
@click.option("--case", "only", multiple=True, metavar="NAME", help="Only this case; may be given several times.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Everything so many times.")
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(0.05),
    default=1.0,
    show_default=True,
    help="Seconds that a server has for what is due.",
)
@click.option(
    "--from",
    "kept",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show a report that was kept by --json, and try nothing.",
)
@click.option(
    "--baseline",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What is known of these servers and no failure; see --write-baseline.",
)
@click.option("--write-baseline", is_flag=True, help="Write what was found to the --baseline.")
@click.option(
    "--write-profile",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write what was measured as a profile for each server, such as spec/profiles.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Keep the report; - is standard output.",
)
@click.option("--junit", "junit_file", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML.")
@click.option("--sarif", "sarif_file", type=click.Path(dir_okay=False, path_type=Path), help="Write SARIF 2.1.0.")
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the matrix of servers and rules, as one page.",
)
@click.option("--github/--no-github", default=None, help="Annotations for GitHub Actions; there they are the default.")
@click.option("--list", "listed", is_flag=True, help="Name the servers that are known.")
@click.pass_context
def conformance_command(
    ctx: click.Context,
    names: tuple[str, ...],
    commands: tuple[str, ...],
    folder: Path | None,
    select: tuple[str, ...],
    only: tuple[str, ...],
    repeat: int,
    seconds: float,
    kept: Path | None,
    baseline: Path | None,
    write_baseline: bool,
    write_profile: Path | None,
    json_file: Path | None,
    junit_file: Path | None,
    sarif_file: Path | None,
    html_file: Path | None,
    github: bool | None,
    listed: bool,
) -> None:
    """Hold servers against the spec: a client outside and an app inside, both in the hands of the kit.

    What is tried is derived from the lifecycle: every event in every state, races, values, faulty frames, losses, and
    the hand-written scenarios. A server is asked for nothing that it does not advertise. What differs is told as a
    must or a should that is broken, or as a choice where the documents are silent.

    SERVER is one of --list, such as uvicorn, uvicorn:wsproto, hypercorn, daphne, granian, gunicorn, wslifecycle.

    Exits with 1 where anything but a choice was found.
    """
    if listed:
        click.echo("\n".join(servers.names()))
        return
    if write_baseline and baseline is None:
        raise click.UsageError("--write-baseline writes to a file: add --baseline FILE.")
    known = _known(baseline, write_baseline)
    if kept is not None:
        if names or commands:
            raise click.UsageError("--from shows a report; it goes without servers.")
        report = _load(kept)
    else:
        report = _tried(chosen(names, commands, folder), select, only, repeat, seconds)
    _write(report, json_file, junit_file, sarif_file, html_file, write_profile)
    if json_file is None or str(json_file) != "-":
        show(report, console())
    if github if github is not None else os.environ.get("GITHUB_ACTIONS") == "true":
        click.echo(annotated(without(report, known)))
    if write_baseline and baseline is not None:
        baseline.write_text(Baseline.of(report).dump(), encoding="utf-8")
        click.echo(f"wrote {baseline}", err=True)
    elif baseline is not None:
        told = compare(report, known)
        click.echo(told.text(), err=True)
        ctx.exit(0 if told.passed else 1)
    ctx.exit(0 if report.passed or write_baseline else 1)


def _known(baseline: Path | None, written: bool) -> Baseline:
    """What the baseline knows; nothing where it is only to be written."""
    if baseline is None or (written and not baseline.exists()):
        return Baseline({})
    try:
        return load_baseline(baseline.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{baseline} cannot be read ({error.strerror}). --write-baseline makes one.") from None
    except ValueError as error:
        raise click.UsageError(f"{baseline}: {error}") from None


def _load(kept: Path) -> Report:
    try:
        return load_report(kept.read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.UsageError(f"{kept}: {error}") from None


def _tried(
    picked: list[servers.Server],
    select: tuple[str, ...],
    only: tuple[str, ...],
    repeat: int,
    seconds: float,
) -> Report:
    """The report about these servers, one after the other, with a bar for each."""
    try:
        from wslifecycle.conformance.kit.run import KitError, conform
    except ImportError as missing:
        library = str(missing.name).partition(".")[0]
        raise click.UsageError(f"conformance needs {library}: pip install 'wslifecycle[conformance]'") from None
    results: list[Result] = []
    with _bars() as bars:
        for server in picked:
            task = bars.add_task(server.name, total=None)
            try:
                result = conform(
                    server,
                    select=select,
                    only=only,
                    repeat=repeat,
                    timeout=seconds,
                    progress=lambda done, of, task=task: bars.update(task, completed=done, total=of),  # type: ignore[misc]
                )
            except (KitError, LookupError) as error:
                raise click.UsageError(str(error.args[0])) from None
            results.append(result)
    return Report(datetime.date.today().isoformat(), tuple(results))


@contextmanager
def _bars() -> Iterator[Progress]:
    """A bar for each server, on a terminal; elsewhere nothing."""
    err = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=err, disable=not err.is_terminal) as bars:
        yield bars


def _write(
    report: Report,
    json_file: Path | None,
    junit_file: Path | None,
    sarif_file: Path | None,
    html_file: Path | None,
    folder: Path | None,
) -> None:
    """Writes what was asked for."""
    made = ((json_file, Report.dump), (junit_file, junit), (sarif_file, sarif), (html_file, page))
    for file, form in made:
        if file is not None and str(file) == "-":
            click.echo(form(report), nl=False)
        elif file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(form(report), encoding="utf-8")
            click.echo(f"wrote {file}", err=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for result in report.results:
            file = folder / file_name(result.server)
            file.write_text(write(result, report.date), encoding="utf-8")
            click.echo(f"wrote {file}", err=True)
