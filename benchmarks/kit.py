"""What it costs to hold a server against the spec, and how the cost grows with how often everything is held.

Our own server is held again and again, the numbers of repeats taking turns; medians are shown. Most of the time the kit
waits: that nothing comes is only known after a while, for as many cases at once as are held beside each other.

    python benchmarks/kit.py [--json] [--turns N]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable

from wslifecycle.conformance.kit.run import conform
from wslifecycle.conformance.kit.servers import Server, find

SERVER = "wslifecycle:start_server"
REPEATS = (1, 2, 4)


def measure(server: Server, repeat: int) -> tuple[int, float]:
    """How many cases were held, and the seconds that it took."""
    held = [0]

    def progress(done: int, of: int) -> None:
        held.append(done)

    result = conform(server, repeat=repeat, progress=progress)
    assert result.passed, result.deviations
    return max(held), result.seconds


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What it costs to hold a server against the spec.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--turns", type=int, default=3, help="how often each of them runs (default: %(default)s)")
    chosen = parser.parse_args(arguments if arguments is None else list(arguments))
    (server,) = find(SERVER)
    taken: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for _ in range(chosen.turns):
        for repeat in REPEATS:
            taken[repeat].append(measure(server, repeat))
    rows = [
        {"repeat": repeat, "held": statistics.median(held), "seconds": statistics.median(seconds)}
        for repeat, (held, seconds) in ((repeat, zip(*turns, strict=True)) for repeat, turns in taken.items())
    ]
    if chosen.json:
        print(json.dumps({"python": platform.python_version(), "turns": chosen.turns, "rows": rows}))
        return
    print(f"{SERVER}, {chosen.turns} turns each, Python {platform.python_version()}; medians")
    print("".join(f"{column:>12}" for column in ("repeat", "cases held", "seconds", "ms each")))
    for row in rows:
        each = 1000 * row["seconds"] / row["held"]
        print(f"{row['repeat']:>12}{row['held']:>12,.0f}{row['seconds']:>12.1f}{each:>12.1f}")


if __name__ == "__main__":
    main()
