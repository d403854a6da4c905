"""Bytes to events and effects to bytes, on wsproto. This is the only module that imports it.

What wsproto is not good at is put right here: bytes that come before the accept are held and not lost (C14), a message
is one event however its frames were cut (R2), and a fault of the peer, which wsproto reports as if the peer had closed,
is told apart from a Close (C47).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote

from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from wslifecycle.statemachine import effects as fx

HEAD_LIMIT = 65536
"""Bytes of a request head, and of frames that come before the accept (C14)."""

_BODYLESS = frozenset((204, 205, 304))


@dataclass(frozen=True, slots=True)
class Request:
    """The handshake request: what the scope is made from."""

    scope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that is no WebSocket handshake (W1), and the bytes of the answer to it."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """A complete data message."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's Close frame; without a code it was empty."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol or a limit; the code is the one to fail the connection with."""

    code: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to write at once: the Pong that answers a Ping (W8)."""

    data: bytes


Heard: TypeAlias = Request | BadRequest | Message | Close | Violation | Reply


class Codec:
    """One connection's bytes. `max_size`: bytes (or characters) of a message before it is too large (C34)."""

    def __init__(self, max_size: int = 16 * 1024 * 1024) -> None:
        self._ws = WSConnection(ConnectionType.SERVER)
        self._buffer = bytearray()  # the request's head, then what comes before the accept
        self._parts: list[Any] = []  # the frames of a message that is not complete
        self._max_size = max_size

    def request(self, data: bytes) -> Request | BadRequest | None:
        """Takes bytes until the head of the request is complete; what follows it is held."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._buffer) <= HEAD_LIMIT:
            return None
        head = bytes(self._buffer[: end if end >= 4 else None])
        del self._buffer[: len(head)]
        try:
            self._ws.receive_data(head)
            for event in self._ws.events():
                if isinstance(event, events.Request):
                    return Request(_scope(event))
        except RemoteProtocolError as error:
            hint = error.event_hint if isinstance(error.event_hint, events.RejectConnection) else None
            return BadRequest(self._respond(hint.status_code if hint else 400, hint.headers if hint else (), b""))
        return BadRequest(self._respond(400, (), b""))

    def feed(self, data: bytes) -> Iterator[Heard]:
        """What the peer's bytes mean. Before the accept they are held, and too many of them are a violation."""
        if self._ws.connection is None:
            self._buffer += data
            if len(self._buffer) > HEAD_LIMIT:
                yield Violation(1009)
            return
        if self._ws.state is ConnectionState.CLOSED:
            return
        self._ws.receive_data(bytes(self._buffer) + data)
        self._buffer.clear()
        for event in self._ws.events():
            match event:
                case events.Message():
                    yield from self._message(event)
                case events.Ping() if self._ws.state is ConnectionState.OPEN:
                    yield Reply(self._ws.send(event.response()))
                case events.CloseConnection() if self._ws.state in (
                    ConnectionState.REMOTE_CLOSING,
                    ConnectionState.CLOSED,
                ):
                    yield Close(None if event.code == 1005 else event.code, event.reason or "")
                case events.CloseConnection():  # wsproto could not parse a frame and has read no Close
                    yield Violation(event.code)

    def _message(self, event: events.Message[Any]) -> Iterator[Heard]:
        self._parts.append(event.data)
        if sum(map(len, self._parts)) > self._max_size:
            self._parts.clear()
            yield Violation(1009)
        elif event.message_finished:
            data, empty = self._parts, event.data[:0]
            self._parts = []
            yield Message("".join(data) if isinstance(empty, str) else b"".join(data))

    def encode(self, effect: fx.Effect) -> bytes:
        """The bytes of an effect that is seen on the wire; none for the others."""
        match effect:
            case fx.CompleteHandshake(subprotocol, headers):
                return self._ws.send(events.AcceptConnection(subprotocol=subprotocol, extra_headers=list(headers)))
            case fx.SendResponse(status, headers, body):
                return self._respond(status, headers, body)
            case fx.SendHead(status, headers):
                return self._head(status, headers)
            case fx.SendBody(body):
                return self._ws.send(events.RejectData(data=body, body_finished=False)) if body else b""
            case fx.EndResponse():
                return self._ws.send(events.RejectData(data=b"", body_finished=True))
            case fx.SendMessage(str() as text):
                return self._ws.send(events.TextMessage(data=text))
            case fx.SendMessage(bytes() as data):
                return self._ws.send(events.BytesMessage(data=data))
            case fx.SendClose(code, reason):
                return self._ws.send(
                    events.CloseConnection(CloseReason.NO_STATUS_RCVD if code is None else code, reason)
                )
        return b""

    def _respond(self, status: int, headers: Any, body: bytes) -> bytes:
        try:
            length = [] if status in _BODYLESS else [(b"content-length", str(len(body)).encode())]
            sent = [field for field in headers if field[0] != b"content-length"]
            return self._head(status, [*sent, *length]) + self._ws.send(events.RejectData(data=body))
        except LocalProtocolError:  # the request was no HTTP at all
            return b"HTTP/1.1 %d \r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status

    def _head(self, status: int, headers: Any) -> bytes:
        fields = [*headers, (b"connection", b"close")]
        return self._ws.send(events.RejectConnection(status_code=status, headers=fields, has_body=True))


def _scope(request: events.Request) -> dict[str, Any]:
    """The scope of the connection as far as the request tells it. wsproto hands some header fields over apart."""
    path, _, query = request.target.partition("?")
    headers = [(b"host", request.host.encode()), *((bytes(n), bytes(v)) for n, v in request.extra_headers)]
    if request.subprotocols:
        headers.append((b"sec-websocket-protocol", ", ".join(request.subprotocols).encode()))
    return {
        "type": "websocket",
        "http_version": "1.1",
        "scheme": "ws",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "subprotocols": list(request.subprotocols),
    }
