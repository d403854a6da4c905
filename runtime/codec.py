"""The codec seam: the peer's bytes to events, and payloads to frames. This is the only module that imports wsproto.

A codec decodes and encodes, and decides nothing: it knows neither the handshake nor whether the connection is open.
`Held` stands in its place until the handshake is complete; `WsprotoCodec` does the frames of RFC 6455.

wsproto shows every piece of a payload to its extensions before it judges it, and here an extension of our own puts
right what wsproto is not good at: a limit counts bytes, and holds before a frame is complete or inflated (W11); a Close
may carry any code, since which ones are legal is the machine's C20 (wsproto would refuse 1014); a Ping between two
compressed fragments does not confuse the decompression (W12). Besides, a message is one event however its frames were
cut (R2), and a fault of the peer cannot be taken for a Close (C47).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed, RsvBits

from wslifecycle.runtime.deflate import BadData, Deflate, TooLarge

Kind: TypeAlias = Literal["text", "binary", "close", "ping", "pong"]
"""The frames that a server sends (RFC 6455 section 11.8)."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A Ping, to be answered with its payload (W8)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A Pong, asked for or not."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A Close frame with whatever code; without a code it was empty. It is the last event."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol or a limit; `code` is the one to fail the connection with. It is the last event.

    `complaint` says what was wrong, for a log.
    """

    code: int
    complaint: str


LULL = 256
"""So many frames without an event are read before a codec gives None."""

Event: TypeAlias = str | bytes | Ping | Pong | Close | Violation
"""What comes of the peer's bytes; a complete data message is just its text or its bytes."""


class Codec(Protocol):
    """What a session asks of a codec."""

    def feed(self, data: bytes) -> Iterable[Event | None]:
        """What these bytes of the peer, after all earlier ones, mean. Never raises; nothing follows a last event.

        It may be taken bit by bit, so that reading can pause between two events, but wholly before later bytes. None
        means nothing: many frames came without an event, and whoever serves others as well may do so now.
        """

    def encode(self, kind: Kind, payload: bytes | str) -> bytes:
        """One unfragmented frame. `payload` is a str for text; that of a Close is its code and reason, or empty."""


def close_payload(code: int | None, reason: str) -> bytes:
    """The payload of a Close frame (RFC 6455 section 5.5.1)."""
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()


class Held:
    """Holds the bytes that come before the handshake is complete, undecoded and in their order (C14).

    `limit` bounds them in bytes (None: no bound); more are a violation, after which nothing is held any more. With
    `keep` false they are dropped.
    """

    def __init__(self, limit: int | None, *, keep: bool = True) -> None:
        self._bytes = bytearray() if keep else None  # None while what comes is dropped
        self._limit = limit

    def feed(self, data: bytes) -> Iterable[Event]:
        """Holds these bytes; a violation if they are too many."""
        if self._bytes is None:
            return ()
        self._bytes += data
        if self._limit is None or len(self._bytes) <= self._limit:
            return ()
        self._bytes = None
        return (Violation(1009, f"more than {self._limit} bytes before the accept"),)

    def release(self) -> bytes:
        """Everything that was held, once; from now on nothing is held."""
        held, self._bytes = self._bytes, None
        return bytes(held or b"")


class WsprotoCodec:
    """The frames of one connection, from the first byte after the handshake.

    `max_size`: bytes of a message before it is too large (C34), `deflate`: the agreed compression (W12); None: none.
    """

    def __init__(self, max_size: int | None = None, deflate: Deflate | None = None) -> None:
        self._payloads = _Payloads(max_size, deflate)
        self._encoder = FrameProtocol(client=False, extensions=[self._payloads])
        self._decoder: FrameProtocol | None = self._encoder  # None once nothing that comes can have a meaning
        self._message: Any = None  # what has come of one that is not complete: a list would cost most for tiny parts

    def feed(self, data: bytes) -> Iterator[Event | None]:
        """The events of these bytes, in their order, each decoded when it is taken."""
        if self._decoder is None:
            return
        self._decoder.receive_bytes(data)
        try:
            for number, frame in enumerate(self._decoder.received_frames(), 1):
                event = self._event(frame)
                if event is not None or number % LULL == 0:
                    yield event
        except ParseFailed as fault:
            self._decoder = self._message = None
            yield Violation(int(fault.code), self._payloads.complaint or _words(fault))

    def _event(self, frame: Frame) -> Event | None:
        """What a frame, or the part of one that has come, means; nothing while its message is not complete."""
        payload: Any = frame.payload
        match frame.opcode:
            case Opcode.PING:
                return Ping(payload)
            case Opcode.PONG:
                return Pong(payload)
            case Opcode.CLOSE:
                self._decoder = self._message = None
                return self._payloads.last
        if self._message is None:
            if frame.message_finished:
                return payload if isinstance(payload, str) else bytes(payload)
            self._message = io.StringIO() if frame.opcode is Opcode.TEXT else io.BytesIO()
        self._message.write(payload)
        if not frame.message_finished:
            return None
        whole: str | bytes = self._message.getvalue()
        self._message = None
        return whole

    def encode(self, kind: Kind, payload: bytes | str) -> bytes:
        """One frame; a data message is compressed if that was agreed."""
        match kind, payload:
            case "ping", bytes():
                return bytes(self._encoder.ping(payload))
            case "pong", bytes():
                return bytes(self._encoder.pong(payload))
            case "close", bytes():
                code = int.from_bytes(payload[:2], "big") if payload else None
                return bytes(self._encoder.close(code, payload[2:].decode() or None))
        return bytes(self._encoder.send_data(payload))


def _words(fault: ParseFailed) -> str:
    """What wsproto complains of, for a person on the other side."""
    if fault.code is CloseReason.INVALID_FRAME_PAYLOAD_DATA:
        return "text that is not UTF-8"
    return re.sub(r"<Opcode\.(\w+): \d+>", r"\1", str(fault))


class _Payloads(Extension):
    """What wsproto asks about each frame, before it judges it itself."""

    name = "wslifecycle"  # never on the wire

    def __init__(self, max_size: int | None, deflate: Deflate | None) -> None:
        self.last = Close(None, "")
        self.complaint = ""
        self._deflate = deflate
        self._inflate: Deflate | None = None  # while the message that is read is compressed
        self._max_size = max_size
        self._opcode = Opcode.CONTINUATION  # of the frame that is read
        self._size = 0  # of the message that is read, in bytes and not compressed

    def enabled(self) -> bool:
        """Always: it is no extension that a peer could decline."""
        return True

    def offer(self) -> bool:
        """Nothing: the handshake is not wsproto's."""
        return False

    def frame_inbound_header(self, proto: Any, opcode: Opcode, rsv: RsvBits, payload_length: int) -> Any:
        """The head of a frame; may be asked twice for one that came in pieces."""
        self._opcode = opcode
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._inflate = self._deflate if rsv.rsv1 else None
        elif rsv.rsv1:  # only the first frame of a message says that it is compressed (RFC 7692 section 6)
            return self._fault(CloseReason.PROTOCOL_ERROR, "reserved bit on a frame that begins no message")
        if not opcode.iscontrol() and self._inflate is None and self._too_large(payload_length):
            return self._oversize()
        return RsvBits(self._inflate is not None, False, False)

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes | CloseReason:
        """A piece of the payload, unmasked; that of a control frame comes whole."""
        if self._opcode is Opcode.CLOSE:
            return self._read_close(data)
        if self._opcode.iscontrol():
            return data
        return self._measured(data) if self._inflate is None else self._inflated(data)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> bytes | CloseReason | None:
        """The end of a frame's payload."""
        if self._opcode.iscontrol() or not fin:
            return None
        rest = b"" if self._inflate is None else self._inflated(None)
        self._size, self._inflate = 0, None
        return rest

    def frame_outbound(self, proto: Any, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool) -> tuple[RsvBits, bytes]:
        """A frame of ours."""
        if self._deflate is None or opcode.iscontrol():
            return rsv, data
        return RsvBits(True, rsv.rsv2, rsv.rsv3), self._deflate.deflate(data)

    def _inflated(self, data: bytes | None) -> bytes | CloseReason:
        """A piece of a compressed message, or its end."""
        assert self._inflate is not None
        limit = None if self._max_size is None else self._max_size - self._size
        try:
            plain = self._inflate.inflate_end(limit) if data is None else self._inflate.inflate(data, limit)
        except TooLarge:
            return self._oversize()
        except BadData as error:
            return self._fault(CloseReason.PROTOCOL_ERROR, str(error))
        return self._measured(plain)

    def _measured(self, data: bytes) -> bytes | CloseReason:
        if self._too_large(len(data)):
            return self._oversize()
        self._size += len(data)
        return data

    def _too_large(self, more: int) -> bool:
        return self._max_size is not None and self._size + more > self._max_size

    def _read_close(self, data: bytes) -> bytes | CloseReason:
        """Keeps code and reason, and shows wsproto an empty Close, since its list of codes is not ours (C20)."""
        if len(data) == 1:
            return self._fault(CloseReason.PROTOCOL_ERROR, "Close of one byte")
        try:
            self.last = Close(int.from_bytes(data[:2], "big") if data else None, data[2:].decode())
        except UnicodeDecodeError:
            return self._fault(CloseReason.INVALID_FRAME_PAYLOAD_DATA, "reason that is not UTF-8")
        return b""

    def _oversize(self) -> CloseReason:
        return self._fault(CloseReason.MESSAGE_TOO_BIG, f"message over {self._max_size} bytes")

    def _fault(self, code: CloseReason, complaint: str) -> CloseReason:
        self.complaint = complaint
        return code
