"""The app inside the server that is tried: it obeys the driver over a channel of its own, and tells all that it sees.

This one file is laid beside the server, in whatever environment that runs, so it is whole and needs nothing but
Python. For each WebSocket it connects to `WSLIFECYCLE_DRIVER` (HOST:PORT), says which scope it has got, and does what
it is told: call `receive()` or `send()` in a task, cancel such a call, return, raise. What becomes of every call is
told, too: a value, an exception with its classes, or that it was cancelled; one of which nothing is told is still
pending. Both directions are frames of JSON behind four bytes of length.

An HTTP request is answered with its scope, as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import enum
import json
import os
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any

LENGTH = struct.Struct("!I")
DRIVER = "WSLIFECYCLE_DRIVER"
"""The environment's variable that names host and port of the driver."""


class AppError(Exception):
    """What the app raises when it is told to."""


class Text(str):
    """A str by another class."""


class Code(enum.IntEnum):
    """Ints by another class."""

    NORMAL = 1000
    OWN = 4000


MAKERS: dict[str, Callable[[Any], Any]] = {
    "bytes": base64.b64decode,
    "bytearray": lambda value: bytearray(base64.b64decode(value)),
    "memoryview": lambda value: memoryview(base64.b64decode(value)),
    "tuple": tuple,
    "Text": Text,
    "Code": Code,
    "fill": bytes,
    "float": float,
}
"""How the values are made that JSON has no form for."""


def dump(value: Any) -> bytes:
    """A frame of the channel."""
    data = json.dumps(value, default=_plain).encode()
    return LENGTH.pack(len(data)) + data


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {f"!{type(value).__name__}": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Collection):  # such as the headers of a scope, which need only be iterable
        return list(value)
    return repr(value)


def load(data: bytes) -> Any:
    """What a frame says."""
    return json.loads(data, object_hook=_made)


def _made(plain: dict[str, Any]) -> Any:
    if len(plain) == 1:
        ((key, value),) = plain.items()
        if key.startswith("!"):
            return MAKERS[key[1:]](value)
    return plain


async def read(reader: asyncio.StreamReader) -> Any:
    """The next frame. Raises `asyncio.IncompleteReadError` where the channel ends."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return load(await reader.readexactly(length))


class Agent:
    """One call of the app for a WebSocket."""

    def __init__(self, receive: Any, send: Any, writer: asyncio.StreamWriter) -> None:
        self._receive = receive
        self._send = send
        self._writer = writer
        self._calls: dict[int, asyncio.Task[None]] = {}
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def obey(self, reader: asyncio.StreamReader) -> None:
        """Does what the driver says, until the channel ends. The app's call ends then, too."""
        try:
            while True:
                command = await read(reader)
                self._do(command)
                if "sync" in command:
                    for _ in range(3):
                        await asyncio.sleep(0)
                    self.tell(sync=command["sync"])
        except (asyncio.IncompleteReadError, OSError):
            self._end(None)
        finally:
            for call in self._calls.values():
                call.cancel()
            self._writer.close()

    def _do(self, command: dict[str, Any]) -> None:
        match command.get("do"):
            case "asks":
                self._begin(command["call"], self._one(command["call"], self._receive()))
            case "sends":
                self._begin(command["call"], self._in_a_row(command["call"], command["messages"]))
            case "cancels":
                if command["call"] in self._calls:
                    self._calls[command["call"]].cancel()
            case "returns":
                self._end(None)
            case "raises":
                self._end(AppError("the app was told to raise"))

    def _begin(self, number: int, coroutine: Any) -> None:
        self._calls[number] = asyncio.ensure_future(coroutine)

    async def _in_a_row(self, number: int, messages: list[Any]) -> None:
        """Sends one message behind the other, without giving way to others in between if `send()` does not."""
        for place, message in enumerate(messages):
            await self._one(number + place, self._send(message))

    async def _one(self, number: int, call: Any) -> None:
        """Awaits a call and tells what became of it."""
        try:
            value = await call
        except asyncio.CancelledError:
            self.tell(call=number, outcome="cancelled")
            raise
        except BaseException as error:
            self.tell(call=number, outcome="raised", error=told(error))
        else:
            self.tell(call=number, outcome="returned", value=value)

    def _end(self, error: Exception | None) -> None:
        if not self.over.done():
            if error is None:
                self.over.set_result(None)
            else:
                self.over.set_exception(error)

    def tell(self, **what: Any) -> None:
        """Tells the driver something, if it is still there."""
        if not self._writer.is_closing():
            self._writer.write(dump(what))


def told(error: BaseException) -> dict[str, Any]:
    """An exception: its classes from the nearest on, and its text."""
    return {"classes": [cls.__name__ for cls in type(error).__mro__[:-2]], "text": str(error)[:500]}


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket: the driver says what is done. Without a driver it is refused, since nobody would ever end it."""
    host, _, port = os.environ.get(DRIVER, "").rpartition(":")
    if not host:
        await send({"type": "websocket.close"})
        return
    reader, writer = await asyncio.open_connection(host, int(port))
    agent = Agent(receive, send, writer)
    agent.tell(scope={key: value for key, value in scope.items() if key != "app"})
    obeying = asyncio.ensure_future(agent.obey(reader))
    KEPT.add(obeying)
    obeying.add_done_callback(KEPT.discard)
    try:
        await asyncio.shield(agent.over)
    except asyncio.CancelledError:
        agent.tell(app="cancelled")
        agent.over.cancel()
        raise
    except AppError:
        agent.tell(app="raised")
        raise
    agent.tell(app="returned")


KEPT: set[asyncio.Future[None]] = set()
"""Tasks that outlive the app's calls, so that what is pending then is told, too."""


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Starts and ends as it is asked to, and leaves something in the state that every scope should have a copy of."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup" and isinstance(scope.get("state"), dict):
            scope["state"]["wslifecycle"] = "from the lifespan"
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def http(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the scope."""
    body = json.dumps({key: value for key, value in scope.items() if key != "app"}, default=_plain).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI callable."""
    await {"websocket": websocket, "lifespan": lifespan, "http": http}[scope["type"]](scope, receive, send)
