"""What was measured, as a picture: bars for each loop, and how cost and memory grow with connections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.columns import Column
from benchmarks.speed.figures import Figures
from wslifecycle.conformance.kit.loops import LOOPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIB = 2**20


def draw(figures: Figures, file: Path) -> None:
    """Draws everything into a PNG. Raises `ImportError` without matplotlib."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(16, 15), layout="constrained")
    places = picture.subplot_mosaic([[LOOPS[0]] * 2, [LOOPS[1]] * 2, ["cost", "memory"]])
    for loop in LOOPS:
        _bars(figures, loop, places[loop])
    _cost(figures, places["cost"])
    _memory(figures, places["memory"])
    picture.savefig(file, dpi=100, metadata={"Software": None})


def _bars(figures: Figures, loop: str, axes: Axes) -> None:
    """A group of bars for each kind of load, a bar for each server; floors would dwarf them."""
    servers = [one for one in figures.report.entrants if one.loop == loop and one.group != "floor"]
    colours = list(dict.fromkeys(one.name for one in figures.report.entrants))
    columns = [column.name for column in figures.loads]
    axes.set_title(f"{loop}: times as many messages per second of CPU as {figures.reference}")
    width = 0.85 / max(len(servers), 1)
    for place, one in enumerate(servers):
        cells = [figures.cell(one.label, name) for name in columns]
        heights = [(cell.times or 0.0) if cell else 0.0 for cell in cells]
        at = [column - 0.425 + (place + 0.5) * width for column in range(len(columns))]
        edge = "k" if one.group == "ours" else None
        axes.bar(at, heights, width, label=one.name, color=f"C{colours.index(one.name)}", edgecolor=edge)
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])
    if servers:
        axes.legend(ncols=5, fontsize="small", loc="upper left")


def _cost(figures: Figures, axes: Axes) -> None:
    """CPU of a small message by connections."""
    columns = sorted(_small(figures.report.columns), key=lambda column: column.connections)
    charted = [column.name for column in columns if column.chart]
    axes.set_title("µs of CPU for a message of 16B, by connections")
    for one in figures.report.entrants:
        cells = [(column.connections, figures.cell(one.label, column.name)) for column in columns]
        points = [(connections, cell.micros) for connections, cell in cells if cell and cell.micros is not None]
        if any(figures.cell(one.label, name) for name in charted):
            _line(axes, one.label, one.group, points)
    axes.set_xscale("log")
    _finish(axes)


def _small(columns: Sequence[Column]) -> list[Column]:
    return [one for one in columns if (one.kind, one.size, one.outstanding) == ("echo", 16, 1)]


def _memory(figures: Figures, axes: Axes) -> None:
    """Memory by idle connections."""
    axes.set_title("MiB of memory, by idle connections")
    for one in figures.report.entrants:
        growth = figures.growth(one.label)
        if growth is not None and len(growth.points) > 2:
            _line(axes, one.label, one.group, [(connections, size / MIB) for connections, size in growth.points])
    _finish(axes)


def _line(axes: Axes, label: str, group: str, points: Sequence[tuple[int, float]]) -> None:
    style = "-o" if group == "ours" else "--x"
    axes.plot([at for at, _ in points], [height for _, height in points], style, label=label, markersize=4)


def _finish(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(fontsize="x-small", ncols=2)
