"""Writes the system that is checked in TLA+, for readers.

The compiled machine becomes the table `Answer`; what is around it is written here by hand, as in `promela`, with one
record for the state of everything and an operator for each action. `step` tells what happened last, so that a property
is about states and stays close to how the spec says it. Nothing in the test suite checks the text with TLC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import Template

from wslifecycle.statemachine.check import parsed_properties
from wslifecycle.statemachine.flatten import Answer, Flat
from wslifecycle.statemachine.model import Actor, First, Property, Ref, Value
from wslifecycle.statemachine.properties import Expression, Form, Kind, Parsed, Term, write
from wslifecycle.statemachine.system import Bounds

WORDS = {"not": "~", "and": " /\\ ", "or": " \\/ "}
"""How expressions are joined."""


def tla(flat: Flat, bounds: Bounds, names: Sequence[str] = ()) -> str:
    """A module with the properties that are named; with all, if none is. Raises `LookupError` for an unknown name."""
    spec = flat.spec
    asked = list(parsed_properties(flat, names).values())
    sends = [event.name for event in spec.events.values() if event.actor is Actor.APP and event.message]
    facts = [fact.name for fact in flat.facts if fact.fixed]
    timers = {timer.name: timer.event for timer in spec.timers.values()}
    gifts = [name for name, event in spec.events.items() if event.actor is Actor.GIVEN]
    has_deadline = flat.resolve(spec.timers["close_timeout"].seconds) is not None
    values = {
        "title": f"{spec.title}, profile {flat.profile}",
        "queue": bounds.queue,
        "receivers": bounds.receivers,
        "states": "\n".join(f"{_state(state)} == <<{', '.join(map(_text, state))}>>" for state in flat.states),
        "answers": "\n    [] ".join(_answers(flat)),
        "timer_effects": "\n".join(map(_timer_effects, timers)),
        "deadline": _set(["deadline"] if has_deadline else []),
        "facts": f"\\E {', '.join(_choices(facts, bounds))} :" if facts else "",
        "fact_fields": "".join(f"{name} |-> {name}, " for name in facts),
        "initial": _state(flat.states[0]),
        "running": _set(dict(call.fields)["timer"] for call in flat.opening),
        "sends": _set(sends),
        "app": "\n".join(f"{name} == Plain({_text(name)})" for name in sends if name != "app_send"),
        "gifts": _set(gifts),
        "ends": _set(name for name in gifts if spec.events[name].message == "websocket.disconnect"),
        "timers": "\n".join(f"{event} == RunsOut({_text(name)}, {_text(event)})" for name, event in timers.items()),
        "late": " \\/ ".join(f"Late({_text(name)}, {_text(event)})" for name, event in timers.items()),
        "next": "\n  \\/ ".join([*sends, *timers.values()]),
        "seen": "\n  \\cup ".join(_seen(flat, asked)),
        "properties": "\n\n".join(_property(flat, declared, parsed) for declared, parsed in asked),
    }
    return Template(MODULE).substitute(values)


def _choices(facts: Iterable[str], bounds: Bounds) -> Iterator[str]:
    for fact in facts:
        yield f"{fact} \\in {'BOOLEAN' if bounds.facts is None else f'{{{str(fact in bounds.facts).upper()}}}'}"


def _text(text: str) -> str:
    return f'"{text}"'


def _set(texts: Iterable[str]) -> str:
    return f"{{{', '.join(map(_text, texts))}}}"


def _state(state: Sequence[str]) -> str:
    return "_".join(state)


# ------------------------------------------------------------------------------------------------ the machine


def _answers(flat: Flat) -> Iterator[str]:
    """The alternatives of `Answer`: for each event what it does, and where."""
    for event in flat.spec.events:
        where: dict[tuple[str, str], list[str]] = {}
        for state in flat.state_of:
            cases = {case: _answer(flat, answer) for case, answer in flat.guarded_by(event, state)}
            if len(set(cases.values())) == 1:
                where.setdefault(("", next(iter(cases.values()))), []).append(state)
                continue
            for case, text in cases.items():
                where.setdefault((_case(flat, event, case), text), []).append(state)
        alternatives = (
            f"x.state \\in {{{', '.join(_state(state.split('/')) for state in states)}}}{case} -> {text}"
            for (case, text), states in where.items()
        )
        joined = "\n         [] ".join(alternatives)
        yield f"event = {_text(event)} ->\n       (CASE {joined})"


def _case(flat: Flat, event: str, case: int) -> str:
    text = ""
    for name, bit in flat.facts_read(event):
        so = "x.unread # <<>>" if bit == flat.waiting else f"x.{name}" if flat.spec.facts[name].fixed else "FALSE"
        text += f" /\\ {so}" if case & bit else f" /\\ ~({so})"
    return text


def _answer(flat: Flat, answer: Answer) -> str:
    if answer.refusal is not None:
        return f"Refuses({_text(answer.refusal)})"
    does = f"<<{', '.join(_text(_effect(call.effect, dict(call.fields))) for call in answer.effects)}>>"
    to = _state(answer.target.split("/")) if answer.moves else "x.state"
    if answer.gives:
        return f"Gives({to}, {does}, {_text(', '.join(f'{key} {_value(value)}' for key, value in answer.gives))})"
    return f"Goes({to}, {does})"


def _value(value: Value) -> str:
    """A value of the spec in words that fit into a string."""
    match value:
        case Ref(scope, key):
            return f"of {scope}.{key}"
        case First(values):
            return " or ".join(map(_value, values))
    return str(value).replace("\\", "/").replace('"', "'")


def _timer_effects(timer: str) -> str:
    return (
        f'    [] effect = "start_timer {timer}" -> [x EXCEPT !.timers = @ \\cup {{{_text(timer)}}}]\n'
        f'    [] effect = "cancel_timer {timer}" -> [x EXCEPT !.timers = @ \\ {{{_text(timer)}}}]'
    )


def _effect(name: str, fields: Mapping[str, object]) -> str:
    return f"{name} {fields['timer']}" if name in ("start_timer", "cancel_timer") else name


# ------------------------------------------------------------------------------------------------ the properties


_CONDITIONS = {"receiving": ".receiving > 0", "unread": ".unread # <<>>", "told": '.told # ""'}


def _term(flat: Flat, term: Term) -> str:
    name, of = term.name, "s" if term.after else "step.was"
    match term.kind:
        case Kind.STATE if name.startswith("transport="):
            return f"({of}.transport = {_text(name.partition('=')[2])})"
        case Kind.STATE if name.startswith("timer="):
            return f"({_text(name.partition('=')[2])} \\in {of}.timers)"
        case Kind.STATE if "=" in name:
            region, local = name.split("=")
            return f"({of}.state[{flat.regions.index(region) + 1}] = {_text(local)})"
        case Kind.STATE:
            return f"({of}{_CONDITIONS[name]})" if name in _CONDITIONS else f"{of}.{name}"
        case Kind.EVENT:
            return f"Event({_text(name)})"
        case Kind.EFFECT if name in ("start_timer", "cancel_timer"):
            return "(" + " \\/ ".join(f"Effect({_text(f'{name} {timer}')})" for timer in flat.spec.timers) + ")"
        case Kind.EFFECT:
            return f"Effect({_text(name)})"
        case Kind.MARK:
            return f"({_text(name)} \\in step.marks)"
        case Kind.WORD:
            known = {"refused": '(step.refused # "")', "moved": "(step.was.state # s.state)"}
            return known.get(name, f"(step.refused = {_text(name)})")


def _write(flat: Flat, expression: Expression) -> str:
    return write(expression, lambda term: _term(flat, term), WORDS)


def _property(flat: Flat, declared: Property, parsed: Parsed) -> str:
    a = _write(flat, parsed.first)
    b = _write(flat, parsed.second) if parsed.second is not None else ""
    name = f"P_{declared.name}"
    match parsed.form:
        case Form.ALWAYS:
            text = f"{name} == []({a})"
        case Form.NEVER:
            text = f"{name} == []~({a})"
        case Form.AT_MOST_ONCE:
            text = f'{name} == []~("{declared.name}" \\in seen /\\ ({a}))'
        case Form.BEFORE:
            text = f'{name} == [](({b}) => "{declared.name}" \\in seen)'
        case Form.SOMETIMES:
            text = f"Not{name} == []~({a}) \\* has to be violated"
        case Form.LEADS_TO:
            off = {timer.event for timer in flat.spec.timers.values() if flat.resolve(timer.seconds) is None}
            given = [f"WF_vars({action})" for action in declared.fair if action not in off]
            given += [f"<>[](step.action # {_text(action)})" for action in declared.rare]
            premise = "".join(f"  /\\ {each}\n" for each in given)
            text = f"{name} ==\n{premise}  => (({a}) ~> ({b}))" if given else f"{name} == ({a}) ~> ({b})"
    return f"\\* {declared.rule}: {declared.holds}\n{text}"


def _seen(flat: Flat, asked: Iterable[tuple[Property, Parsed]]) -> Iterator[str]:
    """What has to be remembered: the properties of which an A has happened."""
    yield "seen"
    for declared, parsed in asked:
        if parsed.form in (Form.AT_MOST_ONCE, Form.BEFORE):
            yield f"(IF {_write(flat, parsed.first)} THEN {{{_text(declared.name)}}} ELSE {{}})"


# ------------------------------------------------------------------------------------------------ the text


MODULE = r"""---- MODULE Lifecycle ----
(* $title: the machine among an app, a peer, a transport, timers and queues.

   Generated by wslifecycle for readers, and NOT CHECKED by its tests. What is checked is the same system in Python
   (statemachine/system.py), and in Promela by SPIN.

   `s` is the state of everything, `step` what happened last, `seen` what `at most once` and `before` have to remember.
   Every step changes `step.tick`, so that a step that changes nothing else is one. A data message is the letter "a",
   "f" the one that is followed, "b" one after it; "C" and "N" are a Close with and without a code, "V" a fault, "E" the
   end.
*)
EXTENDS Naturals, Sequences

VARIABLES s, step, seen
vars == <<s, step, seen>>

Queue == $queue
Receivers == $receivers

-----------------------------------------------------------------------------
(* The machine *)

$states

Goes(to, does) == [to |-> to, does |-> does, refused |-> "", given |-> ""]
Gives(to, does, given) == [to |-> to, does |-> does, refused |-> "", given |-> given]
Refuses(how) == [to |-> <<>>, does |-> <<>>, refused |-> how, given |-> ""]

Answer(x, event) ==
  CASE $answers
    [] OTHER -> Goes(x.state, <<>>)

-----------------------------------------------------------------------------
(* Queues and effects *)

Has(queue, what) == \E i \in 1..Len(queue) : queue[i] = what
Rank(letter) == CASE letter = "a" -> 1 [] letter = "b" -> 2 [] letter = "f" -> 3
Greater(one, other) == IF Rank(one) >= Rank(other) THEN one ELSE other
Writing ==
  {"complete_handshake", "send_response", "send_head", "send_body", "end_response", "send_message", "send_close"}
Sends == $sends
Ways == <<"up", "half", "ending", "cut", "gone">>
Place(way) == CHOOSE i \in 1..Len(Ways) : Ways[i] = way
Further(x, way) == [x EXCEPT !.transport = IF Place(@) < Place(way) THEN way ELSE @]
Resumed(x) == [x EXCEPT !.paused = FALSE, !.bounded = FALSE]
Over(x) == x.close_sent \/ x.transport # "up"

\* where nothing more fits, it joins the last
Written(x, letter) ==
  LET last == Len(x.written)
  IN IF last <= Queue THEN [x EXCEPT !.written = Append(@, letter)]
                      ELSE [x EXCEPT !.written[last] = Greater(@, letter)]

Had(x, effect, letter) ==
  CASE effect = "complete_handshake" -> Written([x EXCEPT !.upgraded = TRUE], "a")
    [] effect \in {"send_response", "send_head"} -> Written([x EXCEPT !.responded = TRUE, !.held = <<>>], "a")
    [] effect \in {"send_body", "end_response"} -> Written(x, "a")
    [] effect = "send_message" -> Written(x, letter)
    [] effect = "send_close" -> Written([x EXCEPT !.close_sent = TRUE], "a")
    [] effect = "end_sending" -> Further(x, "half")
    [] effect = "end_transport" ->
         Further([Resumed(x) EXCEPT !.timers = @ \cup IF x.transport \in {"up", "half"} THEN $deadline ELSE {}],
                 "ending")
    [] effect = "abort_transport" ->
         Further([Resumed(x) EXCEPT !.held = <<>>, !.written = <<>>, !.timers = @ \ {"deadline"}], "cut")
    [] effect = "resume_reading" -> Resumed(x)
    [] effect = "keep_message" ->
         [x EXCEPT !.unread = Append(@, letter), !.paused = @ \/ (x.bounded /\ Len(x.unread) >= Queue)]
    [] effect = "take_message" /\ x.unread # <<>> ->
         [x EXCEPT !.unread = Tail(@), !.paused = @ /\ Len(x.unread) - 1 > Queue \div 2]
$timer_effects
    [] OTHER -> x

RECURSIVE CarriedOut(_, _, _)
CarriedOut(x, does, letter) ==
  IF does = <<>> THEN x ELSE CarriedOut(Had(x, Head(does), letter), Tail(does), letter)

-----------------------------------------------------------------------------
(* The last step, for the properties: `step.was` is the state before it, `s` that after it *)

Event(name) == name \in {step.event, step.action} /\ step.refused = ""
Effect(name) == Has(step.does, name)
Remembered ==
  $seen

-----------------------------------------------------------------------------
(* A step: `begun` is what the action itself makes of s, whatever the machine answers *)

Do(action, event, letter, begun) ==
  LET answer == Answer(begun, event)
      obeyed == answer.refused = ""
      goes_on == IF action = "app_waited" /\ answer.refused # "not_due" THEN [begun EXCEPT !.sending = FALSE] ELSE begun
      did == IF obeyed THEN CarriedOut([goes_on EXCEPT !.state = answer.to], answer.does, letter) ELSE goes_on
      writes == \E i \in 1..Len(answer.does) : answer.does[i] \in Writing
      waits == event \in Sends /\ writes /\ ~Over(did) /\ Len(did.written) > Queue
      tells == obeyed /\ event \in $ends
      takes == Has(answer.does, "take_message") /\ s.unread # <<>>
      mark == IF action # "gives" THEN letter ELSE IF takes THEN Head(s.unread) ELSE "a"
      lost == action \in {"peer_lost", "deadline"} \/ Has(answer.does, "abort_transport")
      chosen == letter = "f" /\ obeyed /\ action \in {"app_send", "peer_message", "peer_writes"}
      marks == (IF mark = "f" \/ (lost /\ Has(s.written, "f")) THEN {"followed"} ELSE {})
        \cup (IF mark = "b" THEN {"later"} ELSE {})
        \cup (IF lost /\ s.written # <<>> THEN {"dropped"} ELSE {})
        \cup (IF tells /\ s.told \notin {"", answer.given} THEN {"differs"} ELSE {})
        \cup (IF \E i, j \in 1..Len(answer.does) : i < j /\ answer.does[i] = answer.does[j] THEN {"twice"} ELSE {})
  IN /\ Has(answer.does, "keep_message") => Len(s.unread) <= Queue
     /\ s' = [did EXCEPT !.sending = @ \/ waits,
                        !.told = IF tells THEN answer.given ELSE @,
                        !.follows = IF chosen THEN (IF action = "app_send" THEN "app" ELSE "peer") ELSE @]
     /\ step' = [action |-> action, event |-> event, refused |-> answer.refused, does |-> answer.does, marks |-> marks,
                  was |-> s, tick |-> 1 - step.tick]
     /\ seen' = Remembered

Plain(event) == Do(event, event, "a", s)
RunsOut(timer, event) == timer \in s.timers /\ Do(event, event, "a", [s EXCEPT !.timers = @ \ {timer}])
Late(timer, event) == timer \notin s.timers /\ Do("late", event, "a", s)
Possible(event) == Answer(s, event).refused # "impossible"
Letters(who) == IF s.follows = who THEN {"b"} ELSE IF s.follows = "" THEN {"a", "f"} ELSE {"a"}

-----------------------------------------------------------------------------
(* The app, and receive() and send() that wait *)

$app
app_send == \E letter \in Letters("app") : Do("app_send", "app_send", letter, s)
app_return == (s.called \/ Possible("app_return")) /\ Do("app_return", "app_return", "a", [s EXCEPT !.called = FALSE])
app_raise == (s.called \/ Possible("app_raise")) /\ Do("app_raise", "app_raise", "a", [s EXCEPT !.called = FALSE])
app_waited == s.sending /\ (Over(s) \/ Len(s.written) <= Queue \div 2) /\ Plain("app_waited")
app_asks == s.receiving < Receivers /\ Do("app_asks", "app_asks", "a", [s EXCEPT !.receiving = @ + 1])
app_cancels == s.receiving > 0 /\ Do("app_cancels", "app_cancels", "a", [s EXCEPT !.receiving = @ - 1])

Gifts == $gifts
Obeys(gift) == Answer(s, gift).refused = ""
Fails(gift) == Answer(s, gift).refused \notin {"", "not_due"}
gives == \E gift \in Gifts :
  /\ s.receiving > 0
  /\ Obeys(gift) \/ (Fails(gift) /\ ~\E other \in Gifts : Obeys(other))
  /\ Do("gives", gift, "a", [s EXCEPT !.receiving = @ - 1])

-----------------------------------------------------------------------------
(* The peer, the transport, the server and its clock *)

Connected == s.transport \in {"up", "half", "ending"}
Heard == Connected /\ s.upgraded /\ s.held = <<>> /\ ~s.paused
Hears(event) == Heard \/ (s.transport = "up" /\ ~s.upgraded /\ Possible(event))
Frame(letter) == CASE letter \in {"a", "b", "f"} -> "peer_message"
                   [] letter \in {"C", "N"} -> "peer_close"
                   [] letter = "V" -> "peer_violation"
                   [] letter = "E" -> "peer_eof"

peer_message == Hears("peer_message") /\ \E letter \in Letters("peer") : Do("peer_message", "peer_message", letter, s)
peer_ping == Hears("peer_ping") /\ Plain("peer_ping")
peer_close == Hears("peer_close") /\ Plain("peer_close")
peer_violation == (Heard \/ (Connected /\ ~s.upgraded)) /\ Plain("peer_violation")
peer_eof == (Heard \/ (Connected /\ ~s.upgraded)) /\ Plain("peer_eof")
decodes ==
  /\ Connected /\ s.upgraded /\ ~s.paused /\ s.held # <<>>
  /\ Do("decodes", Frame(Head(s.held)), Head(s.held), [s EXCEPT !.held = Tail(@)])
peer_writes ==
  /\ Connected /\ ~s.responded /\ (~s.upgraded \/ s.paused \/ s.held # <<>>)
  /\ Len(s.held) < Queue /\ ~Has(s.held, "E")
  /\ \E letter \in Letters("peer") \cup (IF s.upgraded THEN {"C", "N", "V", "E"} ELSE {"C", "N"}) :
       Do("peer_writes", "peer_writes", letter, [s EXCEPT !.held = Append(@, letter)])
peer_reads == Connected /\ s.written # <<>> /\
  Do("peer_reads", "peer_reads", Head(s.written), [s EXCEPT !.written = Tail(@)])
peer_lost == Connected /\
  Do("peer_lost", "peer_lost", "a",
     [s EXCEPT !.transport = "gone", !.timers = {}, !.held = <<>>, !.written = <<>>])

transport_ends == s.transport = "ending" /\ s.written = <<>> /\
  Do("transport_ends", "transport_ends", "a",
     [s EXCEPT !.transport = "cut", !.timers = @ \ {"deadline"}, !.held = <<>>])
deadline == s.transport = "ending" /\ "deadline" \in s.timers /\
  Do("deadline", "deadline", "a",
     [s EXCEPT !.transport = "cut", !.timers = @ \ {"deadline"}, !.held = <<>>, !.written = <<>>])
transport_tells == s.transport = "cut" /\
  Do("transport_tells", "peer_lost", "a", [s EXCEPT !.transport = "gone", !.timers = {}])

server_shutdown == Plain("server_shutdown")
$timers
late == $late
idle == Plain("idle") \* so that a run may do nothing for ever

-----------------------------------------------------------------------------

Init ==
  /\ $facts
     s = [state |-> $initial, ${fact_fields}called |-> TRUE,
          receiving |-> 0, upgraded |-> FALSE, responded |-> FALSE, close_sent |-> FALSE, transport |-> "up",
          timers |-> $running, told |-> "", follows |-> "", unread |-> <<>>, held |-> <<>>,
          paused |-> FALSE, bounded |-> TRUE, written |-> <<>>, sending |-> FALSE]
  /\ step = [action |-> "idle", event |-> "idle", refused |-> "", does |-> <<>>, marks |-> {}, was |-> s, tick |-> 0]
  /\ seen = {}

Next ==
  \/ $next
  \/ app_return \/ app_raise \/ app_waited \/ app_asks \/ app_cancels \/ gives
  \/ peer_message \/ peer_ping \/ peer_close \/ peer_violation \/ peer_eof
  \/ decodes \/ peer_writes \/ peer_reads \/ peer_lost
  \/ transport_ends \/ deadline \/ transport_tells \/ server_shutdown \/ late \/ idle

Spec == Init /\ [][Next]_vars /\ WF_vars(Next)

\* with `VIEW View` TLC counts the states that our checker counts; properties need it without
View == s

-----------------------------------------------------------------------------
(* What has to hold *)

$properties

====
"""
