"""The language of `properties`, monitors for it, and a minimal checker on the machine alone.

    always EXPR | never EXPR | at most once EXPR | sometimes EXPR | EXPR before EXPR | EXPR leads to EXPR

An expression speaks of one step of a run: the state before it (`wire=open`), the state after it (`after wire=open`),
the event that took place (`give_connect`), its effects (`effect=send_close`), and whether it was `refused` or `moved`
the machine to another state. They are joined by `not`, `and`, `or`, `implies` and brackets. `A before B`: no step is a
B unless an earlier step was an A.

A `Monitor` observes and cannot act; the same monitors watch the machine here and real connections in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wslifecycle.statemachine.findings import Finding
from wslifecycle.statemachine.flatten import Answer, Flat, name_of
from wslifecycle.statemachine.model import Kind, Property

_TERM = re.compile(r"\s*(\w+=\w+|\w+|[()])")
_LONGEST = 100  # words; each may be one call deeper


class PropertyError(ValueError):
    """A property that cannot be read."""


class Form(StrEnum):
    """The forms that a property may have."""

    ALWAYS = "always"
    NEVER = "never"
    AT_MOST_ONCE = "at most once"
    SOMETIMES = "sometimes"
    BEFORE = "before"
    LEADS_TO = "leads to"


WORDS = frozenset(("not", "and", "or", "implies", "after", "refused", "moved"))
WORDS |= {word for form in Form for word in form.value.split()}
"""The words of the language; no event may be called so."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, as a property sees it. States are sets of `region=state`."""

    event: str
    before: frozenset[str]
    after: frozenset[str]
    effects: frozenset[str] = frozenset()
    refused: bool = False


Expression = Callable[[Step], bool]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A property that was read: its form and one or two expressions."""

    form: Form
    first: Expression
    second: Expression | None = None


def parse(text: str, known: Mapping[str, set[str]] | None = None) -> Parsed:
    """Reads a property. `known` names the terms that exist, by kind; without it any term is taken.

    Raises `PropertyError` with the place of the fault.
    """
    words = _words(text)
    for form in (Form.ALWAYS, Form.NEVER, Form.AT_MOST_ONCE, Form.SOMETIMES):
        prefix = form.value.split()
        if words[: len(prefix)] == prefix:
            parser = _Parser(words[len(prefix) :], known)
            return Parsed(form, parser.whole())
    for form in (Form.BEFORE, Form.LEADS_TO):
        infix = form.value.split()
        for position in range(len(words)):
            if words[position : position + len(infix)] == infix:
                first = _Parser(words[:position], known).whole()
                return Parsed(form, first, _Parser(words[position + len(infix) :], known).whole())
    raise PropertyError(f"`{text}` has none of the forms {', '.join(form.value for form in Form)}")


def _words(text: str) -> list[str]:
    words, position = [], 0
    while position < len(text.rstrip()):
        match = _TERM.match(text, position)
        if match is None:
            raise PropertyError(f"`{text[position:].strip()}` is not a term")
        words.append(match[1])
        position = match.end()
    if len(words) > _LONGEST:
        raise PropertyError(f"it has {len(words)} words and may have {_LONGEST}")
    return words


class _Parser:
    """Recursive descent over one expression, loosest operator first: implies, or, and, not / after."""

    def __init__(self, words: list[str], known: Mapping[str, set[str]] | None) -> None:
        self.words = words
        self.known = known

    def whole(self) -> Expression:
        expression = self.implication()
        if self.words:
            raise PropertyError(f"`{self.words[0]}` was not expected")
        return expression

    def next(self, *wanted: str) -> bool:
        if self.words and self.words[0] in wanted:
            self.words = self.words[1:]
            return True
        return False

    def implication(self) -> Expression:
        left = self.disjunction()
        if not self.next("implies"):
            return left
        right = self.implication()
        return lambda step: not left(step) or right(step)

    def disjunction(self) -> Expression:
        parts = [self.conjunction()]
        while self.next("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else lambda step: any(part(step) for part in parts)

    def conjunction(self) -> Expression:
        parts = [self.unary()]
        while self.next("and"):
            parts.append(self.unary())
        return parts[0] if len(parts) == 1 else lambda step: all(part(step) for part in parts)

    def unary(self) -> Expression:
        if self.next("not"):
            inner = self.unary()
            return lambda step: not inner(step)
        if self.next("after"):
            inner = self.unary()
            return lambda step: inner(Step(step.event, step.after, step.after, step.effects, step.refused))
        if self.next("("):
            inner = self.implication()
            if not self.next(")"):
                raise PropertyError("a bracket is not closed")
            return inner
        return self.term()

    def term(self) -> Expression:
        if not self.words:
            raise PropertyError("it ends too soon")
        word, self.words = self.words[0], self.words[1:]
        if word == "refused":
            return lambda step: step.refused
        if word == "moved":
            return lambda step: step.before != step.after
        kind = "effect" if word.startswith("effect=") else "state" if "=" in word else "event"
        if self.known is not None and word not in self.known[kind]:
            raise PropertyError(f"there is no {kind} `{word}`")
        if kind == "effect":
            effect = word.removeprefix("effect=")
            return lambda step: effect in step.effects
        if kind == "state":
            return lambda step: word in step.before
        return lambda step: step.event == word and not step.refused


class Monitor:
    """Watches one property along one run. `seen`: whether that which counts has happened before."""

    __slots__ = ("_parsed", "property", "seen")

    def __init__(self, declared: Property) -> None:
        self.property = declared
        self.seen = False
        self._parsed = parse(declared.holds)

    def observe(self, step: Step) -> bool:
        """Takes one step; False when the property is broken by it. `sometimes` and `leads to` never break here."""
        parsed, seen = self._parsed, self.seen
        holds = parsed.first(step)
        self.seen = seen or holds
        match parsed.form:
            case Form.ALWAYS:
                return holds
            case Form.NEVER:
                return not holds
            case Form.AT_MOST_ONCE:
                return not (seen and holds)
            case Form.BEFORE:
                assert parsed.second is not None
                return seen or not parsed.second(step)
        return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found about one property: `holds` is None where it was not checked (`leads to`)."""

    property: Property
    holds: bool | None
    path: tuple[Answer, ...] = ()


def step_of(flat: Flat, answer: Answer) -> Step:
    """An answer of the machine as a step."""
    return Step(
        answer.event,
        terms(flat, answer.source),
        terms(flat, answer.target),
        frozenset(call.effect for call in answer.effects),
        answer.refusal is not None,
    )


def terms(flat: Flat, state: str) -> frozenset[str]:
    """`open/flowing/running` as `wire=open`, `inbox=flowing`, `app=running`."""
    return frozenset(f"{region}={local}" for region, local in zip(flat.regions, state.split("/"), strict=True))


def check(flat: Flat) -> Iterator[Verdict]:
    """Checks every property on the machine alone, by breadth-first search: a counterexample is a shortest one.

    A fact that `begins` with an effect may hold from then on. Events that the spec calls impossible do not happen.
    `leads to` needs fairness and is left unchecked.
    """
    moves = {
        state: [
            (case, answer, step_of(flat, answer), flat.begun(answer.effects))
            for case, answer in flat.guarded(state)
            if answer.refusal is not Kind.IMPOSSIBLE
        ]
        for state in flat.state_of
    }
    for declared in flat.spec.properties.values():
        yield _check(flat, declared, moves)


def findings(flat: Flat) -> list[Finding]:
    """The properties that do not hold (WSL034), each with a shortest run that shows it."""
    found = []
    for verdict in check(flat):
        if verdict.holds is False:
            declared = verdict.property
            steps = ", ".join(f"{answer.event} ({answer.source} -> {answer.target})" for answer in verdict.path)
            text = f"{declared.name} does not hold in {flat.profile}: {declared.holds}. "
            text += f"A shortest run: {steps}." if steps else "No run shows it."
            fix = "Change the rows that lead there, or the property."
            found.append(Finding("WSL034", declared.line, text, fix, flat.spec.file))
    return found


Node = tuple[str, int, bool]
"""Where a search stands: the state, the facts that may hold, and what the monitor has seen."""


def _check(flat: Flat, declared: Property, moves: dict[str, list[tuple[int, Answer, Step, int]]]) -> Verdict:
    form = parse(declared.holds).form
    if form is Form.LEADS_TO:
        return Verdict(declared, None)
    start: Node = (name_of(flat.states[0]), flat.fixed, False)
    came: dict[Node, tuple[Node, Answer] | None] = {start: None}
    queue = [start]
    monitor = Monitor(declared)
    for node in queue:
        state, may_hold, seen = node
        for case, answer, step, begun in moves[state]:
            if case & ~may_hold:
                continue
            monitor.seen = seen
            holds = monitor.observe(step)
            if not holds or (form is Form.SOMETIMES and monitor.seen):
                return Verdict(declared, form is Form.SOMETIMES, (*_path(came, node), answer))
            following = (answer.target, may_hold | begun, monitor.seen)
            if following not in came:
                came[following] = (node, answer)
                queue.append(following)
    return Verdict(declared, form is not Form.SOMETIMES)


def _path(came: Mapping[Node, tuple[Node, Answer] | None], node: Node) -> tuple[Answer, ...]:
    path: list[Answer] = []
    while (link := came[node]) is not None:
        node, answer = link
        path.append(answer)
    return tuple(reversed(path))
