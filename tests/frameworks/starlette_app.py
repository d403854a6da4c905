"""The routes that the tests ask for, as a Starlette app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


class State(TypedDict):
    """What the lifespan gives to every connection."""

    greeting: str


def make(seen: asyncio.Queue[Any]) -> Starlette:
    """The app; its handlers put into `seen` what became of them."""

    async def text(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket.iter_text():
            await websocket.send_text(message)
        seen.put_nowait("end of messages")

    async def binary(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket.iter_bytes():
            await websocket.send_bytes(message)
        seen.put_nowait("end of messages")

    async def subprotocol(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][-1], headers=[(b"x-served-by", b"us")])
        await websocket.close()

    async def reject(websocket: WebSocket) -> None:
        await websocket.close(code=4003, reason="not you")

    async def denial(websocket: WebSocket) -> None:
        response = PlainTextResponse("come with a ticket", status_code=401, headers={"www-authenticate": "Ticket"})
        await websocket.send_denial_response(response)

    async def streamed_denial(websocket: WebSocket) -> None:
        async def parts() -> AsyncIterator[str]:
            for part in ("come ", "with ", "a ticket"):
                yield part

        await websocket.send_denial_response(StreamingResponse(parts(), status_code=402))

    async def raised_denial(websocket: WebSocket) -> None:
        raise HTTPException(status_code=401, detail="come with a ticket", headers={"www-authenticate": "Ticket"})

    async def close(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(code=4001, reason="enough")

    async def closed(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as disconnect:
            seen.put_nowait((disconnect.code, disconnect.reason))

    async def uncaught(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()

    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()  # the disconnect
        try:
            await websocket.send_text("too late")
        except WebSocketDisconnect as disconnect:
            seen.put_nowait(disconnect.code)
            raise

    async def flood(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            for _ in range(300):  # far more than a client that does not read takes
                await websocket.send_bytes(bytes(1 << 20))
            seen.put_nowait("taken")
        except WebSocketDisconnect:
            seen.put_nowait("refused")
            raise

    async def crash(websocket: WebSocket) -> None:
        await websocket.accept()
        raise RuntimeError(await websocket.receive_text())

    async def crash_early(websocket: WebSocket) -> None:
        raise RuntimeError("boom")

    async def state(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.greeting)
        await websocket.close()

    async def scope(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json({name: websocket.scope[name] for name in ("scheme", "server", "path")})
        await websocket.close()

    class Endpoint(WebSocketEndpoint):
        encoding = "json"

        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await websocket.send_json({"got": data})

        async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
            seen.put_nowait(close_code)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        yield {"greeting": "hello from the lifespan"}
        seen.put_nowait("shut down")

    routes: dict[str, Callable[..., Any]] = {
        "text": text,
        "binary": binary,
        "subprotocol": subprotocol,
        "reject": reject,
        "denial": denial,
        "streamed": streamed_denial,
        "raised": raised_denial,
        "close": close,
        "closed": closed,
        "uncaught": uncaught,
        "late": late,
        "flood": flood,
        "crash": crash,
        "crash-early": crash_early,
        "state": state,
        "scope": scope,
        "json": Endpoint,
    }
    return Starlette(routes=[WebSocketRoute(f"/{name}", route) for name, route in routes.items()], lifespan=lifespan)
