"""Explores a `System` breadth first into a graph, fast enough for hundreds of thousands of states.

A state is three numbers in one: which control, which inbound queue, which outbound queue, each interned. What may
happen in a state depends on its control and on the flags of its queues alone, so that it is worked out once for each
pair of them, as a `Table`; a step then costs two look-ups for what it does to the queues. With several connections
the states of all of them are multiplied: they share nothing but a server that shuts down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from wslifecycle.statemachine.properties import Kind, Term
from wslifecycle.statemachine.queues import Inbound, Op, Outbound
from wslifecycle.statemachine.system import FLAGS, Control, Move, System

_WIDTH = 20
_MASK = (1 << _WIDTH) - 1
_REPORT = 4096  # states between two calls of `progress`

Progress = Callable[[int, int], None]
"""Called now and then with how many states were explored and how many are known."""


class TooLarge(ValueError):
    """The system has more states than were allowed for."""


class _Queue(dict[Any, int]):
    """The states of one queue that were met, each with its number and its flags."""

    def __init__(self, flags: Callable[[Any], int]) -> None:
        super().__init__()
        self.flags: list[int] = []
        self.states: list[Any] = []
        self._flags_of = flags

    def __missing__(self, state: Any) -> int:
        number = self[state] = len(self.states)
        self.states.append(state)
        self.flags.append(self._flags_of(state))
        return number


class _Then(dict[int, int]):
    """What some operations make of a queue, by number."""

    def __init__(self, queue: _Queue, after: Callable[[Any, Op], Any], ops: tuple[Op, ...]) -> None:
        super().__init__()
        self._queue, self._after, self._ops = queue, after, ops

    def __missing__(self, number: int) -> int:
        state = self._queue.states[number]
        for op in self._ops:
            state = self._after(state, op)
        found = self[number] = self._queue[state]
        return found


class Way(NamedTuple):
    """A move, and the mask of what holds of it but for what the flags of the queues tell."""

    move: Move
    mask: int


class Ways(NamedTuple):
    """The ways of a control, whatever the queues are: those that may change something, and the others."""

    ways: list[Way]
    still: list[Way]
    steps: list[tuple[int, int, tuple[int, _Then, _Then]]]
    """For each of `ways` what the flags have to be, as mask and value, and where it leads."""


class Table:
    """What may happen under one control while the queues show certain flags.

    `shown` is the mask of what the flags tell, `idle` that of all that holds before each step.
    """

    def __init__(self, control: int, of: Ways, flags: int, shown: int, idle: int) -> None:
        self.control = control
        self.shown = shown
        self.idle = idle
        self.steps = [step for mask, value, step in of.steps if flags & mask == value]
        self.flags = flags
        self._of = of

    @cached_property
    def ways(self) -> list[Way]:
        """What may change something, in the order of `steps`."""
        return [way for way in self._of.ways if self.flags & way.move.mask == way.move.flags]

    @cached_property
    def still(self) -> list[Way]:
        """What may happen and changes nothing."""
        return [way for way in self._of.still if self.flags & way.move.mask == way.move.flags]

    @cached_property
    def labels(self) -> list[tuple[int, str]]:
        """The mask and the action of each of `ways` and then of each of `still`."""
        return [(way.mask | self.shown, way.move.action) for way in (*self.ways, *self.still)]

    @cached_property
    def actions(self) -> frozenset[str]:
        """What is possible."""
        ways = (*self._of.ways, *self._of.still)
        return frozenset([move.action for move, _ in ways if self.flags & move.mask == move.flags])


class Bits:
    """The terms that properties speak of, each as a bit of the mask of a step."""

    def __init__(self, wanted: Iterable[Term]) -> None:
        self.bit = {term: 1 << position for position, term in enumerate(dict.fromkeys(wanted))}
        self._before = self._of(Kind.STATE, False)
        self._after = self._of(Kind.STATE, True)
        self._events, self._effects = self._of(Kind.EVENT), self._of(Kind.EFFECT)
        self._marks, self._words = self._of(Kind.MARK), self._of(Kind.WORD)
        self._flags = [(FLAGS[name], bit) for name, bit in self._before.items() if name in FLAGS]

    def _of(self, kind: Kind, after: bool = False) -> dict[str, int]:
        return {term.name: bit for term, bit in self.bit.items() if term.kind is kind and term.after is after}

    def of_states(self, holding: frozenset[str]) -> tuple[int, int]:
        """The masks of what holds before, and after, a step from or to a state in which this holds."""
        before = after = 0
        for name in holding:
            before |= self._before.get(name, 0)
            after |= self._after.get(name, 0)
        return before, after

    def of_move(self, move: Move) -> int:
        """The mask of a step, but for its states."""
        answer, mask = move.answer, 0
        if answer is None or answer.refusal is None:
            mask = self._events.get(move.event, 0) | self._events.get(move.action, 0)
        else:
            mask = self._words.get("refused", 0) | self._words.get(str(answer.refusal), 0)
        if answer is not None:
            if answer.source != answer.target:
                mask |= self._words.get("moved", 0)
            for call in answer.effects:
                mask |= self._effects.get(call.effect, 0)
        for mark in move.marks:
            mask |= self._marks.get(mark, 0)
        return mask

    def of_flags(self, flags: int) -> int:
        """The mask of what the queues show before a step."""
        mask = 0
        for flag, bit in self._flags:
            mask |= bit if flags & flag else 0
        return mask


class Graph:
    """Every state of a system that can be reached, in the order of a breadth-first search.

    `targets[n]` are where the ways of state n lead, in the order of `of[n].ways`.
    """

    def __init__(self, system: System, wanted: Iterable[Term], limit: int, progress: Progress | None = None) -> None:
        self.system = system
        self.bits = Bits(wanted)
        self.limit = limit
        self.nodes: list[int] = []
        self.parents: list[int] = []
        self.targets: list[list[int]] = []
        self.tables: dict[int, Table] = {}
        self.of: list[Table] = []
        self.starts = 0
        self._controls: dict[Control, int] = {}
        self._holds: dict[int, tuple[int, int]] = {}
        self._ways: dict[int, Ways] = {}
        self._listed: list[Control] = []
        self._in = _Queue(system.queues.flags_of_inbound)
        self._out = _Queue(system.queues.flags_of_outbound)
        self._thens: dict[tuple[str, tuple[Op, ...]], _Then] = {}
        began = time.perf_counter()
        self._explore(progress)
        self.seconds = time.perf_counter() - began

    def __len__(self) -> int:
        return len(self.nodes)

    def state(self, node: int) -> tuple[Control, Inbound, Outbound]:
        """A state in words."""
        packed = self.nodes[node]
        return (
            self._listed[packed >> 2 * _WIDTH],
            self._in.states[packed >> _WIDTH & _MASK],
            self._out.states[packed & _MASK],
        )

    @property
    def controls(self) -> int:
        """How many controls there are; `Table.control` is the number of one."""
        return len(self._listed)

    def control(self, number: int) -> Control:
        """A control by its number."""
        return self._listed[number]

    def state_of(self, number: int) -> str:
        """The machine's state in a control."""
        return self._listed[number].state

    @staticmethod
    def mask(*, inbound: bool, outbound: bool) -> int:
        """The bits of a state that tell its control, and its queues where they are wanted."""
        return -1 << 2 * _WIDTH | (_MASK << _WIDTH if inbound else 0) | (_MASK if outbound else 0)

    def ways_from(self, packed: int) -> Iterator[tuple[Way, int | None]]:
        """The ways of a state's control, whatever the flags are, and where each leads; None where nothing changes."""
        found = self._ways[packed >> 2 * _WIDTH]
        i, o = packed >> _WIDTH & _MASK, packed & _MASK
        for way, (_, _, (control, then_in, then_out)) in zip(found.ways, found.steps, strict=True):
            yield way, control | then_in[i] << _WIDTH | then_out[o]
        for way in found.still:
            yield way, None

    def moves(self) -> Iterator[Move]:
        """Every move of every control, be there queues that allow it or not."""
        for found in self._ways.values():
            yield from (way.move for way in (*found.ways, *found.still))

    @property
    def transitions(self) -> int:
        """How many steps there are, those that change nothing among them."""
        return sum(len(table.ways) + len(table.still) for table in self.of)

    def depth(self) -> int:
        """How many steps the state that is reached last is away from a beginning."""
        depths = [0] * len(self.nodes)
        for node in range(self.starts, len(self.nodes)):
            depths[node] = depths[self.parents[node]] + 1
        return max(depths)

    def way(self, node: int) -> list[tuple[int, int]]:
        """A shortest way from a beginning to a state, as (state, number of the move)."""
        steps = []
        while (before := self.parents[node]) >= 0:
            steps.append((before, self.targets[before].index(node)))
            node = before
        return steps[::-1]

    # ---------------------------------------------------------------------------------------- exploring

    def _number(self, control: Control) -> int:
        number = self._controls.get(control)
        if number is None:
            number = self._controls[control] = len(self._listed)
            self._listed.append(control)
        return number

    def _then(self, queue: str, ops: tuple[Op, ...]) -> _Then:
        key = (queue, ops)
        if key not in self._thens:
            queues = self.system.queues
            parts: tuple[_Queue, Callable[[Any, Op], Any]] = (
                (self._in, queues.inbound_after) if queue == "in" else (self._out, queues.outbound_after)
            )
            self._thens[key] = _Then(*parts, ops)
        return self._thens[key]

    def _holding(self, number: int) -> tuple[int, int]:
        """The masks of what holds under a control, before and after a step."""
        if number not in self._holds:
            self._holds[number] = self.bits.of_states(self.system.terms(self._listed[number]))
        return self._holds[number]

    def _ways_of(self, number: int) -> Ways:
        control = self._listed[number]
        before, _ = self._holding(number)
        found = self._ways[number] = Ways([], [], [])
        for move in self.system.moves(control):
            target = self._number(move.control)
            mask = self.bits.of_move(move) | before | self._holding(target)[1]
            if target == number and not move.inbound and not move.outbound:
                found.still.append(Way(move, mask))
            else:
                found.ways.append(Way(move, mask))
                step = target << 2 * _WIDTH, self._then("in", move.inbound), self._then("out", move.outbound)
                found.steps.append((move.mask, move.flags, step))
        return found

    def _table(self, key: int, number: int, flags: int) -> Table:
        ways = self._ways.get(number) or self._ways_of(number)
        shown = self.bits.of_flags(flags)
        before, after = self._holding(number)
        made = self.tables[key] = Table(number, ways, flags, shown, before | after | shown)
        return made

    def _explore(self, progress: Progress | None) -> None:
        nodes, parents, tables = self.nodes, self.parents, self.tables
        in_flags, out_flags = self._in.flags, self._out.flags
        empty = self._in[Inbound()] << _WIDTH | self._out[Outbound()]
        index: dict[int, int] = {}
        for control in self.system.starts():
            packed = self._number(control) << 2 * _WIDTH | empty
            index[packed] = len(nodes)
            nodes.append(packed)
            parents.append(-1)
        self.starts = len(nodes)
        known = len(nodes)
        for node, packed in enumerate(nodes):
            number, i, o = packed >> 2 * _WIDTH, packed >> _WIDTH & _MASK, packed & _MASK
            flags = in_flags[i] | out_flags[o]
            key = number << 32 | flags
            table = tables.get(key) or self._table(key, number, flags)
            self.of.append(table)
            reached = []
            for control_bits, then_in, then_out in table.steps:
                target = control_bits | then_in[i] << _WIDTH | then_out[o]
                found = index.setdefault(target, known)
                if found == known:
                    nodes.append(target)
                    parents.append(node)
                    known += 1
                reached.append(found)
            self.targets.append(reached)
            if known > self.limit:
                raise TooLarge(f"There are more than {self.limit} states. Lower the bounds or raise the limit.")
            if progress is not None and not node % _REPORT:
                progress(node, known)
