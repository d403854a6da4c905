"""Compares what was seen in a conversation with what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from typing import Any

from wslifecycle.conformance.kit.client import settled
from wslifecycle.conformance.kit.script import Entry, Log
from wslifecycle.conformance.scenarios import same_on_the_wire
from wslifecycle.statemachine.machine import lifecycle
from wslifecycle.statemachine.messages import in_ranges


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
    if "invalid" in seen.what and is_illegal(wanted):
        return True  # a client that is sound says no more of what should never have been sent
    if "http" in wanted and not wanted["http"].get("body"):
        wanted = {"http": {key: value for key, value in wanted["http"].items() if key != "body"}}  # which is its own
    if "close" in wanted and not due.strict:
        return "close" in seen.what and seen.what["close"].get("code") == wanted["close"].get("code")
    return same_on_the_wire(wanted, seen.what)


def is_illegal(wanted: Mapping[str, Any]) -> bool:
    """Whether this is what no server may send, although an answer to a choice (C19, C20) lets an app do so."""
    if "handshake" in wanted:
        return wanted["handshake"].get("subprotocol") is not None
    code = wanted.get("close", {}).get("code")
    return code is not None and not in_ranges(code, lifecycle().flat.value("C20", "peer"))


def agreement(due: Log, seen: Log) -> int:
    """How much of what was seen is as it has to be, up to where it is not. What the peer saw counts twice."""
    sends = [_same_outcome(due.sends[step].what, seen.sends[step].what) for step in due.sends if step in seen.sends]
    received = map(_same_message, due.received, seen.received)
    peer = map(_same_entry, _settled(due.peer), _settled(seen.peer))
    return sum(sends) + len(list(takewhile(bool, received))) + 2 * len(list(takewhile(bool, peer)))
