"""What a `ScheduledLoop` is made of: what stands for the kernel, the queue of what is ready, tasks with numbers."""

from __future__ import annotations

import asyncio
import selectors
from asyncio import selector_events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from wslifecycle.conformance.orders.schedulers import Level

Script: TypeAlias = Generator[Callable[[], bool] | None, None, None]
"""What a peer does: it yields after each step, None or a condition that the next step has to wait for."""


if TYPE_CHECKING:

    class _SocketTransport(asyncio.Transport):
        """What the stubs do not tell of."""

        _closing: bool
        _conn_lost: int
        _eof: bool
        _protocol_paused: bool

        def __init__(self, loop: Loop, sock: object, protocol: asyncio.BaseProtocol) -> None: ...
        def _call_connection_lost(self, exc: Exception | None) -> None: ...

else:
    _SocketTransport = selector_events._SelectorSocketTransport


class Loop(Protocol):
    """What is asked of the loop here."""

    trace: list[str] | None

    def choose(self, options: Sequence[Hashable], level: Level) -> int:
        """Which of these comes next."""

    def note(self, text: str) -> None:
        """A line of the trace."""

    def number(self) -> int:
        """The next number."""

    def began(self, task: asyncio.Task[Any]) -> None:
        """A task is there."""


class Selector(selectors.BaseSelector):
    """What the loop asks for events: it knows what is polled for, and has the loop say what happens."""

    def __init__(self, select: Callable[[float | None], list[tuple[selectors.SelectorKey, int]]]) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self._answer = select

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Polls for these events from now on, in place of others."""
        self._keys[fileobj] = key = selectors.SelectorKey(fileobj, fileobj, events, data)
        return key

    modify = register

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Polls for it no more."""
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has happened."""
        return self._answer(timeout)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """What is polled for."""
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """What one is polled for. Raises `KeyError`."""
        return self._keys[fileobj]


class Scripted:
    """What the environment does step by step."""

    def __init__(self, script: Script, name: str, others: list[Scripted]) -> None:
        self._condition: Callable[[], bool] | None = None
        self._name = name
        self._others = others
        self._script = script

    def __str__(self) -> str:
        return f"{self._name} goes on"

    def ready(self) -> bool:
        """Whether the next step may come."""
        return self._condition is None or self._condition()

    def step(self) -> None:
        """The next step."""
        try:
            self._condition = next(self._script)
        except StopIteration:
            self._others.remove(self)


class Pending:
    """Something outside that will be done at some time, once."""

    def __init__(self, name: str, done: Callable[[], None], others: list[Pending]) -> None:
        self._done = done
        self._name = name
        self._others = others

    def __str__(self) -> str:
        return self._name

    def step(self) -> None:
        """It is done."""
        self._others.remove(self)
        self._done()


class Transport(_SocketTransport):
    """Asyncio's own transport, which tells what its protocol has it do."""

    tap: Callable[[str, bytes], None] | None = None
    """Called with `write` and the bytes, `write_eof`, `close`, `abort` (with what is dropped unsent) and, before the
    protocol hears of it, `lost`. Not called for what changes nothing, since the transport ends already."""

    def _tell(self, what: str, data: bytes = b"") -> None:
        if self.tap is not None:
            self.tap(what, data)

    def is_blocked(self) -> bool:
        """Whether the protocol was told to write no more."""
        return self._protocol_paused

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """As asyncio's. What cannot go anywhere any more is not told."""
        goes, told = not self._conn_lost, bytes(data)
        super().write(data)
        if goes and told:
            self._tell("write", told)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """As one write."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """As asyncio's."""
        before = self._eof or self._closing
        try:
            super().write_eof()
        finally:  # that the peer is gone makes it fail, and it was told to end all the same
            if not before:
                self._tell("write_eof")

    def close(self) -> None:
        """As asyncio's."""
        before = self._closing
        super().close()
        if not before:
            self._tell("close")

    def abort(self) -> None:
        """As asyncio's."""
        before, dropped = self._conn_lost, self.get_write_buffer_size()
        super().abort()
        if not before:
            self._tell("abort", bytes(dropped))

    def _call_connection_lost(self, exc: Exception | None) -> None:
        self._tell("lost")
        super()._call_connection_lost(exc)


class Lanes(deque[asyncio.Handle]):
    """What is ready, in lanes: one for each task, and one for everything else. Each lane is first in, first out."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def popleft(self) -> asyncio.Handle:
        """The first of the lane that is chosen; the stock order: the first of all."""
        handle = super().popleft() if len(self) == 1 else self._chosen()
        if self._loop.trace is not None and not handle.cancelled():
            self._loop.note(_told(handle))
        return handle

    def _chosen(self) -> asyncio.Handle:
        heads: dict[Hashable, int] = {}
        for place, handle in enumerate(self):
            heads.setdefault(_lane(handle), place)
        lanes = list(heads)
        place = heads[lanes[self._loop.choose(lanes, Level.LANES)]]
        handle = self[place]
        del self[place]
        return handle


def _lane(handle: asyncio.Handle) -> Hashable:
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return owner if isinstance(owner, asyncio.Task) else None


def _told(handle: asyncio.Handle) -> str:
    lane, callback = _lane(handle), handle._callback  # type: ignore[attr-defined]
    if isinstance(lane, asyncio.Task):
        return f"{lane.get_name()} goes on"
    return f"{getattr(callback, '__qualname__', repr(callback))}() is called"


class Future(asyncio.Future[Any]):
    """A future whose hash is its number, so that sets of futures have the same order in each run."""

    def __init__(self, *, loop: Loop) -> None:
        self._serial = loop.number()
        super().__init__(loop=cast(asyncio.AbstractEventLoop, loop))

    def __hash__(self) -> int:
        return self._serial


class Task(asyncio.Task[Any]):
    """A task whose hash is its number; its name, too, if it has no other."""

    def __init__(self, loop: Loop, coro: Coroutine[Any, Any, Any], *, name: str | None = None, **more: Any) -> None:
        self._serial = loop.number()
        super().__init__(coro, loop=cast(asyncio.AbstractEventLoop, loop), name=name or f"task {self._serial}", **more)
        loop.began(self)

    def set_name(self, value: object) -> None:
        """As asyncio's; None, which the loop of Python 3.13 says where no name was given, changes nothing."""
        if value is not None:
            super().set_name(value)

    def __hash__(self) -> int:
        return self._serial
