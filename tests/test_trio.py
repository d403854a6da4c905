"""The core is not tied to asyncio: a driver on trio, and a client of the websockets library in a thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.trio_driver import serve
from wslifecycle import ApplicationViolation, Disconnected


def talk(app: Callable[..., Any], client: Callable[[str], None]) -> None:
    """Serves `app` on trio while `client(url)` runs in a thread."""

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                (listener,) = await nursery.start(
                    functools.partial(trio.serve_tcp, lambda stream: serve(stream, app), 0, host="127.0.0.1")
                )
                port = listener.socket.getsockname()[1]
                await trio.to_thread.run_sync(client, f"ws://127.0.0.1:{port}/")
                nursery.cancel_scope.cancel()

    trio.run(main)


def opened(url: str, subprotocols: tuple[Subprotocol, ...] = ()) -> ClientConnection:
    return connect(url, proxy=None, open_timeout=5, close_timeout=5, subprotocols=subprotocols or None)


class TestOnTrio:
    def test_messages_go_both_ways_and_the_peers_close_is_told(self) -> None:
        told: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            told.append(await receive())
            await send({"type": "websocket.accept", "subprotocol": "chat"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})
            told.append(message)
            with pytest.raises(Disconnected):
                await send({"type": "websocket.send", "text": "too late"})

        def client(url: str) -> None:
            with opened(url, (Subprotocol("chat"),)) as peer:
                assert peer.subprotocol == "chat"
                for data in ("grüß dich", b"\x00\xff", ""):
                    peer.send(data)
                    assert peer.recv(timeout=5) == data
                assert peer.ping("a").wait(5)
                peer.close(3000, "bye")

        talk(app, client)
        assert told == [
            {"type": "websocket.connect"},
            {"type": "websocket.disconnect", "code": 3000, "reason": "bye"},
        ]

    def test_a_close_before_the_accept_is_403(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            with pytest.raises(ApplicationViolation):
                await send({"type": "websocket.send", "text": "too early"})
            await send({"type": "websocket.close"})

        def client(url: str) -> None:
            with pytest.raises(InvalidStatus, match="403"):
                opened(url)

        talk(app, client)

    def test_what_the_app_leaves_open_is_closed(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            raise ValueError("a fault of the app")

        def client(url: str) -> None:
            with opened(url) as peer, pytest.raises(ConnectionClosed, match="1011"):
                peer.recv(timeout=5)

        talk(app, client)

    def test_several_receive_calls_wait_while_another_task_accepts(self) -> None:
        """The pattern of Granian's issue 591: the main loop receives, a task answers."""
        given: list[Any] = []

        async def answer(send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "welcome"})

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async with trio.open_nursery() as nursery:
                while (message := await receive())["type"] != "websocket.disconnect":
                    given.append(message["type"])
                    if message["type"] == "websocket.connect":
                        nursery.start_soon(answer, send)

        def client(url: str) -> None:
            with opened(url) as peer:
                assert peer.recv(timeout=5) == "welcome"
                peer.send("thanks")

        talk(app, client)
        assert given == ["websocket.connect", "websocket.receive"]
