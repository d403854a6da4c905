"""A real connection over a socket, led by words of `statemachine.cover`, with both its sides held against the machine.

`wired.Wired` is a place of such a connection, so that the covers which are made from it can be run. `converse` runs
one word: of every stimulus it holds what the app got, what the peer saw and what the machine was told of against what
had to come of it. The app calls `send()` and `receive()`, returns and raises; the peer writes frames, ends its side and
vanishes; the server shuts down. The timers are run out by hand (`Session.time_out`), and the transport's buffer is full
by hand (`pause_writing`). Nothing sleeps: each stimulus is awaited until both sides have it, within the client's
patience.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.hands import Hand, Puppet, Scene, scene, until
from tests.ways import run
from wslifecycle.conformance.cover import KINDS, AppError, Record, differences, where
from wslifecycle.conformance.peer import PATIENCE, joined, settle
from wslifecycle.conformance.sansio import on_the_wire
from wslifecycle.conformance.scenarios import WORDED, same_on_the_wire, short
from wslifecycle.conformance.wired import TAKING, Wired, wire
from wslifecycle.statemachine.cover import CARRIED, MESSAGES, Outcome, Word
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.model import Kind

# ------------------------------------------------------------------------------------------------ conversations


@dataclass(frozen=True)
class Theatre:
    """A server for connections that begin in one place, and what their machine is told."""

    stage: Scene
    start: Wired
    told: list[Answer]

    async def converse(self, word: Word, record: Record) -> bool:
        """Speaks a word to a new connection, up to the first difference, and then ends it. True: there was none."""
        self.told.clear()
        record.conversations += 1
        async with self.stage.connection() as (hand, puppet):
            live = Live(hand, puppet, self.start, self.told)
            found: list[str] = []
            for stimulus, following in zip(word, (*word[1:], ""), strict=True):
                place = live.place
                found = await live.do(stimulus, following)
                record.note(place, stimulus, found)
                if found:
                    break
            else:
                found = await live.finish()
                record.differences += found
            await live.close()
        return not found


@asynccontextmanager
async def theatre(way: str, start: Wired, **options: Any) -> AsyncIterator[Theatre]:
    """Serves connections in a way of `ways.WAYS`; `options` are more of the runtime's."""
    told: list[Answer] = []
    scope: dict[str, Any] = {"spec_version": start.spec_version, "extensions": start.extensions}
    async with scene(way, observe=told.append, **scope, **options) as stage:
        yield Theatre(stage, start, told)


def spoken(way: str, start: Wired, words: Iterable[Word], **options: Any) -> Record:
    """Speaks words to connections, until one is answered otherwise than the machine says. Tells what was tried."""
    record = Record(way, start.machine.profile)

    async def test() -> None:
        asyncio.get_running_loop().set_debug(False)  # it takes as long as all else, and there are thousands of them
        async with theatre(way, start, **options) as stage:
            for word in words:
                if not await stage.converse(word, record):
                    break

    run(test, seconds=60)
    return record


@dataclass
class Live:
    """A real connection, the place where it has to be, and what has to have come of all that happened to it."""

    hand: Hand
    puppet: Puppet
    place: Wired
    told: list[Answer]
    due: list[dict[str, Any]] = field(default_factory=list)
    """What the peer has to see."""
    answers: list[Answer] = field(default_factory=list)
    """What the machine has to be asked for, but for the loss of a transport that has ended."""
    waiting: asyncio.Task[None] | None = None
    """A `send()` that waits for the transport."""

    async def do(self, stimulus: str, following: str = "") -> list[str]:
        """Brings a stimulus about and waits until both sides have it; tells what differs from the machine's answer."""
        leads_on = wire(self.place.after(stimulus).state) not in TAKING
        if (stimulus == "app_waited" and self.waiting is None) or (following == "app_waited" and leads_on):
            await self._begin_to_wait()
        place = self.place
        wanted = self._expect(stimulus)
        happened = await self._cause(stimulus, place)
        found = differences(place, stimulus, wanted._replace(effects=()), happened)
        return found or [f"{where(place, stimulus)}: {text}" for text in await self._differs()]

    def _expect(self, stimulus: str) -> Outcome:
        """Notes what has to come of a stimulus."""
        place = self.place
        wanted, answer, self.place = place.outcome(stimulus), place.consult(stimulus), place.after(stimulus)
        if answer.refusal is not Kind.NOT_DUE and not (stimulus == "peer_lost" and wire(place.state) == "closed"):
            self.answers.append(answer)
        if {"end": True} not in self.due:
            self.due += (entry for effect in wanted.effects for entry in on_the_wire(effect))
            if {"end": True} in self.due:
                del self.due[self.due.index({"end": True}) + 1 :]
        return wanted

    async def _differs(self) -> list[str]:
        """Waits until everything has come that has to, and tells what is otherwise."""
        connection = self.puppet.session._connection
        closed = wire(self.place.state) == "closed"
        losses = int(closed and not any(answer.event == "peer_lost" for answer in self.answers))
        vanished = any(answer.event == "peer_lost" for answer in self.answers)

        def heard() -> list[Answer]:
            return [answer for answer in self.told if (answer.event, wire(answer.source)) != ("peer_lost", "closed")]

        def same_seen() -> bool:
            seen, due = joined(self.hand.seen), joined(self.due)
            return len(seen) == len(due) and all(map(same_on_the_wire, due, seen))

        checks: list[tuple[Callable[[], bool], Callable[[], str]]] = [
            (lambda: heard() == self.answers, lambda: f"the machine was told {_events(heard())}"),
            (lambda: len(self.told) - len(heard()) == losses, lambda: "the transport was not lost, or twice"),
            (
                lambda: (connection.state, connection.case) == (self.place.state, self.place.case),
                lambda: f"it is in {connection.state} ({connection.case}), not in {self.place}",
            ),
            (
                lambda: vanished or same_seen(),
                lambda: f"the peer saw {_short(joined(self.hand.seen))}, not {_short(joined(self.due))}",
            ),
        ]
        found = []
        for holds, says in checks:
            try:
                if not holds():
                    await until(holds)
            except TimeoutError:
                found.append(says())
        return found

    async def finish(self) -> list[str]:
        """Ends what is left, and holds what it brings about against the machine's answers."""
        found: list[str] = []
        if not self.place.state.endswith("/done"):
            found += await self.do("app_return")
        if not found and wire(self.place.state) != "closed":
            found += await self.do("peer_eof")
        await self.puppet.ended()
        return found

    async def close(self) -> None:
        """Lets nobody wait any longer."""
        if self.waiting is not None:
            self.waiting.cancel()
            await asyncio.wait({self.waiting})

    # ---------------------------------------------------------------------------------------- bringing it about

    async def _cause(self, stimulus: str, place: Wired) -> Outcome:
        """Brings a stimulus about; tells what the app noticed of it."""
        hand, puppet, session = self.hand, self.puppet, self.puppet.session
        match stimulus:
            case message if message in MESSAGES:
                return await self._refused(puppet.send(dict(MESSAGES[message])))
            case "receive":
                return await self._receive()
            case "app_waited":
                return await self._wait(place)
            case "app_return":
                puppet.end()
            case "app_raise":
                puppet.end(AppError())
            case "server_shutdown":
                session.shutdown()
            case "close_timeout" | "handshake_timeout":
                session.time_out(stimulus)
            case "keepalive_expired":
                session.time_out("keepalive")
            case "peer_message":
                await hand.act("peer sends", CARRIED[stimulus]["data"])
            case "peer_ping":
                await hand.act("peer pings", CARRIED[stimulus]["payload"])
            case "peer_close":
                await hand.act("peer closes", CARRIED[stimulus])
            case "peer_violation" if wire(place.state) in ("handshake", "denial_held", "denying"):
                hand.write(bytes(65537))  # too much before the accept (C14)
            case "peer_violation":
                await hand.act("peer violates", "unmasked_frame")
            case "peer_eof":
                await hand.act("peer ends")
            case "peer_lost" if wire(place.state) != "closed":
                await hand.act("peer vanishes")
            case "peer_lost":  # it came by itself, and has to have come here
                came = [answer.source for answer in self.told if answer.event == stimulus]
                return Outcome() if came == [place.state] else Outcome(Kind.IMPOSSIBLE, state=str(came))
        return Outcome()

    async def _refused(self, call: Awaitable[object]) -> Outcome:
        """What the app gets from a `send()`, be it nothing."""
        try:
            async with asyncio.timeout(PATIENCE):
                await call
        except (ApplicationViolation, Disconnected) as error:
            return Outcome(KINDS[type(error)], error.rule, error.state)
        return Outcome()

    async def _receive(self) -> Outcome:
        """What the app gets from a `receive()`; one that is answered by nothing is cancelled."""
        call = asyncio.ensure_future(self.puppet.receive())
        if self.place.way[-1].refusal is Kind.NOT_DUE:
            await settle()
        else:
            await asyncio.wait({call}, timeout=PATIENCE)
        if call.done():
            given = {key: value for key, value in (await call).items() if value is not None}
            if given.get("code") in WORDED and "reason" in given:
                given["reason"] = ""  # which is the runtime's own words
            return Outcome(given=given)
        call.cancel()
        await asyncio.wait({call})
        return Outcome(Kind.NOT_DUE)

    async def _begin_to_wait(self) -> None:
        """Has the transport take nothing more, and the app wait in `send()`."""
        self.puppet.session.pause_writing()
        message = "app_send" if wire(self.place.state) == "open" else "app_response_body"
        self._expect(message)
        self.waiting = asyncio.ensure_future(self.puppet.send(dict(MESSAGES[message])))
        await settle()
        assert not self.waiting.done(), "send() does not wait"

    async def _wait(self, place: Wired) -> Outcome:
        """What the app gets from the `send()` that waits; the end has told it to go on, or else the transport does."""
        assert self.waiting is not None
        waiting, self.waiting = self.waiting, None
        if wire(place.state) in TAKING:
            self.puppet.session.resume_writing()
        outcome = await self._refused(waiting)
        self.puppet.session.resume_writing()
        return outcome


def _events(answers: Sequence[Answer]) -> str:
    return ", ".join(f"{answer.event} in {answer.source}" for answer in answers)


def _short(seen: Sequence[dict[str, Any]]) -> str:
    return "; ".join(map(short, seen)) or "nothing"
