"""Every order of messages, legal or not, over each way in: what an app may send in which state.

A real connection is led into each place of the machine, by messages of the app, frames, ends of the transport, timers
and a shutdown. There the app sends every message, and both what happens to it and what the peer sees are held against
the machine's answer: what is refused or ignored changes nothing and never shows on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tests.live import spoken
from tests.ways import WAYS
from wslifecycle.conformance.cover import Record
from wslifecycle.conformance.wired import Wired
from wslifecycle.statemachine.cover import MESSAGES, Word, arrivals, places
from wslifecycle.statemachine.machine import lifecycle


def first(version: str, denial: bool) -> Wired:
    """Where a connection begins whose scope advertises this."""
    extensions = ["websocket.http.response"] if denial else []
    return Wired.first(lifecycle(), spec_version=version, extensions=extensions)


def plans(place: Wired) -> Iterator[Word]:
    """What to send in a place so that each message is sent there: what moves nothing, and then one that moves."""
    still = [event for event in MESSAGES if not place.consult(event).moves]
    movers = [event for event in MESSAGES if event not in still]
    yield (*place.word, *still, *movers[:1])
    yield from ((*place.word, mover) for mover in movers[1:])


def tried(way: str, start: Wired, words: Iterable[Word]) -> Record:
    """What is tried by these words, none of which may be answered otherwise than the machine says."""
    record = spoken(way, start, words)
    assert not record.differences, "\n".join(record.differences)
    return record


version = pytest.mark.parametrize("version", ["2.5", "2.0"])
denial = pytest.mark.parametrize("denial", [True, False], ids=["denial", "no denial"])


class TestEveryMessageInEveryState:
    @version
    @denial
    def test_the_walk_reaches_every_state_with_every_fact(self, version: str, denial: bool) -> None:
        found = places(first(version, denial))
        states = set(lifecycle().states)
        unadvertised = {state for state in states if state.startswith("den")} if not denial else set()
        assert {place.state for place in found} == states - unadvertised
        unread = {place.state for place in found if "unread" in place.facts}
        assert unread >= {state for state in states if state.startswith("closing/disconnect_due/")}

    @pytest.mark.parametrize("way", WAYS)
    @version
    @denial
    def test_is_answered_as_the_machine_says(self, way: str, version: str, denial: bool) -> None:
        found = places(start := first(version, denial))
        record = tried(way, start, [word for place in found for word in plans(place)])
        assert record.exercised >= {(place.state, place.facts, event) for place in found for event in MESSAGES}

    @pytest.mark.parametrize("way", WAYS)
    def test_is_answered_alike_however_the_state_was_reached(self, way: str) -> None:
        """All steps that lead from one place to another, not only those of a shortest way."""
        reached = arrivals(start := first("2.5", denial=True))
        record = tried(way, start, [next(plans(place)) for place in reached])
        assert record.conversations == len(reached) > 200
