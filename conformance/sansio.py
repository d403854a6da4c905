"""Drives a `Connection` through a scenario, without any I/O: the peer sees the effects as they are returned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from wslifecycle.conformance.scenarios import VIOLATIONS, Act, Scenario, Seen, differences
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.connection import Connection, Given
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle


class SansIO:
    """A connection, an app of which only the waiting `receive()` calls count, and a peer that sees effects.

    Like a codec it holds the peer's bytes, whatever they mean, until the handshake is complete (C14).
    """

    def __init__(
        self,
        scenario: Scenario,
        machine: Lifecycle | None = None,
        observe: Callable[[Answer], None] | None = None,
    ) -> None:
        self.connection = Connection(
            spec_version=scenario.spec_version,
            extensions=scenario.extensions,
            subprotocols=scenario.subprotocols,
            machine=machine,
            observe=observe,
        )
        self._held: list[Act] | None = []
        self._peer_is_there = True
        self._seen = Seen()
        self._carry_out(self.connection.started())

    def do(self, act: Act) -> Seen:
        """Carries out the stimulus of an act and reports everything that it brought about."""
        self._seen = Seen(waiting=self._seen.waiting)
        connection, value = self.connection, act.value
        match act.stimulus:
            case "app asks":
                self._seen.waiting += 1
            case "app cancels":
                self._seen.waiting -= 1
            case "app sends":
                self._send(value)
            case "app returns":
                self._carry_out(connection.app_returned())
            case "app raises":
                self._carry_out(connection.app_raised(RuntimeError("the app of a scenario")))
            case "peer sends" | "peer pings" | "peer closes" | "peer violates" if self._held is not None:
                self._held.append(act)
            case "peer sends" | "peer pings" | "peer closes" | "peer violates":
                self._decoded(act)
            case "peer floods":
                self._carry_out(connection.peer_violated(1009))
            case "peer ends":
                self._carry_out(connection.peer_eof())
            case "peer vanishes":
                self._peer_is_there = False
                self._carry_out(connection.peer_lost())
            case "server shuts down":
                self._carry_out(connection.shutdown())
            case "time passes":
                self._carry_out(connection.timed_out(value))
        self._answer()
        return self._seen

    def _decoded(self, act: Act) -> None:
        """A frame of the peer was decoded."""
        value = act.value
        match act.stimulus:
            case "peer sends":
                self._carry_out(self.connection.peer_sent(value))
            case "peer pings":
                self._carry_out(self.connection.peer_pinged(value))
            case "peer closes":
                self._carry_out(self.connection.peer_closed(value.get("code"), value.get("reason", "")))
            case _:
                self._carry_out(self.connection.peer_violated(VIOLATIONS[value]))

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._carry_out(self.connection.app_sent(message))
        except ApplicationViolation:
            self._seen.raised = "violation"
        except Disconnected:
            self._seen.raised = "disconnected"

    def _answer(self) -> None:
        """Serves the waiting `receive()` calls, in their order."""
        while self._seen.waiting:
            try:
                given = self.connection.app_wants()
            except Disconnected:
                given = Given({"raised": "disconnected"})
            if given.message is None:
                return
            self._carry_out(given.effects)
            self._seen.app.append(given.message)
            self._seen.waiting -= 1

    def _carry_out(self, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            if self._peer_is_there:
                self._seen.peer += on_the_wire(effect)
            if isinstance(effect, fx.EndSending):
                self._peer_is_there = False  # it may still act, and sees nothing more
            if isinstance(effect, fx.CompleteHandshake):
                held, self._held = self._held or [], None
                for act in held:
                    self._decoded(act)


def on_the_wire(effect: fx.Effect) -> list[dict[str, Any]]:
    """What the peer sees of an effect."""
    match effect:
        case fx.CompleteHandshake(subprotocol, headers):
            return [{"handshake": {"subprotocol": subprotocol, "headers": headers}}]
        case fx.SendResponse(status, headers, body):
            return [{"http": {"status": status, "headers": headers, "body": body}}]
        case fx.SendHead(status, headers):
            return [{"head": {"status": status, "headers": headers}}]
        case fx.SendBody(body) if body:
            return [{"chunk": body}]
        case fx.EndResponse():
            return [{"response_end": True}]
        case fx.SendMessage(str() as data):
            return [{"text": data}]
        case fx.SendMessage(data):
            return [{"bytes": data}]
        case fx.SendClose(code, reason):
            return [{"close": {} if code is None else {"code": code, "reason": reason}}]
        case fx.SendPong(payload):
            return [{"pong": payload}]
        case fx.EndSending() | fx.EndTransport() | fx.AbortTransport():
            return [{"end": True}]
    return []


def run(scenario: Scenario, machine: Lifecycle | None = None) -> list[str]:
    """Runs a whole scenario; returns the differences, each with its place. Empty: it agrees."""
    driver = SansIO(scenario, machine)
    return [
        f"{scenario.file}:{act.line}: after `{act}` {difference}"
        for act in scenario.acts
        for difference in differences(act, driver.do(act))
    ]


def way(scenario: Scenario, machine: Lifecycle | None = None) -> list[tuple[str, str, str]]:
    """The way of a scenario through the lifecycle: every event that led to another state, with both states."""
    passed: list[tuple[str, str, str]] = []

    def observe(answer: Answer) -> None:
        if answer.moves:
            passed.append((answer.event, answer.source, answer.target))

    driver = SansIO(scenario, machine, observe)
    for act in scenario.acts:
        driver.do(act)
    return passed
