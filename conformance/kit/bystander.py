"""A conversation that is open beside others, to see that a server keeps its connections apart.

Whatever the others do, the bystander's messages go to and fro as the machine says. A server for which not even that
much goes well while nothing happens beside it is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wslifecycle.conformance.kit.blame import Blame
from wslifecycle.conformance.kit.cases import Case
from wslifecycle.conformance.kit.driver import Conversation, Driver, Unreached
from wslifecycle.conformance.kit.results import Verdict
from wslifecycle.conformance.kit.script import Step, Terms
from wslifecycle.conformance.kit.trial import BRISK, REACH, Holding, Outcome, Suspicion

ROUNDS = 20
"""After so many rounds another bystander takes its place: to judge a conversation takes longer with its length, and one
that is open for long is pinged.
"""


class Bystander:
    """`attend` before something happens beside it, `disturbed` after that, `leave` in the end."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._talk: Conversation | None = None
        self._holding: Holding | None = None
        self._outcome = Outcome(Case("bystander", ()))
        self._rounds = 0

    async def attend(self, port: int, terms: Terms, believed: Mapping[str, str]) -> None:
        """Opens a conversation, unless there is one that is good for another round."""
        if self._holding is not None and self._rounds < ROUNDS:
            return
        await self.leave()
        self._talk = Conversation(self._driver, port)
        self._outcome = Outcome(Case("bystander", ()))
        self._holding = Holding(self._talk, terms, dict(believed), BRISK, self._outcome)
        try:
            await self._talk.begin(REACH)
        except (Unreached, OSError):
            await self.leave()
            return
        await self._do(Step("app asks"), Step("app sends", {"type": "websocket.accept"}))
        await self.disturbed()  # a server that cannot hold it alone is not asked

    async def disturbed(self) -> Suspicion | None:
        """One round of messages: what of it is not as it has to be."""
        if self._holding is None:
            return None
        self._rounds += 1
        sent = f"round {self._rounds}"
        sends = Step("app sends", {"type": "websocket.send", "text": sent})
        await self._do(Step("app asks"), Step("peer sends", sent), sends)
        if not self._outcome.suspicions:
            return None
        self._holding = None  # the next one begins anew
        found = self._outcome.suspicions[0]
        seen = f"in another conversation {found.blame.seen}"
        blame = Blame("", 0, "", "", f"in another conversation {found.blame.expected}", seen, "")
        return replace(found, blame=blame, verdict=Verdict.MUST)

    async def leave(self) -> None:
        """Ends it."""
        if self._talk is not None:
            await self._talk.close()
        self._talk = self._holding = None
        self._rounds = 0

    async def _do(self, *steps: Step) -> None:
        for step in steps:
            if self._holding is None or not await self._holding.act(step):
                return
