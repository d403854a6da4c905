"""The machine: a genuine `transitions.Machine`, built once from a compiled profile, sealed, and shared.

No model is registered with it. `machine.events[name].trigger(connection)` works on any object that has a `state` (the
name of a product state) and a `case` (its facts as bits); a consultation is one lookup in a precomputed row, and a
refusal always raises `Refused`, where stock transitions returns False for a failed guard and raises for the rest.
This is the only module that imports transitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

import transitions
from transitions.core import Condition

from wslifecycle.statemachine.dialect import Dialect, version_of
from wslifecycle.statemachine.flatten import Answer, Flat, compile_profile, name_of
from wslifecycle.statemachine.mentions import of_values
from wslifecycle.statemachine.model import Actor, Kind, Spec

HINT = "The machine is sealed because all connections share it. Change spec/lifecycle.yaml instead."


class Model(Protocol):
    """What the machine can be asked about: a state and a guard case."""

    state: str
    case: int


class Refused(transitions.MachineError):
    """An event is refused in this state; nothing has changed. `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(f"{answer.event} is refused in {answer.source} ({answer.refusal}, {answer.rule}).")

    def __str__(self) -> str:  # MachineError would show it in quotes
        return str(self.value)


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError(HINT)


def _nowhere(state: object, case: object) -> ValueError:
    return ValueError(f"{state!r} with case {case!r} is no state of this lifecycle.")


class _List(tuple[Any, ...]):
    """What was a list. A tuple, with the methods of a list only to say why they do not work."""

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse


class _Dict(dict[str, Any]):
    """What was a dict, and can only be read now."""

    __setitem__ = __delitem__ = __ior__ = setdefault = update = pop = popitem = clear = _refuse


class _Part:
    """A part of a machine: once sealed, its attributes stay as they are."""

    _sealed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._sealed:
            _refuse()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if self._sealed:
            _refuse()
        super().__delattr__(name)


class LifecycleState(_Part, transitions.State):
    """A product state."""


class LifecycleCondition(_Part, Condition):
    """The test of one fact."""


class LifecycleTransition(_Part, transitions.Transition):
    """A transition that carries its answer: effects, assignments, rule and line."""

    condition_cls = LifecycleCondition

    def __init__(self, *args: Any, answer: Answer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answer = answer


class LifecycleEvent(_Part, transitions.Event):
    """An event whose answer in every state and guard case is precomputed."""

    def __init__(self, name: str, machine: Lifecycle) -> None:
        super().__init__(name, machine)
        self._rows: tuple[dict[str, Answer], ...] = tuple(map(dict, machine.flat.answers[name]))
        self._targets: tuple[dict[str, str], ...] = tuple(
            {state: answer.target for state, answer in row.items() if answer.refusal is None} for row in self._rows
        )

    def consult(self, model: Model) -> Answer:
        """The answer to this event now. Changes nothing. Raises `ValueError` for a state that does not exist."""
        try:
            return self._rows[model.case][model.state]
        except (KeyError, IndexError):
            raise _nowhere(model.state, model.case) from None

    def trigger(self, model: Any, *args: Any, **kwargs: Any) -> bool:
        """Moves the model as stock transitions would. Raises `Refused` where the event is refused."""
        try:
            model.state = self._targets[model.case][model.state]
        except (KeyError, IndexError):
            answer = self.consult(model)
            if answer.refusal is None:  # then it is the model that failed
                raise
            raise Refused(answer) from None
        return True

    def may(self, model: Model) -> bool:
        """Whether `trigger` would be obeyed now, be it as a declared no-op."""
        return self.consult(model).refusal is None

    def add_transition(self, transition: transitions.Transition) -> None:
        """Only before sealing."""
        if self._sealed:
            _refuse()
        super().add_transition(transition)

    def add_callback(self, trigger: str, func: Any) -> None:
        """Never: it would not be called. Effects stand in the spec."""
        _refuse()


class Place:
    """A state and a guard case, where a connection may be. To be read only: all connections share it.

    Whoever is in a place consults the machine by one look into it. `answers` are those of `LifecycleEvent.consult` by
    event, `due` is what receive() does; `unread` and `read` are the places of the same state where a message waits for
    the app, and where none does.
    """

    __slots__ = ("answers", "case", "due", "read", "state", "unread")

    def __init__(self, state: str, case: int, machine: Lifecycle) -> None:
        self.state = state
        self.case = case
        self.answers: dict[str, Answer] = {event: rows[case][state] for event, rows in machine.flat.answers.items()}
        self.due: Answer = machine.due[case][state]
        self.unread: Place
        self.read: Place


class Lifecycle(_Part, transitions.Machine):
    """The lifecycle as a sealed `transitions.Machine`.

    `flat` is the compiled profile that it was made from, `spec` the file behind it. Its states are product states such
    as `open/flowing/running`, its triggers the events of the spec.
    """

    state_cls = LifecycleState
    event_cls = LifecycleEvent
    transition_cls = LifecycleTransition

    def __init__(self, flat: Flat, model: Any = None) -> None:
        self.flat = flat
        self.spec: Spec = flat.spec
        self.profile = flat.profile
        super().__init__(
            model=model,
            states=[LifecycleState(name, final=name in flat.final) for name in flat.state_of],
            initial=name_of(flat.states[0]),
            transitions=transitions_of(flat, with_answer=True),
            auto_transitions=False,
            name=f"lifecycle {flat.profile}",
        )
        for event in flat.spec.events:
            if event not in self.events:  # refused everywhere, and still an event
                self.events[event] = self._create_event(event, self)
        self._dialects: dict[str, Dialect] = {}
        self.due: tuple[Mapping[str, Answer], ...] = tuple(_Dict(self._due(case)) for case in range(flat.cases))
        self._places = tuple({state: Place(state, case, self) for state in flat.state_of} for case in range(flat.cases))
        for places in self._places:
            for place in places.values():
                place.unread = self.place(place.state, place.case | flat.waiting)
                place.read = self.place(place.state, place.case & ~flat.waiting)

    def place(self, state: str, case: int) -> Place:
        """A state and a guard case, with the answers there. Raises `ValueError` where there is no such thing."""
        try:
            return self._places[case][state]
        except (KeyError, IndexError):
            raise _nowhere(state, case) from None

    def _due(self, case: int) -> dict[str, Answer]:
        """What receive() does in each state: gives something, raises, or waits (a `not_due` refusal)."""
        gifts = [name for name, event in self.spec.events.items() if event.actor is Actor.GIVEN]
        due: dict[str, Answer] = {}
        for state in self.states:
            answers = [self.flat.answers[event][case][state] for event in gifts]
            ranked = sorted(answers, key=lambda answer: (answer.refusal is not None, answer.refusal is Kind.NOT_DUE))
            due[state] = ranked[0]
        return due

    def dialect(self, spec_version: str) -> Dialect:
        """How connections of one spec version speak. Raises `ValueError` where it is not a version such as `2.5`."""
        if spec_version not in self._dialects:
            self._dialects[spec_version] = Dialect(self.flat, version_of(spec_version))
        return self._dialects[spec_version]

    def answering(self, answers: Mapping[str, str]) -> Lifecycle:
        """The machine of other answers to choices that are about values only, made in no time: all else is shared.

        Raises `ValueError` for a choice that rows, states or timers mention: this takes another machine (`build`).
        """
        others = sorted(answers.keys() - of_values(self.spec))
        if others:
            raise ValueError(f"Another answer to {', '.join(others)} makes another machine. Build it.")
        made = object.__new__(Lifecycle)
        made.__dict__.update(self.__dict__, flat=self.flat.answering(answers), _dialects={})
        return made

    def seal(self) -> Lifecycle:
        """Makes the machine and its parts immutable: changing anything raises `TypeError` and says what to do."""
        for event in self.events.values():
            for found in event.transitions.values():
                for transition in found:
                    for condition in transition.conditions:
                        _seal(condition)
                    _seal(transition, "prepare", "before", "after", "conditions")
            frozen = {state: _List(found) for state, found in event.transitions.items()}
            _seal(event, transitions=_Dict(frozen))
        for state in self.states.values():
            _seal(state, "on_enter", "on_exit")
        callbacks = ("prepare_event", "before_state_change", "after_state_change", "finalize_event", "on_exception")
        parts = {"events": _Dict(self.events), "states": _Dict(self.states), "models": _List()}
        _seal(self, *callbacks, "on_final", **parts)
        return self

    def add_model(self, model: Any, initial: Any = None) -> None:
        """Only before sealing: a shared machine keeps no models. Call `machine.events[name].trigger(model)`."""
        if self._sealed:
            _refuse()
        super().add_model(model, initial)

    def add_transition(self, *args: Any, **kwargs: Any) -> None:
        """Only before sealing."""
        if self._sealed:
            _refuse()
        super().add_transition(*args, **kwargs)

    def add_states(self, *args: Any, **kwargs: Any) -> None:
        """Only before sealing."""
        if self._sealed:
            _refuse()
        super().add_states(*args, **kwargs)

    def remove_transition(self, *args: Any, **kwargs: Any) -> None:
        """Never: a lifecycle is changed in its spec."""
        _refuse()

    def remove_model(self, model: Any) -> None:
        """Never: there are none."""
        _refuse()


def _seal(part: object, *lists: str, **values: Any) -> None:
    """Seals a part: what was a list cannot grow any more, and no attribute can be set."""
    for name in lists:
        setattr(part, name, _List(getattr(part, name)))
    for name, value in (values | {"_sealed": True}).items():
        setattr(part, name, value)


def transitions_of(flat: Flat, *, with_answer: bool = False) -> list[dict[str, Any]]:
    """The compiled profile in the words of transitions: one transition for each state, event and different answer.

    Facts become conditions, which transitions looks up by name on the model. What stays is an internal transition.
    """
    made: list[dict[str, Any]] = []
    for state in flat.state_of:
        for event in flat.spec.events:
            found = list(flat.guarded_by(event, state))
            alike = len({answer for _, answer in found}) == 1
            for case, answer in found[:1] if alike else found:
                if answer.refusal is not None:
                    continue
                facts = [] if alike else flat.facts_read(event)
                transition: dict[str, Any] = {
                    "trigger": event,
                    "source": state,
                    "dest": answer.target if answer.moves else None,
                    "conditions": [name for name, bit in facts if case & bit],
                    "unless": [name for name, bit in facts if not case & bit],
                }
                if with_answer:
                    transition["answer"] = answer
                made.append(transition)
    return made


def build(spec: Spec, choices: Mapping[str, str] | None = None, profile: str = "reference") -> Lifecycle:
    """Compiles one profile of a spec and makes its sealed machine. Raises `SpecError`."""
    return Lifecycle(compile_profile(spec, choices, profile)).seal()


def lifecycle(profile: str | Path = "reference") -> Lifecycle:
    """The sealed machine of a profile, made once and shared by all connections.

    `profile` is `reference`, the name of a file in `spec/profiles`, or the path of a YAML file. The first call reads
    and compiles the spec, which takes about a tenth of a second: a server makes it at start-up. Raises `LookupError`
    when there is no such profile, `OSError` when the file cannot be read, and `SpecError` when it is not sound.
    """
    name = str(profile)
    return _made(str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name)


@cache
def _made(profile: str) -> Lifecycle:
    from wslifecycle.statemachine.load import load_answers, load_spec  # YAML is read once, by who needs a machine

    spec = load_spec()
    return build(spec, load_answers(spec, profile), profile)


__all__ = ["Lifecycle", "LifecycleEvent", "Refused", "build", "lifecycle", "transitions_of"]
