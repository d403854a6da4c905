"""The opening handshake: reads one request, judges it (W1), and writes the one answer to it.

A head that is plain, which that of every handshake is, is read here, and answered here with its 101. Of all others h11
says what they mean, and it writes all other answers. Knows neither sockets nor the lifecycle: whoever holds it says
what to answer, and when. The framing of a response is always ours: an app's Content-Length or Connection that its body
belies would break it (R56).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

import h11

from wslifecycle.statemachine.messages import TOKEN

HEAD_LIMIT = 65536
"""Bytes of a request's head."""

_TARGET = re.compile(r"(?:(?:http|ws)s?://[^/?]+|(?=/))(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)
"""Path and query of a request's target, in origin form or absolute form (RFC 9112 section 3.2)."""

_IMPURE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]|[^\t\n\r -\x7e\x80-\xff]")
"""What others may take for the end of a field, or for none, where h11 does not (RFC 9112 sections 2.2 and 5.2), and
control characters (RFC 9110 section 5.5)."""

_REQUEST = re.compile(rb"GET ([!-~]+) HTTP/1\.1")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")  # RFC 9110 section 5.5
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_BODYLESS = frozenset((204, 304))
"""Statuses whose responses have no content-length (RFC 9110 section 8.6); that of a 205 is 0."""

_FRAMING = frozenset((b"connection", b"content-length", b"transfer-encoding"))

Fields: TypeAlias = Iterable[tuple[bytes, bytes]]
Origins: TypeAlias = Iterable[str | re.Pattern[str] | None]
"""Values of the Origin field that are allowed; None: that there is no such field."""


@dataclass(frozen=True, slots=True)
class Request:
    """A handshake request that may be accepted.

    `scope` holds what the request tells of the ASGI scope, `extensions` the values of Sec-WebSocket-Extensions, `rest`
    the bytes that came behind the head.
    """

    scope: dict[str, Any]
    key: bytes
    extensions: tuple[str, ...]
    rest: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is no handshake, with the bytes of the answer to it and its status.

    `why` is for the log: it may quote the request, which the answer never does.
    """

    status: int
    why: str
    answer: bytes


class Head(NamedTuple):
    """What the head of a request says, the names of its fields in lower case."""

    method: bytes
    target: bytes
    http_version: bytes
    headers: list[tuple[bytes, bytes]]


class Handshake:
    """One request and one answer. With `origins` a request whose Origin is none of them is refused with 403."""

    __slots__ = ("_come", "_http", "_origins")

    def __init__(self, origins: Origins | None = None) -> None:
        self._come = bytearray()  # of the request, up to the end of its head
        self._http: h11.Connection | None = None  # made when it is needed
        self._origins = origins

    def feed(self, data: bytes) -> Request | Refusal | None:
        """Takes bytes of the request; None as long as its head is not complete. Not to be called after an answer."""
        lines, end, rest = data.partition(b"\r\n\r\n")
        if end and not self._come and (head := plain(lines)) is not None:
            self._come += lines + end
            return self._judge(head, rest)
        self._come += data
        self._http = self._http or _new_h11()
        try:
            self._http.receive_data(data)
            request = self._http.next_event()
        except h11.RemoteProtocolError as error:
            said = reprlib.repr(str(error))
            return self._refuse(error.error_status_hint, "This is no HTTP request that can be served.", quote=said)
        if request is h11.NEED_DATA:
            return None
        assert isinstance(request, h11.Request)
        rest, silent = self._http.trailing_data[0], request.method == b"HEAD"
        del self._come[len(self._come) - len(rest) :]
        if len(self._come) > HEAD_LIMIT:  # h11 looks only as long as the head is not complete
            return self._refuse(431, "The head of this request is too long.", silent=silent)
        if _IMPURE.search(self._come):
            why = "The lines of a request's head end with CRLF, are not folded, and have no control characters."
            return self._refuse(400, why, silent=silent)
        headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        return self._judge(Head(request.method, request.target, request.http_version, headers), rest)

    def _judge(self, head: Head, rest: bytes) -> Request | Refusal:
        fields = _Fields(head)
        for status, why, hints in _faults(head, fields, self._origins):
            return self._refuse(status, why, hints, silent=head.method == b"HEAD")
        (key,) = fields[b"sec-websocket-key"]
        offers = tuple(value.decode("latin-1") for value in fields[b"sec-websocket-extensions"])
        return Request(_scope(head, fields), key, offers, rest)

    def _writer(self) -> h11.Connection:
        """h11, which writes only what is an answer to the request that it knows of."""
        if self._http is None:
            self._http = _new_h11()
            if self._come:
                self._http.receive_data(bytes(self._come))
                self._http.next_event()
        return self._http

    def _refuse(self, status: int, why: str, fields: Fields = (), silent: bool = False, quote: str = "") -> Refusal:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), *fields]
        answer = self.respond(status, headers, f"{why}\n".encode(), silent)
        return Refusal(status, f"{why} {quote}".rstrip(), answer)

    def accept(self, key: bytes, fields: Fields) -> bytes:
        """The 101 (RFC 6455 section 4.2.2); `fields` are those beyond Upgrade, Connection and Sec-WebSocket-Accept."""
        proof = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        own = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", proof)]
        headers = [*own, *fields]
        for name, value in headers:
            if not TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"HTTP cannot carry the field {name!r}: {value!r}.")
        self._come.clear()
        return b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in headers)

    def respond(self, status: int, fields: Fields, body: bytes, silent: bool = False) -> bytes:
        """A whole response, after which the connection ends; `silent` leaves out the body, as a HEAD asks for."""
        length = [] if status in _BODYLESS else [(b"content-length", b"%d" % len(body))]
        return self.head(status, fields, length) + self.body(b"" if silent else body) + self.end()

    def head(self, status: int, fields: Fields, length: Fields = ()) -> bytes:
        """The head of a response whose body follows in parts; chunked, if there is no `length`."""
        own = [field for field in fields if field[0].lower() not in _FRAMING]
        upgrade = any(name.lower() == b"upgrade" for name, _ in own)  # needs an option (RFC 9110 section 7.8)
        headers = [*own, *length, (b"connection", b"close, upgrade" if upgrade else b"close")]
        return self._writer().send(h11.Response(status_code=status, headers=headers, reason=_phrase(status))) or b""

    def body(self, data: bytes) -> bytes:
        """A part of a response's body."""
        return self._writer().send(h11.Data(data=data)) or b""

    def end(self) -> bytes:
        """The end of a response's body."""
        return self._writer().send(h11.EndOfMessage()) or b""


def _new_h11() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)


def addable(name: bytes, value: bytes) -> bool:
    """Whether a server may add a field to every answer: HTTP can carry it, and it is none of the handshake's own."""
    if name.lower() in {*_FRAMING, b"upgrade"} or name.lower().startswith(b"sec-websocket-"):
        return False
    try:
        h11.Response(status_code=200, headers=[(name, value)])
    except h11.LocalProtocolError:
        return False
    return True


def plain(head: bytes) -> Head | None:
    """What a request's head, less the empty line at its end, says if it is plain; all others are left to h11.

    Plain is a GET whose fields are each in one line and of which none says that there is a body, to one host.
    """
    if len(head) > HEAD_LIMIT - 4 or _IMPURE.search(head):
        return None
    request, *lines = head.split(b"\r\n")
    asked = _REQUEST.fullmatch(request)
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            return None
        headers.append((name.lower(), value.strip(b" \t")))
    names = [name for name, _ in headers]
    if asked is None or names.count(b"host") != 1 or b"content-length" in names or b"transfer-encoding" in names:
        return None
    return Head(b"GET", asked[1], b"1.1", headers)


class _Fields:
    """The header fields of a request: all values of a name, in their order."""

    def __init__(self, head: Head) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in head.headers:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: bytes) -> list[bytes]:
        return self._values.get(name, [])

    def items(self, name: bytes) -> list[bytes]:
        """The items of a field that is a list, however it was divided (RFC 9110 section 5.6.1)."""
        return [item for value in self[name] for part in value.split(b",") if (item := part.strip())]

    def tokens(self, name: bytes) -> list[bytes]:
        """The same, where upper and lower case do not matter."""
        return [item.lower() for item in self.items(name)]


def _faults(head: Head, fields: _Fields, origins: Origins | None) -> Iterator[tuple[int, str, Fields]]:
    """What keeps a request from being a handshake: a status, words, and fields that help (RFC 6455 section 4.2)."""
    if b"websocket" not in fields.tokens(b"upgrade"):  # another kind of request, which is told what would be one
        yield 426, "This server speaks WebSocket only.", [(b"upgrade", b"websocket")]
    if head.method != b"GET" or head.http_version != b"1.1":
        yield 400, "A WebSocket handshake is a GET request of HTTP/1.1.", ()
    if not _TARGET.fullmatch(head.target.decode("ascii")):
        yield 400, "The target of a WebSocket handshake is a path, or an http URL.", ()
    if b"upgrade" not in fields.tokens(b"connection"):
        yield 400, "A WebSocket handshake has Connection: Upgrade.", ()
    if fields[b"transfer-encoding"] or any(value != b"0" for value in fields[b"content-length"]):
        yield 400, "A WebSocket handshake has no body.", ()
    if not _valid_keys(fields[b"sec-websocket-key"]):
        yield 400, "A WebSocket handshake has one Sec-WebSocket-Key, of 16 bytes in base64.", ()
    if not (versions := fields[b"sec-websocket-version"]):
        yield 400, "A WebSocket handshake has a Sec-WebSocket-Version.", ()
    elif versions != [b"13"]:
        yield 426, "This server speaks version 13 of WebSocket.", [(b"sec-websocket-version", b"13")]
    if not all(value.isascii() for value in fields[b"host"]):
        yield 400, "Hosts are ASCII.", ()
    if not all(map(TOKEN.fullmatch, fields.items(b"sec-websocket-protocol"))):
        yield 400, "Names of subprotocols are tokens.", ()
    if origins is not None and not _allowed(fields[b"origin"], origins):
        yield 403, "This Origin is not allowed; those that are stand in the option `origins` of the server.", ()


def _allowed(values: list[bytes], origins: Origins) -> bool:
    """Whether the Origin of a request, or that it has none, is allowed (RFC 6455 sections 4.2.2, step 4, and 10.2).

    More than one never is: a browser sends one (RFC 6454 section 7.3).
    """
    match values:
        case []:
            return None in origins
        case [value]:
            origin = value.decode("latin-1")
            return any(
                known.fullmatch(origin) if isinstance(known, re.Pattern) else known == origin for known in origins
            )
    return False


def _valid_keys(keys: list[bytes]) -> bool:
    try:
        return [len(base64.b64decode(key, validate=True)) for key in keys] == [16]
    except binascii.Error:
        return False


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def _scope(head: Head, fields: _Fields) -> dict[str, Any]:
    """The scope of the connection as far as the request tells it (R8 - R17)."""
    target = _TARGET.fullmatch(head.target.decode("ascii"))
    assert target is not None  # or it would have been refused
    path, query = target[1] or "/", target[2] or ""
    return {
        "type": "websocket",
        "http_version": "1.1",
        "scheme": "ws",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": head.headers,
        "subprotocols": [name.decode("ascii") for name in fields.items(b"sec-websocket-protocol")],
    }
