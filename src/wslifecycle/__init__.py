"""The ASGI WebSocket lifecycle as a formally modelled state machine, and a sans-I/O connection that obeys it.

    from wslifecycle import Connection, lifecycle, load_spec

Importing this package pulls in transitions and nothing else; PyYAML comes when the first machine is made, the runtime,
the diagrams and the command line are imported by whoever uses them.
"""

from typing import TYPE_CHECKING, Any

from wslifecycle.statemachine import effects
from wslifecycle.statemachine.connection import WAIT, Connection, Ended, Given
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected, ImpossibleEvent
from wslifecycle.statemachine.findings import Finding, SpecError
from wslifecycle.statemachine.machine import Lifecycle, Refused, build, lifecycle

if TYPE_CHECKING:
    from wslifecycle.statemachine.load import load_spec

__version__ = "0.1.0"

__all__ = [
    "WAIT",
    "ApplicationViolation",
    "Connection",
    "Disconnected",
    "Ended",
    "Finding",
    "Given",
    "ImpossibleEvent",
    "Lifecycle",
    "Refused",
    "SpecError",
    "build",
    "effects",
    "lifecycle",
    "load_spec",
]


def __getattr__(name: str) -> Any:
    """Reads YAML only where it is read: `load_spec` is imported when it is first used."""
    if name == "load_spec":
        from wslifecycle.statemachine.load import load_spec

        return load_spec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
