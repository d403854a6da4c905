"""Which situations of our runtime there are, and a sweep that brings each of them about.

A situation is a state of the machine, an event in it, and how many calls of `receive()` are pending: none, one, or
more. Those that can be are taken from the model that is checked (`System`), which knows nothing of asyncio, but for
what no transport brings about (`Wired`). The sweep finds its own way to them on the real runtime: first, breadth first,
to places from which they can be reached, and then, for each that is missing, it does what leads there, with more calls
of `receive()` begun in the same moment, before it or behind it. It is deterministic, and everything in it is judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, product
from typing import TypeAlias

from wslifecycle.conformance.cover import starts
from wslifecycle.conformance.orders.exchange import AppError, Exchange, Make
from wslifecycle.conformance.orders.insider import MOST, Insider, Place, Situation
from wslifecycle.conformance.orders.loop import ScheduledLoop
from wslifecycle.conformance.orders.schedulers import Fifo, Level
from wslifecycle.conformance.orders.watched import Broken
from wslifecycle.conformance.wired import Wired, beyond
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service
from wslifecycle.statemachine import cover
from wslifecycle.statemachine.explore import Graph
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.model import Kind
from wslifecycle.statemachine.system import Bounds, System

Act: TypeAlias = tuple[str, ...]
"""What is done: a name, and what it is done with."""

IDLE: Act = ("idle",)
ASK: Act = ("ask",)

LIMIT = 5_000_000  # states of the model


@lru_cache(maxsize=4)
def reachable(machine: Lifecycle | None = None) -> frozenset[Situation]:
    """Every situation that the model knows; what nobody can bring about, since it is impossible, is none."""
    machine = machine or lifecycle()
    system = System(machine.flat, Bounds(receivers=MOST))
    never = {(state, event) for start in starts(machine, Wired) for state, _, event in beyond(start)}
    never = {pair for pair in never if pair[1] != "app_waited"}  # the model knows when a send() waits
    return frozenset(
        (move.answer.source, move.answer.event, move.control.receiving + (move.action == "gives"))
        for table in Graph(system, (), LIMIT).tables.values()
        for move, _ in (*table.ways, *table.still)
        if move.answer is not None
        and move.answer.refusal is not Kind.IMPOSSIBLE
        and (move.answer.source, move.answer.event) not in never
    )


@dataclass
class Swept:
    """What a sweep has seen. `failures`: what was found on the way, which should not be."""

    wanted: frozenset[Situation]
    situations: set[Situation] = field(default_factory=set)
    runs: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[Situation]:
        """What was not brought about."""
        return sorted(self.wanted - self.situations)


class PeerFirst(Fifo):
    """What comes from outside, and every callback, goes before the tasks."""

    def choose(self, options: Sequence[Hashable]) -> int:
        """The lane of the callbacks, if there is one."""
        return options.index(None) if None in options else 0


def sweep(progress: Callable[[Swept], None] = lambda swept: None) -> Swept:
    """Brings about whatever can be, and tells what it saw."""
    swept = Swept(reachable())
    for slow in (False, True):
        places = list(_places(slow, swept, progress))
        for state, event, pending in swept.missing:
            here = [(place, way) for place, way in places if place.state == state and place.receiving <= pending]
            for place, way in here if event != "app_waited" else ():
                for program, first in _attempts(way, BRINGS.get(event, (ASK,)), pending - place.receiving):
                    if (state, event, pending) not in swept.situations:
                        _play(program, slow, swept, peer_first=first)
            progress(swept)
        waiting = [way for place, way in places if place.sending and not place.receiving and not place.kept]
        for more, some, way in product(range(MOST + 2), product(ENDS, repeat=2), waiting):
            if not any(event == "app_waited" for _, event, _ in swept.missing):
                break
            for program, first in _attempts(way, [some], more):
                _play(program, slow, swept, peer_first=first)
            progress(swept)
    return swept


def _places(slow: bool, swept: Swept, progress: Callable[[Swept], None]) -> Iterator[tuple[Place, list[Act]]]:
    """Every place that can be come to, each by a shortest way."""
    known: set[Place] = set()
    left: deque[list[Act]] = deque([[IDLE]])
    while left:
        program = left.popleft()
        for act in acts():
            way = [*program, act, IDLE]
            place = _play(way, slow, swept)
            if place is not None and place not in known:
                known.add(place)
                left.append(way)
                yield place, way
        progress(swept)


def _attempts(way: list[Act], bring: Iterable[Act | tuple[Act, ...]], more: int) -> Iterator[tuple[list[Act], bool]]:
    """What may bring an event about, with more pending calls, and whether the peer goes first."""
    asks = [ASK] * more
    for act in bring:
        acts = act if isinstance(act[0], tuple) else (act,)
        yield [*way, *acts, *asks, IDLE], False
        yield [*way, *asks, *acts, IDLE], True
        yield [*way, *acts, *asks, IDLE], True
        yield [*way, *acts, ("run", "1"), *asks, IDLE], False


BRINGS: dict[str, tuple[Act, ...]] = {
    **{event: (("send", event),) for event in cover.MESSAGES},
    "app_return": (("end", "returns"),),
    "app_raise": (("end", "raises"),),
    "peer_message": (("peer", "peer_message"),),
    "peer_ping": (("peer", "peer_ping"),),
    "peer_close": (("peer", "peer_close"),),
    "peer_violation": (("peer", "peer_violation"), ("flood",)),
    "peer_eof": (("peer_ends",),),
    "peer_lost": (("peer_resets",), ("peer_ends",), ("peer", "peer_close")),
    "server_shutdown": (("shut_down",),),
    "app_waited": (("drain",),),
    **{timer.event: (("time_out", timer.name),) for timer in lifecycle().spec.timers.values()},
}
"""What brings the events about; whatever is given, is given to whoever asks."""


ENDS: tuple[Act, ...] = (
    *BRINGS["app_waited"],
    *BRINGS["app_return"],
    *BRINGS["app_raise"],
    *BRINGS["app_close"],
    *BRINGS["server_shutdown"],
    *BRINGS["peer_lost"],
    ("peer", "peer_violation"),
    *BRINGS["close_timeout"],
    *BRINGS["keepalive_expired"],
)
"""What lets a send() that waits go on: two of them in one moment lead everywhere that it can be found in."""


def acts() -> Iterator[Act]:
    """Everything that can be done."""
    yield from dict.fromkeys(chain([ASK, ("cancel",)], *BRINGS.values()))


def _play(program: Iterable[Act], slow: bool, swept: Swept, *, peer_first: bool = False) -> Place | None:
    """Plays a program on a new connection; tells where it leads. None: something in it cannot be done there."""
    loop = ScheduledLoop(PeerFirst(), Level.LANES) if peer_first else ScheduledLoop()
    witness = Insider(Options(ping_interval=None))
    witness.forces = True
    make: Make = lambda app: Acceptor(Service(app, witness.options), set())  # noqa: E731
    x = Exchange(loop, make, witness, room=1 if slow else 65536, high=0 if slow else None)
    swept.runs += 1
    try:
        done = all(_do(x, witness, act) for act in program)
        return witness.place() if done else None
    except Broken as broken:
        swept.failures.append(f"{broken}\n{x.told()}")
        return None
    finally:
        swept.situations |= witness.situations
        loop.dispose()


def _do(x: Exchange, witness: Insider, act: Act) -> bool:
    match act:
        case ("idle",):
            x.idle()
        case ("run", count):
            x.run(int(count))
        case ("ask",) if x.serves and len(x.calls) < 6:
            x.ask()
        case ("cancel",) if x.calls:
            x.cancel(len(x.calls) - 1)
        case ("send", event) if x.serves and len(x.calls) < 6:
            x.send(dict(cover.MESSAGES[event]))
        case ("end", how) if x.called:
            x.end(AppError("the app") if how == "raises" else None)
        case ("peer", "peer_message") if not x.far.ended:
            x.peer_sends("hello")
        case ("peer", "peer_ping") if not x.far.ended:
            x.peer_pings()
        case ("peer", "peer_close") if not x.far.ended:
            x.peer_closes(1001)
        case ("peer", "peer_violation") if not x.far.ended:
            x.peer_violates("reserved_bits")
        case ("peer_ends",) if not x.far.ended:
            x.peer_ends()
        case ("peer_resets",) if not x.far.gone:
            x.peer_resets()
        case ("flood",) if not x.far.ended:
            x.peer_floods()
        case ("drain",) if x.far.unread:
            while x.transport.get_write_buffer_size() > 1:
                x.peer_reads()
                x.run(2)
            x.peer_reads()  # so that the last byte can be written
        case ("shut_down",):
            x.shut_down()
        case ("time_out", timer) if witness.session is not None:
            session = witness.session
            x.loop.call_now(lambda: session.time_out(timer))
        case _:
            return False
    return True
