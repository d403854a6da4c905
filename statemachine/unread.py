"""The messages that the peer sent and the app has not asked for: a bounded queue that says when to stop reading (C31).

Flow control, not lifecycle: it never decides what is legal.
"""

from __future__ import annotations

import math
from collections import deque


class Unread:
    """First in, first out. Over the bound of messages or of bytes reading has to pause; at half of it it may resume."""

    __slots__ = ("_count", "_first", "_max_bytes", "_max_messages", "_more", "_size", "paused")

    def __init__(self, max_messages: int | None, max_bytes: int | None) -> None:
        self._count = 0
        self._first: str | bytes | None = None  # the oldest has a place of its own: most never have company
        self._more: deque[str | bytes] | None = None  # those behind it; an empty deque would take 0.7 KiB
        self._max_messages = math.inf if max_messages is None else max_messages
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self._size = 0
        self.paused = False

    def __len__(self) -> int:
        return self._count

    def put(self, data: str | bytes) -> bool:
        """Adds a message. True when this asks for a pause."""
        self._count += 1
        self._size += len(data)  # a character of text counts as a byte, which is near enough for a bound
        if self._first is None:
            self._first = data
        elif self._more is None:
            self._more = deque((data,))
        else:
            self._more.append(data)
        if self.paused or not self._over(1):
            return False
        self.paused = True
        return True

    def take(self) -> tuple[str | bytes, bool, bool]:
        """Removes the oldest message. Besides it, whether reading may resume, and whether there are more.

        Raises `IndexError` if there is none.
        """
        data = self._first
        if data is None:
            raise IndexError("no message is unread")
        if self._more:
            self._first = self._more.popleft()
        else:
            self._first = self._more = None
        self._count -= 1
        self._size -= len(data)
        resume = self.paused and not self._over(2)
        if resume:
            self.paused = False
        return data, resume, self._count > 0

    @property
    def bounded(self) -> bool:
        """Whether there is a bound."""
        return self._max_messages < math.inf or self._max_bytes < math.inf

    def unbind(self) -> None:
        """Lifts the bounds: from now on nothing asks for a pause, because reading goes on whatever is unread."""
        self._max_messages = self._max_bytes = math.inf
        self.paused = False

    def _over(self, divisor: int) -> bool:
        return self._count * divisor > self._max_messages or self._size * divisor > self._max_bytes
