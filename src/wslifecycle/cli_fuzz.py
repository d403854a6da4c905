"""The command `fuzz`: Hypothesis makes up conversations with a live server, and shrinks what should not be.

Exit status: 0 nothing was found (that the baseline does not know), 1 something was, 2 misuse.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from wslifecycle.conformance.kit import servers


@click.command("fuzz")
@click.argument("name", required=False, metavar="SERVER")
@click.option("--command", metavar="COMMAND", help="A server by its command line, with {app} and {port}.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How long; what is being shrunk then is finished.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed makes up other conversations.")
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keys of findings that are known, one in a line: they do not count.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def fuzz_command(
    ctx: click.Context,
    name: str | None,
    command: str | None,
    minutes: float,
    seed: int,
    baseline: Path | None,
    as_json: bool,
) -> None:
    """Fuzz a live server: many conversations in one process, both ends of each held against the lifecycle.

    Each finding is shrunk to a short conversation, held again alone, and printed with a program that repeats it.
    Choices of the server are no findings. SERVER is one of `wslifecycle conformance --list`.
    """
    if (name is None) == (command is None):
        raise click.UsageError("Name one SERVER, or write --command.")
    try:
        server = servers.custom(command) if command else servers.find(name or "")[0]
    except (LookupError, ValueError) as error:
        raise click.UsageError(str(error.args[0])) from None
    try:
        from wslifecycle.conformance.kit.driver import Unreached
        from wslifecycle.conformance.kit.fuzz import fuzz
    except ImportError as missing:
        library = str(missing.name).partition(".")[0]
        raise click.UsageError(f"fuzz needs {library}: pip install 'wslifecycle[fuzz]'") from None
    known = baseline.read_text(encoding="utf-8").splitlines() if baseline else []
    err = Console(stderr=True)
    with err.status(f"fuzzing {server.name}") as status:

        def progress(conversations: int, findings: int) -> None:
            status.update(f"fuzzing {server.name}: {conversations} conversations, {findings} findings")
            counted[:] = [conversations]

        counted = [0]
        try:
            found = fuzz(server, 60 * minutes, known=known, seed=seed, progress=progress)
        except (servers.NotStarted, Unreached, OSError) as error:
            raise click.UsageError(f"{server.name}: {error}") from None
    if as_json:
        plain = [
            {"key": one.key, "rule": one.suspicion.blame.rule, "verdict": one.verdict, "times": one.times, "of": one.of,
             "trace": [[line.side, line.text] for line in one.suspicion.lines], "program": one.program}
            for one in found
        ]  # fmt: skip
        click.echo(json.dumps({"server": server.name, "conversations": counted[0], "findings": plain}, indent=2))
    else:
        for one in found:
            click.echo(f"{one}\nkey: {one.key}\n")
        click.echo(f"{server.name}: {counted[0]} conversations, {len(found)} findings")
    ctx.exit(1 if found else 0)
