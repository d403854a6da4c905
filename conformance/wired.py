"""What can be brought about on a connection over a transport, and what cannot, although the machine has an answer.

The machine answers every event in every state. A transport brings fewer: nothing is read once it has ended, nothing is
decoded behind a Close, a `send()` waits only for what was written. `Wired` is a place of a connection that knows this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from wslifecycle.conformance.sansio import on_the_wire
from wslifecycle.statemachine.cover import Place, Triple, places, reachable, stimuli

FRAMES = ("peer_message", "peer_ping", "peer_close", "peer_violation")
TAKING = ("open", "denying")
"""The states of the wire in which what an app sends is written."""


def wire(state: str) -> str:
    """What the peer can see in a state."""
    return state.partition("/")[0]


@dataclass(frozen=True)
class Wired(Place):
    """A place of a connection over a socket. `deaf`: the peer has sent the last frame that could mean anything."""

    deaf: bool = False

    def why_not(self, stimulus: str) -> str:
        """Why this cannot be brought about over a socket here; nothing where it can.

        Here, and by the way that led here: what is just lost cannot be lost again, and a `send()` waits only for what
        comes next.
        """
        here, came = wire(self.state), wire(self.way[-1].source) if self.way else ""
        if stimulus in (*FRAMES, "peer_eof") and here == "closed":
            return "nothing of the peer is read once the transport has ended"
        if stimulus in FRAMES and self.deaf:
            return "nothing is decoded behind the peer's Close or its fault"
        if stimulus == "peer_lost" and here == "closed" and (came == here or self.way[-1].event == "peer_lost"):
            return "a transport is lost once, and as soon as it has ended"
        if stimulus == "app_waited" and here in ("handshake", "denial_held"):
            return "no send() waits before something was written"
        if stimulus == "app_waited" and here not in TAKING and came not in TAKING:
            return "no send() waits any longer than to the beginning of the end"
        return ""

    def possible(self, stimulus: str) -> bool:
        """Whether it can be brought about over a socket."""
        return super().possible(stimulus) and not self.why_not(stimulus)

    def noticed(self, stimulus: str) -> object:
        """What both sides notice: a peer that has seen the end or vanished sees no more, and no pace is measured."""
        answer = self.consult(stimulus)
        blind = stimulus == "peer_lost" or wire(self.state) in ("failing", "closed")
        seen = [] if blind else [entry for effect in self.outcome(stimulus).effects for entry in on_the_wire(effect)]
        return answer.refusal, answer.event if answer.gives is not None else "", seen

    def after(self, stimulus: str) -> Self:
        """Where it leads."""
        after = super().after(stimulus)
        deaf = self.deaf or stimulus in ("peer_close", "peer_violation")
        return replace(after, deaf=deaf and wire(after.state) != "closed")


def beyond(start: Wired) -> dict[Triple, str]:
    """What the machine answers and nobody can bring about over a socket, by whatever way, each with the reason."""
    can = reachable(start)
    return {
        triple: why
        for place in places(start)
        for stimulus in stimuli(start.machine)
        if Place.possible(place, stimulus) and (why := place.why_not(stimulus))
        for triple in place.tries(stimulus)
        if triple not in can
    }
