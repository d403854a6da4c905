"""The routes that the tests ask for, as a Litestar app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias

from litestar import Litestar, WebSocket, websocket, websocket_listener
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.handlers import BaseRouteHandler, websocket_stream
from litestar.types import Scope

Socket: TypeAlias = WebSocket[Any, Any, Any]


def refuse(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard that lets nobody in."""
    raise NotAuthorizedException(detail="come with a ticket")


def make(seen: asyncio.Queue[Any]) -> Litestar:
    """The app; its handlers put into `seen` what became of them, and so does its hook for exceptions."""

    @websocket("/text")
    async def text(socket: Socket) -> None:
        await socket.accept()
        async for message in socket.iter_data("text"):
            await socket.send_text(message)
        seen.put_nowait("end of messages")

    @websocket("/binary")
    async def binary(socket: Socket) -> None:
        await socket.accept()
        async for message in socket.iter_data("binary"):
            await socket.send_bytes(message)
        seen.put_nowait("end of messages")

    @websocket("/subprotocol")
    async def subprotocol(socket: Socket) -> None:
        await socket.accept(subprotocols=socket.scope["subprotocols"][-1], headers={"x-served-by": "us"})
        await socket.close()

    @websocket("/reject")
    async def reject(socket: Socket) -> None:
        await socket.close(code=4003, reason="not you")

    @websocket("/guarded", guards=[refuse])
    async def guarded(socket: Socket) -> None:
        await socket.accept()

    @websocket("/close")
    async def close(socket: Socket) -> None:
        await socket.accept()
        await socket.close(code=4001, reason="enough")

    @websocket("/closed")
    async def closed(socket: Socket) -> None:
        await socket.accept()
        try:
            await socket.receive_text()
        except WebSocketDisconnect as disconnect:
            seen.put_nowait(disconnect.code)

    @websocket("/uncaught")
    async def uncaught(socket: Socket) -> None:
        await socket.accept()
        await socket.receive_text()

    @websocket("/late")
    async def late(socket: Socket) -> None:
        await socket.accept()
        await socket.receive()  # the disconnect
        try:
            await socket.send_text("too late")
        except WebSocketDisconnect as disconnect:
            seen.put_nowait(disconnect.code)
            raise

    @websocket("/flood")
    async def flood(socket: Socket) -> None:
        await socket.accept()
        try:
            for _ in range(300):  # far more than a client that does not read takes
                await socket.send_bytes(bytes(1 << 20))
            seen.put_nowait("taken")
        except OSError:
            seen.put_nowait("refused")
            raise

    @websocket("/crash")
    async def crash(socket: Socket) -> None:
        await socket.accept()
        raise RuntimeError(await socket.receive_text())

    @websocket("/crash-early")
    async def crash_early(socket: Socket) -> None:
        raise RuntimeError("boom")

    @websocket_listener("/json")
    async def listener(data: dict[str, Any]) -> dict[str, Any]:
        return {"got": data}

    @websocket_stream("/stream")
    async def stream() -> AsyncGenerator[str, None]:
        try:
            yield "one"
            yield "two"
            await asyncio.Event().wait()
        finally:
            seen.put_nowait("end of stream")

    async def note(error: Exception, scope: Scope) -> None:
        if isinstance(error, RuntimeError):
            seen.put_nowait(str(error))

    # without its own logging, which would take the place of pytest's
    handlers = [text, binary, subprotocol, reject, guarded, close, closed, uncaught, late, flood, crash, crash_early]
    return Litestar([*handlers, listener, stream], logging_config=None, openapi_config=None, after_exception=[note])
