"""Holds everything that may be asked of a server with that server, and says what was found: a `Result`.

First all cases run beside each other, many to a process. Whatever is suspicious then is held again alone, several
times, in a calm pace and with a look at the server's health and log: only what is seen again there is a deviation, and
it is told in how many of how many runs. A server that has died or answers nobody is started anew.
"""

from __future__ import annotations

import asyncio
import difflib
import re
import shlex
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from wslifecycle.conformance.kit import agent, servers
from wslifecycle.conformance.kit.blame import Blame, event_in
from wslifecycle.conformance.kit.cases import Case, touches
from wslifecycle.conformance.kit.cases import cases as derived
from wslifecycle.conformance.kit.compare import differences
from wslifecycle.conformance.kit.confirm import MOST_NAMED, Group, grouped
from wslifecycle.conformance.kit.driver import Conversation, Driver, Unreached
from wslifecycle.conformance.kit.plays import OF_VALUES, REFERENCE, SPEC, machine_of, played
from wslifecycle.conformance.kit.probes import PROBES, Probe, Stage
from wslifecycle.conformance.kit.results import Deviation, Line, Result, Verdict
from wslifecycle.conformance.kit.script import Terms
from wslifecycle.conformance.kit.trial import BRISK, CALM, REACH, Outcome, Pace, Suspicion, hold
from wslifecycle.conformance.peer import MAX_SIZE

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many cases were held, and how many there are so far."""

BESIDE = 48
"""So many cases run beside each other."""

LANES = 16
"""So many processes of the server, each of which holds one thing at a time, when the suspicious is held again."""

HEALTH = 5.0
"""Seconds in which a server that is well answers a plain request."""


FEW = 20
"""In fewer cases than so many an answer to a choice may be an exception."""


class KitError(Exception):
    """A server cannot be tried at all: it does not start, or its app is never called."""


def conform(
    server: servers.Server,
    *,
    select: Collection[str] = (),
    only: Collection[str] = (),
    repeat: int = 1,
    timeout: float = BRISK.patience,
    progress: Progress | None = None,
) -> Result:
    """Tries a server.

    `select`: only cases that try one of these rules (`R28`), or lead through one of these states (`closing`); `only`:
    the cases of these names. `repeat`: everything so many times. `timeout`: seconds that a server has for what is due.
    Raises `KitError`, and `LookupError` for a case that there is not.
    """
    pace = Pace(timeout, BRISK.quiet)
    return asyncio.run(_conform(server, frozenset(select), frozenset(only), repeat, pace, progress))


async def _conform(
    server: servers.Server,
    select: frozenset[str],
    only: frozenset[str],
    repeat: int,
    pace: Pace,
    progress: Progress | None,
) -> Result:
    with servers.laid(agent.__file__) as folder:
        async with Driver() as driver:
            run = Run(server, folder, driver, repeat, pace, progress or (lambda done, of: None))
            return await run.go(select, only)


def rules() -> frozenset[str]:
    """The numbers of all rules of documents that can be tried on a server that advertises everything."""
    terms = Terms("2.5", tuple(fact.extension for fact in SPEC.facts.values() if fact.extension is not None))
    found = {name for case in derived(terms) for name in touches(case, terms)}
    return frozenset(found.union(*(probe.rules for probe in PROBES)) & SPEC.rules.keys())


Tried: TypeAlias = Case | Probe
"""What can be held."""


class Run:
    """One server under trial."""

    def __init__(
        self, server: servers.Server, folder: Path, driver: Driver, repeat: int, pace: Pace, progress: Progress
    ) -> None:
        self._server = server
        self._folder = folder
        self._driver = driver
        self._repeat = repeat
        self._pace = pace
        self._progress = progress
        self._terms = Terms("2.5")
        self._answers: dict[str, Counter[str]] = {}
        self._shown: dict[tuple[str, str], list[Outcome]] = {}
        self._tried: Counter[str] = Counter()
        self._sound: set[str] = set()
        self._unasked: dict[str, str] = {}
        self._every: dict[str, Tried] = {}
        self._done = self._of = self._starts = 0

    # ---------------------------------------------------------------------------------------- the whole of it

    async def go(self, select: frozenset[str], only: frozenset[str]) -> Result:
        """All that is asked, and what came of it."""
        began = time.monotonic()
        async with self._process() as process:
            await self._meet(process)
        chosen = self._chosen(select, only)
        cases = [one for one in chosen if isinstance(one, Case) and not self._options(one)]
        others = [one for one in chosen if isinstance(one, Probe) or self._options(one)]
        self._of = len(cases) * self._repeat + len(others)
        beside, alone = await asyncio.gather(
            self._beside(cases * self._repeat), asyncio.gather(*(self._once(one) for one in others))
        )
        deviations = await self._confirmed([*beside, *(outcome for outcome in alone if outcome.suspicions)])
        return Result(
            self._server.name,
            await servers.version(self._server),
            shlex.join(self._server.command),
            self._terms.spec_version,
            self._terms.extensions,
            len(chosen),
            dict(sorted(self._tried.items())),
            self._measured(),
            tuple(sorted([*deviations, *self._otherwise(), *self._advertised()], key=_heaviest)),
            round(time.monotonic() - began, 1),
            self._unasked,
        )

    def _chosen(self, select: frozenset[str], only: frozenset[str]) -> list[Tried]:
        """What is asked of this server."""
        every = self._every
        asked: list[Tried] = [*derived(self._terms), *PROBES]
        for one in asked:
            wanting = [name for name in self._options(one) if not self._server.can(name)]
            if not wanting:
                every[one.name] = one
            elif not (select or only):
                self._unasked[one.name] = f"there is no option for {', '.join(wanting)}"
        missing = only - every.keys()
        if missing:
            text = f"There is no case {', '.join(sorted(missing))} for {self._server.name}."
            close = difflib.get_close_matches(next(iter(missing)), every, n=1, cutoff=0.5)
            raise LookupError(f"{text} Do you mean {close[0]}?" if close else text)
        if only:
            return [one for name, one in every.items() if name in only]
        return [one for one in every.values() if not select or select & self._touches(one)]

    def _touches(self, one: Tried) -> frozenset[str]:
        """The rules and the states that something is about."""
        return frozenset(one.rules) if isinstance(one, Probe) else touches(one, self._terms)

    def _options(self, one: Tried) -> Mapping[str, Any]:
        """Those that the server has to be started with."""
        if isinstance(one, Probe):
            return one.options
        return {"max_size": MAX_SIZE} if one.too_big else {}

    @asynccontextmanager
    async def _process(self, **options: Any) -> AsyncIterator[servers.Running]:
        """A process of the server."""
        self._starts += 1
        log = self._folder / f"log-{self._starts}"
        env = {agent.DRIVER: self._driver.address}
        try:
            async with servers.running(self._server, self._folder, env, log=log, **options) as process:
                yield process
        except servers.NotStarted as error:
            raise KitError(str(error)) from None

    async def _meet(self, process: servers.Running) -> None:
        """Learns what the server advertises."""
        talk = Conversation(self._driver, process.port)
        try:
            await talk.begin(REACH)
        except (Unreached, OSError) as error:
            raise KitError(f"{self._server.name}: {error}.\n{process.log_since(0)[-2000:]}") from None
        finally:
            await talk.close()
        self._terms = talk.terms

    # ---------------------------------------------------------------------------------------- beside each other

    async def _beside(self, cases: Sequence[Case]) -> list[Outcome]:
        """Holds all cases, many at a time. Returns what has to be looked at again."""
        queue, suspects = list(reversed(cases)), list[Outcome]()
        while queue:
            async with self._process() as process:
                suspects += await self._some(process, queue)
        return suspects

    async def _some(self, process: servers.Running, queue: list[Case]) -> list[Outcome]:
        """Holds cases until none is left, or the server serves nobody any more."""
        suspects: list[Outcome] = []
        running: set[asyncio.Task[Outcome]] = set()
        hurt, offset = False, process.log_size()
        while (queue and not hurt) or running:
            while queue and not hurt and len(running) < BESIDE:
                running.add(asyncio.create_task(self._hold(process, queue.pop(), self._pace, self._believed())))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            crashed, offset = crash(process.log_since(offset)), process.log_size()
            for task in done:
                outcome = task.result()
                self._note(outcome)
                hurt |= bool(outcome.unreached)
                if outcome.unreached or outcome.suspicions or crashed:
                    suspects.append(outcome)
            hurt = hurt or not process.alive
        return suspects

    async def _hold(self, process: servers.Running, one: Tried, pace: Pace, believed: Mapping[str, str]) -> Outcome:
        """Holds a case or a probe. Whatever comes of it is in the outcome."""
        if isinstance(one, Case):
            terms = replace(self._terms, subprotocols=one.subprotocols)
            return await hold(self._driver, process.port, one, terms, believed, pace)
        outcome = Outcome(Case(one.name, ()))
        try:
            await one.hold(Stage(self._driver, process, self._terms, pace.patience), outcome)
        except (Unreached, OSError) as error:
            outcome.unreached = str(error)
        return outcome

    def _believed(self) -> dict[str, str]:
        """The answers that were seen most often so far. One about a value may be another one for the next value."""
        return {choice: answer for choice, answer in self._most().items() if choice not in OF_VALUES}

    def _most(self) -> dict[str, str]:
        return {choice: seen.most_common(1)[0][0] for choice, seen in self._answers.items()}

    def _note(self, outcome: Outcome) -> None:
        """Takes over what an outcome says of rules and choices."""
        self._step()
        self._tried.update(outcome.rules)
        if not outcome.suspicions:
            self._sound.add(outcome.case.name)
        if outcome.cancelled:
            outcome.answers["C18"] = "on_loss"
        for choice, answer in outcome.answers.items():
            self._answers.setdefault(choice, Counter())[answer] += 1
            self._shown.setdefault((choice, answer), []).append(outcome)

    def _step(self) -> None:
        self._done += 1
        self._progress(self._done, self._of)

    # ---------------------------------------------------------------------------------------- alone

    async def _once(self, one: Tried) -> Outcome:
        """Holds something in a process of its own."""
        outcome = await self._alone(_Keeper(self._process), one)
        self._note(outcome)
        return outcome

    async def _alone(self, keeper: _Keeper, one: Tried, forget: str = "", pace: Pace = CALM) -> Outcome:
        """Holds something with nothing beside it, and looks at the server's health and log.

        `forget`: a choice of which nothing is believed. What needs options, and every probe, gets its own process.
        """
        options = self._options(one)
        if options or isinstance(one, Probe):
            async with self._process(**options) as process:
                return await self._watched(process, one, forget, pace)
        outcome = await self._watched(await keeper.process(), one, forget, pace)
        keeper.hurt |= outcome.hurt
        if outcome.hurt and keeper.used:  # what was held before may have a part in it
            again = await self._watched(await keeper.process(), one, forget, pace)
            keeper.hurt |= again.hurt
            return again if again.hurt else outcome
        return outcome

    async def _watched(self, process: servers.Running, one: Tried, forget: str, pace: Pace) -> Outcome:
        offset = process.log_size()
        believed = {choice: answer for choice, answer in self._believed().items() if choice != forget}
        outcome = await self._hold(process, one, pace, believed)
        healthy = one.ends or await process.healthy(HEALTH) or await process.healthy(HEALTH)  # it was we who were late
        outcome.log = process.log_since(offset).replace(str(self._folder), "")
        if one.ends:
            return outcome
        crashed = crash(outcome.log)
        outcome.hurt = not healthy or bool(outcome.unreached)
        if not process.alive:
            self._fault(
                outcome, Verdict.DIED, "the process died", f"the process has ended with status {process.returncode}"
            )
        elif not healthy:
            self._fault(outcome, Verdict.HUNG, "nobody is served", f"a plain request is not answered in {HEALTH:g} s")
        elif outcome.unreached:
            self._fault(outcome, Verdict.HUNG, "the app is not called", outcome.unreached)
        elif crashed:
            self._fault(outcome, Verdict.CRASHED, f"{crashed.partition(':')[0]} in the log", f"logged {crashed}")
        return outcome

    def _fault(self, outcome: Outcome, verdict: Verdict, seen: str, text: str) -> None:
        """The server itself is at fault, whatever the rules say. Where it is lost, it is told on what."""
        steps, state, event = outcome.case.steps, "", ""
        if steps and verdict is not Verdict.CRASHED:
            last = min([len(steps) - 1, *(suspicion.blame.step for suspicion in outcome.suspicions)])
            state, event = played({}, self._terms, steps).states[last], event_in(steps[last])
        lines = (*outcome.lines, Line("server", text, wrong=True))
        what = Blame("", 0, state, event, "the server serves on", seen, "")
        outcome.suspicions.append(Suspicion(what, lines, verdict))

    async def _confirmed(self, suspects: Sequence[Outcome]) -> list[Deviation]:
        """What of all that is suspicious is seen again when it is alone."""
        groups = grouped(suspects, self._terms.spec_version)
        for (choice, answer), shown in self._shown.items():
            ended = sorted(
                (one for one in shown if one.ended or not one.case.steps), key=lambda one: len(one.case.steps)
            )
            if answer in SPEC.choices[choice].breaks and ended:  # before the end nothing need have been told
                groups.append(Group([outcome.case.name for outcome in ended], self._terms.spec_version, choice, answer))
        groups.sort(key=lambda group: isinstance(self._every[group.cases[0]], Case))  # probes take longest
        self._of += len(groups)
        confirmed: dict[tuple[str, ...], Deviation] = {}
        await asyncio.gather(*(self._lane(groups, confirmed) for _ in range(LANES)))
        return list(confirmed.values())

    async def _lane(self, groups: list[Group], confirmed: dict[tuple[str, ...], Deviation]) -> None:
        """Looks at one group after the other, with a process of its own."""
        async with _Keeper(self._process) as keeper:
            while groups:
                group = groups.pop(0)
                one = self._every[group.cases[0]]
                pace = CALM if group.suspicious else self._pace
                runs: list[Outcome] = []
                if isinstance(one, Probe):  # each in a process of its own, which takes its time
                    held = (self._alone(keeper, one, group.choice) for _ in range(group.wanted([], self._repeat)))
                    runs += await asyncio.gather(*held)
                else:
                    runs.append(await self._alone(keeper, one, group.choice, pace))
                while len(runs) < group.wanted(runs, self._repeat):
                    runs.append(await self._alone(keeper, one, group.choice))
                self._step()
                for key, deviation in group.confirmed(runs, self._repeat_command(one.name)):
                    if key not in confirmed or deviation.share > confirmed[key].share:
                        confirmed[key] = deviation

    def _repeat_command(self, case: str) -> str:
        elsewhere = "" if self._server.bin == servers.here() else f" --bin {shlex.quote(str(self._server.bin))}"
        return f"wslifecycle conformance {self._server.argument}{elsewhere} --case {shlex.quote(case)}"

    # ---------------------------------------------------------------------------------------- choices

    def _otherwise(self) -> Iterator[Deviation]:
        """The answers to choices that are not the reference's, and break no rule."""
        for (choice, answer), shown in self._shown.items():
            declared = SPEC.choices[choice]
            if answer != declared.reference and answer not in declared.breaks:
                first = min(shown, key=lambda outcome: len(outcome.case.steps))
                yield Deviation(
                    Verdict.CHOICE,
                    choice,
                    "",
                    "",
                    declared.reference,
                    answer,
                    first.case.name,
                    len(shown),
                    len(shown),
                    first.lines,
                    self._repeat_command(first.case.name),
                    answer,
                    choice,
                    cases=tuple(outcome.case.name for outcome in shown if outcome is not first)[:MOST_NAMED],
                )

    def _advertised(self) -> Iterator[Deviation]:
        """What the reference advertises and this server does not."""
        for fact in SPEC.facts.values():
            if fact.extension is not None and fact.extension not in self._terms.extensions:
                yield _scope("R53", f"{fact.extension} is advertised", "it is not")
        version = self._terms.spec_version
        if version != REFERENCE["C35"]:
            known = version in SPEC.choices["C35"].answers
            yield _scope("C35", f"spec_version {REFERENCE['C35']}", f"spec_version {version}", version if known else "")

    def _measured(self) -> dict[str, str]:
        """The answers that were seen; the reference's where nothing else was and it was tried."""
        found = {choice: REFERENCE[choice] for choice in SPEC.choices if self._tried[choice]}
        if self._terms.spec_version in SPEC.choices["C35"].answers:
            found["C35"] = self._terms.spec_version
        found |= {choice: answer for choice, answer in self._most().items() if not self._outweighed(choice, answer)}
        return dict(sorted(found.items(), key=lambda item: int(item[0][1:])))

    def _outweighed(self, choice: str, answer: str) -> bool:
        """Whether an answer was seen a few times only, and the reference's more often."""
        shown = {outcome.case.name for outcome in self._shown[choice, answer]}
        if len(shown) >= FEW or answer == REFERENCE[choice]:
            return False
        against = 0
        for one in self._every.values():
            if isinstance(one, Case) and one.name in self._sound and one.name not in shown:
                usual, other = (played(answers, self._terms, one.steps) for answers in ({}, {choice: answer}))
                against += bool(differences(usual, other))
        return against > len(shown)


def _heaviest(found: Deviation) -> tuple[int, str]:
    return found.verdict.weight, found.key


def _scope(rule: str, expected: str, seen: str, answer: str = "") -> Deviation:
    """A choice that is seen in the scope, and in no conversation."""
    choice = rule if answer else ""
    state = next(iter(machine_of({}).states))
    return Deviation(Verdict.CHOICE, rule, state, "scope", expected, seen, "", 1, 1, (), "", answer, choice)


class _Keeper:
    """Keeps a process of the server for as long as it is of use, and then starts another one."""

    def __init__(self, start: Callable[[], AbstractAsyncContextManager[servers.Running]]) -> None:
        self.hurt = False
        self.used = False
        """Whether something was held before in the process that was given last."""
        self._start = start
        self._stack = AsyncExitStack()
        self._process: servers.Running | None = None

    async def process(self) -> servers.Running:
        """One that is well."""
        if self.hurt or self._process is None:
            await self._stack.aclose()
            self._process = await self._stack.enter_async_context(self._start())
            self.hurt, self.used = False, False
        else:
            self.used = True
        return self._process

    async def __aenter__(self) -> _Keeper:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


def crash(log: str) -> str:
    """The last line of a traceback or a panic in a log that the app has not caused; empty if there is none."""
    for found in re.finditer(r"Traceback \(most recent call last\):|panicked at", log):
        if found[0] == "panicked at":
            return "a panic"
        last = next((line for line in log[found.end() :].splitlines() if re.match(r"\w[\w.]*(:|$)", line)), "")
        if "AppError: the app was told to raise" not in last:
            return last[:200] or "a traceback"
    return ""
