"""The protocol that a transport is given: reads the handshake request, then hands everything to a `Session`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, MutableSet
from typing import Any, cast

from wslifecycle.runtime.handshake import Handshake, Refusal, Request
from wslifecycle.runtime.session import Service, Session, end_writing

LINGER = 2.0
"""Seconds for which a refused peer is still read from, in vain: to close at once would reset it before it has read."""

READ = 262144
"""Bytes that are read from a transport at once, at most."""


class _Thread(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ))


_thread = _Thread()


class Acceptor(asyncio.Protocol, asyncio.BufferedProtocol):
    """One connection. It is in `connections` as long as its transport is there.

    It is both kinds of a protocol. asyncio reads into the buffer of one that has its own; for the others it makes one
    of 256 KiB with each read, which can take a fifth of all time. uvloop has one, and hands out what has come. Since
    bytes are taken out of a buffer as soon as they have come, all connections of a thread share one.

    Once the service stops it gets no further: a connection is accepted some turns of the loop, or under TLS a whole
    handshake, before a protocol hears of it.
    """

    __slots__ = ("_buffer", "_connections", "_http", "_read", "_service", "_session", "_timer", "_transport", "gone")

    def __init__(self, service: Service, connections: MutableSet[Any]) -> None:
        self.gone = asyncio.get_running_loop().create_future()
        """Done when the transport is."""
        self._buffer = _thread.buffer
        self._connections = connections
        self._http = Handshake(service.options.origins)
        self._read: Callable[[bytes], None] = self._read_request
        self._service = service
        self._session: Session | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected; its request has to be complete in time."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._connections.add(self)
        seconds = self._service.options.request_timeout
        if self._service.stop.is_set():
            self.shutdown()
        elif seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._too_late)

    def data_received(self, data: bytes) -> None:
        """Bytes of the request, or of what follows it."""
        self._read(data)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport may put the next bytes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come."""
        self._read(bytes(self._buffer[:nbytes]))

    def _read_request(self, data: bytes) -> None:
        match self._http.feed(data):
            case Refusal(status, why, answer):
                self._refuse(status, why, answer)
            case Request() as request:
                self._stop_waiting()
                self._session = Session(self._transport, self._http, request, self._service)
                self._read = self._session.data_received
                self._session.start(request)

    def _too_late(self) -> None:
        why = "The request was not complete in time."
        self._refuse(408, why, self._http.respond(408, (), b""))

    def _refuse(self, status: int, why: str, answer: bytes) -> None:
        self._stop_waiting()
        self._read = lambda data: None
        if (counters := self._service.options.counters) is not None:
            counters.answers(status)
        self._service.logger.info("Request refused with %d: %s", status, why, extra={"status": status})
        try:
            self._transport.write(answer)
            if self._transport.can_write_eof():
                end_writing(self._transport)
                self._timer = asyncio.get_running_loop().call_later(LINGER, self._transport.close)
            else:
                self._transport.close()
        except Exception:
            self._transport.abort()
            raise

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def shutdown(self) -> None:
        """The server shuts down: a connection is closed as C32 says, one without a complete request at once."""
        self._stop_waiting()
        if self._session is None:
            self._read = lambda data: None
            self._transport.close()
        else:
            self._session.shutdown()

    def abort(self) -> None:
        """Drops the transport at once."""
        self._transport.abort()

    def eof_received(self) -> None:
        """The peer ended its side."""
        if self._session is not None:
            self._session.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._stop_waiting()
        self._connections.discard(self)
        self.gone.set_result(None)
        if self._session is not None:
            self._session.connection_lost(exc)

    def pause_writing(self) -> None:
        """The transport's buffer is over its high-water mark."""
        if self._session is not None:
            self._session.pause_writing()

    def resume_writing(self) -> None:
        """It is below again."""
        if self._session is not None:
            self._session.resume_writing()
