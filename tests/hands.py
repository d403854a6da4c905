"""Both sides of a connection in the hands of a test: a client that may send any bytes, an app that does as it is told.

`Hand` is the client of the scenarios, which parses and judges all that it is sent, and may send bytes as they are.
`Puppet` is an app that lives until it is told to end; its `receive` and `send` are for the test to call. `held` has one
connection with both. Every wait is bounded, by the client's patience or by the time limit of `ways.run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.ways import Site, serving
from wslifecycle.conformance.judge import Judge
from wslifecycle.conformance.peer import PATIENCE, Peer
from wslifecycle.conformance.scenarios import Act
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Message, Receive, Send, Session
from wslifecycle.statemachine.errors import Disconnected

Seen: TypeAlias = dict[str, Any]

START = {"type": "websocket.http.response.start", "status": 418, "headers": []}
FIELDS = (
    b"Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
BODY = {"type": "websocket.http.response.body", "body": b"x"}
REQUEST = b"GET / HTTP/1.1\r\n" + FIELDS + b"\r\n"


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition that no event announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------ the client


class Hand(Peer):
    """The scenarios' client, with bytes of the test's own."""

    async def connect(self, port: int, *, compression: bool = False) -> None:
        """Opens the connection and sends the handshake request, which may offer compression without parameters."""
        if not compression:
            await super().connect(port)
            return
        async with asyncio.timeout(PATIENCE):
            reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        offer = ClientPerMessageDeflateFactory(client_max_window_bits=None)
        judge = Judge(f"ws://127.0.0.1:{port}/", extensions=[offer])
        self._writer.write(judge.request)
        self._pump = asyncio.create_task(self._read(reader, judge))

    def write(self, *pieces: bytes) -> None:
        """Sends bytes as they are."""
        assert self._writer is not None
        self._writer.write(b"".join(pieces))  # writelines() of CPython 3.13.0 spins on an empty piece

    async def whole(self, data: bytes) -> None:
        """Sends bytes in one piece."""
        self.write(data)

    async def trickle(self, data: bytes) -> None:
        """Sends the first 100 bytes one by one, each in a segment of its own, and then the rest."""
        for i in range(min(len(data), 100)):
            self.write(data[i : i + 1])
            await asyncio.sleep(0)  # the server, in the same loop, reads before the next byte is written
            await asyncio.sleep(0)
        self.write(data[100:])

    async def act(self, stimulus: str, value: Any = None) -> None:
        """A stimulus of the scenarios: `peer ends`, `peer vanishes`, `peer violates`, ..."""
        await self.do(Act(stimulus, value, (), (), None, False, 0))

    @property
    def refused(self) -> bool:
        """Whether what is written is not taken any more, because the server has dropped the transport."""
        assert self._writer is not None
        return self._writer.is_closing()

    def kinds(self) -> list[str]:
        """What kinds of things were seen: `handshake`, `text`, `close`, `head`, `end`, ..."""
        return [next(iter(entry)) for entry in self.seen]

    def find(self, kind: str) -> list[Any]:
        """Everything of a kind that was seen."""
        return [entry[kind] for entry in self.seen if kind in entry]

    async def sees(self, kind: str, count: int = 1) -> Any:
        """Waits until so many of a kind were seen; gives the last of them."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self.find(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]


@asynccontextmanager
async def client(site: Site, *, subprotocols: tuple[str, ...] = (), compression: bool = False) -> AsyncIterator[Hand]:
    """A client that has sent its request."""
    hand = Hand(subprotocols)
    try:
        await hand.connect(site.port, compression=compression)
        yield hand
    finally:
        await hand.close()


async def exchange(site: Site, request: bytes) -> bytes:
    """Sends bytes, ends its side once a head has come, or cannot come any more, and reads to the connection's end."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        try:
            writer.write(request)
            if b"\r\n\r\n" not in request:
                writer.write_eof()
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as nothing:
                return nothing.partial
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()
            return head + await reader.read()
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


# ------------------------------------------------------------------------------------------------ the app


class Puppet:
    """One call of the app: `receive` and `send` are the server's, `end` lets the callable return or raise."""

    def __init__(self, scope: Message, receive: Receive, send: Send, session: Session) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.session = session
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def state(self) -> str:
        """Where the lifecycle is."""
        return self.session._connection.state

    async def comes_to(self, wire: str) -> None:
        """Waits until the wire is in this state."""
        await until(lambda: self.state.startswith(f"{wire}/"))

    def end(self, error: BaseException | None = None) -> None:
        """Lets the callable end."""
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)

    async def ended(self) -> None:
        """Waits until the callable has ended."""
        async with asyncio.timeout(PATIENCE):
            await self.session.ended()

    async def given(self, count: int = 1) -> list[Any]:
        """The next so many messages: their data, or code and reason of a disconnect."""
        async with asyncio.timeout(PATIENCE):
            return [told(await self.receive()) for _ in range(count)]

    async def disconnected(self, message: Message, rule: str) -> None:
        """Holds that a message is refused, with this number, because the connection has ended."""
        with pytest.raises(Disconnected) as caught:
            await self.send(message)
        assert caught.value.rule == rule


def told(message: Message) -> Any:
    """What a message tells: its data, code and reason, or its type."""
    match message:
        case {"type": "websocket.receive", "text": str(data)} | {"type": "websocket.receive", "bytes": data}:
            return data
        case {"type": "websocket.disconnect", "code": code, "reason": reason}:
            return code, reason
    return message["type"]


class Stage:
    """An app, each call of which is a `Puppet`."""

    def __init__(self) -> None:
        self._calls: asyncio.Queue[tuple[Message, Receive, Send, asyncio.Future[Puppet]]] = asyncio.Queue()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise NotImplementedError
        made: asyncio.Future[Puppet] = asyncio.get_running_loop().create_future()
        self._calls.put_nowait((scope, receive, send, made))
        await (await made).over

    async def puppet(self, site: Site) -> Puppet:
        """The next call. The calls have to be taken one by one, since the sessions are told apart by their order."""
        async with asyncio.timeout(PATIENCE):
            scope, receive, send, made = await self._calls.get()
        puppet = Puppet(scope, receive, send, site.sessions[-1])
        made.set_result(puppet)
        return puppet


@dataclass(frozen=True)
class Scene:
    """A server whose app's calls are puppets."""

    site: Site
    stage: Stage

    @asynccontextmanager
    async def connection(self, *first: Message, **request: Any) -> AsyncIterator[tuple[Hand, Puppet]]:
        """A connection, of which the app has got the connect if it sent `first`; what is left at the end ends."""
        async with client(self.site, **request) as hand:
            puppet = await self.stage.puppet(self.site)
            try:
                if first:
                    assert await puppet.given() == ["websocket.connect"]
                for message in first:
                    await puppet.send(message)
                yield hand, puppet
            finally:
                if not puppet.over.done():
                    puppet.end()
                await puppet.ended()


@asynccontextmanager
async def scene(way: str, settings: Mapping[str, Any] | None = None, **options: Any) -> AsyncIterator[Scene]:
    """Serves a stage in a way of `ways.WAYS`.

    `settings` are the server's, `options` the runtime's, without Pings if they name none.
    """
    stage = Stage()
    async with serving(way, stage, **both({"ping_interval": None} | options, way), **settings or {}) as site:
        yield Scene(site, stage)


def both(options: dict[str, Any], way: str) -> dict[str, Any]:
    """Options of the runtime as arguments of `serving`: Uvicorn has settings of its own for some of them."""
    own = {"max_size", "max_queue", "ping_interval", "ping_timeout", "per_message_deflate"} & options.keys()
    settings = {} if way == "start_server" else {f"ws_{name}": options[name] for name in own}
    return {"options": Options(**options), "lifespan": "off", **settings}
