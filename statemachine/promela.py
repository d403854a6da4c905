"""Writes the system that is checked in Promela, for SPIN: a second engine that shares as little as possible with ours.

Of the compiled machine it takes the answers alone, as tables. What is around the machine (the app, the peer, the
transport, the timers and the queues) is written here once more, by hand and in Promela: queues are channels, timers
are bits, and a step is one `atomic` that chooses an action and then carries it out in one `d_step`. How a property's
form is meant is said once more, too, by a never claim for each. So a slip in `system`, `queues`, `explore` or `search`
is seen by the engines' disagreement, unless the same slip was made here.

One model may have many properties: the first step picks one, and each claim goes on only where its own was picked. The
claim is chosen with `pan -N`. Without properties nothing is in the state vector but the state of the system, so that
SPIN stores just one state more than our graph has: that before the facts are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from string import Template

from wslifecycle.statemachine.flatten import Flat, name_of
from wslifecycle.statemachine.model import Actor, Property
from wslifecycle.statemachine.model import Kind as Refusal
from wslifecycle.statemachine.promela_system import MODEL, Answers, Option, event_name, options, state_name
from wslifecycle.statemachine.properties import Expression, Form, Joined, Kind, Not, Parsed, Term, write
from wslifecycle.statemachine.system import ACTIONS, Bounds

WORDS = {"not": "! ", "and": " && ", "or": " || "}
"""How expressions are joined."""

IDLE = "idle"
"""Nothing happens: an action, so that a run may do nothing for ever."""

BUILT_IN = {"impossible": "refusal == r_impossible", "deadlock": "STUCK"}
"""What must never be, whatever a spec says. A trap is no matter of one run, so that no claim can find it."""


# ------------------------------------------------------------------------------------------------ what is asked

_AFTER = {"receiving": "receiving > 0", "told": "told > 0", "unread": "len(unread) > 0"}


class _Writer:
    """Writes expressions about the step just taken."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self._facts = {fact.name for fact in answers.flat.facts if fact.fixed}

    def __call__(self, expression: Expression) -> str:
        return write(expression, self._term, WORDS)

    def _term(self, term: Term) -> str:
        name = term.name
        match term.kind:
            case Kind.STATE:
                return self._state(name, term.after)
            case Kind.EVENT:
                return f"({'action' if name in ACTIONS else 'event'} == {event_name(name)} && refusal == 0)"
            case Kind.EFFECT:
                having = [
                    n for effects, n in self.answers.done.items() if any(e.startswith(f"{name}(") for e in effects)
                ]
                return f"({' || '.join(f'does == {number}' for number in having)})" if having else "false"
            case Kind.MARK:
                return name
            case Kind.WORD:
                known = {"refused": "(refusal != 0)", "moved": "(state != was_state)"}
                return known.get(name, f"(refusal == r_{name})")

    def _state(self, name: str, after: bool) -> str:
        if name in self._facts:
            return self.answers.fact(name)
        if name.startswith("timer="):
            return f"{'' if after else 'was_'}timer_{name.partition('=')[2]}"
        if "=" not in name:
            return f"({_AFTER.get(name, name)})" if after else f"was_{name}"
        region, local = name.split("=")
        if region == "transport":
            return f"({'' if after else 'was_'}transport == {local})"
        return f"(at_{region}[{'' if after else 'was_'}state] == {region}_{local})"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run may match: a never claim, with PICKED where the property has to be the one that was picked."""

    name: str
    body: tuple[str, ...]
    cycles: bool = False
    """Whether it is matched by a run that goes on for ever; else by one that ends it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What SPIN is asked about a property: when a step is an A or a B, and the claim that is about these."""

    name: str
    a: str
    b: str
    claim: Claim
    happens: Claim | None = None
    """Matched where the property does not hold for nothing."""
    watched: tuple[str, ...] = ()
    """The actions that the claim has to be told of."""
    sought: bool = False
    """Whether it is good if a run matches the claim."""


def questions(flat: Flat, asked: Iterable[tuple[Property, Parsed]]) -> Iterator[Question]:
    """What SPIN is asked about properties."""
    text = _Writer(Answers(flat))
    off = {timer.event for timer in flat.spec.timers.values() if flat.resolve(timer.seconds) is None}
    for declared, parsed in asked:
        a, b = text(parsed.first), text(parsed.second) if parsed.second is not None else "false"
        seek_a = Claim(f"p_{declared.name}", _seek("A"))
        happens = Claim(f"happens_{declared.name}", _seek("B" if parsed.form is Form.BEFORE else "A"))
        ask = partial(Question, declared.name, a, b)
        match parsed.form, parsed.first:
            case Form.ALWAYS, Joined("implies", (left, _)):
                happens = replace(happens, body=_seek("B"))
                yield Question(declared.name, text(Not(parsed.first)), text(left), seek_a, happens)
            case Form.ALWAYS, _:
                yield Question(declared.name, text(Not(parsed.first)), b, seek_a)
            case Form.NEVER, _:
                yield ask(seek_a)
            case Form.SOMETIMES, _:
                yield ask(seek_a, sought=True)
            case Form.AT_MOST_ONCE, _:
                yield ask(replace(seek_a, body=(f"{_seek('A')[0]};", "do :: !A :: A -> break od")), happens)
            case Form.BEFORE, _:
                body = ("do :: PICKED && !A && !B :: PICKED && B -> break od",)
                yield ask(replace(seek_a, body=body), happens)
            case Form.LEADS_TO, _:
                fair = tuple(action for action in declared.fair if action not in off)
                claim = replace(seek_a, body=tuple(_unanswered(fair, declared.rare)), cycles=True)
                yield ask(claim, happens, (*fair, *declared.rare))


def built_in() -> Iterator[Question]:
    """What SPIN is asked about any machine."""
    for name, so in BUILT_IN.items():
        yield Question(name, so, "false", Claim(f"p_{name}", _seek("A")))


def _seek(bit: str) -> tuple[str, ...]:
    """Matched by a run with such a step."""
    return (f"do :: PICKED && !{bit} :: PICKED && {bit} -> break od",)


def _unanswered(fair: Sequence[str], rare: Sequence[str]) -> Iterator[str]:
    """Matched by a run with an A that no B follows, where each fair action is taken or impossible again and again."""
    calm = " && ".join(["!B", *(f"last != {event_name(action)}" for action in rare)])
    yield "do :: PICKED :: PICKED && A && !B -> break od;"
    for number, action in enumerate(fair):
        done = f"(last == {event_name(action)} || !CAN_{action})"
        following = f"wait_{number + 1}" if number + 1 < len(fair) else "accept_round"
        yield f"wait_{number}: /* for {action} */"
        yield f"if :: {calm} && {done} -> goto {following} :: {calm} && !{done} -> goto wait_{number} fi;"
    yield "accept_round:"
    yield f"if :: {calm} -> goto {'wait_0' if fair else 'accept_round'} fi"


# ------------------------------------------------------------------------------------------------ the whole model


def promela(flat: Flat, bounds: Bounds, asked: Sequence[Question] = ()) -> str:
    """A model in Promela: the bare system, or one that answers questions."""
    spec, answers = flat.spec, Answers(flat)
    may = list(options(flat, answers))
    if any(question.claim.cycles for question in asked):
        may.append(Option(IDLE, "IDLES"))
    facts = [fact.name for fact in flat.facts if fact.fixed]
    timers = {f"timer_{timer.name}": event_name(timer.event) for timer in spec.timers.values()}
    running = {f"timer_{dict(call.fields)['timer']}" for call in flat.opening}
    values = {
        "title": f"{spec.title}, profile {flat.profile}",
        "queue": bounds.queue,
        "receivers": bounds.receivers,
        "deadline": int(flat.resolve(spec.timers["close_timeout"].seconds) is not None),
        "constants": "\n".join(_constants(flat)),
        "macros": "\n".join(_macros(flat, answers, may, asked)),
        "initial": state_name(name_of(flat.states[0])),
        "facts": "\n".join(f"bool fact_{fact};" for fact in facts),
        "timers": "\n".join(f"bool {timer} = {int(timer in running)};" for timer in timers),
        "were": ", ".join(f"was_{timer}" for timer in (*timers, "timer_deadline")),
        "remember_timers": " ".join(f"was_{timer} = {timer};" for timer in (*timers, "timer_deadline")),
        "twice": _any(
            f"does == {number}" for effects, number in answers.done.items() if len(set(effects)) < len(effects)
        ),
        "asked": ASKED if asked else "",
        "table": _lines(answers.table(), 2),
        "carried_out": _lines(answers.carried_out(), 2),
        "nothing": "\n".join(f"inline {name}() {{ skip }}" for name in spec.effects if f"inline {name}(" not in MODEL),
        "stop": "; ".join(f"{timer} = false" for timer in timers),
        "run_out": _lines((f":: action == {event} -> {timer} = false" for timer, event in timers.items()), 2),
        "judge": _lines(_judge(asked), 2),
        "choose": _lines(_choose(facts, bounds, asked), 4),
        "options": _lines((option.text() for option in may), 6),
    }
    claims = [
        _never(claim, number)
        for number, question in enumerate(asked, 1)
        for claim in (question.claim, question.happens)
        if claim is not None
    ]
    return "\n\n".join([Template(MODEL).substitute(values).rstrip(), *claims]) + "\n"


ASKED = "byte property, last; bool A, B; /* which property is asked for, and what the last step was to it */"


def _macros(flat: Flat, answers: Answers, may: Iterable[Option], asked: Sequence[Question]) -> Iterator[str]:
    """Conditions that come from the spec; CAN_x is that in which an action is possible."""
    sends = [event.name for event in flat.spec.events.values() if event.actor is Actor.APP and event.message]
    waits_on = answers.where("app_waited", lambda answer: answer.refusal is Refusal.NOT_DUE)
    watched = {"gives", "app_waited"}.union(*(question.watched for question in asked))
    can: dict[str, list[str]] = {action: [] for action in sorted(watched)}
    for option in may:
        if option.action in can:
            can[option.action].append(option.guard)
    idles = (f"property == {number}" for number, question in enumerate(asked, 1) if question.claim.cycles)
    yield f"#define SENDS {_any(f'event == {event_name(name)}' for name in sends)}"
    yield f"#define WAITS_ON ({waits_on or 'false'})"
    yield from (f"#define CAN_{action} {_any(guards)}" for action, guards in can.items())
    yield f"#define IDLES {_any(idles)}"


def _never(claim: Claim, number: int) -> str:
    body = "\n  ".join(claim.body).replace("PICKED", f"(property == 0 || property == {number})")
    return f"never {claim.name} {{\n  {body}\n}}"


def _any(conditions: Iterable[str]) -> str:
    joined = " || ".join(f"({condition})" for condition in conditions)
    return f"({joined})" if joined else "false"


def _lines(lines: Iterable[str], indent: int) -> str:
    return f"\n{' ' * indent}".join(lines)


def _constants(flat: Flat) -> Iterator[str]:
    """Names for states, events, refusals; and where each region is in each state."""
    actions = [*flat.spec.events, *(action for action in ACTIONS if action not in flat.spec.events), IDLE]
    for number, state in enumerate(flat.state_of):
        yield f"#define {state_name(state)} {number}"
    for number, action in enumerate(actions, 1):
        yield f"#define {event_name(action)} {number}"
    for number, refusal in enumerate(Refusal, 1):
        yield f"#define r_{refusal} {number}"
    for position, region in enumerate(flat.regions):
        local = list(flat.spec.regions[region].states)
        for number, name in enumerate(local):
            yield f"#define {region}_{name} {number}"
        where = ", ".join(str(local.index(state[position])) for state in flat.states)
        yield f"hidden byte at_{region}[{len(flat.states)}] = {{ {where} }};"


def _judge(asked: Sequence[Question]) -> Iterator[str]:
    if not asked:
        yield "skip"
        return
    yield "if"
    for number, question in enumerate(asked, 1):
        watched = _any(f"action == {event_name(action)}" for action in question.watched)
        yield f":: property == {number} -> A = ({question.a}); B = ({question.b}); last = ({watched} -> action : 0)"
    yield "fi"


def _choose(facts: Sequence[str], bounds: Bounds, asked: Sequence[Question]) -> Iterator[str]:
    for fact in facts:
        if bounds.facts is None:
            yield f"if :: fact_{fact} = false :: fact_{fact} = true fi;"
        else:
            yield f"fact_{fact} = {int(fact in bounds.facts)};"
    for number, question in enumerate(asked, 1):
        yield f"{'if ' if number == 1 else ''}:: property = {number} /* {question.name} */"
    if asked:
        yield "fi;"
