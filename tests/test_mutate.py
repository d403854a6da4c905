"""How mutants are derived from the spec: mechanically, each with one small change, without touching the spec itself.

The first tests hold for all mutants; then each operator is looked at where its effect can be seen in the machine.
"""

from collections import Counter

import pytest

from wslifecycle.statemachine.findings import SpecError
from wslifecycle.statemachine.flatten import Answer, Flat
from wslifecycle.statemachine.mutate import Mutant, Subject, named_mutants, packaged, signature
from wslifecycle.statemachine.mutations import OPERATORS, SAYS

SUBJECT = Subject()
BY_ID = {mutant.id: mutant for mutant in SUBJECT.mutants}
NAMED = {mutant.id.removeprefix("named:"): mutant for mutant in SUBJECT.book().named}


HANDSHAKE, DENYING, OPEN = (f"{state}/running" for state in ("handshake/waiting", "denying/waiting", "open/flowing"))


def compiled(mutant: Mutant, subject: Subject = SUBJECT) -> Flat:
    spec = subject.spec_of(mutant)
    return Flat(spec, spec.reference)


def different(flat: Flat) -> list[Answer]:
    """The answers of a mutant that the reference does not give, of states that it has."""
    return [
        answer
        for state in SUBJECT.flat.state_of
        if state in flat.state_of
        for event in flat.spec.events
        for case in range(flat.cases)
        if told(answer := flat.answers[event][case][state]) != told(SUBJECT.flat.answers[event][case][state])
    ]


def told(answer: Answer) -> tuple[object, ...]:
    return answer.target, answer.effects, answer.assigns, answer.gives, answer.refusal


# ------------------------------------------------------------------------------------------------ all of them


def test_there_are_many_and_each_has_an_id_of_its_own() -> None:
    assert len(SUBJECT.mutants) > 2000
    assert [name for name, count in Counter(mutant.id for mutant in SUBJECT.mutants).items() if count > 1] == []


def test_every_operator_makes_mutants_and_says_what_it_does() -> None:
    made = {mutant.operator for mutant in SUBJECT.mutants}
    assert made == set(SAYS)
    assert made == set(OPERATORS) | {"swap", "swap-targets"}


def test_ids_and_order_do_not_depend_on_lines() -> None:
    lower = Subject(b"# one\n# two\n" + packaged("lifecycle.yaml"))
    assert [mutant.id for mutant in lower.mutants] == [mutant.id for mutant in SUBJECT.mutants]
    assert [mutant.line for mutant in lower.mutants] == [mutant.line + 2 for mutant in SUBJECT.mutants]


def test_every_mutant_has_the_line_of_its_place() -> None:
    lines = packaged("lifecycle.yaml").decode().splitlines()
    for mutant in SUBJECT.mutants:
        kind = SUBJECT.places[next(iter(mutant.change))].kind
        written = lines[mutant.line - 1]
        wanted = {"enter": "enter: [", "timer": ": {says: "}.get(kind, "- {")
        assert wanted in written, mutant.id


def test_deriving_changes_nothing() -> None:
    subject = Subject()
    before = repr(subject.tree)
    for mutant in subject.mutants:
        subject.mutated(mutant.change)
    assert repr(subject.tree) == before
    assert subject.tree == SUBJECT.tree


def test_only_what_a_mutant_names_is_copied() -> None:
    tree = SUBJECT.mutated(BY_ID["wire.app_send@open:ignore"].change)
    assert tree != SUBJECT.tree
    assert [key for key in tree if tree[key] is not SUBJECT.tree[key]] == ["transitions"]
    assert [key for key in tree["transitions"] if tree["transitions"][key] is not SUBJECT.tree["transitions"][key]] == [
        "wire"
    ]


def test_a_spec_of_which_every_row_is_split_means_the_same() -> None:
    parts = {name: [place.piece] for name, place in SUBJECT.places.items() if not place.kind.startswith("whole")}
    split = Mutant("split", "none", "", 1, parts)
    spec = SUBJECT.spec_of(split)
    assert len(spec.rows) > 2 * len(SUBJECT.spec.rows)
    assert signature(compiled(split)) == SUBJECT.machine


def test_rows_that_the_reference_does_not_have_are_left_alone() -> None:
    """A server that crashes with 403 has other mutants, and `silent` is a state of other profiles only."""
    assert not [name for name in SUBJECT.places if "silent" in name and "+" not in name]
    reference = {row.line for row in SUBJECT.flat.rows}
    rows = [place for place in SUBJECT.places.values() if place.kind in ("row", "whole row")]
    assert {place.line for place in rows} == reference


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_mutant_answers_otherwise_in_its_place_alone(operator: str) -> None:
    """Of each operator a few that compile: only its event in its state is answered in another way."""
    tried = 0
    for mutant in [m for m in SUBJECT.mutants if m.operator == operator][::25]:
        place = SUBJECT.places[next(iter(mutant.change))]
        if place.kind != "row":
            continue
        try:
            flat = compiled(mutant)
        except SpecError:
            continue
        tried += 1
        position = flat.regions.index(place.region)
        seen = {(answer.event, answer.source.split("/")[position]) for answer in different(flat)}
        assert seen <= {(place.event, place.source)}, mutant.id
    assert tried or operator in ("drop", "duplicate", "drop-set", "if", "while", "timer"), "the loader rejects them all"


# ------------------------------------------------------------------------------------------------ the operators


@pytest.mark.parametrize(
    ("name", "event", "state", "target", "effects", "refusal"),
    [
        (
            "wire.app_close@open:retarget=failing",
            "app_close",
            OPEN,
            "failing",
            "send_close resume_reading end_sending start_timer cancel_timer",
            None,
        ),
        ("wire.app_send@open:ignore", "app_send", OPEN, "open", "", None),
        ("wire.app_send@open:refuse=violation", "app_send", OPEN, "open", "", "violation"),
        ("wire.app_send@denying:ignore", "app_send", DENYING, "denying", "", None),
        ("wire.app_send@denying:refuse=disconnected", "app_send", DENYING, "denying", "", "disconnected"),
        ("wire.app_send@denying:obey=open", "app_send", DENYING, "denying", "send_message", None),
        ("inbox.give_connect@waiting:obey=connect_due", "give_connect", HANDSHAKE, "handshake", "", None),
        (
            "wire.app_close@open:drop-effect=send_close",
            "app_close",
            OPEN,
            "closing",
            "resume_reading start_timer cancel_timer",
            None,
        ),
        (
            "wire.peer_close@closing:double-effect=end_transport",
            "peer_close",
            "closing/disconnect_due/left",
            "closed",
            "end_transport end_transport cancel_timer",
            None,
        ),
        (
            "wire.app_close@handshake:swap-effects=send_response+end_transport",
            "app_close",
            HANDSHAKE,
            "closed",
            "end_transport send_response cancel_timer",
            None,
        ),
        (
            "app.app_close@running(wire=handshake|open):while=wire-handshake",
            "app_close",
            HANDSHAKE,
            "closed",
            "send_response end_transport cancel_timer",
            None,
        ),
        (
            "wire.enter@failing:drop-effect=end_sending",
            "peer_violation",
            OPEN,
            "failing",
            "send_close resume_reading start_timer cancel_timer",
            None,
        ),
        (
            "timer.close_timeout:timer=runs-closing",
            "app_close",
            OPEN,
            "closing",
            "send_close resume_reading cancel_timer",
            None,
        ),
    ],
)
def test_operator_changes_the_machine(
    name: str, event: str, state: str, target: str, effects: str, refusal: str | None
) -> None:
    flat = compiled(BY_ID[name])
    answer = flat.answers[event][0][state]
    assert answer in different(flat)
    assert answer.target.split("/")[0] == target
    assert " ".join(call.effect for call in answer.effects) == effects
    assert answer.refusal == refusal


@pytest.mark.parametrize(
    ("name", "event", "state", "value"),
    [
        ("wire.app_close@handshake:value=send_response.status->500", "app_close", HANDSHAKE, 500),
        ("wire.app_return@handshake:value=send_response.status->403", "app_return", HANDSHAKE, 403),
        ("wire.app_close@open:value=send_close.code->1005", "app_close", OPEN, 1005),
        ("wire.app_return@open:value=send_close.code->1005", "app_return", OPEN, 1005),
    ],
)
def test_a_value_becomes_another_one(name: str, event: str, state: str, value: int) -> None:
    answer = compiled(BY_ID[name]).answers[event][0][state]
    assert value in [item for call in answer.effects for _, item in call.fields]


def test_swapped_rows_exchange_their_answers() -> None:
    late = "closing/disconnect_due/running"
    flat = compiled(BY_ID["wire.app_send@closing(app=running|done,raising):swap=closing(app=running|done,!raising)"])
    raising = flat.bits["raising"]
    assert flat.answers["app_send"][raising][late].ignored
    assert flat.answers["app_send"][0][late].refusal == "disconnected"


def test_swapped_targets_leave_the_effects_where_they_are() -> None:
    flat = compiled(BY_ID["wire.app_close@handshake:swap-targets=open"])
    handshake, open_ = (flat.answers["app_close"][0][state] for state in (HANDSHAKE, OPEN))
    assert (handshake.target.split("/")[0], handshake.effects[0].effect) == ("closing", "send_response")
    assert (open_.target.split("/")[0], open_.effects[0].effect) == ("closed", "send_close")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("wire.app_send@open:drop", "WSL020"),
        ("wire.app_send@open:duplicate", "WSL021"),
        ("wire.app_close@handshake:drop-set=cause", "WSL023"),
        ("wire.app_response_start@handshake(denial):if=-denial", "WSL021"),
        ("wire.app_response_start@handshake(denial):if=!denial", "WSL020"),
        ("wire.app_close@closing(app=left):while=-app", "WSL021"),
        ("wire.app_close@closing(app=left):while=app=done", "WSL020"),
        ("timer.close_timeout:drop", "WSL018"),  # a property speaks of it
    ],
)
def test_the_loader_sees_what_leaves_a_hole_or_an_overlap(name: str, code: str) -> None:
    with pytest.raises(SpecError) as raised:
        compiled(BY_ID[name])
    assert code in [finding.code for finding in raised.value.findings]


def test_signature_does_not_look_at_lines() -> None:
    assert Subject(b"#\n" + packaged("lifecycle.yaml")).machine == SUBJECT.machine
    assert signature(compiled(BY_ID["wire.app_send@open:ignore"])) != SUBJECT.machine
    assert signature(compiled(BY_ID["timer.keepalive:timer=close_timeout"])) != SUBJECT.machine


# ------------------------------------------------------------------------------------------------ the book


def test_the_named_mutants_are_those_of_the_book() -> None:
    assert [mutant.id for mutant in named_mutants()] == [f"named:{name}" for name in NAMED]
    assert {
        "granian", "receive_before_accept", "second_disconnect_differs", "last_message_lost", "own_close_untold",
        "close_frame_twice", "accept_after_denial", "reject_untold",
    } <= NAMED.keys()  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_named_mutant_compiles_to_another_machine(name: str) -> None:
    assert signature(compiled(NAMED[name])) != SUBJECT.machine


def test_granian_gives_connect_until_the_app_has_replied() -> None:
    flat = compiled(NAMED["granian"])
    again = flat.answers["give_connect"][0][HANDSHAKE]
    assert (again.target, again.gives, again.refusal) == (again.source, (), None)
    assert flat.answers["give_connect"][0][OPEN].refusal == "not_due"


def test_receive_before_accept_gives_an_early_message() -> None:
    flat = compiled(NAMED["receive_before_accept"])
    state, unread = HANDSHAKE, flat.waiting
    assert flat.begun(flat.answers["peer_message"][0][state].effects) == unread
    assert flat.answers["give_message"][unread][state].refusal is None
    assert flat.answers["give_message"][0][state].refusal == "not_due"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("named: []", "WSL005", "`equivalent`"),
        ("{named: [{name: a, title: b, breaks: one_end}], equivalent: {}}", "WSL005", "`change`"),
        (
            "{named: [{name: a, title: b, breaks: one_end, change: {wire.app_send@nowhere: []}}], equivalent: {}}",
            "WSL011",
            "app_send@nowhere",
        ),
        (
            "{named: [{name: a, title: b, breaks: one_end, change: {wire.app_send@open: {to: x}}}], equivalent: {}}",
            "WSL006",
            "list",
        ),
        ("{named: [{name: a, title: b, change: {}}], equivalent: {}}", "WSL005", "`breaks`"),
        ("{named: [{name: a, title: b, breaks: no, change: {}}], equivalent: {}}", "WSL002", "no"),
        ("{named: [{name: a, title: b, breaks: nothing, change: {}}], equivalent: {}}", "WSL011", "`nothing`"),
        ("{named: [], equivalent: {'wire.*': 5}}", "WSL006", "`equivalent`"),
    ],
)
def test_book_that_is_wrong_is_rejected(text: str, code: str, says: str) -> None:
    with pytest.raises(SpecError) as raised:
        SUBJECT.book(text)
    (finding, *_) = raised.value.findings
    assert (finding.code, finding.file) == (code, "spec/mutants.yaml")
    assert says in finding.text


def test_reason_is_found_by_id_or_pattern() -> None:
    book = SUBJECT.book("{named: [], equivalent: {'wire.app_send@*:ignore': why, 'timer.keepalive:drop': so}}")
    assert book.reason("wire.app_send@open:ignore") == "why"
    assert book.reason("timer.keepalive:drop") == "so"
    assert book.reason("wire.app_send@open:drop") is None
