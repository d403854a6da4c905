"""What holds for every injected fault: afterwards this process has as many file descriptors open as before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop


@pytest.fixture(scope="session", autouse=True)
def uvloop_has_run() -> None:
    """It opens two descriptors when it runs for the first time, and keeps them."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = len(descriptors())
    yield
    left = descriptors()
    assert len(left) == before, left


def descriptors() -> dict[str, str]:
    """The open file descriptors, and what each of them is."""
    return {fd.name: str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
