"""The routes that the tests ask for, as a Django Channels app: each is a consumer.

Django wants settings before its parts are imported; none of them matters here.
"""

# mypy: disable-error-code="import-untyped", disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

if not settings.configured:
    settings.configure()

from channels.exceptions import DenyConnection
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
)
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path


def make(seen: asyncio.Queue[Any]) -> ProtocolTypeRouter:
    """The app; its consumers put into `seen` what became of them. It knows no lifespan and raises if it is asked."""
    loop = asyncio.get_running_loop()

    class Echo(AsyncWebsocketConsumer):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            await self.send(text_data=text_data, bytes_data=bytes_data)

        async def disconnect(self, code: int) -> None:
            seen.put_nowait("end of messages")

    class Subprotocol(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept(self.scope["subprotocols"][-1], headers=[(b"x-served-by", b"us")])
            await self.close()

    class Reject(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.close(code=4003, reason="not you")

    class Deny(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            raise DenyConnection

    class Close(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.close(code=4001, reason="enough")

    class Closed(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            seen.put_nowait(code)

    class Late(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            try:
                await self.send("too late")
            except OSError:
                seen.put_nowait("OSError")
                raise

    class Flood(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            try:
                for _ in range(300):  # far more than a client that does not read takes
                    await self.send(bytes_data=bytes(1 << 20))
                seen.put_nowait("taken")
            except OSError:
                seen.put_nowait("refused")
                raise

    class Crash(AsyncWebsocketConsumer):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            raise RuntimeError(text_data)

    class CrashEarly(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            raise RuntimeError("boom")

    class Json(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json({"got": content})

        async def disconnect(self, code: int) -> None:
            seen.put_nowait(code)

    class Background(AsyncWebsocketConsumer):
        """Answers from a task of its own while the main loop keeps receiving, as in granian's issue 591."""

        async def __call__(
            self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
        ) -> None:
            self.calls = 0
            self.asked_again = asyncio.Event()

            async def counted() -> Any:
                self.calls += 1
                if self.calls == 2:
                    self.asked_again.set()
                message = await receive()
                seen.put_nowait(message["type"])
                return message

            await super().__call__(scope, counted, send)

        async def connect(self) -> None:
            self.task = asyncio.create_task(self.answer())

        async def answer(self) -> None:
            await self.asked_again.wait()
            for _ in range(10):  # turns of the loop, in which a second connect could be given
                await asyncio.sleep(0)
            await self.accept()
            await self.send("from the background")

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            await self.send(text_data=text_data, bytes_data=bytes_data)

        async def disconnect(self, code: int) -> None:
            await self.task

    class Sync(WebsocketConsumer):
        """Its methods run in a thread."""

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            self.send(text_data=text_data, bytes_data=bytes_data)

        def disconnect(self, code: int) -> None:
            loop.call_soon_threadsafe(seen.put_nowait, code)

    class SyncLate(WebsocketConsumer):
        def disconnect(self, code: int) -> None:
            try:
                self.send("too late")
            except OSError:
                loop.call_soon_threadsafe(seen.put_nowait, "OSError")
                raise

    consumers: dict[str, Any] = {
        "text": Echo,
        "binary": Echo,
        "subprotocol": Subprotocol,
        "reject": Reject,
        "raised": Deny,
        "close": Close,
        "closed": Closed,
        "late": Late,
        "flood": Flood,
        "crash": Crash,
        "crash-early": CrashEarly,
        "json": Json,
        "background": Background,
        "sync": Sync,
        "sync-late": SyncLate,
    }
    return ProtocolTypeRouter(
        {"websocket": URLRouter([path(name, consumer.as_asgi()) for name, consumer in consumers.items()])}
    )
