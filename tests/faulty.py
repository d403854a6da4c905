"""A server with a planted fault: `python faulty.py FAULT APP --port PORT`. Everything else is our own server.

The faults sit between the server and the app, so that the app sees what it would see of a server that has them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from importlib import import_module
from typing import Any

from wslifecycle.runtime.server import start_server

SECONDS = 60

OPEN: set[Any] = set()
"""The `send` of each conversation."""


def planted(app: Any, fault: str) -> Any:
    """The app behind a fault."""

    async def faulty(scope: Any, receive: Any, send: Any) -> None:
        given: list[Any] = []
        call = asyncio.current_task()
        assert call is not None
        read: asyncio.Queue[Any] = asyncio.Queue()

        async def reads() -> None:
            message = {"type": ""}
            while message["type"] != "websocket.disconnect":
                message = await receive()
                read.put_nowait(message)
            call.cancel()

        async def receives() -> Any:
            if fault == "repeats" and len(given) == 1:
                given.append(given[0])
                return given[0]
            given.append(await (read.get() if fault == "cancels" else receive()))
            return given[-1]

        async def sends(message: Any) -> None:
            closes = message["type"] == "websocket.close"
            if closes and fault == "mixes":
                for other in OPEN - {send}:
                    await other({"type": "websocket.send", "text": "of another one"})
            if closes and fault == "dies":
                os._exit(3)
            if closes and fault == "hangs":
                time.sleep(SECONDS)  # noqa: ASYNC251 - that is the fault
            if closes and fault == "crashes":
                try:
                    raise ValueError("planted")
                except ValueError:
                    logging.getLogger().exception("a fault")
            data = message.get("text", message.get("bytes"))
            if fault == "swallows" and data is not None and not data:
                return
            if fault == "blocks" and closes:
                await asyncio.sleep(SECONDS)
            await send(message)
            if message["type"] == "websocket.accept":
                OPEN.add(send)

        reading = asyncio.create_task(reads()) if fault == "cancels" and scope["type"] == "websocket" else None
        try:
            await app(scope, receives if scope["type"] == "websocket" else receive, sends)
        finally:
            OPEN.discard(send)
            if reading is not None:
                reading.cancel()

    return faulty


async def main(fault: str, name: str, port: int) -> None:
    module, _, attribute = name.partition(":")
    server = await start_server(planted(getattr(import_module(module), attribute), fault), port=port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[4])))
