"""The parts of the Promela text that are about the system and about no property.

`Answers` is the compiled machine as Promela, `options` is everything that may happen, and `MODEL` is the rest: the
queues, the effects and the steps, written by hand. `promela` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wslifecycle.statemachine.flatten import Answer, Flat
from wslifecycle.statemachine.model import Actor
from wslifecycle.statemachine.model import Kind as Refusal

# ------------------------------------------------------------------------------------------------ the machine's answers


class Answers:
    """The compiled machine as Promela: what it does in a state, grouped where it does the same."""

    def __init__(self, flat: Flat) -> None:
        self.flat = flat
        self.gifts = [name for name, event in flat.spec.events.items() if event.actor is Actor.GIVEN]
        ends = [name for name in self.gifts if flat.spec.events[name].message == "websocket.disconnect"]
        given = [answer.gives for name in ends for answer in self._all(name) if answer.refusal is None]
        self.told = {gives: number for number, gives in enumerate(dict.fromkeys(given), 1)}
        everything = [answer for name in flat.spec.events for answer in self._all(name)]
        done = dict.fromkeys(_effects(answer) for answer in everything if answer.effects)
        self.done: dict[tuple[str, ...], int] = {(): 0} | {effects: number for number, effects in enumerate(done, 1)}

    def _all(self, event: str) -> Iterator[Answer]:
        for state in self.flat.state_of:
            for _, answer in self.flat.guarded_by(event, state):
                yield answer

    def fact(self, name: str) -> str:
        """How a fact is asked for."""
        if self.flat.bits[name] == self.flat.waiting:
            return "(len(unread) > 0)"
        return f"fact_{name}" if self.flat.spec.facts[name].fixed else "false"

    def _case(self, event: str, case: int) -> str:
        read = self.flat.facts_read(event)
        return " && ".join(self.fact(name) if case & bit else f"!{self.fact(name)}" for name, bit in read)

    def grouped(self, event: str, same: Callable[[Answer], str]) -> dict[str, str]:
        """What is the same of the answers to an event, each with the condition in which it is given."""
        found: dict[tuple[str, str], list[str]] = {}
        for state in self.flat.state_of:
            cases = {number: same(answer) for number, answer in self.flat.guarded_by(event, state)}
            always = len(set(cases.values())) == 1
            for number, text in list(cases.items())[: 1 if always else None]:
                found.setdefault((text, "" if always else self._case(event, number)), []).append(state)
        conditions: dict[str, list[str]] = {}
        for (text, case), states in found.items():
            where = " || ".join(f"state == {state_name(state)}" for state in states)
            conditions.setdefault(text, []).append(f"({where}) && {case}" if case else where)
        return {
            text: alternatives[0] if len(alternatives) == 1 else " || ".join(f"({each})" for each in alternatives)
            for text, alternatives in conditions.items()
        }

    def where(self, event: str, so: Callable[[Answer], bool]) -> str:
        """The condition in which the answer to an event is so; "" for never."""
        return self.grouped(event, lambda answer: "so" if so(answer) else "").get("so", "")

    def table(self) -> Iterator[str]:
        """The lines of `answer()`."""
        for event in self.flat.spec.events:
            yield f":: event == {event_name(event)} ->"
            yield "   if"
            for text, condition in self.grouped(event, self._consequence).items():
                yield f"   :: {condition} -> {text}"
            yield "   fi"

    def _consequence(self, answer: Answer) -> str:
        if answer.refusal is not None:
            return f"refusal = r_{answer.refusal}"
        steps = [f"state = {state_name(answer.target)}"] if answer.moves else []
        steps += [f"does = {self.done[_effects(answer)]}"] if answer.effects else []
        if answer.gives in self.told and self.flat.spec.events[answer.event].message == "websocket.disconnect":
            steps.append(f"given = {self.told[answer.gives]}")
        return "; ".join(steps) or "skip"

    def carried_out(self) -> Iterator[str]:
        """The lines of `carry_out()`."""
        for effects, number in self.done.items():
            if effects:
                yield f":: does == {number} -> {'; '.join(effects)}"


def _effects(answer: Answer) -> tuple[str, ...]:
    """The effects of an answer as calls of inlines; those that nothing around the machine sees do nothing."""
    return tuple(
        f"{call.effect}(timer_{dict(call.fields)['timer']})"
        if call.effect in ("start_timer", "cancel_timer")
        else f"{call.effect}()"
        for call in answer.effects
    )


def state_name(name: str) -> str:
    """How a state of the machine is called."""
    return f"s_{name.replace('/', '_')}"


def event_name(name: str) -> str:
    """How an event or an action is called."""
    return f"e_{name}"


# ------------------------------------------------------------------------------------------------ what may happen


@dataclass(frozen=True, slots=True)
class Option:
    """An action that may be chosen: when, as which event of the machine, with which letter."""

    action: str
    guard: str
    event: str = ""
    letter: str = ""

    def text(self) -> str:
        """The option of the `do` loop."""
        steps = [f"action = {event_name(self.action)}", f"event = {event_name(self.event or self.action)}"]
        return f":: {self.guard} -> {'; '.join(steps + ([f'letter = {self.letter}'] if self.letter else []))}"


def options(flat: Flat, answers: Answers) -> Iterator[Option]:
    """Everything that may happen. What keeps a message where no more fits may not."""
    for option in _options(flat, answers):
        event = option.event or option.action
        keeps = answers.where(event, _has("keep_message")) if event in flat.spec.events else ""
        room = f" && (len(unread) <= QUEUE || !({keeps}))" if keeps else ""
        yield Option(option.action, option.guard + room, option.event, option.letter)


def _options(flat: Flat, answers: Answers) -> Iterator[Option]:
    for event in flat.spec.events.values():
        if event.actor is Actor.APP and event.message and event.name != "app_send":
            yield Option(event.name, "true")
    yield Option("app_send", "true", letter="NEXT(by_app)")
    yield Option("app_send", "follows == nobody", letter="L_f")
    for name in ("app_return", "app_raise"):
        again = answers.where(name, _possible)
        yield Option(name, f"called || {again}" if again else "called")
    yield Option("app_waited", "sending && (OVER || len(written) <= QUEUE / 2)")
    yield Option("app_asks", "receiving < RECEIVERS")
    yield Option("app_cancels", "receiving > 0")
    yield from _gives(answers)
    yield Option("peer_lost", "CONNECTED")
    for name in ("peer_violation", "peer_eof"):
        yield Option(name, "CONNECTED && !upgraded")
    early = {name: answers.where(name, _possible) for name in ("peer_message", "peer_close", "peer_ping")}
    heard = {name: f"(HEARD || EARLY && ({where}))" if where else "HEARD" for name, where in early.items()}
    yield Option("peer_message", heard["peer_message"], letter="NEXT(by_peer)")
    yield Option("peer_message", f"{heard['peer_message']} && follows == nobody", letter="L_f")
    for name in ("peer_close", "peer_violation", "peer_eof", "peer_ping"):
        yield Option(name, heard.get(name, "HEARD"))
    for name, letters in (("peer_message", "afb"), ("peer_close", "CN"), ("peer_violation", "V"), ("peer_eof", "E")):
        first = " || ".join(f"held?[L_{letter}]" for letter in letters)
        yield Option("decodes", f"CONNECTED && upgraded && !paused && ({first})", name)
    yield Option("peer_writes", "HOLDS", letter="NEXT(by_peer)")
    yield Option("peer_writes", "HOLDS && follows == nobody", letter="L_f")
    for letter in "CN":
        yield Option("peer_writes", "HOLDS", letter=f"L_{letter}")
    for letter in "VE":
        yield Option("peer_writes", "HOLDS && upgraded", letter=f"L_{letter}")
    yield Option("peer_reads", "CONNECTED && len(written) > 0")
    yield Option("transport_ends", "transport == ending && len(written) == 0")
    yield Option("deadline", "transport == ending && timer_deadline")
    yield Option("transport_tells", "transport == cut", "peer_lost")
    yield Option("server_shutdown", "true")
    for timer in flat.spec.timers.values():
        yield Option(timer.event, f"timer_{timer.name}")
        yield Option("late", f"!timer_{timer.name}", timer.event)


def _gives(answers: Answers) -> Iterator[Option]:
    """A receive() gets what is not refused; else the refusal that does not only mean that it has to wait."""
    obeyed = {gift: answers.where(gift, lambda answer: answer.refusal is None) for gift in answers.gifts}
    failed = {gift: answers.where(gift, _fails) for gift in answers.gifts}
    for gift, condition in obeyed.items():
        if condition:
            yield Option("gives", f"receiving > 0 && ({condition})", gift)
    for gift, condition in failed.items():
        if condition:
            none = [f"!({other})" for other in obeyed.values() if other]
            yield Option("gives", " && ".join(["receiving > 0", f"({condition})", *none]), gift)


def _fails(answer: Answer) -> bool:
    return answer.refusal not in (None, Refusal.NOT_DUE)


def _possible(answer: Answer) -> bool:
    return answer.refusal is not Refusal.IMPOSSIBLE


def _has(effect: str) -> Callable[[Answer], bool]:
    return lambda answer: any(call.effect == effect for call in answer.effects)


# ------------------------------------------------------------------------------------------------ all else


MODEL = """\
/* $title: the machine among an app, a peer, a transport, timers and queues.
 * Generated by wslifecycle; what it means is said in system.py, where the same is written in Python.
 */
#define QUEUE $queue
#define RECEIVERS $receivers
#define HAS_DEADLINE $deadline

/* letters: messages before the one that is followed, after it, that one; a Close with and without a code; a fault; the
 * end. Of two that become one, the greater is kept.
 */
#define L_a 1
#define L_b 2
#define L_f 3
#define L_C 4
#define L_N 5
#define L_V 6
#define L_E 7
#define nobody 0
#define by_app 1
#define by_peer 2
#define NEXT(who) (follows == who -> L_b : L_a)

/* how far the transport is */
#define up 0
#define half 1
#define ending 2
#define cut 3
#define gone 4

$constants

/* the state of the system */
byte state = $initial;
$facts
bool called = true, upgraded, responded, close_sent, sending, paused, bounded = true, timer_deadline;
byte receiving, transport, told, follows;
$timers
chan unread = [QUEUE + 2] of { byte }; /* one over the bound, and one for a machine that keeps a message twice */
chan held = [QUEUE + 1] of { byte };
chan written = [QUEUE + 1] of { byte };

/* the step that is being taken; nothing between steps */
byte action, event, letter;
hidden byte refusal, does, given, mark, other, turn;
hidden byte wrote, followed, later, dropped, differs, twice;
hidden byte was_state, was_receiving, was_transport, was_told;
hidden byte was_called, was_upgraded, was_responded, was_close_sent, was_sending, was_paused, was_unread;
hidden byte was_written, was_followed;
hidden byte $were;
$asked
#define OVER (close_sent || transport != up)
#define CONNECTED (transport < cut)
#define HEARD (CONNECTED && upgraded && len(held) == 0 && !paused)
#define EARLY (transport == up && !upgraded)
#define ROOM (len(held) < QUEUE && !(held??[L_E]))
#define HOLDS (CONNECTED && !responded && ROOM && (!upgraded || paused || len(held) > 0))
$macros
#define STUCK (transport == gone && (receiving > 0 && !CAN_gives || sending && !(CAN_app_waited && !WAITS_ON)))

/* ---- the queues */

inline forget(queue) { do :: len(queue) > 0 -> queue?_ :: else -> break od }

inline lose() {
  dropped = was_written;
  followed = followed || was_followed;
  forget(written)
}

inline write(what) { /* where nothing more fits, it joins the last */
  wrote = true;
  if
  :: len(written) <= QUEUE -> written!what
  :: else ->
     turn = 0;
     do :: turn < QUEUE -> written?other; written!other; turn++ :: else -> break od;
     written?other;
     written!(other > what -> other : what)
  fi
}

inline resume() { paused = false; bounded = false }

/* ---- the effects that are seen around the machine */

inline complete_handshake() { upgraded = true; write(L_a) }
inline send_response() { responded = true; forget(held); write(L_a) }
inline send_head() { responded = true; forget(held); write(L_a) }
inline send_body() { write(L_a) }
inline end_response() { write(L_a) }
inline send_message() { write(letter) }
inline send_close() { close_sent = true; write(L_a) }
inline end_sending() { transport = (transport < half -> half : transport) }
inline end_transport() {
  resume();
  if :: transport < ending -> transport = ending; timer_deadline = HAS_DEADLINE :: else fi
}
inline abort_transport() {
  resume();
  forget(held);
  lose();
  timer_deadline = false;
  transport = (transport < cut -> cut : transport)
}
inline resume_reading() { resume() }
inline keep_message() { unread!letter; paused = paused || (bounded && len(unread) > QUEUE) }
inline take_message() {
  if :: len(unread) > 0 -> unread?other; mark = (action == e_gives -> other : mark) :: else fi;
  paused = paused && len(unread) > QUEUE / 2
}
inline start_timer(timer) { timer = true }
inline cancel_timer(timer) { timer = false }
$nothing

/* ---- a step */

inline remember() {
  was_state = state; was_receiving = receiving; was_transport = transport; was_told = told; was_called = called;
  was_upgraded = upgraded; was_responded = responded; was_close_sent = close_sent; was_sending = sending;
  $remember_timers
  was_paused = paused; was_unread = len(unread) > 0; was_written = len(written) > 0; was_followed = written??[L_f];
  refusal = 0; does = 0; given = 0; wrote = false; followed = false; later = false; dropped = false; differs = false;
  letter = (letter == 0 -> L_a : letter);
  mark = letter
}

inline begin() { /* what the action does, whatever the machine says */
  if
  :: action == e_app_return || action == e_app_raise -> called = false
  :: action == e_app_asks -> receiving++
  :: action == e_app_cancels || action == e_gives -> receiving--
  :: action == e_peer_writes -> held!letter
  :: action == e_decodes -> held?letter; mark = letter
  :: action == e_peer_reads -> written?mark
  :: action == e_transport_ends || action == e_deadline ->
     transport = cut; timer_deadline = false; forget(held);
     if :: action == e_deadline -> lose() :: else fi
  :: action == e_peer_lost || action == e_transport_tells ->
     transport = gone; timer_deadline = false; $stop;
     if :: action == e_peer_lost -> forget(held); lose() :: else fi
  $run_out
  :: else
  fi
}

inline answer() { /* of the machine: its next state, the number of what it does, or a refusal */
  if
  $table
  :: else /* not of the machine */
  fi
}

inline carry_out() {
  if
  $carried_out
  :: else
  fi
}

inline end() { /* what the answer means to who waits, and to the message that is followed */
  if :: SENDS && wrote && !OVER && len(written) > QUEUE -> sending = true :: else fi;
  if :: action == e_gives && given > 0 -> differs = (told > 0 && told != given); told = given :: else fi;
  if
  :: letter == L_f && refusal == 0 && (action == e_app_send || action == e_peer_message || action == e_peer_writes) ->
     follows = (action == e_app_send -> by_app : by_peer)
  :: else
  fi;
  followed = followed || mark == L_f;
  later = mark == L_b;
  twice = $twice
}

inline judge() {
  $judge
}

active proctype system() {
  atomic {
    $choose
    skip
  };
  do
  :: atomic {
      if
      $options
      fi;
      d_step {
        remember();
        begin();
        answer();
        if :: action == e_app_waited && refusal != r_not_due -> sending = false :: else fi;
        carry_out();
        end();
        judge();
        action = 0; event = 0; letter = 0
      }
     }
  od
}
"""
