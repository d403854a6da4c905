"""A server under stress, as the trials see it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress.client import Refused, connected, text
from wslifecycle.conformance.stress.watch import Watch


class Before(NamedTuple):
    """How many sockets were open, and how many bytes logged."""

    sockets: int
    logged: int


class Left(NamedTuple):
    """Whether apps run, how many sockets more than before are open, what was lost, and tracebacks in the log."""

    apps: bool
    sockets: int
    disorder: list[str]
    tracebacks: int


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

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float) -> float | None:
        """Seconds until a condition holds; None if it does not in time."""
        begun = time.monotonic()
        while not await condition():
            if time.monotonic() - begun > seconds:
                return None
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    async def gone(self, *names: str, seconds: float) -> float | None:
        """Seconds until no app of these paths runs any more; None if one does then."""

        async def none_runs() -> bool:
            running = (await self.stats())["running"]
            return not any(running.get(name) for name in names)

        return await self.until(none_runs, seconds)

    async def left(self, before: Before, *names: str, seconds: float) -> Left:
        """What is left once all peers are gone: apps of these paths and sockets after so many seconds, and faults."""

        async def shut() -> bool:
            return self.watch.sockets <= before.sockets

        apps = await self.gone(*names, seconds=seconds) is None
        sockets = 0 if await self.until(shut, seconds) is not None else self.watch.sockets - before.sockets
        return Left(apps, sockets, (await self.stats())["disorder"], self.tracebacks(before))

    def before(self) -> Before:
        """How it is now, for `left` and `tracebacks`."""
        return Before(self.watch.sockets, self.process.log_size())

    def tracebacks(self, before: Before) -> int:
        """How many tracebacks it has logged since."""
        return self.process.log_since(before.logged).count("Traceback")

    async def echoes(self) -> bool:
        """Whether another client is served."""
        try:
            async with connected(self.port) as client:
                await client.send(text("hello"))
                return await client.message() == "hello"
        except (Refused, OSError, EOFError):
            return False
