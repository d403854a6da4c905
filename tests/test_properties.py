"""The language of the properties, and the monitors that watch runs; `test_check` holds them against the machine.

Every property of the spec that forbids something can fail: `BROKEN` has a run by hand for each.
"""

from collections.abc import Collection, Mapping
from itertools import product

import pytest

from wslifecycle.statemachine.flatten import compile_profile
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.model import Kind as Refusal
from wslifecycle.statemachine.model import Property
from wslifecycle.statemachine.properties import (
    REFUSALS,
    Expression,
    Form,
    Joined,
    Kind,
    Monitor,
    Not,
    PropertyError,
    Step,
    Term,
    judge,
    parse,
    step_of,
    terms_of,
    write,
)
from wslifecycle.statemachine.system import TRANSPORT, vocabulary

SPEC = load_spec()
FLAT = compile_profile(SPEC)
VOCABULARY = vocabulary(SPEC.regions, SPEC.facts, SPEC.timers, SPEC.events, SPEC.effects)
KNOWN = {
    Kind.STATE: {"wire=open", "wire=closed", "waiting", "twice"},
    Kind.EFFECT: {"ping"},
    Kind.EVENT: {"a", "b", "c", "twice"},
    Kind.MARK: {"odd"},
}


def step(
    event: str, before: str = "", after: str | None = None, effects: str = "", marks: str = "", action: str = ""
) -> Step:
    """A step; an event with a ! was refused, as is said behind it or else as a violation."""
    states = frozenset(before.split())
    event, refused, how = event.partition("!")
    return Step(
        event,
        states,
        states if after is None else frozenset(after.split()),
        frozenset(effects.split()),
        how or ("violation" if refused else ""),
        frozenset(marks.split()),
        action,
    )


def monitor(holds: str, known: Mapping[Kind, set[str]] | None = None) -> Monitor:
    return Monitor(Property("mine", holds, "R1", 1), known)


def run(holds: str, *steps: Step, known: Mapping[Kind, set[str]] | None = None) -> list[bool]:
    """What a monitor says to each step."""
    watching = monitor(holds, known)
    return [watching.observe(taken) for taken in steps]


# ------------------------------------------------------------------------------------------------ the language


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("always a", Form.ALWAYS),
        ("never a", Form.NEVER),
        ("at most once a", Form.AT_MOST_ONCE),
        ("sometimes a", Form.SOMETIMES),
        ("a before b", Form.BEFORE),
        ("a leads to b", Form.LEADS_TO),
    ],
)
def test_form_is_read(text: str, form: Form) -> None:
    parsed = parse(text, KNOWN)
    assert parsed.form is form
    assert (parsed.second is not None) == (form in (Form.BEFORE, Form.LEADS_TO))


@pytest.mark.parametrize(
    ("term", "true"),
    [
        ("a", True),
        ("b", False),
        ("not b", True),
        ("not not a", True),
        ("wire=open", True),
        ("after wire=open", False),
        ("after wire=closed", True),
        ("after (wire=open or wire=closed)", True),
        ("after not wire=open", True),
        ("effect=ping", True),
        ("waiting", True),
        ("after waiting", False),
        ("after (a and waiting)", False),  # an event is that of the step, before or after
        ("after (a and wire=closed)", True),
        ("odd", True),
        ("after odd", True),
        ("twice", False),  # an event that is called like a state
        ("moved", True),
        ("refused", False),
        ("a or a and b", True),  # and binds tighter than or
        ("(a or a) and b", False),
        ("not b and b", False),  # not binds tighter than and
        ("not (b and b)", True),
        ("a or b implies b", False),  # implies binds loosest
        ("a or (b implies b)", True),
        ("b implies b implies b", True),  # and to the right
        ("(b implies b) implies b", False),
        ("b implies a", True),
    ],
)
def test_expression_has_its_value(term: str, true: bool) -> None:
    taken = step("a", "wire=open waiting twice", "wire=closed", "ping", "odd")
    assert judge(parse(f"always {term}", KNOWN).first)(taken) is true


def test_refused_event_did_not_take_place() -> None:
    taken = step("a!", "wire=open")
    assert not judge(parse("always a").first)(taken)
    assert judge(parse("always refused and not moved").first)(taken)


@pytest.mark.parametrize("how", ["", *Refusal])
def test_how_it_was_refused_is_told_apart(how: str) -> None:
    taken = step(f"a!{how}" if how else "a")
    true = {word for word in REFUSALS if judge(parse(f"always {word}", KNOWN).first)(taken)}
    assert true == ({"refused", how} & set(REFUSALS) if how else set())
    assert all(judge(parse(f"always after {word}", KNOWN).first)(taken) is (word in true) for word in REFUSALS)


@pytest.mark.parametrize(
    ("word", "term"),
    [
        ("timer=keepalive", Term(Kind.STATE, "timer=keepalive")),
        ("timer=deadline", Term(Kind.STATE, "timer=deadline")),  # of the transport, not of the machine
        ("after timer=keepalive", Term(Kind.STATE, "timer=keepalive", after=True)),
        ("raising", Term(Kind.STATE, "raising")),
        ("denial", Term(Kind.STATE, "denial")),
        ("unread", Term(Kind.STATE, "unread")),
        ("twice", Term(Kind.MARK, "twice")),
        ("late", Term(Kind.EVENT, "late")),
        ("deadline", Term(Kind.EVENT, "deadline")),  # the action, not the timer
        ("violation", Term(Kind.WORD, "violation")),
        ("disconnected", Term(Kind.WORD, "disconnected")),
    ],
)
def test_word_of_the_spec_is_read_as_what_it_is(word: str, term: Term) -> None:
    assert parse(f"never {word}", VOCABULARY).first == term
    holding = frozenset({term.name} if term.kind is Kind.STATE else ())
    nothing = frozenset[str]()
    before, after = (nothing, holding) if term.after else (holding, nothing)
    refused = term.name if term.kind is Kind.WORD else ""
    marks = holding | ({term.name} if term.kind is Kind.MARK else set())
    event = term.name if term.kind is Kind.EVENT else "other"
    assert judge(term)(Step(event, before, after, refused=refused, marks=marks))
    assert not judge(term)(Step("other", after, before))


def test_vocabulary_has_every_timer_and_the_facts_that_stay_as_they_are() -> None:
    states = VOCABULARY[Kind.STATE]
    assert {f"timer={timer}" for timer in (*SPEC.timers, "deadline")} < states
    assert {name for name, fact in SPEC.facts.items() if fact.fixed} == {"raising", "denial"} < states
    passing = vocabulary(SPEC.regions, {"unread": SPEC.facts["unread"]}, (), SPEC.events, SPEC.effects)[Kind.STATE]
    assert not {"raising", "denial", "timer=keepalive"} & passing


def test_action_and_event_of_a_step_both_took_place_unless_it_was_refused() -> None:
    for event, action, true in (("a", "b", "a b"), ("a", "", "a"), ("a!", "b", ""), ("a!disconnected", "b", "")):
        taken = step(event, action=action)
        assert {word for word in "abc" if judge(parse(f"always {word}").first)(taken)} == set(true.split())


def test_bare_word_is_an_event_where_nothing_is_known() -> None:
    assert parse("always anything").first == Term(Kind.EVENT, "anything")
    assert parse("always any=thing").first == Term(Kind.STATE, "any=thing")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "`` has none of the forms always, never, at most once, sometimes, before, leads to"),
        ("a and b", "`a and b` has none of the forms"),
        ("at most twice a", "has none of the forms"),
        ("always", "it ends too soon"),
        ("always a and", "it ends too soon"),
        ("a before", "it ends too soon"),
        ("always a b", "`b` was not expected"),
        ("always a)", "`)` was not expected"),
        ("always (a or b", "a bracket is not closed"),
        ("always a ? b", "`? b` is not a term"),
        ("always d", "there is no event `d`"),
        ("always wire=opened", "there is no state `wire=opened`"),
        ("always effect=pong", "there is no effect `effect=pong`"),
        ("always timer=alarm", "there is no state `timer=alarm`"),
        ("always violated", "there is no event `violated`"),
        ("always after moved", "`moved` speaks of a step, not of a state"),
        ("always after (a or not moved)", "`moved` speaks of a step, not of a state"),
        ("always " + "(" * 200, "it has 201 words and may have 100"),
    ],
)
def test_error_says_what_is_wrong(text: str, error: str) -> None:
    with pytest.raises(PropertyError) as raised:
        parse(text, KNOWN)
    assert error in str(raised.value)


def test_deepest_property_that_is_allowed_can_be_read_and_asked() -> None:
    assert judge(parse("always " + "(" * 49 + "a" + ")" * 49).first)(step("a"))
    assert not judge(parse("always " + "not " * 97 + "a").first)(step("a"))


A_TERM, B_TERM = Term(Kind.EVENT, "a"), Term(Kind.EVENT, "b")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a", A_TERM),
        ("not a", Not(A_TERM)),
        ("a and b and a", Joined("and", (A_TERM, B_TERM, A_TERM))),
        ("a or b and a", Joined("or", (A_TERM, Joined("and", (B_TERM, A_TERM))))),
        ("a implies b", Joined("implies", (A_TERM, B_TERM))),
        ("after not wire=open", Not(Term(Kind.STATE, "wire=open", after=True))),
        ("effect=ping", Term(Kind.EFFECT, "ping")),
        ("refused", Term(Kind.WORD, "refused")),
        ("odd", Term(Kind.MARK, "odd")),
    ],
)
def test_expression_is_read_as_a_tree(text: str, tree: Expression) -> None:
    assert parse(f"never {text}", KNOWN).first == tree


def test_terms_of_a_tree_are_all_that_it_speaks_of() -> None:
    found = list(terms_of(parse("always not (a or b) implies after wire=open and effect=ping", KNOWN).first))
    assert found == [A_TERM, B_TERM, Term(Kind.STATE, "wire=open", after=True), Term(Kind.EFFECT, "ping")]


@pytest.mark.parametrize(
    ("text", "python", "promela"),
    [
        ("a", "a", "a"),
        ("not a", "not a", "!a"),
        ("not not a", "not not a", "!!a"),
        ("not (a or b)", "not (a or b)", "!(a || b)"),
        ("a and (b or c)", "a and (b or c)", "a && (b || c)"),
        ("(a and b) or c", "(a and b) or c", "(a && b) || c"),
        ("a implies b", "not a or b", "!a || b"),
        ("a or b implies b and c", "not (a or b) or (b and c)", "!(a || b) || (b && c)"),
        ("not (a implies b)", "not (not a or b)", "!(!a || b)"),
        ("a and (b implies c)", "a and (not b or c)", "a && (!b || c)"),
    ],
)
def test_expression_is_written_in_other_languages(text: str, python: str, promela: str) -> None:
    expression = parse(f"always {text}", KNOWN).first
    assert write(expression, lambda term: term.name) == python
    assert write(expression, lambda term: term.name, {"not": "!", "and": " && ", "or": " || "}) == promela


def value(expression: Expression, true: Collection[Term]) -> bool:
    """The value of an expression where these terms are true."""
    match expression:
        case Term():
            return expression in true
        case Not(of):
            return not value(of, true)
        case Joined("implies", (left, right)):
            return value(right, true) if value(left, true) else True
        case Joined(word, parts):
            return (all if word == "and" else any)(value(part, true) for part in parts)


def assert_means_the_same_in_python(expression: Expression) -> None:
    terms = list(dict.fromkeys(terms_of(expression)))
    written = write(expression, lambda term: f"holds[{terms.index(term)}]")
    for number in range(1 << len(terms)):
        holds = [bool(number >> position & 1) for position in range(len(terms))]
        true = [term for term, so in zip(terms, holds, strict=True) if so]
        assert bool(eval(written, {"holds": holds})) == value(expression, true)


@pytest.mark.parametrize("name", SPEC.properties)
def test_what_is_written_means_what_is_read(name: str) -> None:
    """Each expression of the spec, by the value that its tree has, whatever its terms are."""
    parsed = parse(SPEC.properties[name].holds, VOCABULARY)
    assert_means_the_same_in_python(parsed.first)
    if parsed.second is not None:
        assert_means_the_same_in_python(parsed.second)


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("always a implies b", "a"),
        ("always a implies b implies c", "a"),
        ("always a", None),
        ("always not a or b", None),
        ("never a and b", None),
        ("sometimes a", None),
        ("at most once a and b", "a and b"),
        ("a before b or c", "b or c"),
        ("a and c leads to b", "a and c"),
    ],
)
def test_trigger_is_what_has_to_happen_lest_a_property_hold_for_nothing(text: str, trigger: str | None) -> None:
    expected = parse(f"always {trigger}", KNOWN).first if trigger is not None else None
    assert parse(text, KNOWN).trigger == expected


# ------------------------------------------------------------------------------------------------ monitors


A, B, C = step("a"), step("b"), step("c")


@pytest.mark.parametrize(
    ("holds", "steps", "verdicts"),
    [
        ("always a", (A, B, A), [True, False, True]),
        ("never b", (A, B, A), [True, False, True]),
        ("at most once a", (A, B, A, B), [True, True, False, True]),
        ("a before b", (C, B), [True, False]),
        ("a before b", (A, B, B), [True, True, True]),
        ("a before a", (A,), [False]),
        ("sometimes a", (B, B), [True, True]),
        ("a leads to b", (A, A), [True, True]),
    ],
)
def test_monitor_judges_a_run(holds: str, steps: tuple[Step, ...], verdicts: list[bool]) -> None:
    assert run(holds, *steps) == verdicts


def test_monitor_remembers_what_it_has_seen() -> None:
    watching = monitor("sometimes a")
    watching.observe(B)
    assert not watching.seen
    watching.observe(A)
    watching.observe(B)
    assert watching.seen


def test_step_of_the_machine_has_its_states_effects_and_refusal() -> None:
    answer = FLAT.answers["app_close"][0]["open/flowing/running"]
    assert step_of(FLAT, answer) == step(
        "app_close",
        "wire=open inbox=flowing app=running",
        "wire=closing inbox=disconnect_due app=left",
        "send_close resume_reading start_timer cancel_timer",
    )


@pytest.mark.parametrize(
    ("event", "state", "facts", "how"),
    [
        ("app_accept", "open/flowing/running", (), "violation"),
        ("app_send", "closing/disconnect_due/left", ("raising",), "disconnected"),
        ("app_send", "closing/disconnect_due/left", (), ""),
        ("give_message", "open/flowing/running", (), "not_due"),
        ("give_message", "open/flowing/running", ("unread",), ""),
        ("peer_ping", "handshake/waiting/running", (), "impossible"),
    ],
)
def test_step_of_the_machine_says_how_it_was_refused(event: str, state: str, facts: tuple[str, ...], how: str) -> None:
    taken = step_of(FLAT, FLAT.answers[event][sum(FLAT.bits[name] for name in facts)][state])
    assert taken.refused == how
    if how:
        wire, inbox, app = state.split("/")
        assert taken == step(f"{event}!{how}", f"wire={wire} inbox={inbox} app={app}")


GIVE_CONNECT, GIVE_MESSAGE, GIVE_DISCONNECT = "give_connect", "give_message", "give_disconnect"
UP, ENDING = "transport=up", "transport=ending"

BROKEN: dict[str, tuple[Step, ...]] = {
    "connect_once": (step(GIVE_CONNECT), step(GIVE_CONNECT)),
    "connect_first": (step(GIVE_MESSAGE),),
    "nothing_between_connect_and_reply": (step(GIVE_DISCONNECT, "wire=handshake"),),
    "reply_before_message": (step(GIVE_CONNECT), step(GIVE_MESSAGE)),
    "reply_before_handshake": (step("app_send", effects="complete_handshake"),),
    "answered_once": (step("app_accept", effects="complete_handshake"), step("app_close", effects="send_response")),
    "accepted_or_refused": (step("app_send", "upgraded"), step("app_send", "upgraded responded")),
    "head_before_body": (step("app_response_body", "wire=denying", effects="send_body"),),
    "no_frame_after_response": (step("peer_ping", "responded", effects="send_pong"),),
    "denial_is_final": (step("app_send!", f"responded {UP}"), step("app_accept", f"responded {UP}")),
    "frames_after_handshake": (step("app_send", effects="send_message"),),
    "one_close": (step("app_close", effects="send_close"), step("peer_close", effects="send_close")),
    "no_data_after_close": (step("app_send", effects="send_message"), step("x", "close_sent", effects="send_message")),
    "ping_is_answered": (step("peer_ping", f"upgraded {UP}"),),
    "failed_is_deaf": (step("peer_close", "wire=failing", "wire=closed"),),
    "silent_after_the_end": (step("peer_ping", ENDING, effects="send_pong"),),
    "sent_once": (step("peer_reads", marks="followed"), step("peer_reads"), step("peer_reads", marks="followed")),
    "sent_in_order": (step("peer_reads"), step("peer_reads", marks="later")),
    "nothing_sent_is_dropped": (
        step("peer_lost", marks="followed dropped"),
        step("app_return", marks="dropped"),
        step("app_return", marks="followed dropped"),
    ),
    "given_once": (step(GIVE_MESSAGE, marks="followed"), step(GIVE_MESSAGE, marks="followed")),
    "given_in_order": (step(GIVE_MESSAGE), step(GIVE_MESSAGE, marks="later")),
    "messages_before_disconnect": (step(GIVE_DISCONNECT), step(GIVE_DISCONNECT, "unread")),
    "nothing_kept_after_close": (step("peer_message", "close_sent", effects="keep_message"),),
    "one_disconnect": (step(GIVE_DISCONNECT), step(GIVE_DISCONNECT, "told", marks="differs")),
    "disconnect_is_last": (step(GIVE_DISCONNECT, "told"), step(GIVE_MESSAGE, "told")),
    "disconnect_only_at_the_end": (step(GIVE_DISCONNECT, ENDING), step(GIVE_DISCONNECT, UP)),
    "end_is_read": (step("app_send", f"paused {UP}"), step("app_send", f"paused close_sent {UP}")),
    "closed_is_final": (step("app_accept", "wire=closed", "wire=open"),),
    "one_end": (step("app_return", effects="end_transport"), step("close_timeout", effects="abort_transport")),
    "closed_ends_the_transport": (step("app_send", f"wire=closed {ENDING}"), step("app_send", f"wire=closed {UP}")),
    "transport_ends_when_closed": (step("app_send", f"wire=closed {ENDING}"), step("app_send", f"wire=open {ENDING}")),
    "frames_are_held": (step("peer_ping", f"upgraded {UP}"), step("peer_ping", UP)),
    "streaming_begins_with_the_head": (
        step("app_response_body", "wire=denial_held", "wire=denying", effects="send_head"),
        step("app_response_body", "wire=denying"),
        step("app_accept", "wire=handshake", "wire=denying"),
    ),
    "closing_begins_with_a_close": (
        step("app_close", "wire=open", "wire=closing", effects="send_close"),
        step("app_return", "wire=open", "wire=closing"),
    ),
    "failing_begins_with_a_fault": (
        step("peer_violation", "wire=open", "wire=failing"),
        step("peer_message", "wire=open", "wire=failing"),
    ),
    "failing_leads_to_closed": (
        step("peer_lost", "wire=failing", "wire=closed"),
        step("peer_eof", "wire=failing", "wire=closing"),
    ),
    "no_end_before_the_end": (step("app_send!disconnected", ENDING), step("app_send!disconnected", UP)),
    "late_is_told": (
        step("app_send", ENDING),
        step("app_send!disconnected", f"raising app=running {ENDING}"),
        step("app_close", f"raising app=left {ENDING}"),
        step("app_close", f"raising app=running {ENDING}"),
    ),
    "late_after_own_end_is_told": (step("app_send", "app=left"), step("app_send", "raising app=left")),
    "late_accept_is_told": (step("app_accept", ENDING), step("app_accept", f"raising app=done {ENDING}")),
    "waiting_send_is_told": (step("app_waited", f"raising {UP}"), step("app_waited", f"raising {ENDING}")),
    "late_is_silent_before_2_4": (step("app_send!", ""), step("app_send!disconnected", ENDING)),
    "late_is_no_violation": (step("app_send!violation", UP), step("app_send!violation", ENDING)),
    "repeats_are_paced": (
        step(GIVE_DISCONNECT),
        step(GIVE_DISCONNECT, "told", effects="pace"),
        step(GIVE_DISCONNECT, "told"),
    ),
    "loss_ends_it": (step("peer_eof", "wire=open", "wire=closed"), step("peer_lost", "wire=open", "wire=failing")),
    "handshake_is_timed": (
        step("x", f"timer=handshake_timeout {UP}"),
        step("x", f"upgraded {UP}"),
        step("x", UP),
    ),
    "close_is_timed": (
        step("x", f"timer=close_timeout close_sent {UP}"),
        step("x", "timer=close_timeout close_sent transport=half"),
        step("x", f"timer=close_timeout close_sent {ENDING}"),
    ),
    "pings_are_timed": (step("x", f"timer=keepalive upgraded {UP}"), step("x", f"upgraded {UP}")),
    "app_ends_once": (step("app_return"), step("app_raise")),
    "no_effect_twice": (step("app_send"), step("app_send", marks="twice")),
    "done_is_known": (step("app_send", "called app=running"), step("app_send", "app=running")),
    "refused_changes_nothing": (step("app_send!", "wire=open"), step("app_send!", "wire=open", "wire=closed")),
}
"""For each property that forbids something a run that only its last step breaks."""


def forms(*wanted: Form) -> list[str]:
    return [name for name, declared in SPEC.properties.items() if parse(declared.holds).form in wanted]


SAFETY = forms(Form.ALWAYS, Form.NEVER, Form.AT_MOST_ONCE, Form.BEFORE)


@pytest.mark.parametrize("name", SAFETY)
def test_every_safety_property_can_fail(name: str) -> None:
    *before, last = run(SPEC.properties[name].holds, *BROKEN[name], known=VOCABULARY)
    assert all(before)
    assert not last


TIMERS = {
    "handshake_is_timed": ("timer=handshake_timeout", ("",), ("upgraded", "responded")),
    "close_is_timed": ("timer=close_timeout", ("close_sent", "close_sent upgraded"), ("", "upgraded")),
    "pings_are_timed": ("timer=keepalive", ("upgraded",), ("", "upgraded close_sent")),
}
"""Which timer each of these is about, with what it runs while the transport is up, and with what it does not."""
HALF = {"close_is_timed"}
"""Where it runs on while the peer has our end."""


@pytest.mark.parametrize("name", TIMERS)
@pytest.mark.parametrize("transport", TRANSPORT)
def test_timer_may_run_neither_too_long_nor_too_short(name: str, transport: str) -> None:
    timer, runs, rests = TIMERS[name]
    judged = judge(parse(SPEC.properties[name].holds, VOCABULARY).first)
    due = transport == "up" or (transport == "half" and name in HALF)
    for conditions in (*runs, *rests):
        held = f"{conditions} transport={transport}"
        assert judged(step("x", f"{held} {timer}")) is (due and conditions in runs)
        assert judged(step("x", held)) is not (due and conditions in runs)


OVER, OWN_END = ("close_sent transport=up", UP.replace("up", "half"), ENDING), ("app=left", "app=denied")
SENDS = ("app_send", "app_response_start", "app_response_body", "app_response_end")
LATE = {
    "late_is_told": (("app=running", "app=done"), (*SENDS, "app_close"), OVER),
    "late_accept_is_told": (("app=running", "app=done"), ("app_accept",), OVER),
    "late_after_own_end_is_told": (OWN_END, (*SENDS, "app_accept"), (*OVER, UP)),
    "waiting_send_is_told": (("app=running", "app=done", *OWN_END), ("app_waited",), OVER),
}
"""Which of them judges an event that took place too late: by what the app did, the event, and how far the end is."""


def test_each_send_that_is_too_late_is_judged_by_one_property() -> None:
    """But for a close after the app's own close, which may be ignored (C9)."""
    judges = {name: judge(parse(SPEC.properties[name].holds, VOCABULARY).first) for name in LATE}
    apps = [f"app={state}" for state in SPEC.regions["app"].states]
    for app, event, over in product(apps, (*SENDS, "app_close", "app_accept", "app_waited"), (*OVER, UP)):
        judged = [name for name, holds in judges.items() if holds(step(event, f"raising {app} {over}"))]
        assert judged == [name for name, (by, what, end) in LATE.items() if app in by and event in what and over in end]
        assert len(judged) <= 1
        assert judged or over == UP or (app in OWN_END and event == "app_close")
        for told in (step(event, f"{app} {over}"), step(f"{event}!disconnected", f"raising {app} {over}")):
            assert not any(holds(told) for holds in judges.values())


def test_every_safety_property_has_a_broken_run() -> None:
    assert BROKEN.keys() == set(SAFETY)
