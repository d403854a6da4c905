"""Where an app waits, for the log: the innermost line that is neither asyncio's nor ours."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_NOT_THE_APPS = (str(Path(__file__).parent), str(Path(asyncio.__file__).parent))


def where_cancelled(error: BaseException) -> str:
    """Where an app was when a cancellation reached it, such as `app.py:12 in chat: await receive()`."""
    return _innermost(traceback.walk_tb(error.__traceback__))


def where_waiting(task: asyncio.Task[Any]) -> str:
    """Where the app of a task waits now."""
    return _innermost((frame, frame.f_lineno) for frame in _awaiting(task.get_coro()))


def _awaiting(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine, and of what it waits for."""
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        yield frame
        awaited = awaited.cr_await


def _innermost(frames: Iterable[tuple[FrameType, int]]) -> str:
    found = traceback.StackSummary.extract(iter(frames), lookup_lines=False)
    theirs = [frame for frame in found if not frame.filename.startswith(_NOT_THE_APPS)]
    if not theirs:
        return "an unknown place"
    last = theirs[-1]
    return f"{Path(last.filename).name}:{last.lineno} in {last.name}" + (f": {last.line}" if last.line else "")
