"""The covers of the machine over real sockets, in each way in, with both sides held against the machine.

In every place of the machine everything happens that can be brought about there over a socket: what is obeyed, what is
ignored and what is refused; and behind a shortest way to each place come the words that tell places apart. What cannot
be brought about is counted by itself, with the reason (`Wired.why_not`):

- frames and the end of the peer in `closed`: a transport that ends is not read any more. (What was read while reading
  was paused may still be told there, if two ends come in one turn of the loop. No test relies on that.)
- the loss of the transport in `closed`, except right behind what ended it, which is tried in each place of `closed`;
- frames behind the peer's own Close or fault, which the codec does not decode: in `failing` they are tried where a
  missed Pong led there, so not where the app had closed before;
- a `send()` that waits before anything was written, or longer than to the beginning of the end.

Timers run out by hand and a transport is full by hand: real clocks and buffers have their tests in test_session.py.
Where `WSLIFECYCLE_COVER` names a directory, a record of each way is written there, for `wslifecycle cover --from`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.live import spoken
from tests.ways import WAYS
from wslifecycle.conformance.cover import Record, starts
from wslifecycle.conformance.wired import Wired, beyond
from wslifecycle.runtime.session import Session
from wslifecycle.runtime.wire import Wire
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.connection import Connection
from wslifecycle.statemachine.cover import (
    Place,
    Word,
    alike,
    distinguishing_set,
    identified,
    places,
    reachable,
    refused_cover,
    transition_cover,
)
from wslifecycle.statemachine.errors import Disconnected
from wslifecycle.statemachine.machine import build, lifecycle

STARTS = starts(lifecycle(), Wired)
WAY = next(iter(WAYS))

of_each_scope = pytest.mark.parametrize("start", STARTS, ids=lambda start: "+".join(start.facts) or "no facts")


@pytest.fixture(scope="module")
def records() -> Iterator[dict[str, Record]]:
    """What each way has tried; written at the end, if it is wanted."""
    found = {way: Record(way, "reference") for way in WAYS}
    yield found
    directory = os.environ.get("WSLIFECYCLE_COVER")
    if directory:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for way, record in found.items():
            Path(directory, f"{way}.json").write_text(record.dump(), encoding="utf-8")


@cache
def telling(start: Wired) -> list[Word]:
    """The words that tell apart what can be told apart over a socket."""
    return distinguishing_set(places(start))


@pytest.mark.parametrize("way", WAYS)
@of_each_scope
def test_everything_that_can_happen_over_a_socket_happens_as_the_machine_says(
    way: str, start: Wired, records: dict[str, Record]
) -> None:
    words = [*transition_cover(start), *refused_cover(start), *identified(places(start), telling(start))]
    record = spoken(way, start, words)
    record.beyond = beyond(start)
    records[way].add(record)
    assert record.differences == []
    assert record.conversations == len(words)
    assert not record.exercised & record.beyond.keys()
    model = Place.first(lifecycle(), spec_version=start.spec_version, extensions=start.extensions)
    assert record.exercised | record.beyond.keys() == reachable(model)


BEYOND = {
    "closed": "nothing of the peer is read once the transport has ended",
    "failing": "nothing is decoded behind the peer's Close or its fault",
    "handshake": "no send() waits before something was written",
    "denial_held": "no send() waits before something was written",
}


@of_each_scope
def test_what_is_beyond_a_socket_is_the_peer_after_the_end_and_a_send_that_cannot_wait(start: Wired) -> None:
    for (state, _, event), why in beyond(start).items():
        wire = state.partition("/")[0]
        if event == "app_waited" and wire in ("closing", "failing", "closed"):
            assert why == "no send() waits any longer than to the beginning of the end"
        else:
            assert why == BEYOND[wire]
            assert event == "app_waited" or event.startswith("peer_")


@of_each_scope
def test_the_words_tell_apart_what_both_sides_can_see(start: Wired) -> None:
    """A peer that has seen the end cannot see it twice, nobody sees that an app may not end twice, and a repeat of the
    disconnect is told from the first one by its pace alone. All else is told apart by what happens.
    """
    app = {"running", "done"} if "raising" in start.facts else {"running", "left", "done"}
    same = [{"failing", "closed"}, {"disconnect_due", "ended"}, app]
    for pair in alike(places(start), telling(start)):
        assert pair[0].facts == pair[1].facts
        for one, other, group in zip(pair[0].state.split("/"), pair[1].state.split("/"), same, strict=True):
            assert one == other or {one, other} <= group, pair


# ------------------------------------------------------------------------------------------------ they can fail


def without_close(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Wire.encode
    monkeypatch.setattr(
        Wire, "encode", lambda wire, effect: b"" if isinstance(effect, fx.SendClose) else encode(wire, effect)
    )


def deaf_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "eof_received", lambda session: None)


def deaf_to_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "peer_lost", lambda connection: ())


def without_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Session.send

    async def swallowing(session: Session, message: Any) -> None:
        with contextlib.suppress(Disconnected):
            await send(session, message)

    monkeypatch.setattr(Session, "send", swallowing)


def with_another_code(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = Session.receive

    async def changed(session: Session) -> Any:
        message = dict(await receive(session))
        return message | {"code": 1000} if "code" in message else message

    monkeypatch.setattr(Session, "receive", changed)


def told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def shutdown(session: Session) -> None:
        session.happened(session._connection.shutdown())
        session.happened(session._connection.shutdown())

    monkeypatch.setattr(Session, "shutdown", shutdown)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (without_close, "the peer saw "),
        (deaf_to_the_end, "the machine was told "),
        (deaf_to_the_loss, "the transport was not lost"),
        (without_disconnected, "refusal None, not <Kind.DISCONNECTED"),
        (with_another_code, "given {'type': 'websocket.disconnect', 'code': 1000"),
        (told_twice, "the machine was told "),
    ],
)
def test_a_fault_in_the_runtime_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.hands.PATIENCE", 0.2)
    plant(monkeypatch)
    record = spoken(WAY, STARTS[0], [*transition_cover(STARTS[0]), *refused_cover(STARTS[0])])
    assert record.differences
    assert says in record.differences[0]


def test_another_machine_behind_the_socket_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = lifecycle().spec
    another = build(spec, spec.reference | {"C42": "unanswered"}, "another")
    monkeypatch.setattr("tests.hands.PATIENCE", 0.2)
    record = spoken(WAY, STARTS[0], transition_cover(STARTS[0]), machine=another)
    assert "peer_ping in closing/" in record.differences[0]
