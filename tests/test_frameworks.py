"""Real frameworks on top of the runtime, in each way that the package offers.

What a client and a handler must see is taken from the ASGI documents, RFC 6455 and the framework's own documentation. A
framework that goes its own way is named with the reason, found in its source. Whatever is logged as an error has to be
expected by the test (`logged`); whatever is left behind fails it (`run`).
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.typing import Subprotocol

from tests.frameworks import channels_app, fastapi_app, litestar_app, quart_app, starlette_app
from tests.ways import WAYS, Loop, Site, run, serving, vanish

Seen: TypeAlias = "asyncio.Queue[Any]"
"""What became of the handlers, as they tell it."""

FRAMEWORKS: dict[str, Callable[[Seen], Any]] = {
    "starlette": starlette_app.make,
    "fastapi": fastapi_app.make,
    "litestar": litestar_app.make,
    "quart": quart_app.make,
    "channels": channels_app.make,
}


# ------------------------------------------------------------------------------------------------ helpers


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Takes what was logged as an error up to now, as text; what a test leaves untaken fails it."""

    def take() -> list[str]:
        errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
        caplog.clear()
        return [str(error.exc_info[1]) if error.exc_info else error.getMessage() for error in errors]

    yield take
    assert take() == []


def everywhere(test: Callable[..., Awaitable[None]], loop: Loop = "asyncio") -> Any:
    """Makes a test of an asynchronous function, and runs it in every way."""

    @pytest.mark.parametrize("way", WAYS)
    @functools.wraps(test)
    def on_every_way(**arguments: Any) -> None:
        run(functools.partial(test, **arguments), loop=loop)

    return on_every_way


def of(*frameworks: str) -> pytest.MarkDecorator:
    """Runs the test with these frameworks; without a name, with all."""
    return pytest.mark.parametrize("framework", frameworks or tuple(FRAMEWORKS))


@asynccontextmanager
async def site_of(framework: str, way: str, **settings: Any) -> AsyncIterator[tuple[Site, Seen]]:
    seen: Seen = asyncio.Queue()
    async with serving(way, FRAMEWORKS[framework](seen), **settings) as site:
        yield site, seen


async def refusal(site: Site, route: str) -> Response:
    """The HTTP response that a handshake is refused by."""
    with pytest.raises(InvalidStatus) as refused:
        async with site.connect(route):
            pass
    return refused.value.response


async def end_of(client: ClientConnection) -> tuple[int, str]:
    """Code and reason that the server closes with; nothing else may come before."""
    with pytest.raises(ConnectionClosed) as closed:
        pytest.fail(f"a message: {await client.recv()!r}")
    frame = closed.value.rcvd
    assert frame is not None, "no Close frame"
    return frame.code, frame.reason


# ------------------------------------------------------------------------------------------------ messages


ECHOED: dict[str, list[str] | list[bytes]] = {
    "text": ["a", "ä€😀", "x" * 70_000],
    "binary": [b"a", bytes(range(256)) * 300],
}
"""The messages of a route."""


@of()
@everywhere
async def test_echo(framework: str, way: str) -> None:
    """Messages go both ways unchanged and in order (R26, R27, W13), compressed (W12), until the client closes."""
    async with site_of(framework, way) as (site, seen):
        for route, messages in ECHOED.items():
            async with site.connect(route) as client:
                assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
                for message in messages:
                    await client.send(message)
                assert [await client.recv() for _ in messages] == messages
            assert await seen.get() == "end of messages"


@of("starlette", "litestar", "channels")
@everywhere
async def test_json(framework: str, way: str) -> None:
    """The frameworks' own consumers: WebSocketEndpoint, websocket_listener, AsyncJsonWebsocketConsumer."""
    async with site_of(framework, way) as (site, seen), site.connect("json") as client:
        await client.send('{"a": [1, null]}')
        assert json.loads(await client.recv()) == {"got": {"a": [1, None]}}
        await client.close(1001)
        if framework != "litestar":  # a listener is not told of the end
            assert await seen.get() == 1001


# ------------------------------------------------------------------------------------------------ the handshake


@of()
@everywhere
async def test_subprotocol_and_headers(framework: str, way: str) -> None:
    """The app chooses one of those that the client offers, and adds a header (R24, R25, W2)."""
    offered = [Subprotocol("first"), Subprotocol("second")]
    async with site_of(framework, way) as (site, _), site.connect("subprotocol", subprotocols=offered) as client:
        assert client.subprotocol == "second"
        assert client.response is not None
        assert client.response.headers.get_all("x-served-by") == ["us"]
        assert (await end_of(client))[0] == 1000


TICKET = "come with a ticket"

REFUSED: dict[str, dict[str, tuple[int, str]]] = {
    "starlette": {"reject": (403, ""), "denial": (401, TICKET), "raised": (401, TICKET), "streamed": (402, TICKET)},
    "fastapi": {"reject": (403, ""), "denial": (401, TICKET), "raised": (401, TICKET)},
    "litestar": {"reject": (403, ""), "guarded": (403, "")},
    "quart": {"reject": (403, ""), "denial": (401, TICKET), "raised": (401, "Unauthorized")},
    "channels": {"reject": (403, ""), "raised": (403, "")},
}
"""Status and a part of the body, by route.

A close before the accept is HTTP 403, whatever its code (R36, C23); so is the refusal of a guard of Litestar, which it
makes a close of, and Channels' DenyConnection. A response of the app's own is a denial response (R53-R56): made by
hand, by the HTTPException of Starlette and FastAPI or by Quart's abort(), or streamed.
"""


@of()
@everywhere
async def test_refused(framework: str, way: str) -> None:
    """What a client gets instead of the handshake."""
    async with site_of(framework, way) as (site, _):
        for route, (status, body) in REFUSED[framework].items():
            response = await refusal(site, route)
            assert (route, response.status_code) == (route, status)
            assert response.body is not None
            assert body.encode() in response.body
            if status == 401 and body == TICKET:
                assert response.headers.get_all("www-authenticate") == ["Ticket"]


# ------------------------------------------------------------------------------------------------ the end


@of()
@everywhere
async def test_closed_by_the_app(framework: str, way: str) -> None:
    """The app's code and reason reach the client (R37-R39)."""
    async with site_of(framework, way) as (site, _), site.connect("close") as client:
        assert await end_of(client) == (4001, "enough")


@everywhere
async def test_quart_accepts_by_itself(way: str) -> None:
    """A send() accepts if nothing else has."""
    async with site_of("quart", way) as (site, _), site.connect("going-away") as client:
        assert await client.recv() == "accepted by itself"
        assert await end_of(client) == (1001, "")


def told(framework: str, code: int, reason: str) -> object:
    """What a handler of this framework is told of a disconnect."""
    match framework:
        case "starlette" | "fastapi":
            return code, reason
        case "quart":  # cancels the handler, and says no more
            return "cancelled"
    return code


@of()
@everywhere
async def test_closed_by_the_client(framework: str, way: str) -> None:
    """The client's code and reason reach the app (R28, R30, R31)."""
    async with site_of(framework, way) as (site, seen):
        async with site.connect("closed") as client:
            await client.close(4002, "bye")
        assert await seen.get() == told(framework, 4002, "bye")


@of()
@everywhere
async def test_client_vanishes(framework: str, way: str) -> None:
    """An RST ends the handler with 1006 (C13), and is nobody's error."""
    async with site_of(framework, way) as (site, seen), site.connect("closed") as client:
        vanish(client.transport)
        assert await seen.get() == told(framework, 1006, "")


@of()
@everywhere
async def test_shutdown(framework: str, way: str) -> None:
    """A server that shuts down says 1012 to both sides (C32), and waits for the handler."""
    async with site_of(framework, way) as (site, seen), site.connect("closed") as client:
        ending = asyncio.create_task(site.shutdown())
        assert (await end_of(client))[0] == 1012
        await ending
        assert seen.get_nowait() == told(framework, 1012, "")


# ------------------------------------------------------------------------------------------------ errors


LATE = {
    "starlette": 1006,  # the code of the WebSocketDisconnect that it makes of any OSError
    "fastapi": 1006,
    "litestar": 1000,  # does not ask the server: it raises a WebSocketDisconnect with this default by itself,
    # and then its middleware sends a close, which is what the server refuses
    "quart": "refused",
    "channels": "OSError",
}


@of()
@everywhere
async def test_send_when_the_client_has_gone(framework: str, way: str) -> None:
    """It raises an OSError (R32), which may leave the app without being logged as an error (R35, C40)."""
    async with site_of(framework, way) as (site, seen):
        async with site.connect("late"):
            pass
        assert await seen.get() == LATE[framework]


@of("starlette", "litestar", "quart", "channels")
@everywhere
async def test_client_vanishes_from_a_flood(framework: str, way: str) -> None:
    """A send() that waits for a client that does not read raises when that has gone (C43), and again it is no error."""
    async with (
        site_of(framework, way) as (site, seen),
        site.connect("flood", compression=None, max_queue=1) as client,
    ):
        await client.recv()
        vanish(client.transport)
        assert await seen.get() == "refused"


@of("starlette", "fastapi", "litestar")
@everywhere
async def test_uncaught_disconnect(framework: str, way: str, logged: Callable[[], list[str]]) -> None:
    """A handler that lets the framework's own exception out after a disconnect that it was given.

    No send() was refused, so it is an exception of the app like any other (C40), as with other servers. Litestar makes
    a close of it, which is refused because the client has gone: that is quiet.
    """
    async with site_of(framework, way) as (site, _), site.connect("uncaught") as client:
        await client.close(1001, "away")
    assert len(logged()) == (0 if framework == "litestar" else 1)


CRASH: dict[str, tuple[int, int, list[str]]] = {
    "starlette": (500, 1011, ["boom"]),
    "fastapi": (500, 1011, ["boom"]),
    "channels": (500, 1011, ["boom"]),
    # closes with "4000 + the HTTP status", which is a 403 before the accept, and logs only if it is told to
    "litestar": (403, 4500, []),
    # logs it and makes a response of it: a denial response; once accepted, nobody can get that, and it closes as always
    "quart": (500, 1000, ["boom"]),
}
"""Status before the accept, close code after it, and what is logged."""


@of()
@everywhere
async def test_crash(framework: str, way: str, logged: Callable[[], list[str]]) -> None:
    """An exception in the handler is HTTP 500 (C5) or 1011 (C3) to the client, and logged once (R46)."""
    status, code, errors = CRASH[framework]
    async with site_of(framework, way) as (site, seen):
        assert (await refusal(site, "crash-early")).status_code == status
        assert logged() == errors
        async with site.connect("crash") as client:
            await client.send("boom")
            assert (await end_of(client))[0] == code
        if framework == "litestar":  # its hook for exceptions
            assert [await seen.get(), await seen.get()] == ["boom", "boom"]
    assert logged() == errors


# ------------------------------------------------------------------------------------------------ what only one can


@everywhere
async def test_channels_answers_from_the_background(way: str) -> None:
    """The connect is given once, however long the answer takes and however often receive() is called (R20, R21)."""
    async with site_of("channels", way) as (site, seen), site.connect("background") as client:
        assert await client.recv() == "from the background"
        await client.send("and back")
        assert await client.recv() == "and back"
        await client.close()
        given = [await seen.get() for _ in range(3)]
        assert given == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


@everywhere
async def test_channels_in_threads(way: str) -> None:
    """A synchronous consumer, which sends from a thread; and one that sends when the client has gone."""
    async with site_of("channels", way) as (site, seen):
        async with site.connect("sync") as client:
            for message in ("one", b"two"):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4002)
        assert await seen.get() == 4002
        async with site.connect("sync-late"):
            pass
        assert await seen.get() == "OSError"


@everywhere
async def test_litestar_stream(way: str) -> None:
    """It sends from one task while another waits for the disconnect, which cancels the stream."""
    async with site_of("litestar", way) as (site, seen), site.connect("stream") as client:
        assert [await client.recv(), await client.recv()] == ["one", "two"]
        await client.close()
        assert await seen.get() == "end of stream"


@everywhere
async def test_fastapi_dependency(way: str) -> None:
    """A dependency with an end is cleaned up at the disconnect; the query reaches the handler (R12)."""
    async with site_of("fastapi", way) as (site, seen), site.connect("dependency?ticket=7") as client:
        assert json.loads(await client.recv()) == ["hello from the dependency", 7]
        await client.close()
        assert await seen.get() == "cleaned up"


@of("quart", "channels")
@everywhere
async def test_root_path(framework: str, way: str) -> None:
    """The path in the scope begins with the root path (R10, R13).

    These two take it off before they look for the route, and find none if it is not there; the others are lenient.
    """
    async with site_of(framework, way, root_path="/api") as (site, _), site.connect("text") as client:
        await client.send("hello")
        assert await client.recv() == "hello"


@everywhere
async def test_lifespan_state(way: str) -> None:
    """What the app's lifespan yields is every connection's state (R18); it ends with the server."""
    async with site_of("starlette", way) as (site, seen):
        async with site.connect("state") as client:
            assert await client.recv() == "hello from the lifespan"
        assert seen.empty()
    assert seen.get_nowait() == "shut down"


# ------------------------------------------------------------------------------------------------ transports


@everywhere
async def test_tls(way: str) -> None:
    """The scheme in the scope is wss."""
    authority = trustme.CA()
    here, there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(here)
    authority.configure_trust(there)
    async with site_of("starlette", way, ssl=here) as (site, _), site.connect("scope", ssl=there) as client:
        scope = json.loads(await client.recv())
        assert scope == {"scheme": "wss", "server": ["127.0.0.1", site.port], "path": "/scope"}


@everywhere
async def test_unix_socket(way: str, tmp_path: Path) -> None:
    """The server in the scope is the socket's path (R16)."""
    path = str(tmp_path / "socket")
    async with site_of("starlette", way, path=path) as (site, _), site.connect("scope") as client:
        scope = json.loads(await client.recv())
        assert scope == {"scheme": "ws", "server": [path, None], "path": "/scope"}


# ------------------------------------------------------------------------------------------------ another loop


@of()
@functools.partial(everywhere, loop="uvloop")
async def test_uvloop(framework: str, way: str) -> None:
    """The main ways of a connection once more, on uvloop."""
    async with site_of(framework, way) as (site, seen):
        async with site.connect("text") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        assert await seen.get() == "end of messages"
        assert (await refusal(site, "reject")).status_code == 403
        async with site.connect("close") as client:
            assert await end_of(client) == (4001, "enough")
        async with site.connect("closed") as client:
            vanish(client.transport)
            assert await seen.get() == told(framework, 1006, "")
        async with site.connect("closed") as client:
            ending = asyncio.create_task(site.shutdown())
            assert (await end_of(client))[0] == 1012
            await ending
            assert seen.get_nowait() == told(framework, 1012, "")
