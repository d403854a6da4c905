"""What is to be drawn, read off the machine that the runtime obeys, before anybody thinks of a format.

A `Picture` of nodes, edges and clusters is the overview `lifecycle` (the product without the app's own progress, its
arrows between whole wire states), the full `product`, or one region with its couplings. The renderers (`draw_text`,
`dot`) read nothing but that picture, so that all formats say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from wslifecycle.statemachine.explain import effects as in_words
from wslifecycle.statemachine.flatten import Answer, Flat
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.model import Actor, Call, Level, Row, Spec

Step = tuple[str, str, str]
"""One step of a path: (event, source, target), the states being product states."""

END = "[*]"
"""The node that stands for the end of the lifecycle where the picture does not show the app."""
COUPLING = "coupling"
OVERVIEW, PRODUCT = "lifecycle", "product"


class DrawingError(Exception):
    """A picture cannot be drawn here; says what to install, or what was wrong with the request."""


class Binding(StrEnum):
    """How binding a transition is; the style of its edge."""

    MUST = "must"
    SHOULD = "should"
    CHOICE = "choice"


class Kind(StrEnum):
    """How an event is answered."""

    OBEYED = "obeyed"
    IGNORED = "ignored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the pairs of a state and an event that can be tried somewhere were; `left` names the others."""

    done: int
    of: int
    left: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.done}/{self.of}"

    @property
    def says(self) -> str:
        """For a tooltip."""
        return "\n".join([f"Tried: {self.done} of {self.of}.", *(f"Not tried: {pair}" for pair in self.left)])


@dataclass(frozen=True, slots=True)
class Label:
    """One line at an edge: an event under a guard. `covers` are the steps that it stands for, `taken` their numbers."""

    event: str
    text: str
    guard: str
    effect: str
    does: str
    rule: str
    tip: str
    covers: tuple[Step, ...]
    taken: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow: from a node or a whole cluster to another, brought about by one actor, equally binding throughout."""

    source: str
    target: str
    actor: str
    binding: Binding
    kind: Kind
    labels: tuple[Label, ...]
    share: Share | None = None

    @property
    def taken(self) -> tuple[int, ...]:
        """The numbers of the steps of the path that take this edge."""
        return tuple(sorted({number for label in self.labels for number in label.taken}))

    @property
    def said(self) -> list[tuple[str, str]]:
        """What stands at it, as (events with their guard, effect); those with the same guard and effect are joined."""
        shared: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
        for label in self.labels:
            shared.setdefault((label.guard, label.effect, label.taken), []).append(label.text)
        return [
            (
                (f"({', '.join(map(str, taken))}) " if taken else "")
                + ", ".join(dict.fromkeys(texts))
                + (f" [{guard}]" if guard else ""),
                effect,
            )
            for (guard, effect, taken), texts in shared.items()
        ]


@dataclass(frozen=True, slots=True)
class Node:
    """A state. `members` are the states of the machine that it stands for."""

    name: str
    text: str
    says: str
    cluster: str | None
    initial: bool
    final: bool
    members: tuple[str, ...]
    on_path: bool = False
    share: Share | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A frame around the nodes that share a state of the first region."""

    name: str
    says: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a renderer needs."""

    name: str
    title: str
    caption: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    clusters: tuple[Cluster, ...] = ()
    key: tuple[tuple[str, str], ...] = ()
    """What the words in the nodes and the conditions at the arrows mean."""
    has_path: bool = False


@dataclass(slots=True)
class _Drawing:
    """Edges while they are gathered: (source, target, actor, binding, kind) -> label without covers -> covers."""

    spec: Spec
    found: dict[tuple[str, str, str, Binding, Kind], dict[Label, list[Step]]] = field(default_factory=dict)

    def add(self, ends: tuple[str, str], kind: Kind, label: Label, step: Step) -> None:
        actor = str(self.spec.events[label.event].actor) if label.event in self.spec.events else COUPLING
        labels = self.found.setdefault((*ends, actor, binding_of(self.spec, label.rule), kind), {})
        labels.setdefault(label, []).append(step)

    def edges(self, order: Sequence[str]) -> tuple[Edge, ...]:
        """All edges in the order of their nodes, then of the actors; labels in the order of the spec's events."""
        rank = {name: position for position, name in enumerate(order)}
        actors = [*map(str, Actor), COUPLING]
        events = [*self.spec.events, COUPLING]

        def place(e: Edge) -> tuple[int, ...]:
            how = list(Binding).index(e.binding), list(Kind).index(e.kind)
            return (rank[e.source], rank[e.target], actors.index(e.actor), *how)

        made = [
            Edge(
                *key,
                tuple(
                    replace(label, covers=tuple(dict.fromkeys(steps)), tip=_tip(label, steps))
                    for label, steps in sorted(labels.items(), key=lambda item: events.index(item[0].event))
                ),
            )
            for key, labels in self.found.items()
        ]
        return tuple(sorted(made, key=place))


def _tip(label: Label, steps: Sequence[Step]) -> str:
    return "\n".join([label.tip, *(f"{source} -> {target}" for _, source, target in dict.fromkeys(steps))])


def binding_of(spec: Spec, rule: str) -> Binding:
    """A number of the spec says how binding what it governs is: C a choice; M a must; S, Y, D and I a should."""
    if rule in spec.choices:
        return Binding.CHOICE
    return Binding.MUST if spec.rules[rule].level is Level.MUST else Binding.SHOULD


# -------------------------------------------------------------------------------------------- labels


def _guard(cases: dict[int, Answer], answer: Answer, facts: Iterable[tuple[str, int]]) -> str:
    """The facts that tell this answer from the others to the same event."""
    mine = [case for case, other in cases.items() if other == answer]
    telling = [(name, bit) for name, bit in facts if any(cases[case ^ bit] != answer for case in mine)]
    terms = (" and ".join(name if case & bit else f"not {name}" for name, bit in telling) for case in mine)
    return " or ".join(dict.fromkeys(terms))


def answers(flat: Flat, state: str) -> Iterator[tuple[str, Answer]]:
    """The different answers in a state, each with its guard in words."""
    by_event: dict[str, dict[int, Answer]] = {}
    for case, answer in flat.guarded(state):
        by_event.setdefault(answer.event, {})[case] = answer
    for event, cases in by_event.items():
        for answer in dict.fromkeys(cases.values()):
            yield _guard(cases, answer, flat.facts_read(event)), answer


def kind_of(answer: Answer) -> Kind:
    """Whether an answer obeys its event."""
    if answer.refusal:
        return Kind.REFUSED
    return Kind.IGNORED if answer.ignored else Kind.OBEYED


def headline(spec: Spec, calls: Iterable[Call]) -> str:
    """The first thing that a server has to do, in two or three words: `send close 1000`."""
    for call in calls:
        if not spec.effects[call.effect].inner and "timer" not in call.effect:
            fixed = [str(v) for key, v in call.fields if key in ("status", "code") and isinstance(v, int)]
            return " ".join([call.effect.replace("_", " "), *fixed])
    return ""


def _label(spec: Spec, event: str, guard: str, rule: str, calls: Iterable[Call], refusal: str | None = None) -> Label:
    calls, declared = tuple(calls), spec.events[event]
    said = [f"{declared.label}: {declared.says}", f"{spec.cite(rule).rstrip('.')}."]
    if rule in spec.rules:
        said.append(spec.rules[rule].says)
    if guard:
        said.append(f"Only if: {guard}.")
    if calls:
        said.append(f"Effects: {in_words(calls)}.")
    if refusal:
        said.append(f"Refused: {refusal}.")
    return Label(event, declared.label, guard, headline(spec, calls), in_words(calls), rule, "\n".join(said), ())


# -------------------------------------------------------------------------------------------- products


def _project(flat: Flat, state: str, hidden: frozenset[str]) -> str:
    return "/".join(local for region, local in zip(flat.regions, state.split("/"), strict=True) if region not in hidden)


def product_picture(
    machine: Lifecycle, name: str, path: Sequence[Step], all_answers: bool, hidden: frozenset[str], merged: bool
) -> Picture:
    """The product of the regions without the `hidden` ones. `merged`: its clusters are joined by one arrow each."""
    flat, spec = machine.flat, machine.spec
    drawing = _Drawing(spec)
    obeyed = {
        (a.event, a.source, a.target)
        for state in flat.state_of
        for a in flat.distinct(state)
        if kind_of(a) is Kind.OBEYED
    }
    taken = set(path) - obeyed  # what is passed is drawn, even if it is ignored or refused
    shown = [region for region in flat.regions if region not in hidden]

    everywhere = _everywhere(flat) if merged else {}
    for state in flat.state_of:
        for guard, answer in answers(flat, state):
            kind = kind_of(answer)
            step = (answer.event, state, answer.target)
            if not (all_answers or step in taken) and kind is not Kind.OBEYED:
                continue
            source, target = (_project(flat, end, hidden) for end in (state, answer.target))
            out, into = source.split("/")[0], target.split("/")[0]
            if merged and out != into:
                source, target = out, into
            elif merged and not answer.moves and step[0] in everywhere[out]:
                source, target = out, out
            elif hidden and answer.moves and source == target and not answer.effects:
                if answer.target in flat.final:
                    source, target = (out if merged else source), END
                elif not (all_answers or step in path):
                    continue  # what only moves a hidden region is told by the picture of that region
            label = _label(spec, answer.event, guard, answer.rule, answer.effects, answer.refusal)
            drawing.add((source, target), kind, label, step)

    members: dict[str, list[str]] = {}
    for state in flat.state_of:
        members.setdefault(_project(flat, state, hidden), []).append(state)
    locals_of = {region: list(spec.regions[region].states) for region in shown}
    visible = {state for _, source, target in path for state in (source, target)}
    nodes = [
        Node(
            node,
            "\n".join(node.split("/")[1:]),
            "\n".join(spec.regions[r].states[s].says for r, s in zip(shown, node.split("/"), strict=True)),
            node.split("/")[0],
            initial=next(iter(flat.state_of)) in states,
            final=not hidden and states[0] in flat.final,
            members=tuple(states),
            on_path=not visible.isdisjoint(states),
        )
        for node, states in sorted(
            members.items(),
            key=lambda item: [locals_of[r].index(s) for r, s in zip(shown, item[0].split("/"), strict=True)],
        )
    ]
    clusters = tuple(
        Cluster(local, state.says)
        for local, state in spec.regions[shown[0]].states.items()
        if any(node.cluster == local for node in nodes)
    )
    order = [*(cluster.name for cluster in clusters), *(node.name for node in nodes), END]
    edges = drawing.edges(order)
    if any(edge.target == END for edge in edges):
        done = any(state in flat.final for state in visible)
        nodes.append(Node(END, "", "Everything has ended.", None, False, True, tuple(sorted(flat.final)), done))
    used = {part for node in nodes if node.cluster for part in node.name.split("/")[1:]}
    key = [(s.name, s.says) for r in shown[1:] for s in spec.regions[r].states.values() if s.name in used]
    key += _facts(spec, edges)
    return Picture(name, spec.title, _caption(spec, shown, hidden, merged), tuple(nodes), edges, clusters, tuple(key))


def _facts(spec: Spec, edges: Sequence[Edge]) -> list[tuple[str, str]]:
    """The facts that stand as conditions at these edges."""
    guards = {word for edge in edges for label in edge.labels for word in label.guard.replace(",", " ").split()}
    return [(fact.name, fact.says) for fact in spec.facts.values() if fact.name in guards]


def _everywhere(flat: Flat) -> dict[str, set[str]]:
    """For each state of the first region the events that its product states, whatever else, answer alike by staying."""
    ways: dict[tuple[str, str], set[tuple[object, ...]]] = {}
    for state in flat.state_of:
        for guard, a in answers(flat, state):
            signature = (guard, a.effects, a.refusal, a.rule) if not a.moves else ()
            ways.setdefault((state.split("/")[0], a.event), set()).add(signature)
    return {local: {e for (at, e), found in ways.items() if at == local and len(found) == 1} for local, _ in ways}


def _caption(spec: Spec, shown: Sequence[str], hidden: frozenset[str], merged: bool) -> str:
    text = f"Each frame is a state of {shown[0]}, each box in it a state of {' and '.join(shown[1:])}."
    if merged:
        moves = [
            f"{' or '.join(state for state in spec.regions[c.region].states if state in c.sources)} becomes {c.target}"
            f" when {' and '.join(_elsewhere(c.elsewhere, spec))}"
            for c in spec.couplings
            if c.region in shown
        ]
        text += (
            "\nAn arrow between frames holds for every box of the first and keeps to its box, but for the couplings:"
        )
        text += f"\n{'; '.join(moves)}."
    if hidden:
        text += f"\nNot shown is the region {' and '.join(sorted(hidden))}; the end is reached once it has ended too."
    return text


# -------------------------------------------------------------------------------------------- regions


def region_picture(machine: Lifecycle, name: str, path: Sequence[Step], all_answers: bool) -> Picture:
    """One region: the rows that the profile selects, and the couplings that move it by themselves."""
    flat, spec = machine.flat, machine.spec
    declared, position = spec.regions[name], flat.regions.index(name)
    reached = {state[position] for state in flat.states}
    drawing = _Drawing(spec)
    for row in spec.rows:
        if row.region != name or not row.when.holds(flat.choices):
            continue
        kind = _kind_of_row(row)
        if kind is not Kind.OBEYED and not all_answers:
            continue
        calls = [Call(c.effect, tuple((key, flat.resolve(value)) for key, value in c.fields)) for c in row.effects]
        facts = [fact if holds else f"not {fact}" for fact, holds in row.guards]
        guard = " and ".join([*facts, *_elsewhere(row.elsewhere, spec)])
        for source in (source for source in row.sources if source in reached):
            for event in row.events:
                label = _label(spec, event, guard, row.rule, calls, row.refusal)
                target = row.target or source
                drawing.add((source, target), kind, label, (event, source, target))
    for coupling in spec.couplings:
        if coupling.region != name or coupling.target not in reached:
            continue
        condition = " and ".join(_elsewhere(coupling.elsewhere, spec))
        tip = f"By itself when {condition}.\n{spec.cite(coupling.rule).rstrip('.')}."
        for source in (state for state in declared.states if state in coupling.sources & reached):
            label = Label(COUPLING, f"when {condition}", "", "", "", coupling.rule, tip, ())
            step = (COUPLING, source, coupling.target)
            drawing.add(step[1:], Kind.OBEYED, label, step)
    visible = {state.split("/")[position] for _, source, target in path for state in (source, target)}
    nodes = tuple(
        Node(
            state.name,
            state.name,
            state.says,
            None,
            initial=state.name == declared.initial,
            final=state.name in declared.final,
            members=(state.name,),
            on_path=state.name in visible,
        )
        for state in declared.states.values()
        if state.name in reached
    )
    edges = drawing.edges([node.name for node in nodes])
    key = (*((node.name, node.says) for node in nodes), *_facts(spec, edges))
    return Picture(name, f"{spec.title}: {name}", declared.says, nodes, edges, (), key)


def _kind_of_row(row: Row) -> Kind:
    if row.refusal:
        return Kind.REFUSED
    does = row.target or row.effects or row.assigns or row.gives is not None
    return Kind.OBEYED if does else Kind.IGNORED


def _elsewhere(conditions: Mapping[str, frozenset[str]], spec: Spec) -> list[str]:
    return [
        f"{other} is {' or '.join(state for state in spec.regions[other].states if state in states)}"
        for other, states in conditions.items()
    ]
