"""Each of the ways to serve obeys each scenario, over real sockets: our own server, and Uvicorn in two builds.

`test_scenarios` runs them on our own server and asyncio's loop; here are the others. The peer's side is judged by the
websockets library and by the raw bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests import ways
from wslifecycle.conformance import sockets
from wslifecycle.conformance.peer import MAX_SIZE
from wslifecycle.conformance.scenarios import load_scenarios
from wslifecycle.runtime import Options
from wslifecycle.runtime.session import App

SCENARIOS = load_scenarios()


def serve_by(way: str) -> sockets.Serve:
    settings: dict[str, Any] = {"ws_max_size": MAX_SIZE, "ws_ping_interval": None} if "uvicorn" in way else {}

    @asynccontextmanager
    async def serve(app: App, options: Options) -> AsyncIterator[int]:
        async with ways.serving(way, app, options=options, lifespan="off", **settings) as site:
            yield site.port

    return serve


@pytest.mark.parametrize(
    ("way", "loop"), [("start_server", "uvloop"), ("uvicorn-h11", "asyncio"), ("uvicorn-httptools", "uvloop")]
)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenario_holds(name: str, way: str, loop: ways.Loop) -> None:
    async def test() -> None:
        assert await sockets.run(SCENARIOS[name], serve=serve_by(way)) == []

    ways.run(test, loop=loop)
