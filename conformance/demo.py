"""Short conversations over a real socket, told from all sides: the app, the wire, and the states that were passed.

Each is a scenario of `spec/scenarios/`: what has to be seen was written down beforehand, from the documents. The
picture of the lifecycle is written with the way of each conversation highlighted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from wslifecycle.conformance.scenarios import Act, Scenario, Seen, find, short
from wslifecycle.conformance.sockets import run
from wslifecycle.statemachine.draw import DrawingError, draw
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import lifecycle

CONVERSATIONS = ("echo", "reject", "close-with-code", "peer-lost", "granian-591")


def demo(console: Console, directory: Path, names: Sequence[str] = ()) -> bool:
    """Runs the conversations and tells them; True when all went as their scenarios say.

    Raises `LookupError` for a name that is no scenario. Writes one picture for each conversation into `directory`.
    """
    good = [_tell(console, scenario, directory) for scenario in [find(name) for name in names or CONVERSATIONS]]
    verdict = "as their scenarios say" if all(good) else f"{good.count(False)} otherwise than their scenarios say"
    console.print(f"{len(good)} conversation{'s' * (len(good) > 1)} over real sockets: {verdict}.")
    return all(good)


def _tell(console: Console, scenario: Scenario, directory: Path) -> bool:
    table = Table(title=f"{scenario.name}: {scenario.title}", title_justify="left", title_style="bold", expand=True)
    for column, ratio in (("what is done", 5), ("what the app saw", 5), ("what the wire saw", 5), ("states passed", 4)):
        table.add_column(column, ratio=ratio, overflow="fold")
    passed: list[Answer] = []
    told = 0

    def watch(act: Act, seen: Seen) -> None:
        nonlocal told
        app = [short(message) for message in seen.app]
        app += [f"send() raised {seen.raised}"] if seen.raised else []
        app += ["receive() waits"] if act.stimulus == "app asks" and not seen.app else []
        states = [answer.target for answer in passed[told:]]
        told = len(passed)
        table.add_row(str(act), "\n".join(app), "\n".join(_brief(entry) for entry in seen.peer), "\n".join(states))

    def observe(answer: Answer) -> None:
        if answer.moves:
            passed.append(answer)

    found = asyncio.run(run(scenario, observe=observe, watch=watch))
    console.print(table)
    cite = scenario.cites[0]
    console.print(f'From {cite.doc}, {cite.place} ({cite.rule}): "{cite.says}"', highlight=False, markup=False)
    for difference in found:
        console.print(f"DIFFERENT {difference}", style="bold red", highlight=False, markup=False)
    console.print(_picture(scenario, passed, directory), highlight=False, markup=False)
    console.print()
    return not found


def _brief(entry: dict[str, object]) -> str:
    """What the wire saw, without the header fields that every answer has."""
    match entry:
        case {"handshake": {"subprotocol": subprotocol}}:
            return "HTTP 101" + (f" {subprotocol}" if subprotocol else "")
        case {"http": {"status": status, "body": bytes(body)}}:
            return f"HTTP {status} {body.decode('latin-1')}".rstrip()
        case {"end": _}:
            return "end of TCP"
    return short(entry)


def _picture(scenario: Scenario, passed: Sequence[Answer], directory: Path) -> str:
    """Writes the lifecycle with the way highlighted: SVG, or Mermaid where `dot` is missing."""
    path = [(answer.event, answer.source, answer.target) for answer in passed]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        file, content = directory / f"{scenario.name}.svg", draw(lifecycle(), "svg", path=path)
        note = ""
    except DrawingError as error:
        file, content = directory / f"{scenario.name}.mmd", draw(lifecycle(), "mermaid", path=path)
        note = f" ({error})"
    file.write_bytes(content)
    return f"The way through the lifecycle: {file}{note}"
