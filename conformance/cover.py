"""Runs the covers of the machine against a `Connection`, and keeps what was tried: of the reachable, by each way.

`Driver` brings every stimulus about on a real connection, without any I/O, and holds what comes of it against the
machine's answer: the effects, what is given, the refusal with its rule, the state and the facts. A `Record` says what
was tried in one way (on a `Connection`, or on a server over real sockets), what differed, and what cannot be brought
about there; records are kept as JSON, so that those of the socket tests can be laid beside that of the `Connection`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from wslifecycle.statemachine import cover
from wslifecycle.statemachine.connection import WAIT, Connection
from wslifecycle.statemachine.cover import CARRIED, MESSAGES, Outcome, P, Place, Triple, Word
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected, ImpossibleEvent
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.model import Kind

CONNECTION = "Connection"
"""The way without sockets."""

KINDS: Mapping[type[Exception], Kind] = {
    ApplicationViolation: Kind.VIOLATION,
    Disconnected: Kind.DISCONNECTED,
    ImpossibleEvent: Kind.IMPOSSIBLE,
}
"""What the exceptions mean that refuse something."""


class AppError(Exception):
    """What the app of a cover raises."""


# ------------------------------------------------------------------------------------------------ records


@dataclass
class Record:
    """What one way has tried of a profile, and how that went."""

    way: str
    profile: str
    exercised: set[Triple] = field(default_factory=set)
    beyond: dict[Triple, str] = field(default_factory=dict)
    """What cannot be brought about in this way, and why."""
    differences: list[str] = field(default_factory=list)
    conversations: int = 0

    def missing(self, reachable: Iterable[Triple]) -> list[Triple]:
        """What could have been tried and was not."""
        return sorted(set(reachable) - self.exercised - self.beyond.keys())

    def note(self, place: Place, stimulus: str, differences: Iterable[str]) -> None:
        """A stimulus was brought about in a place."""
        self.exercised.update(place.tries(stimulus))
        self.differences += differences

    def add(self, other: Record) -> None:
        """Takes over what another part of the same way has tried."""
        self.exercised |= other.exercised
        self.beyond |= other.beyond
        self.differences += other.differences
        self.conversations += other.conversations

    def reasons(self) -> dict[str, list[Triple]]:
        """What cannot be brought about, by the reason."""
        found: dict[str, list[Triple]] = {}
        for triple, why in sorted(self.beyond.items()):
            found.setdefault(why, []).append(triple)
        return found

    def dump(self) -> str:
        """The record as JSON."""
        plain = {
            "way": self.way,
            "profile": self.profile,
            "conversations": self.conversations,
            "differences": self.differences,
            "beyond": self.reasons(),
            "exercised": sorted(self.exercised),
        }
        return json.dumps(plain)


def load_record(text: str) -> Record:
    """A record from its JSON. Raises `ValueError` where it is none."""
    try:
        plain = json.loads(text)
        record = Record(plain["way"], plain["profile"], conversations=int(plain["conversations"]))
        record.exercised = set(map(_triple, plain["exercised"]))
        record.beyond = {_triple(triple): why for why, triples in plain["beyond"].items() for triple in triples}
        record.differences = list(map(str, plain["differences"]))
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise ValueError(f"This is no record of a cover: {fault!r}.") from None
    return record


def _triple(plain: Any) -> Triple:
    state, facts, event = plain
    return state, tuple(facts), event


def pairs(triples: Iterable[Triple]) -> set[tuple[str, str]]:
    """The pairs of a state and an event in these, whatever the facts."""
    return {(state, event) for state, _, event in triples}


def reachable(machine: Lifecycle) -> set[Triple]:
    """Everything of a machine that can be tried, whatever a scope may say."""
    return set(chain.from_iterable(map(cover.reachable, starts(machine, Place))))


def impossible(machine: Lifecycle) -> set[tuple[str, str]]:
    """The pairs of reachable states that nobody can bring about, because the machine calls them impossible."""
    found = pairs(reachable(machine))
    return {(state, event) for state, _ in found for event in machine.spec.events} - found


def starts(machine: Lifecycle, kind: type[P]) -> list[P]:
    """Where connections begin, one for each set of facts that can hold from the beginning, as places of a kind."""
    return [kind.first(machine, spec_version=v, extensions=names) for v, names in cover.scopes(machine)]


# ------------------------------------------------------------------------------------------------ the driver


class Driver:
    """A connection, of the machine of its first place or of another, which does not know what it is held against."""

    def __init__(self, start: Place, machine: Lifecycle | None = None) -> None:
        self.connection = Connection(
            spec_version=start.spec_version, extensions=start.extensions, machine=machine or start.machine
        )
        self._timers = {timer.event: timer.name for timer in start.machine.spec.timers.values()}

    def do(self, stimulus: str) -> Outcome:
        """Brings a stimulus about. Raises `LookupError` for an event that nobody here knows how to bring about."""
        connection = self.connection
        try:
            match stimulus:
                case cover.RECEIVE:
                    given = connection.app_wants()
                    if given is WAIT:
                        return Outcome(Kind.NOT_DUE)
                    message = given.message or {}
                    told = {key: value for key, value in message.items() if value is not None}
                    return Outcome(effects=given.effects, given=told)
                case "app_waited":
                    return Outcome() if connection.app_waited() else Outcome(Kind.NOT_DUE)
                case "app_return":
                    return Outcome(effects=connection.app_returned())
                case "app_raise":
                    return Outcome(effects=connection.app_raised(AppError()))
                case "peer_message":
                    return Outcome(effects=connection.peer_sent(**CARRIED[stimulus]))
                case "peer_ping":
                    return Outcome(effects=connection.peer_pinged(**CARRIED[stimulus]))
                case "peer_close":
                    return Outcome(effects=connection.peer_closed(**CARRIED[stimulus]))
                case "peer_violation":
                    return Outcome(effects=connection.peer_violated(**CARRIED[stimulus]))
                case "peer_eof":
                    return Outcome(effects=connection.peer_eof())
                case "peer_lost":
                    return Outcome(effects=connection.peer_lost())
                case "server_shutdown":
                    return Outcome(effects=connection.shutdown())
                case message if message in MESSAGES:
                    return Outcome(effects=connection.app_sent(MESSAGES[message]))
                case event if event in self._timers:
                    return Outcome(effects=connection.timed_out(self._timers[event]))
        except (ApplicationViolation, Disconnected, ImpossibleEvent) as error:
            return Outcome(KINDS[type(error)], error.rule, error.state)
        raise LookupError(f"Nobody here knows how to bring {stimulus} about.")


def converse(
    start: Place, word: Word, record: Record, machine: Lifecycle | None = None, *, inside: bool = True
) -> bool:
    """Speaks a word to a new connection, up to the first difference, and notes what was tried. True: there was none.

    `inside`: the state and the facts of the connection are compared, too, and not only what both sides see.
    """
    driver, place = Driver(start, machine), start
    record.conversations += 1
    for stimulus in word:
        wanted, happened, after = place.outcome(stimulus), driver.do(stimulus), place.after(stimulus)
        found = differences(place, stimulus, wanted, happened)
        here = driver.connection.state, driver.connection.case
        if inside and here != (after.state, after.case):
            found.append(f"{where(place, stimulus)}: leads to {here}, not to {(after.state, after.case)}")
        record.note(place, stimulus, found)
        if found:
            return False
        place = after
    return True


def differences(place: Place, stimulus: str, wanted: Outcome, happened: Outcome) -> list[str]:
    """How what came of a stimulus is not what had to come of it."""
    return [
        f"{where(place, stimulus)}: {name} {came!r}, not {due!r}"
        for name, due, came in zip(Outcome._fields, wanted, happened, strict=True)
        if due != came
    ]


def where(place: Place, stimulus: str) -> str:
    """A stimulus in its place, and the way there."""
    facts, way = ", ".join(place.facts), " ".join(place.word)
    return f"{stimulus} in {place.state} ({facts or 'no facts'}) after {way or 'nothing'}"


def words(start: Place) -> list[Word]:
    """The three covers. Behind every stimulus that is possible in a place stands each word that tells places apart."""
    telling = cover.distinguishing_set(cover.places(start))
    return [
        *cover.transition_cover(start),
        *cover.refused_cover(start),
        *cover.identified(cover.continuations(start), telling),
    ]


def run(machine: Lifecycle, tested: Lifecycle | None = None) -> Record:
    """Runs all covers of a machine against connections, of that machine or of another one that is `tested`."""
    record = Record(CONNECTION, machine.profile)
    for start in starts(machine, Place):
        for word in words(start):
            converse(start, word, record, tested)
    return record
