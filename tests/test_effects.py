"""Effects are plain values with exactly the fields that `spec/lifecycle.yaml` declares."""

from dataclasses import FrozenInstanceError, fields
from typing import Any, get_args

import pytest

from wslifecycle import lifecycle, load_spec
from wslifecycle.statemachine import effects

DECLARED = load_spec().effects
BY_NAME = pytest.mark.parametrize("name", DECLARED)


def made(name: str, mark: str = "") -> Any:
    """An effect with a value of its own in each field."""
    return effects.TYPES[name](*(field + mark for field in DECLARED[name].fields))


class TestTheEffectsOfTheSpec:
    def test_are_all_there_and_no_others(self) -> None:
        assert list(effects.TYPES) == list(DECLARED)

    @BY_NAME
    def test_have_the_name_of_their_class(self, name: str) -> None:
        assert effects.TYPES[name].__name__ == name.title().replace("_", "")

    @BY_NAME
    def test_have_the_declared_fields_in_their_order(self, name: str) -> None:
        assert effects.FIELDS[name] == list(DECLARED[name].fields)
        assert [field.name for field in fields(effects.TYPES[name])] == list(DECLARED[name].fields)

    @BY_NAME
    def test_have_no_defaults_because_those_stand_in_the_spec(self, name: str) -> None:
        if DECLARED[name].fields:
            with pytest.raises(TypeError):
                effects.TYPES[name]()

    def test_reach_a_shell_unless_they_are_inner(self) -> None:
        outer = {effects.TYPES[name] for name, declared in DECLARED.items() if not declared.inner}
        assert set(get_args(effects.Effect)) == outer

    def test_are_written_by_the_machine_with_all_their_fields(self) -> None:
        flat = lifecycle().flat
        calls = {call for state in flat.state_of for answer in flat.distinct(state) for call in answer.effects}
        assert calls
        for call in calls:
            assert sorted(key for key, _ in call.fields) == sorted(DECLARED[call.effect].fields)


@BY_NAME
class TestAnEffect:
    def test_cannot_be_changed(self, name: str) -> None:
        effect = made(name)
        for field in DECLARED[name].fields:
            with pytest.raises(FrozenInstanceError):
                setattr(effect, field, None)
            with pytest.raises(FrozenInstanceError):
                delattr(effect, field)
            assert getattr(effect, field) == field

    def test_holds_nothing_else(self, name: str) -> None:
        assert not hasattr(made(name), "__dict__")

    def test_equals_one_with_the_same_values(self, name: str) -> None:
        assert made(name) == made(name)
        assert len({made(name), made(name)}) == 1

    def test_differs_from_any_other(self, name: str) -> None:
        if DECLARED[name].fields:
            assert made(name) != made(name, "!")
        assert all(made(name) != made(other) for other in DECLARED if other != name)
