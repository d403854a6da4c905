"""The machine is a real `transitions.Machine`, equal to a stock one in every answer, and nobody can change it.

The twin is what transitions makes of the same transitions with its own Event, Transition and Condition. It is asked
the same as ours in every state, for every event, in every guard case.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, cast

import pytest
import transitions
from transitions.extensions import GraphMachine
from transitions.extensions.markup import MarkupMachine

from wslifecycle import Lifecycle, Refused, lifecycle, load_spec
from wslifecycle.statemachine.flatten import Answer, Flat, compile_profile
from wslifecycle.statemachine.machine import HINT, LifecycleEvent, build, transitions_of
from wslifecycle.statemachine.model import Actor, Kind

PROFILES: dict[str, dict[str, str]] = {
    "reference": {},
    "strict": {"C2": "close_1011", "C4": "http_403", "C6": "waits", "C25": "lenient"},
    "lenient": {"C1": "refused", "C8": "ignored", "C9": "violation", "C27": "obeyed", "C41": "swallowed"},
    "mute": {"C2": "stays_open", "C6": "raises", "C10": "none", "C11": "none", "C12": "none", "C15": "given"},
}

STATE = "open/flowing/running"


@cache
def sealed(profile: str) -> Lifecycle:
    spec = load_spec()
    return build(spec, {**spec.reference, **PROFILES[profile]}, "x" if PROFILES[profile] else "reference")


@pytest.fixture(params=PROFILES)
def machine(request: pytest.FixtureRequest) -> Lifecycle:
    return sealed(request.param)


def event_of(machine: Lifecycle, name: str) -> LifecycleEvent:
    return cast(LifecycleEvent, machine.events[name])


class Model:
    """Stands in a state with some facts, told to ours as `case` and to transitions as one attribute each."""

    unread = denial = raising = False

    def __init__(self) -> None:
        self.state = ""
        self.case = 0

    def stand(self, flat: Flat, state: str, case: int) -> None:
        self.state, self.case = state, case
        for bit, fact in enumerate(flat.facts):
            setattr(self, fact.name, bool(case >> bit & 1))


def situations(flat: Flat) -> Iterator[tuple[str, str, int]]:
    """Every event in every state and every guard case."""
    return ((event, state, case) for event in flat.answers for state in flat.state_of for case in range(flat.cases))


class TestItIsATransitionsMachine:
    def test_by_its_class(self, machine: Lifecycle) -> None:
        assert isinstance(machine, transitions.Machine)
        assert all(isinstance(event, transitions.Event) for event in machine.events.values())
        assert all(isinstance(state, transitions.State) for state in machine.states.values())
        assert all(isinstance(transition, transitions.Transition) for transition in machine.get_transitions())

    def test_with_the_states_and_events_of_the_spec(self, machine: Lifecycle) -> None:
        assert list(machine.states) == list(machine.flat.state_of)
        assert set(machine.events) == set(machine.spec.events)
        assert machine.initial == "/".join(region.initial for region in machine.spec.regions.values())
        assert {name for name, state in machine.states.items() if state.final} == machine.flat.final

    def test_that_lists_as_triggers_what_is_not_refused(self, machine: Lifecycle) -> None:
        for state in machine.states:
            answered = {answer.event for answer in machine.flat.distinct(state) if answer.refusal is None}
            assert set(machine.get_triggers(state)) == answered

    def test_that_gives_its_transitions(self, machine: Lifecycle) -> None:
        [lost] = machine.get_transitions("peer_lost", source=STATE)
        assert lost.dest == "closed/disconnect_due/running"
        assert len(machine.get_transitions()) == len(transitions_of(machine.flat))

    def test_made_once(self) -> None:
        assert lifecycle() is lifecycle()
        assert lifecycle("reference").events["app_send"] is lifecycle("reference").events["app_send"]

    def test_without_models(self, machine: Lifecycle) -> None:
        assert len(machine.models) == 0
        assert not hasattr(machine, "state")

    def test_that_leads_only_to_states_that_exist(self, machine: Lifecycle) -> None:
        """transitions looks a destination up no sooner than it goes there."""
        assert {t.dest for t in machine.get_transitions()} <= {None, *machine.states}

    def test_whose_names_collide_with_nothing_on_a_model(
        self, machine: Lifecycle, caplog: pytest.LogCaptureFixture
    ) -> None:
        """transitions skips a colliding name, and says so only in its log."""
        with caplog.at_level(logging.WARNING, logger="transitions"):
            Lifecycle(machine.flat, Model())
        assert not caplog.records

    def test_that_markup_can_describe(self, machine: Lifecycle) -> None:
        class Marked(Lifecycle, MarkupMachine):
            """Ours, with what transitions adds for its markup."""

        markup = Marked(machine.flat).markup
        assert [state["name"] for state in markup["states"]] == list(machine.states)
        assert len(markup["transitions"]) == len(machine.get_transitions())
        plain = MarkupMachine(
            model=None,
            states=list(machine.states),
            initial=machine.initial,
            transitions=transitions_of(machine.flat),
            auto_transitions=False,
        )
        assert plain.markup["transitions"] == markup["transitions"]
        assert all(plain.get_triggers(state) == machine.get_triggers(state) for state in machine.states)

    def test_that_transitions_can_draw(self) -> None:
        machine, model = lifecycle(), Model()
        drawn = GraphMachine(
            model=model,
            states=list(machine.states),
            initial=machine.initial,
            transitions=transitions_of(machine.flat),
            auto_transitions=False,
            graph_engine="mermaid",
        )
        source = cast(Any, drawn.get_combined_graph()).source
        assert all(event in source for event in machine.get_triggers(*machine.states))
        assert all(drawn.get_triggers(state) == machine.get_triggers(state) for state in machine.states)


class Twin:
    """The same transitions in a stock machine, with a model that is registered and a note of what ran."""

    def __init__(self, flat: Flat) -> None:
        self.model = Model()
        self.ran: list[Answer] = []
        made: list[Any] = []
        for transition in transitions_of(flat, with_answer=True):
            note = partial(self.ran.append, transition.pop("answer"))
            made.append({**transition, "after": note})
        self.machine = transitions.Machine(
            model=self.model,
            states=list(flat.state_of),
            initial=next(iter(flat.state_of)),
            transitions=made,
            auto_transitions=False,
        )

    def trigger(self, event: str) -> bool:
        """Whether it was taken. A failed guard (False) and an event that is not there (an error) are both a no."""
        self.ran.clear()
        if event not in self.machine.events:
            return False
        try:
            return self.machine.events[event].trigger(self.model)
        except transitions.MachineError:
            return False

    def may(self, event: str) -> bool:
        return event in self.machine.events and bool(getattr(self.model, f"may_{event}")())


class TestItEqualsAStockMachine:
    """In all of 35 states (about), 20 events and 8 guard cases, for each profile."""

    def test_in_what_it_does(self, machine: Lifecycle) -> None:
        flat, twin, model = machine.flat, Twin(machine.flat), Model()
        for name, state, case in situations(flat):
            where = f"{name} in {state} with case {case}"
            event = event_of(machine, name)
            twin.model.stand(flat, state, case)
            model.stand(flat, state, case)
            answer = event.consult(model)
            assert model.state == state, where
            if twin.trigger(name):
                assert event.trigger(model) is True, where
                assert twin.ran == [answer], where
                assert twin.ran[0].effects == answer.effects, where
            else:
                with pytest.raises(Refused) as caught:
                    event.trigger(model)
                assert caught.value.answer is answer, where
                assert twin.ran == [], where
                assert model.state == state, where
            assert model.state == twin.model.state == answer.target, where

    def test_in_what_it_may_do(self, machine: Lifecycle) -> None:
        flat, twin = machine.flat, Twin(machine.flat)
        registered, asked = Model(), Model()
        Lifecycle(flat, registered)
        for name, state, case in situations(flat):
            for model in (twin.model, registered, asked):
                model.stand(flat, state, case)
            may = twin.may(name)
            assert event_of(machine, name).may(asked) is may, (name, state, case)
            assert getattr(registered, f"may_{name}")() is may, (name, state, case)

    def test_on_a_model_that_is_registered(self, machine: Lifecycle) -> None:
        flat, twin, registered = machine.flat, Twin(machine.flat), Model()
        unsealed = Lifecycle(flat, registered)
        assert registered.state == unsealed.initial
        for name, state, case in situations(flat):
            for model in (twin.model, registered):
                model.stand(flat, state, case)
            if twin.trigger(name):
                assert getattr(registered, name)() is True
            else:
                with pytest.raises(Refused):
                    getattr(registered, name)()
            assert registered.state == twin.model.state, (name, state, case)

    def test_in_how_many_answers_there_are(self) -> None:
        flat = lifecycle().flat
        assert (len(flat.state_of), len(flat.answers), flat.cases) == (35, 22, 8)
        assert len(list(situations(flat))) == 6160


class TestARefusal:
    def test_is_an_error_of_transitions(self) -> None:
        model = Model()
        model.state = "handshake/connect_due/running"
        with pytest.raises(transitions.MachineError) as caught:
            lifecycle().events["app_send"].trigger(model)
        assert str(caught.value) == "app_send is refused in handshake/connect_due/running (violation, C41)."

    def test_is_an_error_too_where_only_a_fact_is_missing(self) -> None:
        """Where transitions returns False, which nobody looks at."""
        twin, model = Twin(lifecycle().flat), Model()
        model.state = twin.model.state = "open/flowing/running"
        assert twin.machine.events["give_message"].trigger(twin.model) is False
        with pytest.raises(Refused) as caught:
            lifecycle().events["give_message"].trigger(model)
        assert caught.value.answer.refusal is Kind.NOT_DUE

    def test_says_why(self, machine: Lifecycle) -> None:
        for state in machine.states:
            for answer in machine.flat.distinct(state):
                if answer.refusal is not None:
                    assert answer.rule in machine.spec.rules or answer.rule in machine.spec.choices
                    assert (answer.target, answer.effects, answer.assigns) == (state, (), ())


class TestWhatIsNoState:
    @pytest.mark.parametrize("state", ["", "open", "open/flowing/nobody", None])
    @pytest.mark.parametrize("ask", ["consult", "trigger", "may"])
    def test_is_an_error_of_the_caller(self, ask: str, state: Any) -> None:
        model = Model()
        model.state = state
        with pytest.raises(ValueError, match="no state of this lifecycle"):
            getattr(lifecycle().events["app_send"], ask)(model)

    def test_nor_is_a_case_that_does_not_exist(self) -> None:
        model = Model()
        model.stand(lifecycle().flat, "open/flowing/running", lifecycle().flat.cases)
        with pytest.raises(ValueError, match="with case 8"):
            event_of(lifecycle(), "app_send").consult(model)

    def test_hides_no_error_of_the_model(self) -> None:
        class Broken:
            case = 0

            @property
            def state(self) -> str:
                return "open/flowing/running"

            @state.setter
            def state(self, value: str) -> None:
                raise KeyError("its own")

        with pytest.raises(KeyError, match="its own"):
            lifecycle().events["app_send"].trigger(Broken())


class TestWhatIsDue:
    def test_is_what_may_be_given(self, machine: Lifecycle) -> None:
        gifts = [name for name, event in machine.spec.events.items() if event.actor is Actor.GIVEN]
        model = Model()
        for state in machine.states:
            for case in range(machine.flat.cases):
                model.stand(machine.flat, state, case)
                answers = [event_of(machine, gift).consult(model) for gift in gifts]
                given = [answer for answer in answers if answer.refusal is None]
                raised = [answer for answer in answers if answer.refusal is Kind.DISCONNECTED]
                due = machine.due[case][state]
                assert len(given) <= 1
                assert due in (given or raised or answers)
                assert (due.refusal is Kind.NOT_DUE) == (not given and not raised)

    def test_moves_nothing_where_nothing_is_due(self, machine: Lifecycle) -> None:
        for due in machine.due:
            assert list(due) == list(machine.states)
            assert all(answer.target == state for state, answer in due.items() if answer.refusal is not None)

    def test_raises_after_the_disconnect_only_if_the_profile_says_so(self) -> None:
        ended = [state for state in lifecycle().states if "/ended/" in state]
        assert {lifecycle().due[0][state].refusal for state in ended} == {None}
        assert {sealed("strict").due[0][state].refusal for state in ended} == {Kind.NOT_DUE}
        assert {a.refusal for s, a in sealed("mute").due[0].items() if "/ended/" in s} == {Kind.DISCONNECTED}


def _transition(machine: Lifecycle) -> Any:
    return machine.events["give_message"].transitions[STATE][0]


def _set(target: Callable[[Lifecycle], Any], name: str, value: Any = ()) -> Callable[[Lifecycle], None]:
    return lambda machine: setattr(target(machine), name, value)


def _delete(target: Callable[[Lifecycle], Any], name: str) -> Callable[[Lifecycle], None]:
    return lambda machine: delattr(target(machine), name)


def _put(target: Callable[[Lifecycle], Any], key: Any, value: Any = None) -> Callable[[Lifecycle], None]:
    return lambda machine: target(machine).__setitem__(key, value)


def _extend(machine: Lifecycle) -> None:
    machine.before_state_change += [print]


CALLBACKS = ("prepare_event", "before_state_change", "after_state_change", "finalize_event", "on_exception", "on_final")
ATTEMPTS: dict[str, Callable[[Lifecycle], Any]] = {
    # what transitions offers
    "add_transition": lambda m: m.add_transition("hop", STATE, STATE),
    "add_transition of a known trigger": lambda m: m.add_transition("app_send", STATE, STATE),
    "add_transitions": lambda m: m.add_transitions([["hop", STATE, STATE]]),
    "add_ordered_transitions": lambda m: m.add_ordered_transitions(),
    "add_state": lambda m: m.add_state("limbo"),
    "add_states": lambda m: m.add_states(["limbo", "heaven"]),
    "remove_transition": lambda m: m.remove_transition("app_send"),
    "add_model": lambda m: m.add_model(Model()),
    "add_model itself": lambda m: m.add_model("self"),
    "remove_model": lambda m: m.remove_model(Model()),
    "on_enter_": lambda m: getattr(m, f"on_enter_{STATE}")(print),
    "on_exit_": lambda m: getattr(m, f"on_exit_{STATE}")(print),
    "before_": lambda m: getattr(m, "before_app_send")(print),  # noqa: B009
    "after_": lambda m: getattr(m, "after_app_send")(print),  # noqa: B009
    "prepare_": lambda m: getattr(m, "prepare_app_send")(print),  # noqa: B009
    "event.add_transition": lambda m: m.events["app_send"].add_transition(transitions.Transition(STATE, STATE)),
    "event.add_transition from nowhere": lambda m: m.events["app_send"].add_transition(transitions.Transition("", "")),
    "event.add_callback": lambda m: m.events["app_send"].add_callback("before", "print"),
    "state.add_callback": lambda m: m.get_state(STATE).add_callback("enter", "print"),
    "transition.add_callback": lambda m: _transition(m).add_callback("after", "print"),
    "seal": lambda m: m.seal(),
    # attributes
    "machine.events =": _set(lambda m: m, "events", {}),
    "machine.states =": _set(lambda m: m, "states", {}),
    "machine.models =": _set(lambda m: m, "models", []),
    "machine.initial =": _set(lambda m: m, "initial", STATE),
    "machine.name =": _set(lambda m: m, "name", ""),
    "machine.flat =": _set(lambda m: m, "flat"),
    "machine.spec =": _set(lambda m: m, "spec"),
    "machine.due =": _set(lambda m: m, "due"),
    "machine.queued =": _set(lambda m: m, "_queued", True),
    "machine._sealed =": _set(lambda m: m, "_sealed", False),
    "machine.anything =": _set(lambda m: m, "anything"),
    "del machine.events": _delete(lambda m: m, "events"),
    **{f"machine.{name} =": _set(lambda m: m, name, [print]) for name in CALLBACKS},
    "event.name =": _set(lambda m: m.events["app_send"], "name", "hop"),
    "event.transitions =": _set(lambda m: m.events["app_send"], "transitions", {}),
    "event.trigger =": _set(lambda m: m.events["app_send"], "trigger", print),
    "event.consult =": _set(lambda m: m.events["app_send"], "consult", print),
    "event._sealed =": _set(lambda m: m.events["app_send"], "_sealed", False),
    "del event.transitions": _delete(lambda m: m.events["app_send"], "transitions"),
    "state.name =": _set(lambda m: m.states[STATE], "_name", "limbo"),
    "state.final =": _set(lambda m: m.states[STATE], "final", True),
    "state.on_enter =": _set(lambda m: m.states[STATE], "on_enter", [print]),
    "state.ignore_invalid_triggers =": _set(lambda m: m.states[STATE], "ignore_invalid_triggers", True),
    "transition.dest =": _set(_transition, "dest", STATE),
    "transition.source =": _set(_transition, "source", STATE),
    "transition.answer =": _set(_transition, "answer", None),
    "transition.conditions =": _set(_transition, "conditions", []),
    "condition.func =": _set(lambda m: _transition(m).conditions[0], "func", "denial"),
    "condition.target =": _set(lambda m: _transition(m).conditions[0], "target", False),
    # what is inside
    "events[] =": _put(lambda m: m.events, "hop"),
    "events.pop": lambda m: m.events.pop("app_send"),
    "events.popitem": lambda m: cast(dict[str, Any], m.events).popitem(),
    "events.clear": lambda m: m.events.clear(),
    "events.update": lambda m: m.events.update({}),
    "events.setdefault": lambda m: cast(dict[str, Any], m.events).setdefault("hop", None),
    "events |=": lambda m: m.events.__ior__({}),
    "del events[]": lambda m: m.events.__delitem__("app_send"),
    "states[] =": _put(lambda m: m.states, "limbo"),
    "states.clear": lambda m: m.states.clear(),
    "event.transitions[] =": _put(lambda m: m.events["app_send"].transitions, STATE, []),
    "event.transitions.clear": lambda m: m.events["app_send"].transitions.clear(),
    "event.transitions[].append": lambda m: m.events["app_send"].transitions[STATE].append(_transition(m)),
    "event.transitions[][] =": _put(lambda m: m.events["app_send"].transitions[STATE], 0),
    "event.transitions[].clear": lambda m: m.events["app_send"].transitions[STATE].clear(),
    "transition.before.append": lambda m: _transition(m).before.append(print),
    "transition.conditions.clear": lambda m: _transition(m).conditions.clear(),
    "state.on_exit.append": lambda m: m.states[STATE].on_exit.append("print"),
    "models.append": lambda m: m.models.append(Model()),
    "before_state_change +=": _extend,
    **{f"{name}.append": partial(lambda name, m: getattr(m, name).append(print), name) for name in CALLBACKS},
    "due[][] =": _put(lambda m: m.due[0], STATE),
}


def everything(machine: Lifecycle) -> list[Any]:
    """All that the machine answers, and all that it is made of."""
    model = Model()
    found: list[Any] = []
    for name, state, case in situations(machine.flat):
        model.stand(machine.flat, state, case)
        found.append(event_of(machine, name).consult(model))
    found += [dict(due) for due in machine.due]
    found += [(s.name, s.final, tuple(s.on_enter), tuple(s.on_exit)) for s in machine.states.values()]
    found += [(e.name, {state: tuple(made) for state, made in e.transitions.items()}) for e in machine.events.values()]
    for made in machine.get_transitions():
        conditions = [(condition.func, condition.target) for condition in made.conditions]
        found.append((made.source, made.dest, conditions, *made.prepare, *made.before, *made.after))
    found += [tuple(getattr(machine, name)) for name in (*CALLBACKS, "models")]
    return [*found, list(vars(machine)), machine.initial, machine.name]


class TestItIsSealed:
    @pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
    def test_against(self, attempt: Callable[[Lifecycle], Any]) -> None:
        with pytest.raises(TypeError) as caught:
            attempt(lifecycle())
        assert str(caught.value) == HINT

    def test_and_answers_as_before_after_all_attempts(self) -> None:
        spec = load_spec()
        machine = build(spec)
        before = everything(machine)
        for attempt in ATTEMPTS.values():
            with pytest.raises(TypeError):
                attempt(machine)
        assert everything(machine) == before
        assert everything(machine)[:5600] == everything(build(spec))[:5600]

    def test_down_to_the_compiled_answers(self) -> None:
        flat: Any = lifecycle().flat
        parts: list[tuple[Any, Any]] = [
            (flat.answers, "app_send"),
            (flat.answers["app_send"], 0),
            (flat.answers["app_send"][0], STATE),
            (flat.choices, "C2"),
            (flat.state_of, STATE),
            (flat.states, 0),
            (lifecycle().due, 0),
        ]
        for target, key in parts:
            with pytest.raises(TypeError):
                target[key] = None

    def test_but_can_be_read_like_any_other(self) -> None:
        machine = lifecycle()
        assert machine.get_state(STATE).name == STATE
        assert machine.get_model_state(_standing(STATE)) is machine.states[STATE]
        assert machine.is_state(STATE, _standing(STATE))
        assert dict(machine.events) == machine.events

    def test_no_sooner_than_asked(self) -> None:
        """As long as it is made, it is an ordinary machine; only what would never be called is refused."""
        machine = Lifecycle(compile_profile(load_spec()))
        machine.add_states("limbo")
        machine.add_transition("app_send", "limbo", "limbo", answer=None)
        machine.add_model(Model())
        assert "limbo" in machine.states
        assert len(machine.models) == 1
        with pytest.raises(TypeError):
            machine.events["app_send"].add_callback("before", print)


def _standing(state: str) -> Model:
    model = Model()
    model.state = state
    return model


def test_another_answer_about_a_value_shares_the_machine() -> None:
    usual = lifecycle()
    other = usual.answering({"C39": "shape_first"})
    assert other.events is usual.events
    assert (usual.flat.value("C39", "shape_first"), other.flat.value("C39", "shape_first")) == (False, True)
    assert other.flat.answers == build(usual.spec, {**usual.spec.reference, "C39": "shape_first"}, "x").flat.answers


def test_another_answer_about_what_happens_needs_another_machine() -> None:
    with pytest.raises(ValueError, match="C2 makes another machine"):
        lifecycle().answering({"C2": "stays_open", "C39": "shape_first"})
