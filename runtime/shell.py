"""The smallest asyncio shell around a `Connection`: it hands over what happens and carries out the effects.

It holds no fact about the lifecycle. What it may remember is listed in `Session.__slots__` and explained there; whether
something is legal, due or over, only the connection's machine knows. Keepalive, back-pressure of reading and logging in
a server's style come with the full runtime.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias, TypedDict

from wslifecycle.runtime import codec as wire
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.connection import WAIT, Connection
from wslifecycle.statemachine.errors import LifecycleError
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_log = logging.getLogger("wslifecycle")


class Options(TypedDict):
    """What every connection of a server is made with."""

    spec_version: str
    extensions: tuple[str, ...]
    machine: Lifecycle | None
    observe: Callable[[Answer], None] | None


class Session(asyncio.Protocol):
    """One connection between a transport and an app, from the moment that the handshake request is complete."""

    __slots__ = (
        "_codec",  # bytes to events and back
        "_connection",  # the machine's view of this connection: the only thing here that knows the lifecycle
        "_drained",  # set while the transport takes more bytes: send() waits for it (C30)
        "_task",  # the app
        "_timers",  # those that run, by name
        "_transport",
        "_waiting",  # receive() calls that wait, in call order (C16)
    )

    def __init__(self, transport: asyncio.Transport, codec: wire.Codec, connection: Connection) -> None:
        self._transport = transport
        self._codec = codec
        self._connection = connection
        self._drained = asyncio.Event()
        self._drained.set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._waiting: deque[asyncio.Future[Message]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self, app: App, scope: MutableMapping[str, Any]) -> asyncio.Task[None]:
        """Starts the app; the task ends when its callable does."""
        self.carry_out(self._connection.started())
        self._task = asyncio.get_running_loop().create_task(self._run(app, scope))
        return self._task

    async def _run(self, app: App, scope: MutableMapping[str, Any]) -> None:
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            self.happened(self._connection.app_raised(error))
            if not isinstance(error, Exception):
                raise
            if not self._connection.is_quiet(error):
                _log.exception("Exception in ASGI application")
        else:
            self.happened(self._connection.app_returned())

    # ---------------------------------------------------------------------------------------- the app's side

    async def receive(self) -> Message:
        """The app's `receive()`: the next message, in call order."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._serve()
        return await future

    async def send(self, message: Message) -> None:
        """The app's `send()`: decided and written at once, then it waits until the transport takes more."""
        self.happened(self._connection.app_sent(message))
        await self._drained.wait()

    def _serve(self) -> None:
        """Answers the waiting `receive()` calls with what is due; those that were cancelled are skipped."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            try:
                given = self._connection.app_wants()
            except LifecycleError as error:
                self._waiting.popleft().set_exception(error)
                continue
            if given is WAIT or given.message is None:
                return
            future = self._waiting.popleft()
            pause = [effect.seconds for effect in given.effects if isinstance(effect, fx.Pace)]
            self.carry_out(given.effects)
            if pause:
                asyncio.get_running_loop().call_later(pause[0], _answer, future, given.message)
            else:
                future.set_result(given.message)

    # ---------------------------------------------------------------------------------------- the peer's side

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer: decoded, and told to the connection one by one."""
        for heard in self._codec.feed(data):
            match heard:
                case wire.Message(data=message):
                    self.happened(self._connection.peer_sent(message))
                case wire.Close(code, reason):
                    self.happened(self._connection.peer_closed(code, reason))
                case wire.Violation(code):
                    self.happened(self._connection.peer_violated(code))
                case wire.Reply(data=reply):
                    self._transport.write(reply)

    def eof_received(self) -> bool:
        """The peer ended its side. The transport stays, until an effect ends it."""
        self.happened(self._connection.peer_eof())
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self.happened(self._connection.peer_lost())
        for timer in self._timers.values():
            timer.cancel()
        self._drained.set()

    def pause_writing(self) -> None:
        """The transport's buffer is over its high-water mark."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """It is below again."""
        self._drained.set()

    # ---------------------------------------------------------------------------------------- the server's side

    def shutdown(self) -> None:
        """The server shuts down."""
        self.happened(self._connection.shutdown())

    def time_out(self, timer: str) -> None:
        """A timer ran out."""
        self.happened(self._connection.timed_out(timer))

    async def ended(self) -> None:
        """Waits until the app has ended; raises what it raised only if that was no ordinary exception."""
        if self._task is not None:
            await self._task

    # ---------------------------------------------------------------------------------------- effects

    def happened(self, effects: Iterable[fx.Effect]) -> None:
        """Something happened: carries out what it brought about and serves the `receive()` calls that wait."""
        self.carry_out(effects)
        self._serve()

    def carry_out(self, effects: Iterable[fx.Effect]) -> None:
        """Carries out effects in their order."""
        loop = asyncio.get_running_loop()
        for effect in effects:
            match effect:
                case fx.StartTimer(timer, seconds):
                    self._timers[timer] = loop.call_later(seconds, self.time_out, timer)
                case fx.CancelTimer(timer):
                    self._timers.pop(timer).cancel()
                case fx.PauseReading():
                    self._transport.pause_reading()
                case fx.ResumeReading():
                    self._transport.resume_reading()
                case fx.AbortTransport():
                    self._transport.abort()
                case fx.EndTransport(deadline):
                    self._transport.close()
                    if deadline is not None:
                        self._timers["end"] = loop.call_later(deadline, self._transport.abort)
                case _:
                    self._transport.write(self._codec.encode(effect))
                    if isinstance(effect, fx.CompleteHandshake):
                        loop.call_soon(self.data_received, b"")  # what was held before the accept


class Acceptor(asyncio.Protocol):
    """Reads the handshake request; then a `Session` takes the transport over."""

    def __init__(self, app: App, on_session: Callable[[Session], None], max_size: int, options: Options) -> None:
        self._app = app
        self._codec = wire.Codec(max_size)
        self._on_session = on_session
        self._options = options
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of the request."""
        assert self._transport is not None
        match self._codec.request(data):
            case wire.BadRequest(answer):
                self._transport.write(answer)
                self._transport.close()
            case wire.Request(scope):
                timeouts = {"keepalive": None}  # this shell sends no Pings
                connection = Connection(subprotocols=scope["subprotocols"], timeouts=timeouts, **self._options)
                session = Session(self._transport, self._codec, connection)
                self._transport.set_protocol(session)
                peer, here = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
                scope |= {
                    "asgi": {"version": "3.0", "spec_version": self._options["spec_version"]},
                    "extensions": {name: {} for name in self._options["extensions"]},
                    "client": peer[:2],
                    "server": here[:2],
                }
                self._on_session(session)
                session.start(self._app, scope)


async def serve(
    app: App,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    spec_version: str = "2.5",
    extensions: Iterable[str] = ("websocket.http.response",),
    max_size: int = 16 * 1024 * 1024,
    machine: Lifecycle | None = None,
    observe: Callable[[Answer], None] | None = None,
    on_session: Callable[[Session], None] = lambda session: None,
) -> asyncio.Server:
    """Serves an app over WebSocket and nothing else. Port 0 picks a free one.

    `spec_version` and `extensions` are what the scope advertises, `max_size` the bytes of a message before it is too
    large. `machine` is another profile than the reference; `observe` sees every answer of the machine, `on_session`
    every new session.
    """
    loop = asyncio.get_running_loop()
    options = Options(spec_version=spec_version, extensions=tuple(extensions), machine=machine, observe=observe)
    return await loop.create_server(lambda: Acceptor(app, on_session, max_size, options), host, port)


def _answer(future: asyncio.Future[Message], message: Message) -> None:
    if not future.done():
        future.set_result(message)
