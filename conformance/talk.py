"""Holds a conversation of the demo over a real socket, and keeps what each side saw of it in the order of time.

`hold` does all of it in this process: Uvicorn with our WebSocket protocol, the app in a `Probe`, and the client. `talk`
is the client's half, against any server. Every wait is bounded by the patience of the drivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from itertools import zip_longest
from typing import Any

import uvicorn
from uvicorn.importer import import_from_string
from websockets.asyncio.client import connect
from websockets.frames import Close, Frame, Opcode

from wslifecycle.conformance import peer as peers
from wslifecycle.conformance.conversations import Conversation
from wslifecycle.conformance.probe import App, Probe
from wslifecycle.conformance.scenarios import short
from wslifecycle.runtime.options import Options
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import lifecycle

PROTOCOL = "wslifecycle.integrations.uvicorn:LifecycleProtocol"
"""What `uvicorn --ws` is given."""

APP, WIRE, STATES = range(3)
"""The sides that an entry may be of."""


class Told:
    """What was seen of a conversation: entries (side, text) in the order of time, and what is wrong with it."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str]] = []
        self.passed: list[Answer] = []
        self.differences: list[str] = []
        self._starting: dict[int, int] = {}  # calls of this turn of the loop, with the places of their entries

    def note(self, number: int, name: str, outcome: str, value: Any) -> None:
        """What a `Probe` notes: a call stands where it started, and once more where it ended if it had to wait."""
        if name == "app" and outcome in ("starts", "waits"):
            self.entries += [(STATES, next(iter(lifecycle().states)))] if outcome == "starts" else []
            return
        text = _call(name, outcome, value)
        if number in self._starting:
            self.entries[self._starting.pop(number)] = (APP, text)
            return
        if outcome == "starts":
            self._starting[number] = len(self.entries)
        self.entries.append((APP, text))

    def observe(self, answer: Answer) -> None:
        """What the machine answers."""
        if answer.moves:
            self.entries.append((STATES, answer.target))
            self.passed.append(answer)

    def tell(self, text: str) -> None:
        """What is seen on the wire."""
        self.entries.append((WIRE, text))

    def side(self, side: int) -> list[str]:
        """What one side saw."""
        return [text for other, text in self.entries if other == side]


async def hold(conversation: Conversation) -> Told:
    """Runs a conversation through Uvicorn in this process. What went otherwise is in `differences`."""
    told, ended = Told(), asyncio.Event()
    probe = Probe(conversation.app, told.note)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await probe(scope, receive, send)
        finally:
            ended.set()

    with _errors() as errors:
        async with _served(app, Options(observe=told.observe)) as port:
            told.differences += await talk(conversation, port, told)
            try:
                async with asyncio.timeout(peers.PATIENCE):
                    await ended.wait()
            except TimeoutError:
                told.differences.append("the app has not ended")
    told.differences += difference("the app", conversation.app_sees, told.side(APP))
    told.differences += difference("the wire", conversation.wire_sees, told.side(WIRE))
    if not told.passed or told.passed[-1].target not in lifecycle().flat.final:
        told.differences.append(f"the lifecycle has not ended but is in {(told.side(STATES) or ['no state'])[-1]}")
    told.differences += (f"the server logged an error: {error}" for error in errors)
    return told


async def talk(conversation: Conversation, port: int, told: Told) -> list[str]:
    """The client's half, against the server on a port. Tells what the wire sees; returns what hindered the client."""
    logger = logging.Logger("the client", logging.DEBUG)
    logger.addHandler(_WireLog(told))
    address, patience = f"ws://127.0.0.1:{port}/", peers.PATIENCE
    opens = partial(connect, address, proxy=None, logger=logger, open_timeout=patience, close_timeout=patience)
    try:
        async with asyncio.timeout(3 * peers.PATIENCE):
            await conversation.client(opens, told.tell)
    except TimeoutError:
        return ["the client waited in vain"]
    except Exception as error:  # whatever a server may make of a client
        return [f"the client failed: {type(error).__name__}: {error}"]
    return []


def difference(who: str, wanted: Iterable[str], seen: Iterable[str]) -> Iterator[str]:
    """The first difference; what comes behind it would only be shifted."""
    for due, came in zip_longest(wanted, seen):
        if due != came:
            yield f"{who} saw {came or 'nothing'} where {due or 'nothing'} was due"
            return


# ------------------------------------------------------------------------------------------------ the app's side


def _call(name: str, outcome: str, value: Any) -> str:
    """An entry: `receive() gave websocket.connect`, `send() raised Disconnected`, `the app returned`."""
    who = "the app" if name == "app" else f"{name}()"
    match outcome:
        case "gave" | "took":
            return f"{who} {outcome} {short(value)}"
        case "raised":
            return f"{who} raised {type(value).__name__}"
        case "cancelled":
            return f"{who} was cancelled"
    return f"{who} {outcome}"


@contextlib.asynccontextmanager
async def _served(app: App, options: Options) -> AsyncIterator[int]:
    """Serves an app by Uvicorn with our protocol in this loop; gives the port, where connections queue up at once."""
    protocol = type("Observed", (import_from_string(PROTOCOL),), {"options": options})
    config = uvicorn.Config(
        app,
        ws=protocol,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=math.ceil(peers.PATIENCE),
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Uvicorn as a guest: Ctrl-C is the host's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


@contextlib.contextmanager
def _errors() -> Iterator[list[str]]:
    """Collects the errors that are logged meanwhile, each with the exception that it is about."""
    found: list[str] = []

    def emit(record: logging.LogRecord) -> None:
        about = f" ({record.exc_info[1]!r})" if record.exc_info else ""
        found.append(record.getMessage().partition("\n")[0] + about)

    handler = logging.Handler(logging.ERROR)
    handler.emit = emit  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(handler)


# ------------------------------------------------------------------------------------------------ the wire's side


class _WireLog(logging.Handler):
    """Takes from the log of the `websockets` library what went over the wire."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        """The library logs `>` or `<` with the values themselves: a path, a status, a header field, a frame."""
        if record.msg[:2] not in ("> ", "< "):
            return
        match record.args:
            case (Frame() as frame,):
                text = _frame(frame)
            case (int(status), str()):
                text = f"HTTP {status}"
            case (str(name), str(value)) if name.lower() == "sec-websocket-protocol":
                text = f"Sec-WebSocket-Protocol: {value}"
            case (str(path),):
                text = f"GET {path}"
            case _:
                return
        self._told.tell(record.msg[:2] + text)


def _frame(frame: Frame) -> str:
    data = bytes(frame.data)
    match frame.opcode:
        case Opcode.TEXT:
            return f"TEXT {data.decode()!r}"
        case Opcode.CLOSE if data:
            close = Close.parse(data)
            return f"CLOSE {close.code} {close.reason!r}"
    return f"{frame.opcode.name} {data!r}"
