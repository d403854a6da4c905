"""What the machine says to a conversation: whether what was seen may be, and under which answers to the choices.

What no delay explains may be another answer to a choice, which `explain` looks for, beside those that are believed of a
server already. What no answer explains is a deviation: `nearest` says which machine comes nearest to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wslifecycle.conformance.kit.compare import agreement, differences
from wslifecycle.conformance.kit.plays import REFERENCE, SPEC, played
from wslifecycle.conformance.kit.script import Log, Step, Terms, delays

SINCE: Mapping[str, str] = {
    key.rule: key.since for message in SPEC.messages.values() for key in message.keys.values() if key.since is not None
}
"""The spec version that brought a key, by the rule of the key."""


def telling(answers: Mapping[str, str], terms: Terms, script: Sequence[Step]) -> list[tuple[str, str]]:
    """The answers other than these that make a difference to a script, each alone."""
    usual = played(answers, terms, script)
    return [
        (number, answer)
        for number, choice in SPEC.choices.items()
        for answer in choice.answers
        if answer != answers.get(number, choice.reference)
        and _tells(usual, played({**answers, number: answer}, terms, script))
    ]


def _tells(usual: Log, other: Log) -> bool:
    return other is not usual and (bool(differences(usual, other)) or other.states != usual.states)


def fits(answers: Mapping[str, str], terms: Terms, script: Sequence[Step], seen: Log) -> dict[int, int] | None:
    """The delays with which a profile explains what was seen; None: it does not."""
    ways = delays(script)
    return next((late for late in ways if not differences(played(answers, terms, script, late), seen)), None)


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
        return agreement(played({**answers, **change}, terms, script), seen)

    ones = [change for change in _changes(answers, terms, script) if len(change) < 2]
    return max(ones, key=right)  # the first of them, which is no change, where none is better


def _changes(
    answers: Mapping[str, str], terms: Terms, script: Sequence[Step], *, thorough: bool = False
) -> Iterator[dict[str, str]]:
    """What may be answered otherwise than is believed: nothing, one choice, two."""
    yield {}
    found = telling({}, terms, script) + (telling(answers, terms, script) if thorough else [])
    back = [(choice, REFERENCE[choice]) for choice, _ in found]
    other = [(choice, answer) for choice, answer in found + back if answers.get(choice, REFERENCE[choice]) != answer]
    ones = [{choice: answer} for choice, answer in dict.fromkeys(other)]
    yield from ones
    twos = [one | more for n, one in enumerate(ones) for more in ones[n + 1 :] if one.keys() != more.keys()]
    yield from twos if len(twos) <= _MOST else ()


_MOST = 200
"""So many pairs of answers are looked at, at most."""


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
