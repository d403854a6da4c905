"""Faults planted in copies of our runtime, for a fuzzer that has to find them.

Each is a mistake that a good programmer makes: a wait in the wrong place, an event that nobody is told of, a timer that
nobody stops. Those that are `quiet` do not show in a plain conversation in the stock order of asyncio: it takes another
order, a cancelled call, a slow peer or a shutdown to see them.

`faulty` makes the protocol of a runtime with one of them in it. The copies are modules of their own: whoever imports
`wslifecycle.runtime.session` gets the true one, also while a faulty one is there.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from wslifecycle.runtime.options import Options

PACKAGE = "wslifecycle.runtime"
MODULES = ("keepalive", "wire", "session", "acceptor")
"""What is copied, in the order in which they import each other."""

RUNTIME = Path(__file__).parent.parent / "runtime"


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake: in `module` stands `new` where `old` should. `says`: what goes wrong for whom.

    `quiet`: a plain conversation in the stock order does not notice it.
    """

    name: str
    says: str
    module: str
    old: str
    new: str
    quiet: bool = True

    def planted(self, text: str) -> str:
        """The text of the module with the fault in it. Raises `ValueError` if it has no place there, or several."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"The fault {self.name!r} replaces what stands in {self.module}.py {count} times, not once."
            )
        return text.replace(self.old, self.new)


class Make(Protocol):
    """Makes the protocol of one connection, which serves this app. `options` are those of `Options`."""

    def __call__(self, app: Any, *, service_state: Any = None, **options: Any) -> asyncio.Protocol: ...


def faulty(fault: Fault | None) -> Make:
    """A runtime with this fault in it; None: a copy as it should be."""
    modules = copies(fault)
    acceptor, service = modules["acceptor"].Acceptor, modules["session"].Service

    def make(app: Any, *, service_state: Any = None, **options: Any) -> asyncio.Protocol:
        made = acceptor(service(app, Options(**options), state=service_state), set())
        return cast(asyncio.Protocol, made)

    return make


@cache
def copies(fault: Fault | None) -> Mapping[str, ModuleType]:
    """The modules, by name, with this fault in one of them."""
    if fault is not None and fault.module not in MODULES:
        raise ValueError(f"The fault {fault.name!r} is in {fault.module!r}, which is none of {', '.join(MODULES)}.")
    sources = {name: source(name, fault) for name in MODULES}
    made: dict[str, ModuleType] = {}
    with _restored():
        for name, text in sources.items():
            module = ModuleType(f"{PACKAGE}.{name}")
            # a dataclass asks for its module while it is made, and what comes next imports it
            sys.modules[module.__name__] = made[name] = module
            # a name of its own, so that no traceback and no coverage takes its lines for those of the true module
            place = f"<{name}.py with {fault.name if fault else 'no fault'}>"
            exec(compile(text, place, "exec", dont_inherit=True), module.__dict__)
    return made


def source(name: str, fault: Fault | None) -> str:
    """The text of a module, with the fault in it if that is its place."""
    text = (RUNTIME / f"{name}.py").read_text(encoding="utf-8")
    return fault.planted(text) if fault is not None and fault.module == name else text


@contextmanager
def _restored() -> Iterator[None]:
    """Puts the true modules back, whatever stands in their place inside."""
    true = {f"{PACKAGE}.{name}": importlib.import_module(f"{PACKAGE}.{name}") for name in MODULES}
    try:
        yield
    finally:
        sys.modules.update(true)


# ------------------------------------------------------------------------------------------------ what goes wrong

_TURN = """\
        try:
            while given.message is None:
                await turn
                given = self._connection.app_wants()
                if given.message is None:
                    turn = self._receivers[0] = self._loop.create_future()
            for effect in given.effects:
                if isinstance(effect, fx.Pace) and not queued:
                    await self._pace(effect.seconds)
            if given.effects:
                self.carry_out(given.effects)
            return given.message
        finally:
            self._receivers.remove(turn)
            if self._receivers:
                self._ask_again()
"""
"""How a receive() waits for its turn, and gives it up."""

FAULTS: tuple[Fault, ...] = (
    # -------------------------------------------------------------------------------------------- receive()
    Fault(
        "asks_outside_its_turn",
        "A receive() whose turn comes waits for news first, so it sleeps on what has come already.",
        "session",
        "            if self._receivers:\n                self._ask_again()\n",
        "",
    ),
    Fault(
        "keeps_its_turn",
        "A receive() that is cancelled keeps its turn, so every later one waits for ever.",
        "session",
        _TURN,
        """\
        while given.message is None:
            await turn
            given = self._connection.app_wants()
            if given.message is None:
                turn = self._receivers[0] = self._loop.create_future()
        for effect in given.effects:
            if isinstance(effect, fx.Pace) and not queued:
                await self._pace(effect.seconds)
        if given.effects:
            self.carry_out(given.effects)
        self._receivers.remove(turn)
        if self._receivers:
            self._ask_again()
        return given.message
""",
    ),
    Fault(
        "takes_the_news_along",
        "A receive() that is cancelled when something has come takes the news with it: the next one sleeps on it.",
        "session",
        "            if self._receivers:\n                self._ask_again()\n",
        "            if self._receivers and given.message is not None:\n                self._ask_again()\n",
    ),
    Fault(
        "turn_of_its_own",
        "A receive() that was asked in vain takes a new turn, so a later call may be answered before an earlier one.",
        "session",
        "                    turn = self._receivers[0] = self._loop.create_future()\n",
        "                    self._receivers.remove(turn)\n"
        "                    turn = self._loop.create_future()\n"
        "                    self._receivers.append(turn)\n",
    ),
    Fault(
        "jumps_the_queue",
        "A receive() takes what is due though others wait, so it overtakes one that is about to wake.",
        "session",
        "        given = WAIT if queued else self._connection.app_wants()\n",
        "        given = self._connection.app_wants()\n",
    ),
    Fault(
        "woken_twice",
        "News for a receive() that is about to wake is an error, so what the peer sends next drops the connection.",
        "session",
        "        if not turn.done():\n            turn.set_result(None)\n",
        "        turn.set_result(None)\n",
        quiet=False,
    ),
    Fault(
        "wakes_the_last",
        "News is for the receive() that was called last, and those that wait for longer are answered behind it.",
        "session",
        "        turn = self._receivers[0]\n",
        "        turn = self._receivers[-1]\n",
    ),
    Fault(
        "asked_in_vain",
        "A receive() that was asked in vain waits where nobody looks, and is not asked again.",
        "session",
        "                    turn = self._receivers[0] = self._loop.create_future()\n",
        "                    turn = self._loop.create_future()\n",
        quiet=False,
    ),
    Fault(
        "yields_before_it_gives",
        "A message is taken and then a turn of the loop awaited: a receive() that is cancelled there loses it.",
        "session",
        "                self.carry_out(given.effects)\n            return given.message\n",
        "                self.carry_out(given.effects)\n            await asyncio.sleep(0)  # others may go on\n"
        "            return given.message\n",
    ),
    Fault(
        "yields_on_the_short_way",
        "A message that was there is taken and then a turn awaited: a receive() that is cancelled there loses it.",
        "session",
        "        if given.message is not None and not given.effects:\n",
        "        if given.message is not None and not given.effects:\n"
        "            await asyncio.sleep(0)  # a loop of receive() lets others go on\n",
    ),
    Fault(
        "shielded_receive",
        "What a cancelled receive() has begun goes on unseen, takes the next message and drops it.",
        "session",
        _TURN,
        """\

        async def due(given: Given, turn: asyncio.Future[None]) -> Given:
            try:
                while given.message is None:
                    await turn
                    given = self._connection.app_wants()
                    if given.message is None:
                        turn = self._receivers[0] = self._loop.create_future()
                return given
            finally:
                self._receivers.remove(turn)
                if self._receivers:
                    self._ask_again()

        given = await asyncio.shield(asyncio.ensure_future(due(given, turn)))  # so that nothing is lost half way
        for effect in given.effects:
            if isinstance(effect, fx.Pace) and not queued:
                await self._pace(effect.seconds)
        if given.effects:
            self.carry_out(given.effects)
        return given.message
""",
    ),
    Fault(
        "cancel_undoes",
        "A receive() that is cancelled puts back the state that it found, and undoes what has happened since.",
        "session",
        "                await turn\n",
        """\
                found = self._connection.state
                try:
                    await turn
                except asyncio.CancelledError:
                    self._connection.state = found  # as if it had never been called
                    raise
""",
    ),
    Fault(
        "connect_again",
        "As long as the app has not answered the handshake, each receive() gives it websocket.connect.",
        "session",
        "                await turn\n",
        '                if self._connection.state.startswith("handshake"):\n'
        '                    return {"type": "websocket.connect"}\n'
        "                await turn\n",
    ),
    Fault(
        "news_for_one",
        "The first disconnect is news, its repeats are not: of several receive() that wait only one is told.",
        "session",
        "            for effect in given.effects:\n                if isinstance(effect, fx.Pace) and not queued:\n",
        "            if queued and given.effects and isinstance(given.effects[0], fx.Pace):\n"
        "                turn = self._receivers[0] = self._loop.create_future()\n"
        "                await turn\n"
        "            for effect in given.effects:\n                if isinstance(effect, fx.Pace) and not queued:\n",
    ),
    Fault(
        "unpaced",
        "When the last repeat was given is not kept, so an app that ignores the disconnect eats a core.",
        "session",
        "        self._paced = self._loop.time()\n",
        "",
    ),
    # -------------------------------------------------------------------------------------------- news
    Fault(
        "shutdown_is_no_news",
        "A receive() that waits is not told of the shutdown before the peer answers to it.",
        "session",
        "        self.happened(self._connection.shutdown())\n",
        "        self.carry_out(self._connection.shutdown())\n",
    ),
    Fault(
        "timeout_is_no_news",
        "A receive() that waits is not told that the peer is silent before the transport is gone.",
        "session",
        "        self.happened(self._connection.timed_out(timer))\n",
        "        self.carry_out(self._connection.timed_out(timer))\n",
    ),
    Fault(
        "violation_is_no_news",
        "A receive() that waits is not told that the peer broke the protocol before the transport is gone.",
        "session",
        "                self.happened(self._connection.peer_violated(code, complaint))\n",
        "                self.carry_out(self._connection.peer_violated(code, complaint))\n",
    ),
    Fault(
        "return_is_no_news",
        "A background task of the app that waits in receive() is not told when the app returns.",
        "session",
        "        effects = self._connection.app_returned()\n        self.happened(effects)\n",
        "        effects = self._connection.app_returned()\n        self.carry_out(effects)\n",
    ),
    Fault(
        "loss_is_no_news",
        "A receive() that waits when the peer resets the connection waits for ever.",
        "session",
        "            self.happened(self._connection.peer_lost())\n",
        "            self.carry_out(self._connection.peer_lost())\n",
    ),
    # -------------------------------------------------------------------------------------------- send()
    Fault(
        "waits_before_it_decides",
        "A send() waits for the transport before it does anything: behind a slow peer an app cannot even close.",
        "session",
        "        effects = self._connection.app_sent(message)\n",
        "        if self._full is not None:\n"
        "            await self._full.wait()\n"
        "        effects = self._connection.app_sent(message)\n",
    ),
    Fault(
        "waits_before_it_writes",
        "A message is judged, waits for the transport, and is written then, be it behind the Close.",
        "session",
        "            self._send_message(effects[0].data)  # nothing that a receive() waits for has happened\n",
        "            if self._full is not None:\n"
        "                await self._full.wait()\n"
        "            self._send_message(effects[0].data)\n",
    ),
    Fault(
        "yields_before_it_writes",
        "A turn of the loop lies between what is decided and what is written, and anything may happen in it.",
        "session",
        "        effects = self._connection.app_sent(message)\n",
        "        effects = self._connection.app_sent(message)\n"
        "        await asyncio.sleep(0)  # a loop of send() lets others go on\n",
    ),
    Fault(
        "waits_for_the_transport_only",
        "A send() that waits for a transport which ends instead waits for ever.",
        "session",
        "        if self._full is not None:\n            self._full.set()\n",
        "        if self._full is not None and not self._transport.is_closing():\n            self._full.set()\n",
    ),
    Fault(
        "end_holds_send",
        "When the peer ends its side, a send() that waits is not told as long as the transport flushes.",
        "session",
        "        self._let_send_go_on()\n        match effect:\n",
        "        match effect:\n",
    ),
    Fault(
        "close_holds_send",
        "When the app closes, a send() that waits is not told before the peer has answered.",
        "session",
        "                self._let_send_go_on()  # whoever waits in it is told that it is over\n",
        "",
    ),
    Fault(
        "waited_in_vain",
        "A send() that waited when the connection ended returns as if its message had gone out.",
        "session",
        "        if not self._connection.app_waited():\n"
        "            await self._loop.create_future()  # for ever, as the profile has it\n",
        "",
    ),
    Fault(
        "never_goes_on",
        "A send() that waits does not go on when the peer has read everything: what it waits for is forgotten first.",
        "session",
        "        self._let_send_go_on()\n        self._full = None\n",
        "        self._full = None\n        self._let_send_go_on()\n",
    ),
    Fault(
        "writes_if_it_reads",
        "If reading is paused when the transport takes more again, a send() that waits is forgotten.",
        "session",
        "        self._let_send_go_on()\n        self._full = None\n",
        "        if self._connection.reads:\n            self._let_send_go_on()\n        self._full = None\n",
    ),
    Fault(
        "silent_when_closing",
        "Behind the end every send() returns as if nothing were wrong, an accept after a loss, too.",
        "session",
        "        effects = self._connection.app_sent(message)\n",
        "        if self._transport.is_closing():\n            return  # nobody is there\n"
        "        effects = self._connection.app_sent(message)\n",
    ),
    Fault(
        "own_close_waits",
        "A close() whose frame fills the transport waits, and is then told that the connection has ended.",
        "session",
        "_LAST = frozenset((fx.SendClose, fx.EndTransport))\n",
        "_LAST = frozenset((fx.EndTransport,))\n",
    ),
    # -------------------------------------------------------------------------------------------- messages together
    Fault(
        "last_answer_first",
        "The answer to the last message that waited is written at once, before those that are held together.",
        "session",
        "            if not self._corked and not self._connection.has_unread:\n",
        "            if not self._connection.has_unread:\n",
    ),
    Fault(
        "close_before_answers",
        "A Close is written before the messages that are held together: the peer never sees them.",
        "session",
        "            self._uncork()\n            self._transport.write(data)\n",
        "            self._transport.write(data)\n",
    ),
    Fault(
        "answers_behind_the_end",
        "When the peer ends its side, the messages that are held together are written behind the end, and so dropped.",
        "session",
        "        self._uncork()\n        self._let_send_go_on()\n        match effect:\n",
        "        self._let_send_go_on()\n        match effect:\n",
    ),
    Fault(
        "answers_held_back",
        "Messages that are held together wait until the app waits in receive(), which it need not do.",
        "session",
        "        if not self._corked:\n            self._loop.call_soon(self._uncork)\n        self._corked",
        "        self._corked",
    ),
    # -------------------------------------------------------------------------------------------- the peer's bytes
    Fault(
        "rest_lost",
        "What the peer sends in one segment with its request is dropped.",
        "session",
        "        self.data_received(request.rest)\n        return self._task\n",
        "        return self._task\n",
    ),
    Fault(
        "held_a_turn_later",
        "What came before the accept is decoded a turn later, behind what comes meanwhile.",
        "session",
        "            self.data_received(self._wire.release())  # before anything else can happen (C14)\n",
        "            asyncio.get_running_loop().call_soon(self.data_received, self._wire.release())\n",
    ),
    Fault(
        "held_forgotten",
        "What came before the accept is dropped with it.",
        "wire",
        "        self.feed = self._codec.feed\n",
        "        self.feed = self._codec.feed\n"
        "        self._held = Held(None, keep=False)  # nothing is held any more\n",
    ),
    Fault(
        "leftovers_wait",
        "What was read before a pause is not told when reading goes on, before the connection ends.",
        "session",
        "        self._loop.call_soon(self._decode_on)\n        if not",
        "        if not",
    ),
    Fault(
        "overtakes_leftovers",
        "What the peer sends when a pause has just ended is told at once, and what was read before is lost.",
        "session",
        "        if self._decoding is None:\n            self._decode(iter(events))\n",
        "        if self._decoding is None or self._connection.reads:\n            self._decode(iter(events))\n",
    ),
    Fault(
        "reads_if_it_writes",
        "If writing is paused when the app has read enough, reading is not resumed.",
        "session",
        "                self._transport.resume_reading()\n",
        "                if self._full is None:\n                    self._transport.resume_reading()\n",
    ),
    Fault(
        "pauses_a_turn_later",
        "An app that reads at once resumes reading before it is paused, and then it stays paused.",
        "session",
        "            self._transport.pause_reading()\n",
        "            asyncio.get_running_loop().call_soon(self._transport.pause_reading)\n",
    ),
    Fault(
        "pauses_nothing",
        "The transport is never paused: a peer fills the memory of an app that does not ask.",
        "session",
        "                self._transport.pause_reading()\n",
        "                pass\n",
    ),
    Fault(
        "pauses_if_more_is_left",
        "A pause that falls on the last message of a segment is forgotten: a peer fills the memory of a deaf app.",
        "session",
        "                    self._decoding = events\n                    return\n",
        "                    left = next(events, None)\n"
        "                    self._decoding = None if left is None else itertools.chain((left,), events)\n"
        "                    return\n",
    ),
    Fault(
        "loss_before_leftovers",
        "What was read before a pause is told behind the loss of the connection, and so it is dropped.",
        "session",
        "            self._decode_on(whole=True)\n            self.happened(self._connection.peer_lost())\n",
        "            self.happened(self._connection.peer_lost())\n            self._decode_on(whole=True)\n",
    ),
    Fault(
        "fault_forgotten",
        "A fault of the peer that has to wait until messages before it can be answered is never told.",
        "session",
        "                self._decode_soon(iter((event,)))",
        "                self._decode_soon(iter(()))",
    ),
    Fault(
        "pong_dropped",
        "A Ping that comes while writing is paused is never answered.",
        "session",
        "            case fx.SendPong():\n",
        "            case fx.SendPong() if self._full is not None:\n"
        "                pass  # this peer does not read\n"
        "            case fx.SendPong():\n",
    ),
    Fault(
        "pong_waits_on",
        "A Pong that waits for a slow peer is not sent when it has read, before it sends more.",
        "session",
        "        self._set_patience()\n        self._flush_pong()\n",
        "        self._set_patience()\n",
    ),
    Fault(
        "pong_after_eof",
        "A Pong that waits is written behind the end of our side: the transport breaks off.",
        "session",
        "        self._pong = None\n        self._uncork()\n        self._let_send_go_on()\n        if not",
        "        self._uncork()\n        self._let_send_go_on()\n        if not",
    ),
    # -------------------------------------------------------------------------------------------- the end
    Fault(
        "fails_by_closing",
        "A peer at fault that sends more is reset, so that it never reads the Close which says why.",
        "session",
        "        if not self._transport.can_write_eof():\n            self._transport.close()\n"
        "        elif not self._transport.is_closing():  # uvloop minds\n            end_writing(self._transport)\n",
        "        self._transport.close()\n",
    ),
    Fault(
        "last_bytes_lost",
        "The transport is aborted where it should flush: a slow peer loses the last messages.",
        "session",
        "                self._transport.close()\n                if deadline is not None:\n",
        "                self._transport.abort()\n                if deadline is not None:\n",
    ),
    Fault(
        "gentle_abort",
        "A transport that should be dropped is closed instead: a peer that does not read holds it for ever.",
        "session",
        "                self._transport.abort()\n",
        "                self._transport.close()\n",
    ),
    Fault(
        "deadline_closes",
        "At its deadline a transport is closed again and not aborted: a peer that does not read holds it for ever.",
        "session",
        'self._timers["end"] = self._loop.call_later(deadline, self._transport.abort)\n',
        'self._timers["end"] = self._loop.call_later(deadline, self._transport.close)\n',
    ),
    Fault(
        "shutdown_a_turn_later",
        "A shutdown is decided at once and carried out a turn later: a Close of the peer overtakes ours.",
        "session",
        "        self.happened(self._connection.shutdown())\n",
        "        asyncio.get_running_loop().call_soon(self.happened, self._connection.shutdown())\n",
    ),
    Fault(
        "reset_cancels_the_app",
        "A reset cancels the app, which should live on and clean up.",
        "session",
        '            if self._task is not None and self._service.options.lifecycle.flat.value("C18", "on_loss"):\n',
        "            if self._task is not None and exc is not None:\n",
    ),
    Fault(
        "cancelled_app_stays_open",
        "When the app is cancelled its connection stays open, and nobody closes it.",
        "session",
        "        except BaseException as error:\n",
        "        except Exception as error:\n",
    ),
    # -------------------------------------------------------------------------------------------- timers
    Fault(
        "first_timer_missing",
        "An app that never answers the handshake is waited for without an end.",
        "session",
        "        self.carry_out(self._connection.started())\n",
        "        self._connection.started()\n",
    ),
    Fault(
        "timer_only_forgotten",
        "A timer that should end is forgotten and not cancelled: it runs out behind the end of the connection.",
        "session",
        "            self._timers.pop(timer).cancel()\n",
        "            del self._timers[timer]\n",
    ),
    Fault(
        "timers_outlive",
        "The timers are not cancelled when the transport is gone, and hold a dead connection.",
        "session",
        "            for timer in self._timers.values():\n                timer.cancel()\n            self._keepalive",
        "            self._timers.clear()\n            self._keepalive",
    ),
    Fault(
        "impatient_once",
        "After a pause of reading the Pongs are waited for without an end, so a dead peer is never found.",
        "session",
        "            self._read_on()\n        self._set_patience()\n",
        "            self._read_on()\n",
    ),
    Fault(
        "patient_with_the_dead",
        "A peer that neither reads nor is read is waited for without an end.",
        "session",
        "        if self._connection.reads or self._full is not None:\n",
        "        if self._connection.reads:\n",
    ),
    Fault(
        "old_timer_runs_on",
        "The end of patience is not cancelled by a Pong: a peer that answers is failed all the same.",
        "keepalive",
        "    def _arm(self) -> None:\n        self._cancel()\n",
        "    def _arm(self) -> None:\n",
    ),
    Fault(
        "patience_runs_on",
        "A peer is failed for a Pong that waits with us, unread, since reading is paused.",
        "keepalive",
        "        self._patience = seconds\n        if self._payload is not None:\n            self._arm()\n",
        "        self._patience = seconds\n",
    ),
    Fault(
        "late_pong_begins_anew",
        "A Pong that comes behind our Close begins the Pings anew.",
        "keepalive",
        "        self._cancel()\n        self._payload = None\n",
        "        self._cancel()\n",
    ),
    # -------------------------------------------------------------------------------------------- before the session
    Fault(
        "lingers_for_the_request",
        "A request that is completed behind the shutdown is served, and its connection stays.",
        "acceptor",
        "        if self._session is None:\n"
        "            self._read = lambda data: None\n"
        "            self._transport.close()\n",
        "        if self._session is None:\n"
        "            self._timer = asyncio.get_running_loop().call_later(LINGER, self._transport.close)\n",
    ),
    Fault(
        "request_timer_runs_on",
        "The time for the request runs on behind it: an app that takes long to accept loses its peer.",
        "acceptor",
        "                self._stop_waiting()\n                self._session = ",
        "                self._session = ",
    ),
    Fault(
        "orderly_loss_untold",
        "A session is told of a loss only if that was an error, and otherwise its timers run on.",
        "acceptor",
        "        if self._session is not None:\n            self._session.connection_lost(exc)\n",
        "        if self._session is not None and exc is not None:  # else it has ended by itself\n"
        "            self._session.connection_lost(exc)\n",
    ),
)
