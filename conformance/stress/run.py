"""Runs trials on a server: each in a process of its own, those that only wait in one together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from wslifecycle.conformance.kit import servers
from wslifecycle.conformance.stress import app
from wslifecycle.conformance.stress.client import Refused
from wslifecycle.conformance.stress.results import Figure, Tried
from wslifecycle.conformance.stress.site import Site
from wslifecycle.conformance.stress.trials import Trial

LONGEST = 180.0
"""Seconds after which a trial is given up."""


@asynccontextmanager
async def site(server: servers.Server, options: Mapping[str, Any]) -> AsyncIterator[Site]:
    """A server with the app of stress, and with those options that it has. Raises `servers.NotStarted`."""
    with servers.laid(app.__file__) as folder:
        has = {key: value for key, value in options.items() if server.can(key)}
        async with servers.running(server, folder, {}, log=folder / "log", **has) as process:
            yield Site(server, process)


async def tried(server: servers.Server, trials: Sequence[Trial], begin: Callable[[str], None]) -> Tried:
    """What came of these trials on a server; `begin` is told of each. Raises `servers.NotStarted`."""
    figures: dict[str, Figure] = {}
    beside = [trial for trial in trials if not trial.alone]
    if beside:
        begin(", ".join(trial.name for trial in beside))
        async with site(server, {}) as one:
            figures |= zip((t.name for t in beside), await asyncio.gather(*(_run(t, one) for t in beside)), strict=True)
    for trial in trials:
        if not trial.alone:
            continue
        begin(trial.name)
        if lacking := [option for option in trial.needs if not server.can(option)]:
            figures[trial.name] = Figure(f"no option: {', '.join(lacking)}", None)
            continue
        async with site(server, trial.options) as one:
            figures[trial.name] = await _run(trial, one)
    inorder = {trial.name: figures[trial.name] for trial in trials}
    return Tried(server.name, await servers.version(server), inorder)


async def _run(trial: Trial, one: Site) -> Figure:
    """What came of a trial; whatever a server does, there is a figure."""
    try:
        async with asyncio.timeout(LONGEST):
            return await trial.run(one)
    except Refused:
        return Figure("answers no handshake", False)
    except Exception as error:
        return Figure(f"died: {error!r}" if not one.process.alive else f"failed: {error!r}"[:60], False)
