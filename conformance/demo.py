"""Tells conversations over real sockets from all sides: what the app saw, what the wire saw, the states passed.

A conversation of `conversations` runs through Uvicorn with our WebSocket protocol and the client of the `websockets`
library. A scenario of `spec/scenarios/` runs on our own server, against a socket in the hands of a driver. Either way
what has to be seen was written down beforehand, from the documents; whatever differs is told and is a verdict. The
picture of the lifecycle is written with the way of each one highlighted.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wslifecycle.conformance.conversations import CONVERSATIONS, Conversation
from wslifecycle.conformance.scenarios import Act, Scenario, Seen, find, load_scenarios, short
from wslifecycle.conformance.sockets import run
from wslifecycle.conformance.talk import hold
from wslifecycle.statemachine.draw import DrawingError, draw
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import lifecycle


def demo(console: Console, directory: Path, chosen: Sequence[str] = ()) -> bool:
    """Runs conversations and scenarios and tells them; True when all went as the documents say.

    Without names it runs every conversation. Raises `LookupError` for a name that is neither. Writes one picture for
    each into `directory`.
    """
    good = [
        _tell(console, one, directory) if isinstance(one, Conversation) else _tell_scenario(console, one, directory)
        for one in [_find(name) for name in chosen or CONVERSATIONS]  # all are looked up before the first begins
    ]
    verdict = "as the documents say" if all(good) else f"{good.count(False)} otherwise than the documents say"
    console.print(f"{len(good)} conversation{'s' * (len(good) > 1)} over real sockets: {verdict}.")
    if not chosen:
        console.print("The pattern of granian issue 591 on a Granian that fails at it: make demo-granian")
    return all(good)


def names() -> Iterator[str]:
    """Every name that `demo` takes, with its title: conversations first, then scenarios."""
    yield from (f"{one.name}: {one.title}" for one in CONVERSATIONS.values())
    yield from (f"{one.name}: {one.title}" for one in load_scenarios().values())


def _find(name: str) -> Conversation | Scenario:
    if name in CONVERSATIONS:
        return CONVERSATIONS[name]
    try:
        return find(name)
    except LookupError as error:
        close = ", ".join(difflib.get_close_matches(name, CONVERSATIONS, n=3, cutoff=0.4))
        raise LookupError(f"{error}{f' Conversations like it: {close}.' if close else ''}") from None


# ------------------------------------------------------------------------------------------------ telling


def _tell(console: Console, conversation: Conversation, directory: Path) -> bool:
    told = asyncio.run(hold(conversation))
    columns = {"what the app saw": 5, "what the wire saw (> client, < server)": 4, "states passed": 0}
    table = _table(f"{conversation.name}: {conversation.title}", columns)
    for row in _rows(told.entries, len(columns)):
        table.add_row(*row)
    console.print(table)
    cited = f"From {_cited(conversation.rules)}."
    return _conclude(console, cited, told.differences, _picture(conversation.name, told.passed, directory))


def _rows(entries: Iterable[tuple[int, str]], width: int) -> list[list[str]]:
    """Lays entries (column, text) out so that their order is that of reading: along a row, then the next row."""
    rows: list[list[str]] = []
    last = width
    for column, text in entries:
        if column <= last:
            rows.append([""] * width)
        rows[-1][column] = text
        last = column
    return rows


def _cited(numbers: Iterable[str]) -> str:
    """Where rules stand: document, heading and numbers; a choice stands nowhere, since the documents are silent."""
    spec = lifecycle().spec
    places: dict[str, list[str]] = {}
    for number in numbers:
        rule, place = spec.rules.get(number), "where these are silent, our choice"
        if rule is not None:
            place = f"{rule.doc}, {'section ' * rule.doc.startswith('RFC')}{rule.place}"
        places.setdefault(place, []).append(number)
    return "; ".join(f"{place} ({', '.join(found)})" for place, found in places.items())


def _tell_scenario(console: Console, scenario: Scenario, directory: Path) -> bool:
    columns = {"what is done": 5, "what the app saw": 5, "what the wire saw": 5, "states passed": 4}
    table = _table(f"{scenario.name}: {scenario.title}", columns)
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
    line = f'From {cite.doc}, {cite.place} ({cite.rule}): "{cite.says}"'
    return _conclude(console, line, found, _picture(scenario.name, passed, directory))


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


def _table(title: str, columns: Mapping[str, int]) -> Table:
    """Columns by their share of the width; one without a share is as wide as it has to be."""
    table = Table(title=Text(title, "bold"), title_justify="left", expand=True)
    for column, share in columns.items():
        table.add_column(column, ratio=share or None, no_wrap=not share, overflow="fold")
    return table


def _conclude(console: Console, cited: str, differences: Sequence[str], picture: str) -> bool:
    """What stands below a table. True when nothing differs."""
    console.print(cited, highlight=False, markup=False)
    for difference in differences:
        console.print(f"DIFFERENT {difference}", style="bold red", highlight=False, markup=False)
    console.print(picture, highlight=False, markup=False, soft_wrap=True)
    console.print()
    return not differences


def _picture(name: str, passed: Sequence[Answer], directory: Path) -> str:
    """Writes the lifecycle with the way highlighted: SVG, or Mermaid where `dot` is missing."""
    path = [(answer.event, answer.source, answer.target) for answer in passed]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        file, content = directory / f"{name}.svg", draw(lifecycle(), "svg", path=path)
        note = ""
    except DrawingError as error:
        file, content = directory / f"{name}.mmd", draw(lifecycle(), "mermaid", path=path)
        note = f" ({error})"
    file.write_bytes(content)
    return f"The way through the lifecycle: {file}{note}"
