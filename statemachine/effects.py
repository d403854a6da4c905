"""What a server has to do, as values. The machine decides; a shell only carries these out, in their order.

Each class is named after an effect of `spec/lifecycle.yaml`; its fields are the fields declared there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Names and values of HTTP header fields, in order, names in lower case."""


@dataclass(frozen=True, slots=True)
class CompleteHandshake:
    """Answer the handshake with 101 (RFC 6455 section 4.2.2). From now on the peer's bytes are frames."""

    subprotocol: str | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class SendResponse:
    """Answer the handshake with a whole HTTP response."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class SendHead:
    """Send the head of an HTTP response whose body follows in parts."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class SendBody:
    """Send a part of the response's body, and flush it to the transport's buffer. It may be empty."""

    body: bytes


@dataclass(frozen=True, slots=True)
class EndResponse:
    """The body of the response is complete."""


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send one data message (RFC 6455 section 5.6): text if it is a str, binary if it is bytes."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class SendClose:
    """Send a Close frame (RFC 6455 section 5.5.1); without a code its payload is empty."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class SendPong:
    """Send a Pong with the payload of the Ping that it answers (RFC 6455 section 5.5.3).

    Of several that cannot be sent yet only the last one has to be.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class EndSending:
    """Flush what was written, then end our side of the transport, and go on reading (RFC 6455 section 7.1.1).

    Where a transport cannot end one side alone, as under TLS, begin to end it. A timer bounds what follows.
    """


@dataclass(frozen=True, slots=True)
class EndTransport:
    """Flush what was written, then end the transport; abort it after `deadline` seconds (None: never)."""

    deadline: float | None


@dataclass(frozen=True, slots=True)
class AbortTransport:
    """Drop the transport at once; what is still buffered is lost."""


@dataclass(frozen=True, slots=True)
class ResumeReading:
    """Read from the transport again."""


@dataclass(frozen=True, slots=True)
class PauseReading:
    """Stop reading from the transport: too much is unread (C31)."""


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Start a timer; when it runs out, call `Connection.timed_out(timer)`.

    `keepalive` is the one that does not simply run out: send a Ping every so many seconds and report it as timed out
    when one is not answered in time (C33).
    """

    timer: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Cancel a timer."""

    timer: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Hand over this message after a turn of the loop and at least so many seconds after the last paced one (C6)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KeepMessage:
    """Inner: put a message behind the unread ones."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class TakeMessage:
    """Inner: take the oldest unread message."""


Effect: TypeAlias = (
    CompleteHandshake
    | SendResponse
    | SendHead
    | SendBody
    | EndResponse
    | SendMessage
    | SendClose
    | SendPong
    | EndSending
    | EndTransport
    | AbortTransport
    | ResumeReading
    | PauseReading
    | StartTimer
    | CancelTimer
    | Pace
)
"""What `Connection` hands to a shell."""

TYPES: dict[str, type] = {
    "complete_handshake": CompleteHandshake,
    "send_response": SendResponse,
    "send_head": SendHead,
    "send_body": SendBody,
    "end_response": EndResponse,
    "send_message": SendMessage,
    "send_close": SendClose,
    "send_pong": SendPong,
    "end_sending": EndSending,
    "end_transport": EndTransport,
    "abort_transport": AbortTransport,
    "resume_reading": ResumeReading,
    "pause_reading": PauseReading,
    "start_timer": StartTimer,
    "cancel_timer": CancelTimer,
    "pace": Pace,
    "keep_message": KeepMessage,
    "take_message": TakeMessage,
}
FIELDS: dict[str, list[str]] = {name: [field.name for field in fields(kind)] for name, kind in TYPES.items()}
