"""What a server's bytes mean to a client that trusts nothing: no I/O, no loop.

The `websockets` library makes the handshake request, judges the 101 and parses the frames, h11 parses any other answer.
What a server may not send at all (a handshake that the client library refuses, a frame that cannot be parsed) is seen
as `invalid`. What comes behind a Close is read like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeAlias

import h11
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.extensions.base import ClientExtensionFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.streams import StreamReader
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

Seen: TypeAlias = dict[str, Any]
"""One thing that was seen: its kind and what is in it, such as `{"text": "hi"}` or `{"close": {...}}`."""


class Judge:
    """One client. `request` is what it sends first; `feed` takes the server's bytes."""

    def __init__(
        self,
        address: str = "ws://192.0.2.1/",
        subprotocols: Sequence[str] = (),
        extensions: Sequence[ClientExtensionFactory] | None = None,
    ) -> None:
        offered = [Subprotocol(name) for name in subprotocols]
        self._handshake = ClientProtocol(parse_uri(address), subprotocols=offered or None, extensions=extensions)
        self._handshake.send_request(request := self._handshake.connect())
        self.request = b"".join(self._handshake.data_to_send())
        """The handshake request."""
        self._http = h11.Connection(h11.CLIENT)
        self._http.send(h11.Request(method="GET", target=request.path, headers=list(request.headers.raw_items())))
        self._http.send(h11.EndOfMessage())
        self._head = b""
        self._read: Callable[[bytes], list[Seen]] = self._read_head

    def feed(self, data: bytes) -> list[Seen]:
        """What these bytes complete: the answer to the handshake, whole if it is a 101; then frame after frame."""
        return self._read(data)

    def _read_head(self, data: bytes) -> list[Seen]:
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return []
        if not self._head.startswith(b"HTTP/1.1 101"):
            self._read = self._read_answer
            return self._read(self._head)
        end = self._head.index(b"\r\n\r\n") + 4
        self._read = partial(_read_frames, StreamReader(), [])
        return [self._judge_handshake(self._head[:end]), *self._read(self._head[end:])]

    def _judge_handshake(self, head: bytes) -> Seen:
        """What the client library says to a 101."""
        handshake = self._handshake
        handshake.receive_data(head)
        response = next((event for event in handshake.events_received() if isinstance(event, Response)), None)
        if handshake.handshake_exc is not None or response is None:
            return {"invalid": f"handshake: {handshake.handshake_exc or handshake.parser_exc}"}
        headers = tuple((name.lower().encode(), value.encode()) for name, value in response.headers.raw_items())
        return {"handshake": {"subprotocol": handshake.subprotocol, "headers": headers}}

    def _read_answer(self, data: bytes) -> list[Seen]:
        """What the bytes of another answer mean."""
        seen: list[Seen] = []
        try:
            self._http.receive_data(data)
            while not isinstance(event := self._http.next_event(), type):
                match event:
                    case h11.Response():
                        seen.append({"head": {"status": event.status_code, "headers": tuple(event.headers)}})
                    case h11.Data():
                        seen.append({"chunk": bytes(event.data)})
                    case h11.EndOfMessage():
                        seen.append({"response_end": True})
        except h11.RemoteProtocolError as error:
            seen.append({"invalid": f"response: {error}"})
        return seen


def _read_frames(stream: StreamReader, parsing: list[Generator[None, None, Frame]], data: bytes) -> list[Seen]:
    """Every frame that these bytes complete; `parsing` has the one that is being parsed."""
    seen: list[Seen] = []
    stream.feed_data(data)
    while True:
        if not parsing:
            parsing.append(Frame.parse(stream.read_exact, mask=False))
        try:
            next(parsing[0])
            return seen  # the rest of the frame has not come yet
        except StopIteration as parsed:
            seen.append(_frame_seen(parsed.value))
        except WebSocketException as error:  # its head is none that a frame may have
            seen.append({"invalid": f"frame: {error}"})
        parsing.clear()


def _frame_seen(frame: Frame) -> Seen:
    """A frame as an observation; `invalid` where a Close or a text in it cannot be decoded."""
    data = bytes(frame.data)
    try:
        frame.check()
        close = Close.parse(data) if frame.opcode is Opcode.CLOSE and data else None
        text = data.decode() if frame.opcode is Opcode.TEXT and frame.fin else ""
    except (WebSocketException, UnicodeDecodeError) as error:
        return {"invalid": f"frame: {error}"}
    match frame.opcode:
        case Opcode.CLOSE:
            return {"close": {"code": close.code, "reason": close.reason} if close else {}}
        case Opcode.TEXT if frame.fin:
            return {"text": text}
        case Opcode.BINARY if frame.fin:
            return {"bytes": data}
    return {frame.opcode.name.lower(): data}
