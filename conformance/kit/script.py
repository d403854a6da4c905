"""What was done in a conversation, and what has to come of it: the machine plays it.

Steps are what was done; a `Log` is what came of them, on both sides, in an order that does not tell in how many pieces
it came. `play` gives the log that a machine asks for. A real server is not told of a peer's act in the very moment of
it: it reads later, and a delay says how much later. `delays` are all that a server may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wslifecycle.conformance.sansio import SansIO
from wslifecycle.conformance.scenarios import Act, Scenario, Seen, short
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.errors import ApplicationViolation, Disconnected
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle

# ------------------------------------------------------------------------------------------------ what was done


@dataclass(frozen=True, slots=True)
class Step:
    """One act of the app or the peer, in the words of the scenarios (`scenarios.STIMULI`).

    `together`: the next step follows at once, before anybody has seen what came of this one. `rule`: that of what is
    special about the value, if anything is.
    """

    stimulus: str
    value: Any = None
    together: bool = False
    rule: str = ""

    @property
    def by_peer(self) -> bool:
        """Whether it takes its way through the network."""
        return self.stimulus.startswith("peer ")

    def __str__(self) -> str:
        return self.stimulus if self.value is None else f"{self.stimulus} {short(self.value)}"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server advertises, and the client offers."""

    spec_version: str
    extensions: tuple[str, ...] = ()
    subprotocols: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ what came of it


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was seen, or has to be: in which step, and why.

    A receive() gives a message, or `{"raised": kind}`; a send() gives None, or that. `answer` is the machine's.
    """

    step: int
    what: Any
    answer: Answer | None = None
    state: str = ""
    strict: bool = True
    """Whether the reason has to be the same, too, and not only the code."""


@dataclass(slots=True)
class Log:
    """What came of a script, up to some step. `sends` has the outcome of each send(), by its step."""

    received: list[Entry] = field(default_factory=list)
    sends: dict[int, Entry] = field(default_factory=dict)
    peer: list[Entry] = field(default_factory=list)
    waiting: int = 0
    """So many calls of receive() are pending."""
    states: list[str] = field(default_factory=list)
    """Where the machine was before each step."""
    taken: list[Answer] = field(default_factory=list)


class Player(SansIO):
    """A connection that is played a script to. Keeps every answer, and what it brought about.

    What holds is what the advertised version says. Messages have the newest keys all the same: a server that does not
    know one yet need not heed it, and that it does not is a choice of it (`SINCE`).
    """

    def __init__(self, machine: Lifecycle, terms: Terms) -> None:
        self.log = Log()
        self.step = 0
        self._answer_now: Answer | None = None
        self._sent: Answer | None = None
        self._refused = ""
        self._strict = False
        self._cause: tuple[Answer | None, str, bool] = (None, "", True)
        self._kept = 0
        newest = list(machine.spec.versions)[-1]
        scope = Scenario("", "", (), (), newest, terms.extensions, terms.subprotocols, (), "", 0)
        super().__init__(scope, machine, self._observe)
        bits = self.connection.case & ~machine.dialect(newest).facts
        self.connection.case = bits | machine.dialect(terms.spec_version).facts

    def _observe(self, answer: Answer) -> None:
        self._answer_now = answer
        self.log.taken.append(answer)

    def play(self, step: Step) -> None:
        """One step, now."""
        before = self.connection.state
        self._strict = step.stimulus == "app sends"
        self._answer_now = None
        self._kept = 0
        if self._held is not None and step.stimulus in {*FRAMES, "peer floods"} and not self._early(step):
            return
        seen = self.do(Act(step.stimulus, step.value, (), (), None, False, 0))
        if step.stimulus == "app sends":
            raised = None if seen.raised is None else {"raised": seen.raised, "rule": self._refused}
            self.log.sends[self.step] = Entry(self.step, raised, self._sent, before)
        self.log.waiting = seen.waiting

    def _send(self, message: dict[str, Any]) -> None:
        self._answer_now = None
        try:
            self._carry_out(self.connection.app_sent(message))
        except (ApplicationViolation, Disconnected) as error:
            self._seen.raised = "disconnected" if isinstance(error, Disconnected) else "violation"
            self._refused = error.rule
        self._sent = self._answer_now

    def _answer(self) -> None:
        """One message for each call that waits; each is kept with the machine's answer."""
        while self._seen.waiting:
            before, given = self.connection.state, len(self._seen.app)
            waiting, self._seen.waiting = self._seen.waiting, 1
            super()._answer()
            left, self._seen.waiting = self._seen.waiting, waiting
            if left:
                return
            self._seen.waiting -= 1
            message = self._seen.app[given]
            strict = self._closed_by != "server"
            self.log.received.append(Entry(self.step, message, self._answer_now, before, strict))

    def _early(self, step: Step) -> bool:
        """Whether bytes that come before the accept mean something; they may be dropped, or refused (C14)."""
        flat = self.connection.machine.flat
        if step.stimulus == "peer floods":
            return flat.value("C14", "bytes") is not None
        if flat.value("C14", "bytes") == 0:
            self._seen = Seen(waiting=self._seen.waiting)
            self._carry_out(self.connection.peer_violated(1009))
            self._answer()
            self.log.waiting = self._seen.waiting
            return False
        return bool(flat.value("C14", "keep"))

    def _carry_out(self, effects: Iterable[fx.Effect]) -> None:
        self._keep()  # what the effects so far of an outer call brought about, before those of what it lets be decoded
        outer, self._cause = self._cause, (self._answer_now, self.connection.state, self._strict)
        super()._carry_out(effects)
        self._keep()
        self._cause = outer

    def _keep(self) -> None:
        """Keeps what the peer has seen, with its cause."""
        for entry in self._seen.peer[self._kept :]:
            self.log.peer.append(Entry(self.step, entry, *self._cause))
        self._kept = len(self._seen.peer)

    @property
    def _closed_by(self) -> str:
        """Who has said the code and the reason that the app is told."""
        for answer in self.log.taken:
            if any(name == "cause" for name, _ in answer.assigns):
                return "app" if answer.event == "app_close" else "peer" if answer.event == "peer_close" else "server"
        return ""


def play(machine: Lifecycle, terms: Terms, script: Sequence[Step], delay: Mapping[int, int] | None = None) -> Log:
    """What has to come of a script. `delay`: before which later step the server reads what the peer did in a step.

    A step at the end of the script, `len(script)`, is read when all else is done; one behind that never.
    """
    player, delay = Player(machine, terms), delay or {}
    states: list[str] = []
    for number, step in enumerate((*script, None)):
        player.step = number - 1
        for late in [late for late, until in delay.items() if until == number]:
            player.play(script[late])
        player.step = number
        states.append(player.connection.state)
        if step is not None and number not in delay:
            player.play(step)
    player.log.states = states
    gone = next((number for number, step in enumerate(script) if step.stimulus == "peer vanishes"), len(script))
    player.log.peer = [entry for entry in player.log.peer if entry.step < gone]
    return player.log


def delays(script: Sequence[Step], most: int = 64) -> Iterator[dict[int, int]]:
    """The ways in which a server may be late with what the peer did; none at first, and the least late ones before.

    The order is kept. Late is what comes at once with the next step, and what comes behind a message that the app has
    not asked for, since a server may have paused reading; the latter may never be read.
    """
    end = len(script)
    unread = _unread(script)
    acts = [number for number, step in enumerate(script) if step.by_peer and step.stimulus not in HOLDS]
    found: list[dict[int, int]] = [{}]
    for act in acts:
        more = []
        for late in found:
            earliest = max([act + 1, *late.values()])
            latest = end + 1 if act in unread else _until(script, act)
            more += [{**late, act: place} for place in range(earliest, max(earliest, latest) + 1)]
        found = sorted(more, key=lambda late: sum(late.values()))[:most]
    for late in found:
        yield {act: place for act, place in late.items() if place > act + 1}


FRAMES = frozenset({"peer sends", "peer pings", "peer closes", "peer violates"})
"""What the peer does by sending frames."""

HOLDS = frozenset({"peer holds", "peer reads"})
"""What the peer does for itself: nothing of it takes its way to the server."""


def _until(script: Sequence[Step], act: int) -> int:
    """The step before which the server has read what the peer did at once with others."""
    while act < len(script) and script[act].together:
        act += 1
    return act + 1


def _unread(script: Sequence[Step]) -> set[int]:
    """The acts of the peer behind a message for which the app has not called receive() by then."""
    asked = -1  # the first call is answered by the connect
    found: set[int] = set()
    behind = False
    for number, step in enumerate(script):
        asked += step.stimulus == "app asks"
        if behind and step.by_peer:
            found.add(number)
        if step.stimulus == "peer sends":
            asked -= 1
            behind |= asked < 0
    return found
