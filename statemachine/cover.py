"""Tests that are made from the machine: words of stimuli which, put together, try everything that it says.

A `Place` is where a connection is, as a model of it: the product state and the facts that hold. It tells for every
stimulus what has to come of it, and so is the oracle of every driver. From a first place follow all that can be reached
(`places`, each by a shortest way) and three covers, each a list of words that begin at the first place:

    transition_cover    in every place every event that is obeyed there, be it as a declared no-op
    refused_cover       in every place every event that is refused there
    identified          ways to places, each with every word of a `distinguishing_set` behind it, as in the W-method:
                        what follows shows that the place which was reached is the one that the machine says

A stimulus is an event of the machine; only what `receive()` gives is not for anybody to choose, so `RECEIVE` stands for
all events that are given: what is due is given, and what is not due is refused. An event that is `impossible` cannot
be brought about, and is in no cover. The same machine always makes the same words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from operator import ne
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar

from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.model import Actor, First, Kind, Ref, Value

RECEIVE = "receive"
"""The stimulus that the app calls `receive()`."""

Word: TypeAlias = tuple[str, ...]
"""Stimuli in their order."""

Triple: TypeAlias = tuple[str, tuple[str, ...], str]
"""A state, the facts that hold in it, an event: what can be tried."""

MESSAGES: dict[str, dict[str, Any]] = {
    "app_accept": {"type": "websocket.accept"},
    "app_send": {"type": "websocket.send", "text": "x"},
    "app_close": {"type": "websocket.close", "code": 3000, "reason": "enough"},
    "app_response_start": {"type": "websocket.http.response.start", "status": 418},
    "app_response_body": {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
    "app_response_end": {"type": "websocket.http.response.body", "body": b"y"},
}
"""A sound message for each event that a message of the app may be."""

CARRIED: dict[str, dict[str, Any]] = {
    "peer_message": {"data": "hello"},
    "peer_ping": {"payload": b"p"},
    "peer_close": {"code": 1001, "reason": "going away"},
    "peer_violation": {"code": 1002, "reason": ""},
}
"""What the events of the peer carry."""

UNNOTICED = frozenset({"start_timer", "cancel_timer", "pause_reading", "resume_reading"})
"""Effects that neither the app nor the peer can notice by themselves, besides the inner ones."""


class Outcome(NamedTuple):
    """What comes of a stimulus: effects and what `receive()` gives, without the keys that are None; or a refusal, with
    the rule and the state that it names. That nothing is due is told by waiting, and names none.
    """

    refusal: Kind | None = None
    rule: str = ""
    state: str = ""
    effects: tuple[fx.Effect, ...] = ()
    given: dict[str, Any] | None = None


# ------------------------------------------------------------------------------------------------ places

P = TypeVar("P", bound="Place")


@dataclass(frozen=True)
class Place:
    """A state and the facts that hold in it; `way` is everything that was answered on the way here.

    How many messages are unread and what the variables hold is told by the way, and makes no other place.
    """

    machine: Lifecycle = field(repr=False, compare=False)
    spec_version: str = field(repr=False, compare=False)
    state: str
    case: int
    way: tuple[Answer, ...] = field(default=(), repr=False, compare=False)
    unread: int = field(default=0, repr=False, compare=False)
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def first(cls, machine: Lifecycle, *, spec_version: str, extensions: Iterable[str] = ()) -> Self:
        """Where a connection begins whose scope says this."""
        offered, flat = set(extensions), machine.flat
        facts = machine.dialect(spec_version).facts
        facts |= sum(flat.bits[fact.name] for fact in flat.facts if fact.extension in offered)
        return cls(machine, spec_version, next(iter(machine.states)), facts)

    @property
    def word(self) -> Word:
        """The stimuli of the way here."""
        return tuple(RECEIVE if self._is_given(answer.event) else answer.event for answer in self.way)

    @property
    def facts(self) -> tuple[str, ...]:
        """The names of the facts that hold."""
        return tuple(name for name, bit in self.machine.flat.bits.items() if self.case & bit)

    @property
    def extensions(self) -> tuple[str, ...]:
        """The extensions that the scope advertises."""
        facts = self.machine.spec.facts
        return tuple(name for fact in self.facts if (name := facts[fact].extension) is not None)

    def _is_given(self, event: str) -> bool:
        return self.machine.spec.events[event].actor is Actor.GIVEN

    def consult(self, stimulus: str) -> Answer:
        """The machine's answer; that to `RECEIVE` is what is due, or that nothing is."""
        if stimulus == RECEIVE:
            return self.machine.due[self.case][self.state]
        return self.machine.flat.answers[stimulus][self.case][self.state]

    def tries(self, stimulus: str) -> dict[Triple, Answer]:
        """What a stimulus puts to the test, with the answers: `RECEIVE` also tries that nothing else is given."""
        answers = self.machine.flat.answers
        events = filter(self._is_given, answers) if stimulus == RECEIVE else (stimulus,)
        return {(self.state, self.facts, event): answers[event][self.case][self.state] for event in events}

    def noticed(self, stimulus: str) -> object:
        """What the app and the peer notice of it: a refusal, what is given, effects other than housekeeping."""
        answer, effects = self.consult(stimulus), self.machine.spec.effects
        seen = [call for call in answer.effects if not (call.effect in UNNOTICED or effects[call.effect].inner)]
        return answer.refusal, answer.event if answer.gives is not None else "", answer.gives, tuple(seen)

    def possible(self, stimulus: str) -> bool:
        """Whether it can be brought about here."""
        return self.consult(stimulus).refusal is not Kind.IMPOSSIBLE

    def after(self, stimulus: str) -> Self:
        """Where it leads, with its answer at the end of the way; what is refused leads nowhere."""
        answer = self.consult(stimulus)
        if answer.refusal is not None:
            return replace(self, way=(*self.way, answer))
        said = self._said(stimulus)
        names = [call.effect for call in answer.effects]
        unread = self.unread + names.count("keep_message") - names.count("take_message")
        waiting = self.machine.flat.waiting
        assigned = {name: {key: self._value(v, said) for key, v in fields} for name, fields in answer.assigns}
        return replace(
            self,
            state=answer.target,
            case=self.case | waiting if unread else self.case & ~waiting,
            way=(*self.way, answer),
            unread=unread,
            variables={**self.variables, **assigned},
        )

    # ---------------------------------------------------------------------------------------- what has to come of it

    def outcome(self, stimulus: str) -> Outcome:
        """What both sides have to see of it."""
        answer = self.consult(stimulus)
        if answer.refusal is Kind.NOT_DUE:
            return Outcome(answer.refusal)
        if answer.refusal is not None:
            return Outcome(answer.refusal, answer.rule, self.state)
        said, effects = self._said(stimulus), tuple(self._effects(answer))
        if not self._is_given(answer.event):
            return Outcome(effects=effects)
        if any(call.effect == "take_message" for call in answer.effects):
            said = {"text": CARRIED["peer_message"]["data"]}
        kind = self.machine.spec.events[answer.event].message or ""
        values = said | {key: self._value(value, said) for key, value in answer.gives or ()}
        unknown = self.machine.dialect(self.spec_version).unknown
        given = {key: value for key, value in values.items() if value is not None and (kind, key) not in unknown}
        return Outcome(effects=effects, given={"type": kind, **given})

    def _said(self, stimulus: str) -> dict[str, Any]:
        """What the message or the event carries, with the defaults of what it does not say."""
        if stimulus == RECEIVE:
            return {}
        event, resolve = self.machine.spec.events[stimulus], self.machine.flat.resolve
        if stimulus not in MESSAGES:
            return {key: resolve(default) for key, default in event.fields.items()} | CARRIED.get(stimulus, {})
        message = MESSAGES[stimulus]
        keys = self.machine.spec.messages[message["type"]].keys
        unknown = self.machine.dialect(self.spec_version).unknown
        told = {name: value for name, value in message.items() if (message["type"], name) not in unknown}
        said = {name: told.get(name, resolve(key.default)) for name, key in keys.items()}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}

    def _value(self, value: Value, said: Mapping[str, Any]) -> Any:
        if isinstance(value, Ref):
            return (said if value.scope in ("message", "event") else self.variables[value.scope]).get(value.key)
        if isinstance(value, First):
            return next((found for item in value.values if (found := self._value(item, said)) is not None), None)
        return value

    def _effects(self, answer: Answer) -> Iterator[fx.Effect]:
        """What a server is told to do: not what is inner, no timer that is off, and none to end that ran out."""
        timers, said = self.machine.spec.timers, self._said(answer.event) if not self._is_given(answer.event) else {}
        for call in answer.effects:
            values = {key: self._value(value, said) for key, value in call.fields}
            timer = timers.get(values.get("timer", values.get("deadline", "")))
            if self.machine.spec.effects[call.effect].inner:
                continue
            if call.effect == "end_transport" and timer is not None:
                values["deadline"] = self.machine.flat.resolve(timer.seconds)
            elif timer is not None and (
                timer.event == answer.event or self.machine.flat.resolve(timer.seconds) is None
            ):
                continue
            yield fx.TYPES[call.effect](**values)


def scopes(machine: Lifecycle) -> list[tuple[str, tuple[str, ...]]]:
    """Spec version and extensions of a scope for each set of facts that can hold from the beginning."""
    versions = {machine.dialect(version).facts: version for version in machine.spec.versions}  # the newest of each
    sets: list[tuple[str, ...]] = [()]
    for name in [fact.extension for fact in machine.flat.facts if fact.extension is not None]:
        sets = [(*names, *more) for names in sets for more in ((name,), ())]
    return [(version, names) for version in reversed(versions.values()) for names in sets]


def stimuli(machine: Lifecycle) -> Word:
    """Everything that can happen. That a `send()` goes on comes first, since it has to follow on what tells it to."""
    others = (name for name, event in machine.spec.events.items() if event.actor is not Actor.GIVEN)
    return tuple(dict.fromkeys(("app_waited", *others, RECEIVE)))


def steps(place: Place) -> Iterator[str]:
    """The stimuli that lead elsewhere."""
    for stimulus in stimuli(place.machine):
        if place.possible(stimulus) and place.after(stimulus) != place:
            yield stimulus


def places(start: P) -> list[P]:
    """Every place that can be reached, each with a shortest way to it; the nearest come first."""
    found, queue = [start], deque([start])
    known = {start}
    while queue:
        for stimulus in steps(place := queue.popleft()):
            if (other := place.after(stimulus)) not in known:
                known.add(other)
                found.append(other)
                queue.append(other)
    return found


def arrivals(start: P) -> list[P]:
    """Every place once for each step that leads to it from another one, by a shortest way to that."""
    return [start, *(place.after(stimulus) for place in places(start) for stimulus in steps(place))]


def continuations(start: P) -> list[P]:
    """Every place once for each stimulus that is possible in it, obeyed or refused, and behind that stimulus."""
    return [
        place.after(stimulus) for place in places(start) for stimulus in filter(place.possible, stimuli(start.machine))
    ]


def reachable(start: Place) -> set[Triple]:
    """Everything that can be tried: each event in each place where it is possible."""
    return {
        triple
        for place in (*places(start), *arrivals(start))
        for stimulus in filter(place.possible, stimuli(start.machine))
        for triple in place.tries(stimulus)
    }


# ------------------------------------------------------------------------------------------------ covers


def transition_cover(start: Place) -> list[Word]:
    """Words that try every event in every place where it is obeyed."""
    return _cover(start, lambda answer: answer.refusal is None)


def refused_cover(start: Place) -> list[Word]:
    """Words that try every event in every place where it is refused."""
    return _cover(start, lambda answer: answer.refusal is not None)


def _cover(start: Place, wanted: Callable[[Answer], bool]) -> list[Word]:
    """In each place one word for all that leaves the connection there, and one for each step away.

    What cannot be tried in a place when it is reached by the one shortest way may be possible after another step there.
    """
    met: set[Triple] = set()
    words: list[Word] = []
    for place in chain(places(start), arrivals(start)):
        fresh = []
        for stimulus in filter(place.possible, stimuli(start.machine)):
            found = {triple for triple, answer in place.tries(stimulus).items() if wanted(answer)}
            if found - met:
                fresh.append(stimulus)
                met |= found
        stays = [stimulus for stimulus in fresh if place.after(stimulus) == place]
        words += [(*place.word, *stays)] if stays else []
        words += [(*place.word, stimulus) for stimulus in fresh if stimulus not in stays]
    return _whole(words)


def _whole(words: Iterable[Word]) -> list[Word]:
    """The words without those that another one begins with."""
    words = list(dict.fromkeys(words))
    beginnings = {word[:length] for word in words for length in range(len(word))}
    return [word for word in words if word not in beginnings]


# ------------------------------------------------------------------------------------------------ telling places apart


def responses(place: Place, word: Word) -> list[object]:
    """What is noticed of each stimulus of a word, up to one that is not possible."""
    seen: list[object] = []
    for stimulus in word:
        if not place.possible(stimulus):
            break
        seen.append(place.noticed(stimulus))
        place = place.after(stimulus)
    return seen


def _told_apart(among: Sequence[Place], word: Word) -> set[tuple[int, int]]:
    """The pairs of these places, by their numbers, that answer a word in two ways, as far as it is possible in both."""
    told = enumerate([responses(place, word) for place in among])
    return {(i, j) for (i, one), (j, other) in combinations(told, 2) if any(map(ne, one, other))}


def distinguishing_set(among: Sequence[Place]) -> list[Word]:
    """Words of which one tells any two of these places apart, if any word at all does; `alike` are the other pairs.

    What is alike is refined by words of one stimulus, then by those with a stimulus before a word that was taken, and
    so on until no longer word refines it: then, by Moore, none ever will. Those that tell most apart are taken first.
    """
    alphabet, words, told = stimuli(among[0].machine), list[Word](), set[tuple[int, int]]()
    candidates: list[Word] = [(stimulus,) for stimulus in alphabet]
    while candidates:
        telling, taken = {word: _told_apart(among, word) for word in candidates}, len(words)
        while (best := max(candidates, key=lambda word: len(telling[word] - told))) and telling[best] - told:
            words.append(best)
            told |= telling[best]
        candidates = [(stimulus, *word) for stimulus in alphabet for word in words] if len(words) > taken else []
    return _whole(words)


def alike(among: Sequence[Place], words: Sequence[Word]) -> list[tuple[Place, Place]]:
    """The pairs of places that none of these words tells apart."""
    told = set[tuple[int, int]]().union(*(_told_apart(among, word) for word in words))
    return [(among[i], among[j]) for i, j in combinations(range(len(among)), 2) if (i, j) not in told]


def identified(ways: Iterable[Place], words: Sequence[Word]) -> list[Word]:
    """Ways to places, each with each of these words behind it, as far as that is possible there."""
    made: list[Word] = []
    for way in ways:
        for word in words:
            place = way
            for stimulus in word:
                if not place.possible(stimulus):
                    break
                place = place.after(stimulus)
            made.append(place.word)
    return _whole(made)
