"""The command `stress`: load, faults, bad input and hostile peers, and whether a server keeps its bounds.

Exit status: 0 everything was within its bound, 1 something was not, 2 misuse.
"""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from wslifecycle.cli import console
from wslifecycle.cli_servers import chosen, server_options
from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress.results import Report, Tried, load, table
from wslifecycle.conformance.stress.run import tried
from wslifecycle.conformance.stress.trials import TRIALS


@click.command("stress")
@server_options
@click.option("--only", multiple=True, metavar="TRIAL", help="Only this trial; may be given several times.")
@click.option("--skip", multiple=True, metavar="TRIAL", help="Not this trial; may be given several times.")
@click.option(
    "--from",
    "kept",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show what was kept by --json, and try nothing; several are shown beside each other.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Keep what came of it; - is standard output.",
)
@click.option("--markdown", is_flag=True, help="The table as Markdown.")
@click.option("--list", "listed", is_flag=True, help="Name the trials, with their bounds.")
@click.pass_context
def stress_command(
    ctx: click.Context,
    names: tuple[str, ...],
    commands: tuple[str, ...],
    folder: Path | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    kept: tuple[Path, ...],
    json_file: Path | None,
    markdown: bool,
    listed: bool,
) -> None:
    """Try to break servers: each trial is held against a bound, the same for all.

    A server runs as a process, as its users start it. What grows is measured as its resident memory, what is lost by
    numbered messages. SERVER is one of `wslifecycle conformance --list`. Linux only.
    """
    if listed:
        for trial in TRIALS:
            click.echo(f"{trial.name:13} {trial.says} ({trial.bound})")
        return
    if unknown := sorted({*only, *skip} - {trial.name for trial in TRIALS}):
        raise click.UsageError(f"There is no trial {', '.join(unknown)}. See --list.")
    if kept and (names or commands):
        raise click.UsageError("--from shows what was kept; it goes without servers.")
    report = _joined(kept) if kept else _report(names, commands, folder, only, skip)
    if json_file is not None and str(json_file) == "-":
        click.echo(report.dump(), nl=False)
    elif json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(report.dump(), encoding="utf-8")
    if markdown:
        click.echo(table(report, [(trial.name, trial.says) for trial in TRIALS]), nl=False)
    elif json_file is None or str(json_file) != "-":
        _show(report, {trial.name: (trial.says, trial.bound) for trial in TRIALS})
    ctx.exit(0 if all(one.passed for one in report.tried) else 1)


def _joined(files: tuple[Path, ...]) -> Report:
    """What was kept, as one report of its latest day."""
    try:
        reports = [load(file.read_text(encoding="utf-8")) for file in files]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return Report(max(report.date for report in reports), tuple(one for report in reports for one in report.tried))


def _report(
    names: tuple[str, ...],
    commands: tuple[str, ...],
    folder: Path | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
) -> Report:
    """What comes of the trials."""
    picked = chosen(names, commands, folder)
    trials = [trial for trial in TRIALS if (not only or trial.name in only) and trial.name not in skip]
    found: list[Tried] = []
    err = Console(stderr=True)
    with err.status("starting") as status:
        for server in picked:

            def begin(what: str, server: servers.Server = server) -> None:
                status.update(f"{server.name}: {what}")

            try:
                found.append(asyncio.run(tried(server, trials, begin)))
            except (servers.NotStarted, OSError) as error:
                raise click.UsageError(str(error)) from None
    return Report(datetime.date.today().isoformat(), tuple(found))


def _show(report: Report, trials: dict[str, tuple[str, str]]) -> None:
    """The table, for people."""
    out = console()
    shown = Table(title=f"Tried on {report.date}", title_justify="left")
    for heading in ("trial", "what was tried", "bound", *(f"{one.server}\n{one.version}" for one in report.tried)):
        shown.add_column(heading)
    for name, (says, bound) in trials.items():
        figures = [one.figures.get(name) for one in report.tried]
        if any(figures):
            cells = [
                "–" if f is None else f.says if f.good is not False else f"[bold red]✗ {f.says}[/]" for f in figures
            ]
            shown.add_row(name, says, bound, *cells)
    out.print(shown)
