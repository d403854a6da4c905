"""Drives a real app on a real server over a real socket through a scenario, both sides under the driver's control.

The peer is the client of `peer`, the app one coroutine that does what the driver says. Every wait is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from wslifecycle.conformance import peer as peers
from wslifecycle.conformance.peer import MAX_SIZE, Peer
from wslifecycle.conformance.scenarios import Act, Scenario, Seen, differences, short
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.server import start_server
from wslifecycle.runtime.session import App as ASGIApp
from wslifecycle.runtime.session import Session
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle


class App:
    """An ASGI app that does what the driver says: ask, send, return, raise."""

    def __init__(self) -> None:
        self.asks: list[asyncio.Task[MutableMapping[str, Any]]] = []
        self.raised: str | None = None
        self._called: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
        self._ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """The ASGI callable: lives until the driver ends it."""
        self._called.set_result((receive, send))
        await self._ends

    async def called(self) -> tuple[Any, Any]:
        """Waits until the server has called the app; gives its `receive` and `send`."""
        async with asyncio.timeout(peers.START_UP):
            return await asyncio.shield(self._called)

    async def do(self, act: Act) -> None:
        """One stimulus of the app."""
        receive, send = await self.called()
        self.raised = None
        match act.stimulus:
            case "app asks":
                self.asks.append(asyncio.create_task(receive()))
            case "app cancels":
                self.asks.pop(0).cancel()
            case "app sends":
                try:
                    async with asyncio.timeout(peers.START_UP):
                        await send(dict(act.value))
                except ApplicationViolation:
                    self.raised = "violation"
                except Disconnected:
                    self.raised = "disconnected"
            case "app returns":
                self._ends.set_result(None)
            case "app raises":
                self._ends.set_exception(ScenarioError("the app of a scenario raises"))

    async def given(self, count: int) -> list[dict[str, Any]]:
        """What the oldest asks were answered with: `count` of them as long as patience lasts, and those on top."""
        wanted = self.asks[:count]
        if wanted:
            await asyncio.wait(wanted, timeout=peers.PATIENCE)
        answers = []
        while self.asks and self.asks[0].done():
            ask = self.asks.pop(0)
            lost = isinstance(ask.exception(), Disconnected)
            answers.append({"raised": "disconnected"} if lost else dict(ask.result()))
        return answers

    async def close(self) -> None:
        """Ends the app and every ask that still waits."""
        if not self._ends.done():
            self._ends.set_result(None)
        for ask in self.asks:
            ask.cancel()
        await asyncio.gather(*self.asks, return_exceptions=True)


class ScenarioError(Exception):
    """What the app of a scenario raises."""


class Sockets:
    """A scenario over a socket: `do` carries out an act and reports what both sides saw."""

    def __init__(self, app: App, peer: Peer, sessions: list[Session]) -> None:
        self._app = app
        self.peer = peer
        self._sessions = sessions

    async def do(self, act: Act) -> Seen:
        """Carries out the stimulus and waits for what has to come of it; what comes on top is reported too."""
        self._app.raised = None
        if act.stimulus.startswith("peer"):
            await self.peer.do(act)
        elif act.stimulus.startswith("app"):
            await self._app.do(act)
        elif act.stimulus == "server shuts down":
            self._sessions[0].shutdown()
        else:
            self._sessions[0].time_out(act.value)
        given = await self._app.given(len(act.app))
        seen = await self.peer.account(act.peer)
        given += await self._app.given(0)
        return Seen(given, seen, self._app.raised, len(self._app.asks))


Serve: TypeAlias = Callable[[ASGIApp, Options], contextlib.AbstractAsyncContextManager[int]]
"""Serves an app, as long as the context lasts, with these options; gives the port."""


@contextlib.asynccontextmanager
async def standalone(app: ASGIApp, options: Options) -> AsyncIterator[int]:
    """Serves an app by our own server."""
    async with await start_server(app, lifespan="off", grace=peers.START_UP, options=options) as server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def driven(
    scenario: Scenario,
    machine: Lifecycle | None = None,
    observe: Callable[[Answer], None] | None = None,
    serve: Serve = standalone,
) -> AsyncIterator[Sockets]:
    """Starts a server on a free port with the app of a scenario, connects its peer, and ends all of it."""
    app, peer, sessions = App(), Peer(scenario.subprotocols), list[Session]()
    options = Options(
        machine=machine,
        spec_version=scenario.spec_version,
        extensions=scenario.extensions,
        max_size=MAX_SIZE,
        ping_interval=None,
        observe=observe,
        on_session=sessions.append,
    )
    async with contextlib.AsyncExitStack() as stack:  # the last one entered is the first to end
        port = await stack.enter_async_context(serve(app, options))
        stack.push_async_callback(peer.close)
        stack.push_async_callback(app.close)
        await peer.connect(port)
        await app.called()  # what the peer sends from now on does not come in one piece with its request
        yield Sockets(app, peer, sessions)


async def run(
    scenario: Scenario,
    machine: Lifecycle | None = None,
    observe: Callable[[Answer], None] | None = None,
    watch: Callable[[Act, Seen], None] = lambda act, seen: None,
    serve: Serve = standalone,
) -> list[str]:
    """Runs a whole scenario over a socket; returns the differences, each with its place. Empty: it agrees.

    `observe` is called with every answer of the machine, `watch` after every act with what both sides saw; `serve` is
    another way to serve than our own server.
    """
    found: list[str] = []
    async with driven(scenario, machine, observe, serve) as sockets:
        for act in scenario.acts:
            seen = await sockets.do(act)
            watch(act, seen)
            found += (f"{scenario.file}:{act.line}: after `{act}` {text}" for text in differences(act, seen))
        late = await sockets.peer.account()
        found += (f"{scenario.file}:{scenario.line}: at the end the peer saw {short(entry)} on top" for entry in late)
    return found
