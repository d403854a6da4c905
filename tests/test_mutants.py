"""How mutants are run: which stage kills one, what counts and what does not, and what the command says.

Whether the checker and the scenarios are good enough is what `make mutants` finds out; here a handful of mutants is
run, among them the named ones, which have to die. The checker takes its time, so that most tests have another one.
"""

import json
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from wslifecycle import cli_mutants
from wslifecycle.__main__ import Commands
from wslifecycle.conformance import mutants as runner
from wslifecycle.conformance.mutants import STAGES, Verdict, judge, judge_all, report, sample
from wslifecycle.conformance.scenarios import load_scenarios
from wslifecycle.statemachine.check import check
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.machine import Lifecycle
from wslifecycle.statemachine.mutate import Book, Mutant, Subject
from wslifecycle.statemachine.system import Bounds

SUBJECT = Subject()
BY_ID = {mutant.id: mutant for mutant in SUBJECT.mutants}
NAMED = SUBJECT.book().named

LITTLE = Bounds(queue=0, receivers=1, facts=frozenset({"denial", "raising"}))

HOLE = "wire.app_waited@open:drop"
TWICE = "wire.peer_close@closing:double-effect=end_transport"
SECOND_CONNECT = "inbox.give_connect@waiting:obey=connect_due"
UNSEEN = "wire.app_waited@denying:refuse=disconnected"  # no scenario has a send() that waits
NO_PONG = "wire.peer_ping@open:ignore"
SAME = "inbox.give_message@flowing(unread):retarget=waiting"  # the coupling leads back at once


# ------------------------------------------------------------------------------------------------ one mutant


@pytest.mark.parametrize("mutant", NAMED, ids=lambda mutant: mutant.id)
def test_named_mutant_breaks_the_property_that_it_is_said_to_break(mutant: Mutant) -> None:
    spec = SUBJECT.spec_of(mutant)
    flat = Flat(spec, spec.reference)
    assert runner.unsound(flat) == []  # it is a machine that somebody could have built
    found = check(flat, LITTLE, (mutant.breaks,)).violations
    assert mutant.breaks in {violation.name for violation in found}


@pytest.mark.parametrize(
    ("name", "stage", "killer"),
    [
        (HOLE, "loader", "WSL020"),
        (TWICE, "scenarios", "close-default-code"),
        (UNSEEN, "checker", "no_end_before_the_end"),
    ],
)
def test_first_stage_that_kills_is_the_last_that_runs(
    name: str, stage: str, killer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    watch(monkeypatch, ran.append)
    assert judge(SUBJECT, BY_ID[name]).kills == {stage: killer}
    assert ran == [s for s in STAGES[1:] if STAGES.index(s) <= STAGES.index(stage)]


def watch(monkeypatch: pytest.MonkeyPatch, see: Callable[[str], object] = lambda stage: None) -> None:
    """Reports which of the later stages run. The checker needs seconds: here it sees no more than two faults."""
    played = runner.played

    def checked(flat: Flat) -> str | None:
        see("checker")
        again = flat.answers["give_connect"][0]["handshake/waiting/running"]
        if flat.answers["app_waited"][0]["denying/waiting/running"].refusal is not None:
            return "no_end_before_the_end"
        return "connect_once" if again.refusal is None else None

    monkeypatch.setattr(runner, "checked", checked)
    monkeypatch.setattr(runner, "played", lambda machine: (see("scenarios"), played(machine))[1])


def test_all_stages_are_recorded_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    assert list(judge(SUBJECT, BY_ID[SECOND_CONNECT], all_stages=True).kills) == ["scenarios", "checker"]
    assert list(judge(SUBJECT, BY_ID[HOLE], all_stages=True).kills) == ["loader"]  # there is no machine to go on with


def test_machine_of_the_reference_is_not_run_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    watch(monkeypatch, ran.append)
    verdict = judge(SUBJECT, BY_ID[SAME], all_stages=True)
    assert (verdict.machine, verdict.kills, ran) == (SUBJECT.machine, {}, [])


def test_checker_names_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "BOUNDS", runner.BOUNDS[:1])
    spec = SUBJECT.spec_of(BY_ID[SECOND_CONNECT])
    assert runner.checked(Flat(spec, spec.reference)) == "connect_once"


@pytest.mark.parametrize(("fatal", "killer", "searched"), [(0, "deadlock", 1), (1, "deadlock", 2), (None, None, 2)])
def test_checker_searches_little_at_first(
    fatal: int | None, killer: str | None, searched: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Bounds] = []

    def check(flat: Flat, bounds: Bounds, *, first: bool) -> SimpleNamespace:
        assert first  # the others would be found for nothing
        seen.append(bounds)
        wrong = fatal is not None and bounds == runner.BOUNDS[fatal]
        return SimpleNamespace(violations=[SimpleNamespace(name="deadlock")] if wrong else [])

    monkeypatch.setattr(runner, "check", check)
    assert runner.checked(SUBJECT.flat) == killer
    assert seen == list(runner.BOUNDS[:searched])


def test_reference_itself_survives_the_other_stages() -> None:
    assert runner.unsound(SUBJECT.flat) == []
    assert runner.played(Lifecycle(SUBJECT.flat)) is None


def test_crash_of_the_checker_is_no_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(flat: Flat) -> str | None:
        raise KeyError("open/flowing")

    monkeypatch.setattr(runner, "checked", crash)
    verdict = judge(SUBJECT, BY_ID[UNSEEN])
    assert (verdict.kills, verdict.error) == ({}, "KeyError: 'open/flowing'")
    made = report(SUBJECT, [BY_ID[UNSEEN]], [verdict], Book((), {}))
    assert (made.errors, made.killed, made.score, made.passed) == ([BY_ID[UNSEEN]], [], 0, False)


def test_checker_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "checked", lambda flat: time.sleep(30))
    verdict = judge(SUBJECT, BY_ID[UNSEEN], seconds=0.5)
    assert (verdict.kills, verdict.error) == ({}, "took longer than 0.5 s")


def test_scenario_that_cannot_be_played_to_its_end_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    verdict = judge(SUBJECT, BY_ID["wire.peer_ping@failing:refuse=impossible"])
    assert verdict.kills == {"scenarios": "ping-after-the-failure (ImpossibleEvent)"}


def test_part_of_a_split_row_that_never_answers_is_not_dead() -> None:
    """A row is also for `silent`, which no reference has: taken apart, that part of it answers nothing."""
    parts = {name: [place.piece] for name, place in SUBJECT.places.items() if not place.kind.startswith("whole")}
    spec = SUBJECT.spec_of(Mutant("split", "none", "", 1, parts))
    flat = Flat(spec, spec.reference)
    assert {finding.code for finding in flat.findings} == {"WSL033"}
    assert runner.unsound(flat) == []


def test_row_that_is_dead_as_a_whole_is_found() -> None:
    """Without an accept that leads on, no row for an open connection answers anything any more."""
    spec = SUBJECT.spec_of(BY_ID["wire.app_accept@handshake:retarget=handshake"])
    assert {"WSL030", "WSL033"} <= set(runner.unsound(Flat(spec, spec.reference)))


# ------------------------------------------------------------------------------------------------ several


def test_several_processes_come_to_the_same_verdicts_in_the_same_order() -> None:
    dropped = [mutant for mutant in SUBJECT.mutants if mutant.operator == "drop"]
    chosen = [BY_ID[SAME], *dropped[:9]]
    done: list[int] = []
    together = judge_all(SUBJECT, chosen, jobs=2, done=lambda: done.append(1))
    assert together == judge_all(SUBJECT, chosen, jobs=1)
    assert [verdict.mutant for verdict in together] == [mutant.id for mutant in chosen]
    assert len(done) == len(chosen)


@pytest.mark.parametrize("size", [1, 50, 400])
def test_sample_has_every_operator_and_all_named_ones(size: int) -> None:
    everything = [*NAMED, *SUBJECT.mutants]
    taken = sample(everything, size)
    operators = {mutant.operator for mutant in everything}
    assert {mutant.operator for mutant in taken} == operators
    assert set(NAMED) <= set(taken)
    assert len(taken) <= size + len(operators) + len(NAMED)
    assert taken == sample(everything, size)
    assert taken == [mutant for mutant in everything if mutant in taken]


def test_sample_that_is_large_enough_has_all() -> None:
    everything = [*NAMED, *SUBJECT.mutants]
    assert sample(everything, len(everything)) == everything


# ------------------------------------------------------------------------------------------------ the whole


ONE, TWO, THREE, FOUR = SUBJECT.mutants[:4]


def survived(mutant: Mutant, machine: str) -> Verdict:
    return Verdict(mutant.id, {}, machine)


def killed(mutant: Mutant, machine: str | None = None) -> Verdict:
    return Verdict(mutant.id, {"checker": "connect_once"}, machine)


def test_machine_counts_once() -> None:
    verdicts = [killed(ONE, "a"), killed(TWO, "a"), killed(THREE, "b"), survived(FOUR, SUBJECT.machine)]
    made = report(SUBJECT, [ONE, TWO, THREE, FOUR], verdicts, Book((), {}))
    assert (made.killed, made.repeated, made.trivial) == ([ONE, THREE], [TWO], [FOUR])
    assert [made.outcome(m) for m in (ONE, TWO, THREE, FOUR)] == ["checker", "repeated", "checker", "trivial"]
    assert (made.score, made.passed) == (1, True)


def test_what_did_not_compile_is_no_repetition() -> None:
    made = report(SUBJECT, [ONE, TWO], [killed(ONE), killed(TWO)], Book((), {}))
    assert (made.killed, made.repeated) == ([ONE, TWO], [])


def test_score_is_the_share_of_what_was_killed() -> None:
    reasons = {mutant.id: "it means the same" for mutant in (THREE, FOUR)}
    verdicts = [killed(ONE, "a"), killed(TWO, "b"), survived(THREE, "c"), survived(FOUR, "d")]
    made = report(SUBJECT, [ONE, TWO, THREE, FOUR], verdicts, Book((), reasons))
    assert (made.score, made.unlisted, made.stale) == (0.5, [], [])
    assert not made.passed  # although every survivor has its reason


def enough(survivor: Verdict, equivalent: dict[str, str]) -> runner.Report:
    """Twenty mutants of which the last survives: 95 % are killed, so that all depends on the book."""
    last = next(mutant for mutant in (ONE, *NAMED) if mutant.id == survivor.mutant)
    chosen = [*SUBJECT.mutants[1:20], last]
    verdicts = [*(killed(mutant, mutant.id) for mutant in chosen[:-1]), survivor]
    return report(SUBJECT, chosen, verdicts, Book((), equivalent))


def test_every_survivor_needs_a_reason() -> None:
    assert enough(survived(ONE, "x"), {ONE.id: "it means the same"}).passed
    bare = enough(survived(ONE, "x"), {})
    assert (bare.unlisted, bare.score, bare.passed) == ([ONE], 0.95, False)


def test_survivor_that_repeats_another_needs_a_reason_too() -> None:
    made = report(SUBJECT, [ONE, TWO], [survived(ONE, "a"), survived(TWO, "a")], Book((), {ONE.id: "the same"}))
    assert (made.survivors, made.repeated, made.unlisted) == ([ONE], [TWO], [TWO])


def test_named_mutant_has_no_excuse() -> None:
    named = NAMED[0]
    made = enough(survived(named, "x"), {"named:*": "it means the same"})
    assert made.unlisted == [named]
    assert made.stale == ["named:*: there is no such mutant"]


@pytest.mark.parametrize(
    ("pattern", "stale"),
    [
        ("wire.app_send@nowhere:drop", "wire.app_send@nowhere:drop: there is no such mutant"),
        ("nothing.*", "nothing.*: there is no such mutant"),
        (SUBJECT.mutants[1].id, f"{SUBJECT.mutants[1].id}: {SUBJECT.mutants[1].id} does not survive"),
        ("*:drop", f"*:drop: {SUBJECT.mutants[1].id} does not survive"),
    ],
)  # fmt: skip
def test_entry_that_is_no_longer_so_is_stale(pattern: str, stale: str) -> None:
    made = enough(survived(ONE, "x"), {ONE.id: "it means the same", pattern: "so it was once"})
    assert made.stale == [stale]
    assert not made.passed


def test_entry_for_a_mutant_that_did_not_run_is_not_stale() -> None:
    assert enough(survived(ONE, "x"), {ONE.id: "the same", HOLE: "nobody knows"}).stale == []


# ------------------------------------------------------------------------------------------------ the command


def run(*arguments: str) -> Result:
    return CliRunner().invoke(Commands(commands={"mutants": cli_mutants.mutants}), ["mutants", *arguments])


def test_command_passes_where_all_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    result = run("--select", "wire.peer_close@open:d", "--jobs", "1")
    assert result.exit_code == 0, result.output
    assert "drop-effect" in result.stdout
    assert "100.0 %" in result.stdout
    assert result.stdout.rstrip().endswith("PASS")


def test_command_fails_with_a_survivor_that_has_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_mutants, "judge_all", lambda subject, chosen, **_: [survived(m, m.id) for m in chosen])
    result = run("--select", HOLE)
    assert result.exit_code == 1
    line = BY_ID[HOLE].line
    assert f"spec/lifecycle.yaml:{line}: {HOLE}: wire.app_waited@open is left out [NOT LISTED]" in result.stdout
    assert "FAIL" in result.stdout


def test_command_shows_the_reason_of_a_survivor_and_a_stale_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book((), {HOLE: "nobody sends", "nothing.*": "so it was"})
    monkeypatch.setattr(Subject, "book", lambda self: book)
    monkeypatch.setattr(cli_mutants, "judge_all", lambda subject, chosen, **_: [survived(m, m.id) for m in chosen])
    result = run("--select", HOLE)
    assert result.exit_code == 1
    assert "[equivalent: nobody sends]" in result.stdout
    assert "STALE spec/mutants.yaml: nothing.*: there is no such mutant" in result.stdout


def test_command_reports_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = Verdict(HOLE, {}, None, "KeyError: 'x'")
    monkeypatch.setattr(cli_mutants, "judge_all", lambda *_, **__: [crashed])
    result = run("--select", HOLE)
    assert result.exit_code == 1
    assert f"ERROR spec/lifecycle.yaml:{BY_ID[HOLE].line}: {HOLE}" in result.stdout


@pytest.mark.parametrize("arguments", [("--select", "no such text"), ("--sample", "0"), ("--jobs", "0"), ("more",)])
def test_misuse_is_told_apart(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_list_names_all_and_runs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_mutants, "judge_all", None)
    lines = run("--list").stdout.splitlines()
    assert len(lines) == len(NAMED) + len(SUBJECT.mutants)
    assert lines[0].endswith(f": {NAMED[0].id}: {NAMED[0].says}")


def test_list_is_made_for_machines_too() -> None:
    (row,) = json.loads(run("--list", "--json", "--select", HOLE).stdout)
    assert row == {"id": HOLE, "line": BY_ID[HOLE].line, "says": BY_ID[HOLE].says}


def test_json_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    result = run("--json", "--all-stages", "--select", SECOND_CONNECT)
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    assert (made["passed"], made["score"], made["killed"], made["survived"]) == (True, 1, 1, 0)
    (mutant,) = made["mutants"]
    assert mutant["outcome"] == "scenarios"
    assert mutant["kills"].keys() == {"checker", "scenarios"}
    assert mutant["kills"]["scenarios"] in load_scenarios()


def test_share_is_rounded_down() -> None:
    assert cli_mutants.percent(9499, 10000) == "94.9 %"
    assert cli_mutants.percent(0, 0) == "100.0 %"


def test_loader_kills_do_not_count_in_the_second_score() -> None:
    by_loader = Verdict(ONE.id, {"loader": "WSL020"})
    made = report(SUBJECT, [ONE, TWO, THREE], [by_loader, killed(TWO, "b"), survived(THREE, "c")], Book((), {}))
    scores = "66.6 %: loader 1, scenario 0, property 1); of those that compile 50.0 %."
    assert cli_mutants.summary(made).startswith(f"2 of 3 different mutants killed ({scores}")
