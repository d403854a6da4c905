"""What is wrong with what no answer explains: the rule that is broken, and both what was due and what was seen.

The rule is that of the machine's row where the paths part, unless something nearer says it: the key that differs, the
choice that a code comes from, or what binds nobody, such as the calls of a task that outlives the app's call (R52).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wslifecycle.conformance.kit.compare import Difference, differences, is_illegal
from wslifecycle.conformance.kit.oracle import telling
from wslifecycle.conformance.kit.plays import machine_of, played
from wslifecycle.conformance.kit.script import FRAMES, Entry, Log, Player, Step, Terms
from wslifecycle.conformance.orders.watched import EVENTS, event_of
from wslifecycle.statemachine.flatten import Answer


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
    due = played(answers, terms, script)
    first = differences(due, seen)[0]
    step = script[first.step] if first.step < len(script) else None
    state = due.states[min(first.step, len(due.states) - 1)]
    rule = _rule(answers, terms, script, first, state, step)
    words = [_words(first.side, entry) for entry in (first.due, first.seen)]
    if words[0] == words[1]:
        words[1] += f", with another {'reason' if rule in ('R31', 'R39') else 'content'}"
    where = first.due.state if first.due and first.due.state else state
    return Blame(rule, first.step, where, event_in(step), words[0], words[1], first.side)


def _rule(
    answers: Mapping[str, str], terms: Terms, script: Sequence[Step], first: Difference, state: str, step: Step | None
) -> str:
    """The number of the rule that is broken by a difference."""
    due, seen = first.due, first.seen
    if due is not None and due.state:
        state = due.state
    wire, app = state.partition("/")[0], state.rpartition("/")[2]
    sending = first.side == "send"
    if _refused_before(answers, terms, script, first.step - sending) and not (sending and due and due.what):
        return "C41"  # what becomes of a connection whose app has sent what may not be sent
    if _early(answers, terms, script, first.step) and not _too_soon(seen, wire):
        return "C14"  # what becomes of one whose peer does not wait for the answer (RFC 6455 section 4.1)
    several = _most_waiting(script[: first.step + 1]) > 1
    if app == "done" and (first.side != "peer" or _of_a_send(due)):
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
            if kind in ("head", "http") and event_in(step) == "app_response_start":
                return "C50"  # it is not held until the first body
            return _UNASKED.get(kind, "R4")
    return "R28"


def _of_a_send(due: Entry | None) -> bool:
    """Whether the peer should have seen what the app has sent."""
    return due is not None and due.answer is not None and due.answer.event in EVENTS.values()


def _refused_before(answers: Mapping[str, str], terms: Terms, script: Sequence[Step], step: int) -> bool:
    """Whether the app has sent something before, or just now, that had to be refused as a violation."""
    sends = played(answers, terms, script).sends
    return any(number <= step and (entry.what or {}).get("raised") == "violation" for number, entry in sends.items())


def _early(answers: Mapping[str, str], terms: Terms, script: Sequence[Step], last: int) -> bool:
    """Whether the peer has sent something before the answer, up to this step."""
    states = played(answers, terms, script).states
    acts = list(zip(script, states, strict=False))[: last + 1]
    return any(step.stimulus in (*FRAMES, "peer floods") and state.startswith(_BEFORE) for step, state in acts)


_BEFORE = ("handshake/", "denial_held/", "denying/")
"""The states of the wire before the answer to the handshake is complete."""


def _too_soon(seen: Entry | None, wire: str) -> bool:
    """Whether a message is given to the app, or a frame sent to the peer, before the answer: nothing excuses that."""
    what = seen.what if seen is not None and isinstance(seen.what, Mapping) else {}
    return (what.get("type") == "websocket.receive" and wire == "handshake") or "invalid" in what


def _most_waiting(script: Sequence[Step]) -> int:
    """How many calls of receive() are pending at a time, at most, if the reference answers them."""
    player = Player(machine_of({}), Terms("2.5", ("websocket.http.response",)))
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
        return "C20" if is_illegal(due.what) else "R39" if got.get("code") == value.get("code") else answer.rule
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
    if seen is not None and "code" not in seen.what:
        return "R30"  # which is required
    if seen is not None and seen.what["code"] == code:
        return "R31"
    for choice, answer in telling(answers, terms, script):
        other = played({**answers, choice: answer}, terms, script)
        codes = [entry.what.get("code") for entry in other.received if entry.what.get("type") == due.what["type"]]
        if codes and codes[0] != code:
            return choice
    return "R30"


def event_in(step: Step | None) -> str:
    """What happens in a step, in the words of the spec; empty where there is none."""
    if step is None:
        return ""
    if step.stimulus == "app sends":
        return event_of(step.value) or "app_unknown"
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
