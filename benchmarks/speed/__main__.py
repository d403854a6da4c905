"""How fast servers echo, side by side: `python -m benchmarks.speed`, or `make bench`.

A report, never a gate: the exit status is 0 however fast anybody is, and 2 where the command makes no sense.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.speed import show
from benchmarks.speed.columns import COLUMNS, Column
from benchmarks.speed.contenders import Contender, everyone
from benchmarks.speed.draw import draw
from benchmarks.speed.figures import Figures
from benchmarks.speed.measure import measure
from benchmarks.speed.results import Entrant, Report, load
from wslifecycle.conformance.kit import servers

FULL = (7, 1.0)
QUICK = (2, 0.15)
"""Rounds, and seconds of a burst."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("python -m benchmarks.speed", description="How fast servers echo, side by side.")
    made.add_argument("--bin", type=Path, default=Path(".venv-servers/bin"), help="programs of the other servers")
    made.add_argument("--quick", action="store_true", help="minutes instead of an hour, and figures that differ more")
    made.add_argument("--rounds", type=int, metavar="N", help=f"{FULL[0]}; --quick: {QUICK[0]}")
    made.add_argument("--seconds", type=float, metavar="S", help=f"of a burst: {FULL[1]:g}; --quick: {QUICK[1]:g}")
    made.add_argument("--only", action="append", default=[], metavar="TEXT", help="contenders with this in their name")
    made.add_argument("--column", action="append", default=[], metavar="TEXT", help="columns with this in their name")
    made.add_argument("--list", action="store_true", help="who and what there is")
    made.add_argument("--from", dest="kept", type=Path, metavar="FILE", help="show what was kept by --json")
    made.add_argument("--json", type=Path, metavar="FILE", help="keep every burst")
    made.add_argument("--png", type=Path, metavar="FILE", help="draw it")
    made.add_argument("--markdown", action="store_true", help="show a table in Markdown")
    return made


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    made = parser()
    asked = made.parse_args(words)
    if (asked.rounds is not None and asked.rounds < 1) or (asked.seconds is not None and not 0 < asked.seconds <= 600):
        made.error("--rounds has to be at least 1, --seconds more than 0 and at most 600")
    for module, needed in (("picows", asked.kept is None), ("matplotlib", asked.png is not None)):
        if needed and find_spec(module) is None:
            made.error(f"{module} is not installed: make setup")
    try:
        if asked.kept is not None:
            if asked.only or asked.column or asked.list or asked.json or asked.quick or asked.rounds or asked.seconds:
                made.error("--from shows what was kept: nothing but --png and --markdown goes with it")
            report = load(asked.kept.read_text(encoding="utf-8"))
        else:
            contenders, columns, lacking = _chosen(asked.bin, asked.only, asked.column)
            if asked.list:
                print("\n".join([*(one.label for one in contenders), "", *(f"{c.name}: {c.says}" for c in columns)]))
                return
            rounds, seconds = QUICK if asked.quick else FULL
            report = _measured(contenders, columns, asked.rounds or rounds, asked.seconds or seconds, lacking)
            if asked.json is not None:
                _kept(asked.json).write_text(report.dump(), encoding="utf-8")
    except (ValueError, LookupError, OSError) as error:
        made.error(str(error))
    figures = Figures(report)
    if asked.png is not None:
        draw(figures, _kept(asked.png))
    print(show.markdown(figures) if asked.markdown else show.text(figures), end="")


def _kept(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _chosen(
    programs: Path, only: Sequence[str], column: Sequence[str]
) -> tuple[list[Contender], list[Column], list[str]]:
    """Who and what is meant. Raises `LookupError` for a part of a name that nobody has."""
    everybody, lacking = everyone(programs)
    missing = "".join(f" {note}" for note in lacking)
    for part, names in (
        *((part, [one.label for one in everybody]) for part in only),
        *((part, [one.name for one in COLUMNS]) for part in column),
    ):
        if not any(part in name for name in names):
            raise LookupError(f"Nothing is called {part!r}. There are: {', '.join(names)}.{missing}")
    contenders = [one for one in everybody if not only or any(part in one.label for part in only)]
    columns = [one for one in COLUMNS if not column or any(part in one.name for part in column)]
    return contenders, columns, [] if only else lacking


def _measured(
    contenders: Sequence[Contender], columns: Sequence[Column], rounds: int, seconds: float, notes: list[str]
) -> Report:
    """What comes of it, or what has come of it when somebody interrupts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # thousands of connections, for the servers as well
    report = Report(_machine(), rounds, seconds, columns=list(columns), notes=notes)

    async def work() -> None:
        for one in contenders:
            version = await servers.version(one.server)
            report.entrants.append(Entrant(one.label, one.name, one.loop, one.group, version))
        await measure(report, contenders, _progress())

    try:
        asyncio.run(work())
    except (KeyboardInterrupt, OSError) as error:  # what was measured is shown all the same
        report.notes.append(f"It was cut short: {error!r}. There are fewer rounds than it says.")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return report


def _machine() -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _progress() -> Callable[[int, int, str], None]:
    """Says how far it is: a line that is drawn again on a terminal, else one now and then."""
    begun = said = time.monotonic()
    terminal = sys.stderr.isatty()

    def tell(done: int, of: int, what: str) -> None:
        nonlocal said
        now = time.monotonic()
        if not terminal and now - said < 15:
            return
        said = now
        left = f"{done}/{of}, {(now - begun) / done * (of - done) / 60:.1f} min left: " if done else ""
        print(f"\r\x1b[K{left}{what}" if terminal else f"{left}{what}", end="" if terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    return tell


if __name__ == "__main__":
    main()
