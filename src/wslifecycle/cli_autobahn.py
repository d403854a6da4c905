"""The command `autobahn`: the cases of the Autobahn suite against a server.

Exit status: 0 no case failed, 1 one did, 2 misuse.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from wslifecycle.cli_servers import chosen, server_options
from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress.autobahn import LARGEST, LEFT_OUT, Case, Part, cases, summary
from wslifecycle.conformance.stress.run import site


@click.command("autobahn")
@server_options
@click.option(
    "--part",
    type=click.Choice(list(LEFT_OUT)),
    default="core",
    show_default=True,
    help="core: all but 9.*, 12.* and 13.*; more: those of 12.* and 13.* with more than 8 KiB are left out.",
)
@click.option("--case", "only", multiple=True, metavar="NUMBER", help="Only these (6.*); may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def autobahn_command(
    ctx: click.Context,
    names: tuple[str, ...],
    commands: tuple[str, ...],
    folder: Path | None,
    part: Part,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the Autobahn cases for RFC 6455 and RFC 7692 against servers.

    What is NON-STRICT is told, and no failure. SERVER is one of `wslifecycle conformance --list`.
    """
    take, leave = (only, ()) if only else ((), LEFT_OUT[part])
    picked = chosen(names, commands, folder)
    found: dict[str, list[Case]] = {}
    err = Console(stderr=True)
    for server in picked:
        with err.status(f"{server.name}: the Autobahn cases"):
            found[server.name] = _run(server, take, leave)
        if not as_json:
            _show(server.name, found[server.name])
    if as_json:
        click.echo(json.dumps({name: [asdict(case) for case in each] for name, each in found.items()}, indent=1))
    ctx.exit(1 if any(case.failed for each in found.values() for case in each) else 0)


def _run(server: servers.Server, take: tuple[str, ...], leave: tuple[str, ...]) -> list[Case]:
    async def run() -> list[Case]:
        async with site(server, {"max_size": LARGEST}) as one:
            return await cases(one, take, leave)

    try:
        return asyncio.run(run())
    except ImportError:
        raise click.UsageError("autobahn needs kosoku: pip install 'wslifecycle[stress]'") from None
    except (servers.NotStarted, OSError, ValueError) as error:  # a ValueError: there is no such case
        raise click.UsageError(str(error)) from None


def _show(name: str, done: list[Case]) -> None:
    for case in done:
        if case.failed or case.behavior == "NON-STRICT":
            word = f"{case.behavior}, close: {case.close}" if case.failed else case.behavior
            click.echo(f"{case.number:8} {word}: {case.says}")
    click.echo(f"{name}: {summary(done).says}")
