"""A run that breaks a property, told in several ways: text, JSON, a sequence diagram, a way through the picture.

A `Run` is plain data. It can be written to a file, read again, and played against a real `Connection` (`replay`).
Every step says who acts, what is answered, and only that which it changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from wslifecycle.statemachine.check import Report, Violation
from wslifecycle.statemachine.explore import Graph
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.model import Actor
from wslifecycle.statemachine.picture import Step as DrawnStep
from wslifecycle.statemachine.queues import Inbound, Outbound
from wslifecycle.statemachine.system import Control

FORMAT = 1

ACTORS = {
    "app_asks": "app",
    "app_cancels": "app",
    "gives": "server",
    "peer_writes": "peer",
    "decodes": "server",
    "peer_reads": "peer",
    "transport_ends": "transport",
    "transport_tells": "transport",
    "deadline": "clock",
    "late": "clock",
}
"""Who acts where it is no event of the machine, or one that comes about in another way."""

_LETTERS = {
    "a": "message",
    "f": "followed message",
    "b": "later message",
    "C": "Close",
    "N": "Close without a code",
    "V": "fault",
    "E": "end",
}
_WRITTEN = {"a": "written", "f": "followed message", "b": "later message"}


class RunError(ValueError):
    """A file that is no run."""


@dataclass(frozen=True, slots=True)
class RunStep:
    """One step: `letter` tells which message or frame it is about, `changed` what is otherwise after it."""

    action: str
    event: str
    actor: str
    letter: str
    source: str
    target: str
    refused: str | None
    effects: tuple[str, ...]
    rule: str
    line: int
    changed: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Run:
    """A run that shows that `name` does not hold. From step `again` (counted from 0) on it may go round for ever."""

    name: str
    says: str
    rule: str
    line: int
    file: str
    profile: str
    facts: tuple[str, ...]
    queue: int
    steps: tuple[RunStep, ...]
    again: int | None
    waits: tuple[str, ...]
    """What still waits at the end."""

    # ---------------------------------------------------------------------------------------- told

    def text(self) -> str:
        """The run for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name} does not hold [{self.rule}]: {self.says}" if self.rule else f"{self.name}: {self.says}"
        yield f"{self.file}:{self.line}, profile {self.profile}, {_scope(self.facts)}"
        yield ""
        width = max((len(step.actor) for step in self.steps), default=0)
        for number, step in enumerate(self.steps, 1):
            if self.again == number - 1:
                yield "  and then, again and again:"
            yield f"  {number:>2}  {step.actor:<{width}}  {step_says(step)}"
            for name, (old, new) in step.changed.items():
                yield f"      {'':<{width}}      {name}: {_plain(old)} -> {_plain(new)}"
        if self.again == len(self.steps):
            still = " and ".join(self.waits)
            yield f"  and then nothing more has to happen{f'; {still} for ever' if still else ''}."

    def json(self) -> dict[str, Any]:
        """The run as plain data."""
        return {"format": FORMAT, **asdict(self)}

    def mermaid(self) -> str:
        """The run as a sequence diagram between app, server and peer."""
        lines = ["sequenceDiagram", "    participant App", "    participant Server", "    participant Peer"]
        lines.append(f"    Note over Server: {_scope(self.facts)}")
        for number, step in enumerate(self.steps):
            if number == self.again:
                lines.append("    loop again and again")
            lines += (f"    {line}" for line in _drawn(step))
        if self.again is not None and self.again < len(self.steps):
            lines.append("    end")
        elif self.again is not None:
            lines.append(f"    Note over Server: {' and '.join(self.waits) or 'nothing'} for ever")
        broken = f"{self.name} does not hold" if self.rule else self.name
        return "\n".join([*lines, f"    Note over App,Peer: {broken}", ""])

    def path(self) -> list[DrawnStep]:
        """The way through the machine, for a picture: what it obeys and does not ignore."""
        return [
            (step.event, step.source, step.target)
            for step in self.steps
            if not step.refused and (step.source != step.target or step.effects or step.action == "gives")
        ]


def step_says(step: RunStep) -> str:
    """What happens in a step and what is answered, in one line."""
    what = step.action if step.action == step.event else f"{step.action}: {step.event}"
    if step.letter and step.letter != "a":
        what += f" ({_LETTERS[step.letter]})"
    if step.refused:
        return f"{what}, which is refused ({step.refused}) [{step.rule}]"
    effects = [effect for effect in step.effects if not effect.endswith("_timer")]  # the timers show what changes
    done = f", so: {', '.join(effects)}" if effects else ""
    return f"{what}{done}{f' [{step.rule}]' if step.rule else ''}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)


def _scope(facts: Iterable[str]) -> str:
    return f"facts of the connection: {', '.join(facts) or 'none'}"


def _drawn(step: RunStep) -> Iterator[str]:
    """The lines of a sequence diagram for a step."""
    label = step.event.replace("_", " ")
    if step.letter and step.letter != "a":
        label += f" ({_LETTERS[step.letter]})"
    match step.action, step.actor:
        case "gives", _:
            yield f"Server->>App: {label.removeprefix('give ')}"
        case "peer_reads", _:
            yield f"Note right of Peer: reads {_WRITTEN[step.letter or 'a']}"
        case _, "app" if step.refused:
            yield f"App-xServer: {label}, refused [{step.rule}]"
        case _, "app":
            yield f"App->>Server: {label}"
        case "decodes" | "transport_ends" | "transport_tells" | "deadline", _:
            yield f"Note over Server: {step.action.replace('_', ' ')}{f' {label}' if label != step.action else ''}"
        case _, "peer":
            yield f"Peer->>Server: {label}"
        case _:
            yield f"Note over Server: {label}"
    for effect in step.effects:
        if effect.startswith(("send_", "complete_", "end_response")):
            yield f"Server->>Peer: {effect.replace('_', ' ')}"


# ------------------------------------------------------------------------------------------------ made


def run_of(report: Report, violation: Violation) -> Run | None:
    """The run that shows a violation; None where no run can."""
    hit = violation.run
    if hit is None:
        return None
    graph, flat = report.graph, report.flat
    pairs = (*hit.steps, *hit.round)
    nodes = [*(node for node, _ in pairs), hit.ends]
    first, *_ = graph.state(nodes[0])
    steps = [_step(graph, node, number, following) for (node, number), following in zip(pairs, nodes[1:], strict=True)]
    promised = violation.declared is not None and " leads to " in violation.declared.holds
    endless = promised or violation.name == "deadlock"
    last, _, written = graph.state(hit.ends)
    waits = ["a receive() waits"] * bool(last.receiving) + ["a send() waits"] * written.sending
    return Run(
        violation.name,
        violation.says,
        violation.rule,
        violation.line,
        flat.spec.file,
        flat.profile,
        tuple(name for name, bit in flat.bits.items() if first.facts & bit),
        report.bounds.queue,
        tuple(steps),
        len(hit.steps) if endless else None,
        tuple(waits),
    )


def _step(graph: Graph, node: int, number: int, following: int) -> RunStep:
    table = graph.of[node]
    move = (*table.ways, *table.still)[number].move
    before, after = _shown(graph.state(node), graph.system.flat), _shown(graph.state(following), graph.system.flat)
    answer = move.answer
    event = graph.system.flat.spec.events.get(move.event)
    actor = ACTORS.get(move.action) or (event.actor if event is not None else Actor.SERVER)
    state = graph.state(node)[0].state
    return RunStep(
        move.action,
        move.event,
        str(actor),
        move.says,
        answer.source if answer is not None else state,
        answer.target if answer is not None else state,
        str(answer.refusal) if answer is not None and answer.refusal is not None else None,
        tuple(call.effect for call in answer.effects) if answer is not None else (),
        answer.rule if answer is not None else "",
        answer.lines[0] if answer is not None else 0,
        {name: (before[name], after[name]) for name in after if before[name] != after[name]},
    )


def _shown(state: tuple[Control, Inbound, Outbound], flat: Flat) -> dict[str, Any]:
    """A state as people see it."""
    control, inbound, outbound = state
    regions = dict(zip(flat.regions, control.state.split("/"), strict=True))
    return {
        **regions,
        "receive() calls that wait": control.receiving,
        "a send() waits": outbound.sending,
        "unread": [_LETTERS[letter] for letter in inbound.unread],
        "held": [_LETTERS[letter] for letter in inbound.held],
        "reading is paused": inbound.paused,
        "written": [_WRITTEN[letter] for letter in outbound.written],
        "transport": control.transport,
        "timers": sorted(control.timers),
    }


def load_run(text: str) -> Run:
    """A run from JSON. Raises `RunError`, which says what is wrong."""
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as fault:
        raise RunError(f"It is no JSON: {fault}.") from None
    if not isinstance(tree, dict) or tree.pop("format", None) != FORMAT:
        raise RunError(f"It is no run of format {FORMAT}, as `wslifecycle check --output` writes it.")
    try:
        steps = tuple(RunStep(**_tuples(step)) for step in tree.pop("steps"))
        run = Run(**_tuples(tree), steps=steps)
    except (TypeError, KeyError, AttributeError) as fault:
        raise RunError(f"It lacks something or has too much: {fault}.") from None
    for step in run.steps:
        for item in fields(RunStep):
            if item.type == "str" and not isinstance(getattr(step, item.name), str):
                raise RunError(f"The `{item.name}` of a step has to be text.")
    return run


def _tuples(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}
