"""A server of our own: WebSocket only, without Uvicorn, for embedding and for tests.

    server = await start_server(app, "127.0.0.1", 8000)
    async with server:
        await server.serve_forever()

Plain HTTP is answered by 426, which says why. The server is like asyncio's: it listens when `start_server` returns, and
ends with `close()` and `wait_closed()`, or at the end of `async with`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as tls
from collections.abc import Sequence
from socket import socket
from types import TracebackType
from typing import Any, TypeAlias

from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.handshake import addable
from wslifecycle.runtime.lifespan import CANCEL_TIMEOUT, Lifespan, Mode
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.places import where_waiting
from wslifecycle.runtime.session import App, Service

Header: TypeAlias = tuple[bytes, bytes]

_log = logging.getLogger("wslifecycle")


async def start_server(
    app: App,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int = 0,
    *,
    path: str | None = None,
    sock: socket | None = None,
    ssl: tls.SSLContext | None = None,
    lifespan: Mode = "auto",
    grace: float | None = 10.0,
    root_path: str = "",
    headers: Sequence[Header] = (),
    options: Options | None = None,
) -> Server:
    """Serves an ASGI app over WebSocket and nothing else; it listens when this returns.

    `host` and `port` are asyncio's (port 0 picks a free one); `path` listens on a unix socket instead, `sock` on a
    socket that is bound already. `lifespan` says whether the app's startup is waited for ("on": has to succeed, "auto":
    if it supports the protocol). `grace`: seconds that apps have after `close()` before they are cancelled (C18; None:
    any time). `headers` go onto every answer to a handshake.

    Raises `LifespanError` when the app's startup fails, `OSError` when the address cannot be listened on, and
    `ValueError` for a header that HTTP cannot carry or that is the handshake's own.
    """
    for name, value in headers:
        if not addable(name, value):
            raise ValueError(f"The header {name!r}: {value!r} cannot be added to every answer to a handshake.")
    life = Lifespan(app, lifespan)
    await life.startup()
    options = options or Options()
    _ = options.lifecycle  # made now, and not while the first peer waits
    service = Service(app, options, state=life.state, headers=headers, root_path=root_path)
    server = Server(service, life, grace)
    try:
        await server._listen(host, port, path=path, sock=sock, ssl=ssl)
    except BaseException:
        await life.shutdown(grace)
        raise
    return server


class Server:
    """A server that listens. Made by `start_server`."""

    def __init__(self, service: Service, lifespan: Lifespan, grace: float | None) -> None:
        self._connections: set[Acceptor] = set()
        self._grace = grace
        self._lifespan = lifespan
        self._listener: asyncio.Server
        self._service = service

    async def _listen(self, host: Any, port: int, *, path: str | None, sock: socket | None, ssl: Any) -> None:
        loop = asyncio.get_running_loop()

        def acceptor() -> Acceptor:
            return Acceptor(self._service, self._connections)

        secure: dict[str, Any] = {"ssl": ssl, "start_serving": False}
        if ssl is not None:  # a TLS handshake may take as long as the request behind it
            secure["ssl_handshake_timeout"] = self._service.options.request_timeout
        if path is not None:
            self._listener = await loop.create_unix_server(acceptor, path, **secure)
        elif sock is not None:
            self._listener = await loop.create_server(acceptor, sock=sock, **secure)
        else:
            self._listener = await loop.create_server(acceptor, host, port, **secure)
        try:
            await self._listener.start_serving()
        except BaseException:  # cancelled: asyncio listens already, and waits for a turn of the loop
            self.close()
            raise

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The sockets that it listens on; empty once it is closed."""
        return tuple(self._listener.sockets)

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._listener.is_serving()

    def close(self) -> None:
        """Accepts no more connections and closes those that are there (C32). Can be called again."""
        self._service.stop.set()
        self._listener.close()
        for connection in list(self._connections):
            connection.shutdown()

    async def wait_closed(self) -> None:
        """Waits for `close()` and until every connection and every app has ended, then shuts the lifespan down.

        After the time of grace, which begins now, apps are cancelled and transports dropped (C18).
        """
        await self._service.stop.wait()
        try:
            async with asyncio.timeout(self._grace):
                await self._all_gone()
        except TimeoutError:
            _log.error("Cancel %d running task(s), the time of grace is over.", len(self._service.tasks))
            for task in self._service.tasks:
                task.cancel()
            for connection in list(self._connections):
                connection.abort()
            try:
                async with asyncio.timeout(CANCEL_TIMEOUT):
                    await self._all_gone()
            except TimeoutError:
                for task in self._service.tasks:
                    _log.error("An app goes on after it was cancelled, and waits at %s.", where_waiting(task))
        await self._lifespan.shutdown(self._grace)
        abort = getattr(self._listener, "abort_clients", None)  # asyncio's has it since Python 3.13
        if abort is not None:
            abort()  # a TLS handshake that goes on is no connection of ours yet

    async def _all_gone(self) -> None:
        """Waits for the connections and for the apps, which may live longer (R52)."""
        while waits := {*(connection.gone for connection in self._connections), *self._service.tasks}:
            await asyncio.wait(waits)

    async def serve_forever(self) -> None:
        """Serves until somebody calls `close()` or cancels this; then waits until everything has ended."""
        try:
            await self._service.stop.wait()
        finally:
            self.close()
            await self.wait_closed()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()
