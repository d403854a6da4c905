"""Says in words what the machine does: in errors, in `Connection.explain`, in `wslifecycle table` and `explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.model import Actor, Call, Kind


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may happen now: the ASGI types that the app may send, and what `receive()` gives (None: it waits)."""

    send: tuple[str, ...]
    receive: str | None

    def __str__(self) -> str:
        return ", ".join(self.send) or "nothing"


def allowed(machine: Lifecycle, state: str, case: int) -> Allowed:
    """What is allowed in a state and guard case. Declared no-ops are not listed: they do nothing."""
    send = [
        event.message
        for name, event in machine.spec.events.items()
        if event.actor is Actor.APP and event.message and _does_something(machine.flat.answers[name][case][state])
    ]
    gift = machine.due[case][state]
    receive = None if gift.refusal else machine.spec.events[gift.event].message
    return Allowed(tuple(dict.fromkeys(send)), receive)


def _does_something(answer: Answer) -> bool:
    return answer.refusal is None and not answer.ignored


def situation(machine: Lifecycle, state: str) -> str:
    """What a product state means, region by region."""
    regions = machine.spec.regions.values()
    return " ".join(region.states[local].says for region, local in zip(regions, state.split("/"), strict=True))


def place(machine: Lifecycle, line: int) -> str:
    """`spec/lifecycle.yaml:87`."""
    return f"{machine.spec.file}:{line}"


def refusal(machine: Lifecycle, answer: Answer, case: int, label: str, came: Answer | None) -> str:
    """The text of an error: what was refused and why, what is allowed instead, how this state came about."""
    wire = machine.spec.regions[machine.flat.regions[0]].states[answer.source.split("/")[0]]  # what the peer can see
    if answer.refusal is Kind.DISCONNECTED:
        why = f"{label}: the connection has ended. {wire.says}"
        fix = "Nothing can be sent any more; catch this error, clean up and return."
    elif answer.refusal is Kind.IMPOSSIBLE:
        why = f"{answer.event} cannot happen in {answer.source}. {wire.says}"
        fix = "This is a fault in the server that drives the connection."
    else:
        why = f"{label} is not allowed in {answer.source}. {wire.says}"
        fix = f"Allowed now: {allowed(machine, answer.source, case)}."
    return "\n".join((f"[{answer.rule}] {why}", fix, origin(machine, answer.rule, answer.lines[0], came)))


def malformed(machine: Lifecycle, text: str, rule: str, line: int, came: Answer | None) -> str:
    """The text of an error about the shape of a message."""
    return "\n".join(
        (f"[{rule}] {text}", "Nothing was sent; the connection is unchanged.", origin(machine, rule, line, came))
    )


def origin(machine: Lifecycle, rule: str, line: int, came: Answer | None) -> str:
    """How the state came about, the rule, and its line."""
    got_here = f"Got here by: {machine.spec.events[came.event].says} " if came else ""
    return f"{got_here}{machine.spec.cite(rule).rstrip('.')}. {place(machine, line)}"


def effects(calls: Iterable[Call]) -> str:
    """`send_close(code=1000, reason=''), resume_reading`."""
    return ", ".join(
        call.effect + (f"({', '.join(f'{key}={_show(value)}' for key, value in call.fields)})" if call.fields else "")
        for call in calls
    )


def _show(value: object) -> str:
    return repr(value) if isinstance(value, str | bytes) or value is None else str(value)


def outcome(answer: Answer) -> str:
    """One answer in a few words."""
    if answer.refusal is Kind.NOT_DUE:
        return "not given"
    if answer.refusal:
        return f"refused ({answer.refusal})"
    if answer.ignored:
        return "ignored"
    leads = f"-> {answer.target}" if answer.moves else "stays"
    return f"{leads}  {effects(answer.effects)}".rstrip()


def matching(machine: Lifecycle, pattern: str) -> list[str]:
    """The product states that a pattern names: `open`, `open/flowing`, or a whole one.

    Each part has to be a state of the region at its place, or `*`. Raises `LookupError` with the states that exist.
    """
    parts = pattern.split("/")
    found = [
        state
        for state in machine.states
        if len(parts) <= len(machine.flat.regions)
        and all(part in ("*", local) for part, local in zip(parts, state.split("/"), strict=False))
    ]
    if not found:
        regions = "; ".join(
            f"{name}: {', '.join(dict.fromkeys(state[i] for state in machine.flat.states))}"
            for i, name in enumerate(machine.flat.regions)
        )
        raise LookupError(f"No state matches {pattern!r}. Write wire/inbox/app, e.g. open/flowing. {regions}.")
    return found


def events_of(machine: Lifecycle, name: str) -> list[str]:
    """The events that a name stands for: an event's own name, or an ASGI message type. Raises `LookupError`."""
    events = machine.spec.events
    found = [event.name for event in events.values() if name in (event.name, event.message)]
    if not found:
        types = ", ".join(dict.fromkeys(event.message for event in events.values() if event.message))
        others = ", ".join(event.name for event in events.values() if not event.message)
        raise LookupError(f"There is no message or event {name!r}. Messages: {types}. Events: {others}.")
    return found


def explain_event(machine: Lifecycle, event: str, states: Iterable[str]) -> Iterator[str]:
    """What one event does in these states, in every guard case that matters; those that answer alike stand together."""
    spec = machine.spec
    groups: dict[tuple[str, int, str, str, tuple[int, ...]], list[Answer]] = {}
    for state in states:
        for given, case, answer in answers(machine, [event], state):
            groups.setdefault((given, case, outcome(answer), answer.rule, answer.lines), []).append(answer)
    for (given, case, does, number, lines), alike in groups.items():
        actor = spec.events[event].actor
        yield f"{actor}: {spec.events[event].label}{f' ({given})' if given else ''}: {does}"
        yield f"  in {', '.join(answer.source for answer in alike)}"
        says = f" {spec.rules[number].says}" if number in spec.rules else ""
        yield f"  {spec.cite(number).rstrip('.')}.{says}"
        yield f"  {', '.join(place(machine, line) for line in lines)}"
        if alike[0].refusal is Kind.VIOLATION:
            yield f"  Allowed there: {allowed(machine, alike[0].source, case)}."
    used = {name for given, *_ in groups for name, _ in machine.flat.facts_read(event) if name in given}
    for name in sorted(used):
        yield f"  {name}: {spec.facts[name].says}"


def explain_number(machine: Lifecycle, number: str) -> Iterator[str]:
    """A rule or a choice: what it says, where it comes from, and the rows that it has. Raises `LookupError`."""
    spec = machine.spec
    if number in spec.rules:
        rule = spec.rules[number]
        yield f"{number} ({rule.level.name.lower()}): {rule.says}"
        yield f"  {spec.cite(number)}; {place(machine, rule.line)}"
    elif number in spec.choices:
        choice = spec.choices[number]
        yield f"{number}: {choice.about}"
        for answer, values in choice.answers.items():
            mark = "*" if answer == machine.flat.choices[number] else " "
            given = ", ".join(f"{key}={_show(value)}" for key, value in values.items())
            yield f"  {mark} {answer}{f': {given}' if given else ''}"
        yield f"  * is the answer of the profile {machine.profile}; {place(machine, choice.line)}"
    else:
        known = f"R1-R{sum(n[0] == 'R' for n in spec.rules)}, W1-W{sum(n[0] == 'W' for n in spec.rules)}"
        raise LookupError(f"There is no rule or choice {number!r}. There are {known} and C1-C{len(spec.choices)}.")
    for row in spec.rows:
        if row.rule == number or any(number in alternative for alternative in row.when.alternatives):
            does = row.refusal or (f"-> {row.target}" if row.target else effects(row.effects) or "ignored")
            selected = "" if row.when.holds(machine.flat.choices) else "  (not in this profile)"
            yield f"  line {row.line}: {', '.join(row.events)} in {', '.join(row.sources)}: {does}{selected}"
    for declared in spec.properties.values():
        if declared.rule == number:
            yield f"  property {declared.name}: {declared.holds}"


def answers(machine: Lifecycle, events: Iterable[str], state: str) -> Iterator[tuple[str, int, Answer]]:
    """The different answers to these events in a state, each with the facts under which it holds: words and a case.

    Facts that do not matter are taken as a server has them that advertises everything.
    """
    for event in events:
        found = list(machine.flat.guarded_by(event, state))
        alike = len({answer for _, answer in found}) == 1
        for case, answer in found[:1] if alike else found:
            facts = machine.flat.facts_read(event)
            given = "" if alike else ", ".join(name if case & bit else f"not {name}" for name, bit in facts)
            read = sum(bit for _, bit in facts) if given else 0
            yield given, machine.flat.fixed & ~read | (case if given else 0), answer


def row(machine: Lifecycle, state: str) -> dict[str, Any]:
    """One state of `wslifecycle table`: what the app may send, what `receive()` gives, what else leads on from here."""
    everything = machine.flat.fixed
    unread = machine.flat.cases - 1
    others: dict[str, list[str]] = {}
    for answer in machine.flat.distinct(state):
        if answer.moves and not machine.spec.events[answer.event].message:
            others.setdefault(answer.target, []).append(answer.event)
    return {
        "state": state,
        "says": situation(machine, state),
        "final": state in machine.flat.final,
        "send": list(allowed(machine, state, everything).send),
        "receive": allowed(machine, state, everything).receive,
        "receive_unread": allowed(machine, state, unread).receive,
        "others": others,
    }
