"""The command `pairs`: measures the kit on real bugs, by releases that have them and releases that have not.

Exit status: 0 every bug was found, 1 one was not, 2 misuse.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.kit.environments import NoEnvironment
from wslifecycle.conformance.kit.pairs import Judgement, Outcome, Pair, forget, judge, load_pairs, measured, packaged
from wslifecycle.conformance.kit.results import Result


@click.command("pairs")
@click.option("--only", multiple=True, metavar="ID", help="Only this pair; may be given several times.")
@click.option(
    "--file",
    "other",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Other pairs, in the columns of conformance/kit/pairs.csv.",
)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/pairs"),
    show_default=True,
    help="Where environments and results are kept, so that a run that was interrupted goes on.",
)
@click.option("--fresh", is_flag=True, help="Try again what has been tried.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def pairs_command(
    ctx: click.Context, only: tuple[str, ...], other: Path | None, root: Path, fresh: bool, as_json: bool
) -> None:
    """Measure the conformance kit on released bugs of ASGI servers.

    For each pair both releases are installed and tried. A bug is found where the release that has it deviates on a rule
    in question and the other one does not. Takes a minute or two for each release; what was tried is kept.
    """
    try:
        every = load_pairs(other.read_text(encoding="utf-8")) if other else packaged()
    except ValueError as error:
        raise click.UsageError(f"{other}: {error}") from None
    unknown = set(only) - {pair.name for pair in every}
    if unknown:
        raise click.UsageError(f"There is no pair {', '.join(sorted(unknown))}.")
    chosen = [pair for pair in every if not only or pair.name in only]
    if fresh:
        forget(chosen, root)
    found = []
    err = Console(stderr=True)
    for number, pair in enumerate(chosen, 1):
        where = f"{number}/{len(chosen)} {pair.name}: {pair.argument} {pair.buggy} and {pair.good}"
        with err.status(where) as status:
            found.append(
                _judged(pair, root, lambda text, where=where, status=status: status.update(f"{where}: {text}"))  # type: ignore[misc]
            )
        if not as_json:
            click.echo(found[-1].text())
    counts = Counter(one.outcome for one in found)
    if as_json:
        plain = [
            {"id": one.pair.name, "outcome": one.outcome, "error": one.error, "shown": [f.key for f in one.shown],
             "alarms": [f.key for f in one.alarms]}
            for one in found
        ]  # fmt: skip
        click.echo(json.dumps({"counts": counts, "pairs": plain}, indent=2))
    else:
        click.echo(", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome) + f", of {len(found)}")
    ctx.exit(0 if counts[Outcome.FOUND] == len(found) else 1)


def _judged(pair: Pair, root: Path, tell: Callable[[str], None]) -> Judgement:
    """Tries both releases, and tells how far that is."""
    from wslifecycle.conformance.kit.run import KitError, conform

    def tried(server: servers.Server) -> Result:
        return conform(server, progress=lambda done, of: tell(f"{done} of {of}"))

    try:
        buggy, good = measured(pair, root, tried)
    except (KitError, NoEnvironment, LookupError, OSError) as error:
        return Judgement(pair, Outcome.ERROR, error=(str(error) if isinstance(error, OSError) else error.args[0])[:600])
    return judge(pair, buggy, good)
