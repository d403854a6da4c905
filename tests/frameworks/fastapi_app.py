"""The routes that the tests ask for, as a FastAPI app."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, WebSocket, WebSocketDisconnect, WebSocketException
from fastapi.responses import PlainTextResponse


def make(seen: asyncio.Queue[Any]) -> FastAPI:
    """The app; its handlers put into `seen` what became of them."""
    app = FastAPI()

    @app.websocket("/text")
    async def text(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket.iter_text():
            await websocket.send_text(message)
        seen.put_nowait("end of messages")

    @app.websocket("/binary")
    async def binary(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket.iter_bytes():
            await websocket.send_bytes(message)
        seen.put_nowait("end of messages")

    @app.websocket("/subprotocol")
    async def subprotocol(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][-1], headers=[(b"x-served-by", b"us")])
        await websocket.close()

    @app.websocket("/reject")
    async def reject(websocket: WebSocket) -> None:
        raise WebSocketException(code=4003, reason="not you")

    @app.websocket("/denial")
    async def denial(websocket: WebSocket) -> None:
        response = PlainTextResponse("come with a ticket", status_code=401, headers={"www-authenticate": "Ticket"})
        await websocket.send_denial_response(response)

    @app.websocket("/raised")
    async def raised_denial(websocket: WebSocket) -> None:
        raise HTTPException(status_code=401, detail="come with a ticket", headers={"www-authenticate": "Ticket"})

    @app.websocket("/close")
    async def close(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketException(code=4001, reason="enough")

    @app.websocket("/closed")
    async def closed(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as disconnect:
            seen.put_nowait((disconnect.code, disconnect.reason))

    @app.websocket("/uncaught")
    async def uncaught(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()

    @app.websocket("/late")
    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()  # the disconnect
        try:
            await websocket.send_text("too late")
        except WebSocketDisconnect as disconnect:
            seen.put_nowait(disconnect.code)
            raise

    @app.websocket("/crash")
    async def crash(websocket: WebSocket) -> None:
        await websocket.accept()
        raise RuntimeError(await websocket.receive_text())

    @app.websocket("/crash-early")
    async def crash_early(websocket: WebSocket) -> None:
        raise RuntimeError("boom")

    async def clean_up() -> AsyncIterator[str]:
        yield "hello from the dependency"
        seen.put_nowait("cleaned up")

    @app.websocket("/dependency")
    async def dependency(
        websocket: WebSocket, greeting: Annotated[str, Depends(clean_up)], ticket: Annotated[int, Query()]
    ) -> None:
        await websocket.accept()
        await websocket.send_json([greeting, ticket])
        async for _ in websocket.iter_text():
            pass

    return app
