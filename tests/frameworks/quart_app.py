"""The routes that the tests ask for, as a Quart app."""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Quart, abort, websocket
from quart.wrappers import base

REFUSALS = (OSError, getattr(base, "ClientDisconnectedError", OSError))
"""What its send() raises after a disconnect: the server's error, since Quart 0.23 one of its own."""


def make(seen: asyncio.Queue[Any]) -> Quart:
    """The app; its handlers put into `seen` what became of them."""
    app = Quart(__name__)

    @app.websocket("/text")
    @app.websocket("/binary")
    async def echo() -> None:
        try:
            while True:
                await websocket.send(await websocket.receive())  # accepts by itself
        except asyncio.CancelledError:
            seen.put_nowait("end of messages")
            raise

    @app.websocket("/subprotocol")
    async def subprotocol() -> None:
        await websocket.accept(subprotocol=websocket.requested_subprotocols[-1], headers={"x-served-by": "us"})

    @app.websocket("/reject")
    async def reject() -> None:
        await websocket.close(4003, "not you")

    @app.websocket("/denial")
    async def denial() -> tuple[str, int, dict[str, str]]:
        return "come with a ticket", 401, {"www-authenticate": "Ticket"}

    @app.websocket("/raised")
    async def raised_denial() -> None:
        abort(401)

    @app.websocket("/close")
    async def close() -> None:
        await websocket.accept()
        await websocket.close(4001, "enough")

    @app.websocket("/going-away")
    async def going_away() -> None:
        await websocket.send("accepted by itself")
        await websocket.close(1001)

    @app.websocket("/closed")
    async def closed() -> None:
        await websocket.accept()
        try:
            await websocket.receive()
        except asyncio.CancelledError:
            seen.put_nowait("cancelled")
            raise

    @app.websocket("/late")
    async def late() -> None:
        await websocket.accept()
        try:
            await websocket.receive()
        except asyncio.CancelledError:
            try:
                await websocket.send("too late")
            except REFUSALS:
                seen.put_nowait("refused")
            raise

    @app.websocket("/flood")
    async def flood() -> None:
        try:
            for _ in range(300):  # far more than a client that does not read takes
                await websocket.send(bytes(1 << 20))
            seen.put_nowait("taken")
        except (*REFUSALS, asyncio.CancelledError) as error:  # whichever comes first
            seen.put_nowait("refused")
            if isinstance(error, asyncio.CancelledError):
                raise

    @app.websocket("/crash")
    async def crash() -> None:
        raise RuntimeError(await websocket.receive())

    @app.websocket("/crash-early")
    async def crash_early() -> None:
        raise RuntimeError("boom")

    return app
