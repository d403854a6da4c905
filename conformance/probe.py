"""Notes what an app sees, on any server: each call of receive() and send(), and what became of it.

`Probe` wraps an app and notes. The app at the end, `app`, is whole and needs nothing but Python, so that this very
file can be served where nothing of ours is installed. It answers a WebSocket in the way that broke Granian before
2.3.2, from a background task while its main loop is in `receive()` (granian issue 591), and an HTTP request with all
that it saw.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Note: TypeAlias = Callable[[int, str, str, Any], None]
"""Takes the number of a call, its name (`receive`, `send`, `app`), what became of it, and a value.

What became of it: `starts`; `waits`, if it is pending after a turn of the loop; then `gave` (with the message of a
receive), `took` (with that of a send), `returned`, `raised` (with the exception) or `cancelled`. One without any of
the last five is still pending.
"""

LOOK_UP = 0.05
"""Seconds for which the background task looks for its answer, as in a database."""

GREETING = "hello from the background"


class Probe:
    """An ASGI app around another one that notes what this one sees of its WebSockets."""

    def __init__(self, app: App, note: Note) -> None:
        self._app = app
        self._note = note
        self._numbers = itertools.count()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI callable. What a call raises goes on to the app, and what the app raises to the server."""

        async def noted_receive() -> Message:
            message: Message = await self._noted("receive", "gave", receive())
            return message

        async def noted_send(message: Message) -> None:
            await self._noted("send", "took", send(message), message)

        if scope["type"] == "websocket":
            await self._noted("app", "returned", self._app(scope, noted_receive, noted_send))
        else:
            await self._app(scope, receive, send)

    async def _noted(self, name: str, good: str, call: Awaitable[Any], message: Message | None = None) -> Any:
        """Awaits the call and notes its way. `call_soon` speaks after a turn of the loop, unless it is cancelled."""
        number = next(self._numbers)
        self._note(number, name, "starts", message)
        waits = asyncio.get_running_loop().call_soon(self._note, number, name, "waits", message)
        try:
            result = await call
        except asyncio.CancelledError:
            self._note(number, name, "cancelled", message)
            raise
        except BaseException as error:
            self._note(number, name, "raised", error)
            raise
        finally:
            waits.cancel()
        self._note(number, name, good, result if message is None else message)
        return result


async def background_answer(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Accepts and greets from a task of its own, while the main loop receives all the time, and echoes."""

    async def answer() -> None:
        await asyncio.sleep(LOOK_UP)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": GREETING})

    answers = []
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            answers.append(asyncio.create_task(answer()))
        else:
            await send({"type": "websocket.send", "text": message["text"]})
    await asyncio.gather(*answers)


seen: list[tuple[str, str, str]] = []
"""A call, what became of it, and the type of the message or the exception as Python writes it."""


def remember(number: int, name: str, outcome: str, value: Any) -> None:
    """Keeps outcomes, up to a number that no sound conversation comes near."""
    if len(seen) < 100_000 and outcome not in ("starts", "waits"):
        seen.append((name, outcome, value["type"] if isinstance(value, MutableMapping) else repr(value)))


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """The app for other servers. It answers an HTTP request with the list `seen`, as JSON."""
    if scope["type"] == "websocket":
        await Probe(background_answer, remember)(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
    else:
        raise NotImplementedError(f"There is no {scope['type']} here.")  # R49
