"""A server under stress, as the trials see it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress.client import Refused, connected, text
from wslifecycle.conformance.stress.watch import Watch


class Site:
    """A server that runs with the app of stress, and what it takes."""

    def __init__(self, server: servers.Server, process: servers.Running) -> None:
        self.server = server
        self.port = process.port
        self.process = process
        self.watch = Watch(process.pid)

    async def stats(self) -> dict[str, Any]:
        """What its apps have seen. Raises `Refused`, `OSError`, `EOFError`, `TimeoutError`."""
        async with connected(self.port, "stats") as client:
            told: dict[str, Any] = json.loads(await client.message())
        return told

    async def running(self, name: str) -> int:
        """How many apps of a path run."""
        return int((await self.stats())["running"].get(name, 0))

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float) -> float | None:
        """Seconds until a condition holds; None if it does not in time."""
        begun = time.monotonic()
        while not await condition():
            if time.monotonic() - begun > seconds:
                return None
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    async def echoes(self) -> bool:
        """Whether another client is served."""
        try:
            async with connected(self.port) as client:
                await client.send(text("hello"))
                return await client.message() == "hello"
        except (Refused, OSError, EOFError):
            return False
