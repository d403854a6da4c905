"""The app of test_injected_signals.py, served by processes of their own.

Each connection comes to the state that its path names, says `there`, and says at the end what its app has been given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 3000}
START = {"type": "websocket.http.response.start", "status": 418, "headers": []}
PART = {"type": "websocket.http.response.body", "body": b"part", "more_body": True}
HUGE = bytes(1 << 24)
"""More than all buffers on the way to a peer that does not read."""

FIRST: dict[str, list[Message]] = {
    "waiting": [],
    "held": [START],
    "denying": [START, PART],
    "closing": [ACCEPT, CLOSE],
}
"""What the app sends before it is there; on any other path it accepts."""


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
    elif scope["type"] == "websocket":
        await _converse(scope["path"].strip("/"), receive, send)
    else:
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})


async def _converse(name: str, receive: Receive, send: Send) -> None:
    given = [(await receive())["type"]]
    for message in FIRST.get(name, [ACCEPT]):
        await send(message)
    sending = asyncio.create_task(_send_huge(send)) if name == "deaf" else None
    await asyncio.sleep(0)
    print(f"{name}: there", flush=True)
    while "websocket.disconnect" not in given[-1]:
        if name == "slow":
            await asyncio.sleep(0.1)
        message = await receive()
        given.append(message.get("text") or f"{message['type']} {message['code']}")
    if sending is not None:
        await sending
    print(f"{name}: given {', '.join(given)}", flush=True)


async def _send_huge(send: Send) -> None:
    with suppress(OSError):  # the connection ends while it waits
        await send({"type": "websocket.send", "bytes": HUGE})
        raise AssertionError("the peer has read it all")
