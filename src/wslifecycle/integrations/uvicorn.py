"""Our runtime inside Uvicorn: `uvicorn APP --ws wslifecycle.integrations.uvicorn:LifecycleProtocol`.

Uvicorn makes one protocol for each upgrade request, tells it `connection_made`, hands it the request's head, written
anew, as its first bytes, and then makes it the transport's protocol. Bytes that came in one piece with the head do not
reach it. Everything else is as with `wslifecycle.runtime.start_server`.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import MutableMapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.handshake import addable
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.server import ServerState


class LifecycleProtocol(Acceptor):
    """What Uvicorn's `ws=` and `--ws` take.

    Uvicorn's own settings are honoured: `ws_max_size`, `ws_max_queue`, `ws_ping_interval`, `ws_ping_timeout`,
    `ws_per_message_deflate`, `root_path`, the default headers and the lifespan's state. A subclass may set other
    `options` for what Uvicorn has no setting for.
    """

    options: ClassVar[Options] = Options()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: MutableMapping[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        anew = getattr(config, "reset_contextvars", False)  # which older releases do not have
        service = Service(
            app=config.loaded_app,
            options=_settled(self.options, config),
            state=app_state,
            headers=_addable(tuple(server_state.default_headers)),
            root_path=config.root_path,
            asgi_version=config.asgi_version,
            tasks=server_state.tasks,
            logger=logging.getLogger("uvicorn.error"),
            context=contextvars.Context if anew else lambda: None,
        )
        super().__init__(service, server_state.connections)

    def _read_request(self, data: bytes) -> None:
        """Uvicorn writes HTTP/1.1 into the head, whichever version it had: its own protocol knows (W1)."""
        asked = getattr(self._transport.get_protocol(), "scope", None) or {}
        version = str(asked.get("http_version", "1.1")).encode()
        super()._read_request(data.replace(b" HTTP/1.1\r\n", b" HTTP/" + version + b"\r\n", 1))


_SETTLED: WeakKeyDictionary[Config, tuple[Options, Options]] = WeakKeyDictionary()
"""The options that were made of a config and of those of a protocol, for all of its connections."""


def _settled(options: Options, config: Config) -> Options:
    """These options, with Uvicorn's own settings."""
    made = _SETTLED.get(config)
    if made is None or made[0] is not options:
        interval, timeout = config.ws_ping_interval, config.ws_ping_timeout
        settled = replace(
            options,
            max_size=max(config.ws_max_size, 0),
            max_queue=max(config.ws_max_queue, 1),  # without any, nothing could ever be read
            ping_interval=interval if interval and interval > 0 else None,
            ping_timeout=timeout if timeout and timeout > 0 else None,
            per_message_deflate=config.ws_per_message_deflate,
        )
        made = _SETTLED[config] = options, settled
    return made[1]


@lru_cache(maxsize=4)  # they change once a second, with the date
def _addable(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """Those of Uvicorn's default headers that can be added; it takes any."""
    return tuple(field for field in headers if addable(*field))
