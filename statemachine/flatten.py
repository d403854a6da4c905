"""Compiles a spec and one answer to every choice into the product of its regions that can be reached.

The result is a Mealy machine in plain values: for every state, event and guard case one `Answer` that says where it
leads and what has to be done. Everything else (the `transitions` machine, the checks, the pictures, the tables) is
made from it. What is wrong with a product is found on the way: holes and overlaps, couplings that do not settle,
variables assigned twice, ambiguous gifts; then traps, unreachable and indistinguishable states, dead rows.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from wslifecycle.statemachine.findings import Finding, SpecError
from wslifecycle.statemachine.model import Actor, Call, Coupling, Fact, Fields, First, Kind, Ref, Row, Spec, Value
from wslifecycle.statemachine.soundness import unsound

State = tuple[str, ...]
"""A product state: one state of each region, in the order of the spec."""


def name_of(state: State) -> str:
    """`open/flowing/running`: how a product state is written."""
    return "/".join(state)


_PLAIN: Mapping[tuple[Call, ...], str] = {
    (Call(effect, fields),): effect
    for effect, fields in {
        "keep_message": (("data", Ref("event", "data")),),
        "take_message": (),
        "send_message": (("data", First((Ref("message", "text"), Ref("message", "bytes")))),),
    }.items()
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an event does in one state and guard case: the Mealy machine's transition, or its refusal."""

    event: str
    source: str
    target: str
    effects: tuple[Call, ...] = ()
    assigns: tuple[tuple[str, Fields], ...] = ()
    gives: Fields | None = None
    refusal: Kind | None = None
    rule: str = ""
    lines: tuple[int, ...] = ()
    checks: tuple[str, ...] = ()
    reads: frozenset[tuple[str, str]] = field(init=False, compare=False, repr=False)
    """The run-time values that it uses, as (scope, key)."""
    uses: frozenset[str] = field(init=False, compare=False, repr=False)
    """The keys of the app's message whose values have to be sound: those among them, and `checks`."""
    plain: str = field(init=False, compare=False, repr=False)
    """The effect that keeps, takes or sends one data message, where it does just that and nothing else; else empty.

    A connection has a short way for each of them, on which it does the same as on the long one.
    """

    def __post_init__(self) -> None:
        does_more = self.refusal is not None or self.moves or self.assigns or self.gives
        object.__setattr__(self, "plain", "" if does_more else _PLAIN.get(self.effects, ""))
        fields = [value for call in self.effects for _, value in call.fields]
        fields += [value for _, assigned in self.assigns for _, value in assigned]
        fields += [value for _, value in self.gives or ()]
        reads = frozenset((ref.scope, ref.key) for value in fields for ref in _refs(value))
        object.__setattr__(self, "reads", reads)
        object.__setattr__(self, "uses", frozenset(self.checks) | {key for scope, key in reads if scope == "message"})

    @property
    def moves(self) -> bool:
        """Whether it leads to another state."""
        return self.source != self.target

    @property
    def ignored(self) -> bool:
        """Whether it is a declared no-op."""
        return not (self.refusal or self.moves or self.effects or self.assigns or self.gives is not None)


class Flat:
    """A compiled profile: `answers[event][case][state]`, with the facts as the bits of `case`.

    `findings` are those about soundness; a structural one raises `SpecError` from the constructor.
    """

    def __init__(self, spec: Spec, choices: Mapping[str, str], profile: str = "reference") -> None:
        self.spec = spec
        self.choices: Mapping[str, str] = MappingProxyType(dict(choices))
        self.profile = profile
        self.facts: tuple[Fact, ...] = tuple(spec.facts.values())
        self.cases = 1 << len(self.facts)
        self.bits = {fact.name: 1 << position for position, fact in enumerate(self.facts)}
        self._values: dict[tuple[str, str], Value] = {}
        self.regions = tuple(spec.regions)
        self.present = {
            region: tuple(s.name for s in spec.regions[region].states.values() if s.when.holds(choices))
            for region in self.regions
        }
        self.rows = [row for row in spec.rows if row.when.holds(choices)]
        self._masks = self._fact_masks()
        self._index = self._row_index()
        self._structural: list[Finding] = []
        self.used_rows: set[Row] = set()
        self.used_couplings: set[Coupling] = set()
        self.initial: State = tuple(spec.regions[region].initial for region in self.regions)
        answers: dict[str, list[dict[str, Answer]]] = {event: [{} for _ in range(self.cases)] for event in spec.events}
        self.states: tuple[State, ...] = tuple(self._explore(answers))
        self.answers: Mapping[str, Sequence[Mapping[str, Answer]]] = MappingProxyType(
            {event: tuple(map(MappingProxyType, cases)) for event, cases in answers.items()}
        )
        self._check_variables()
        self._check_gifts()
        if self._structural:
            raise SpecError(list(dict.fromkeys(self._structural)))
        self.state_of: Mapping[str, State] = MappingProxyType({name_of(state): state for state in self.states})

    # ---------------------------------------------------------------------------------------- values

    def resolve(self, value: Value) -> Value:
        """Puts the answers in the place of `$C..`; what only the run time knows stays a `Ref`."""
        if isinstance(value, Ref) and value.scope in self.choices:
            answer = self.spec.choices[value.scope].answers[self.choices[value.scope]]
            return self.resolve(answer.get(value.key))
        if isinstance(value, First):
            values = tuple(self.resolve(item) for item in value.values)
            known = tuple(item for item in values if item is not None)
            return known[0] if known and not isinstance(known[0], Ref) else First(known)
        return value

    def value(self, choice: str, key: str) -> Value:
        """A value of the answer to a choice: `flat.value("C31", "bytes")`."""
        if (choice, key) not in self._values:
            self._values[choice, key] = self.resolve(Ref(choice, key))
        return self._values[choice, key]

    def answering(self, answers: Mapping[str, str]) -> Flat:
        """The same product with other answers to choices that are about values only."""
        made = copy.copy(self)
        made.choices = MappingProxyType({**self.choices, **answers})
        made._values = {}
        made.__dict__.pop("findings", None)
        return made

    def _resolve_fields(self, fields: Fields) -> Fields:
        return tuple((key, self.resolve(value)) for key, value in fields)

    def _calls(self, calls: Iterable[Call]) -> tuple[Call, ...]:
        return tuple(Call(call.effect, self._resolve_fields(call.fields)) for call in calls)

    # ---------------------------------------------------------------------------------------- exploring

    def _fact_masks(self) -> dict[str, int]:
        """For each event the bits of the facts that its rows read."""
        masks: dict[str, int] = dict.fromkeys(self.spec.events, 0)
        for row in self.rows:
            for event in row.events:
                for fact, _ in row.guards:
                    masks[event] |= self.bits[fact]
        return masks

    def _row_index(self) -> dict[tuple[str, str, str], list[tuple[Row, int, int]]]:
        """(event, region, state) -> rows with the bits that must be set and those that must be clear."""
        index: dict[tuple[str, str, str], list[tuple[Row, int, int]]] = defaultdict(list)
        for row in self.rows:
            wanted = sum(self.bits[fact] for fact, positive in row.guards if positive)
            barred = sum(self.bits[fact] for fact, positive in row.guards if not positive)
            for event in row.events:
                for state in row.sources:
                    index[event, row.region, state].append((row, wanted, barred))
        return index

    def _explore(self, answers: dict[str, list[dict[str, Answer]]]) -> list[State]:
        """Fills in the answers; returns the states that can be reached."""
        initial = self._settle(self.initial)
        self._check_present(initial)
        seen, queue = {initial}, [initial]
        for state in queue:
            for event, mask in self._masks.items():
                shared: dict[int, Answer | None] = {}
                for case in range(self.cases):
                    key = case & mask
                    if key not in shared:
                        shared[key] = self._answer(event, state, key)
                    answer = shared[key]
                    if answer is not None:
                        answers[event][case][answer.source] = answer
                for found in shared.values():
                    if found is not None:
                        target = tuple(found.target.split("/"))
                        if target not in seen:
                            self._check_present(target)
                            seen.add(target)
                            queue.append(target)
        return queue

    def _answer(self, event: str, state: State, case: int) -> Answer | None:
        """The one answer to an event, put together from the rows of all regions that it concerns."""
        chosen: list[Row] = []
        named = dict(zip(self.regions, state, strict=True))
        for region, local in named.items():
            rows = [
                row
                for row, wanted, barred in self._index.get((event, region, local), ())
                if case & wanted == wanted
                and not case & barred
                and all(named[other] in states for other, states in row.elsewhere.items())
            ]
            if len(rows) > 1:
                self._fault(
                    "WSL021",
                    rows[1].line,
                    f"{event} in {name_of(state)}{self._said(case)} is answered by line {rows[0].line} too.",
                    "Narrow one of the rows with `while`, `if` or `when`.",
                )
            elif not rows and region in self.spec.events[event].answered_by:
                self._fault(
                    "WSL020",
                    self.spec.events[event].line,
                    f"{event} has no answer in {name_of(state)}{self._said(case)}.",
                    f"Add a row to `{region}`: a transition, `ignore`, `refuse` or `impossible`.",
                )
                return None
            chosen += rows[:1]
        self.used_rows.update(chosen)
        source = name_of(state)
        lines = tuple(row.line for row in chosen)
        refused = [row for row in chosen if row.refusal]
        if refused:
            if len({row.refusal for row in refused}) > 1:
                self._fault(
                    "WSL021",
                    refused[1].line,
                    f"{event} in {source} is refused in another way in line {refused[0].line}.",
                    "Let one region refuse.",
                )
            row = refused[0]
            return Answer(event, source, source, refusal=row.refusal, rule=row.rule, lines=(row.line,))
        moved = tuple(
            next((row.target for row in chosen if row.region == region and row.target), local)
            for region, local in named.items()
        )
        target = self._settle(moved)
        calls = [call for row in chosen for call in row.effects]
        calls += self._entering(state, target)
        gives = next((row.gives for row in chosen if row.gives is not None), None)
        if self.spec.events[event].actor is Actor.GIVEN and gives is None:
            gives = ()
        return Answer(
            event,
            source,
            name_of(target),
            self._calls(calls),
            tuple((name, self._resolve_fields(fields)) for row in chosen for name, fields in row.assigns),
            self._resolve_fields(gives) if gives is not None else None,
            rule=chosen[0].rule,
            lines=lines,
            checks=tuple(key for row in chosen for key in self.resolve(row.checks)),
        )

    def _settle(self, state: State) -> State:
        """Applies the couplings until none applies."""
        visited = [state]
        while True:
            named = dict(zip(self.regions, state, strict=True))
            for coupling in self.spec.couplings:
                if (
                    named[coupling.region] in coupling.sources
                    and coupling.target != named[coupling.region]
                    and all(named[region] in states for region, states in coupling.elsewhere.items())
                ):
                    self.used_couplings.add(coupling)
                    state = tuple(
                        coupling.target if region == coupling.region else local for region, local in named.items()
                    )
                    break
            else:
                return state
            if state in visited:
                loop = " -> ".join(name_of(step) for step in [*visited, state])
                self._fault("WSL022", coupling.line, f"The couplings go round: {loop}.", "Remove one of them.")
                return state
            visited.append(state)

    def _entering(self, before: State, after: State) -> Iterator[Call]:
        """Effects of the states that are entered, and of the timers that begin or end with them."""
        for region, old, new in zip(self.regions, before, after, strict=True):
            if new != old:
                yield from self.spec.regions[region].states[new].enter
        for timer in self.spec.timers.values():
            position = self.regions.index(timer.region)
            ran, runs = before[position] in timer.states, after[position] in timer.states
            if runs and not ran:
                yield Call("start_timer", (("timer", timer.name), ("seconds", timer.seconds)))
            if ran and not runs:
                yield Call("cancel_timer", (("timer", timer.name),))

    @cached_property
    def opening(self) -> tuple[Call, ...]:
        """The effects of beginning: the timers that run in the first state."""
        return tuple(
            Call("start_timer", (("timer", timer.name), ("seconds", self.resolve(timer.seconds))))
            for timer in self.spec.timers.values()
            if self.states[0][self.regions.index(timer.region)] in timer.states
        )

    # ---------------------------------------------------------------------------------------- structure

    def _fault(self, code: str, line: int, text: str, fix: str) -> None:
        self._structural.append(Finding(code, line, text, fix, self.spec.file))

    def _said(self, case: int) -> str:
        facts = [name for name, bit in self.bits.items() if case & bit]
        return f" with {' and '.join(facts)}" if facts else ""

    def _check_present(self, state: State) -> None:
        for region, local in zip(self.regions, state, strict=True):
            if local not in self.present[region]:
                text = f"`{local}` of {region} can be reached, but {self.profile} does not have it."
                line = self.spec.regions[region].states[local].line
                self._fault("WSL011", line, text, "Give it the same `when` as the rows that lead there.")

    def _check_given(self, answer: Answer, line: int) -> None:
        """Holds that what an answer to a choice refers to is given by the event that it was put into."""
        event = self.spec.events[answer.event]
        keys = self.spec.messages[event.message].keys if event.message is not None else {}
        for scope, key in sorted(answer.reads):
            if (scope == "event" and key not in event.fields) or (scope == "message" and key not in keys):
                text = f"{event.name} reads ${scope}.{key}, which it does not give."
                self._fault("WSL015", line, text, "Look at the answers to the choices in this row.")

    def _check_variables(self) -> None:
        """Follows which variables are assigned along every path."""
        start = (name_of(self._settle(self.initial)), frozenset[str]())
        seen, queue = {start}, [start]
        for state, assigned in queue:
            for answer in self.distinct(state):
                line = answer.lines[0] if answer.lines else 1
                names = [name for name, _ in answer.assigns]
                now = set(names)
                self._check_given(answer, line)
                for name in sorted(now & assigned | {name for name in now if names.count(name) > 1}):
                    self._fault("WSL023", line, f"{answer.event} in {state} assigns `{name}` again.", "Assign it once.")
                read = {scope for scope, _ in answer.reads if scope in self.spec.variables}
                for name in sorted(read - assigned):
                    text = f"{answer.event} in {state} reads `{name}`, which is not assigned yet."
                    self._fault("WSL023", line, text, "Assign it on every way to this state.")
                step = (answer.target, assigned | now)
                if step not in seen:
                    seen.add(step)
                    queue.append(step)

    def _check_gifts(self) -> None:
        gifts = [event for event, declared in self.spec.events.items() if declared.actor is Actor.GIVEN]
        for state in self.states:
            for case in range(self.cases):
                due = [
                    answer
                    for event in gifts
                    if (answer := self.answers[event][case].get(name_of(state))) and not answer.refusal
                ]
                if len(due) > 1:
                    text = f"In {name_of(state)}{self._said(case)} both {due[0].event} and {due[1].event} are due."
                    self._fault("WSL024", due[1].lines[0], text, "Refuse one of them there.")

    def guarded_by(self, event: str, state: str) -> Iterator[tuple[int, Answer]]:
        """The answers to one event in a state, one for each guard case that matters to it."""
        mask = self._masks[event]
        for case, answers in enumerate(self.answers[event]):
            if case == case & mask and state in answers:
                yield case, answers[state]

    def guarded(self, state: str) -> Iterator[tuple[int, Answer]]:
        """The answers to every event in a state, each with its guard case, in the order of the spec."""
        for event in self.spec.events:
            yield from self.guarded_by(event, state)

    def distinct(self, state: str) -> Iterator[Answer]:
        """The different answers in a state, over all events and guard cases."""
        return (answer for _, answer in self.guarded(state))

    def facts_read(self, event: str) -> list[tuple[str, int]]:
        """The facts that the rows of an event read, each with its bit."""
        mask = self._masks[event]
        return [(name, bit) for name, bit in self.bits.items() if mask & bit]

    def begun(self, effects: Iterable[Call]) -> int:
        """The bits of the facts that may hold from these effects on."""
        names = {call.effect for call in effects}
        return sum(self.bits[fact.name] for fact in self.facts if fact.begins in names)

    @cached_property
    def waiting(self) -> int:
        """The bit of the fact that a message waits: the one that begins when one is kept."""
        return self.begun((Call("keep_message"),))

    @cached_property
    def fixed(self) -> int:
        """The bits of the facts that may hold from the beginning."""
        return sum(self.bits[fact.name] for fact in self.facts if fact.fixed)

    # ---------------------------------------------------------------------------------------- soundness

    @cached_property
    def final(self) -> frozenset[str]:
        """The states in which every region with a final state is in one."""
        return frozenset(
            name_of(state)
            for state in self.states
            if all(
                local in self.spec.regions[region].final
                for region, local in zip(self.regions, state, strict=True)
                if self.spec.regions[region].final
            )
        )

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is unsound about this profile."""
        return tuple(replace(finding, file=self.spec.file) for finding in unsound(self))


def _refs(value: Value) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, First):
        for item in value.values:
            yield from _refs(item)


def compile_profile(spec: Spec, choices: Mapping[str, str] | None = None, profile: str = "reference") -> Flat:
    """Compiles one profile. Raises `SpecError` when it is structurally wrong, or when `reference` is unsound."""
    flat = Flat(spec, choices if choices is not None else spec.reference, profile)
    if profile == "reference" and flat.findings:
        raise SpecError(flat.findings)
    return flat
