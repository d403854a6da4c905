"""permessage-deflate (RFC 7692) on zlib: offers are negotiated, messages inflated piece by piece and deflated whole.

The answer repeats what the client offered, with windows cut to WINDOW_BITS, and adds nothing: clients exist that fail
a connection over a parameter which they did not offer. Since zlib's memory doubles with each bit of the window,
WINDOW_BITS and MEMORY_LEVEL keep a compressor at about 40 KiB instead of 260; they are what the websockets library,
and Uvicorn with it, uses. A client that does not offer to limit its own window costs 32 KiB instead of 4.

Each compressed message is read by a decompressor of its own, which starts from the window: the last bytes that came
out of the messages before. So context takeover, a block with BFINAL in the middle of a message, and the check that a
message ends where a block ends are all one mechanism.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import TypeAlias

Parameter: TypeAlias = tuple[str, str | None]
"""A parameter's name, and its value if it has one."""

NAME = "permessage-deflate"
WINDOW_BITS = 12
"""Base-2 logarithm of the largest window that is agreed to: of 4096 bytes."""
MEMORY_LEVEL = 5

_CHUNK = 4096
"""Bytes that zlib is given at once: it copies what follows a final block, and a piece may hold thousands of those."""

_EMPTY_BLOCK = b"\x00\x00\xff\xff"
"""An empty block without compression, less its header bits, which end the payload before it (section 7.2.1)."""
_FINAL_BLOCK = b"\x01" + _EMPTY_BLOCK

_TCHAR = r"[-!#$%&'*+.^_`|~0-9A-Za-z]"
_PARAMETER = re.compile(rf'({_TCHAR}+)(?:[ \t]*=[ \t]*({_TCHAR}+|"(?:\\?{_TCHAR})+"))?')
_BITS = [str(bits) for bits in range(8, 16)]
_VALUES: Mapping[str, list[str | None]] = {
    "server_no_context_takeover": [None],
    "client_no_context_takeover": [None],
    # zlib compresses without a header for no window below 9 bits, so an offer that demands 8 cannot be kept
    "server_max_window_bits": [*_BITS[1:]],
    "client_max_window_bits": [None, *_BITS],
}
"""The parameters of an offer and the values that each may have; None: none (sections 7.1.1 and 7.1.2)."""


class TooLarge(Exception):
    """More comes out of a compressed message than may."""


class BadData(Exception):
    """The payload of a message is not what DEFLATE can have made of one."""


def negotiate(offers: Iterable[str]) -> tuple[str, Deflate] | None:
    """The extension response, and what carries it out, for the first offer that is acceptable; None if there is none.

    `offers`: the values of the request's Sec-WebSocket-Extensions fields. An offer is declined for a parameter that is
    unknown, that comes twice, or whose value is invalid (RFC 7692 section 7.1). Names are compared exactly.
    """
    for field in offers:
        for (name, value), *parameters in _parsed(field):
            if (name, value) == (NAME, None) and (agreed := _agreed(parameters)) is not None:
                answer = [name if bits is None else f"{name}={bits}" for name, bits in agreed.items()]
                return "; ".join([NAME, *answer]), Deflate(agreed)
    return None


def _agreed(parameters: list[Parameter]) -> dict[str, int | None] | None:
    """The parameters of the answer, with the bits of windows; None declines the offer."""
    twice = len(dict(parameters)) < len(parameters)
    if twice or any(value not in _VALUES.get(name, ()) for name, value in parameters):
        return None
    return {
        name: min(int(value or WINDOW_BITS), WINDOW_BITS) if name.endswith("_bits") else None
        for name, value in parameters
    }


def _parsed(field: str) -> list[list[Parameter]]:
    """What a field offers: of each extension its name, which looks like a parameter without value, and the parameters.

    A malformed field offers nothing. A quoted value has to be a token once it is unquoted (RFC 6455 section 9.1), so
    that no comma and no semicolon of a well-formed field is inside quotes.
    """
    offers = []
    for element in filter(None, (element.strip(" \t") for element in field.split(","))):
        parts = [_PARAMETER.fullmatch(part.strip(" \t")) for part in element.split(";")]
        offers.append([(part[1], part[2] and re.sub(r'["\\]', "", part[2])) for part in parts if part])
        if None in parts:
            return []
    return offers


class Deflate:
    """One connection's compression, as agreed: the parameters of the response, the bits of the windows among them.

    Every piece of a message goes through `inflate`, then `inflate_end` is called, whether there were pieces or not.
    `limit`: bytes that may come out of this call, None: any number. If one of the two raises, the connection has to
    be failed: all further calls of them raise BadData.
    """

    def __init__(self, agreed: Mapping[str, int | None]) -> None:
        self._agreed = agreed
        self._bits = agreed.get("client_max_window_bits") or zlib.MAX_WBITS
        self._window: bytes | None = b""  # None once a message has failed
        self._inflater: zlib._Decompress | None = None  # of the message that is being read
        self._deflater: zlib._Compress | None = None  # made when it is needed: many connections never send

    def inflate(self, data: bytes, limit: int | None = None) -> bytes:
        """What comes out of a piece of a compressed message's payload; some may be left until the next piece.

        Raises TooLarge if that is more than `limit` bytes, of which it never makes more than one too many; BadData.
        """
        window, self._window = self._window, None  # put back only at the end: nothing gets through after a failure
        if window is None:
            raise BadData("an earlier message could not be decompressed")
        out = []
        for start in range(0, len(data), _CHUNK):
            rest = data[start : start + _CHUNK]
            while rest:
                inflater = self._inflater or zlib.decompressobj(-self._bits, window)
                try:
                    part = inflater.decompress(rest, 0 if limit is None else max(limit, 0) + 1)  # 0: any number
                except zlib.error as error:
                    raise BadData(str(error)) from error
                if limit is not None and (limit := limit - len(part)) < 0:
                    raise TooLarge("more comes out of a compressed message than may")
                out.append(part)
                window = (window + part[-(1 << self._bits) :])[-(1 << self._bits) :]
                self._inflater = None if inflater.eof else inflater  # a block with BFINAL ends the stream
                rest = inflater.unused_data
        self._window = window
        return b"".join(out)

    def inflate_end(self, limit: int | None = None) -> bytes:
        """What is left of a message at its end (section 7.2.2). Raises as `inflate`, and if it ends within a block."""
        out = self.inflate(_EMPTY_BLOCK + _FINAL_BLOCK, limit)
        if self._inflater is not None:
            self._window = None
            raise BadData("a compressed message ends within a block")
        if "client_no_context_takeover" in self._agreed:
            self._window = b""
        return out

    def deflate(self, data: bytes) -> bytes:
        """The compressed payload of a message (section 7.2.1)."""
        deflater = self._deflater or zlib.compressobj(
            wbits=-(self._agreed.get("server_max_window_bits") or WINDOW_BITS), memLevel=MEMORY_LEVEL
        )
        self._deflater = None if "server_no_context_takeover" in self._agreed else deflater
        return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_EMPTY_BLOCK)
