"""The command `diff`: how two profiles differ, in words and as a picture.

Exit status: 0 they are the same, 1 they differ, 2 misuse.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from wslifecycle.statemachine.difference import difference, drawn
from wslifecycle.statemachine.draw import COLOURED, DrawingError
from wslifecycle.statemachine.load import load_profile, load_spec


@click.command("diff")
@click.argument("one")
@click.argument("other")
@click.option("--spec", type=click.Path(exists=True, dir_okay=False), help="A spec of your own.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Draw both in one picture; the ending says the format: {', '.join(COLOURED)}.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def diff_command(
    ctx: click.Context, one: str, other: str, spec: str | None, output: Path | None, as_json: bool
) -> None:
    """Tell how two profiles differ: in their choices, in what their machines do, and in what was seen besides.

    ONE and OTHER are `reference`, a profile of spec/profiles such as granian, or a .yaml file.
    """
    kind = output.suffix.removeprefix(".").lower() if output is not None else ""
    if output is not None and kind not in COLOURED:
        raise click.UsageError(f"The ending of {output} is no format. Endings: {', '.join(COLOURED)}.")
    loaded = load_spec(spec) if spec else load_spec()
    profiles = [load_profile(loaded, name) for name in (one, other)]
    found = difference(loaded, *profiles)
    if as_json:
        plain = {
            "same": not found,
            "advertised": found.advertised,
            "choices": [chosen._asdict() for chosen in found.choices],
            "deeds": [deed._asdict() for deed in found.deeds],
            "deviations": [[departure._asdict() for departure in each] for each in found.departures],
        }
        click.echo(json.dumps(plain, indent=2))
    else:
        for line in found.lines():
            click.echo(line)
        if not found:
            click.echo("They are the same.")
    if output is not None:
        try:
            output.write_bytes(drawn(loaded, profiles[0], profiles[1], kind))
        except DrawingError as error:
            raise click.UsageError(str(error)) from error
    ctx.exit(1 if found else 0)
