"""An event loop whose order is chosen: asyncio's own, on a kernel and a clock that are not real.

`ScheduledLoop` is the selector loop of the standard library. Its `_run_once`, its transports and its timers are run as
they are; what is replaced is what they ask: the selector, the sockets behind it and the time. So everything that it can
be made to do, a real kernel could make it do. Where more than one thing may come next, `choose` is asked:

    Level.ENVIRONMENT   what lands in an iteration and in which order, in which pieces bytes come, how much may be
                        written, whether a timer runs out before that
    Level.LATENCY       when an `external` await is answered
    Level.LANES         which task goes on next

Time stands still while anything can happen, and then jumps to the next timer. What else would make two runs of one
schedule differ is controlled during a run (the hashes of tasks and futures, `os.urandom`, `random`, `time.time` and
`time.monotonic`, the garbage collector); what is not, is found by running a schedule twice.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import selectors
import time
import weakref
from asyncio import selector_events
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from wslifecycle.conformance.orders.kernel import Future, Lanes, Pending, Script, Scripted, Selector, Task, Transport
from wslifecycle.conformance.orders.schedulers import Choice, Fifo, Level, Schedule, Scheduler, Undetermined
from wslifecycle.conformance.orders.sockets import Far, Near

T = TypeVar("T")
BEGIN = 1000.0
"""Seconds on the clock when a run begins."""


if TYPE_CHECKING:

    class _SelectorLoop(asyncio.SelectorEventLoop):
        """What the stubs do not tell of."""

        _ready: deque[asyncio.Handle]
        _scheduled: list[asyncio.TimerHandle]
        _stopping: bool
        _transports: Mapping[int, asyncio.Transport]

else:
    _SelectorLoop = selector_events.BaseSelectorEventLoop


class Stuck(AssertionError):
    """A run comes to no end: nothing can happen any more, or the same happens for ever."""


class ScheduledLoop(_SelectorLoop):
    """A loop for one run. `limit`: so many iterations may it have.

    `schedule` has what was chosen, `trace` what happened if that is wanted, and `errors` what callbacks and tasks
    raised that nobody else was told of.
    """

    def __init__(
        self,
        scheduler: Scheduler | None = None,
        level: Level = Level.ENVIRONMENT,
        *,
        limit: int = 10_000,
        traced: bool = False,
    ) -> None:
        self._time = BEGIN
        selector = Selector(self._select)
        self._polled = selector.get_map()
        super().__init__(selector)
        self.set_debug(False)
        self.schedule = Schedule(level)
        self.errors: list[dict[str, Any]] = []
        self.lookers: list[Callable[[], None]] = []  # called between two iterations
        self.trace: list[str] | None = [] if traced else None
        self._answer = (scheduler or Fifo()).choose
        self._executed: list[Pending] = []
        self._externals: list[Pending] = []
        self._idle_stops = False
        self._begun: list[weakref.ref[asyncio.Task[Any]]] = []
        self._left = limit
        self._stops_after = -1
        self._level: int = level
        self._numbers = self._times = 0
        self._scripts: list[Scripted] = []
        self._sockets: dict[int, Near] = {}
        if level is Level.LANES or traced:
            self._ready = Lanes(self)
        self.set_task_factory(cast(Any, Task))

    # ---------------------------------------------------------------------------------------- for a test

    def connect(self, factory: Callable[[], asyncio.BaseProtocol], *, room: int = 65536) -> tuple[Transport, Far]:
        """A new connection to a protocol, as if a server had accepted it: the transport, and the peer's end.

        `room`: how many bytes the peer's side takes before it has read them.
        """
        near = Near(len(self._sockets) + 1, room, self._choose_piece)
        self._sockets[near.fileno()] = near
        return Transport(self, near, self.call_now(factory)), near.far

    def script(self, script: Script, name: str = "the peer") -> None:
        """Has the environment do something step by step, at any time."""
        self._scripts.append(Scripted(script, name, self._scripts))

    async def external(self, name: str = "external", value: T | None = None) -> T | None:
        """Waits for something outside of the program that takes any time, as for a database (`Level.LATENCY`)."""
        answer: asyncio.Future[T | None] = self.create_future()

        def come() -> None:
            if not answer.done():
                answer.set_result(value)

        self._externals.append(Pending(f"{name} answers", come, self._externals))
        return await answer

    def note(self, text: str) -> None:
        """Writes a line into the trace."""
        if self.trace is not None:
            self.trace.append(text)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end, with everything under control. Raises `Stuck` if it has none."""
        with self.controlled():
            return self.run_until_complete(main)

    def run_until_idle(self) -> None:
        """Runs until nothing is left that could happen before the next timer."""
        self._idle_stops = True
        try:
            with self.controlled():
                self.run_forever()
        finally:
            self._idle_stops = False

    def run_iterations(self, count: int) -> None:
        """Runs so many iterations, as long as anything can happen before the next timer."""
        if not count:
            return
        self._stops_after = count
        try:
            self.run_until_idle()
        finally:
            self._stops_after = -1

    def advance(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Runs until nothing is left that could happen within so many seconds.

        `look` is called whenever nothing is left before the next timer.
        """
        end = self._time + seconds
        self.run_until_idle()
        look()
        while (when := self._next_timer()) is not None and when <= end:
            self._time = when
            self.run_until_idle()
            look()
        self._time = end

    @contextmanager
    def controlled(self) -> Iterator[None]:
        """Holds still what a program may ask besides the loop, as long as it lasts."""
        self._times += 1  # nobody draws the same again the next time
        collects, state, source = gc.isenabled(), random.getstate(), random.Random(self._times)
        kept = [(os, "urandom"), (random, "_urandom"), (time, "time"), (time, "monotonic")]
        before = [getattr(module, name) for module, name in kept]
        gc.disable()
        random.seed(self._times)
        try:
            for (module, name), instead in zip(kept, [source.randbytes] * 2 + [self.time] * 2, strict=True):
                setattr(module, name, instead)
            yield
        finally:
            for (module, name), original in zip(kept, before, strict=True):
                setattr(module, name, original)
            random.setstate(state)
            if collects:
                gc.enable()

    def dispose(self) -> None:
        """Ends what is left of a run, as well as it lets itself be ended, and closes the loop."""
        self._level, self._left = -1, 1000  # nothing of this is a choice of the run
        self._scripts.clear()
        for transport in list(self._transports.values()):
            if transport.get_protocol() is not None:  # it is not gone yet
                transport.abort()
        for task in self.tasks():
            task.cancel()
        try:
            if self._ready:
                self.run_until_idle()
        except Stuck:
            for task in self.tasks():  # which does not end when it is cancelled
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        finally:
            self.close()

    # ---------------------------------------------------------------------------------------- choices

    def choose(self, options: Sequence[Hashable], level: Level) -> int:
        """Which of these comes next; the first where there is one only, or their level is not explored."""
        if len(options) < 2 or level > self._level:
            return 0
        chosen = self._answer(options)
        if not 0 <= chosen < len(options):
            raise Undetermined(f"Choice {len(self.schedule.choices)} is {chosen}, of {len(options)} options.")
        self.schedule.choices.append(Choice(level, chosen, len(options)))
        return chosen

    def _choose_piece(self, options: Sequence[Hashable]) -> int:
        chosen = self.choose(options, Level.ENVIRONMENT)
        if chosen and self.trace is not None:
            self.trace.append(f"of {options[0]} bytes come or go {options[chosen]}")
        return chosen

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """What the kernel tells when it is asked: whatever the environment does in this moment."""
        self._left -= 1
        if self._left < 0:
            raise Stuck(f"The run does not end. Time is at {self._time - BEGIN:g} s, and {self._waiting()}.")
        events: list[tuple[selectors.SelectorKey, int]] = []
        self._stops_after -= 1
        for look in self.lookers:
            look()
        if self._level < Level.LATENCY:
            while self._externals:
                self._externals[0].step()
        landed, late, taken = bool(self._ready) or timeout == 0, False, set[Hashable]()
        while not self._stopping:
            sources = self._sources()
            options = [source for source in sources if _place(source) not in taken]
            if not options and not landed:
                self._wait()
                break
            if landed:
                options.insert(0 if late else len(options), _ENOUGH)
            if taken:
                options += [source for source in sources if isinstance(source, Scripted) and source in taken]
            if self._scheduled and not self._idle_stops and (when := self._next_timer()) is not None:
                options.append(_TIMER)
            level = Level.LATENCY if self._externals else Level.ENVIRONMENT
            chosen = options[self.choose(options, level)]
            if chosen is _ENOUGH:
                break
            landed = True
            taken.add(_place(chosen))
            if self.trace is not None:
                self.trace.append(_label(chosen))
            if chosen is _TIMER:
                self._time, late = cast(float, when), True
            elif isinstance(chosen, tuple):
                events.append((self._polled[chosen[0]], chosen[1]))
            else:
                cast(Scripted | Pending, chosen).step()
        if self._stops_after == 0:
            self.stop()
        return events

    def _sources(self) -> list[Hashable]:
        """What may happen outside of the program now, in the stock order."""
        found: list[Hashable] = [script for script in self._scripts if script.ready()]
        for fd, key in self._polled.items():
            near = self._sockets[fd]
            reads, writes = key.events & READ and near.readable, key.events & WRITE and near.writable
            if reads and writes:
                found += [(fd, READ | WRITE), (fd, READ), (fd, WRITE)]
            elif reads or writes:
                found.append((fd, READ if reads else WRITE))
        return [*found, *self._executed, *self._externals]

    def _wait(self) -> None:
        """Nothing can happen now: lets time go on to the next timer, if the run is to go on."""
        when = self._next_timer()
        if self._idle_stops:
            self.stop()
        elif when is not None:
            self._time = when
        else:
            raise Stuck(f"Nothing can happen any more, and {self._waiting()}.")

    def _next_timer(self) -> float | None:
        whens = (handle.when() for handle in self._scheduled if not handle.cancelled())
        return min((when for when in whens if when > self._time), default=None)

    def _waiting(self) -> str:
        """What the tasks wait for, in words."""
        waits = [f"{task.get_name()} waits in {_place_of(task)}" for task in self.tasks()]
        return "; ".join(waits) or "no task waits"

    # ---------------------------------------------------------------------------------------- what a loop has

    def fail(self, error: BaseException) -> None:
        """Keeps an error that nobody else is told of."""
        self.errors.append({"message": "failed", "exception": error})

    def call_now(self, act: Callable[[], T]) -> T:
        """Calls something now, in the running loop or as if it ran."""
        if self.is_running():
            return act()
        asyncio._set_running_loop(self)
        try:
            with self.controlled():
                return act()
        finally:
            asyncio._set_running_loop(None)

    def next_timer(self) -> float | None:
        """Seconds until the next timer; None: there is none."""
        when = self._next_timer()
        return None if when is None else when - self._time

    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, the oldest first."""
        return sorted(asyncio.all_tasks(self), key=hash)

    def began(self, task: asyncio.Task[Any]) -> None:
        """A task is there."""
        self._begun.append(weakref.ref(task))

    def unheard(self) -> list[BaseException]:
        """What tasks have raised that nobody has asked them for, as far as they are not gone: those are in `errors`."""
        alive = (task for ref in self._begun if (task := ref()) is not None)
        # whoever calls exception() has heard of it
        return [task._exception for task in alive if task._log_traceback and task._exception is not None]

    def number(self) -> int:
        """The next number of whatever has to be told apart in the same way in each run."""
        self._numbers += 1
        return self._numbers

    def time(self) -> float:
        """The time, in seconds, which nothing but the schedule moves."""
        return self._time

    def create_future(self) -> asyncio.Future[Any]:
        """A future whose hash is the same in each run."""
        return Future(loop=self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keeps what nobody else is told of."""
        self.errors.append(context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Has a thread do something, that is to say: does it here, when the schedule says that it is done."""
        answer: asyncio.Future[T] = self.create_future()

        def done() -> None:
            try:
                result = func(*args)
            except Exception as error:
                self.call_soon(_unless_done, answer.set_exception, answer, error)
            else:
                self.call_soon(_unless_done, answer.set_result, answer, result)

        self._executed.append(Pending(f"a thread has done {getattr(func, '__name__', func)}", done, self._executed))
        return answer

    def _ensure_fd_no_transport(self, fd: object) -> NoReturn:
        """Asked before anything real is read or written."""
        _refuse()

    async def create_server(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Nothing real is listened on here."""
        _refuse()

    create_connection = create_unix_server = create_unix_connection = create_server
    create_datagram_endpoint = connect_read_pipe = connect_write_pipe = create_server
    subprocess_exec = subprocess_shell = getaddrinfo = getnameinfo = create_server
    sock_recv = sock_recv_into = sock_recvfrom = sock_recvfrom_into = sock_connect = sock_accept = create_server
    sock_sendall = sock_sendto = sock_sendfile = sendfile = connect_accepted_socket = create_server

    def _make_self_pipe(self) -> None:
        """Nobody calls from another thread."""

    def _close_self_pipe(self) -> None:
        """There is none."""

    def _write_to_self(self) -> None:
        """The loop is never asleep."""


READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_ENOUGH = "no more in this iteration"
_TIMER = "time goes on to the next timer"


def _refuse() -> NoReturn:
    raise NotImplementedError(
        "A ScheduledLoop has no real network, files or processes. Use its connect() for a connection, and external() "
        "for whatever else a program waits for."
    )


def _unless_done(act: Callable[[Any], None], answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        act(value)


def _place(source: Hashable) -> Hashable:
    """What can be taken but once in an iteration: a connection, whatever it is ready for."""
    return source[0] if isinstance(source, tuple) else source


def _label(source: Hashable) -> str:
    if not isinstance(source, tuple):
        return str(source)
    can = {READ: "read", WRITE: "written", READ | WRITE: "read and written"}[source[1]]
    return f"connection {source[0] - 1_000_000} can be {can}"


def _place_of(task: asyncio.Task[Any]) -> str:
    """Where a task is suspended, from its coroutine to what that awaits in the end."""
    places, awaits = [], cast(Any, task.get_coro())
    while (frame := getattr(awaits, "cr_frame", None)) is not None:
        places.append(f"{frame.f_code.co_qualname}, line {frame.f_lineno}")
        awaits = awaits.cr_await
    return " > ".join(places) or "nothing"
