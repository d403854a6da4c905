"""The hand-written traces hold on the real runtime in the stock order of the loop, and in others; and they can fail.

The scenarios were written from the documents and not from the machine, so they judge the machine, the runtime and the
witness together. An act is begun, then everything happens that can, in an order that a scheduler chooses; the traces
leave nothing open within that. A client that trusts nothing reads what the peer reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.test_scenarios import machine_with
from wslifecycle.conformance.judge import Judge
from wslifecycle.conformance.orders.exchange import AppError, Exchange, Make
from wslifecycle.conformance.orders.insider import Insider
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Fifo, Level, Random, Scheduler
from wslifecycle.conformance.orders.watched import Broken, kind_of
from wslifecycle.conformance.peer import MAX_SIZE, joined
from wslifecycle.conformance.scenarios import Act, Scenario, Seen, differences, load_scenarios
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service
from wslifecycle.statemachine.machine import Lifecycle, lifecycle

SCENARIOS = load_scenarios()
PACE = lifecycle().flat.value("C6", "seconds")
SCHEDULES = 5
"""How many orders are tried on each level."""


class Driver:
    """One connection of our runtime, whose sides do what the acts of a scenario say."""

    def __init__(
        self, scenario: Scenario, machine: Lifecycle | None, scheduler: Scheduler, level: Level = Level.ENVIRONMENT
    ) -> None:
        options = Options(
            machine=machine,
            spec_version=scenario.spec_version,
            extensions=scenario.extensions,
            max_size=MAX_SIZE,
            ping_interval=None,
        )
        self.insider = Insider(options)
        self.insider.forces = True
        self.insider.judge = Judge(subprotocols=scenario.subprotocols)
        self.judge = Judge(subprotocols=scenario.subprotocols)
        self.judge._handshake.key = self.insider.judge._handshake.key  # it stands for the same client
        make: Make = lambda app: Acceptor(Service(app, self.insider.options), set())  # noqa: E731
        self.loop = ScheduledLoop(scheduler, level)
        self.x = Exchange(self.loop, make, self.insider)
        self._ended = False
        self._idle()  # what the peer sends from now on does not come in one piece with its request

    def do(self, act: Act) -> Seen:
        """Carries out the stimulus of an act and tells what both sides saw of it."""
        x = self.x
        x.given.clear()
        x.raised.clear()
        with suppress(Broken):
            self._begin(act)
        self._idle()
        seen = list(self._reads())
        given = [{"raised": kind_of(one)} if isinstance(one, Exception) else dict(one) for one in x.given]
        raised = next(map(kind_of, x.raised), None)
        return Seen(given, joined(seen), raised, sum(call.name == "receive" for call in x.calls))

    def _idle(self) -> None:
        """Everything happens that can, also a disconnect once more, at its pace (C6). The witness is heard later."""
        with suppress(Broken):
            self.x.time(PACE)

    def _begin(self, act: Act) -> None:
        x, value = self.x, act.value
        match act.stimulus:
            case "app asks":
                x.ask()
            case "app cancels":
                x.cancel(next(place for place, call in enumerate(x.calls) if call.name == "receive"))
            case "app sends":
                x.send(dict(value))
            case "app returns":
                x.end()
            case "app raises":
                x.end(AppError("the app of a scenario"))
            case "peer sends":
                x.peer_sends(value)
            case "peer pings":
                x.peer_pings(value)
            case "peer closes":
                x.peer_closes(*((value["code"], value.get("reason", "")) if value else (None,)))
            case "peer violates":
                x.peer_violates(value)
            case "peer floods":
                x.peer_floods()
            case "peer ends":
                x.peer_ends()
            case "peer vanishes":
                x.peer_resets()
            case "server shuts down":
                x.shut_down()
            case "time passes":
                session = self.insider.session
                assert session is not None
                self.loop.call_now(lambda: session.time_out(value))
            case _:
                raise NotImplementedError(act.stimulus)

    def _reads(self) -> Iterator[dict[str, object]]:
        """What the peer sees: what it reads until nothing more comes, and the end."""
        while data := self.x.peer_reads():
            yield from self.judge.feed(data)
            self._idle()
        far = self.x.far
        if far.at_end and not (far.closed or self._ended):
            self._ended = True
            yield {"end": True}


def run(
    scenario: Scenario,
    machine: Lifecycle | None = None,
    scheduler: Scheduler | None = None,
    level: Level = Level.ENVIRONMENT,
) -> list[str]:
    """What differs from a scenario in one order, each with its place, and what the witness finds. Empty: both agree."""
    found: list[str] = []
    driver = Driver(scenario, machine, scheduler or Fifo(), level)
    try:
        for act in scenario.acts:
            place = f"{scenario.file}:{act.line}: after `{act}`"
            found += (f"{place} {text}" for text in differences(act, driver.do(act)))
        if driver.insider.finding is not None:
            found.append(str(driver.insider.finding))
        return [*found, driver.x.told()] if found else []
    finally:
        driver.loop.dispose()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenario_holds_in_the_stock_order(name: str) -> None:
    assert run(SCENARIOS[name]) == []


@pytest.mark.parametrize("level", [Level.ENVIRONMENT, Level.LANES], ids=lambda level: level.name)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenario_holds_in_other_orders(name: str, level: Level) -> None:
    scheduler = Random(seed=list(SCENARIOS).index(name))
    for _ in range(SCHEDULES):
        scheduler.begin()
        assert run(SCENARIOS[name], None, scheduler, level) == []


@pytest.mark.parametrize("level", Level, ids=lambda level: level.name)
@pytest.mark.parametrize(
    ("name", "answers", "difference"),
    [
        ("return-open", {"C2": "stays_open"}, "the peer saw nothing instead of close code 1000"),
        ("data-around-own-close", {"C15": "given"}, "the app got websocket.receive text='too late' instead of"),
        ("return-before-reply", {"C4": "http_403"}, "http status 403"),
        ("after-own-close", {"C8": "ignored"}, "send() did not raise, not raised disconnected"),
    ],
)
def test_a_machine_that_answers_a_choice_otherwise_makes_a_difference_in_every_order(
    name: str, answers: dict[str, str], difference: str, level: Level
) -> None:
    scheduler = Random()
    for _ in range(SCHEDULES):
        scheduler.begin()
        assert difference in "\n".join(run(SCENARIOS[name], machine_with(**answers), scheduler, level))


def test_other_orders_are_really_tried() -> None:
    scheduler, tokens = Random(), set()
    for _ in range(SCHEDULES):
        scheduler.begin()
        driver = Driver(SCENARIOS["echo"], None, scheduler, Level.LANES)
        try:
            for act in SCENARIOS["echo"].acts:
                driver.do(act)
            tokens.add(driver.loop.schedule.token)
        finally:
            driver.loop.dispose()
    assert len(tokens) > 1
