"""What one spec version of the ASGI message format means for a machine: the keys that it knows, the facts that hold.

Made once for each machine and version; all connections of that version share it.
"""

from __future__ import annotations

from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.messages import Shape

Version = tuple[int, ...]


class Dialect:
    """`shapes`: what the app's messages have to look like, by type. `unknown`: (type, key) of keys that came later.
    `facts`: the bits of the facts that hold because of the version.
    """

    __slots__ = ("facts", "shapes", "unknown")

    def __init__(self, flat: Flat, version: Version) -> None:
        messages = flat.spec.messages.values()
        self.unknown = frozenset(
            (message.type, key.name)
            for message in messages
            for key in message.keys.values()
            if key.since and version_of(key.since) > version
        )
        self.shapes = {
            message.type: Shape(
                message,
                flat.spec.constraints,
                flat.resolve,
                {key for kind, key in self.unknown if kind == message.type},
            )
            for message in messages
            if message.sender == "app"
        }
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
