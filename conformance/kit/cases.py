"""What is tried on a server, derived: from the machine's covers, its messages and their keys, and the scenarios.

    way        every event in every state, obeyed or refused, by a shortest way; the app asks only where the word says
    eager      the same with a receive() pending all the time
    rapid      the same with what one side does twice in a row done at once: one segment, or no turn of the loop between
    race       in each state of the wire an act of the app at once with one of the peer, then everything that is due
    value      every key of every message of the app, with every kind of value
    frame      every kind of faulty frame
    early      what the peer sends in one piece with its request, or before the app has answered
    scenario   the hand-written traces: only what is done in them, since what has to come of it is asked of the machine

No case is written for one server or one bug. A case is named by what is done, so that its name says it all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from wslifecycle.conformance.kit.agent import Code, Text
from wslifecycle.conformance.kit.oracle import rules_of
from wslifecycle.conformance.kit.plays import machine_of
from wslifecycle.conformance.kit.script import Step, Terms, play
from wslifecycle.conformance.scenarios import VIOLATIONS, load_scenarios
from wslifecycle.conformance.wired import Wired, wire
from wslifecycle.statemachine.cover import CARRIED, MESSAGES, RECEIVE, Word, places, refused_cover, transition_cover

BEYOND = frozenset({"server_shutdown", "close_timeout", "handshake_timeout", "keepalive_expired", "app_waited"})
"""What takes a server of its own, time, or a full buffer: `probes` has that."""


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation to be held with a server. `behind`: so many acts of the peer come in one piece with the request.

    `too_big`: it needs a server whose largest message is `peer.MAX_SIZE`.
    """

    name: str
    steps: tuple[Step, ...]
    subprotocols: tuple[str, ...] = ()
    behind: int = 0

    @property
    def kind(self) -> str:
        """The first word of its name."""
        return self.name.partition(":")[0]

    ends = False
    """Unlike a `probes.Probe`, none ends the server."""

    @property
    def too_big(self) -> bool:
        """Whether it needs a server that has been told how large a message may be."""
        return any(step.value == "too_big" for step in self.steps)


def cases(terms: Terms) -> list[Case]:
    """Everything that may be asked of a server that advertises this. The shortest come first in each kind."""
    found: dict[str, Case] = {}
    for case in (*_ways(terms), *_races(terms), *_values(terms), *_frames(), *_early(), *_scenarios(terms)):
        found.setdefault(repr((case.steps, case.behind, case.subprotocols)), case)
    return list(found.values())


# ------------------------------------------------------------------------------------------------ words


class Outside(Wired):
    """A place of a connection that can be reached by what both sides do, and at once."""

    def possible(self, stimulus: str) -> bool:
        """Whether both sides can bring it about."""
        return stimulus not in BEYOND and super().possible(stimulus)


def step(stimulus: str) -> Step:
    """A stimulus of a cover as a step."""
    if stimulus in MESSAGES:
        message = MESSAGES[stimulus]
        return Step("app sends", {**message, "headers": []} if stimulus == "app_response_start" else message)
    match stimulus:
        case "receive":
            return Step("app asks")
        case "app_return" | "app_raise":
            return Step(f"app {stimulus.removeprefix('app_')}s")
        case "peer_message":
            return Step("peer sends", CARRIED[stimulus]["data"])
        case "peer_ping":
            return Step("peer pings", CARRIED[stimulus]["payload"])
        case "peer_close":
            return Step("peer closes", CARRIED[stimulus])
        case "peer_violation":
            return Step("peer violates", "unmasked_frame", rule=BREAKS["unmasked_frame"])
        case "peer_eof":
            return Step("peer ends")
        case "peer_lost":
            return Step("peer vanishes")
    raise LookupError(f"Neither side can bring {stimulus} about.")


def _steps(word: Word, start: Outside) -> tuple[Step, ...]:
    """A word as steps. The app asks only when no receive() of it is pending: two at a time are a case of their own."""
    steps: list[Step] = []
    place, pending = start, 0
    for stimulus in word:
        if stimulus == RECEIVE:
            if pending:
                continue
            pending = 1
        here = step(stimulus)
        if stimulus == "peer_violation" and wire(place.state) in ("handshake", "denial_held", "denying"):
            here = Step("peer floods")
        steps.append(here)
        place = place.after(stimulus)
        while pending and place.consult(RECEIVE).refusal is None:
            place, pending = place.after(RECEIVE), 0
    return tuple(steps)


def _eager(steps: Sequence[Step], terms: Terms) -> tuple[Step, ...]:
    """The same with a receive() pending all the time, until the app has been told of the end."""
    made: list[Step] = []
    for one in (Step("app asks"), *(one for one in steps if one.stimulus != "app asks")):
        made.append(one)
        log = play(machine_of({}), terms, made)
        told = any(entry.what.get("type") == "websocket.disconnect" for entry in log.received)
        if not (log.waiting or told or one.stimulus in ("app returns", "app raises")):
            made.append(Step("app asks"))
    return tuple(made)


def _rapid(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The same with what one side does twice in a row done at once."""
    made = [
        replace(one, together=_side(one) == _side(following) and _side(one) in ("frames", "sends"))
        for one, following in pairwise(steps)
    ]
    return (*made, *steps[len(made) :])


def _side(one: Step) -> str:
    if one.stimulus == "app sends":
        return "sends"
    return "frames" if one.stimulus in ("peer sends", "peer pings", "peer closes", "peer violates") else one.stimulus


def start(terms: Terms) -> Outside:
    """Where a connection begins whose server advertises this."""
    return Outside.first(machine_of({}), spec_version=terms.spec_version, extensions=terms.extensions)


def _ways(terms: Terms) -> Iterator[Case]:
    begin = start(terms)
    words = sorted({*transition_cover(begin), *refused_cover(begin)}, key=lambda word: (len(word), word))
    for word in words:
        steps, name = _steps(word, begin), "+".join(word)
        yield Case(f"way:{name}", steps)
        yield Case(f"eager:{name}", _eager(steps, terms))
        rapid = _rapid(steps)
        if any(one.together for one in rapid):
            yield Case(f"rapid:{name}", rapid)


def _races(terms: Terms) -> Iterator[Case]:
    """Two acts at once in one place for each state of the wire, the nearest in which the app has been told all so far.

    Then the app asks for what is due, and sends once more.
    """
    nearest: dict[str, Outside] = {}
    for place in places(start(terms).after(RECEIVE)):
        if wire(place.state) != "closed":
            nearest.setdefault(wire(place.state), place)
    for name, place in nearest.items():
        for peer in ("peer_message", "peer_close", "peer_eof", "peer_lost", "peer_violation"):
            for app in (*MESSAGES, "app_return", "app_raise"):
                if place.possible(app) and place.consult(app).refusal is None:
                    yield from _race(place, name, peer, app, terms)


def _race(place: Outside, name: str, peer: str, app: str, terms: Terms) -> Iterator[Case]:
    word = (*place.word, peer) if place.possible(peer) else (*place.word,)
    way = _steps(word, start(terms))
    if not place.possible(peer):  # bytes that are held until the app has answered
        way = (*way, step(peer))
    asks = () if app in ("app_return", "app_raise") else (Step("app asks"), Step("app asks"))
    both = (*way[:-1], replace(way[-1], together=True), step(app))
    yield Case(f"race:{name}:{peer}|{app}", _asking(both, asks, terms))
    waiting = (*way[:-1], Step("app asks"), replace(way[-1], together=True), step(app))
    if way[-2].stimulus != "app asks" or len(way) > 2:
        yield Case(f"race:{name}:{peer}|{app}:waiting", _asking(waiting, asks, terms))


def _asking(steps: Sequence[Step], asks: Iterable[Step], terms: Terms) -> tuple[Step, ...]:
    """With more calls of receive() behind, of which no two are pending at a time."""
    made = list(steps)
    for ask in asks:
        log = play(machine_of({}), terms, made)
        told = any(entry.what.get("type") == "websocket.disconnect" for entry in log.received)
        if not (log.waiting or told):
            made.append(ask)
    return tuple(made)


# ------------------------------------------------------------------------------------------------ values

_VALUES: Mapping[str, Mapping[str, Any]] = {
    "bytes": {
        "empty": b"",
        "some": b"\x00\xff\x80",
        "bytearray": bytearray(b"\x01\x02"),
        "memoryview": memoryview(b"\x03\x04"),
        "long": bytes(range(256)) * 300,
        "str": "text",
        "int": 7,
        "None": None,
    },
    "str": {
        "empty": "",
        "other-planes": "gr\u00fc\u00df \u20ac \U0001d11e",
        "subclass": Text("by another class"),
        "long": "\u00e4" * 40000,
        "bytes": b"text",
        "int": 7,
        "None": None,
        "surrogate": "\ud800",
    },
    "int": {"subclass": Code.OWN, "str": "1000", "float": 1000.5, "bool": True, "None": None},
    "bool": {"false": False, "str": "yes", "None": None},
    "headers": {
        "none": [],
        "twice": [(b"x-one", b"1"), (b"x-two", b"2"), (b"x-one", b"3")],
        "lists": [[b"x-one", b"1"]],
        "upper-case": [(b"X-One", b"1")],
        "str": [("x-one", "1")],
        "handshake": [(b"connection", b"close")],
        "subprotocol": [(b"sec-websocket-protocol", b"chat")],
        "None": None,
    },
}
"""Values of every kind that a key may have, by names; those of other kinds, too."""

_NUMBERS: Mapping[str, Sequence[int]] = {
    "code": (1000, 1001, 1003, 1007, 1012, 1014, 3000, 4999, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000),
    "status": (200, 204, 302, 304, 401, 404, 500, 599, 99, 101, 600),
}
"""Numbers at the borders of what is legal."""

_LENGTHS = (122, 123, 124, 200)
"""Lengths of a reason around what a Close has room for."""

_BEFORE: Mapping[str, tuple[str, ...]] = {
    "websocket.accept": (),
    "websocket.send": ("app_accept",),
    "websocket.close": ("app_accept",),
    "websocket.http.response.start": (),
    "websocket.http.response.body": ("app_response_start",),
}
"""What an app sends before such a message."""


def _values(terms: Terms) -> Iterator[Case]:
    spec = machine_of({}).spec
    for kind, declared in spec.messages.items():
        if declared.sender != "app" or (declared.extension and declared.extension not in terms.extensions):
            continue
        usual = next(dict(step(event).value) for event, message in MESSAGES.items() if message["type"] == kind)
        for key, about in declared.keys.items():
            for name, value in _of(key, about.type):
                yield _value(kind, usual, f"{key}={name}", {key: value}, about.rule, terms)
            if key not in declared.exactly_one:
                yield _value(kind, usual, f"{key}-missing", {key: ...}, about.rule, terms)
        both = dict.fromkeys(declared.exactly_one)
        if both:
            yield _value(kind, usual, "none-of-both", both, "R27", terms)
            yield _value(kind, usual, "both", {"text": "x", "bytes": b"y"}, "R27", terms)
        yield _value(kind, usual, "another-key", {"x-unknown": 1}, "R45", terms)
    for name, message in (("websocket.unknown", {}), ("http.response.start", {"status": 200, "headers": []})):
        for before in ((), ("app_accept",)):
            steps = (Step("app asks"), *map(step, before), Step("app sends", {"type": name, **message}, rule="R43"))
            yield Case(f"value:{name}{'-after-accept' if before else ''}", steps)
    chat = ("chat", "chat.v2")
    for name, value in (("offered", "chat.v2"), ("not-offered", "soap"), ("None", None)):
        accept = Step("app sends", {"type": "websocket.accept", "subprotocol": value}, rule="R24")
        yield Case(f"value:websocket.accept:subprotocol={name}:of-two", (Step("app asks"), accept), chat)


def _of(key: str, kind: str) -> Iterator[tuple[str, Any]]:
    yield from _VALUES[kind].items()
    for number in _NUMBERS.get(key, ()):
        yield str(number), number
    if key == "reason":
        for length in _LENGTHS:
            yield f"{length}-bytes", "\u00e9" * (length // 2) + "x" * (length % 2)


def _value(kind: str, usual: Mapping[str, Any], name: str, change: Mapping[str, Any], rule: str, terms: Terms) -> Case:
    """A message with such a value, where it is legal to send it; then the app goes on as if nothing had been."""
    message = {key: value for key, value in {**usual, **change}.items() if value is not ...}
    if kind == "websocket.send" and "bytes" in change and "text" not in change:
        message.pop("text", None)
    steps = (
        Step("app asks"),
        *map(step, _BEFORE[kind]),
        Step("app sends", message, rule=rule),
    )
    if kind in ("websocket.accept", "websocket.send"):
        steps = (*steps, *map(step, ("app_send",)))
    return Case(f"value:{kind}:{name}", _asking(steps, (Step("app asks"),), terms))


# ------------------------------------------------------------------------------------------------ more of the peer

BREAKS: Mapping[str, str] = {
    "unmasked_frame": "W3",
    "reserved_bits": "W4",
    "reserved_opcode": "W4",
    "bad_utf8": "W11",
    "too_big": "W11",
    "stray_continuation": "W5",
    "interrupted_fragments": "W5",
    "fragmented_ping": "W6",
    "long_ping": "W6",
    "one_byte_close": "W10",
    "close_code_1005": "W10",
    "close_code_999": "W10",
    "bad_close_reason": "W11",
}
"""The rule that a kind of faulty frame breaks, and for which the connection has to be failed."""


def _frames() -> Iterator[Case]:
    opened = (Step("app asks"), step("app_accept"))
    for kind in VIOLATIONS:
        faulty = Step("peer violates", kind, rule=BREAKS[kind])
        yield Case(f"frame:{kind}", (*opened, Step("app asks"), faulty))
        yield Case(f"frame:{kind}:unread", (*opened, faulty, Step("app asks")))
    for code in (None, 1000, 1001, 1003, 1011, 3000, 4999):
        for reason in ("", "bye") if code else ("",):
            close = {"code": code, "reason": reason} if code else {}
            name = f"frame:close-{code or 'empty'}{'-reason' if reason else ''}"
            yield Case(name, (*opened, Step("app asks"), Step("peer closes", close)))
    for name, data in (
        ("empty-text", ""),
        ("empty-bytes", b""),
        ("text", "gr\u00fc\u00df \U0001d11e"),
        ("bytes", b"\x00\xff"),
    ):
        yield Case(f"frame:{name}", (*opened, Step("app asks"), Step("peer sends", data)))
    for count in (2, 3):
        sent = tuple(Step("peer sends", f"message {n}", together=True) for n in range(count))
        asks = (Step("app asks"),) * (count + 1)
        yield Case(f"frame:{count}-and-close", (*opened, *sent, step("peer_close"), *asks))
        for name, act in (("fin", "peer_eof"), ("reset", "peer_lost")):
            yield Case(f"frame:{count}-and-{name}", (*opened, *sent, step(act), *asks))
            yield Case(f"frame:{count}-and-later-{name}", (*opened, *sent[:-1], _alone(sent[-1]), step(act), *asks))
    yield Case("frame:empty-ping", (*opened, Step("peer pings", b"")))
    yield Case("frame:longest-ping", (*opened, Step("peer pings", bytes(125))))


def _alone(one: Step) -> Step:
    return replace(one, together=False)


def _early() -> Iterator[Case]:
    """What the peer does before the app has answered: with its request, or behind it."""
    for peer in ("peer_message", "peer_ping", "peer_close", "peer_violation"):
        act = step(peer)
        for behind in (0, 1):
            where = "with-the-request" if behind else "before-the-answer"
            steps = (act, Step("app asks"), step("app_accept"), Step("app asks"))
            yield Case(f"early:{peer}:{where}", steps, behind=behind)
            yield Case(f"early:{peer}:{where}:rejected", (act, Step("app asks"), step("app_close")), behind=behind)


def _scenarios(terms: Terms) -> Iterator[Case]:
    for name, scenario in load_scenarios().items():
        if scenario.spec_version != "2.5" or not set(scenario.extensions) <= {*terms.extensions}:
            continue
        if any(act.stimulus in ("server shuts down", "time passes") for act in scenario.acts):
            continue
        steps = tuple(Step(act.stimulus, act.value) for act in scenario.acts)
        yield Case(f"scenario:{name}", steps, scenario.subprotocols)


def touches(case: Case, terms: Terms) -> frozenset[str]:
    """The rules that a case tries on the reference, and the states that it leads through, whole and in each region."""
    log = play(machine_of({}), terms, case.steps)
    return rules_of(case.steps, log) | {name for state in log.states for name in (state, *state.split("/"))}
