"""Both sides of one connection in the hands of a test, and a protocol under test between them, on a `ScheduledLoop`.

The app is a callable that lives until it is told to end; its `receive()` and `send()` are called by the test, any
number at a time, each in a task of its own. The peer writes any bytes, reads or does not, ends and resets. What either
side does is only begun: `run`, `idle` and `time` let the loop go on, so that a test says what falls into one iteration
and what does not. A `Witness` sees all of it.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import struct
import traceback
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from wslifecycle.conformance.orders.kernel import Transport
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.watched import Broken, event_of
from wslifecycle.conformance.orders.witness import Witness
from wslifecycle.conformance.peer import FRAMES, frame
from wslifecycle.conformance.scenarios import short

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Make: TypeAlias = Callable[[App], asyncio.BaseProtocol]
"""Makes the protocol of one connection, which serves this app."""

Act: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A method of `Exchange`, its arguments and its named ones."""

LONG = 120.0
"""Seconds after which every timer of a server has run out."""


class AppError(Exception):
    """What the app raises."""


class Call:
    """A `receive()` or `send()` of the app, until it is answered."""

    def __init__(self, name: str, task: asyncio.Task[None]) -> None:
        self.name = name
        self.task = task


F = TypeVar("F", bound=Callable[..., Any])


def _act(method: F) -> F:
    """An act of a test, which is written down unless it is a part of another one."""

    @functools.wraps(method)
    def act(self: Exchange, *args: Any, **kwargs: Any) -> Any:
        if self._within:
            return method(self, *args, **kwargs)
        given = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
        self.acts.append((method.__name__, *copy.deepcopy((args, kwargs))))
        self.program.append(f"x.{method.__name__}({', '.join(given)})")
        self._within = True
        try:
            return method(self, *args, **kwargs)
        finally:
            self._within = False

    return cast(F, act)


class Exchange:
    """One connection. `room`: bytes that are on their way to the peer before it has to read; `high`: more bytes than
    so many in the transport's buffer pause writing (None: asyncio's default).

    `program` has every act, as code that repeats it, `acts` the same as data, and `story` what was done and seen, in
    words. `settings` are `room` and `high`. `given` has what each answered `receive()` gave or raised, in the order of
    the answers, and `raised` what each `send()` raised.
    """

    def __init__(
        self, loop: ScheduledLoop, make: Make, witness: Witness, *, room: int = 65536, high: int | None = None
    ) -> None:
        self.loop = loop
        self.witness = witness
        self.scope: Message = {}
        self.calls: list[Call] = []
        """Those that wait for their answer."""
        self.given: list[Message | Exception] = []
        self.raised: list[Exception] = []
        self.settings = {"room": room, "high": high}
        self.story: list[str] = []
        self.program: list[str] = []
        self.acts: list[Act] = []
        self.protocol: asyncio.BaseProtocol
        self.transport: Transport
        self._ends: asyncio.Future[BaseException | None] = loop.create_future()
        self._items: list[tuple[int, str, str | bytes | None]] = []
        self._line = b""
        self._receive: Receive | None = None
        self._send: Send | None = None
        self._taken = self._composed = self._heard = 0
        self._within = self._cancels_app = False
        self._app_task: asyncio.Task[Any] | None = None

        def made() -> asyncio.BaseProtocol:
            self.protocol = make(self._app)
            return self.protocol

        self.transport, self.far = loop.connect(made, room=room)
        self.transport.tap = self._tapped
        if high is not None:
            self.transport.set_write_buffer_limits(high=high)
        witness.port = self.transport
        witness.clock = loop.time
        loop.lookers.append(witness.look)
        self.far.watch(self._arrived)
        self._compose("", None, witness.judge.request)

    # ---------------------------------------------------------------------------------------- the app

    @property
    def called(self) -> bool:
        """Whether the app's callable runs."""
        return self.serves and self.witness.called

    @property
    def serves(self) -> bool:
        """Whether the app was called, so that there is a `receive()` and a `send()`."""
        return self._receive is not None

    async def _app(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self._app_task = asyncio.current_task()
        self.witness.calls()
        self._tell("the app is called")
        try:
            error = await self._ends
        except asyncio.CancelledError as cancelled:
            self.witness.returns(cancelled)
            self._tell("the app is cancelled")
            if not self._cancels_app:
                self.witness.is_cancelled()
            raise
        self.witness.returns(error)
        if error is not None:
            raise error

    @_act
    def ask(self) -> None:
        """The app calls `receive()`."""
        assert self._receive is not None
        self._does("the app calls receive()")
        self.witness.pending += 1
        pends = [True]  # until its answer is there, or it ends without one
        self._call("receive", self._asking(self._receive, pends))
        self.calls[-1].task.add_done_callback(lambda task: self._ends_pending(pends))

    def _ends_pending(self, pends: list[bool]) -> None:
        if pends:
            self.witness.pending -= pends.pop()

    async def _asking(self, receive: Receive, pends: list[bool]) -> None:
        call = self.witness.asks()
        try:
            message = await _stepped(receive(), self.witness.resumes, self.witness.resumes)
        except asyncio.CancelledError:
            self.witness.cancels(call)
            self._tell("receive() is cancelled")
            raise
        except Exception as error:
            self._ends_pending(pends)
            self.given.append(error)
            self._tell(f"receive() raises {error!r}")
            self.witness.receive_raises(error, call)
            return
        self._ends_pending(pends)
        self.given.append(message)
        self._tell(f"receive() gives {short(message)}")
        self.witness.gives(message, call)

    @_act
    def send(self, message: Message) -> None:
        """The app calls `send()`."""
        assert self._send is not None
        self._does(f"the app sends {short(message)}")
        self._call("send", self._sending(self._send, message))

    async def _sending(self, send: Send, message: Message) -> None:
        witness, first, blocked = self.witness, True, False

        def pauses() -> None:
            nonlocal first, blocked
            if first:
                over = self.transport.is_closing() or witness.close_sent
                first, blocked = False, self.transport.is_blocked() and not over
                witness.accepted(message)
                witness.sending += 1
            witness.resumes()

        witness.sends(message)
        try:
            await _stepped(send(message), lambda: None if first else witness.resumes(event_of(message)), pauses)
        except asyncio.CancelledError:
            self._tell("send() is cancelled")
            raise
        except Exception as error:
            self.raised.append(error)
            self._tell(f"send() raises {_brief(error)}")
            witness.sent(message, error, first=first, blocked=blocked)
        else:
            self._tell("send() returns")
            witness.sent(message, first=first, blocked=blocked)
        finally:
            if not first:
                witness.sending -= 1
            witness.flush()

    def _call(self, name: str, made: Coroutine[Any, Any, None]) -> None:
        call = Call(name, self.loop.create_task(made, name=f"{name}()"))
        self.calls.append(call)

        def over(task: asyncio.Task[None]) -> None:
            self.calls.remove(call)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.loop.fail(error)

        call.task.add_done_callback(over)

    @_act
    def cancel(self, number: int = 0) -> None:
        """The app cancels the call of this number among those that wait, the oldest first."""
        call = self.calls[number]
        self._does(f"the app cancels {call.name}()")
        call.task.cancel()

    @_act
    def end(self, error: Exception | None = None) -> None:
        """The app's callable returns or raises."""
        self._does("the app returns" if error is None else f"the app raises {error!r}")
        if not self._ends.done():
            self._ends.set_result(error)

    @_act
    def cancel_app(self) -> None:
        """The app's own task is cancelled, as an app may do it."""
        assert self._app_task is not None
        self._does("the app cancels itself")
        self._cancels_app = True
        self._app_task.cancel()

    # ---------------------------------------------------------------------------------------- the peer

    @_act
    def peer_sends(self, data: str | bytes, *, cut: int | None = None, pieces: int = 1) -> None:
        """The peer sends a message, in so many fragments. `cut`: only so many bytes of it for now."""
        payload, opcode = (data.encode(), 1) if isinstance(data, str) else (data, 2)
        size = -(-len(payload) // pieces) or 1
        parts = [payload[begin : begin + size] for begin in range(0, len(payload), size)] or [b""]
        frames = b"".join(
            frame(0 if number else opcode, part, fin=number == len(parts) - 1) for number, part in enumerate(parts)
        )
        self._does(f"the peer sends {short(data)}{'' if cut is None else f', but only {cut} bytes of the frame'}")
        self._compose("peer_message", data, frames, cut)

    @_act
    def peer_pings(self, payload: bytes = b"p") -> None:
        """The peer sends a Ping."""
        self._does(f"the peer pings {payload!r}")
        self._compose("peer_ping", payload, frame(9, payload))

    @_act
    def peer_pongs(self, payload: bytes | None = None) -> None:
        """The peer sends a Pong. None: to the last Ping that it has read."""
        payload = self.witness.last_ping if payload is None else payload
        self._does(f"the peer sends a Pong {payload!r}")
        self._compose("peer_pong", payload, frame(10, payload))

    @_act
    def peer_closes(self, code: int | None = 1000, reason: str = "") -> None:
        """The peer sends a Close."""
        self._does(f"the peer closes with {code} {reason!r}")
        payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
        self._compose("peer_close", None, frame(8, payload))

    @_act
    def peer_violates(self, kind: str) -> None:
        """The peer breaks RFC 6455, in one of the ways of `FRAMES`."""
        self._does(f"the peer sends {kind}")
        self._compose("peer_violation", None, FRAMES[kind]())

    @_act
    def peer_floods(self) -> None:
        """The peer sends more bytes than are kept before the accept (C14)."""
        self._does("the peer floods")
        self._compose("peer_violation", None, bytes(self.witness.flat.value("C14", "bytes") + 1))

    @_act
    def peer_writes(self, data: bytes) -> None:
        """The peer sends bytes, whatever they may be: they are judged as a fault."""
        self._does(f"the peer writes {short(data)}")
        self._compose("peer_violation", None, data)

    @_act
    def peer_goes_on(self) -> None:
        """The peer sends the rest of what was cut."""
        self._does("the peer sends the rest")
        self._write(len(self._line))

    @_act
    def peer_ends(self) -> None:
        """The peer ends its side."""
        self._does("the peer ends its side")
        self.far.write_eof()

    @_act
    def peer_shuts(self) -> None:
        """The peer closes its socket."""
        self._does("the peer closes its socket")
        self.far.close()

    @_act
    def peer_resets(self) -> None:
        """The peer resets the connection."""
        self._does("the peer resets the connection")
        self.witness.loses()
        self.far.reset()

    @_act
    def peer_reads(self, size: int = -1) -> bytes:
        """The peer reads what there is, or so many bytes."""
        data = self.far.read(size)
        if data:
            self._does(f"the peer reads {len(data)} bytes")
            self.witness.reads(len(data))
        return data

    @_act
    def peer_drains(self) -> None:
        """The peer reads until nothing more comes."""
        self.idle()
        while self.peer_reads():
            self.idle()

    @property
    def has_more(self) -> bool:
        """Whether the peer has sent only a part of a frame."""
        return bool(self._line)

    def _compose(self, event: str, data: str | bytes | None, wire: bytes, cut: int | None = None) -> None:
        self._line += wire
        self._composed += len(wire)
        self._items.append((self._composed, event, data))
        self._write(len(self._line) if cut is None else len(self._line) - len(wire) + min(cut, len(wire)))

    def _write(self, size: int) -> None:
        data, self._line = self._line[:size], self._line[size:]
        if data and not self.far.ended:
            self.far.write(data)

    def _arrived(self, taken: int) -> None:
        """The server has read so much of the peer: what of it is whole has arrived."""
        if taken == self._taken:
            self._tell("the peer's end arrives")
            self.witness.arrives("peer_eof")
        self._taken = taken
        begins = [self._heard, *(end for end, _, _ in self._items)]
        come = [event for begin, (_, event, _) in zip(begins, self._items, strict=False) if event and begin < taken]
        if come:
            self.witness.comes(faulty="peer_violation" in come)
        while self._items and self._items[0][0] <= taken:
            self._heard, event, data = self._items.pop(0)
            if event:
                self._tell(f"{event} arrives")
                self.witness.arrives(event, data)

    # ---------------------------------------------------------------------------------------- the server

    @_act
    def shut_down(self) -> None:
        """The server shuts down."""
        self._does("the server shuts down")
        self.witness.shuts_down()
        shutdown: Callable[[], None] = self.protocol.shutdown  # type: ignore[attr-defined]
        try:
            self.loop.call_now(shutdown)
        except Exception as error:
            self.witness.found("no_error_escapes", "", f"shutdown() raises {error!r}", _origin(error))
        self._check()

    def _tapped(self, what: str, data: bytes) -> None:
        size = f" {len(data)} bytes" if data else ""
        self._tell(f"the transport: {what}{size}")
        self.witness.transported(what, data)

    # ---------------------------------------------------------------------------------------- the loop

    @_act
    def run(self, iterations: int) -> None:
        """Lets so many iterations of the loop happen."""
        self.loop.run_iterations(iterations)
        self._check()

    @_act
    def idle(self) -> None:
        """Lets everything happen that can before the next timer, and judges that."""
        self.loop.run_until_idle()
        self.witness.idle()
        self._check(idle=True)

    @_act
    def time(self, seconds: float) -> None:
        """Lets time pass."""
        self._does(f"{seconds:g} s pass")
        self.loop.advance(seconds, self.witness.idle)
        self._check(idle=True)

    def _check(self, *, idle: bool = False) -> None:
        """What was found while the loop ran, or went wrong unseen. `idle`: nothing more can happen by itself now."""
        self.witness.flush()
        over = self.serves and not self.called and not self.calls and self.transport.get_protocol() is None
        if idle and over and (when := self.loop.next_timer()) is not None:
            self.witness.found("no_timer_is_left", "", f"all has ended, and a timer will run out in {when:g} s")
        for context in self.loop.errors:
            error = context.get("exception")
            if not isinstance(error, AppError):
                text = f"{context['message'].partition(' at /')[0]}: {error!r}"
                self.witness.found("no_error_escapes", "", text, _origin(error))
        self.loop.errors.clear()
        if self.witness.finding is not None:
            raise Broken(self.witness.finding)

    @_act
    def settle(self) -> None:
        """Brings the connection to its end, as a willing app and a reading peer would, and judges what is owed."""
        witness = self.witness
        self._write(len(self._line))
        self.peer_drains()
        while self.serves and witness.told is None and not any(call.name == "receive" for call in self.calls):
            self.ask()
            self.peer_drains()
        if self.called:
            self.end()
        elif not self.serves and not self.far.ended:
            self.peer_ends()
        for _ in range(4):
            self.peer_drains()
            self.time(LONG)
        if self.serves and witness.told is None:
            self.ask()
            self.idle()
        if self.serves:
            witness.ended()
        left = [task for task in self.loop.tasks() if task.get_name() not in ("receive()", "send()")]
        if left:
            witness.found("nothing_is_left", "", f"tasks are left: {', '.join(task.get_name() for task in left)}")
        sends = any(call.name == "send" for call in self.calls)
        if (sends or witness.receiving) and witness.transport == "gone":
            names = ", ".join(f"{call.name}()" for call in self.calls)
            rule = "R28" if witness.receiving else "C43"
            witness.found("calls_end", rule, f"all has ended, and these calls still wait: {names}")
        self._check()

    # ---------------------------------------------------------------------------------------- the story

    def told(self) -> str:
        """The whole exchange: as a program that repeats it, and as a numbered story; with the level that it needs."""
        schedule = self.loop.schedule
        count, needed = len(schedule.deviations), schedule.needed
        head = "0 deviations from the stock order: it happens on the stock loop, too."
        if needed is not None:
            head = f"{count} deviation{'s' * (count > 1)} from the stock order, of level {needed.name}."
        settings = "".join(f", {name}={value!r}" for name, value in self.settings.items())
        lines = [
            head,
            f'loop = ScheduledLoop(Replay("{schedule.token}"), Level.{schedule.level.name})',
            f"x = Exchange(loop, make, witness{settings})",
            *self.program,
            "It went so:",
            *(f"{number:4}. {line}" for number, line in enumerate(self.story, 1)),
        ]
        return "\n".join(lines)

    def _does(self, text: str) -> None:
        self.story.append(text)
        self.loop.note(text)

    def _tell(self, text: str) -> None:
        self.story.append(f"    {text}")
        self.loop.note(text)


@types.coroutine
def _stepped(made: Awaitable[Any], before: Callable[[], None], after: Callable[[], None]) -> Generator[Any, Any, Any]:
    """Awaits something, with a call before each of its steps but the first, and one after each but the last."""
    steps = made.__await__()
    send: Callable[[], Any] = lambda: next(steps)  # noqa: E731
    while True:
        try:
            wanted = send()
        except StopIteration as done:
            return done.value
        after()
        try:
            answer = yield wanted
        except BaseException as error:
            before()
            thrown = error
            send = lambda: steps.throw(thrown)  # noqa: E731, B023
        else:
            before()
            send = lambda: steps.send(answer)  # noqa: E731, B023


def _origin(error: BaseException | None) -> str:
    """What was raised, and in which function outside of asyncio and of this package it came up first."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else ()
    name = next((frame.name for frame in frames if not {"asyncio", "orders"} & set(Path(frame.filename).parts)), "")
    return f"{type(error).__name__}{name and f' in {name}'}"


def _brief(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text[:100]}"
