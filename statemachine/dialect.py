"""What one spec version of the ASGI message format means for a machine: the keys that it knows, the facts that hold.

Made once for each machine and version; all connections of that version share it.
"""

from __future__ import annotations

from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.messages import Shape
from wslifecycle.statemachine.model import Actor, Message

Version = tuple[int, ...]


class Dialect:
    """`takes`: the messages that an app may send, by type; `shapes`: what they have to look like, and `shape_first`:
    whether that is asked before the machine is (C39). `gives`: the types of those that it is given, by event;
    `omits_null`: of which of them keys without a value are left out. `unknown`: (type, key) of keys that came later.
    `facts`: the bits of the facts that hold because of the version.
    """

    __slots__ = ("facts", "gives", "omits_null", "shape_first", "shapes", "takes", "unknown")

    def __init__(self, flat: Flat, version: Version) -> None:
        messages = flat.spec.messages.values()
        self.unknown = frozenset(
            (message.type, key.name)
            for message in messages
            for key in message.keys.values()
            if key.since and version_of(key.since) > version
        )
        self.takes: dict[str, Message] = {message.type: message for message in messages if message.sender == "app"}
        self.shapes = {
            kind: Shape(
                message,
                flat.spec.constraints,
                flat.resolve,
                {key for of, key in self.unknown if of == kind},
            )
            for kind, message in self.takes.items()
        }
        self.shape_first = bool(flat.value("C39", "shape_first"))
        self.gives: dict[str, str] = {
            event.name: event.message
            for event in flat.spec.events.values()
            if event.actor is Actor.GIVEN and event.message is not None
        }
        self.omits_null = frozenset(message.type for message in messages if flat.resolve(message.omit_null))
        self.facts = sum(
            flat.bits[fact.name]
            for fact in flat.facts
            if fact.spec_version is not None and version_of(fact.spec_version) <= version
        )


def version_of(text: str) -> Version:
    """`2.5` as a tuple that compares. Raises `ValueError`."""
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise ValueError(f"{text!r} is not a spec version such as '2.5'.") from None
