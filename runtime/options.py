"""What the connections of a server are made with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from wslifecycle.runtime.counters import Counters
from wslifecycle.runtime.handshake import Origins
from wslifecycle.statemachine.connection import Connection, Settings
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle, lifecycle

if TYPE_CHECKING:
    from wslifecycle.runtime.session import Session


CodecName: TypeAlias = Literal["auto", "python", "wsproto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Every setting has a default; None means what the profile says, unless something else is said.

    `machine`: another profile than the reference. `spec_version`, `extensions`: what the scope advertises (C35; all
    that the spec knows). `max_size`: bytes of a message before it is too large (C34). `max_queue`: unread messages
    before reading pauses (C31). `ping_interval`, `ping_timeout`: seconds between Pings and for their Pongs; None: no
    Pings, no deadline (C33). `per_message_deflate`: whether compression is agreed to (W12). `close_timeout`: seconds
    for the peer to end a closing connection (C48). `handshake_timeout`: seconds for the app to answer (C49).
    `request_timeout`: seconds for the request to be complete; None: any time. `observe` sees every answer of a machine,
    `on_session` every new session, and `counters` counts what all of them do.

    `origins`: which values of the Origin field are allowed, against pages of others that act in the name of their
    visitors; every other handshake is refused with 403 (RFC 6455 sections 4.2.2, step 4, and 10.2). A str has to be the
    whole value as browsers write it, as in "https://example.com" or "http://localhost:8000", a compiled pattern has to
    match the whole value, and None allows requests that have none, as from clients that are no browsers. Without
    `origins` nothing is checked.

    `codec`: "wsproto" reads every frame with wsproto, "python" reads plain ones by ourselves, and "auto" does that with
    the help of the extra `speedups`, where it is installed. What comes of the frames is the same.

    Raises `ValueError` for a number that is not positive and for an unknown codec, `TypeError` for extensions that are
    no collection and for origins that are none, or hold something else.
    """

    machine: Lifecycle | None = None
    spec_version: str | None = None
    extensions: Iterable[str] | None = None
    max_size: int | None = None
    max_queue: int | None = None
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    per_message_deflate: bool = True
    origins: Origins | None = None
    close_timeout: float | None = None
    handshake_timeout: float | None = None
    request_timeout: float | None = 10.0
    observe: Callable[[Answer], None] | None = None
    on_session: Callable[[Session], None] | None = None
    counters: Counters | None = None
    codec: CodecName = "auto"
    _settings: Settings | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.extensions, str):
            raise TypeError("extensions is a collection of str, not one str.")
        if self.extensions is not None:
            object.__setattr__(self, "extensions", tuple(self.extensions))  # an iterator serves one connection only
        if self.origins is not None:
            object.__setattr__(self, "origins", _checked(self.origins))
        if self.codec not in get_args(CodecName):
            raise ValueError(f"codec has to be one of {', '.join(get_args(CodecName))}; it is {self.codec!r}.")
        if self.max_size is not None and not self.max_size >= 0:
            raise ValueError(f"max_size has to be at least 0, or None; it is {self.max_size!r}.")
        for name in (
            "max_queue",
            "ping_interval",
            "ping_timeout",
            "close_timeout",
            "handshake_timeout",
            "request_timeout",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} has to be more than 0, or None; it is {value!r}.")

    @property
    def lifecycle(self) -> Lifecycle:
        """The machine of every connection."""
        return self.machine or lifecycle()

    def connection(self, subprotocols: Iterable[str], observe: Callable[[Answer], None] | None = None) -> Connection:
        """A new connection, of which `observe` is told, too."""
        watching = _each([self.observe, None if self.counters is None else self.counters.observe, observe])
        return Connection(subprotocols=subprotocols, observe=watching, settings=self._shared())

    def _shared(self) -> Settings:
        """What all connections have in common, made once."""
        if self._settings is None:
            own = {"close_timeout": self.close_timeout, "handshake_timeout": self.handshake_timeout}
            bounds = self.lifecycle.flat.value("C31", "messages"), self.lifecycle.flat.value("C31", "bytes")
            made = Settings(
                spec_version=self.spec_version,
                extensions=self.scope_extensions(),
                timeouts={"keepalive": self.ping_interval, **{name: s for name, s in own.items() if s is not None}},
                unread=(self.max_queue or bounds[0], bounds[1]),
                machine=self.machine,
            )
            object.__setattr__(self, "_settings", made)
            return made
        return self._settings

    def scope_extensions(self) -> dict[str, dict[str, object]]:
        """The `extensions` of a new scope: an empty dict for each (R19)."""
        known = [fact.extension for fact in self.lifecycle.flat.facts if fact.extension is not None]
        return {name: {} for name in (known if self.extensions is None else self.extensions)}


def _each(observers: Iterable[Callable[[Answer], None] | None]) -> Callable[[Answer], None] | None:
    """One observer that stands for all that are there; None for none."""
    there = [observer for observer in observers if observer is not None]
    if len(there) < 2:
        return there[0] if there else None

    def observe(answer: Answer) -> None:
        for observer in there:
            observer(answer)

    return observe


def _checked(origins: Origins) -> tuple[str | re.Pattern[str] | None, ...]:
    if isinstance(origins, str):
        raise TypeError("origins is a collection of str, patterns and None, not one str.")
    kept = tuple(origins)
    for origin in kept:
        pattern = origin.pattern if isinstance(origin, re.Pattern) else origin
        if not isinstance(pattern, str | None):
            raise TypeError(f"Each of origins has to be a str, a compiled pattern of str, or None; one is {origin!r}.")
    return kept
