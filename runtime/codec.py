"""Bytes to events and effects to bytes, on wsproto. This is the only module that imports it.

What wsproto is not good at is put right here: bytes that come before the accept are held and not lost (C14), a message
is one event however its frames were cut (R2), a fault of the peer, which wsproto reports as if the peer had closed, is
told apart from a Close (C47) and is the last thing that is heard (W9), and the request is held to HTTP/1.1 and to one
valid key (W1). Its head is read a second time with h11, because wsproto does not hand over all fields as they came
(R14).

Known limits, all wsproto's: a peer's Close with 1014 fails the connection (C20 would allow it); a Ping after our Close
is not answered (C42); of several `Connection` or `Upgrade` fields only the last counts; the size of a text is counted
in characters. The target of a request in absolute form is not taken apart.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote

import h11
from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from wslifecycle.statemachine import effects as fx

HEAD_LIMIT = 65536
"""Bytes of a request head."""

_BODYLESS = frozenset((204, 304))
"""Statuses whose responses have no content-length (RFC 9110 section 8.6); that of a 205 is 0."""


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


Fields: TypeAlias = Iterable[tuple[bytes, bytes]]
Heard: TypeAlias = Request | BadRequest | Message | Close | Violation | Reply


class Codec:
    """One connection's bytes.

    `max_size`: bytes (or characters) of a message before it is too large (C34). `max_early`: bytes that are held before
    the accept (C14). None: no bound.
    """

    def __init__(self, max_size: int | None = None, max_early: int | None = None) -> None:
        self._ws = WSConnection(ConnectionType.SERVER)
        self._buffer = bytearray()  # the request's head, then what comes before the accept
        self._parts: list[Any] = []  # the frames of a message that is not complete
        self._size = 0  # of these
        self._max_early = max_early
        self._max_size = max_size

    def request(self, data: bytes) -> Request | BadRequest | None:
        """Takes bytes until the head of the request is complete; what follows it is held."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n", max(0, len(self._buffer) - len(data) - 3)) + 4
        if end < 4 and len(self._buffer) <= HEAD_LIMIT:
            return None
        if not 4 <= end <= HEAD_LIMIT:
            return BadRequest(self._respond(400, (), b""))
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        try:
            self._ws.receive_data(head)
            (event,) = self._ws.events()
            request = _parsed(head)
            if isinstance(event, events.Request) and request.http_version == b"1.1" and _has_valid_key(request):
                return Request(_scope(request, [name for name in event.subprotocols if name]))
        except RemoteProtocolError as error:
            if isinstance(hint := error.event_hint, events.RejectConnection):
                return BadRequest(self._respond(hint.status_code, hint.headers, b""))
        except UnicodeError:  # a field that wsproto reads as ASCII is none
            pass
        return BadRequest(self._respond(400, (), b""))

    def feed(self, data: bytes) -> Iterator[Heard]:
        """What the peer's bytes mean. Before the accept they are held, and too many of them are a violation.

        Nothing is heard after a violation. Go on with the iterator only when our Close is encoded.
        """
        if self._ws.connection is None:
            self._buffer += data
            if self._max_early is not None and len(self._buffer) > self._max_early:
                self._buffer.clear()
                yield Violation(1009)
            return
        if self._ws.state is ConnectionState.CLOSED:
            return
        self._ws.receive_data(bytes(self._buffer) + data)
        self._buffer.clear()
        for event in self._ws.events():
            heard = self._meaning(event)
            if heard is not None:
                yield heard
            if isinstance(heard, Violation):
                self._ws.receive_data(None)  # "the peer is gone": wsproto would pile up what it no longer reads (W9)
                return

    def _meaning(self, event: events.Event) -> Heard | None:
        match event:
            case events.Message():
                return self._message(event)
            case events.Ping() if self._ws.state is ConnectionState.OPEN:
                return Reply(self._ws.send(event.response()))
            case events.CloseConnection() if self._ws.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
                return Close(None if event.code == 1005 else event.code, event.reason or "")
            case events.CloseConnection():  # wsproto could not parse a frame and has read no Close
                return Violation(event.code)
        return None

    def _message(self, event: events.Message[Any]) -> Message | Violation | None:
        if event.data:  # empty frames cost nothing, however many come
            self._parts.append(event.data)
            self._size += len(event.data)
        if self._max_size is not None and self._size > self._max_size:
            return Violation(1009)
        if not event.message_finished:
            return None
        data = event.data[:0].join(self._parts)
        self._parts.clear()
        self._size = 0
        return Message(data)

    def encode(self, effect: fx.Effect) -> bytes:
        """The bytes of an effect that is seen on the wire; none for the others."""
        match effect:
            case fx.CompleteHandshake(subprotocol, headers):
                # as a field of its own: whether it may be chosen is decided already (C19)
                chosen = [] if subprotocol is None else [(b"sec-websocket-protocol", subprotocol.encode())]
                return self._ws.send(events.AcceptConnection(extra_headers=[*chosen, *headers]))
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

    def _respond(self, status: int, headers: Fields, body: bytes) -> bytes:
        length = [] if status in _BODYLESS else [(b"content-length", b"%d" % len(body))]
        return self._head(status, headers, length) + self._ws.send(events.RejectData(data=body))

    def _head(self, status: int, headers: Fields, length: Fields = ()) -> bytes:
        """A head whose framing is ours: an app's content-length that its body belies would break the response."""
        own = [field for field in headers if field[0].lower() not in (b"content-length", b"connection")]
        fields = [*own, *length, (b"connection", b"close")]
        return self._ws.send(events.RejectConnection(status_code=status, headers=fields, has_body=True))


def _parsed(head: bytes) -> h11.Request:
    """The head of a request that wsproto has taken, every field as it came."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head)
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    return request


def _has_valid_key(request: h11.Request) -> bool:
    """Whether there is one key, of 16 bytes in base64 (RFC 6455 section 4.2.1)."""
    keys = [value for name, value in request.headers if name == b"sec-websocket-key"]
    try:
        return [len(base64.b64decode(key, validate=True)) for key in keys] == [16]
    except binascii.Error:
        return False


def _scope(request: h11.Request, subprotocols: list[str]) -> dict[str, Any]:
    """The scope of the connection as far as the request tells it."""
    path, _, query = request.target.partition(b"?")
    return {
        "type": "websocket",
        "http_version": "1.1",
        "scheme": "ws",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
        "subprotocols": subprotocols,
    }
