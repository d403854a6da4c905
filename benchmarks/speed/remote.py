"""The load client as a process, and what may be asked of it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0
"""Seconds that a handshake, an echo or the end of a connection may take."""


class Failed(Exception):
    """A load did not go as it should: why."""


class Load:
    """A client that is started with the first order, is kept, and is made anew where it is lost."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Load:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._end()

    async def tell(self, do: str, *, seconds: float = 0.0, **order: Any) -> dict[str, Any]:
        """What comes of an order. Raises `Failed`."""
        if do in ("burst", "visits"):
            order["seconds"] = seconds
        try:
            async with asyncio.timeout(seconds + 5 * self._patience):  # more than all of its own waits
                told = await self._ask(json.dumps({"do": do, **order}))
        except (TimeoutError, OSError, ValueError):
            await self._end()
            raise Failed("the load client is lost") from None
        except asyncio.CancelledError:
            await self._end()
            raise
        if "fault" in told:
            raise Failed(told["fault"])
        return told

    async def _ask(self, line: str) -> dict[str, Any]:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.speed.load",
                str(self._patience),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # an interrupt is for us: it ends with its standard input
            )
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        orders.write(f"{line}\n".encode())
        await orders.drain()
        told: dict[str, Any] = json.loads(await answers.readline())
        return told

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
