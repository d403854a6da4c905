"""Every order of messages, legal or not, over each way in: what an app may send in which state.

A real connection is led into each state of the machine, by messages of the app, frames, ends of the transport, timers
and a shutdown. There the app sends every message, and both what happens to it and what the peer sees are held against
the machine's answer: what is refused or ignored changes nothing and never shows on the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.hands import BODY, START, Hand, Puppet, Scene, scene, until
from tests.raw import ACCEPT, CLOSE
from tests.ways import WAYS, run
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import lifecycle
from wslifecycle.statemachine.model import Kind, Ref

FLAT = lifecycle().flat

MESSAGES: dict[str, dict[str, Any]] = {
    "app_accept": ACCEPT,
    "app_send": {"type": "websocket.send", "text": "x"},
    "app_close": CLOSE,
    "app_response_start": START,
    "app_response_body": {**BODY, "more_body": True},
    "app_response_end": BODY,
}
"""A sound message for each event that a message of the app may be."""

GIVEN = ("give_connect", "give_message", "give_disconnect")
ENDS = ("app_return", "app_raise")
CALLS = ("server_shutdown", "close_timeout", "handshake_timeout", "keepalive_expired")
PEER = ("peer_message", "peer_close", "peer_violation", "peer_eof", "peer_lost")
STEPS = (*MESSAGES, *GIVEN, *ENDS, *CALLS, *PEER)
"""What a connection can be led by."""

ERRORS = {Kind.VIOLATION: ApplicationViolation, Kind.DISCONNECTED: Disconnected}


class AppError(Exception):
    """What an app raises."""


# ------------------------------------------------------------------------------------------------ the machine's side


@dataclass(frozen=True)
class Place:
    """A state and the facts that hold in it, as a model of the machine; `way` led here."""

    state: str
    case: int
    way: tuple[Answer, ...] = field(default=(), compare=False)

    def consult(self, event: str) -> Answer:
        """The machine's answer."""
        return FLAT.answers[event][self.case][self.state]

    def after(self, answer: Answer) -> Place:
        """Where an answer that is no refusal leads."""
        case = self.case
        for call in answer.effects:
            case = {"keep_message": case | FLAT.bits["unread"], "take_message": case & ~FLAT.bits["unread"]}.get(
                call.effect, case
            )
        return replace(self, state=answer.target, case=case, way=(*self.way, answer))

    @property
    def wire(self) -> str:
        return self.state.partition("/")[0]

    @property
    def done(self) -> bool:
        """Whether the app's callable has ended."""
        return self.state.endswith("/done")


def first(*, version: str, denial: bool) -> Place:
    """Where a connection begins."""
    facts = lifecycle().dialect(version).facts | (FLAT.bits["denial"] if denial else 0)
    return Place(next(iter(lifecycle().states)), facts)


def steps(place: Place) -> Iterator[Answer]:
    """The answers that lead elsewhere, of events that somebody on this side or the other can bring about here."""
    for event in STEPS:
        if (event in ENDS and place.done) or (event in PEER and place.wire == "closed"):
            continue
        if event == "peer_message" and place.case & FLAT.bits["unread"]:
            continue  # one is enough
        answer = place.consult(event)
        if answer.refusal is None and (place.after(answer).state, place.after(answer).case) != (
            place.state,
            place.case,
        ):
            yield answer


def places(start: Place) -> list[Place]:
    """Every state with every set of facts that can be reached, each with a shortest way to it."""
    found, queue = {start}, deque([start])
    while queue:
        for answer in steps(place := queue.popleft()):
            if (other := place.after(answer)) not in found:
                found.add(other)
                queue.append(other)
    return sorted(found, key=lambda place: (len(place.way), place.state))


def arrivals(start: Place) -> list[Place]:
    """Every place once for each step that leads to it from another one."""
    return [start, *(place.after(answer) for place in places(start) for answer in steps(place))]


LOOKS = {
    "complete_handshake": ["handshake"],
    "send_message": ["text"],
    "send_close": ["close"],
    "send_response": ["head", "response_end"],
    "send_head": ["head"],
    "send_body": ["chunk"],
    "end_response": ["response_end"],
    "end_sending": ["end"],
    "end_transport": ["end"],
    "abort_transport": ["end"],
}
"""What the peer has to see of each effect."""

NUMBERS = {"message": 3000, "head": 418, "peer_close": 1001, "peer_violation": 1002, "server_shutdown": 1012}
"""Codes and statuses that this test or the reference profile chooses, by where the machine takes them from."""


def shown(answers: tuple[Answer, ...]) -> list[str]:
    """What the peer has to see of these, with the codes of Closes and the statuses of responses."""
    seen: list[str] = []
    for answer in answers:
        for call in answer.effects:
            looks = list(LOOKS.get(call.effect, []))
            fields = dict(call.fields)
            number = fields.get("code", fields.get("status"))
            if isinstance(number, Ref):
                number = NUMBERS[answer.event if number.scope == "event" else number.scope]
            if looks and number is not None:
                looks[0] += f" {number}"
            if "body" in fields and call.effect == "send_response" and isinstance(fields["body"], Ref):
                looks.insert(1, "chunk")
            seen += looks
    return seen[: seen.index("end") + 1] if "end" in seen else seen


def looks(hand: Hand) -> list[str]:
    """What the peer did see."""
    numbers = {"close": "code", "head": "status"}
    entries = [(kind, value) for entry in hand.seen for kind, value in entry.items()]
    return [f"{kind} {value[numbers[kind]]}" if kind in numbers else kind for kind, value in entries]


# ------------------------------------------------------------------------------------------------ the real side


@dataclass
class Live:
    """A real connection, and where it has to be."""

    hand: Hand
    puppet: Puppet
    place: Place

    async def step(self, event: str) -> None:
        """Brings an event about, and waits until it has had its effect."""
        answer = self.place.consult(event)
        self.place = self.place.after(answer)
        await self._cause(event, answer.source)
        connection = self.puppet.session._connection
        await until(lambda: (connection.state, connection.case) == (self.place.state, self.place.case))
        if event in ("app_accept",):
            await self.hand.sees("handshake")  # a peer sends no frames sooner

    async def _cause(self, event: str, source: str) -> None:
        hand, puppet = self.hand, self.puppet
        match event:
            case event if event in MESSAGES:
                await puppet.send(dict(MESSAGES[event]))
            case event if event in GIVEN:
                await puppet.given()
            case "app_return":
                puppet.end()
            case "app_raise":
                puppet.end(AppError())
            case "server_shutdown":
                puppet.session.shutdown()
            case "close_timeout" | "handshake_timeout":
                puppet.session.time_out(event)
            case "keepalive_expired":
                puppet.session.time_out("keepalive")
            case "peer_message":
                await hand.act("peer sends", "hello")
            case "peer_close":
                await hand.act("peer closes", {"code": 1001})
            case "peer_violation" if source.startswith(("handshake", "denial_held")):
                hand.write(bytes(65537))  # too much before the accept (C14)
            case "peer_violation":
                await hand.act("peer violates", "unmasked_frame")
            case "peer_eof":
                await hand.act("peer ends")
            case "peer_lost":
                await hand.act("peer vanishes")

    async def send(self, event: str) -> list[str]:
        """Has the app send a message here; tells how what happened differs from the machine's answer."""
        answer = self.place.consult(event)
        kind = ERRORS.get(answer.refusal) if answer.refusal else None
        happened: tuple[type[Exception] | None, str, str, str]
        wanted = (kind, answer.rule if kind else "", answer.source if kind else answer.target, answer.target)
        try:
            await self.puppet.send(dict(MESSAGES[event]))
            happened = (None, "", self.puppet.state, self.puppet.state)
        except (ApplicationViolation, Disconnected) as error:
            happened = (type(error), error.rule, error.state, self.puppet.state)
        if answer.refusal is None:
            self.place = self.place.after(answer)
        return [] if happened == wanted else [f"{event} in {answer.source}: {happened}, not {wanted}"]

    async def finish(self) -> None:
        """Ends what is left, and holds what the peer saw against what the machine let it see."""
        if not self.place.done:
            await self.step("app_return")
        if self.place.wire != "closed":
            await self.step("peer_eof")
        await self.puppet.ended()
        due = shown(self.place.way)
        if any(answer.event == "peer_lost" for answer in self.place.way):
            due = due[: len(self.hand.seen)]
        else:
            await self.hand.sees("end")
        assert looks(self.hand) == due, self.place.way


async def tried(stage: Scene, start: Place, place: Place, messages: Sequence[str]) -> list[str]:
    """Leads a connection from its start to a place, where the app sends these. Tells what was wrong."""
    async with stage.connection() as (hand, puppet):
        live = Live(hand, puppet, start)
        for answer in place.way:
            await live.step(answer.event)
        assert live.place == place
        wrong = [difference for event in messages for difference in await live.send(event)]
        await live.finish()
    return wrong


def plans(place: Place) -> Iterator[list[str]]:
    """What to send in a place so that each message is sent there: what moves nothing, and then one that moves."""
    still = [event for event in MESSAGES if not place.consult(event).moves]
    movers = [event for event in MESSAGES if event not in still]
    yield [*still, *movers[:1]]
    yield from ([mover] for mover in movers[1:])


version = pytest.mark.parametrize("version", ["2.5", "2.0"])
denial = pytest.mark.parametrize("denial", [True, False], ids=["denial", "no denial"])


def options(version: str, denial: bool) -> dict[str, Any]:
    """What a scope of these facts is advertised by."""
    return {"spec_version": version, "extensions": ["websocket.http.response"] if denial else []}


class TestEveryMessageInEveryState:
    @version
    @denial
    def test_the_walk_reaches_every_state_with_every_fact(self, version: str, denial: bool) -> None:
        found = places(first(version=version, denial=denial))
        unadvertised = {state for state in FLAT.state_of if state.startswith("den")} if not denial else set()
        assert {place.state for place in found} == set(FLAT.state_of) - unadvertised
        unread = {place.state for place in found if place.case & FLAT.bits["unread"]}
        assert unread >= {state for state in FLAT.state_of if state.startswith("closing/disconnect_due/")}

    @pytest.mark.parametrize("way", WAYS)
    @version
    @denial
    def test_is_answered_as_the_machine_says(self, way: str, version: str, denial: bool) -> None:
        start = first(version=version, denial=denial)
        sent: set[tuple[str, int, str]] = set()

        async def test() -> None:
            wrong = []
            async with scene(way, **options(version, denial)) as stage:
                for place in places(start):
                    for messages in plans(place):
                        wrong += await tried(stage, start, place, messages)
                        sent.update((place.state, place.case, event) for event in messages)
            assert not wrong, "\n".join(wrong)

        run(test)
        assert sent == {(place.state, place.case, event) for place in places(start) for event in MESSAGES}
        assert len({state for state, _, _ in sent}) == (35 if denial else 31)
        assert len(sent) >= (300 if denial else 270)

    @pytest.mark.parametrize("way", WAYS)
    def test_is_answered_alike_however_the_state_was_reached(self, way: str) -> None:
        """All steps that lead from one place to another, not only those of a shortest way."""
        start = first(version="2.5", denial=True)
        met = set()

        async def test() -> None:
            wrong = []
            async with scene(way) as stage:
                for place in arrivals(start):
                    still, *_ = plans(place)
                    wrong += await tried(stage, start, place, still)
                    met.add((place.way[-1].source, place.way[-1].event) if place.way else None)
            assert not wrong, "\n".join(wrong)

        run(test)
        assert len(met) > 200
