"""How a command is told which servers are meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from wslifecycle.conformance.kit import servers

_C = TypeVar("_C", bound=Callable[..., Any])


def server_options(command: _C) -> _C:
    """`SERVER...`, `--command` and `--bin`, as the parameters `names`, `commands` and `folder`."""
    for option in (
        click.option(
            "--bin",
            "folder",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="The folder of programs of the environment that has the servers; this one if left out.",
        ),
        click.option(
            "--command", "commands", multiple=True, metavar="COMMAND", help="Another server, with {app} and {port}."
        ),
        click.argument("names", nargs=-1, metavar="SERVER..."),
    ):
        command = option(command)
    return command


def chosen(names: tuple[str, ...], commands: tuple[str, ...], folder: Path | None) -> list[servers.Server]:
    """The servers that are meant. Raises `click.UsageError` where there is none such, or none at all."""
    try:
        return servers.chosen(names, commands, folder)
    except (LookupError, ValueError) as error:
        raise click.UsageError(str(error.args[0])) from None
