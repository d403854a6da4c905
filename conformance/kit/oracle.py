"""What the machine says to a conversation: whether what was seen may be, under which answers, and what is wrong if not.

A `Script` is what was done, step after step; a `Log` what came of it, on both sides, in an order that does not tell in
how many pieces it came. `play` gives the log that a machine asks for. A real server is not told of a peer's act in the
very moment of it: it reads later, and a `delay` says how much later, so that each log is held against all of them.
What no delay explains may be another answer to a choice, which `explain` looks for. What no answer explains is a
deviation, and `blame` says from which rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import takewhile, zip_longest
from typing import Any

from wslifecycle.conformance.kit.client import settled
from wslifecycle.conformance.sansio import SansIO
from wslifecycle.conformance.scenarios import Act, Scenario, Seen, same_on_the_wire, short
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle, build, lifecycle
from wslifecycle.statemachine.messages import in_ranges

EVENTS = {
    "websocket.connect": "give_connect",
    "websocket.receive": "give_message",
    "websocket.disconnect": "give_disconnect",
}

# ------------------------------------------------------------------------------------------------ what was done


@dataclass(frozen=True, slots=True)
class Step:
    """One act of the app or the peer, in the words of the scenarios (`scenarios.STIMULI`).

    `together`: the next step follows at once, before anybody has seen what came of this one. `rule`: that of what is
    special about the value, if anything is.
    """

    stimulus: str
    value: Any = None
    together: bool = False
    rule: str = ""

    @property
    def by_peer(self) -> bool:
        """Whether it takes its way through the network."""
        return self.stimulus.startswith("peer ")

    def __str__(self) -> str:
        return self.stimulus if self.value is None else f"{self.stimulus} {short(self.value)}"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server advertises, and the client offers."""

    spec_version: str
    extensions: tuple[str, ...] = ()
    subprotocols: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ what came of it


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was seen, or has to be: in which step, and why.

    A receive() gives a message, or `{"raised": kind}`; a send() gives None, or that. `answer` is the machine's.
    """

    step: int
    what: Any
    answer: Answer | None = None
    state: str = ""
    strict: bool = True
    """Whether the reason has to be the same, too, and not only the code."""


@dataclass(slots=True)
class Log:
    """What came of a script, up to some step. `sends` has the outcome of each send(), by its step."""

    received: list[Entry] = field(default_factory=list)
    sends: dict[int, Entry] = field(default_factory=dict)
    peer: list[Entry] = field(default_factory=list)
    waiting: int = 0
    """So many calls of receive() are pending."""
    states: list[str] = field(default_factory=list)
    """Where the machine was before each step."""
    taken: list[Answer] = field(default_factory=list)


class _Player(SansIO):
    """A connection that is played a script to. Keeps every answer, and what it brought about.

    What holds is what the advertised version says. Messages have the newest keys all the same: a server that does not
    know one yet need not heed it, and that it does not is a choice of it (`SINCE`).
    """

    def __init__(self, machine: Lifecycle, terms: Terms) -> None:
        self.log = Log()
        self.step = 0
        self._answer_now: Answer | None = None
        self._sent: Answer | None = None
        self._refused = ""
        self._strict = False
        self._cause: tuple[Answer | None, str, bool] = (None, "", True)
        self._kept = 0
        newest = list(machine.spec.versions)[-1]
        scope = Scenario("", "", (), (), newest, terms.extensions, terms.subprotocols, (), "", 0)
        super().__init__(scope, machine, self._observe)
        bits = self.connection.case & ~machine.dialect(newest).facts
        self.connection.case = bits | machine.dialect(terms.spec_version).facts

    def _observe(self, answer: Answer) -> None:
        self._answer_now = answer
        self.log.taken.append(answer)

    def play(self, step: Step) -> None:
        """One step, now."""
        before = self.connection.state
        self._strict = step.stimulus == "app sends"
        self._answer_now = None
        self._kept = 0
        if self._held is not None and step.stimulus in {*FRAMES, "peer floods"} and not self._early(step):
            return
        seen = self.do(Act(step.stimulus, step.value, (), (), None, False, 0))
        if step.stimulus == "app sends":
            raised = None if seen.raised is None else {"raised": seen.raised, "rule": self._refused}
            self.log.sends[self.step] = Entry(self.step, raised, self._sent, before)
        self.log.waiting = seen.waiting

    def _send(self, message: dict[str, Any]) -> None:
        self._answer_now = None
        try:
            self._carry_out(self.connection.app_sent(message))
        except (ApplicationViolation, Disconnected) as error:
            self._seen.raised = "disconnected" if isinstance(error, Disconnected) else "violation"
            self._refused = error.rule
        self._sent = self._answer_now

    def _answer(self) -> None:
        """One message for each call that waits; each is kept with the machine's answer."""
        while self._seen.waiting:
            before, given = self.connection.state, len(self._seen.app)
            waiting, self._seen.waiting = self._seen.waiting, 1
            super()._answer()
            left, self._seen.waiting = self._seen.waiting, waiting
            if left:
                return
            self._seen.waiting -= 1
            message = self._seen.app[given]
            strict = self._closed_by != "server"
            self.log.received.append(Entry(self.step, message, self._answer_now, before, strict))

    def _early(self, step: Step) -> bool:
        """Whether bytes that come before the accept mean something; they may be dropped, or refused (C14)."""
        flat = self.connection.machine.flat
        if step.stimulus == "peer floods":
            return flat.value("C14", "bytes") is not None
        if flat.value("C14", "bytes") == 0:
            self._seen = Seen(waiting=self._seen.waiting)
            self._carry_out(self.connection.peer_violated(1009))
            self._answer()
            self.log.waiting = self._seen.waiting
            return False
        return bool(flat.value("C14", "keep"))

    def _carry_out(self, effects: Iterable[fx.Effect]) -> None:
        self._keep()  # what the effects so far of an outer call brought about, before those of what it lets be decoded
        outer, self._cause = self._cause, (self._answer_now, self.connection.state, self._strict)
        super()._carry_out(effects)
        self._keep()
        self._cause = outer

    def _keep(self) -> None:
        """Keeps what the peer has seen, with its cause."""
        for entry in self._seen.peer[self._kept :]:
            self.log.peer.append(Entry(self.step, entry, *self._cause))
        self._kept = len(self._seen.peer)

    @property
    def _closed_by(self) -> str:
        """Who has said the code and the reason that the app is told."""
        for answer in self.log.taken:
            if any(name == "cause" for name, _ in answer.assigns):
                return "app" if answer.event == "app_close" else "peer" if answer.event == "peer_close" else "server"
        return ""


def play(machine: Lifecycle, terms: Terms, script: Sequence[Step], delay: Mapping[int, int] | None = None) -> Log:
    """What has to come of a script. `delay`: before which later step the server reads what the peer did in a step.

    A step at the end of the script, `len(script)`, is read when all else is done; one behind that never.
    """
    player, delay = _Player(machine, terms), delay or {}
    states: list[str] = []
    for number, step in enumerate((*script, None)):
        player.step = number - 1
        for late in [late for late, until in delay.items() if until == number]:
            player.play(script[late])
        player.step = number
        states.append(player.connection.state)
        if step is not None and number not in delay:
            player.play(step)
    player.log.states = states
    gone = next((number for number, step in enumerate(script) if step.stimulus == "peer vanishes"), len(script))
    player.log.peer = [entry for entry in player.log.peer if entry.step < gone]
    return player.log


def delays(script: Sequence[Step], most: int = 64) -> Iterator[dict[int, int]]:
    """The ways in which a server may be late with what the peer did; none at first, and the least late ones before.

    The order is kept. Late is what comes at once with the next step, and what comes behind a message that the app has
    not asked for, since a server may have paused reading; the latter may never be read.
    """
    end = len(script)
    unread = _unread(script)
    acts = [number for number, step in enumerate(script) if step.by_peer and step.stimulus not in HOLDS]
    found: list[dict[int, int]] = [{}]
    for act in acts:
        more = []
        for late in found:
            earliest = max([act + 1, *late.values()])
            latest = end + 1 if act in unread else _until(script, act)
            more += [{**late, act: place} for place in range(earliest, max(earliest, latest) + 1)]
        found = sorted(more, key=lambda late: sum(late.values()))[:most]
    for late in found:
        yield {act: place for act, place in late.items() if place > act + 1}


FRAMES = frozenset({"peer sends", "peer pings", "peer closes", "peer violates"})
"""What the peer does by sending frames."""

HOLDS = frozenset({"peer holds", "peer reads"})
"""What the peer does for itself: nothing of it takes its way to the server."""


def _until(script: Sequence[Step], act: int) -> int:
    """The step before which the server has read what the peer did at once with others."""
    while act < len(script) and script[act].together:
        act += 1
    return act + 1


def _unread(script: Sequence[Step]) -> set[int]:
    """The acts of the peer behind a message for which the app has not called receive() by then."""
    asked = -1  # the first call is answered by the connect
    found: set[int] = set()
    behind = False
    for number, step in enumerate(script):
        asked += step.stimulus == "app asks"
        if behind and step.by_peer:
            found.add(number)
        if step.stimulus == "peer sends":
            asked -= 1
            behind |= asked < 0
    return found


# ------------------------------------------------------------------------------------------------ comparing


@dataclass(frozen=True, slots=True)
class Difference:
    """Where what was seen is not what has to come of it. One of both is None where there is nothing."""

    side: str
    """`send`, `receive`, `waits` or `peer`."""
    step: int
    due: Entry | None
    seen: Entry | None


def differences(due: Log, seen: Log) -> list[Difference]:
    """What was seen otherwise than it has to be; the earliest is the first."""
    found = [
        Difference("send", step, due.sends.get(step), entry)
        for step, entry in seen.sends.items()
        if step in due.sends and not _same_outcome(due.sends[step].what, entry.what)
    ]
    found += _sequences("receive", due.received, seen.received, _same_message)
    found += _sequences("peer", _settled(due.peer), _settled(seen.peer), _same_entry)
    if not found and due.waiting != seen.waiting:
        found.append(Difference("waits", len(due.states) - 1, None, None))
    return sorted(found, key=lambda one: (one.step, ("send", "receive", "peer", "waits").index(one.side)))


def _sequences(
    side: str, due: Sequence[Entry], seen: Sequence[Entry], same: Callable[[Entry, Entry], bool]
) -> Iterator[Difference]:
    """The first difference of two sequences. Nothing is seen before it is brought about."""
    for wanted, got in zip_longest(due, seen):
        if wanted is None or got is None or not same(wanted, got) or got.step < wanted.step:
            begun = wanted is not None and got is not None and "http" in wanted.what and "head" in got.what
            steps = [entry.step for entry in (wanted, got) if entry is not None]
            yield Difference(side, max(steps) if begun else min(steps), wanted, got)
            return


def _settled(entries: Sequence[Entry]) -> list[Entry]:
    """What the peer saw, in a form that does not tell in how many pieces; each with what belongs to the last of it."""
    whole = settled([entry.what for entry in entries])
    last = {len(settled([entry.what for entry in entries[: n + 1]])): entry for n, entry in enumerate(entries)}
    return [
        Entry(last[place].step, what, last[place].answer, last[place].state, last[place].strict)
        for place, what in enumerate(whole, 1)
    ]


def _same_outcome(due: Any, seen: Any) -> bool:
    if due is None or seen is None:
        return due is seen
    return bool(due.get("raised") == seen.get("raised"))


def _same_message(due: Entry, seen: Entry) -> bool:
    if "raised" in due.what or "raised" in seen.what:
        return _same_outcome(due.what, seen.what)
    wanted = {key: value for key, value in due.what.items() if value is not None}
    if not due.strict and wanted["type"] == "websocket.disconnect":
        wanted.pop("reason", None)  # a server words by itself why it has ended the connection
    got = {key: value for key, value in seen.what.items() if value is not None}
    if wanted["type"] == "websocket.disconnect" and wanted.get("reason") == "":
        del wanted["reason"]  # which a missing one means (R31)
        if got.get("reason"):
            return False
    return wanted.items() <= got.items() and not {"text", "bytes"} & (got.keys() - wanted.keys())


def _same_entry(due: Entry, seen: Entry) -> bool:
    wanted = due.what
    if "invalid" in seen.what and _illegal(wanted):
        return True  # a client that is sound says no more of what should never have been sent
    if "http" in wanted and not wanted["http"].get("body"):
        wanted = {"http": {key: value for key, value in wanted["http"].items() if key != "body"}}  # which is its own
    if "close" in wanted and not due.strict:
        return "close" in seen.what and seen.what["close"].get("code") == wanted["close"].get("code")
    return same_on_the_wire(wanted, seen.what)


def _illegal(wanted: Mapping[str, Any]) -> bool:
    """Whether this is what no server may send, although an answer to a choice (C19, C20) lets an app do so."""
    if "handshake" in wanted:
        return wanted["handshake"].get("subprotocol") is not None
    code = wanted.get("close", {}).get("code")
    return code is not None and not in_ranges(code, lifecycle().flat.value("C20", "peer"))


# ------------------------------------------------------------------------------------------------ judging


SPEC = lifecycle().spec
REFERENCE = SPEC.reference
"""The reference's answers."""


@lru_cache(maxsize=400)  # each takes a megabyte
def _built(others: frozenset[tuple[str, str]]) -> Lifecycle:
    return build(SPEC, {**REFERENCE, **dict(others)}, "measured") if others else lifecycle()


SINCE: Mapping[str, str] = {
    key.rule: key.since for message in SPEC.messages.values() for key in message.keys.values() if key.since is not None
}
"""The spec version that brought a key, by the rule of the key."""


def machine_of(answers: Mapping[str, str]) -> Lifecycle:
    """The machine of a profile. `answers` may be less than all: the others are the reference's."""
    return _built(frozenset(answers.items() - REFERENCE.items()))


_TELLING: dict[str, list[tuple[str, str]]] = {}
"""What `_telling` has found, by what it was asked."""


def _telling(answers: Mapping[str, str], terms: Terms, script: Sequence[Step]) -> list[tuple[str, str]]:
    """The answers other than these that make a difference to a script, each alone."""
    asked = repr((sorted(answers.items() - REFERENCE.items()), terms, script))
    if asked not in _TELLING:
        usual = play(machine_of(answers), terms, script)
        _TELLING[asked] = [
            (number, answer)
            for number, choice in SPEC.choices.items()
            for answer in choice.answers
            if answer != answers.get(number, choice.reference)
            and _tells(usual, play(machine_of({**answers, number: answer}), terms, script))
        ]
    return _TELLING[asked]


def _tells(usual: Log, other: Log) -> bool:
    return bool(differences(usual, other)) or other.states != usual.states


def fits(answers: Mapping[str, str], terms: Terms, script: Sequence[Step], seen: Log) -> dict[int, int] | None:
    """The delays with which a profile explains what was seen; None: it does not."""
    machine = machine_of(answers)
    return next((late for late in delays(script) if not differences(play(machine, terms, script, late), seen)), None)


def explain(
    answers: Mapping[str, str], terms: Terms, script: Sequence[Step], seen: Log, *, thorough: bool = False
) -> tuple[dict[str, str], dict[int, int]] | None:
    """The answers, beside those that are believed, that explain what was seen, as few as possible, and the delays.

    `thorough`: what makes a difference only together with what is believed is looked at, too, which takes its time.
    """
    for change in _changes(answers, terms, script, thorough=thorough):
        late = fits({**answers, **change}, terms, script, seen)
        if late is not None:
            return change, late
    return None


def nearest(answers: Mapping[str, str], terms: Terms, script: Sequence[Step], seen: Log) -> dict[str, str]:
    """The one answer beside those that are believed with which most of what was seen is as it has to be, if any is."""

    def right(change: Mapping[str, str]) -> int:
        return agreement(play(machine_of({**answers, **change}), terms, script), seen)

    ones = [change for change in _changes(answers, terms, script) if len(change) < 2]
    return max(ones, key=right)  # the first of them, which is no change, where none is better


def _changes(
    answers: Mapping[str, str], terms: Terms, script: Sequence[Step], *, thorough: bool = False
) -> Iterator[dict[str, str]]:
    """What may be answered otherwise than is believed: nothing, one choice, two."""
    yield {}
    telling = _telling({}, terms, script) + (_telling(answers, terms, script) if thorough else [])
    back = [(choice, REFERENCE[choice]) for choice, _ in telling]
    other = [(choice, answer) for choice, answer in telling + back if answers.get(choice, REFERENCE[choice]) != answer]
    ones = [{choice: answer} for choice, answer in dict.fromkeys(other)]
    yield from ones
    twos = [one | more for n, one in enumerate(ones) for more in ones[n + 1 :] if one.keys() != more.keys()]
    yield from twos if len(twos) <= _MOST else ()


_MOST = 200
"""So many pairs of answers are looked at, at most."""


def agreement(due: Log, seen: Log) -> int:
    """How much of what was seen is as it has to be, up to where it is not. What the peer saw counts twice."""
    sends = [_same_outcome(due.sends[step].what, seen.sends[step].what) for step in due.sends if step in seen.sends]
    received = map(_same_message, due.received, seen.received)
    peer = map(_same_entry, _settled(due.peer), _settled(seen.peer))
    return sum(sends) + len(list(takewhile(bool, received))) + 2 * len(list(takewhile(bool, peer)))


def rules_of(script: Sequence[Step], due: Log) -> frozenset[str]:
    """The rules that a script tries: those of the machine's answers, and of the keys of all messages."""
    messages = [entry.what for entry in due.received if "type" in entry.what]
    messages += [step.value for step in script if step.stimulus == "app sends" and isinstance(step.value, Mapping)]
    keys = {
        key.rule
        for message in messages
        if message.get("type") in SPEC.messages
        for name, key in SPEC.messages[message["type"]].keys.items()
        if name in message
    }
    return frozenset(keys | {answer.rule for answer in due.taken} | {step.rule for step in script if step.rule})


@cache
def of_values() -> frozenset[str]:
    """The choices that are about values in messages: all their answers make one and the same machine."""
    usual = lifecycle().flat.answers
    return frozenset(
        number
        for number, choice in SPEC.choices.items()
        if all(machine_of({number: answer}).flat.answers == usual for answer in choice.answers)
    )


@dataclass(frozen=True, slots=True)
class Blame:
    """What is wrong: the rule, where, and both what was due and what was seen, in words that hold no data."""

    rule: str
    step: int
    state: str
    event: str
    expected: str
    seen: str
    side: str


def blame(answers: Mapping[str, str], terms: Terms, script: Sequence[Step], seen: Log) -> Blame:
    """What is wrong with what no answer explains: the earliest difference from what is believed, if nothing is late."""
    machine = machine_of(answers)
    due = play(machine, terms, script)
    first = differences(due, seen)[0]
    step = script[first.step] if first.step < len(script) else None
    state = due.states[min(first.step, len(due.states) - 1)]
    rule = _rule(answers, terms, script, first, state, step)
    words = [_words(first.side, entry) for entry in (first.due, first.seen)]
    if words[0] == words[1]:
        words[1] += f", with another {'reason' if rule in ('R31', 'R39') else 'content'}"
    where = first.due.state if first.due and first.due.state else state
    return Blame(rule, first.step, where, _event(step), words[0], words[1], first.side)


def _rule(
    answers: Mapping[str, str], terms: Terms, script: Sequence[Step], first: Difference, state: str, step: Step | None
) -> str:
    """The number of the rule that is broken by a difference."""
    due, seen = first.due, first.seen
    if due is not None and due.state:
        state = due.state
    wire, app = state.partition("/")[0], state.rpartition("/")[2]
    if _refused_before(answers, terms, script, first.step) and first.side != "send":
        return "C41"  # what becomes of a connection whose app has sent what may not be sent
    several = _most_waiting(script[: first.step + 1]) > 1
    if app == "done" and first.side != "peer":
        return "R52"  # how long a task is served that outlives the app's call
    match first.side:
        case "send":
            assert due is not None
            assert step is not None
            refused = (due.what or {}).get("rule", "")
            if refused.startswith("R") and due.answer is None:
                return "R43"  # what is malformed has to be refused
            if refused == "R55":
                return "C41"  # which binds the app
            return refused or step.rule or (due.answer.rule if due.answer else "R43")
        case "receive" | "waits" if several:
            return "C16"
        case "receive" if due is not None and due.answer is not None:
            kinds = [entry.what.get("type") if entry else None for entry in (due, seen)]
            if kinds[0] == "websocket.connect" and wire != "handshake":
                return "C1"  # the app has answered before it asked
            if state.split("/")[1] == "ended":
                return "C6" if kinds[0] != kinds[1] else "C7"
            if kinds[0] != kinds[1]:
                return due.answer.rule
            return _of_the_message(answers, terms, script, due, seen)
        case "receive" if seen is not None and "silent" in state and seen.what.get("type") == "websocket.disconnect":
            return "C10"  # it is told later than the reference tells it
        case "receive" if seen is not None and wire in ("closing", "failing") and "text" in seen.what:
            return "C15"
        case "receive":
            given = EVENTS.get(seen.what.get("type", "") if seen else "", "give_connect")
            return machine_of(answers).flat.answers[given][0][state].rule
        case "peer" if seen is not None and "end" in seen.what and wire == "closing":
            return "C48"  # how long the peer's Close is waited for
        case "peer" if due is not None and due.answer is not None:
            if step is not None and step.stimulus == "peer violates" and seen is None and step.rule:
                return step.rule
            return _of_the_wire(due, seen, due.answer)
        case "peer":
            kind = next(iter(seen.what)) if seen else ""
            return _UNASKED.get(kind, "R4")
    return "R28"


def _refused_before(answers: Mapping[str, str], terms: Terms, script: Sequence[Step], step: int) -> bool:
    """Whether the app has sent something before, or just now, that had to be refused as a violation."""
    sends = play(machine_of(answers), terms, script).sends
    return any(number <= step and (entry.what or {}).get("raised") == "violation" for number, entry in sends.items())


def _most_waiting(script: Sequence[Step]) -> int:
    """How many calls of receive() are pending at a time, at most, if the reference answers them."""
    player = _Player(machine_of({}), Terms("2.5", ("websocket.http.response",)))
    most = 0
    for number, step in enumerate(script):
        player.step = number
        asks = step.stimulus == "app asks"
        most = max(most, player.log.waiting + asks)
        player.play(step)
    return most


_ENDS = {"app_return": "R4", "app_raise": "R46", "peer_eof": "R4", "peer_lost": "R4", "peer_close": "W7"}
"""The rules that ask for the end of the transport, by what it follows on."""

_UNASKED = {"handshake": "R22", "text": "W13", "bytes": "W13", "close": "W7", "pong": "W8", "invalid": "W13"}
"""The rules against what nobody has asked for, by its kind."""


def _of_the_wire(due: Entry, seen: Entry | None, answer: Answer) -> str:
    """The rule of what the peer should have seen; that of a key where only this differs."""
    ((kind, value),) = due.what.items()
    if kind == "end" and answer.event in _ENDS:
        return _ENDS[answer.event]
    if seen is None or kind not in seen.what or not isinstance(value, Mapping):
        return answer.rule
    got = seen.what[kind]
    if kind == "close":
        return "C20" if _illegal(due.what) else "R39" if got.get("code") == value.get("code") else answer.rule
    if kind == "handshake":
        return "R24" if got.get("subprotocol") != value.get("subprotocol") else "R25"
    if kind in ("http", "head") and got["status"] == value["status"]:
        return "R56"
    return answer.rule


def _of_the_message(
    answers: Mapping[str, str], terms: Terms, script: Sequence[Step], due: Entry, seen: Entry | None
) -> str:
    """The rule of what is in a message: the choice that says it, if one does."""
    if due.what["type"] != "websocket.disconnect":
        return "R26"
    code = due.what.get("code")
    if seen is not None and seen.what.get("code") == code:
        return "R31"
    for choice, answer in _telling(answers, terms, script):
        other = play(machine_of({**answers, choice: answer}), terms, script)
        codes = [entry.what.get("code") for entry in other.received if entry.what.get("type") == due.what["type"]]
        if codes and codes[0] != code:
            return choice
    return "R30"


def _event(step: Step | None) -> str:
    """A step in the words of the spec."""
    if step is None:
        return ""
    if step.stimulus == "app sends":
        kind = step.value.get("type") if isinstance(step.value, Mapping) else None
        events = {
            "websocket.accept": "app_accept",
            "websocket.send": "app_send",
            "websocket.close": "app_close",
            "websocket.http.response.start": "app_response_start",
            "websocket.http.response.body": "app_response_end",
        }
        if kind == "websocket.http.response.body" and step.value.get("more_body") is True:
            return "app_response_body"
        return events.get(str(kind), "app_unknown")
    return {
        "app asks": "receive",
        "app cancels": "receive_cancelled",
        "app returns": "app_return",
        "app raises": "app_raise",
        "peer sends": "peer_message",
        "peer pings": "peer_ping",
        "peer closes": "peer_close",
        "peer floods": "peer_violation",
        "peer violates": "peer_violation",
        "peer ends": "peer_eof",
        "peer vanishes": "peer_lost",
        "server shuts down": "server_shutdown",
        "time passes": str(step.value),
    }.get(step.stimulus, step.stimulus.replace(" ", "_"))


def _words(side: str, entry: Entry | None) -> str:
    """What is due or was seen, without any data."""
    match side:
        case "send":
            what = entry.what if entry else None
            if what is None:
                return "send() returns"
            if "pending" in what:
                return "send() is pending"
            how = {"disconnected": "an OSError", "violation": "an error"}[what["raised"]]
            return f"send() raises {what.get('class') or how}"
        case "receive":
            if entry is None:
                return "receive() is pending"
            if "raised" in entry.what:
                return f"receive() raises {entry.what.get('class') or entry.what['raised']}"
            code = f" with code {entry.what['code']}" if "code" in entry.what else ""
            return f"receive() gives {entry.what.get('type')}{code}"
        case "waits":
            return "as many calls of receive() are pending as messages are missing"
    if entry is None:
        return "nothing is sent to the peer"
    ((kind, value),) = entry.what.items()
    match kind:
        case "close":
            return f"a Close with {value.get('code', 'no code')}"
        case "http" | "head":
            return f"HTTP {value['status']}"
        case "handshake":
            return "the handshake is completed"
        case "end":
            return "the connection ends"
        case "invalid":
            return f"what cannot be read ({value.partition(':')[0]})"
    return f"a {kind}"
