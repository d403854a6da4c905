"""Holds one case with a running server: step by step, each held against the machine before the next one is done.

What was seen is explained by the answers that are believed of this server, or by others to choices, which are believed
from then on; what nothing explains is a `Suspicion`. A suspicion that changes nothing about where the connection is (an
exception of another class, another code) does not end the case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from wslifecycle.conformance.kit.blame import Blame, blame, event_in
from wslifecycle.conformance.kit.cases import Case
from wslifecycle.conformance.kit.compare import differences
from wslifecycle.conformance.kit.driver import CANCELLED, PENDING, Conversation, Driver, Unreached, frames
from wslifecycle.conformance.kit.oracle import explain, nearest, rules_of
from wslifecycle.conformance.kit.plays import REFERENCE, played
from wslifecycle.conformance.kit.results import Line, Verdict
from wslifecycle.conformance.kit.script import FRAMES, Entry, Log, Step, Terms


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take, in seconds: `patience` for what is due, `quiet` for what is not."""

    patience: float
    quiet: float


BRISK = Pace(1.0, 0.008)
"""While others run beside."""

CALM = Pace(2.0, 0.06)
"""For a case that runs alone, and has to be beyond doubt."""


FEW = 2
"""While no more answers than so many are believed, all that matter only together with them are looked at: that takes
seconds for each set of them, and a server that has been tried for a while is known well enough.
"""

REACH = 5.0
"""Seconds in which the app is called for a handshake."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something that nothing explains, with the trace up to its end. `verdict`: None where the rule says it."""

    blame: Blame
    lines: tuple[Line, ...]
    verdict: Verdict | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same as another one: where the app and the inbox are does not tell them apart, and with a
        choice only what was seen does.
        """
        blame = self.blame
        if blame.rule.startswith("C"):
            return (blame.rule, blame.seen)
        return (blame.rule, blame.event, blame.state.partition("/")[0], blame.seen)


@dataclass(slots=True)
class Outcome:
    """What came of holding one case."""

    case: Case
    suspicions: list[Suspicion] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    """Answers to choices that were seen: the ones without which this case could not be explained."""
    rules: set[str] = field(default_factory=set)
    """The rules that were tried."""
    lines: tuple[Line, ...] = ()
    unreached: str = ""
    """Why the app was not called; empty if it was."""
    cancelled: bool = False
    """Whether the server has cancelled the app."""
    ended: bool = False
    """Whether the connection has ended, by what the machine says."""
    hurt: bool = False
    """Whether the server's process is of no more use."""
    log: str = ""
    """What the server logged meanwhile."""


async def hold(driver: Driver, port: int, case: Case, terms: Terms, believed: Mapping[str, str], pace: Pace) -> Outcome:
    """Holds a case. Whatever comes of it is in the outcome; the connection and the app's call are over then."""
    outcome = Outcome(case)
    talk = Conversation(driver, port, case.subprotocols)
    try:
        await talk.begin(REACH, behind=b"".join(map(frames, case.steps[: case.behind])))
        await Holding(talk, terms, dict(believed), pace, outcome, case.steps, case.behind).go()
    except (Unreached, OSError) as error:
        outcome.unreached = str(error)
    finally:
        await talk.close()
    outcome.lines = tuple(talk.lines)
    outcome.cancelled = talk.app_ended == "cancelled"
    return outcome


class Holding:
    """The way through steps, of a case or of one that is being made up: `go` does all, `act` adds one."""

    def __init__(
        self,
        talk: Conversation,
        terms: Terms,
        answers: dict[str, str],
        pace: Pace,
        outcome: Outcome,
        steps: Sequence[Step] = (),
        behind: int = 0,
    ) -> None:
        self.steps = list(steps)
        self._talk = talk
        self._behind = behind
        self._terms = terms
        self._answers = answers
        self._pace = pace
        self._outcome = outcome
        self._late: dict[int, int] = {}
        self._changed: dict[str, str] = {}
        self._forgiven: list[tuple[str, int]] = []

    async def go(self) -> None:
        """All steps, up to what ends the case."""
        steps, number = self.steps, 0
        while number < len(steps):
            end = number
            while steps[end].together and end + 1 < len(steps):
                end += 1
            self._do(number, end)
            if not await self._judge(steps[: end + 1], self._pace.quiet):
                self._tell(steps[:number])
                return
            number = end + 1
        await self._judge(steps, 4 * self._pace.quiet)  # what comes too late for its step
        self._tell(steps)

    async def act(self, step: Step) -> bool:
        """Does one more step, and holds what comes of it against the machine. False: the conversation is over."""
        self.steps.append(step)
        last = len(self.steps) - 1
        self._do(last, last)
        return await self._judge(self.steps, self._pace.quiet)

    @property
    def answers(self) -> dict[str, str]:
        """The answers to choices that explain what was seen so far."""
        return dict(self._answers)

    def _tell(self, script: Sequence[Step]) -> None:
        """Tells which rules were tried, and which of the answers that are believed were needed."""
        due = played(self._answers, self._terms, script, self._late)
        state = due.states[-1]
        self._outcome.ended = state.startswith("closed/")
        self._outcome.rules |= rules_of(script, due)
        if self._talk.untold and self._outcome.ended and not state.endswith("/done"):
            what = Blame(
                "R28",
                len(script) - 1,
                state,
                event_in(script[-1]),
                "receive() gives websocket.disconnect",
                "the app is cancelled before it is told",
                "receive",
            )
            lines = [replace(line, wrong=line.text == CANCELLED) for line in self._talk.lines]
            self._outcome.suspicions.append(Suspicion(what, tuple(lines)))
        self._outcome.answers |= self._changed
        for choice, answer in self._answers.items():
            if answer != REFERENCE[choice]:
                usual = {**self._answers, choice: REFERENCE[choice]}
                if differences(played(usual, self._terms, script, self._late), due):
                    self._outcome.answers[choice] = answer

    def _do(self, number: int, end: int) -> None:
        """Steps at once: frames in one segment, messages in a row."""
        steps = self.steps
        while number <= end:
            last = number
            while last < end and _alike(steps[last], steps[last + 1]):
                last += 1
            if steps[number].stimulus == "app sends":
                self._talk.do(number, steps[number], row=[step.value for step in steps[number + 1 : last + 1]])
            elif last > number:
                self._talk.write(number, steps[number : last + 1])
            elif number >= self._behind:
                self._talk.do(number, steps[number])
            number = last + 1

    async def _judge(self, script: Sequence[Step], quiet: float) -> bool:
        """Waits for what is due, and holds what was seen against it. False: the case is over."""
        talk = self._talk
        due = played(self._answers, self._terms, script, self._late)
        await talk.until(lambda: talk.has(due), self._pace.patience)
        await talk.quiet(quiet)
        seen = self._seen(due)
        if not differences(due, seen):
            return True
        found = explain(self._answers, self._terms, script, seen)
        if found is None and self._pace is CALM and len(self._answers.items() - REFERENCE.items()) <= FEW:
            found = explain(self._answers, self._terms, script, seen, thorough=True)
        if found is not None:
            change, self._late = found
            self._answers |= change
            self._changed |= change
            return True
        if not any(step.rule for step in script):  # with a value of its own it is the value that is to blame
            change = nearest(self._answers, self._terms, script, seen)
            self._answers |= change
            self._changed |= change
            due = played(self._answers, self._terms, script)
        what = blame(self._answers, self._terms, script, seen)
        self._outcome.rules.add(what.rule)
        lines = [*talk.lines[:-1], replace(talk.lines[-1], wrong=True)]
        self._outcome.suspicions.append(Suspicion(what, tuple(lines)))
        return self._forgive(due, seen)

    def _seen(self, due: Log) -> Log:
        """What was seen, with what is forgiven as it is due."""
        log = self._talk.log
        seen = Log(list(log.received), dict(log.sends), list(log.peer), log.waiting)
        for side, place in self._forgiven:
            if side == "send" and place in due.sends:
                seen.sends[place] = replace(due.sends[place], step=seen.sends[place].step)
            elif side == "receive" and place < len(due.received):
                seen.received[place] = due.received[place]
            elif side == "peer" and place < len(due.peer):
                seen.peer.insert(place, due.peer[place])
        return seen

    def _forgive(self, due: Log, seen: Log) -> bool:
        """Goes on where what is wrong leaves the connection where it is: how a call ended, or a Close that is missing
        before the end of a connection that has failed.
        """
        first = differences(due, seen)[0]
        match first.side, first.due, first.seen:
            case "send", Entry(what=dict()), Entry(what=dict()) if first.seen.what is not PENDING:
                self._forgiven.append(("send", first.due.step))
            case "receive", Entry(what={"type": "websocket.disconnect"}), Entry(what={"type": "websocket.disconnect"}):
                self._forgiven.append(("receive", _place(seen.received, first.seen)))
            case "peer", Entry(what={"close": _}), Entry(what={"end": _}) if first.due in due.peer:
                self._forgiven.append(("peer", due.peer.index(first.due)))
        return not differences(due, self._seen(due))


def _alike(one: Step, other: Step) -> bool:
    """Whether both go in one segment, or in a row."""
    return one.stimulus == other.stimulus == "app sends" or {one.stimulus, other.stimulus} <= FRAMES


def _place(entries: Sequence[Entry], entry: Entry) -> int:
    return next(place for place, other in enumerate(entries) if other is entry)
