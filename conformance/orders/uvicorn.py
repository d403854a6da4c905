"""Uvicorn's WebSocket protocols in process, on a `ScheduledLoop`, served as Uvicorn's own server serves them.

A connection is begun by Uvicorn's HTTP protocol (that of h11), which hands the upgrade request over. What its server
does besides is done here in its place, and nothing more: `shutdown()` is called once, as a callback of the loop, on
each protocol that is in `ServerState.connections` then. So a protocol is never called in a way in which Uvicorn would
not call it. The peer, too, says nothing behind its request before that was taken: what comes in one piece with the
head never reaches a WebSocket protocol of Uvicorn.

    class TestWsproto(served("wsproto")):
        pass
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from hypothesis.stateful import precondition, rule
from uvicorn.config import Config
from uvicorn.server import ServerState

from wslifecycle.conformance.orders.exchange import App, Exchange, Make
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Level
from wslifecycle.conformance.orders.stateful import THEN, Fuzz, connecting
from wslifecycle.conformance.orders.survey import quiet
from wslifecycle.conformance.orders.witness import Witness
from wslifecycle.statemachine.cover import MESSAGES


class Front(asyncio.Protocol):
    """A connection as Uvicorn begins it: its HTTP protocol, until that makes a WebSocket protocol the transport's."""

    def __init__(self, http: Any, state: ServerState) -> None:
        self._http = http
        self._state = state
        self._shut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """A piece of the request, the last of which hands it over."""
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """The peer has ended its side within its request."""
        answer: bool | None = self._http.eof_received()
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is lost within its request."""
        self._http.connection_lost(exc)

    @property
    def can_shut_down(self) -> bool:
        """Whether a server that shuts down would call anything for this connection: not twice, nor when it is gone."""
        return not self._shut and bool(self._state.connections)

    def shutdown(self) -> None:
        """What `Server.shutdown()` does for its connections, once."""
        self._shut = True
        asyncio.get_running_loop().call_soon(self._shutdown)

    def _shutdown(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()


def make(implementation: Any) -> Make:
    """Makes connections of Uvicorn with this `ws=`: `wsproto`, `websockets-sansio`, or a protocol class."""

    def made(app: App) -> asyncio.BaseProtocol:
        config = Config(app, ws=implementation, http="h11", lifespan="off", log_config=None, interface="asgi3")
        config.load()
        state = ServerState()
        return Front(_made(config.http_protocol_class, config, state), state)

    return made


def _made(protocol: Any, config: Config, state: ServerState) -> Any:
    """A protocol of this class; those of releases before 0.22 know no `app_state`."""
    try:
        return protocol(config=config, server_state=state, app_state={})
    except TypeError:
        return protocol(config=config, server_state=state)


@lru_cache(maxsize=16)
def advertised(implementation: Any) -> tuple[str, tuple[str, ...]]:
    """The spec version and the extensions that this implementation says in its scopes."""
    x = Exchange(ScheduledLoop(), make(implementation), Witness())
    with quiet():
        try:
            x.idle()
            return x.scope["asgi"].get("spec_version", "2.0"), tuple(x.scope.get("extensions") or ())
        finally:
            x.loop.dispose()


class Served(Fuzz):
    """One connection of Uvicorn in each example, judged as the spec version asks that its scope says.

    The app sends nothing malformed, since in which order a server checks is its choice (C39). The start of a denial has
    its headers, which may be left out, since a KeyError in Uvicorn for each that has none would hide the rest.
    """

    implementation: ClassVar[Any] = "wsproto"
    messages: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        event: {**message, "headers": []} if event == "app_response_start" else message
        for event, message in MESSAGES.items()
    }
    malformed: ClassVar[tuple[Any, ...]] = ()
    level: ClassVar[Level] = Level.ENVIRONMENT

    def make(self, app: App) -> Any:
        """A connection to Uvicorn."""
        return make(self.implementation)(app)

    def witness(self, followed: int) -> Witness:
        """Who judges."""
        version, extensions = advertised(self.implementation)
        return Witness(spec_version=version, extensions=extensions, followed=followed, known=self.known)

    @connecting()
    def connects(self, tape: bytes, room: int, high: int | None, followed: int, begins: str, lasts: int) -> None:
        """A peer connects, and its request was taken; the app may have come some way already.

        The end may come at once, since what was found in Uvicorn was found there.
        """
        super().connects(tape, room, high, followed, "called" if begins == "new" else begins, lasts // 6)

    @precondition(lambda self: self.steps >= self.lasts and self.x.protocol.can_shut_down)
    @rule(then=THEN)
    def server_shuts_down(self, then: str) -> None:
        """The server shuts down, once."""
        self._do(self.x.shut_down, then)


def served(implementation: Any) -> type[Served]:
    """A fuzzer of this implementation."""
    return type("Served", (Served,), {"implementation": implementation})
