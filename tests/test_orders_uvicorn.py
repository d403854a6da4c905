"""Uvicorn's WebSocket protocols are driven in process in any order, and what was seen of them can be seen again.

A finding is a program of a few acts. `SEEN` names the releases for which each of them was run and the finding was seen:
with these it has to be seen again. With any other release the program has only to run, since that release may do
better, and a test of ours is no place to say whether it does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.config import WS_PROTOCOLS

from wslifecycle.conformance.orders.exchange import Exchange
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.survey import repeat, search, survey
from wslifecycle.conformance.orders.uvicorn import Front, advertised, make, served
from wslifecycle.conformance.orders.watched import Broken, Finding
from wslifecycle.conformance.orders.witness import Witness
from wslifecycle.integrations.uvicorn import LifecycleProtocol

SEEN = ("0.54.0",)
"""Releases of Uvicorn that every program here was run with."""

NAMED = {"one_disconnect", "late_is_no_violation"}
OTHERS = {
    "can_be_read",
    "disconnect_only_at_the_end",
    "in_call_order",
    "late_is_no_violation: after its own end",
    "no_error_escapes",
    "reply_before_message",
}
"""Names of findings that do not count where the fuzzer has to find one of those that do."""

BOTH = tuple(name for name in ("wsproto", "websockets-sansio") if name in WS_PROTOCOLS)  # older releases have one
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 3000}
TEXT = {"type": "websocket.send", "text": "hi"}
START = {"type": "websocket.http.response.start", "status": 418, "headers": []}

Program = Callable[[Exchange], None]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Uvicorn logs what an app raises."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def seen(implementation: Any, program: Program, **settings: Any) -> Finding | None:
    """What a program finds in an implementation, in the stock order of the loop."""
    version, extensions = advertised(implementation)
    loop = ScheduledLoop()
    x = Exchange(loop, make(implementation), Witness(spec_version=version, extensions=extensions), **settings)
    try:
        program(x)
    except Broken as broken:
        return broken.finding
    finally:
        loop.dispose()
    return None


def opens(x: Exchange) -> None:
    """The app takes websocket.connect and accepts."""
    x.idle()
    x.ask()
    x.idle()
    x.send(ACCEPT)
    x.idle()


def told_twice(x: Exchange) -> None:
    """The app closes, and then the connection is lost; it asks twice."""
    opens(x)
    x.send(CLOSE)
    x.idle()
    x.ask()
    x.idle()
    x.peer_resets()
    x.idle()
    x.ask()
    x.idle()


def accepted_too_late(x: Exchange) -> None:
    """The server shuts down with HTTP 500, which the peer does not read, and the app goes on and is let go on."""
    x.idle()
    x.ask()
    x.idle()
    x.shut_down()
    x.idle()
    x.send(ACCEPT)
    x.send(TEXT)
    x.idle()


def silent_peer(x: Exchange) -> None:
    """A Ping is not answered; the peer does not read the Close either, and the app closes."""
    opens(x)
    x.peer_reads()
    x.time(45)
    x.send(CLOSE)
    x.idle()


def shutdown_after_close(x: Exchange) -> None:
    """The server shuts down when the peer has closed and does not read the answer."""
    opens(x)
    x.peer_closes(1000)
    x.idle()
    x.shut_down()
    x.idle()


def shutdown_in_denial(x: Exchange) -> None:
    """The server shuts down when the app has started a denial response."""
    x.idle()
    x.ask()
    x.idle()
    x.send(START)
    x.idle()
    x.shut_down()
    x.idle()


def early_message(x: Exchange) -> None:
    """The peer does not wait for the answer to its handshake, and sends a message."""
    x.idle()
    x.ask()
    x.idle()
    x.ask()
    x.peer_sends("hi")
    x.idle()


def early_ping(x: Exchange) -> None:
    """The peer does not wait for the answer to its handshake, and sends a Ping."""
    x.idle()
    x.peer_pings()
    x.idle()
    x.send(ACCEPT)
    x.idle()


def early_fault(x: Exchange) -> None:
    """The peer does not wait for the answer to its handshake, and sends a frame that no peer may send."""
    x.idle()
    x.peer_violates("bad_utf8")
    x.idle()


EVERY: tuple[tuple[str, Program, int, str, str, str], ...] = (
    # implementation, program, room, name, rule, level
    ("wsproto", told_twice, 65536, "one_disconnect", "R28", "must"),
    ("websockets-sansio", told_twice, 65536, "one_disconnect", "R28", "must"),
    ("wsproto", accepted_too_late, 1, "late_is_no_violation", "R32", "should"),
    ("websockets-sansio", accepted_too_late, 1, "late_is_no_violation", "R32", "should"),
    ("wsproto", silent_peer, 1, "late_is_no_violation", "R32", "should"),
    ("websockets-sansio", silent_peer, 1, "late_is_no_violation", "R32", "should"),
    ("wsproto", shutdown_after_close, 1, "no_error_escapes", "", "must"),
    ("websockets-sansio", shutdown_after_close, 1, "no_error_escapes", "", "must"),
    ("wsproto", shutdown_in_denial, 65536, "no_error_escapes", "", "must"),
    ("websockets-sansio", early_message, 65536, "reply_before_message", "R20", "must"),
    ("websockets-sansio", early_ping, 65536, "can_be_read", "W13", "must"),
    ("websockets-sansio", early_fault, 65536, "no_error_escapes", "", "must"),
)
FINDINGS = [finding for finding in EVERY if finding[0] in BOTH]


@pytest.mark.parametrize(
    ("implementation", "program", "room", "name", "rule", "level"),
    FINDINGS,
    ids=[f"{implementation}-{program.__name__}" for implementation, program, *_ in FINDINGS],
)
def test_what_was_seen_is_seen_again(
    implementation: str, program: Program, room: int, name: str, rule: str, level: str
) -> None:
    """With a release of SEEN the program finds it; with another one it only has to run."""
    finding = seen(implementation, program, room=room)
    if uvicorn.__version__ in SEEN:
        assert finding is not None, f"{program.__doc__} Uvicorn {uvicorn.__version__} is in SEEN, and nothing was seen."
        assert (finding.name, finding.rule, finding.level) == (name, rule, level)


@pytest.mark.parametrize("program", list(dict.fromkeys(finding[1] for finding in FINDINGS)))
def test_our_protocol_in_uvicorn_shows_none_of_it(program: Program) -> None:
    """The same programs find nothing in `LifecycleProtocol`."""
    assert seen(LifecycleProtocol, program, room=1) is None
    assert seen(LifecycleProtocol, program, room=65536) is None


def test_the_fuzzer_finds_nothing_in_our_protocol_in_uvicorn() -> None:
    """Served by Uvicorn, in the stock order and in others, with what the settings of Uvicorn are by default."""
    assert search(served(LifecycleProtocol), 60, 20, (), 0) is None


@pytest.mark.parametrize("implementation", BOTH)
@pytest.mark.parametrize("name", ["one_disconnect", "late_is_no_violation"])
def test_the_fuzzer_finds_it_by_itself(implementation: str, name: str) -> None:
    """That an app is told of two ends, and that a late send() raises no OSError; what it did finds that again."""
    found = search(served(implementation), 1000, 25, OTHERS | NAMED - {name}, 0, shrinks=False)
    if uvicorn.__version__ in SEEN:
        assert found is not None
        assert found.finding.name == name
    if found is not None:
        assert repeat(found) == repeat(found) == found.finding
        assert str(found).startswith(str(found.finding))


def test_a_survey_ends_when_nothing_new_is_found() -> None:
    """Each finding counts once."""
    assert survey(served(LifecycleProtocol), 5) == []


def test_a_survey_goes_on_behind_what_it_found() -> None:
    """Findings are kept apart, each can be had again, and the same survey finds the same."""
    every, again = (survey(served(BOTH[-1]), 15, steps=10, shrinks=False) for _ in range(2))
    keys = [found.finding.key for found in every]
    assert keys == [found.finding.key for found in again]
    assert len(set(keys)) == len(keys)
    assert [repeat(found) for found in every] == [found.finding for found in every]
    if uvicorn.__version__ in SEEN:
        assert len(keys) > 1


class TestShutdown:
    """Uvicorn's server shuts down the protocols that it still has, once."""

    def test_is_told_to_the_protocol_that_has_the_connection(self) -> None:
        """That which the HTTP protocol has handed the connection to, and as a callback of the loop."""
        x = Exchange(ScheduledLoop(), make("wsproto"), Witness(spec_version="2.4"))
        opens(x)
        assert isinstance(x.protocol, Front)
        assert x.protocol.can_shut_down
        x.shut_down()
        assert not x.witness.close_sent
        assert not x.protocol.can_shut_down
        x.idle()
        assert x.witness.close_sent
        x.loop.dispose()

    def test_is_told_to_nobody_when_the_connection_is_gone(self) -> None:
        """Then it is in `ServerState.connections` no more."""
        x = Exchange(ScheduledLoop(), make("wsproto"), Witness(spec_version="2.4"))
        opens(x)
        x.peer_resets()
        x.idle()
        assert isinstance(x.protocol, Front)
        assert not x.protocol.can_shut_down
        x.loop.dispose()
