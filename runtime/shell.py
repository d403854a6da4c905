"""The smallest asyncio shell around a `Connection`: it hands over what happens and carries out the effects.

It holds no fact about the lifecycle. What it may remember is listed in `Session.__slots__` and explained there; whether
something is legal, due or over, only the connection's machine knows.

Keepalive and logging in a server's style come with the full runtime. So does what a hostile peer can still do here: a
request head that never becomes complete is waited for, and Pongs pile up for a peer that sends Pings and reads nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, TypeAlias, TypedDict

from wslifecycle.runtime import codec as wire
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.connection import Connection
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle, lifecycle

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_log = logging.getLogger("wslifecycle")
_apps: set[asyncio.Task[None]] = set()  # asyncio itself holds a task only weakly, and it may outlive its connection


class Options(TypedDict):
    """What every connection of a server is made with."""

    spec_version: str
    extensions: tuple[str, ...]
    machine: Lifecycle
    observe: Callable[[Answer], None] | None


class Session(asyncio.Protocol):
    """One connection between a transport and an app, from the moment that the handshake request is complete."""

    __slots__ = (
        "_codec",  # bytes to events and back
        "_connection",  # the machine's view of this connection: the only thing here that knows the lifecycle
        "_drained",  # set while the transport takes more bytes: send() waits for it (C30)
        "_news",  # set when something happened: the receive() whose turn it is asks again
        "_paced",  # when the last paced message was given (C6)
        "_task",  # the app
        "_timers",  # those that run, by name
        "_transport",
        "_turn",  # the queue of receive() calls (C16)
    )

    def __init__(self, transport: asyncio.Transport, codec: wire.Codec, connection: Connection) -> None:
        self._transport = transport
        self._codec = codec
        self._connection = connection
        self._drained = asyncio.Event()
        self._drained.set()
        self._news = asyncio.Event()
        self._paced = -math.inf
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self, app: App, scope: MutableMapping[str, Any]) -> asyncio.Task[None]:
        """Starts the app; the task ends when its callable does."""
        self.carry_out(self._connection.started())
        self._task = asyncio.get_running_loop().create_task(self._run(app, scope))
        _apps.add(self._task)
        self._task.add_done_callback(_apps.discard)
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
        """The app's `receive()`: the next message, in call order. One that is cancelled takes nothing with it."""
        async with self._turn:
            while (message := (given := self._connection.app_wants()).message) is None:
                self._news.clear()
                await self._news.wait()
            for effect in given.effects:
                if isinstance(effect, fx.Pace):
                    await self._pace(effect.seconds)
            self.carry_out(given.effects)
            return message

    async def _pace(self, seconds: float) -> None:
        """Waits a turn of the loop, and until so many seconds are gone since it last did."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0, self._paced + seconds - loop.time()))
        self._paced = loop.time()

    async def send(self, message: Message) -> None:
        """The app's `send()`: decided and written at once, then it waits until the transport takes more."""
        self.happened(self._connection.app_sent(message))
        if self._transport.is_closing():  # this message was the last one
            return
        await self._drained.wait()
        if self._transport.is_closing():  # the connection ended meanwhile, and the machine has a word for that (C43)
            self.happened(self._connection.app_sent(message))

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
        """Waits until the app has ended, however it did."""
        if self._task is not None:
            await asyncio.wait({self._task})

    # ---------------------------------------------------------------------------------------- effects

    def happened(self, effects: Sequence[fx.Effect]) -> None:
        """Something happened: carries out what it brought about, and has the waiting `receive()` ask again."""
        self.carry_out(effects)
        self._news.set()
        if any(isinstance(effect, fx.CompleteHandshake) for effect in effects):
            self.data_received(b"")  # what was held before the accept, before anything else can happen (C14)

    def carry_out(self, effects: Sequence[fx.Effect]) -> None:
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
                    self._drained.set()  # whoever waits in send() need not see it flushed
                    if deadline is not None:
                        self._timers["end"] = loop.call_later(deadline, self._transport.abort)
                case _:
                    self._transport.write(self._codec.encode(effect))


class Acceptor(asyncio.Protocol):
    """Reads the handshake request; then a `Session` takes the transport over."""

    def __init__(self, app: App, on_session: Callable[[Session], None], codec: wire.Codec, options: Options) -> None:
        self._app = app
        self._codec = codec
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
                connection = Connection(subprotocols=scope["subprotocols"], **self._options)
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
                session.data_received(b"")  # what came with the request may be too much already (C14)


async def serve(
    app: App,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    spec_version: str | None = None,
    extensions: Iterable[str] | None = None,
    max_size: int | None = None,
    machine: Lifecycle | None = None,
    observe: Callable[[Answer], None] | None = None,
    on_session: Callable[[Session], None] = lambda session: None,
) -> asyncio.Server:
    """Serves an app over WebSocket and nothing else. Port 0 picks a free one.

    `spec_version` and `extensions` are what the scope advertises (the profile's version, C35, and each extension that
    the spec knows), `max_size` the bytes of a message before it is too large (the profile's, C34). `machine` is another
    profile than the reference; `observe` sees every answer of the machine, `on_session` every new session.
    """
    loop = asyncio.get_running_loop()
    machine = machine or lifecycle()
    flat = machine.flat
    known = [fact.extension for fact in flat.facts if fact.extension is not None]
    options = Options(
        spec_version=spec_version or flat.value("C35", "spec_version"),
        extensions=tuple(known if extensions is None else extensions),
        machine=machine,
        observe=observe,
    )
    limits = (max_size or flat.value("C34", "bytes"), flat.value("C14", "bytes"))
    return await loop.create_server(lambda: Acceptor(app, on_session, wire.Codec(*limits), options), host, port)
