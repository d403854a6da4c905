"""The covers that are made from the machine: they try everything, their words tell places apart, and a fault shows.

What the generator says of itself is counted again here, from the machine alone. The covers run against `Connection` for
every set of facts; against connections of machines with a fault the same words have to find it, and without a look
inside, too.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise, product

import pytest

from wslifecycle.conformance.cover import (
    Driver,
    Record,
    converse,
    impossible,
    load_record,
    pairs,
    reachable,
    run,
    starts,
    words,
)
from wslifecycle.statemachine import cover
from wslifecycle.statemachine.connection import Connection, Given
from wslifecycle.statemachine.cover import RECEIVE, Place, Triple, Word, alike, distinguishing_set, places, stimuli
from wslifecycle.statemachine.findings import SpecError
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.machine import Lifecycle, build, lifecycle
from wslifecycle.statemachine.model import Kind, Row

MACHINE = lifecycle()
STARTS = starts(MACHINE, Place)

of_each_scope = pytest.mark.parametrize("start", STARTS, ids=lambda start: "+".join(start.facts) or "no facts")


def followed(start: Place, word: Word) -> list[Place]:
    """The places in which the stimuli of a word come, and the last one."""
    found = [start]
    for stimulus in word:
        assert found[-1].possible(stimulus)
        found.append(found[-1].after(stimulus))
    return found


def tried(start: Place, spoken: Iterable[Word], wanted: Callable[[Answer], bool]) -> set[Triple]:
    """What these words try of the answers that are wanted."""
    return {
        triple
        for word in spoken
        for place, stimulus in zip(followed(start, word), word, strict=False)
        for triple, answer in place.tries(stimulus).items()
        if wanted(answer)
    }


def answered(start: Place, wanted: Callable[[Answer], bool]) -> set[Triple]:
    """What there is to try, from the compiled answers alone."""
    return {
        (place.state, place.facts, event)
        for place in places(start)
        for event, cases in MACHINE.flat.answers.items()
        if wanted(cases[place.case][place.state])
    }


def obeyed(answer: Answer) -> bool:
    return answer.refusal is None


def refused(answer: Answer) -> bool:
    return answer.refusal not in (None, Kind.IMPOSSIBLE)


# ------------------------------------------------------------------------------------------------ the covers


class TestPlaces:
    def test_together_they_are_all_states_of_the_machine(self) -> None:
        assert {place.state for start in STARTS for place in places(start)} == set(MACHINE.states)

    def test_there_is_a_beginning_for_every_set_of_facts(self) -> None:
        fixed = [fact.name for fact in MACHINE.flat.facts if fact.fixed]
        assert len(STARTS) == len({start.facts for start in STARTS}) == 2 ** len(fixed)

    @of_each_scope
    def test_each_is_reached_by_a_shortest_way(self, start: Place) -> None:
        far = {place: len(place.way) for place in places(start)}
        for place, steps in far.items():
            assert followed(start, place.word)[-1] == place
            assert all(far[place.after(stimulus)] <= steps + 1 for stimulus in cover.steps(place))

    @of_each_scope
    def test_what_is_unread_is_counted(self, start: Place) -> None:
        """Two messages have to be given twice, though the machine only knows that there are some."""
        word = ("app_accept", RECEIVE, "peer_message", "peer_message", RECEIVE, RECEIVE)
        assert ["unread" in place.facts for place in followed(start, word)] == [False] * 3 + [True] * 3 + [False]


class TestCovers:
    @of_each_scope
    def test_everything_that_is_obeyed_is_tried(self, start: Place) -> None:
        found = cover.transition_cover(start)
        assert tried(start, found, obeyed) == answered(start, obeyed)
        assert len(answered(start, obeyed)) > 600

    @of_each_scope
    def test_everything_that_is_refused_is_tried(self, start: Place) -> None:
        found = cover.refused_cover(start)
        assert tried(start, found, refused) == answered(start, refused)
        assert len(answered(start, refused)) > 100

    @of_each_scope
    def test_each_is_tried_by_a_shortest_way(self, start: Place) -> None:
        """Behind the shortest way to a place comes only what stays there, and at most one step away."""
        known = {place: place.word for place in places(start)}
        ways = set(known.values())
        for word in (*cover.transition_cover(start), *cover.refused_cover(start)):
            length = max(length for length in range(len(word) + 1) if word[:length] in ways)
            *stays, last = followed(start, word)[length:]
            assert len(set(stays)) <= 1
            assert last in known

    @of_each_scope
    def test_no_word_is_the_beginning_of_another(self, start: Place) -> None:
        for found in (cover.transition_cover(start), cover.refused_cover(start)):
            assert len(set(found)) == len(found)
            ordered = sorted(found)
            assert not any(two[: len(one)] == one for one, two in pairwise(ordered))

    def test_what_is_impossible_is_in_no_word_and_counted_apart(self) -> None:
        every = {(state, event) for state in MACHINE.states for event in MACHINE.spec.events}
        assert pairs(reachable(MACHINE)) | impossible(MACHINE) == every
        assert not pairs(reachable(MACHINE)) & impossible(MACHINE)
        done = {(state, event) for state, event in impossible(MACHINE) if event in ("app_return", "app_raise")}
        assert {state for state, _ in done} == {state for state in MACHINE.states if state.endswith("/done")}

    def test_they_are_the_same_in_every_process(self) -> None:
        code = (
            "from wslifecycle.conformance.cover import starts, words\n"
            "from wslifecycle.statemachine.cover import Place\n"
            "from wslifecycle.statemachine.machine import lifecycle\n"
            "print(words(starts(lifecycle(), Place)[0]))"
        )
        made = [
            subprocess.run(
                [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
            )
            for seed in ("1", "2")
        ]
        assert made[0].stdout == made[1].stdout == f"{words(STARTS[0])}\n".encode()


class TestTellingApart:
    @of_each_scope
    def test_only_how_far_the_app_has_come_may_stay_hidden(self, start: Place) -> None:
        """That the callable has ended shows in nothing but that it cannot end again. Before version 2.4 a `send()` that
        comes too late is no error, so that nobody hears either whether the app or somebody else has closed.
        """
        hidden = {"running", "done"} if "raising" in start.facts else {"running", "left", "done"}
        among = places(start)
        found = alike(among, distinguishing_set(among))
        for one, other in found:
            *shared, app = one.state.split("/")
            assert (shared, one.facts) == (other.state.split("/")[:-1], other.facts)
            assert {app, other.state.split("/")[-1]} <= hidden
            assert one.state.startswith(("closing", "failing", "closed"))

    @of_each_scope
    def test_no_other_words_tell_more(self, start: Place) -> None:
        among, alphabet = places(start), stimuli(MACHINE)
        single: list[Word] = [(stimulus,) for stimulus in alphabet]
        found = distinguishing_set(among)
        short = [word[:1] for word in found]
        assert alike(among, found) == alike(among, [*single, *product(alphabet, alphabet)])
        assert alike(among, short) == alike(among, single), "what one stimulus can tell is told by one"

    def test_every_word_is_needed(self) -> None:
        among = places(STARTS[0])
        found = distinguishing_set(among)
        for word in found:
            assert len(alike(among, [other for other in found if other != word])) > len(alike(among, found))

    @of_each_scope
    def test_a_word_is_spoken_behind_every_way_as_far_as_it_is_possible(self, start: Place) -> None:
        among = places(start)
        telling = distinguishing_set(among)
        spoken = set(cover.identified(among, telling))
        for place, word in product(among, telling):
            said = place.word
            for stimulus in word:
                if not followed(start, said)[-1].possible(stimulus):
                    break
                said += (stimulus,)
            assert any(other[: len(said)] == said for other in spoken)


# ------------------------------------------------------------------------------------------------ a connection


class TestConnection:
    @of_each_scope
    def test_it_answers_everything_as_the_machine_says(self, start: Place) -> None:
        record, spoken = Record("Connection", "reference"), words(start)
        for word in spoken:
            converse(start, word, record)
        assert record.differences == []
        assert record.exercised == cover.reachable(start)
        assert record.conversations == len(spoken)

    def test_another_profile_is_tried_as_well(self) -> None:
        """Answers that make other kinds of refusals: a `receive()` that raises, a `send()` that hangs."""
        answers = {"C6": "raises", "C8": "violation", "C15": "given", "C25": "lenient", "C43": "hangs"}
        other = build(MACHINE.spec, MACHINE.spec.reference | answers, "another")
        record = run(other)
        assert record.differences == []
        assert record.missing(reachable(other)) == []

    def test_what_nobody_knows_is_said(self) -> None:
        with pytest.raises(LookupError, match="Nobody here knows how to bring app_sings about"):
            Driver(STARTS[0]).do("app_sings")


class TestRecords:
    def test_a_record_is_kept_as_it_is(self) -> None:
        record = Record("here", "reference", conversations=3, differences=["one"])
        record.exercised = set(sorted(reachable(MACHINE))[:5])
        record.beyond = dict.fromkeys(sorted(reachable(MACHINE))[5:7], "no way")
        assert load_record(record.dump()) == record

    def test_what_was_neither_tried_nor_beyond_is_missing(self) -> None:
        one, two, *others = sorted(reachable(MACHINE))
        record = Record("here", "reference", exercised={one}, beyond={two: "no way"})
        assert record.missing(reachable(MACHINE)) == others

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"way": "x", "profile": "y", "conversations": "many"}'])
    def test_what_is_no_record_is_said(self, text: str) -> None:
        with pytest.raises(ValueError, match="no record of a cover"):
            load_record(text)


# ------------------------------------------------------------------------------------------------ they can fail


@cache
def spoken(start: Place) -> tuple[Word, ...]:
    return tuple(words(start))


def noticed(tested: Lifecycle, *, inside: bool) -> Record:
    """What the reference's words find in connections of another machine, up to the first difference."""
    record = Record("Connection", "reference")
    for start in STARTS:
        if not all(converse(start, word, record, tested, inside=inside) for word in spoken(start)):
            break
    return record


def retargeted() -> Iterator[tuple[Row, Lifecycle]]:
    """Machines in which one row leads to another state of its region."""
    spec = MACHINE.spec
    for row in MACHINE.flat.rows:
        for target in MACHINE.flat.present[row.region]:
            if row.target in (None, target):
                continue
            changed = dataclasses.replace(row, target=target)
            rows = tuple(changed if other is row else other for other in spec.rows)
            try:
                machine = build(dataclasses.replace(spec, rows=rows), profile="mutant")
            except SpecError:  # the compiler sees through many of them
                continue
            yield changed, machine


def test_a_row_that_leads_elsewhere_is_noticed_from_outside_alone() -> None:
    """The words show it, without a look at the state: that is what they are for."""
    tested = 0
    for row, machine in retargeted():
        assert noticed(machine, inside=False).differences, f"line {row.line}: {row.target}"
        tested += 1
    assert tested > 50


def test_a_change_that_no_event_shows_at_once_is_seen_in_the_state() -> None:
    """The app's own close leads to `running` instead of `left`: the next `send()` would tell."""
    (row,) = (row for row in MACHINE.flat.rows if row.region == "app" and row.target == "left")
    rows = tuple(r for r in MACHINE.spec.rows if r is not row)
    machine = build(dataclasses.replace(MACHINE.spec, rows=rows), profile="mutant")
    first, *_ = noticed(machine, inside=True).differences
    assert "app_close in handshake/connect_due/running" in first
    assert "leads to" in first


class Fault:
    """Faults of a connection that the machine knows nothing of."""

    @staticmethod
    def never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Connection, "app_waited", lambda connection: True)

    @staticmethod
    def forgets_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Connection, "peer_pinged", lambda connection, payload: ())

    @staticmethod
    def gives_another_code(monkeypatch: pytest.MonkeyPatch) -> None:
        wants = Connection.app_wants

        def changed(connection: Connection) -> Given:
            given = wants(connection)
            message = given.message
            return Given(message | {"code": 1000}, given.effects) if message and "code" in message else given

        monkeypatch.setattr(Connection, "app_wants", changed)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (Fault.never_waits, "refusal None, not <Kind.DISCONNECTED"),
        (Fault.forgets_an_effect, "effects (), not (SendPong(payload=b'p'),)"),
        (Fault.gives_another_code, "given {'type': 'websocket.disconnect', 'code': 1000"),
    ],
)
def test_a_fault_of_a_connection_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert says in noticed(MACHINE, inside=False).differences[0]
