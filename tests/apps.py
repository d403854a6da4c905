"""The app that tests/test_uvicorn_processes.py and tests/test_serve.py have served by processes of their own.

HTTP is answered with 200 and the id of the process. A WebSocket is handled by the function that is named like its
path. What a test wants to know about an app that nobody can talk to any more is printed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"%8d" % os.getpid()})
    else:
        assert (await receive())["type"] == "websocket.connect"
        await ROUTES[scope["path"].rpartition("/")[2]](scope, receive, send)


def factory() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """What `--factory` takes."""
    return app


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    scope["state"]["number"] = 42
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("lifespan: shutdown", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def fails_to_start(scope: Scope, receive: Receive, send: Send) -> None:
    """An app of its own: its start-up fails."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends back what comes; prints how it ended."""
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
    print(f"echo: {message['type']} {message['code']}", flush=True)


async def scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the scope, as far as it is text, numbers and maps."""
    shown = {key: scope[key] for key in ("type", "scheme", "path", "root_path", "state")}
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(shown)})


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses the handshake."""
    await send({"type": "websocket.close"})


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    """Closes at once, with a code and a reason."""
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4000, "reason": "enough"})


async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
    """Never ends by itself, not even after the disconnect; prints that it is cancelled."""
    await send({"type": "websocket.accept"})
    try:
        while True:
            if (await receive())["type"] == "websocket.disconnect":
                await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("stubborn: cancelled", flush=True)
        raise


ROUTES = {route.__name__: route for route in (echo, scope, refuse, close, stubborn)}
