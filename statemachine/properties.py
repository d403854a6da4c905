"""The language of `properties`: what is read from the spec, as a tree that can be written in other languages, too.

    always EXPR | never EXPR | at most once EXPR | sometimes EXPR | EXPR before EXPR | EXPR leads to EXPR

An expression speaks of one step of a run: the state before it (`wire=open`, `receiving`), the state after it (`after
wire=open`), the event that took place (`give_connect`), its effects (`effect=send_close`), what is special about it
(`followed`), whether it `moved` the machine to another state, and whether it was `refused`, be it as a `violation` or
because the app is `disconnected`. They are joined by `not`, `and`, `or`, `implies` and brackets. `A before B`: no step
is a B unless an earlier step was an A. `A leads to B`: after each A there is a B in the end, if the actions that the
property calls `fair` are not put off for ever.

A `Monitor` observes one run and cannot act; `check` searches all runs. `write` puts an expression into another
language: Python for these two, Promela and TLA+ for other engines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import TypeAlias

from wslifecycle.statemachine.flatten import Answer, Flat
from wslifecycle.statemachine.model import Property

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


REFUSALS = ("refused", "violation", "disconnected")
WORDS = frozenset(("not", "and", "or", "implies", "after", "moved", *REFUSALS))
WORDS |= {word for form in Form for word in form.value.split()}
"""The words of the language; no event may be called so."""


class Kind(StrEnum):
    """What a term speaks of."""

    STATE = "state"
    """A state of the machine or of what is around it: `wire=open`, `receiving`."""
    EVENT = "event"
    """The event that took place, obeyed or ignored."""
    EFFECT = "effect"
    """An effect that the step had."""
    MARK = "mark"
    """What is special about the step: `followed`."""
    WORD = "word"
    """`moved`, `refused`, or how it was: as a `violation` of the app or since it is `disconnected`."""


@dataclass(frozen=True, slots=True)
class Term:
    """The smallest thing that may hold of a step. `after`: of the state that the step leads to."""

    kind: Kind
    name: str
    after: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """A denial."""

    of: Expression


@dataclass(frozen=True, slots=True)
class Joined:
    """Expressions joined by `and`, `or` or `implies` (two of them)."""

    word: str
    parts: tuple[Expression, ...]


Expression: TypeAlias = Term | Not | Joined


@dataclass(frozen=True, slots=True)
class Parsed:
    """A property that was read: its form and one or two expressions."""

    form: Form
    first: Expression
    second: Expression | None = None

    @property
    def trigger(self) -> Expression | None:
        """What has to be possible lest the property hold for nothing: the left side of an `implies`, ..."""
        match self.form, self.first:
            case Form.ALWAYS, Joined("implies", (left, _)):
                return left
            case Form.AT_MOST_ONCE | Form.LEADS_TO, first:
                return first
            case Form.BEFORE, _:
                return self.second
        return None


def terms_of(expression: Expression) -> Iterator[Term]:
    """Every term in an expression."""
    match expression:
        case Term():
            yield expression
        case Not(of):
            yield from terms_of(of)
        case Joined(_, parts):
            for part in parts:
                yield from terms_of(part)


PYTHON = {"not": "not ", "and": " and ", "or": " or "}


def write(expression: Expression, term: Callable[[Term], str], words: Mapping[str, str] = PYTHON) -> str:
    """An expression in another language, each term as `term` writes it; what is implied becomes `not .. or ..`."""
    match expression:
        case Term():
            return term(expression)
        case Not(Joined() as of):
            return f"{words['not']}({write(of, term, words)})"
        case Not(of):
            return f"{words['not']}{write(of, term, words)}"
        case Joined("implies", (left, right)):
            return write(Joined("or", (Not(left), right)), term, words)
        case Joined(word, parts):
            written = (write(part, term, words) for part in parts)
            return words[word].join(
                f"({text})" if isinstance(part, Joined) else text for part, text in zip(parts, written, strict=True)
            )


# ------------------------------------------------------------------------------------------------ reading


def parse(text: str, known: Mapping[Kind, set[str]] | None = None) -> Parsed:
    """Reads a property. `known` names the terms that exist; without it a bare word is taken for an event.

    Raises `PropertyError` with the place of the fault.
    """
    words = _words(text)
    for form in (Form.ALWAYS, Form.NEVER, Form.AT_MOST_ONCE, Form.SOMETIMES):
        prefix = form.value.split()
        if words[: len(prefix)] == prefix:
            return Parsed(form, _Parser(words[len(prefix) :], known).whole())
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

    def __init__(self, words: list[str], known: Mapping[Kind, set[str]] | None) -> None:
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
        left = self.joined("or", lambda: self.joined("and", self.unary))
        return Joined("implies", (left, self.implication())) if self.next("implies") else left

    def joined(self, word: str, part: Callable[[], Expression]) -> Expression:
        parts = [part()]
        while self.next(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def unary(self) -> Expression:
        if self.next("not"):
            return Not(self.unary())
        if self.next("after"):
            return _after(self.unary())
        if self.next("("):
            inner = self.implication()
            if not self.next(")"):
                raise PropertyError("a bracket is not closed")
            return inner
        return self.term()

    def term(self) -> Term:
        if not self.words:
            raise PropertyError("it ends too soon")
        word, self.words = self.words[0], self.words[1:]
        if word in ("moved", *REFUSALS):
            return Term(Kind.WORD, word)
        if word.startswith("effect="):
            kinds, name = [Kind.EFFECT], word.removeprefix("effect=")
        else:
            kinds, name = [Kind.STATE] if "=" in word else [Kind.EVENT, Kind.STATE, Kind.MARK], word
        if self.known is None:
            return Term(kinds[0], name)
        for kind in kinds:
            if name in self.known[kind]:
                return Term(kind, name)
        raise PropertyError(f"there is no {kinds[0]} `{word}`")


def _after(expression: Expression) -> Expression:
    """The same of the state that a step leads to; events, effects and marks are those of the step itself."""
    match expression:
        case Term(Kind.WORD, "moved"):
            raise PropertyError("`moved` speaks of a step, not of a state")
        case Term(Kind.STATE):
            return replace(expression, after=True)
        case Term():
            return expression
        case Not(of):
            return Not(_after(of))
        case Joined(word, parts):
            return Joined(word, tuple(map(_after, parts)))


# ------------------------------------------------------------------------------------------------ one run


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, as a property sees it. States are sets of such terms as `region=state` and `receiving`."""

    event: str
    before: frozenset[str]
    after: frozenset[str]
    effects: frozenset[str] = frozenset()
    refused: str = ""
    """How, if it was: `violation`, `disconnected`, `not_due` or `impossible`."""
    marks: frozenset[str] = frozenset()
    action: str = ""
    """How it came about, where that is not the event itself: `gives`, `late`, ..."""
    moved: bool | None = None
    """Whether it moved the machine; None: it did if the states differ."""


def _of_step(term: Term) -> str:
    match term.kind:
        case Kind.STATE:
            return f"{term.name!r} in step.{'after' if term.after else 'before'}"
        case Kind.EVENT:
            return f"({term.name!r} in (step.event, step.action) and not step.refused)"
        case Kind.EFFECT:
            return f"{term.name!r} in step.effects"
        case Kind.MARK:
            return f"{term.name!r} in step.marks"
        case Kind.WORD:
            if term.name == "moved":
                return "(step.before != step.after if step.moved is None else step.moved)"
            return "step.refused" if term.name == "refused" else f"step.refused == {term.name!r}"


@lru_cache(maxsize=1024)
def judge(expression: Expression) -> Callable[[Step], bool]:
    """A function that says whether an expression holds of a step."""
    made: Callable[[Step], bool] = eval(f"lambda step: bool({write(expression, _of_step)})")
    return made


class Monitor:
    """Watches one property along one run. `seen`: whether that which counts has happened before."""

    __slots__ = ("_first", "_form", "_second", "property", "seen")

    def __init__(
        self,
        declared: Property,
        known: Mapping[Kind, set[str]] | None = None,
        *,
        parsed: Parsed | None = None,
    ) -> None:
        parsed = parsed or parse(declared.holds, known)
        self.property = declared
        self.seen = False
        self._form = parsed.form
        self._first = judge(parsed.first)
        self._second = judge(parsed.second if parsed.second is not None else parsed.first)

    def observe(self, step: Step) -> bool:
        """Takes one step; False when the property is broken by it. `sometimes` and `leads to` never break here."""
        seen, holds = self.seen, self._first(step)
        self.seen = seen or holds
        match self._form:
            case Form.ALWAYS:
                return holds
            case Form.NEVER:
                return not holds
            case Form.AT_MOST_ONCE:
                return not (seen and holds)
            case Form.BEFORE:
                return seen or not self._second(step)
        return True


def step_of(flat: Flat, answer: Answer) -> Step:
    """An answer of the machine as a step."""
    return Step(
        answer.event,
        terms(flat, answer.source),
        terms(flat, answer.target),
        frozenset(call.effect for call in answer.effects),
        str(answer.refusal or ""),
    )


def terms(flat: Flat, state: str) -> frozenset[str]:
    """`open/flowing/running` as `wire=open`, `inbox=flowing`, `app=running`."""
    return frozenset(f"{region}={local}" for region, local in zip(flat.regions, state.split("/"), strict=True))
