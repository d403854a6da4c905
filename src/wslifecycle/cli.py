"""What the commands have in common: which machine is meant, among how much it is checked, and where output goes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import click
from rich.console import Console

from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import load_answers, load_spec
from wslifecycle.statemachine.machine import Lifecycle, build, lifecycle

_C = TypeVar("_C", bound=Callable[..., Any])


def machine_options(command: _C) -> _C:
    """`--profile` and `--spec`."""
    spec = click.option("--spec", type=click.Path(exists=True, dir_okay=False), help="A spec of your own.")
    profile = click.option(
        "--profile", default="reference", show_default=True, help="A profile: its name, or a .yaml file of answers."
    )
    return profile(spec(command))


def bound_options(queue: int, receivers: int) -> Callable[[_C], _C]:
    """`--property`, `--queue` and `--receivers`, with these defaults."""

    def decorate(command: _C) -> _C:
        for option in (
            click.option("--receivers", type=click.IntRange(1), default=receivers, show_default=True,
                         help="Calls of receive() at a time."),
            click.option("--queue", type=click.IntRange(0), default=queue, show_default=True,
                         help="Messages in each queue: unread, not yet decoded, written and not yet read."),
            click.option("-p", "--property", "names", multiple=True,
                         help="Only this property; may be given several times."),
        ):  # fmt: skip
            command = option(command)
        return command

    return decorate


def machine_of(profile: str, spec: str | None) -> Lifecycle:
    """The machine of a profile, of our spec or of another one. One that is not sound is refused by `SpecError`."""
    if spec is None:
        return lifecycle(profile)
    loaded = load_spec(spec)
    return build(loaded, load_answers(loaded, profile), profile)


def flat_of(profile: str, spec: str | None) -> Flat:
    """A compiled profile, be it sound or not: the checks tell what is unsound about it, too."""
    loaded = load_spec(spec)
    return Flat(loaded, load_answers(loaded, profile), profile)


def console() -> Console:
    """Colour only on a terminal; elsewhere a width at which no table is squeezed."""
    found = Console()
    return found if found.is_terminal else Console(width=160, color_system=None)


class Later(click.Command):
    """Stands in for a command until it is called: its module is imported then, and the others start without it.

    `extra` is what has to be installed for it.
    """

    def __init__(self, name: str, module: str, short_help: str, extra: str) -> None:
        super().__init__(name, short_help=short_help)
        self._extra = extra
        self._module = module

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """The context of the command itself, so that this is what click invokes. Raises `click.UsageError` where
        something is not installed.
        """
        try:
            command: click.Command = getattr(import_module(self._module), f"{self.name}_command")
        except ModuleNotFoundError as missing:
            library = str(missing.name).partition(".")[0]
            raise click.UsageError(f"{self.name} needs {library}: pip install 'wslifecycle[{self._extra}]'") from None
        return command.make_context(info_name, args, *rest, **extra)
