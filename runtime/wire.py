"""One connection's bytes, without I/O: effects to bytes, the peer's bytes to events.

Brings the handshake and the codec together. Bytes of the peer are held undecoded until the 101 was encoded (C14); from
then on they are frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from wslifecycle.runtime.codec import Codec, Event, Held, WsprotoCodec, close_payload
from wslifecycle.runtime.deflate import negotiate
from wslifecycle.runtime.frames import FrameCodec, unmask
from wslifecycle.runtime.handshake import Handshake, Request
from wslifecycle.runtime.options import Options
from wslifecycle.statemachine import effects as fx


class Wire:
    """What stands between a connection and its transport. `headers` go onto every response, unless the app's do."""

    __slots__ = ("_codec", "_headers", "_held", "_http", "_key", "_offers", "_options", "feed")

    def __init__(
        self, http: Handshake, request: Request, options: Options, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        flat = options.lifecycle.flat
        self._codec: Codec  # from the 101 on
        self._headers = headers
        self._held = Held(flat.value("C14", "bytes"), keep=flat.value("C14", "keep"))
        self.feed: Callable[[bytes], Iterable[Event | None]] = self._held.feed
        """What these bytes of the peer mean; nothing before the 101. Taken as `Codec.feed` says."""
        self._http = http
        self._key = request.key
        self._offers = request.extensions
        self._options = options

    def release(self) -> bytes:
        """The bytes that came before the 101, to be fed once it is written."""
        return self._held.release()

    def ping(self, payload: bytes) -> bytes:
        """A Ping."""
        return self._codec.encode("ping", payload)

    def message(self, data: str | bytes) -> bytes:
        """A data message."""
        return self._codec.encode("text" if isinstance(data, str) else "binary", data)

    def encode(self, effect: fx.Effect) -> bytes:
        """The bytes of an effect that is seen on the wire; none for the others."""
        match effect:
            case fx.SendMessage(data):
                return self.message(data)
            case fx.SendPong(payload):
                return self._codec.encode("pong", payload)
            case fx.SendClose(code, reason):
                return self._codec.encode("close", close_payload(code, reason))
            case fx.CompleteHandshake(subprotocol, headers):
                return self._complete(subprotocol, self._with_defaults(headers))
            case fx.SendResponse(status, headers, body):
                return self._http.respond(status, self._with_defaults(headers), body)
            case fx.SendHead(status, headers):
                return self._http.head(status, self._with_defaults(headers))
            case fx.SendBody(body):
                return self._http.body(body)
            case fx.EndResponse():
                return self._http.end()
        return b""

    def _complete(self, subprotocol: str | None, fields: list[tuple[bytes, bytes]]) -> bytes:
        """The 101, and what was agreed with it."""
        options = self._options
        agreed = negotiate(self._offers) if options.per_message_deflate else None
        if agreed is not None:
            fields = [(b"Sec-WebSocket-Extensions", agreed[0].encode()), *fields]
        if subprotocol is not None:
            fields = [(b"Sec-WebSocket-Protocol", subprotocol.encode()), *fields]
        limit = options.lifecycle.flat.value("C34", "bytes") if options.max_size is None else options.max_size
        deflate = agreed[1] if agreed else None
        match options.codec:
            case "wsproto":
                self._codec = WsprotoCodec(limit, deflate)
            case "python":
                self._codec = FrameCodec(limit, deflate, unmask)
            case "auto":
                self._codec = FrameCodec(limit, deflate)
        self.feed = self._codec.feed
        return self._http.accept(self._key, fields)

    def _with_defaults(self, headers: fx.Headers) -> list[tuple[bytes, bytes]]:
        """The app's fields, and those of the server that the app has not given."""
        given = {name.lower() for name, _ in headers}
        return [*headers, *(field for field in self._headers if field[0].lower() not in given)]
