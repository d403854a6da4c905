"""The app in the server under stress: each path is another app. Needs nothing but Python, so any server can have it.

`/stats` tells what all of them have seen, as JSON in one message.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

RUNNING: Counter[str] = Counter()
"""Apps that run, by path."""

DISORDER: list[str] = []
"""Numbered messages that came twice, too late or not at all before a later one."""


async def accept(receive: Any, send: Any) -> None:
    """Accepts, after the connect."""
    await receive()
    await send({"type": "websocket.accept"})


async def echo(receive: Any, send: Any) -> None:
    """Sends everything back."""
    await accept(receive, send)
    await _go_on_echoing(receive, send)


async def numbers(receive: Any, send: Any) -> None:
    """Is sent 0, 1, 2, ... and sends each back."""
    await accept(receive, send)
    due = 0
    while (message := await receive())["type"] == "websocket.receive":
        number = int(message["text"])
        if number != due:
            DISORDER.append(f"{number} came, {due} was due")
        due = number + 1
        await send({"type": "websocket.send", "text": str(number)})


async def slow(receive: Any, send: Any) -> None:
    """Echoes, and sleeps for 4 seconds before it reads anything."""
    await accept(receive, send)
    await asyncio.sleep(4)
    await _go_on_echoing(receive, send)


async def dawdle(receive: Any, send: Any) -> None:
    """Reads eight messages in a millisecond at most."""
    await accept(receive, send)
    while (await receive())["type"] == "websocket.receive":
        for _ in range(7):
            if (await receive())["type"] != "websocket.receive":
                return
        await asyncio.sleep(0.001)


async def deaf(receive: Any, send: Any) -> None:
    """Accepts, and never reads: it also never returns."""
    await accept(receive, send)
    await asyncio.get_running_loop().create_future()


async def stuck(receive: Any, send: Any) -> None:
    """Never answers the handshake."""
    await asyncio.get_running_loop().create_future()


async def pour(receive: Any, send: Any) -> None:
    """Sends for ever."""
    await accept(receive, send)
    while True:
        await send({"type": "websocket.send", "bytes": bytes(65536)})


async def heedless(receive: Any, send: Any) -> None:
    """Calls `receive()` for ever, whatever it gives."""
    await accept(receive, send)
    while True:
        await receive()


async def close(receive: Any, send: Any) -> None:
    """Closes at once, and waits for the disconnect."""
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 1000})
    await receive()


async def stats(receive: Any, send: Any) -> None:
    """What all have seen."""
    gc.collect()
    await accept(receive, send)
    told = {"running": RUNNING, "disorder": DISORDER[:10]}
    await send({"type": "websocket.send", "text": json.dumps(told)})
    await send({"type": "websocket.close"})


async def _go_on_echoing(receive: Any, send: Any) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        data = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **data})


APPS: dict[str, Callable[[Any, Any], Awaitable[None]]] = {
    "close": close,
    "dawdle": dawdle,
    "deaf": deaf,
    "echo": echo,
    "heedless": heedless,
    "numbers": numbers,
    "pour": pour,
    "slow": slow,
    "stats": stats,
    "stuck": stuck,
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The app of a path; a plain request is answered with nothing."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
    if scope["type"] != "websocket":
        return
    name = scope["path"].strip("/") or "echo"
    RUNNING[name] += 1
    try:
        await APPS.get(name, echo)(receive, send)
    finally:
        RUNNING[name] -= 1
