"""How the tests serve an app: in process, in the running loop, in each way that the package offers.

`serving` starts an app in one of `WAYS` and gives a `Site`, which knows how to connect to it and has its sessions.
`run` is what a test runs in: a fresh loop in debug mode, a time limit, and a look at what was left behind. Nothing here
judges what a server answers.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from ssl import SSLContext
from typing import Any, Literal, NamedTuple, TypeAlias

import uvicorn
import uvloop
from websockets.asyncio.client import connect, unix_connect

from wslifecycle.integrations.uvicorn import LifecycleProtocol
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.server import start_server
from wslifecycle.runtime.session import App, Session

Loop: TypeAlias = Literal["asyncio", "uvloop"]

PATIENCE = 10
"""Seconds that a server may take to start, and for its apps to end."""

_FACTORIES: dict[Loop, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


# ------------------------------------------------------------------------------------------------ the ways


class Running(NamedTuple):
    """A server that has started: what it listens on, and how to shut it down and wait until it has."""

    sockets: Sequence[Any]
    end: Callable[[], Awaitable[None]]


Way: TypeAlias = Callable[..., Awaitable[Running]]


async def _start_server(
    app: App, options: Options, ssl: SSLContext | None, path: str | None, **settings: Any
) -> Running:
    server = await start_server(app, ssl=ssl, path=path, options=options, **settings)

    async def end() -> None:
        server.close()
        await server.wait_closed()

    return Running(server.sockets, end)


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server, which looks for `should_exit` only every tenth of a second: too long for hundreds of tests."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # noqa: ASYNC110 - it is an attribute
            await asyncio.sleep(0.005)


async def _uvicorn(
    http: Literal["h11", "httptools"],
    app: App,
    options: Options,
    ssl: SSLContext | None,
    path: str | None,
    **settings: Any,
) -> Running:
    protocol = type("Protocol", (LifecycleProtocol,), {"options": options})
    defaults: dict[str, Any] = {"interface": "asgi3", "timeout_graceful_shutdown": PATIENCE}
    config = uvicorn.Config(app, port=0, uds=path, http=http, ws=protocol, log_config=None, **(defaults | settings))
    config.load()
    config.ssl = ssl  # Uvicorn itself makes one from files alone, and the newest only takes a factory
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            await task
            raise RuntimeError("Uvicorn ended before it had started")
        await asyncio.sleep(0.001)  # Uvicorn announces it by nothing but this attribute

    async def end() -> None:
        server.should_exit = True
        await task

    return Running(server.servers[0].sockets, end)


WAYS: dict[str, Way] = {
    "start_server": _start_server,
    "uvicorn-h11": partial(_uvicorn, "h11"),
    "uvicorn-httptools": partial(_uvicorn, "httptools"),
}


# ------------------------------------------------------------------------------------------------ a running app


@dataclass(frozen=True)
class Site:
    """An app that is being served, and what a test needs of it.

    `url` ends in a slash; `port` is 0 and the host in `url` a mere name for a unix socket. `sessions`: all that there
    were, in the order of their requests. `shutdown()`: the whole shutdown of the server, as often as it is called.
    """

    url: str
    port: int
    sessions: list[Session]
    shutdown: Callable[[], Coroutine[Any, Any, None]]
    path: str | None

    def connect(self, route: str = "", **settings: Any) -> connect:
        """A client of the websockets library, to be entered by `async with`; `settings` are its own."""
        if self.path is not None:
            return unix_connect(self.path, self.url + route, **settings)
        return connect(self.url + route, proxy=None, **settings)


@asynccontextmanager
async def serving(
    way: str,
    app: App,
    *,
    options: Options | None = None,
    ssl: SSLContext | None = None,
    path: str | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """Serves `app` in a way of `WAYS` on a free port of 127.0.0.1, or on the unix socket `path`.

    `settings` are those of `start_server` or of `uvicorn.Config`, whichever the way is. Raises `TimeoutError` if the
    server takes longer than `PATIENCE` to start, or twice that to end.
    """
    sessions: list[Session] = []
    options = options or Options()
    heard = options.on_session

    def on_session(session: Session) -> None:
        sessions.append(session)
        if heard is not None:
            heard(session)

    async with asyncio.timeout(PATIENCE):
        running = await WAYS[way](app, replace(options, on_session=on_session), ssl, path, **settings)

    async def shutdown() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await running.end()

    port = 0 if path is not None else running.sockets[0].getsockname()[1]
    host = "localhost" if path is not None else f"127.0.0.1:{port}"
    try:
        yield Site(f"{'ws' if ssl is None else 'wss'}://{host}/", port, sessions, shutdown, path)
    finally:
        await shutdown()


def vanish(transport: asyncio.WriteTransport) -> None:
    """Ends a client's connection with an RST, and without a Close frame."""
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


# ------------------------------------------------------------------------------------------------ running a test


def run(test: Callable[[], Awaitable[None]], *, loop: Loop = "asyncio", seconds: float = 30) -> None:
    """Runs `test()` in a fresh loop in debug mode, and holds it to leaving nothing behind.

    Raises `TimeoutError` after so many seconds; `AssertionError` if at the end a task or (on asyncio) a timer is left,
    if something was dropped that ought to have been closed (`ResourceWarning`) or that raised where nobody could catch
    it, or if the loop's exception handler was called.
    """
    complaints: list[str] = []
    with _dropped(complaints), asyncio.Runner(debug=True, loop_factory=_FACTORIES[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(repr(context)))
        runner.run(_bounded(test, seconds))
    assert complaints == [], complaints


async def _bounded(test: Callable[[], Awaitable[None]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await test()
    this = asyncio.current_task()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 1  # for tasks that have been told to end, and have not come to their turn
    while (left := asyncio.all_tasks() - {this}) and loop.time() < deadline:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.001)
    assert left == set(), left
    scheduled = vars(loop)["_scheduled"] if isinstance(loop, asyncio.BaseEventLoop) else []  # uvloop does not tell
    timers = [timer for timer in scheduled if not timer.cancelled()]
    assert timers == [], timers


@contextmanager
def _dropped(complaints: list[str]) -> Iterator[None]:
    """Tells what is dropped without having been closed, and what raises where it cannot be caught."""
    hook = sys.unraisablehook
    # as text: the object itself must not come back to life
    sys.unraisablehook = lambda news: complaints.append(f"{news.err_msg or ''} {news.object!r}: {news.exc_value!r}")
    gc.freeze()  # what was there before is no concern of this test, and looking through it takes longest
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)  # as an error it would stop uvloop from closing
            yield
            gc.collect()
        complaints += [str(warning.message) for warning in warned]
    finally:
        gc.unfreeze()
        sys.unraisablehook = hook
