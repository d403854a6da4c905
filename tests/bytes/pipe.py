"""One connection of ours on a transport in memory: which bytes went in, what came out, and what went wrong meanwhile.

`play` runs an `Acceptor` and an app on chunks of bytes, up to the end of the connection, in turns of the loop and
without any time. `fuzzed` is how long the tests of this folder look: as many examples as a suite can afford, always the
same ones; or, where `WSLIFECYCLE_BYTES_SECONDS` is set, always other ones for so many seconds each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

from hypothesis import HealthCheck, settings

from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import CodecName, Options
from wslifecycle.runtime.session import App, Message, Receive, Send, Service
from wslifecycle.statemachine.machine import lifecycle

_ = lifecycle()  # made now, and not while memory is measured
SECONDS = float(os.environ.get("WSLIFECYCLE_BYTES_SECONDS") or 0)
MAX_SIZE = 1000
"""Bytes of a message."""
OPTIONS: dict[CodecName, Options] = {
    name: Options(ping_interval=None, request_timeout=None, max_size=MAX_SIZE, codec=name)
    for name in get_args(CodecName)
}
TURNS = 20_000
"""Turns of the loop in which everything has to come to rest."""


class Pipe(asyncio.Transport):
    """A transport whose peer is the test. Bytes that are written behind its end are kept apart, as `late`."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.2", 50000), "sockname": ("192.0.2.1", 80)})
        self.ended = self.gone = self.paused = False
        self.escaped: list[str] = []
        self.late = b""
        self.written = bytearray()
        self._closing = False
        self._protocol = protocol

    def call(self, callback: Callable[..., object], *arguments: object) -> object:
        """Calls the protocol, out of which nothing may escape: asyncio would drop the connection for it."""
        try:
            return callback(*arguments)
        except Exception as error:
            self.escaped.append(repr(error))
            return None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self.ended:
            self.late += data
        else:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def _lose(self) -> None:
        self.gone = True
        self.call(self._protocol.connection_lost, None)

    @property
    def readable(self) -> bool:
        """Whether asyncio would read on."""
        return not self._closing and not self.paused

    def feed(self, data: bytes) -> None:
        """The peer has sent this."""
        self.call(self._protocol.data_received, data)

    def feed_eof(self) -> None:
        """The peer has ended its side; a protocol that does not want to go on is closed, as asyncio does it."""
        if not self._closing and not self.call(self._protocol.eof_received):
            self.close()


@dataclass
class Outcome:
    """What became of a connection."""

    output: bytes = b""
    scope: Message | None = None
    given: list[Message] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What must not be: exceptions that escaped, complaints of the loop or in a log, and whatever is left over."""


class Ear(logging.Handler):
    """Hears what is logged: no line may tell of an error, and none may be two."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._loggers = [logging.getLogger(name) for name in ("wslifecycle", "asyncio")]
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if record.levelno >= logging.ERROR or record.exc_info or not line.isprintable():
            self._wrong.append(f"{record.name} logs {record.exc_info or line!r}")

    def __enter__(self) -> None:
        self._before = [(logger, logger.level, logger.propagate) for logger in self._loggers]
        for logger in self._loggers:
            logger.addHandler(self)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False  # pytest would keep every line

    def __exit__(self, *_: object) -> None:
        for logger, level, propagate in self._before:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate


async def parrot(scope: Message, receive: Receive, send: Send) -> None:
    """An app that accepts with the first subprotocol, and sends back what it is given as long as anybody listens."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        with contextlib.suppress(OSError):
            await send({**message, "type": "websocket.send"})


async def sink(scope: Message, receive: Receive, send: Send) -> None:
    """An app that accepts, reads and keeps nothing."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass


def play(
    chunks: Iterable[bytes],
    *,
    patient: bool = True,
    app: App = parrot,
    keep: bool = True,
    codec: CodecName = "auto",
) -> Outcome:
    """Runs a connection whose peer sends these chunks and ends.

    `patient`: everything comes to rest between two chunks; else they come in consecutive turns. Without `keep` nothing
    is kept of what the app is given.
    """
    outcome = Outcome()

    async def noted(scope: Message, receive: Receive, send: Send) -> None:
        async def noting() -> Message:
            message = await receive()
            if keep:
                outcome.given.append(message)
            return message

        outcome.scope = scope
        await app(scope, noting, send)

    with asyncio.Runner() as runner, Ear(outcome.wrong):
        runner.run(_drive(Service(noted, OPTIONS[codec]), chunks, patient, outcome))
    return outcome


def endless(first: bytes, more: bytes) -> Iterator[bytes]:
    """Something, and then four megabytes of the same, as a transport reads it."""
    yield first
    for _ in range(64):
        yield more * (65536 // len(more))


async def _drive(service: Service, chunks: Iterable[bytes], patient: bool, outcome: Outcome) -> None:
    loop, wrong = asyncio.get_running_loop(), outcome.wrong
    loop.set_exception_handler(lambda _, context: wrong.append(f"the loop complains: {context}"))
    connections = set[Any]()
    acceptor = Acceptor(service, connections)
    pipe = Pipe(acceptor)
    pipe.call(acceptor.connection_made, pipe)
    for chunk in filter(None, chunks):  # asyncio tells of no bytes only at the end
        if patient or not pipe.readable:
            await _rest(wrong)
        if not pipe.readable:
            break
        pipe.feed(chunk)
        await asyncio.sleep(0)
    if patient:
        await _rest(wrong)
    pipe.feed_eof()
    await _rest(wrong)
    pipe.close()
    await _rest(wrong)
    outcome.output = bytes(pipe.written)
    timers = [timer for timer in vars(loop)["_scheduled"] if not timer.cancelled()]
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    left = {"late bytes": pipe.late, "timers": timers, "tasks": tasks, "apps": service.tasks, "peers": connections}
    wrong += [*pipe.escaped, *(f"left: {name}: {what}" for name, what in left.items() if what)]


async def _rest(wrong: list[str]) -> None:
    """Waits until there is nothing that could go on by itself."""
    ready = vars(asyncio.get_running_loop())["_ready"]
    for _ in range(TURNS):
        await asyncio.sleep(0)
        if not ready:
            return
    wrong.append("it does not come to rest")


Test = Callable[..., None]


def fuzzed(examples: int) -> Callable[[Test], Test]:
    """How long a property is looked at: so many examples, or as many as there is time for."""
    how = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=examples)

    def decorate(test: Test) -> Test:
        if not SECONDS:
            return settings(how, derandomize=True)(test)
        once = settings(how, max_examples=500)(test)

        def for_seconds(*itself: Any) -> None:
            begun = time.monotonic()
            while time.monotonic() - begun < SECONDS:
                once(*itself)

        return for_seconds

    return decorate
