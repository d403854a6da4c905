"""The command line: `wslifecycle table | explain | draw | check | ...`, also as `python -m wslifecycle`.

Exit status: 0 pass, 1 verdict (a spec that is not sound, a picture that drifted, a conversation that went otherwise),
2 misuse, 130 interrupted, 141 nobody reads the output; `serve` ends as Uvicorn does. Needs the extra `cli` (click and
rich).
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

try:
    import click
    from rich.table import Table
except ImportError as missing:
    print(f"The command line needs {missing.name}: pip install 'wslifecycle[cli,diagram]'", file=sys.stderr)
    raise SystemExit(2) from None

from wslifecycle import __version__
from wslifecycle.cli import Later, console, machine_of, machine_options
from wslifecycle.cli_check import check_command, replay_command
from wslifecycle.cli_cover import cover_command
from wslifecycle.cli_mutants import mutants
from wslifecycle.cli_spin import export_command, spin_command
from wslifecycle.serve import serve
from wslifecycle.statemachine import explain as words
from wslifecycle.statemachine.draw import RENDERERS, SUFFIXES, DrawingError, check_all, draw_all, load_path
from wslifecycle.statemachine.draw import draw as draw_picture
from wslifecycle.statemachine.findings import CODES, SpecError
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle

ENDINGS = {ending: kind for kind, ending in SUFFIXES.items()} | {"pdf": "pdf"}


class Commands(click.Group):
    """Turns what the library raises into a message and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command: a `SpecError` is a verdict, a name that does not exist is misuse."""
        try:
            return super().invoke(ctx)
        except SpecError as error:
            click.echo(str(error), err=True)
            ctx.exit(1)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is flushed into it
            ctx.exit(141)
        except KeyboardInterrupt:
            ctx.exit(130)
        except (OSError, UnicodeError, DrawingError) as error:
            raise click.UsageError(str(error)) from error
        except LookupError as error:
            if type(error) is not LookupError:  # a KeyError or an IndexError is a fault of ours
                raise
            raise click.UsageError(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """The ASGI WebSocket lifecycle as a state machine: look at it, ask it, watch it."""


# ------------------------------------------------------------------------------------------------ table


@main.command()
@machine_options
@click.option("--state", default="*", help="Only states that match, such as `open` or `open/flowing`.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def table(profile: str, spec: str | None, state: str, as_json: bool) -> None:
    """Who may do what in each state.

    For a server that advertises the denial response and spec version 2.5 under the given profile.
    """
    machine = machine_of(profile, spec)
    rows = [words.row(machine, name) for name in words.matching(machine, state)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    shown = Table(title=f"{machine.spec.title}, profile {machine.profile}", title_justify="left")
    for column in ("state", "the app may send", "receive() gives", "what else leads on"):
        shown.add_column(column, overflow="fold")
    for row in rows:
        gives = row["receive"] or "nothing: it waits"
        if row["receive_unread"] and row["receive_unread"] != row["receive"]:
            gives = f"{row['receive_unread']} while one is unread, then {gives}"
        others = "\n".join(f"{', '.join(events)} -> {target}" for target, events in row["others"].items())
        shown.add_row(row["state"], "\n".join(row["send"]) or "nothing", gives, others)
    console().print(shown)


# ------------------------------------------------------------------------------------------------ explain


@main.command()
@click.argument("what")
@machine_options
@click.option(
    "--state", default="*", help="Where: `open`, `open/flowing`, `closing/ended/left`; everywhere if left out."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def explain(what: str, profile: str, spec: str | None, state: str, as_json: bool) -> None:
    """Say what WHAT means: a message or event in a state, a rule (R20), a choice (C9) or a finding (WSL020)."""
    if re.fullmatch(r"(?i)(wsl|[rwc])\d+", what):
        what = what.upper()
        if state != "*":
            raise click.UsageError("--state goes with a message or an event.")
        lines = _explain_code(what) if what.startswith("WSL") else words.explain_number(machine_of(profile, spec), what)
        click.echo(json.dumps({"number": what, "lines": list(lines)}, indent=2) if as_json else "\n".join(lines))
        return
    machine = machine_of(profile, spec)
    events, states = words.events_of(machine, what), words.matching(machine, state)
    if as_json:
        found = [_plain(given, answer) for name in states for given, _, answer in words.answers(machine, events, name)]
        click.echo(json.dumps(found, indent=2))
        return
    for event in events:
        click.echo("\n".join(words.explain_event(machine, event, states)))


def _explain_code(code: str) -> list[str]:
    if code not in CODES:
        raise LookupError(f"There is no finding {code}. There are {', '.join(CODES)}.")
    return [f"{code}: {CODES[code]}"]


def _plain(given: str, answer: Answer) -> dict[str, Any]:
    return {
        "event": answer.event,
        "if": given or None,
        "state": answer.source,
        "target": answer.target,
        "refused": answer.refusal,
        "ignored": answer.ignored,
        "effects": [call.effect for call in answer.effects],
        "rule": answer.rule,
        "lines": answer.lines,
    }


# ------------------------------------------------------------------------------------------------ draw


@main.command()
@machine_options
@click.option("--format", "kind", help=f"One of {', '.join(RENDERERS)}; if left out, by the ending of the file.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; else standard output.")
@click.option("--region", help="wire, inbox, app, or product: all of it; the overview if left out.")
@click.option("--path", "trace", help="Highlight a way: the name of a scenario, or a file of steps that ends in .json.")
@click.option("--all-answers", is_flag=True, help="Show what is ignored and what is refused, too.")
@click.option("--all", "directory", type=click.Path(file_okay=False, path_type=Path), help="Every picture, into here.")
@click.option("--check", is_flag=True, help="With --all: write nothing, exit with 1 where a picture has drifted.")
@click.pass_context
def draw(
    ctx: click.Context,
    profile: str,
    spec: str | None,
    kind: str | None,
    output: Path | None,
    region: str | None,
    trace: str | None,
    all_answers: bool,
    directory: Path | None,
    check: bool,
) -> None:
    """Draw the lifecycle, from the machine that the runtime obeys.

    svg, png and pdf need the program `dot` (Debian: apt install graphviz); dot, mermaid and markdown do not.
    """
    if (check and directory is None) or (directory is not None and (kind or output or region or trace or all_answers)):
        raise click.UsageError("--all DIR draws everything; it goes with --check, --profile and --spec only.")
    machine = machine_of(profile, spec)
    if directory is not None:
        from wslifecycle.conformance.pages import pages

        extra = pages(machine.flat) if profile == "reference" and spec is None else {}
        found = check_all(machine, directory, extra) if check else []
        written = [] if check else draw_all(machine, directory, extra)
        for line in (*found, *written):
            click.echo(line)
        ctx.exit(1 if found else 0)
    if kind is None and output is not None:
        ending = output.suffix.removeprefix(".").lower()
        if ending not in ENDINGS:
            raise click.UsageError(f"The ending of {output} is no format. Endings: {', '.join(ENDINGS)}; or --format.")
        kind = ENDINGS[ending]
    kind = kind or "dot"
    content = draw_picture(machine, kind, region, _steps(machine, trace) if trace else None, all_answers)
    if output is not None:
        output.write_bytes(content)
    else:
        if kind in ("png", "pdf") and sys.stdout is not None and sys.stdout.isatty():
            raise click.UsageError(f"A {kind} is not for a terminal. Write -o FILE.")
        click.echo(content, nl=False)


def _steps(machine: Lifecycle, trace: str) -> list[tuple[str, str, str]]:
    from wslifecycle.conformance.sansio import way
    from wslifecycle.conformance.scenarios import find

    if trace.endswith(".json"):
        return load_path(Path(trace).read_text(encoding="utf-8"))
    return way(find(trace), machine)


# ------------------------------------------------------------------------------------------------ demo


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="Where the pictures go.",
)
@click.option("--list", "listed", is_flag=True, help="Name the conversations and the scenarios.")
@click.option(
    "--granian",
    "environment",
    type=click.Path(file_okay=False, path_type=Path),
    help="Show the pattern of granian issue 591 failing on the `granian` in this bin folder, and working here.",
)
@click.pass_context
def demo(ctx: click.Context, names: tuple[str, ...], output: Path, listed: bool, environment: Path | None) -> None:
    """Watch a client and an app talk over a real socket: what each of them saw, and the states passed.

    The conversations run through Uvicorn with our WebSocket protocol and the client of `websockets`. NAMES are those of
    conversations, or of scenarios of spec/scenarios, which run on our own server; without any, every conversation
    runs. Each one's way is highlighted in a picture of the lifecycle.

    Exits with 1 when something is seen that the documents do not say, with --granian also when that Granian does not
    fail. `make demo-granian` makes an environment with Granian 2.3.1.
    """
    if environment is not None and (names or listed):
        raise click.UsageError("--granian DIRECTORY shows one pattern; it goes without names and without --list.")
    try:
        from wslifecycle.conformance import demo as conversations
        from wslifecycle.conformance.granian import granian
    except ImportError as missing:
        library = str(missing.name).partition(".")[0]
        raise click.UsageError(f"The demo needs {library}: pip install 'wslifecycle[demo]'") from None
    if listed:
        click.echo("\n".join(conversations.names()))
    elif not (granian(console(), environment) if environment else conversations.demo(console(), output, names)):
        ctx.exit(1)


# ------------------------------------------------------------------------------------------------ serve


main.add_command(check_command)
main.add_command(replay_command)
main.add_command(cover_command)
for name, says, extra in (
    ("autobahn", "Run the Autobahn cases against servers.", "stress"),
    ("conformance", "Hold servers against the spec, from outside.", "conformance"),
    ("diff", "Tell how two profiles differ, in words and as a picture.", "cli,diagram"),
    ("fuzz", "Fuzz a live server.", "fuzz"),
    ("pairs", "Measure the conformance kit on released bugs.", "conformance"),
    ("soak", "Have visitors come and go at a server for long.", "stress"),
    ("stress", "Try to break servers: load, faults, bad input, hostile peers.", "stress"),
):
    main.add_command(Later(name, f"wslifecycle.cli_{name}", says, extra))
main.add_command(spin_command)
main.add_command(export_command)
main.add_command(mutants)
main.add_command(serve)  # made from Uvicorn's own command when it is called


if __name__ == "__main__":
    main()
