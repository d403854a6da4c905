"""The short way of the codec: plain frames are read and written here, without wsproto.

Most frames are plain: neither fragmented nor compressed, masked, of a length that is written as it should be. Every
other frame goes to a `WsprotoCodec`, byte for byte as it came, and so does all that comes from where there is no frame
of a client any more: wsproto alone says what is a fault, and which. To it the frames that it never sees make no
difference, since each is whole by itself.

A plain frame that has not come wholly is held until it has. If it is text, what has come is looked at, so that one
which is not UTF-8 fails as early as it does with wsproto.
"""

from __future__ import annotations

import codecs
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from wslifecycle.runtime.codec import LULL, Close, Event, Kind, Ping, Pong, Violation, WsprotoCodec
from wslifecycle.runtime.deflate import Deflate

Bytes: TypeAlias = bytes | bytearray | memoryview
Unmask: TypeAlias = Callable[[Bytes, bytes | bytearray], bytes]
"""Takes a mask of 4 bytes off a payload (RFC 6455 section 5.3)."""

_SHORT = 512
"""Bytes up to which Python masks one large number faster than four strides of bytes."""
_STRIDES = [bytes(byte ^ mask for byte in range(256)) for mask in range(256)]


def unmask(data: Bytes, mask: bytes | bytearray) -> bytes:
    """Takes a mask off in Python alone."""
    size = len(data)
    if size <= _SHORT:
        masks = bytes(mask) * (size // 4 + 1)
        number = int.from_bytes(data, "little") ^ int.from_bytes(masks[:size], "little")
        return number.to_bytes(size, "little")
    plain = bytearray(data)
    for position, byte in enumerate(mask):
        plain[position::4] = plain[position::4].translate(_STRIDES[byte])
    return bytes(plain)


fastest: Unmask = unmask
"""The quickest that is installed."""
with contextlib.suppress(ImportError):  # the extra `speedups` brings it
    from websockets.speedups import apply_mask

    fastest = apply_mask

# The first bytes of frames (RFC 6455 section 5.2); RSV1 says that a message is compressed (RFC 7692 section 6).
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
_CONTROL = frozenset((_CLOSE, _PING, _PONG))
_MESSAGE = frozenset((_TEXT, _BINARY))
_DATA = frozenset(fin | rsv1 | opcode for fin in (0, 0x80) for rsv1 in (0, 0x40) for opcode in (0, 1, 2))
_NONE, _WITHIN, _WHOLE = frozenset[int](), frozenset((_PING, _PONG)), _CONTROL | _MESSAGE

_FIRST: dict[Kind, int] = {"text": _TEXT, "binary": _BINARY, "close": _CLOSE, "ping": _PING, "pong": _PONG}
_HEADS = {kind: [bytes((first, size)) for size in range(126)] for kind, first in _FIRST.items()}
"""The heads of short frames."""


class FrameCodec:
    """The frames of one connection, as `WsprotoCodec` reads and writes them, with the same arguments.

    `unmask` takes the mask off plain frames.
    """

    __slots__ = (
        "_deflate",
        "_held",  # what has come of a frame that is read when it is whole
        "_looked",  # how many bytes of the text in it were looked at
        "_max_size",
        "_passed",  # how many of the bytes that come are wsproto's, whatever they are; -1: none has a meaning any more
        "_plain",  # the frames that are read here, by first bytes: only Pings and Pongs within a message
        "_quick",  # the same if the next byte begins a frame and all before it, of every feed, are decoded; else none
        "_unmask",
        "_untaken",  # how many feeds are left whose events were not all taken; later bytes may be fed meanwhile
        "_utf8",  # looks at a text that is held
        "_wsproto",
    )

    def __init__(self, max_size: int | None = None, deflate: Deflate | None = None, unmask: Unmask = fastest) -> None:
        self._deflate = deflate
        self._held: bytearray | None = None
        self._looked = 0
        self._max_size = max_size
        self._passed = 0
        self._plain = self._quick = _WHOLE
        self._unmask = unmask
        self._untaken = 0
        self._utf8: codecs.IncrementalDecoder | None = None
        self._wsproto: WsprotoCodec | None = None  # made when it is needed, which it is for few connections

    def feed(self, data: bytes) -> Iterable[Event | None]:
        """The events of these bytes, in their order."""
        size = len(data)
        if (
            6 <= size < 132
            and data[1] == size + 0x7A
            and data[0] in self._quick
            and (self._max_size is None or size - 6 <= self._max_size)
            and (event := self._read(data[0], data, 6, size)) is not None
        ):
            return (event,)  # one short frame, as most often
        self._quick = _NONE
        self._untaken += 1
        return self._frames(data)

    def _frames(self, come: bytes) -> Iterator[Event | None]:
        """The same, whatever these bytes are."""
        data: bytes | bytearray = come
        if self._held is not None:
            data, self._held = self._held, None
            data += come
        position, size, parts = 0, len(data), 0
        while position < size and self._passed >= 0:
            if self._passed:
                part = bytes(data[position : position + self._passed])
                position += len(part)
                self._passed -= len(part)
                yield from self._judged(part)
                parts += 1
                if parts % LULL == 0:
                    yield None
                continue
            first = data[position]
            plain = first in self._plain
            start, end = self._bounds(data, position)
            whole = 0 < end <= size
            if plain and whole and (event := self._read(first, data, start, end)) is not None:
                position = end
                yield event
            elif end == 0 or (plain and (whole or self._is_no_text(first, data, start))):
                self._passed = sys.maxsize
            elif end > 0 and not plain:
                self._passed = end - position
                self._plain = _WHOLE if first >= 0x80 else _WITHIN
            else:
                self._held = data if position == 0 and isinstance(data, bytearray) else bytearray(data[position:])
                break
        self._untaken -= 1
        self._quick = _NONE if self._untaken or self._held or self._passed else self._plain

    def _bounds(self, data: bytes | bytearray, position: int) -> tuple[int, int]:
        """Where the payload of the frame at a position begins and ends.

        An end of -1: that cannot be told yet. 0: it is for wsproto to judge what this is.
        """
        first, start = data[position], position + 6
        if first not in _DATA and first not in _CONTROL:
            return start, 0
        if position + 1 == len(data):
            return start, -1
        length = data[position + 1] - 0x80
        if length < 0 or (first in _CONTROL and length > 125):
            return start, 0
        if length > 125:
            width, least = (2, 126) if length == 126 else (8, 65536)
            written = data[position + 2 : position + 2 + width]
            start += width
            if len(written) < width:
                return start, -1
            length = int.from_bytes(written, "big")
            if not least <= length < 1 << 63:
                return start, 0
        if first in _MESSAGE and self._max_size is not None and length > self._max_size:
            return start, 0
        return start, start + length

    def _read(self, first: int, data: bytes | bytearray, start: int, end: int) -> Event | None:
        """What a plain frame means; None if that is for wsproto to say."""
        payload = data[start:end] if end - start < _SHORT else memoryview(data)[start:end]
        plain = self._unmask(payload, data[start - 4 : start])
        if first == _BINARY:
            return plain
        try:
            if first == _TEXT:
                self._looked, self._utf8 = 0, None
                return str(plain, "utf-8")
            return self._control(first, plain)
        except UnicodeDecodeError:
            return None

    def _control(self, first: int, payload: bytes) -> Event | None:
        """The same for a control frame."""
        if first == _PING:
            return Ping(payload)
        if first == _PONG:
            return Pong(payload)
        if len(payload) == 1:
            return None
        close = Close(int.from_bytes(payload[:2], "big") if payload else None, payload[2:].decode())
        self._passed, self._quick = -1, _NONE
        return close

    def _is_no_text(self, first: int, data: bytes | bytearray, start: int) -> bool:
        """Whether what has come of a plain frame cannot be the beginning of a text, though it should be."""
        if first != _TEXT or start >= len(data):
            return False
        self._utf8 = self._utf8 or codecs.getincrementaldecoder("utf-8")()
        mask, turned = data[start - 4 : start], self._looked % 4
        payload = data[start + self._looked :]
        self._looked += len(payload)
        try:
            self._utf8.decode(self._unmask(payload, mask[turned:] + mask[:turned]))
        except UnicodeDecodeError:
            return True
        return False

    def _judged(self, data: bytes) -> Iterator[Event | None]:
        """What wsproto makes of these bytes. Nothing follows a last event."""
        for event in self._reference().feed(data):
            if isinstance(event, Close | Violation):
                self._passed = sys.maxsize
            yield event

    def _reference(self) -> WsprotoCodec:
        self._wsproto = self._wsproto or WsprotoCodec(self._max_size, self._deflate)
        return self._wsproto

    def encode(self, kind: Kind, payload: bytes | str) -> bytes:
        """One frame; wsproto's if it is to be compressed."""
        if self._deflate is not None and (kind == "text" or kind == "binary"):
            return self._reference().encode(kind, payload)
        data = payload.encode() if isinstance(payload, str) else payload
        size = len(data)
        if size < 126:
            return _HEADS[kind][size] + data
        if size < 65536:
            return bytes((_FIRST[kind], 126)) + size.to_bytes(2, "big") + data
        return bytes((_FIRST[kind], 127)) + size.to_bytes(8, "big") + data
