"""The command `cover`: tries everything that the machine says, and tells which pairs of state and event were tried.

The covers run against a `Connection`; the records that the socket tests wrote (`WSLIFECYCLE_COVER=DIR pytest
tests/test_cover_ways.py`) are laid beside. Exit status: 0 in each way everything that can be brought about was tried
and answered as the machine says, 1 if not, 2 misuse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from wslifecycle.cli import console, machine_of, machine_options
from wslifecycle.conformance.cover import Record, impossible, load_record, pairs, reachable, run
from wslifecycle.statemachine.cover import Triple
from wslifecycle.statemachine.draw import COLOURED, DrawingError, draw
from wslifecycle.statemachine.machine import Lifecycle


@click.command("cover")
@machine_options
@click.option(
    "--from",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Records of the socket tests: every .json in this folder.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Draw the lifecycle, coloured by what was tried; the ending says the format: {', '.join(COLOURED)}.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def cover_command(
    ctx: click.Context, spec: str | None, profile: str, directory: Path | None, output: Path | None, as_json: bool
) -> None:
    """Try every event in every state, and tell what was tried.

    From the machine three covers are made: everything that is obeyed, everything that is refused, and words which show
    that the state that was reached is the one that the machine says. Here they run against a Connection; --from lays
    the records beside it that the same covers left over real sockets.

    Exits with 1 where something was answered otherwise than the machine says, or was not tried though it could be.
    """
    kind = output.suffix.removeprefix(".").lower() if output is not None else ""
    if output is not None and kind not in COLOURED:
        raise click.UsageError(f"The ending of {output} is no format. Endings: {', '.join(COLOURED)}.")
    machine = machine_of(profile, spec)
    possible = reachable(machine)
    kept = _kept(machine, directory, possible) if directory is not None else []
    with Console(stderr=True).status("trying everything against a Connection"):
        records = [run(machine), *kept]
    if as_json:
        click.echo(json.dumps(_plain(machine, records, possible), indent=2))
    else:
        _tell(machine, records, possible)
    if output is not None:
        try:
            output.write_bytes(draw(machine, kind, coverage=coverage(records, possible)))
        except DrawingError as error:
            raise click.UsageError(str(error)) from error
    ctx.exit(0 if passed(records, possible) else 1)


def _kept(machine: Lifecycle, directory: Path, possible: set[Triple]) -> list[Record]:
    """The records in a folder, which have to be of this machine."""
    records = []
    for file in sorted(directory.glob("*.json")):
        try:
            record = load_record(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise click.UsageError(f"{file}: {error}") from error
        if record.profile != machine.profile or not record.exercised | record.beyond.keys() <= possible:
            raise click.UsageError(f"{file} is not of this machine. Run the socket tests again.")
        records.append(record)
    if not records:
        raise click.UsageError(f"There is no record in {directory}. The socket tests write them, see the README.")
    return records


# ------------------------------------------------------------------------------------------------ what was tried


def passed(records: Sequence[Record], possible: set[Triple]) -> bool:
    """Whether everything that could be tried was, in each way, and nothing differed."""
    return not any(record.differences or record.missing(possible) for record in records)


def coverage(records: Sequence[Record], possible: set[Triple]) -> dict[tuple[str, str], bool]:
    """Whether each pair was tried, with all facts, in every way in which it can be brought about."""
    left = pairs(triple for record in records for triple in record.missing(possible))
    return {pair: pair not in left for pair in sorted(pairs(possible))}


def _tell(machine: Lifecycle, records: Sequence[Record], possible: set[Triple]) -> None:
    every = len(pairs(possible))
    shown = Table(title=f"{machine.spec.title}, profile {machine.profile}: what was tried", title_justify="left")
    for column in ("way", "conversations", "pairs", "with facts", "beyond", "missing", "differences"):
        shown.add_column(column, justify="left" if column == "way" else "right", overflow="fold")
    for record in records:
        shown.add_row(
            record.way,
            str(record.conversations),
            f"{len(pairs(record.exercised))}/{every}",
            f"{len(record.exercised)}/{len(possible)}",
            f"{len(pairs(record.beyond) - pairs(record.exercised))}, {len(record.beyond)} with facts"
            if record.beyond
            else "none",
            str(len(record.missing(possible)) or "none"),
            str(len(record.differences) or "none"),
        )
    console().print(shown)
    reasons: dict[str, set[str]] = {}
    for record in records:
        for state, facts, event in record.missing(possible):
            click.echo(f"{record.way}: not tried: {event} in {state} ({', '.join(facts) or 'no facts'})")
        for difference in record.differences:
            click.echo(f"{record.way}: {difference}")
        for why, triples in record.reasons().items():
            reasons.setdefault(why, set()).update(event for _, _, event in triples)
    for why, events in reasons.items():
        click.echo(f"Beyond: {why} ({', '.join(sorted(events))}).")
    click.echo(f"A pair is a state and an event. {len(impossible(machine))} more are impossible and count nowhere.")
    click.echo("PASS" if passed(records, possible) else "FAIL")


def _plain(machine: Lifecycle, records: Sequence[Record], possible: set[Triple]) -> dict[str, Any]:
    return {
        "profile": machine.profile,
        "passed": passed(records, possible),
        "pairs": len(pairs(possible)),
        "with_facts": len(possible),
        "impossible": sorted(impossible(machine)),
        "ways": [
            {
                "way": record.way,
                "conversations": record.conversations,
                "pairs": len(pairs(record.exercised)),
                "with_facts": len(record.exercised),
                "missing": record.missing(possible),
                "beyond": record.reasons(),
                "differences": record.differences,
            }
            for record in records
        ],
    }


__all__ = ["cover_command"]
