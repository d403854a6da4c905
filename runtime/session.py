"""One connection between a transport and an app, on asyncio.

A session hands over what happens to its `Connection` and carries out the effects. It holds no fact about the lifecycle:
whether something is legal, due or over, only the connection's machine knows. What it remembers is resources, listed in
`Session.__slots__`.

`send()` is decided and written in one go and only then waits until the transport takes more, so that messages stay
whole and in call order however the app is cancelled, and a close never queues behind a `send()` that waits.
`receive()` asks the connection until something is due; whoever is cancelled meanwhile has taken nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import math
import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote

from wslifecycle.runtime import codec
from wslifecycle.runtime.handshake import Handshake, Request
from wslifecycle.runtime.keepalive import Keepalive
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.places import where_cancelled
from wslifecycle.runtime.wire import Wire
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.connection import WAIT
from wslifecycle.statemachine.flatten import Answer

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class Service:
    """What all connections of a server share.

    `state` is the lifespan's namespace, of which each scope gets a copy (R18); None: there is no lifespan. `headers`
    are added to every answer to a handshake, unless the app gave such a field itself; each is `addable`. `tasks`
    holds the apps that run, `stop` is set when the server shuts down. `context` makes that of a new app; None: a copy
    of the current one.
    """

    app: App
    options: Options
    state: MutableMapping[str, Any] | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    root_path: str = ""
    asgi_version: str = "3.0"
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("wslifecycle"))
    context: Callable[[], contextvars.Context | None] = lambda: None


class Session(asyncio.Protocol):
    """One connection, from the moment that its handshake request is complete."""

    __slots__ = (
        "__weakref__",  # so that who is told of it may hold it weakly
        "_connection",  # the machine's view of this connection: the only thing here that knows the lifecycle
        "_corked",  # messages of the app that are written together
        "_decoding",  # what was read and is not told yet; None: nothing is. The transport is paused only meanwhile
        "_full",  # while the transport takes no more bytes: set when send() need not wait for it (C30)
        "_keepalive",  # Pings and their Pongs
        "_loop",  # what it runs on: to ask asyncio for it takes a system call each time
        "_paced",  # when the last paced message was given (C6)
        "_pong",  # the latest Pong, while the transport takes no more
        "_receivers",  # the receive() calls that wait, in order (C16)
        "_scope",  # the app's, for the log
        "_service",  # what it shares with the server's other connections
        "_task",  # the app
        "_timers",  # those that run, by name
        "_transport",
        "_wire",  # effects to bytes, the peer's bytes to events
    )

    def __init__(self, transport: asyncio.Transport, handshake: Handshake, request: Request, service: Service) -> None:
        options = service.options
        self._transport = transport
        self._service = service
        tell = self._tell if service.logger.isEnabledFor(logging.DEBUG) else None
        self._connection = options.connection(request.scope["subprotocols"], tell)
        if options.counters is not None:
            options.counters.begins(self._connection.machine)
        self._wire = Wire(handshake, request, options, service.headers)
        self._keepalive = Keepalive(self._ping, lambda: self.time_out("keepalive"), options.ping_timeout)
        self._corked = bytearray()
        self._decoding: Iterator[codec.Event | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._full: asyncio.Event | None = None
        self._receivers: list[asyncio.Future[None]] = []
        self._paced = -math.inf
        self._pong: fx.SendPong | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._task: asyncio.Task[None] | None = None
        self._scope = self._told(request.scope)

    def start(self, request: Request) -> asyncio.Task[None]:
        """Starts the app. The task ends when its callable does; a loss of the connection does not cancel it (C18)."""
        service = self._service
        if service.options.on_session is not None:
            service.options.on_session(self)
        self.carry_out(self._connection.started())
        self._task = self._loop.create_task(self._run(), context=service.context())
        service.tasks.add(self._task)
        self._task.add_done_callback(service.tasks.discard)
        self.data_received(request.rest)
        return self._task

    def _told(self, told: dict[str, Any]) -> dict[str, Any]:
        """What the request, the transport and the server tell (R3 - R19)."""
        service = self._service
        info = self._transport.get_extra_info
        version = service.options.spec_version or service.options.lifecycle.flat.value("C35", "spec_version")
        scope = told | {
            "asgi": {"version": service.asgi_version, "spec_version": version},
            "scheme": "wss" if info("sslcontext") else "ws",
            "client": _address(info("peername")),
            "server": _address(info("sockname")),
            "root_path": service.root_path,
            "path": service.root_path + told["path"],
            "raw_path": service.root_path.encode() + told["raw_path"],
            "extensions": service.options.scope_extensions(),
        }
        return scope if service.state is None else scope | {"state": dict(service.state)}

    async def _run(self) -> None:
        log, counters = self._service.logger, self._service.options.counters
        send = self.send if counters is None else counters.watching(self.send)
        try:
            result: object = await self._service.app(self._scope, self.receive, send)  # type: ignore[func-returns-value]
        except BaseException as error:
            self.happened(self._connection.app_raised(error))
            task = asyncio.current_task()
            stray = isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
            if (stray or isinstance(error, Exception)) and not self._connection.is_quiet(error):
                log.error("Exception in ASGI application\n", exc_info=error)
            elif isinstance(error, asyncio.CancelledError):
                self._log(f"[cancelled while it waited at {where_cancelled(error)}]", logging.WARNING)
            if not isinstance(error, Exception):
                raise
            return
        effects = self._connection.app_returned()
        self.happened(effects)
        if any(isinstance(effect, fx.SendResponse) for effect in effects):
            log.error("ASGI callable returned without completing handshake.")
        elif result is not None:
            log.error("ASGI callable should return None, but returned %r.", result)

    # ---------------------------------------------------------------------------------------- the app's side

    async def receive(self) -> Message:
        """The app's `receive()`: the next message, in call order. One that is cancelled takes nothing with it."""
        queued = bool(self._receivers)  # behind one that began to wait before: it is no loop that has to be paced
        given = WAIT if queued else self._connection.app_wants()
        if given.message is not None and not given.effects:
            return given.message
        if self._corked:
            self._uncork()
        turn = self._loop.create_future()
        self._receivers.append(turn)
        try:
            while given.message is None:
                await turn
                given = self._connection.app_wants()
                if given.message is None:
                    turn = self._receivers[0] = self._loop.create_future()
            for effect in given.effects:
                if isinstance(effect, fx.Pace) and not queued:
                    await self._pace(effect.seconds)
            if given.effects:
                self.carry_out(given.effects)
            return given.message
        finally:
            self._receivers.remove(turn)
            if self._receivers:
                self._ask_again()

    def _ask_again(self) -> None:
        """Has the waiting `receive()` whose turn it is ask again."""
        turn = self._receivers[0]
        if not turn.done():
            turn.set_result(None)

    async def _pace(self, seconds: float) -> None:
        """Waits a turn of the loop, and until so many seconds are gone since it last did."""
        await asyncio.sleep(max(0, self._paced + seconds - self._loop.time()))
        self._paced = self._loop.time()

    async def send(self, message: Message) -> None:
        """The app's `send()`: decided and written at once, then it waits until the transport takes more (C30).

        Raises what `Connection.app_sent` raises, and `Disconnected` when the connection ends while it waits (C43).
        """
        effects = self._connection.app_sent(message)
        if len(effects) == 1 and isinstance(effects[0], fx.SendMessage):
            self._send_message(effects[0].data)  # nothing that a receive() waits for has happened
        else:
            self.happened(effects)
            if not effects or not _LAST.isdisjoint(map(type, effects)):
                return
        if self._gone():
            await asyncio.sleep(0)  # after a reset no write fails or waits: a loop of send() would never hear of it
        if self._full is None or self._full.is_set():
            return
        await self._full.wait()
        if not self._connection.app_waited():
            await self._loop.create_future()  # for ever, as the profile has it

    # ---------------------------------------------------------------------------------------- the peer's side

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer: decoded, and told to the connection one by one."""
        events = self._wire.feed(data)
        if self._decoding is None:
            self._decode(iter(events))
            return
        self._decoding = itertools.chain(self._decoding, events)
        if not self._connection.keeps:
            self._decode_on()  # no app has to be waited for
        self._wait_with_reading()

    def _decode(self, events: Iterator[codec.Event | None], *, whole: bool = False) -> None:
        """Tells the connection what was read: as long as it reads on (C31), or, at the end, the `whole` of it.

        So that nobody else has to wait for a peer that sends much at once, not too much is told in one turn.
        """
        self._decoding = None
        messages = False
        for number, event in enumerate(events, 1):
            if isinstance(event, str | bytes):
                effects = self._connection.peer_sent(event)
                self.happened(effects)
                if effects and not whole and not self._connection.reads:
                    self._decoding = events
                    return
                messages = True
            elif messages and isinstance(event, codec.Violation) and not whole:
                self._decode_soon(iter((event,)))  # it is the last one; the app may answer what came before
                return
            elif event is not None:
                self._hear(event)
            if (number == TURN or event is None) and not whole:
                self._decode_soon(events)
                return

    def _decode_soon(self, events: Iterator[codec.Event | None]) -> None:
        """Goes on in the next turn of the loop."""
        self._decoding = events
        self._loop.call_soon(self._decode_on)

    def _decode_on(self, *, whole: bool = False) -> None:
        """Goes on with what was read and not told, and then with reading."""
        if self._decoding is not None and (self._connection.reads or whole):
            self._decode(self._decoding, whole=whole)
        if self._decoding is None and not whole:
            self._read_on()

    def _wait_with_reading(self) -> None:
        """Reads no more from the transport, if there is something that was read and is not told."""
        try:
            if self._decoding is not None and not self._transport.is_closing():  # uvloop minds
                self._transport.pause_reading()
        except Exception as error:
            self._drop(error)

    def _read_on(self) -> None:
        """Reads from the transport, if it was paused."""
        try:
            if not self._transport.is_closing():  # uvloop minds
                self._transport.resume_reading()
        except Exception as error:
            self._drop(error)

    def _hear(self, event: codec.Event) -> None:
        match event:
            case codec.Ping(payload):
                self.happened(self._connection.peer_pinged(payload))
            case codec.Pong(payload):
                self._keepalive.ponged(payload)
            case codec.Close(code, reason):
                self.happened(self._connection.peer_closed(code, reason))
            case codec.Violation(code, complaint):
                self._service.logger.debug("%s is at fault: %s", self._client(), complaint)
                self.happened(self._connection.peer_violated(code, complaint))

    def eof_received(self) -> None:
        """The peer ended its side; whatever is written is flushed and then the transport ends."""
        self._decode_on(whole=True)
        self.happened(self._connection.peer_eof())

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._corked.clear()  # nobody is there
        try:
            self._decode_on(whole=True)
            self.happened(self._connection.peer_lost())
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._keepalive.let_go()
            self._let_send_go_on()
            if (counters := self._service.options.counters) is not None and self._connection.ended is not None:
                counters.ends(self._connection.ended, self._connection.state)
            if self._task is not None and self._service.options.lifecycle.flat.value("C18", "on_loss"):
                self._task.cancel()

    def pause_writing(self) -> None:
        """The transport's buffer is over its high-water mark."""
        self._full = asyncio.Event()
        if not self._service.options.lifecycle.flat.value("C30", "drain"):
            self._full.set()
        self._set_patience()

    def resume_writing(self) -> None:
        """It is below again."""
        self._let_send_go_on()
        self._full = None
        self._set_patience()
        self._flush_pong()

    # ---------------------------------------------------------------------------------------- the server's side

    def shutdown(self) -> None:
        """The server shuts down (C32)."""
        self.happened(self._connection.shutdown())

    def time_out(self, timer: str) -> None:
        """A timer ran out, or is to be taken for one that has."""
        self._cancel_timer(timer)
        self.happened(self._connection.timed_out(timer))

    async def ended(self) -> None:
        """Waits until the app has ended, however it did."""
        if self._task is not None:
            await asyncio.wait({self._task})

    # ---------------------------------------------------------------------------------------- effects

    def happened(self, effects: Sequence[fx.Effect]) -> None:
        """Something happened: carries out what it brought about, and has the waiting `receive()` ask again."""
        if effects:
            self.carry_out(effects)
        if self._receivers:
            self._ask_again()
        if effects and fx.CompleteHandshake in map(type, effects):
            self.data_received(self._wire.release())  # before anything else can happen (C14)

    def carry_out(self, effects: Sequence[fx.Effect]) -> None:
        """Carries out effects in their order."""
        try:
            for effect in effects:
                if isinstance(effect, fx.SendMessage):
                    self._send_message(effect.data)
                else:
                    self._carry_out(effect, effects)
        except Exception as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        """Drops a transport that raises, which none should: the connection is lost, and told of like any other."""
        self._service.logger.error("The connection of %s failed and is dropped.", self._client(), exc_info=error)
        self._transport.abort()

    def _gone(self) -> bool:
        """Whether the transport is closing; its protocol need not have heard of that yet."""
        try:
            return self._transport.is_closing()
        except Exception as error:
            self._drop(error)
            return True

    def _carry_out(self, effect: fx.Effect, together: Sequence[fx.Effect]) -> None:
        """Carries out one effect of those that belong together."""
        match effect:
            case fx.SendPong():
                self._pong = effect  # of those that have to wait only the last one is sent (RFC 6455 5.5.3)
                if self._full is None:
                    self._flush_pong()
            case fx.PauseReading():
                self._pause_reading()
            case fx.ResumeReading():
                self._resume_reading()
            case fx.StartTimer(timer, seconds):
                self._start_timer(timer, seconds)
            case fx.CancelTimer(timer):
                self._cancel_timer(timer)
            case fx.EndSending():
                self._end_sending()
            case fx.EndTransport() | fx.AbortTransport():
                self._end(effect)
                if not any(isinstance(other, fx.SendResponse | fx.EndResponse) for other in together):
                    self._log_close()
            case _:
                self._write(effect)

    def _write(self, effect: fx.Effect) -> None:
        """Writes what is seen of an effect; a Pong that still waits goes before a Close. Answers are logged."""
        match effect:
            case fx.SendClose():
                self._flush_pong()
                self._let_send_go_on()  # whoever waits in it is told that it is over
            case fx.CompleteHandshake():
                self._answers(101, "[accepted]")
            case fx.SendResponse(status) | fx.SendHead(status):
                self._answers(status, str(status))
        if data := self._wire.encode(effect):  # of a Pace nothing is seen, and a transport may be gone by then
            self._uncork()
            self._transport.write(data)

    def _send_message(self, data: str | bytes) -> None:
        """Writes a message; if the app has more to answer, together with those that follow, but in this turn."""
        try:
            frame = self._wire.message(data)
            if not self._corked and not self._connection.has_unread:
                self._transport.write(frame)
                return
        except Exception as error:
            self._drop(error)
            return
        if not self._corked:
            self._loop.call_soon(self._uncork)
        self._corked += frame
        if len(self._corked) > CORK:
            self._uncork()

    def _uncork(self) -> None:
        """Writes what is to be written together."""
        if self._corked:
            corked, self._corked = self._corked, bytearray()
            self._put(corked)

    def _let_send_go_on(self) -> None:
        if self._full is not None:
            self._full.set()

    def _flush_pong(self) -> None:
        if self._pong is not None and not self._gone():
            self._put(self._wire.encode(self._pong))
        self._pong = None

    def _put(self, frame: bytes | bytearray) -> None:
        self._uncork()
        try:
            self._transport.write(frame)
        except Exception as error:
            self._drop(error)

    def _ping(self, payload: bytes) -> None:
        self._put(self._wire.ping(payload))

    def _pause_reading(self) -> None:
        """Pauses reading: of what was read already, and from the transport as soon as more comes from it.

        An app that keeps up has gone on by then, and a transport that is not paused costs nothing.
        """
        self._set_patience()

    def _resume_reading(self) -> None:
        """Reads on, first what was read already, once the other effects of the moment are carried out.

        As long as an app takes its messages the transport is read from only when all that was read is told: else a read
        would be kept for each few messages of an app that is slow. Once the connection ends nothing more is kept.
        """
        self._loop.call_soon(self._decode_on)
        if not self._connection.keeps:
            self._read_on()
        self._set_patience()

    def _set_patience(self) -> None:
        """The deadline for a Pong does not run while it may wait with us, unread (C33).

        If the peer takes nothing from us either, it is no healthy peer of a slow app: then the deadline runs.
        """
        if self._connection.reads or self._full is not None:
            self._keepalive.resume()
        elif not self._service.options.lifecycle.flat.value("C33", "paused"):
            self._keepalive.pause()

    def _start_timer(self, timer: str, seconds: float) -> None:
        if timer == "keepalive":
            self._keepalive.start(seconds)
        else:
            self._timers[timer] = self._loop.call_later(seconds, self.time_out, timer)

    def _cancel_timer(self, timer: str) -> None:
        if timer == "keepalive":
            self._keepalive.stop()
        elif timer in self._timers:
            self._timers.pop(timer).cancel()

    def _end_sending(self) -> None:
        """Ends our side of the transport; under TLS, which knows no such thing, its graceful end begins."""
        self._pong = None
        self._uncork()
        self._let_send_go_on()
        if not self._transport.can_write_eof():
            self._transport.close()
        elif not self._transport.is_closing():  # uvloop minds
            end_writing(self._transport)

    def _end(self, effect: fx.EndTransport | fx.AbortTransport) -> None:
        """Ends the transport. Whoever waits in `send()` need not see it flushed."""
        self._pong = None
        self._uncork()
        self._let_send_go_on()
        match effect:
            case fx.AbortTransport():
                self._transport.abort()
            case fx.EndTransport(deadline):
                self._transport.close()
                if deadline is not None:
                    self._timers["end"] = self._loop.call_later(deadline, self._transport.abort)

    # ---------------------------------------------------------------------------------------- the log

    def _log(self, what: str, level: int = logging.INFO, **about: object) -> None:
        """A line, and `about` as attributes of the record, for those who log for machines."""
        if not self._service.logger.isEnabledFor(level):
            return
        scope = self._scope  # as middleware has it by now: a proxy's forwarded address is the client's
        path = quote(scope["path"]) + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        self._service.logger.log(level, '%s - "WebSocket %s" %s', self._client(), path, what, extra=about)

    def _answers(self, status: int, says: str) -> None:
        """The handshake is answered."""
        if (counters := self._service.options.counters) is not None:
            counters.answers(status)
        self._log(says, status=status)

    def _tell(self, answer: Answer) -> None:
        """One step of the way through the machine."""
        where = f"-> {answer.target}" if answer.moves else f"in {answer.source}"
        says = f"{answer.event} {where}" if answer.refusal is None else f"{answer.event} is refused in {answer.source}"
        self._log(f"{says} [{answer.rule}]", logging.DEBUG)

    def _client(self) -> str:
        """The client's address, of which a proxy may have told anything."""
        return ":".join(ascii(str(part))[1:-1] for part in self._scope["client"] or ())

    def _log_close(self) -> None:
        """One line at the end, with the code and the reason that the app is told."""
        ended = self._connection.ended
        assert ended is not None, "a transport ends with a cause"
        says = f"[closed {ended.code}{f' {ended.reason!r}' if ended.reason else ''}]"
        self._log(says, close_code=ended.code, close_reason=ended.reason, ended_by=ended.by, ended_in=ended.wire)


def end_writing(transport: asyncio.Transport) -> None:
    """Ends our side of a transport, which need not have noticed yet that its peer is gone."""
    with contextlib.suppress(OSError):
        transport.write_eof()


CORK = 65536
"""Bytes that are written together at most, so that a transport is asked early enough whether it takes more."""

TURN = 256
"""Events that are told in one turn of the loop at most: a few milliseconds."""

_LAST = frozenset((fx.SendClose, fx.EndTransport))
"""After these an app has nothing more to send, so that there is nothing to wait for."""


def _address(info: object) -> tuple[str, int | None] | None:
    """Host and port of one side; the path of a unix socket and None (R15, R16); None where it has no name."""
    match info:
        case (str() as host, int() as port, *_):
            return host, port
        case str() | bytes() if info:
            return os.fsdecode(info), None
    return None
