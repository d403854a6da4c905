"""The bounded queues of the system that is checked: what came from the peer, and what goes to it.

Each is a small value; what is done to it is an `Op`, a word and a letter. What moves may ask of a queue are its flags,
the bits of a number, so that a search can tell at once which moves are possible.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

LETTERS = "afb"
"""A data message: before the one that is followed, that one itself, after it. The later ones in this order win."""

UNREAD, FULL, PAUSED, HELD, HELD_FULL, SENDING, LOW, WRITTEN, FOLLOWED = (1 << bit for bit in range(9))
"""Flags: something is unread, and more than the bound; reading is paused; something is held, and no more fits; a
send() waits; little is written, or anything at all, or the message that is followed."""

UNREAD_FIRST = {letter: 1 << 9 + position for position, letter in enumerate(LETTERS)}
WRITTEN_FIRST = {letter: 1 << 12 + position for position, letter in enumerate(LETTERS)}
HELD_FIRST = {letter: 1 << 15 + position for position, letter in enumerate(LETTERS + "CNVE")}
"""Flags: the first letter in a queue; held may also be a Close with and without a code, a violation, the end."""


class Inbound(NamedTuple):
    """What came from the peer and was not given: letters, the oldest first."""

    unread: str = ""
    held: str = ""
    paused: bool = False
    bounded: bool = True


class Outbound(NamedTuple):
    """What was written and the peer has not read, and whether a send() waits for that."""

    written: str = ""
    sending: bool = False


Op: TypeAlias = tuple[str, str]
"""What is done to a queue: a word and a letter."""


_MARKED = "abf".index  # of two letters that become one, that which tells more


class Queues:
    """What operations make of the queues, and the flags that these show, with a bound of messages for each."""

    def __init__(self, bound: int) -> None:
        self.bound = bound

    def flags_of_inbound(self, queue: Inbound) -> int:
        """What moves may ask of it."""
        flags = PAUSED if queue.paused else 0
        if queue.unread:
            flags |= UNREAD | UNREAD_FIRST[queue.unread[0]]
        if len(queue.unread) > self.bound:
            flags |= FULL
        if queue.held:
            flags |= HELD | HELD_FIRST[queue.held[0]]
        if len(queue.held) >= self.bound or queue.held.endswith("E"):  # after its end the peer sends nothing
            flags |= HELD_FULL
        return flags

    def flags_of_outbound(self, queue: Outbound) -> int:
        """What moves may ask of it."""
        flags = SENDING if queue.sending else 0
        if queue.written:
            flags |= WRITTEN | WRITTEN_FIRST[queue.written[0]]
        if len(queue.written) <= self.bound // 2:
            flags |= LOW
        return flags | (FOLLOWED if "f" in queue.written else 0)

    def inbound_after(self, queue: Inbound, op: Op) -> Inbound:
        """Reading pauses over the bound and resumes at half of it, like that of `Unread`."""
        word, letter = op
        unread, held, paused, bounded = queue
        match word:
            case "keep":
                unread += letter
                paused = paused or (bounded and len(unread) > self.bound)
            case "take":
                unread = unread[1:]
                paused = paused and len(unread) > self.bound // 2
            case "hold":
                held += letter
            case "decode":
                held = held[1:]
            case "discard":
                held = ""
            case "resume":
                paused = bounded = False
        return Inbound(unread, held, paused, bounded)

    def outbound_after(self, queue: Outbound, op: Op) -> Outbound:
        """What is written where nothing more fits joins the last, lest what is no data be bounded."""
        word, letter = op
        written, sending = queue
        match word:
            case "write" if len(written) <= self.bound:
                written += letter
            case "write":
                written = written[:-1] + max(written[-1], letter, key=_MARKED)
            case "wait":
                sending = sending or len(written) > self.bound
            case "go on":
                sending = False
            case "read":
                written = written[1:]
            case "drop":
                written = ""
        return Outbound(written, sending)
