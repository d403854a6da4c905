"""Drives a real app on a real server over a real socket through a scenario, both sides under the driver's control.

The peer is the `websockets` library's client protocol over a plain TCP connection: it builds the handshake, judges the
server's answer and parses every frame; what it would send by itself (its answer to a Close) is held back, because here
the scenario says what the peer does. The app is one coroutine that does what the driver says. Every wait is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import h11
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from wslifecycle.conformance.scenarios import Act, Scenario, Seen, differences
from wslifecycle.runtime.shell import Session, serve
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle

PATIENCE = 5.0
"""Seconds that something may take which the scenario says has to happen. What is wrong is seen at once otherwise."""

MAX_SIZE = 65536
"""The largest message of the servers that are started here; `too_big` is one byte more."""


class Peer:
    """A client whose every step the scenario says; `seen` is what the server made it see."""

    def __init__(self, subprotocols: tuple[str, ...]) -> None:
        self.seen: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._subprotocols = subprotocols
        self._protocol: ClientProtocol | None = None
        self._pump: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self, port: int) -> None:
        """Opens the connection and sends the handshake request."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        uri = parse_uri(f"ws://127.0.0.1:{port}/")
        self._protocol = ClientProtocol(uri, subprotocols=list(self._subprotocols) or None)  # type: ignore[arg-type]
        request = self._protocol.connect()
        self._protocol.send_request(request)
        self._writer.writelines(self._protocol.data_to_send())
        http = h11.Connection(h11.CLIENT)  # a streamed denial is read as it comes, which the client protocol does not
        http.send(h11.Request(method="GET", target=request.path, headers=list(request.headers.raw_items())))
        http.send(h11.EndOfMessage())
        self._pump = asyncio.create_task(self._read(reader, self._protocol, http))

    async def _read(self, reader: asyncio.StreamReader, protocol: ClientProtocol, http: h11.Connection) -> None:
        try:
            while data := await reader.read(65536):
                if protocol.state is State.CONNECTING and not data.startswith(b"HTTP/1.1 101"):
                    self._note_answer(http, data)
                else:
                    protocol.receive_data(data)
                    self._note_frames(protocol)
            self._see({"end": True})
        except ConnectionError:
            self._see({"end": True})

    def _note_answer(self, http: h11.Connection, data: bytes) -> None:
        """What the bytes of the answer to the handshake mean, as long as it is no 101."""
        http.receive_data(data)
        while not isinstance(event := http.next_event(), type):
            match event:
                case h11.Response():
                    self._see({"head": {"status": event.status_code, "headers": tuple(event.headers)}})
                case h11.Data():
                    self._see({"chunk": bytes(event.data)})
                case h11.EndOfMessage():
                    self._see({"response_end": True})

    def _note_frames(self, protocol: ClientProtocol) -> None:
        """What the client protocol made of the bytes: the completed handshake, then frames."""
        protocol.data_to_send()  # held back: the scenario says what the peer sends
        for event in protocol.events_received():
            match event:
                case Response():
                    headers = tuple(
                        (name.lower().encode(), value.encode()) for name, value in event.headers.raw_items()
                    )
                    subprotocol = event.headers.get("Sec-WebSocket-Protocol")
                    self._see({"handshake": {"subprotocol": subprotocol, "headers": headers}})
                case Frame(opcode=Opcode.CLOSE):
                    close = Close.parse(bytes(event.data)) if event.data else None
                    self._see({"close": {"code": close.code, "reason": close.reason} if close else {}})
                case Frame(opcode=Opcode.TEXT):
                    self._see({"text": bytes(event.data).decode()})
                case Frame():
                    self._see({"bytes": bytes(event.data)})

    def _see(self, entry: dict[str, Any]) -> None:
        self.seen.append(entry)
        self._changed.set()

    async def wait_for(self, start: int, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Waits until it has seen what is wanted since `start`, as long as patience lasts, and returns what it saw."""
        kinds = [next(iter(entry)) for entry in wanted]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while [next(iter(entry)) for entry in _joined(self.seen[start:])] != kinds:
                    self._changed.clear()
                    await self._changed.wait()
        await _settle()
        return _joined(self.seen[start:])

    async def do(self, act: Act) -> None:
        """One stimulus of the peer."""
        assert self._writer is not None
        match act.stimulus:
            case "peer sends":
                opcode = Opcode.TEXT if isinstance(act.value, str) else Opcode.BINARY
                data = act.value.encode() if isinstance(act.value, str) else act.value
                self._writer.write(Frame(opcode, data).serialize(mask=True))
            case "peer closes":
                close = Close(act.value["code"], act.value.get("reason", "")) if act.value else None
                self._writer.write(Frame(Opcode.CLOSE, close.serialize() if close else b"").serialize(mask=True))
            case "peer violates":
                self._writer.write(_VIOLATIONS[act.value]())
            case "peer ends":
                self._writer.write_eof()
            case "peer vanishes":
                assert self._pump is not None
                self._pump.cancel()
                raw = self._writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()

    async def close(self) -> None:
        """Ends the connection and its task."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()


class App:
    """An ASGI app that does what the driver says: ask, send, return, raise."""

    def __init__(self) -> None:
        self.asks: list[asyncio.Task[MutableMapping[str, Any]]] = []
        self.raised: str | None = None
        self._called: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
        self._ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """The ASGI callable: lives until the driver ends it."""
        self._called.set_result((receive, send))
        await self._ends

    async def do(self, act: Act) -> None:
        """One stimulus of the app."""
        async with asyncio.timeout(PATIENCE):
            receive, send = await asyncio.shield(self._called)
        self.raised = None
        match act.stimulus:
            case "app asks":
                self.asks.append(asyncio.create_task(receive()))
            case "app cancels":
                self.asks.pop(0).cancel()
            case "app sends":
                try:
                    async with asyncio.timeout(PATIENCE):
                        await send(dict(act.value))
                except ApplicationViolation:
                    self.raised = "violation"
                except Disconnected:
                    self.raised = "disconnected"
            case "app returns":
                self._ends.set_result(None)
            case "app raises":
                self._ends.set_exception(ScenarioError("the app of a scenario raises"))

    async def given(self, count: int) -> list[dict[str, Any]]:
        """What the oldest asks were answered with: `count` of them as long as patience lasts, and those on top."""
        wanted = self.asks[:count]
        if wanted:
            await asyncio.wait(wanted, timeout=PATIENCE)
        answers = []
        while self.asks and self.asks[0].done():
            answers.append(dict(self.asks.pop(0).result()))
        return answers

    async def close(self) -> None:
        """Ends the app and every ask that still waits."""
        if not self._ends.done():
            self._ends.set_result(None)
        for ask in self.asks:
            ask.cancel()
        await asyncio.gather(*self.asks, return_exceptions=True)


class ScenarioError(Exception):
    """What the app of a scenario raises."""


class Sockets:
    """A scenario over a socket: `do` carries out an act and reports what both sides saw."""

    def __init__(self, app: App, peer: Peer, sessions: list[Session]) -> None:
        self._app = app
        self._peer = peer
        self._sessions = sessions

    async def do(self, act: Act) -> Seen:
        """Carries out the stimulus and waits for what has to come of it; what comes on top is reported too."""
        seen_before = len(self._peer.seen)
        self._app.raised = None
        if act.stimulus.startswith("peer"):
            await self._peer.do(act)
        elif act.stimulus.startswith("app"):
            await self._app.do(act)
        elif act.stimulus == "server shuts down":
            self._sessions[0].shutdown()
        else:
            self._sessions[0].time_out(act.value)
        given = await self._app.given(len(act.app))
        seen = await self._peer.wait_for(seen_before, act.peer)
        given += await self._app.given(0)
        return Seen(given, seen, self._app.raised, len(self._app.asks))


async def _settle() -> None:
    """Lets what is ready run, so that an observation too many shows in the act that brought it. A later one shows in a
    later act or at the end: nothing is missed, it is only told later."""
    for _ in range(5):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def driven(
    scenario: Scenario, machine: Lifecycle | None = None, observe: Callable[[Answer], None] | None = None
) -> AsyncIterator[Sockets]:
    """Starts a server on a free port with the app of a scenario, connects its peer, and ends all of it."""
    app, peer, sessions = App(), Peer(scenario.subprotocols), list[Session]()
    server = await serve(
        app,
        spec_version=scenario.spec_version,
        extensions=scenario.extensions,
        max_size=MAX_SIZE,
        machine=machine,
        observe=observe,
        on_session=sessions.append,
    )
    try:
        await peer.connect(server.sockets[0].getsockname()[1])
        yield Sockets(app, peer, sessions)
    finally:
        await app.close()
        await peer.close()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*(session.ended() for session in sessions), return_exceptions=True)


async def run(
    scenario: Scenario,
    machine: Lifecycle | None = None,
    observe: Callable[[Answer], None] | None = None,
    watch: Callable[[Act, Seen], None] = lambda act, seen: None,
) -> list[str]:
    """Runs a whole scenario over a socket; returns the differences, each with its place. Empty: it agrees.

    `observe` is called with every answer of the machine, `watch` after every act with what both sides saw.
    """
    found: list[str] = []
    async with driven(scenario, machine, observe) as sockets:
        for act in scenario.acts:
            seen = await sockets.do(act)
            watch(act, seen)
            found += (f"{scenario.file}:{act.line}: after `{act}` {text}" for text in differences(act, seen))
    return found


def _joined(seen: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A head, its chunks and its end in one act are one whole response; chunks in a row are one."""
    joined: list[dict[str, Any]] = []
    for entry in seen:
        if "chunk" in entry and joined and "chunk" in joined[-1]:
            joined[-1] = {"chunk": joined[-1]["chunk"] + entry["chunk"]}
        elif "response_end" in entry and joined and "head" in joined[-1]:
            joined[-1] = {"http": {**joined[-1]["head"], "body": b""}}
        elif "response_end" in entry and len(joined) > 1 and "head" in joined[-2]:
            chunk = joined.pop()["chunk"]
            joined[-1] = {"http": {**joined[-1]["head"], "body": chunk}}
        else:
            joined.append(entry)
    return joined


def _frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True, rsv: int = 0) -> bytes:
    """A frame by hand, which may break any rule (RFC 6455 section 5.2)."""
    head = bytes((fin << 7 | rsv << 4 | opcode, mask << 7 | min(len(payload), 126)))
    length = struct.pack("!H", len(payload)) if len(payload) >= 126 else b""
    return head + length + (b"\0\0\0\0" if mask else b"") + payload


_VIOLATIONS: dict[str, Callable[[], bytes]] = {
    "unmasked_frame": lambda: _frame(1, b"hi", mask=False),
    "reserved_bits": lambda: _frame(1, b"hi", rsv=4),
    "reserved_opcode": lambda: _frame(3, b"hi"),
    "bad_utf8": lambda: _frame(1, b"\xff\xfe"),
    "too_big": lambda: Frame(Opcode.BINARY, bytes(MAX_SIZE + 1)).serialize(mask=True),
    "stray_continuation": lambda: _frame(0, b"hi"),
    "interrupted_fragments": lambda: _frame(1, b"h", fin=False) + _frame(1, b"i"),
    "fragmented_ping": lambda: _frame(9, b"hi", fin=False),
    "long_ping": lambda: _frame(9, bytes(126)),
    "one_byte_close": lambda: _frame(8, b"\x03"),
    "close_code_1005": lambda: _frame(8, struct.pack("!H", 1005)),
    "close_code_999": lambda: _frame(8, struct.pack("!H", 999)),
    "bad_close_reason": lambda: _frame(8, struct.pack("!H", 1000) + b"\xff\xfe"),
}
