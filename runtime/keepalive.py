"""Sends Pings and waits for their Pongs (R1, C33). A resource: it says when a peer is silent, and decides nothing.

One timer runs from `start` to `stop`: to the next Ping, or, while a Ping is not answered, to the end of patience. While
the session has paused reading, the Pong may be waiting with us, unread: then there is no end of patience, Pings go on,
and with the end of the pause patience begins anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable


class Keepalive:
    """`send` is called with the payload of each Ping, `expired` once when one was not answered within `timeout` s."""

    __slots__ = ("_expired", "_interval", "_patience", "_payload", "_send", "_timeout", "_timer")

    def __init__(self, send: Callable[[bytes], None], expired: Callable[[], None], timeout: float | None) -> None:
        self._send = send
        self._expired = expired
        self._interval = 0.0
        self._timeout = timeout
        self._patience = timeout  # None while a Pong may take any time
        self._payload: bytes | None = None  # of the last Ping, while it is not answered
        self._timer: asyncio.TimerHandle | None = None

    def start(self, interval: float) -> None:
        """From now on there is a Ping every `interval` seconds."""
        self._interval = interval
        self._arm()

    def stop(self) -> None:
        """No more Pings, and no Pong matters any more."""
        self._cancel()
        self._payload = None

    def ponged(self, payload: bytes) -> None:
        """A Pong came. One that does not answer the last Ping is ignored (RFC 6455 section 5.5.3)."""
        if payload == self._payload:
            self._payload = None
            self._arm()

    def pause(self) -> None:
        """Reading is paused."""
        self._be_patient(None)

    def resume(self) -> None:
        """Reading goes on."""
        self._be_patient(self._timeout)

    def let_go(self) -> None:
        """No more Pings, and nobody to tell: the transport is gone, and a cycle of references with it."""
        self.stop()
        self._send = lambda payload: None
        self._expired = lambda: None

    def _be_patient(self, seconds: float | None) -> None:
        if seconds == self._patience:
            return
        self._patience = seconds
        if self._payload is not None:
            self._arm()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._cancel()
        loop = asyncio.get_running_loop()
        if self._payload is not None and self._patience is not None:
            self._timer = loop.call_later(self._patience, self._run_out)
        else:
            self._timer = loop.call_later(self._interval, self._ping)

    def _ping(self) -> None:
        self._payload = secrets.token_bytes(4)
        self._arm()
        self._send(self._payload)

    def _run_out(self) -> None:
        self.stop()  # a Pong that comes late must not begin anew
        self._expired()
