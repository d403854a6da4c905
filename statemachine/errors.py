"""What a connection raises. Each error names its rule, the state, what is allowed instead, and the line of the spec."""

from __future__ import annotations


class LifecycleError(Exception):
    """What the three errors have in common.

    `rule`: the number that refuses (R, W or C). `state`: the product state, as `wire/inbox/app`. `line`: where the rule
    stands in `spec/lifecycle.yaml`, from 1. None of them changes the connection.
    """

    def __init__(self, text: str, rule: str, state: str, line: int) -> None:
        super().__init__(text)
        self.text = text
        self.rule = rule
        self.state = state
        self.line = line

    def __str__(self) -> str:  # an OSError would show a tuple
        return self.text

    def __reduce__(self) -> tuple[type[LifecycleError], tuple[str, str, str, int]]:
        return type(self), (self.text, self.rule, self.state, self.line)


class ApplicationViolation(LifecycleError, RuntimeError):
    """The app sent what it may not send: in this state (C41), of this shape (R43), or with this value."""


class Disconnected(LifecycleError, OSError):
    """The connection has ended (R32, "Disconnected Client - send exception"). Apps may catch it.

    `origin` is the connection that raised it: only its own is no error of the app (C40). A copy has none.
    """

    def __init__(self, text: str, rule: str, state: str, line: int, origin: object = None) -> None:
        super().__init__(text, rule, state, line)
        self.origin = origin


class ImpossibleEvent(LifecycleError, RuntimeError):
    """The server told the connection something that cannot have happened. A fault in the server, never in the app."""
