"""The command `soak`: a steady random load, with a picture of what the server took.

Exit status: 0 nothing grew, was lost or is left, 1 something did, 2 misuse.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from wslifecycle.cli_servers import chosen
from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress.run import site
from wslifecycle.conformance.stress.soak import Sample, Soaked, draw, soak
from wslifecycle.conformance.stress.watch import MIB


@click.command("soak")
@click.argument("name", required=False, metavar="SERVER")
@click.option("--command", metavar="COMMAND", help="A server by its command line, with {app} and {port}.")
@click.option(
    "--bin",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of programs of the environment that has the server; this one if left out.",
)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="How long."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed makes up other visitors.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A picture: memory, sockets, latency (PNG)."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def soak_command(
    ctx: click.Context,
    name: str | None,
    command: str | None,
    folder: Path | None,
    minutes: float,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Let visitors come and go at a server: those who echo, count, break rules, vanish, and do not read.

    Flat lines are the result. SERVER is one of `wslifecycle conformance --list`. Linux only.
    """
    if (name is None) == (command is None):
        raise click.UsageError("Name one SERVER, or write --command.")
    if output is not None:
        try:
            import matplotlib  # noqa: F401 - better now than after all these minutes
        except ImportError:
            raise click.UsageError("a picture needs matplotlib: pip install 'wslifecycle[stress]'") from None
    server = chosen((name,) if name else (), (command,) if command else (), folder)[-1]
    err = Console(stderr=True)
    with err.status(f"{server.name}: starting") as status:

        def tell(sample: Sample) -> None:
            status.update(
                f"{server.name}: {sample.at / 60:.1f} of {minutes:g} min, {sample.visits:,} visits,"
                f" {sample.memory / MIB:.0f} MiB, {sample.sockets} sockets, {1000 * sample.late:.0f} ms"
            )

        async def run() -> Soaked:
            async with site(server, {}) as one:
                return await soak(one, 60 * minutes, tell, seed)

        try:
            done = asyncio.run(run())
        except (servers.NotStarted, OSError) as error:
            raise click.UsageError(str(error)) from None
    if output is not None:
        draw(done, output)
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        last = done.samples[-1]
        click.echo(
            f"{done.server}: {done.visits:,} visits in {last.at:.0f} s, {last.memory / MIB:.0f} MiB at the end:"
            f" {'; '.join(done.faults) or 'nothing grew, was lost or is left'}"
        )
    ctx.exit(1 if done.faults else 0)
