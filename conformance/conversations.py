"""The conversations of the demo: an app, a client, and what each of them has to see.

The apps are such as anybody writes, plain ones and one of Django Channels, and the client is that of `websockets`, as
anybody uses it. What has to be seen was written down from the documents, before the machine was asked. The app's side
is each call of `receive()` and `send()` in the words of `demo`, the wire's side is every request, answer and frame as
the client logged it (`>` it sent, `<` it got), and what the client's code tells on top.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from wslifecycle.conformance.probe import GREETING, LOOK_UP, App, Receive, Send, background_answer

Scope: TypeAlias = MutableMapping[str, Any]
Connect: TypeAlias = Callable[..., connect]
Tell: TypeAlias = Callable[[str], None]
Client: TypeAlias = Callable[[Connect, Tell], Awaitable[None]]
"""Gets `connect` with the address filled in, and `tell` for what it wants to say beside the log of the library."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """An app and a client that talk, what each of them has to see, and the numbers of the rules that say so."""

    name: str
    title: str
    rules: tuple[str, ...]
    app: App
    client: Client
    app_sees: tuple[str, ...]
    wire_sees: tuple[str, ...]


# ------------------------------------------------------------------------------------------------ apps


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and sends back what comes until the client is gone."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kind = "text" if message.get("text") is not None else "bytes"
        await send({"type": "websocket.send", kind: message[kind]})


async def chooser(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts with the last subprotocol that the client offered."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][-1]})
    await receive()


async def rejecter(scope: Scope, receive: Receive, send: Send) -> None:
    """Closes instead of accepting."""
    await receive()
    await send({"type": "websocket.close"})
    await receive()


async def denier(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers the handshake with a response of its own, by the extension Websocket Denial Response."""
    await receive()
    assert "websocket.http.response" in scope["extensions"]
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"log in first"})
    await receive()


async def talker(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes, and says good-bye to a client that is gone already; it does not catch what that raises."""
    await echo(scope, receive, send)
    await send({"type": "websocket.send", "text": "good-bye"})


async def closer(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and closes at once with a code and a reason."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4001, "reason": "closing time"})
    await receive()


class BackgroundConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """`background_answer` as a consumer of Django Channels: the dispatch of Channels is the main loop."""

    async def connect(self) -> None:
        """Leaves the answer to a task; Channels calls `receive()` again when this has returned."""
        self.answers = asyncio.create_task(self.answer())

    async def answer(self) -> None:
        """Accepts and greets."""
        await asyncio.sleep(LOOK_UP)
        await self.accept()
        await self.send(text_data=GREETING)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Echoes."""
        await self.send(text_data=text_data)

    async def disconnect(self, code: int) -> None:
        """Waits for the task, so that nothing of it is lost."""
        await self.answers


if not settings.configured:  # Channels asks Django for its layers, even if there are none
    settings.configure()


# ------------------------------------------------------------------------------------------------ clients


async def says_two(connect: Connect, tell: Tell) -> None:
    """Says two texts, each after the answer to the one before."""
    async with connect() as ws:
        await _say(ws, "one")
        await _say(ws, "two")


async def says_bytes(connect: Connect, tell: Tell) -> None:
    """Sends bytes that are no text, then an empty message."""
    async with connect() as ws:
        await _say(ws, b"\x00\xff")
        await _say(ws, b"")


async def offers_two(connect: Connect, tell: Tell) -> None:
    """Offers two subprotocols."""
    async with connect(subprotocols=[Subprotocol("chat.v1"), Subprotocol("chat.v2")]) as ws:
        tell(f"the client speaks {ws.subprotocol}")


async def is_refused(connect: Connect, tell: Tell) -> None:
    """Is not let in."""
    try:
        async with connect():
            tell("the client was let in")
    except InvalidStatus as refusal:
        tell(f"the client was refused by {refusal.response.status_code}")


async def reads_refusal(connect: Connect, tell: Tell) -> None:
    """Is not let in, and reads why."""
    try:
        async with connect():
            tell("the client was let in")
    except InvalidStatus as refusal:
        response = refusal.response
        tell(f"the client reads {response.headers.get('content-type')}: {bytes(response.body or b'').decode()}")


async def aborts(connect: Connect, tell: Tell) -> None:
    """Ends the transport in the middle of the talk, without a Close."""
    ws = await connect()
    await _say(ws, "one")
    tell("the client aborts the transport")
    ws.transport.abort()
    await ws.wait_closed()


async def is_closed(connect: Connect, tell: Tell) -> None:
    """Waits for a message until the server closes."""
    async with connect() as ws:
        try:
            await ws.recv()
        except ConnectionClosed:
            tell(f"the client was told {ws.close_code} {ws.close_reason!r}")


async def is_greeted(connect: Connect, tell: Tell) -> None:
    """Waits for the greeting, then says something."""
    async with connect() as ws:
        tell(f"the client was greeted: {await ws.recv()!r}")
        await _say(ws, "one")


async def _say(ws: ClientConnection, data: str | bytes) -> None:
    await ws.send(data)
    await ws.recv()


# ------------------------------------------------------------------------------------------------ what has to be seen

_OPENED = ("> GET /", "< HTTP 101")
_CLOSED = ("> CLOSE 1000 ''", "< CLOSE 1000 ''")
_CONNECTED = ("receive() gave websocket.connect", "send() took websocket.accept", "receive() waits")
_DISCONNECTED = ("receive() gave websocket.disconnect code=1000 reason=''", "the app returned")
_BACKGROUND = (
    "receive() gave websocket.connect",
    "receive() waits",  # across the accept: nothing may be given before it, and connect not again
    "send() took websocket.accept",
    f"send() took websocket.send text={GREETING!r}",
    "receive() gave websocket.receive text='one'",
    "send() took websocket.send text='one'",
    "receive() waits",
    *_DISCONNECTED,
)
_GREETED = (
    *_OPENED,
    f"< TEXT {GREETING!r}",
    f"the client was greeted: {GREETING!r}",
    "> TEXT 'one'",
    "< TEXT 'one'",
    *_CLOSED,
)

CONVERSATIONS = {
    conversation.name: conversation
    for conversation in (
        Conversation(
            "echo-text",
            "Two texts and their answers; then the client closes.",
            ("R20", "R26", "R28"),
            echo,
            says_two,
            (
                *_CONNECTED,
                "receive() gave websocket.receive text='one'",
                "send() took websocket.send text='one'",
                "receive() waits",
                "receive() gave websocket.receive text='two'",
                "send() took websocket.send text='two'",
                "receive() waits",
                *_DISCONNECTED,
            ),
            (*_OPENED, "> TEXT 'one'", "< TEXT 'one'", "> TEXT 'two'", "< TEXT 'two'", *_CLOSED),
        ),
        Conversation(
            "echo-binary",
            "Bytes that are no text, and a message of no bytes at all: each comes back as it was.",
            ("R27", "W13"),
            echo,
            says_bytes,
            (
                *_CONNECTED,
                r"receive() gave websocket.receive bytes=b'\x00\xff'",
                r"send() took websocket.send bytes=b'\x00\xff'",
                "receive() waits",
                "receive() gave websocket.receive bytes=b''",
                "send() took websocket.send bytes=b''",
                "receive() waits",
                *_DISCONNECTED,
            ),
            (*_OPENED, r"> BINARY b'\x00\xff'", r"< BINARY b'\x00\xff'", "> BINARY b''", "< BINARY b''", *_CLOSED),
        ),
        Conversation(
            "subprotocol",
            "The app accepts with one of the subprotocols that the client offered.",
            ("R24", "W2"),
            chooser,
            offers_two,
            (
                "receive() gave websocket.connect",
                "send() took websocket.accept subprotocol='chat.v2'",
                "receive() waits",
                *_DISCONNECTED,
            ),
            (
                "> GET /",
                "> Sec-WebSocket-Protocol: chat.v1, chat.v2",
                "< HTTP 101",
                "< Sec-WebSocket-Protocol: chat.v2",
                "the client speaks chat.v2",
                *_CLOSED,
            ),
        ),
        Conversation(
            "reject-403",
            "The app closes before it has accepted.",
            ("R36", "R23", "C11"),
            rejecter,
            is_refused,
            (
                "receive() gave websocket.connect",
                "send() took websocket.close",
                "receive() gave websocket.disconnect code=1006 reason=''",
                "the app returned",
            ),
            ("> GET /", "< HTTP 403", "the client was refused by 403"),
        ),
        Conversation(
            "denial-response",
            "The app refuses with a status and a body of its own.",
            ("R54", "R55", "C12"),
            denier,
            reads_refusal,
            (
                "receive() gave websocket.connect",
                "send() took websocket.http.response.start status=401 headers=[(b'content-type', b'text/plain')]",
                "send() took websocket.http.response.body body=b'log in first'",
                "receive() gave websocket.disconnect code=1006 reason=''",
                "the app returned",
            ),
            ("> GET /", "< HTTP 401", "the client reads text/plain: log in first"),
        ),
        Conversation(
            "client-abort",
            "The client is gone without a Close; the app sends once more, and what that raises is no error of it.",
            ("R28", "R32", "R35", "C13"),
            talker,
            aborts,
            (
                *_CONNECTED,
                "receive() gave websocket.receive text='one'",
                "send() took websocket.send text='one'",
                "receive() waits",
                "receive() gave websocket.disconnect code=1006 reason=''",
                "send() raised Disconnected",
                "the app raised Disconnected",
            ),
            (*_OPENED, "> TEXT 'one'", "< TEXT 'one'", "the client aborts the transport"),
        ),
        Conversation(
            "server-close",
            "The app closes with a code and a reason; both sides are told the same.",
            ("R37", "R28", "C10"),
            closer,
            is_closed,
            (
                "receive() gave websocket.connect",
                "send() took websocket.accept",
                "send() took websocket.close code=4001 reason='closing time'",
                "receive() gave websocket.disconnect code=4001 reason='closing time'",
                "the app returned",
            ),
            (
                *_OPENED,
                "< CLOSE 4001 'closing time'",
                "> CLOSE 4001 'closing time'",
                "the client was told 4001 'closing time'",
            ),
        ),
        Conversation(
            "granian-591-plain",
            "A background task accepts while the main loop is in receive(): the pattern that broke Granian.",
            ("R20", "R21"),
            background_answer,
            is_greeted,
            _BACKGROUND,
            _GREETED,
        ),
        Conversation(
            "granian-591-channels",
            "The same with a consumer of Django Channels.",
            ("R20", "R21"),
            BackgroundConsumer.as_asgi(),
            is_greeted,
            _BACKGROUND,
            _GREETED,
        ),
    )
}
"""All of them by name. No name is that of a scenario."""
