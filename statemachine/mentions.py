"""Which choices a part of the spec mentions: what may be otherwise where they are answered otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from wslifecycle.statemachine.model import Ref, Spec, When


def mentioned(spec: Spec, part: Any) -> frozenset[str]:
    """The numbers of the choices that a part of a spec mentions, in a condition or in the place of a value."""
    match part:
        case Ref():
            return frozenset({part.scope} & spec.choices.keys())
        case When():
            return frozenset(choice for alternative in part.alternatives for choice in alternative)
        case Mapping():
            return mentioned(spec, tuple(part.values()))
        case tuple() | list() | frozenset():
            return frozenset().union(*(mentioned(spec, item) for item in part))
        case _ if is_dataclass(part):
            return mentioned(spec, tuple(getattr(part, item.name) for item in fields(part)))
    return frozenset()


def of_values(spec: Spec) -> frozenset[str]:
    """The choices that are about values only: whatever their answers, the machine is the same."""
    parts = (spec.regions, spec.events, spec.rows, spec.couplings, spec.timers)
    return frozenset(spec.choices.keys() - mentioned(spec, parts))
