"""Pings and their Pongs. The loop is a stand-in with a clock that the tests move, so that nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wslifecycle.runtime.keepalive import Keepalive


@dataclass
class Handle:
    """What `call_later` returns."""

    when: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Loop:
    """As much of an event loop as Keepalive uses."""

    now: float = 0.0
    handles: list[Handle] = field(default_factory=list)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.handles.append(Handle(self.now + delay, callback))
        return self.handles[-1]

    @property
    def armed(self) -> list[Handle]:
        return [handle for handle in self.handles if not handle.cancelled]

    def advance(self, seconds: float) -> None:
        """Lets time pass, and what is due by then happen at its time."""
        end = self.now + seconds
        while due := [handle for handle in self.armed if handle.when <= end]:
            first = min(due, key=lambda handle: handle.when)
            self.handles.remove(first)
            self.now = first.when
            first.callback()
        self.now = end


class Peer:
    """A Keepalive with what it did: a Ping every 20 s, whose Pong may take 5."""

    def __init__(self, loop: Loop, timeout: float | None = 5, *, started: bool = True) -> None:
        self.loop = loop
        self.pings: list[bytes] = []
        self.times: list[float] = []  # of the Pings
        self.expired: list[float] = []
        self.keepalive = Keepalive(self._pinged, lambda: self.expired.append(loop.now), timeout)
        if started:
            self.keepalive.start(20)

    def _pinged(self, payload: bytes) -> None:
        self.pings.append(payload)
        self.times.append(self.loop.now)

    def pongs(self, which: int = -1) -> None:
        self.keepalive.ponged(self.pings[which])


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


class TestPings:
    def test_come_at_the_interval_as_long_as_they_are_answered(self, loop: Loop) -> None:
        peer = Peer(loop)
        for count in range(1, 6):
            loop.advance(20)
            assert len(peer.pings) == count
            peer.pongs()
        assert peer.times == [20, 40, 60, 80, 100]
        assert peer.expired == []

    def test_begin_with_the_start(self, loop: Loop) -> None:
        peer = Peer(loop, started=False)
        loop.advance(1000)
        assert peer.pings == []
        peer.keepalive.start(20)
        loop.advance(19.9)
        assert peer.pings == []
        loop.advance(0.1)
        assert peer.times == [1020]

    def test_can_be_told_apart(self, loop: Loop) -> None:
        peer = Peer(loop, None)
        loop.advance(2000)
        assert len(set(peer.pings)) == len(peer.pings) == 100
        assert all(0 < len(ping) <= 125 for ping in peer.pings)

    def test_have_one_timer(self, loop: Loop) -> None:
        peer = Peer(loop)
        steps: list[Callable[[], None]] = [
            lambda: loop.advance(20),
            peer.keepalive.pause,
            lambda: loop.advance(20),
            peer.keepalive.resume,
            peer.pongs,
            lambda: loop.advance(20),
            peer.pongs,
        ]
        for step in steps:
            step()
            assert len(loop.armed) == 1


class TestC33Expiry:
    def test_comes_once_when_a_ping_was_not_answered_in_time(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(24.9)
        assert peer.expired == []
        loop.advance(1000)
        assert peer.expired == [25]
        assert peer.times == [20]
        assert loop.armed == []

    def test_comes_when_a_later_ping_was_not_answered(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(22)
        peer.pongs()
        loop.advance(1000)
        assert peer.times == [20, 42]
        assert peer.expired == [47]

    def test_does_not_come_when_the_pong_is_just_in_time(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(24.9)
        peer.pongs()
        loop.advance(19)
        assert peer.expired == []

    def test_may_take_longer_than_the_interval(self, loop: Loop) -> None:
        peer = Peer(loop, 60)
        loop.advance(79)
        assert peer.expired == []
        loop.advance(1)
        assert peer.expired == [80]

    def test_never_comes_without_a_timeout(self, loop: Loop) -> None:
        peer = Peer(loop, None)
        loop.advance(100_000)
        assert peer.expired == []
        assert peer.times == list(range(20, 100_001, 20))

    def test_is_the_end_even_if_the_pong_comes_late(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(30)
        peer.pongs()
        peer.keepalive.pause()
        peer.keepalive.resume()
        loop.advance(1000)
        assert peer.expired == [25]
        assert peer.times == [20]
        assert loop.armed == []


class TestSection553Pongs:
    @pytest.mark.parametrize("payload", [b"", b"unasked", bytes(4)])
    def test_that_answer_no_ping_are_ignored(self, loop: Loop, payload: bytes) -> None:
        peer = Peer(loop)
        loop.advance(10)
        peer.keepalive.ponged(payload)
        loop.advance(11)
        assert peer.times == [20]
        peer.keepalive.ponged(payload)
        loop.advance(1000)
        assert peer.expired == [25]

    def test_that_answer_an_earlier_ping_are_ignored(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(20)
        peer.pongs()
        loop.advance(20)
        peer.pongs(0)
        loop.advance(1000)
        assert peer.times == [20, 40]
        assert peer.expired == [45]

    def test_count_once(self, loop: Loop) -> None:
        """A second Pong for a Ping does not put off the next one."""
        peer = Peer(loop)
        loop.advance(20)
        peer.pongs()
        loop.advance(19)
        peer.pongs()
        loop.advance(1)
        assert peer.times == [20, 40]

    def test_before_the_start_are_ignored(self, loop: Loop) -> None:
        peer = Peer(loop, started=False)
        peer.keepalive.ponged(b"")
        assert loop.armed == []


class TestPausedReading:
    """C33: the Pong may be waiting where we do not read it."""

    def test_has_no_deadline_but_pings(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(20)
        peer.keepalive.pause()
        loop.advance(100)
        assert peer.expired == []
        assert peer.times == [20, 40, 60, 80, 100, 120]

    def test_that_began_before_a_ping_has_none_either(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(10)
        peer.keepalive.pause()
        loop.advance(100)
        assert peer.expired == []
        assert peer.times == [20, 40, 60, 80, 100]

    def test_that_ends_gives_the_last_ping_all_its_time(self, loop: Loop) -> None:
        peer = Peer(loop)
        loop.advance(24)
        peer.keepalive.pause()
        loop.advance(10)
        peer.keepalive.resume()
        loop.advance(4.9)
        assert peer.expired == []
        loop.advance(1000)
        assert peer.expired == [39]
        assert peer.times == [20]

    def test_that_ends_lets_the_pong_of_the_last_ping_count(self, loop: Loop) -> None:
        peer = Peer(loop)
        peer.keepalive.pause()
        loop.advance(60)
        peer.keepalive.resume()
        peer.pongs(0)
        peer.pongs(1)
        peer.pongs(2)
        loop.advance(20)
        assert peer.times == [20, 40, 60, 80]
        assert peer.expired == []

    def test_without_an_open_ping_changes_nothing(self, loop: Loop) -> None:
        peer = Peer(loop)
        for _ in range(4):
            loop.advance(5)
            peer.keepalive.pause()
            peer.keepalive.resume()
        assert peer.times == [20]
        loop.advance(1000)
        assert peer.expired == [25]

    def test_ends_without_a_deadline_where_there_is_none(self, loop: Loop) -> None:
        peer = Peer(loop, None)
        loop.advance(20)
        peer.keepalive.pause()
        peer.keepalive.resume()
        loop.advance(1000)
        assert peer.expired == []
        assert len(peer.times) == 51

    def test_before_the_start_arms_nothing(self, loop: Loop) -> None:
        peer = Peer(loop, started=False)
        peer.keepalive.pause()
        peer.keepalive.resume()
        assert loop.armed == []


class TestStop:
    @pytest.mark.parametrize("seconds", [10, 22], ids=["between-pings", "ping-not-answered"])
    @pytest.mark.parametrize("paused", [False, True])
    def test_is_the_end_of_it(self, loop: Loop, seconds: float, paused: bool) -> None:
        """A Pong that comes after it, or a pause, arms nothing."""
        peer = Peer(loop)
        loop.advance(seconds)
        if paused:
            peer.keepalive.pause()
        peer.keepalive.stop()
        assert loop.armed == []
        seen = len(peer.pings)
        for ping in [*peer.pings, b""]:
            peer.keepalive.ponged(ping)
        peer.keepalive.pause()
        peer.keepalive.resume()
        assert loop.armed == []
        loop.advance(1000)
        assert len(peer.pings) == seen
        assert peer.expired == []

    def test_may_come_twice_or_before_the_start(self, loop: Loop) -> None:
        peer = Peer(loop, started=False)
        peer.keepalive.stop()
        peer.keepalive.start(20)
        peer.keepalive.stop()
        peer.keepalive.stop()
        assert loop.armed == []

    def test_may_come_while_a_ping_is_sent(self, loop: Loop) -> None:
        """The transport may be found lost there."""
        keepalive = Keepalive(lambda payload: keepalive.stop(), pytest.fail, 5)
        keepalive.start(20)
        loop.advance(1000)
        assert loop.armed == []

    def test_may_come_at_the_expiry(self, loop: Loop) -> None:
        """The machine cancels the timer when it leaves `open`."""
        expiries = []

        def expired() -> None:
            expiries.append(loop.now)
            keepalive.stop()

        keepalive = Keepalive(lambda payload: None, expired, 5)
        keepalive.start(20)
        loop.advance(1000)
        assert expiries == [25]
        assert loop.armed == []


def test_a_real_loop_serves_as_well() -> None:
    async def main() -> None:
        pings, silent = asyncio.Queue[bytes](), asyncio.Event()
        keepalive = Keepalive(pings.put_nowait, silent.set, 0.01)
        keepalive.start(0.001)
        async with asyncio.timeout(10):
            for _ in range(3):
                keepalive.ponged(await pings.get())
            assert not silent.is_set()
            await silent.wait()
        assert pings.qsize() == 1

    asyncio.run(main())
