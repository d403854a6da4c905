"""The command `serve`: Uvicorn's own command with our WebSocket protocol in it.

Uvicorn's command is a click command, so ours takes over its parameters as they are: whatever the installed Uvicorn can
be told, `serve` can be told, with the same help texts and the same variables of the environment. Uvicorn is imported
when `serve` is called, not before, so that the rest of the command line works without it.
"""

from __future__ import annotations

import traceback
from typing import Any

import click

PROTOCOL = "wslifecycle.integrations.uvicorn:LifecycleProtocol"
"""What `uvicorn --ws` takes since Uvicorn 0.36. We hand over the class itself, which every Uvicorn takes."""

NOT_TAKEN_OVER = frozenset({"ws", "version"})
"""The parameters of Uvicorn that `serve` has not: --ws is answered, and --version would not be that of wslifecycle."""

HELP = f"""Serve the ASGI application APP (module:attribute) with Uvicorn, its WebSockets by the lifecycle.

The same as `uvicorn APP --ws {PROTOCOL}`, which needs Uvicorn 0.36. Exit status: 2 for misuse, else Uvicorn's own,
which is 3 for a start-up that fails (under some older Uvicorns 1).
"""


class Serve(click.Command):
    """Stands in for the command until it is called; then the command is made from Uvicorn's."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """The context of the command that is made from Uvicorn's, so that this is what click invokes.

        Raises `click.UsageError` where Uvicorn is not installed.
        """
        try:
            made = from_uvicorn()
        except ImportError as missing:
            raise click.UsageError(f"serve needs {missing.name}: pip install 'wslifecycle[uvicorn]'") from None
        return made.make_context(info_name, args, *rest, **extra)


def from_uvicorn() -> click.Command:
    """The command `serve`, made from that of the installed Uvicorn. Raises `ImportError` where there is none."""
    import uvicorn
    from uvicorn.main import main

    from wslifecycle.integrations.uvicorn import LifecycleProtocol

    def run(**settings: Any) -> None:
        assert main.callback is not None
        try:
            main.callback(ws=LifecycleProtocol, **settings)
        except KeyboardInterrupt:  # older Uvicorns let it pass, and end as click ends on it
            raise click.Abort from None
        except Exception:  # a fault of the app or of its surroundings: shown as under Uvicorn, no misuse of ours
            traceback.print_exc()
            raise SystemExit(1) from None

    return click.Command(
        "serve",
        context_settings=main.context_settings,
        callback=run,
        params=[parameter for parameter in main.params if parameter.name not in NOT_TAKEN_OVER],
        help=f"{HELP}\nThe options are those of Uvicorn {uvicorn.__version__}, which is installed.",
    )


serve = Serve("serve", help=HELP, short_help="Serve an app with Uvicorn, its WebSockets by the lifecycle.")
