"""Fuzzes a live server: Hypothesis makes up what the app and the peer do, and shrinks what should not be.

Each example is a conversation with one and the same process, both ends of it held against the machine after each act.
What the server is known to choose is believed; what is known to be wrong ends an example and is no finding. A finding
is held again alone, and comes with a program that repeats it:

    from wslifecycle.conformance.kit.fuzz import replay
    from wslifecycle.conformance.kit.script import Step

    replay("uvicorn {app} --port {port} --ws wsproto", [Step("app asks"), ...])
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from wslifecycle.conformance.kit import agent, servers
from wslifecycle.conformance.kit.blame import Blame
from wslifecycle.conformance.kit.bystander import Bystander
from wslifecycle.conformance.kit.cases import BREAKS, Case
from wslifecycle.conformance.kit.cases import step as stimulus
from wslifecycle.conformance.kit.confirm import verdict_of
from wslifecycle.conformance.kit.driver import Conversation, Driver, Unreached
from wslifecycle.conformance.kit.plays import OF_VALUES
from wslifecycle.conformance.kit.results import Line, Verdict
from wslifecycle.conformance.kit.script import Step, Terms
from wslifecycle.conformance.kit.trial import BRISK, CALM, REACH, Holding, Outcome, Pace, Suspicion, hold
from wslifecycle.statemachine.cover import MESSAGES

SETTINGS = settings(
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    stateful_step_count=12,
)
"""An example waits for a server, which no limit of Hypothesis is made for."""

AGAIN = 3
"""So many times a finding is held again."""


class Wrong(AssertionError):
    """A conversation went otherwise than it may: `suspicion`."""

    def __init__(self, suspicion: Suspicion, told: str) -> None:
        super().__init__(told)
        self.suspicion = suspicion


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, shrunk: the steps, and in how many of how many runs alone it was seen again."""

    server: str
    verdict: Verdict
    suspicion: Suspicion
    steps: tuple[Step, ...]
    times: int
    of: int
    program: str

    @property
    def key(self) -> str:
        """What makes it the same in another run."""
        return ": ".join(self.suspicion.key)

    def __str__(self) -> str:
        blame = self.suspicion.blame
        rule = blame.rule or "any"
        where = f"{blame.event} in {blame.state}" if blame.state else "the process"
        trace = "\n".join(f"    {_shown(line)}" for line in self.suspicion.lines)
        often = f"{self.times} of {self.of} runs"
        said = f"[{rule} {self.verdict}] {where}: {blame.seen}, not: {blame.expected} ({often})"
        return f"{said}\n{trace}\n\n{self.program}"


def _shown(line: Line) -> str:
    return f"{line.side:6} {line.text}{' <<<' if line.wrong else ''}"


# ------------------------------------------------------------------------------------------------ a live server


@dataclass
class Live:
    """A server that runs for as long as it is of use, in a loop that runs only while something is awaited."""

    server: servers.Server
    runner: asyncio.Runner
    folder: Path
    driver: Driver
    terms: Terms = field(default_factory=lambda: Terms("2.5"))
    believed: dict[str, str] = field(default_factory=dict)
    conversations: int = 0
    starts: int = 0
    bystander: Bystander = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _process: servers.Running | None = None

    def __post_init__(self) -> None:
        self.bystander = Bystander(self.driver)

    def process(self) -> servers.Running:
        """The process, started if there is none."""
        if self._process is None:
            self.starts += 1
            env = {agent.DRIVER: self.driver.address}
            log = self.folder / f"log-{self.starts}"
            started = servers.running(self.server, self.folder, env, log=log)
            self._process = self.runner.run(self._stack.enter_async_context(started))
        return self._process

    def drop(self) -> None:
        """Ends the process; the next conversation has another one."""
        self.runner.run(self.bystander.leave())
        self.runner.run(self._stack.aclose())
        self._process = None

    def meet(self) -> None:
        """Learns what the server advertises. Raises `NotStarted`, `Unreached` or `OSError`."""
        talk = Conversation(self.driver, self.process().port)
        try:
            self.runner.run(talk.begin(REACH))
        finally:
            self.runner.run(talk.close())
        self.terms = talk.terms

    def attended(self) -> None:
        """Has another conversation open, if the server can hold one."""
        self.runner.run(self.bystander.attend(self.process().port, self.terms, self.believed))

    def disturbed(self) -> Suspicion | None:
        """What that other one has felt of those beside it."""
        return self.runner.run(self.bystander.disturbed())

    def healthy(self) -> bool:
        """Whether it still serves others."""
        return self.runner.run(self.process().healthy(REACH))


@contextmanager
def live(server: servers.Server) -> Iterator[Live]:
    """A server to be fuzzed, which has been asked what it advertises."""
    with servers.laid(agent.__file__) as folder, asyncio.Runner() as runner:
        driver = runner.run(Driver().__aenter__())
        found = Live(server, runner, folder, driver)
        try:
            found.meet()
            yield found
        finally:
            found.drop()
            runner.run(driver.__aexit__())


# ------------------------------------------------------------------------------------------------ the machine of rules

DATA = st.one_of(st.text(max_size=20), st.binary(max_size=20))
CODES = st.sampled_from([None, 1000, 1001, 1011, 3000, 4999])


class Fuzz(RuleBasedStateMachine):
    """One conversation in each example. A subclass has `live`, the server, and `known`, the keys of what is known."""

    live: Live
    known: Collection[str] = ()
    pace: Pace = BRISK

    @initialize()
    def connects(self) -> None:
        """A peer connects, and the app is called."""
        self.over = self.gone = self.wrong = False
        self.live.conversations += 1
        self.live.attended()
        self.talk = Conversation(self.live.driver, self.live.process().port)
        self.outcome = Outcome(Case("fuzz", ()))
        believed = {choice: answer for choice, answer in self.live.believed.items() if choice not in OF_VALUES}
        self.holding = Holding(self.talk, self.live.terms, believed, self.pace, self.outcome)
        try:
            self.live.runner.run(self.talk.begin(REACH))
        except (Unreached, OSError) as error:
            self._lost(str(error))

    def _act(self, step: Step) -> None:
        """One act, and a look at what comes of it."""
        self.over = not self.live.runner.run(self.holding.act(step))
        self.live.believed |= self.holding.answers
        for suspicion in self.outcome.suspicions:
            verdict = verdict_of(suspicion.blame.rule, self.live.terms.spec_version)
            if verdict is not Verdict.CHOICE:
                self._wrong(suspicion)
        self.outcome.suspicions.clear()

    def _lost(self, why: str) -> None:
        """The server serves nobody any more."""
        self.over = True
        alive = self.live.process().alive
        verdict = Verdict.HUNG if alive else Verdict.DIED
        seen = "nobody is served" if alive else "the process died"
        self.live.drop()
        suspicion = Suspicion(Blame("", 0, "", "", "the server serves on", seen, ""), _end(self.talk, why), verdict)
        self._wrong(suspicion)

    def _wrong(self, suspicion: Suspicion) -> None:
        """Something should not be, unless it is known."""
        if ": ".join(suspicion.key) not in self.known:
            self.wrong = True
            raise Wrong(suspicion, str(suspicion.blame))
        self.over = True

    @property
    def asks(self) -> bool:
        """Whether the app may ask: two calls at a time are a choice of their own (C16)."""
        return not (self.over or self.talk.waits)

    @property
    def speaks(self) -> bool:
        """Whether the peer can still send anything."""
        return not (self.over or self.gone)

    @property
    def runs(self) -> bool:
        """Whether the app's call runs."""
        return not (self.over or self.talk.app_ended)

    @precondition(lambda self: self.asks)
    @rule()
    def app_asks(self) -> None:
        """The app calls receive()."""
        self._act(Step("app asks"))

    @precondition(lambda self: not self.over)
    @rule(event=st.sampled_from(list(MESSAGES)))
    def app_sends(self, event: str) -> None:
        """The app sends a message, be it legal now or not."""
        self._act(stimulus(event))

    @precondition(lambda self: not self.over)
    @rule(data=DATA)
    def app_sends_data(self, data: str | bytes) -> None:
        """The app sends data."""
        self._act(Step("app sends", {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}))

    @precondition(lambda self: self.runs)
    @rule(raises=st.booleans())
    def app_ends(self, raises: bool) -> None:
        """The app's call ends."""
        self._act(Step("app raises" if raises else "app returns"))

    @precondition(lambda self: self.speaks)
    @rule(data=DATA)
    def peer_sends(self, data: str | bytes) -> None:
        """The peer sends data."""
        self._act(Step("peer sends", data))

    @precondition(lambda self: self.speaks)
    @rule(payload=st.binary(max_size=125))
    def peer_pings(self, payload: bytes) -> None:
        """The peer sends a Ping."""
        self._act(Step("peer pings", payload))

    @precondition(lambda self: self.speaks)
    @rule(code=CODES, reason=st.text(st.characters(codec="ascii", min_codepoint=32), max_size=20))
    def peer_closes(self, code: int | None, reason: str) -> None:
        """The peer sends a Close."""
        self._act(Step("peer closes", {"code": code, "reason": reason} if code else {}))

    @precondition(lambda self: self.speaks)
    @rule(kind=st.sampled_from([kind for kind in BREAKS if kind != "too_big"]))
    def peer_violates(self, kind: str) -> None:
        """The peer sends a faulty frame."""
        self._act(Step("peer violates", kind, rule=BREAKS[kind]))

    @precondition(lambda self: self.speaks)
    @rule(resets=st.booleans())
    def peer_goes(self, resets: bool) -> None:
        """The peer ends its side, or resets the connection."""
        self.gone = True
        self._act(Step("peer vanishes" if resets else "peer ends"))

    @precondition(lambda self: self.over)
    @rule()
    def rests(self) -> None:
        """Nothing more comes of a conversation that is over."""

    def teardown(self) -> None:
        """The conversation is over; the server serves others on, and another one has felt nothing of it."""
        self.live.runner.run(self.talk.close())
        if not self.over and not self.live.healthy():
            self._lost("a plain request is not answered")
        disturbed = None if self.wrong else self.live.disturbed()
        if disturbed is not None:
            self._wrong(disturbed)


def _end(talk: Conversation, why: str) -> tuple[Line, ...]:
    return (*talk.lines, Line("server", why, wrong=True))


# ------------------------------------------------------------------------------------------------ campaigns


def fuzz(
    server: servers.Server,
    seconds: float,
    *,
    known: Collection[str] = (),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Fuzzes a server for so long, and returns all that was found, each shrunk.

    `progress` is called with the number of conversations and of findings. Raises what `Live.meet` raises.
    """
    found: list[Finding] = []
    deadline = time.monotonic() + seconds
    with live(server) as process:
        while time.monotonic() < deadline:
            finding = _search(process, frozenset({*known, *(one.key for one in found)}), seed)
            seed += 1
            found += [finding] if finding is not None else []
            if progress is not None:
                progress(process.conversations, len(found))
    return found


BATCH = 25
"""So many examples are made up between two looks at the clock."""


def _search(process: Live, known: Collection[str], number: int) -> Finding | None:
    """The first thing that is not known, shrunk; None if a batch of examples brings nothing."""
    failed: list[tuple[Suspicion, tuple[Step, ...]]] = []

    class Tried(Fuzz):
        def _wrong(self, suspicion: Suspicion) -> None:
            failed[:] = [(suspicion, tuple(self.holding.steps))]
            super()._wrong(suspicion)

    Tried.live, Tried.known = process, known
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_state_machine_as_test(seeded(number)(Tried), settings=settings(SETTINGS, max_examples=BATCH))
    except (Wrong, Flaky):
        return _finding(process, *failed[0])
    return None


def _finding(process: Live, suspicion: Suspicion, steps: tuple[Step, ...]) -> Finding:
    """Holds what was found again, alone."""
    case = Case("fuzz", steps)
    times, shown = 0, suspicion
    for _ in range(AGAIN):
        process.attended()
        outcome = process.runner.run(
            hold(process.driver, process.process().port, case, process.terms, process.believed, CALM)
        )
        disturbed = process.disturbed()
        outcome.suspicions += [disturbed] if disturbed is not None else []
        again = next((one for one in outcome.suspicions if one.key == suspicion.key), None)
        if not process.healthy():
            process.drop()
            again = suspicion if suspicion.verdict in (Verdict.DIED, Verdict.HUNG) else again
        times += again is not None
        shown = again or shown
    verdict = suspicion.verdict or verdict_of(suspicion.blame.rule, process.terms.spec_version)
    return Finding(process.server.name, verdict, shown, steps, times, AGAIN, program(process.server, steps))


# ------------------------------------------------------------------------------------------------ programs


def program(server: servers.Server, steps: Sequence[Step]) -> str:
    """A program that holds this conversation."""
    acts = "".join(f"        {_written(step)},\n" for step in steps)
    return (
        "from wslifecycle.conformance.kit.fuzz import replay\n"
        "from wslifecycle.conformance.kit.script import Step\n\n"
        f"replay(\n    {server.argument!r},\n    [\n{acts}    ],\n)\n"
    )


def _written(step: Step) -> str:
    more = "" if step.value is None else f", {step.value!r}"
    return f"Step({step.stimulus!r}{more}{f', rule={step.rule!r}' if step.rule else ''})"


def replay(server: str, steps: Sequence[Step]) -> None:
    """Holds a conversation with a server, by its name or its command line, and prints it.

    Raises `Wrong` where it goes otherwise than it may, `LookupError` and `ValueError` as `servers` do.
    """
    command = server.removeprefix("--command ").strip("'") if "{port}" in server else ""
    chosen = servers.custom(command) if command else servers.find(server)[0]
    with live(chosen) as process:
        terms = replace(process.terms)
        process.attended()
        outcome: Any = process.runner.run(
            hold(process.driver, process.process().port, Case("replay", tuple(steps)), terms, {}, CALM)
        )
        for line in outcome.lines:
            print(_shown(line))
        disturbed = process.disturbed()
        if disturbed is not None:
            raise Wrong(disturbed, str(disturbed.blame))
        for suspicion in outcome.suspicions:
            if verdict_of(suspicion.blame.rule, terms.spec_version) is not Verdict.CHOICE:
                raise Wrong(suspicion, str(suspicion.blame))
        if not process.healthy():
            process.drop()
            raise AssertionError("The server serves nobody any more.")
