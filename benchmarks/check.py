"""What it costs to check the lifecycle, and how the cost grows with the bounds.

For each set of bounds the system is explored anew and every property is checked; the medians over the turns are shown,
the sets taking turns in one process. `states/s` is the search alone, `seconds` the whole, properties
included. With several connections the product of their states is explored on top, without its properties: what was
checked of one holds of each.

    python benchmarks/check.py [--json] [--turns N] [--large]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from wslifecycle import lifecycle
from wslifecycle.statemachine.check import check
from wslifecycle.statemachine.product import multiply
from wslifecycle.statemachine.system import Bounds

DEFAULT = Bounds()
BOUNDS = (Bounds(1, 0, 1), Bounds(1, 0, 2), Bounds(1, 1, 1), DEFAULT, Bounds(1, 1, 3))
LARGE = (Bounds(1, 2, 1), Bounds(1, 2, 2), Bounds(2, 0, 1))
"""Minutes, and some gigabytes of memory."""
LIMIT = 50_000_000
AT_MOST, AT_LEAST = 10.0, 50_000
"""What we aim at with the default bounds: seconds for all of it, and states explored in a second."""


def measure(bounds: Bounds) -> dict[str, float]:
    """One check with these bounds."""
    report = check(lifecycle().flat, bounds, limit=LIMIT)
    assert report.holds, report.violations
    graph = report.graph
    found: dict[str, float] = {
        "states": len(graph),
        "transitions": graph.transitions,
        "depth": graph.depth(),
        "explored": len(graph) / graph.seconds,
        "checked": report.seconds,
    }
    if bounds.connections > 1:
        began = time.perf_counter()
        product = multiply(graph, bounds.connections, LIMIT)
        seconds = time.perf_counter() - began
        found |= {"product": product.states, "multiplied": product.states / seconds, "multiplying": seconds}
    return found


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What it costs to check the lifecycle.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--turns", type=int, default=3, help="how often each of them runs (default: %(default)s)")
    parser.add_argument("--large", action="store_true", help="larger bounds as well, once each: takes minutes")
    chosen = parser.parse_args(arguments if arguments is None else list(arguments))
    taken: dict[Bounds, list[dict[str, float]]] = defaultdict(list)
    for _ in range(chosen.turns):
        for bounds in BOUNDS:
            taken[bounds].append(measure(bounds))
            gc.collect()
    for bounds in LARGE if chosen.large else ():
        taken[bounds].append(measure(bounds))
        gc.collect()
    rows = [
        {
            "connections": bounds.connections,
            "queue": bounds.queue,
            "receivers": bounds.receivers,
            **{key: statistics.median(turn[key] for turn in turns) for key in turns[0]},
        }
        for bounds, turns in taken.items()
    ]
    if chosen.json:
        print(json.dumps({"python": platform.python_version(), "turns": chosen.turns, "rows": rows}))
        return
    print(f"{chosen.turns} turns each, Python {platform.python_version()}; medians")
    columns = ("connections", "queue", "receivers", "states", "transitions", "depth", "states/s", "seconds")
    print("".join(f"{column:>13}" for column in columns))
    for row in rows:
        print(line(row))
    default = next(row for row, bounds in zip(rows, taken, strict=True) if bounds == DEFAULT)
    print(f"  default bounds: {default['checked']:.1f} s   aim: under {AT_MOST:.0f} s")
    print(f"  default bounds: {default['explored']:,.0f} states/s   aim: at least {AT_LEAST:,}")


def line(row: dict[str, Any]) -> str:
    """One row for people; the product of several connections stands in a line of its own."""
    counts = [row[key] for key in ("connections", "queue", "receivers", "states", "transitions", "depth")]
    cells = [f"{count:>13,}" for count in counts] + [f"{row['explored']:>13,.0f}", f"{row['checked']:>13.1f}"]
    text = "".join(cells)
    if "product" in row:
        text += f"\n{'':>39}{row['product']:>13,}{'together':>26}{row['multiplied']:>13,.0f}{row['multiplying']:>13.1f}"
    return text


if __name__ == "__main__":
    main()
