"""The messages that the peer sent and the app has not asked for: a bounded queue that says when to stop reading (C31).

Flow control, not lifecycle: it never decides what is legal.
"""

from __future__ import annotations

from collections import deque


class Unread:
    """First in, first out. Over the bound of messages or of bytes reading has to pause; at half of it it may resume."""

    __slots__ = ("_items", "_max_bytes", "_max_messages", "_paused", "_size")

    def __init__(self, max_messages: int | None, max_bytes: int | None) -> None:
        self._items: deque[str | bytes] = deque()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._size = 0
        self._paused = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, data: str | bytes) -> bool:
        """Adds a message. True when this asks for a pause."""
        self._items.append(data)
        self._size += _weight(data)
        if self._paused or not self._over(1):
            return False
        self._paused = True
        return True

    def take(self) -> tuple[str | bytes, bool]:
        """Removes the oldest message. The second item is True when reading may resume."""
        data = self._items.popleft()
        self._size -= _weight(data)
        if not self._paused or self._over(2):
            return data, False
        self._paused = False
        return data, True

    def unbind(self) -> None:
        """Lifts the bounds: from now on nothing asks for a pause, because reading goes on whatever is unread."""
        self._max_messages = self._max_bytes = None
        self._paused = False

    def _over(self, divisor: int) -> bool:
        many = self._max_messages is not None and len(self._items) > self._max_messages // divisor
        large = self._max_bytes is not None and self._size > self._max_bytes // divisor
        return many or large


def _weight(data: str | bytes) -> int:
    """The bytes that a message stands for; a character of text counts as one, which is near enough for a bound."""
    return len(data)
