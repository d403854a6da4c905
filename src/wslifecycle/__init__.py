"""The ASGI WebSocket lifecycle as a formally modelled state machine, and a sans-I/O connection that obeys it.

    from wslifecycle import Connection, lifecycle, load_spec

Importing this package pulls in transitions and PyYAML and nothing else; the runtime, the diagrams and the command line
are imported by whoever uses them.
"""

from wslifecycle.statemachine.connection import WAIT, Connection, Given
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected, ImpossibleEvent
from wslifecycle.statemachine.findings import Finding, SpecError
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.machine import Lifecycle, Refused, lifecycle

__version__ = "0.1.0"

__all__ = [
    "WAIT",
    "ApplicationViolation",
    "Connection",
    "Disconnected",
    "Finding",
    "Given",
    "ImpossibleEvent",
    "Lifecycle",
    "Refused",
    "SpecError",
    "lifecycle",
    "load_spec",
]
