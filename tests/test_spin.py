"""SPIN as a second engine: how its output is read, and that both engines say the same.

Needs `spin` and `gcc`, which `.ci/setup` installs: without them these tests fail.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from threading import Thread

import pytest

from wslifecycle.statemachine import spin
from wslifecycle.statemachine.explore import Graph
from wslifecycle.statemachine.flatten import Flat
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.model import Property, Row, Spec
from wslifecycle.statemachine.promela import Claim, promela
from wslifecycle.statemachine.spin import (
    STATES,
    Comparison,
    Missing,
    Model,
    Outcome,
    Programs,
    SpinError,
    compare,
    outcome,
)
from wslifecycle.statemachine.system import Bounds, System

SPEC = load_spec()
FLAT = Flat(SPEC, SPEC.reference)
SMALL = Bounds(queue=0, receivers=1, facts=frozenset({"raising"}))

SAFE = Claim("p_once", ())
LIVE = Claim("p_end", (), cycles=True)

# ------------------------------------------------------------------------------------------------ what SPIN says


def said(
    before: str = "pan: ltl formula p_once\n",
    claim: str = "+ (p_once)",
    cycles: str = "acceptance   cycles \t- (not selected)",
    result: str = "State-vector 164 byte, depth reached 301, errors: 0\n    85731 states, stored\n",
    warning: str = "",
) -> str:
    """What `pan` of SPIN 6.5.2 writes, recorded, with parts of it exchanged."""
    return f"""{before}
(Spin Version 6.5.2 -- 6 December 2019)
{warning}
Full statespace search for:
\tnever claim         \t{claim}
\tassertion violations\t+ (if within scope of claim)
\t{cycles}
\tinvalid end states\t- (disabled by never claim)

{result}  1217222 states, matched
  1302953 transitions (= stored+matched)
  1302958 atomic steps
hash conflicts:     92308 (resolved)

Stats on memory usage (in Megabytes):
   15.698\tequivalent memory usage for states (stored*(State-vector + overhead))
  128.000\tmemory used for hash table (-w24)

unreached in proctype system
\tsystem.pml:740, state 221, "event = 32"
\t(1 of 1627 states)

pan: elapsed time 0.96 seconds
"""


STOPPED = "Warning: Search not completed\n"
IN_CYCLES = "acceptance   cycles \t+ (fairness disabled)"
NOTHING = "State-vector 164 byte, depth reached 773, errors: 0\n   191993 states, stored (270227 visited)\n"
ONE = "State-vector 164 byte, depth reached 24, errors: 1\n        8 states, stored\n"
ENDED = "pan: ltl formula p_once\npan:1: end state in claim reached (at depth 24)\npan: wrote system.pml.trail\n"
CYCLE = "pan: ltl formula p_end\npan:1: acceptance cycle (at depth 30)\npan: wrote system.pml.trail\n"
OTHERS = "warning: never claim + accept labels requires -a flag to fully verify\n"
LONG = "Depth=     859 States=    1e+06 Transitions= 1.04e+07 Memory=   141.093\tt=     6.25 R=   2e+05\n"
MEMORY = """pan: ltl formula p_end
pan: reached -DMEMLIM bound
\t4.18989e+07 bytes used
\t102400 bytes more needed
\t4.1943e+07 bytes limit
hint: to reduce memory, recompile with
  -DCOLLAPSE # good, fast compression, or
"""


@pytest.mark.parametrize(
    ("claim", "output", "found"),
    [
        (SAFE, said(), Outcome(False, 85731)),
        (SAFE, said(OTHERS), Outcome(False, 85731)),
        (SAFE, said(LONG), Outcome(False, 85731)),
        (SAFE, said(ENDED, result=ONE, warning=STOPPED), Outcome(True, 8)),
        (LIVE, said("pan: ltl formula p_end\n", "+ (p_end)", IN_CYCLES, NOTHING), Outcome(False, 191993)),
        (LIVE, said(CYCLE, "+ (p_end)", IN_CYCLES, ONE, STOPPED), Outcome(True, 8)),
        (None, said("", "- (not selected)", "cycle checks       \t- (disabled by -DSAFETY)"), Outcome(False, 85731)),
    ],
    ids=["none found", "other claims are about cycles", "long", "found", "no cycle", "cycle", "no claim"],
)  # fmt: skip
def test_verdict_is_read(claim: Claim | None, output: str, found: Outcome) -> None:
    assert outcome(output, 0, claim) == found


@pytest.mark.parametrize(
    ("claim", "output", "error"),
    [
        (SAFE, said("pan: ltl formula p_once\nerror: max search depth too small\n"), "max search depth too small"),
        (LIVE, said(MEMORY, "+ (p_end)", IN_CYCLES, NOTHING, STOPPED), "reached -DMEMLIM bound"),
        (SAFE, said("Time limit of    1 minutes exceeded\n", warning=STOPPED), "Time limit"),
        (SAFE, said(warning=STOPPED), "0 errors, no reason, search not completed"),
        (SAFE, said(ENDED, warning=STOPPED), "0 errors, end state in claim reached"),
        (SAFE, said(result=ONE, warning=STOPPED), "1 errors, no reason"),
        (
            SAFE,
            said("pan:1: assertion violated (x>0) (at depth 7)\n", result=ONE, warning=STOPPED),
            "assertion violated",
        ),
        (SAFE, said("pan:1: invalid end state (at depth 7)\n", result=ONE, warning=STOPPED), "invalid end state"),
        (SAFE, said(CYCLE, result=ONE, warning=STOPPED), "acceptance cycle"),
        (LIVE, said(ENDED, "+ (p_end)", IN_CYCLES, ONE, STOPPED), "end state in claim reached"),
        (None, said(ENDED, "- (not selected)", "", ONE, STOPPED), "end state in claim reached"),
        (SAFE, said(claim="+ (p_other)"), "for another claim than p_once"),
        (SAFE, said(claim="- (not selected)"), "for another claim than p_once"),
        (None, said(), "for another claim than not selected"),
        (LIVE, said("", "+ (p_end)"), "was not for cycles"),
        (SAFE, said("", cycles=IN_CYCLES), "was for cycles"),
        (LIVE, said(OTHERS, "+ (p_end)"), "-a flag"),
        (SAFE, said("warning: only one claim defined, -N ignored\n"), "-N ignored"),
        (SAFE, said(result=""), "not said what was found"),
        (SAFE, "pan: error: cannot find claim 'p_once'\n", "cannot find claim"),
        (SAFE, "", "pan ended with status 0"),
    ],
)
def test_search_that_was_not_whole_is_no_verdict(claim: Claim | None, output: str, error: str) -> None:
    """All of these were said with exit status 0."""
    with pytest.raises(SpinError, match=error):
        outcome(output, 0, claim)


def test_status_other_than_0_is_no_verdict() -> None:
    with pytest.raises(SpinError, match="status 1"):
        outcome(said(), 1, SAFE)


# ------------------------------------------------------------------------------------------------ programs


def test_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match=r"`spin` is not installed \(Debian: apt install spin\)"):
        Programs()


def test_programs_that_run_end_when_it_is_stopped(tmp_path: Path) -> None:
    programs, ended = Programs(), list[int]()
    runs = Thread(target=lambda: ended.append(programs.run(tmp_path, "sh", "-c", "sleep 60; true")[1]))
    runs.start()
    while not programs._running:
        time.sleep(0.01)
    programs.stop()
    runs.join(10)
    assert ended == [-9]
    with pytest.raises(SpinError, match="stopped"):
        programs.run(tmp_path, "true")


def test_program_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spin, "MINUTES", -29.9 / 60)
    with Programs() as programs, pytest.raises(SpinError, match="minutes"):
        programs.run(tmp_path, "sleep", "60")


def test_interrupt_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(FLAT, SMALL, ["one_close"], jobs=2, done=interrupt)
    assert list(tmp_path.iterdir()) == []
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not [command for command in commands if bytes(tmp_path) in command]


@pytest.mark.parametrize(
    ("cut", "error"), [("DEPTH", "max search depth too small"), ("MEGABYTES", "reached -DMEMLIM bound")]
)
def test_search_that_is_cut_short_is_noticed(
    cut: str, error: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spin, "DEPTH", 1000)
    monkeypatch.setattr(spin, cut, 12)
    with Programs() as programs, pytest.raises(SpinError, match=error):
        Model(programs, tmp_path / "model", promela(FLAT, Bounds(queue=1, receivers=2)), 0).ask()


# ------------------------------------------------------------------------------------------------ the two engines


@pytest.mark.parametrize(("queue", "receivers"), [(0, 1), (0, 2), (1, 1), (1, 2)])
def test_both_have_the_same_number_of_states(queue: int, receivers: int, tmp_path: Path) -> None:
    """SPIN has one more: that before the facts are chosen."""
    bounds = Bounds(queue=queue, receivers=receivers)
    with Programs() as programs:
        found = Model(programs, tmp_path / "model", promela(FLAT, bounds), 0).ask()
    assert found.states == len(Graph(System(FLAT, bounds), [], 1_000_000)) + 1


def verdicts(comparison: Comparison) -> dict[str, tuple[str, str]]:
    return {row.name: (row.ours, row.theirs) for row in comparison.rows if row.name != STATES}


def both(**said: str) -> dict[str, tuple[str, str]]:
    return {name: (verdict, verdict) for name, verdict in said.items()}


def with_rows(*rows: Row, spec: Spec = SPEC) -> Flat:
    return Flat(dataclasses.replace(spec, rows=rows), spec.reference, "mutant")


def test_both_find_connect_that_is_given_again() -> None:
    (refused,) = (row for row in SPEC.rows if row.events == ("give_connect",) and row.refusal)
    again = dataclasses.replace(refused, sources=("waiting",), refusal=None)
    rest = dataclasses.replace(refused, sources=tuple(state for state in refused.sources if state != "waiting"))
    flat = with_rows(*(row for row in SPEC.rows if row is not refused), again, rest)
    found = compare(flat, SMALL, ["connect_once", "connect_first"], jobs=2)
    assert verdicts(found) == both(connect_once="broken", connect_first="holds")
    assert not found.disagreements


def test_both_find_the_coupling_that_is_missing() -> None:
    couplings = tuple(coupling for coupling in SPEC.couplings if coupling.target != "disconnect_due")
    assert len(couplings) == len(SPEC.couplings) - 1
    flat = Flat(dataclasses.replace(SPEC, couplings=couplings), SPEC.reference, "mutant")
    found = compare(flat, SMALL, ["end_is_told", "one_close", "deadlock"], jobs=2)
    assert verdicts(found) == both(end_is_told="broken", one_close="holds", deadlock="broken")
    assert not found.disagreements


def test_both_find_the_timer_that_does_not_run() -> None:
    timer = SPEC.timers["close_timeout"]
    timers = dict(SPEC.timers) | {timer.name: dataclasses.replace(timer, states=timer.states - {"closing"})}
    flat = Flat(dataclasses.replace(SPEC, timers=timers), SPEC.reference, "mutant")
    found = compare(flat, SMALL, ["close_leads_to_the_end", "violation_ends_it", "impossible"], jobs=2)
    assert verdicts(found) == both(close_leads_to_the_end="broken", violation_ends_it="holds", impossible="holds")
    assert not found.disagreements


MINE = (
    ("always_not", "always app_close implies moved", (), (), "broken"),
    ("never", "never give_disconnect and unread", (), (), "holds"),
    ("never_not", "never after wire=failing and sending", (), (), "broken"),
    ("once_not", "at most once effect=send_message", (), (), "broken"),
    ("before_not", "app_accept before effect=send_close or refused", (), (), "broken"),
    ("before_itself", "app_accept before app_accept", (), (), "broken"),
    ("sometimes", "sometimes sending and close_sent", (), (), "holds"),
    ("gives", "gives leads to peer_message", (), (), "broken"),
    ("sometimes_not", "sometimes give_message and wire=handshake", (), (), "broken"),
    ("vacuous", "give_message and wire=handshake leads to told", (), (), "vacuous"),
    ("vacuous_always", "always app_send and told and wire=open implies moved", (), (), "vacuous"),
    ("fair", "close_sent leads to told", ("app_asks", "gives"), ("app_cancels",), "holds"),
    ("fair_not", "close_sent leads to told", ("app_asks",), ("app_cancels",), "broken"),
    ("rare_not", "close_sent leads to told", ("app_asks", "gives"), (), "broken"),
    ("off_timer", "after wire=open leads to wire=failing", ("keepalive_expired",), (), "broken"),
    ("no_fair", "app_close leads to close_sent or not transport=up or responded", (), (), "holds"),
)
"""Properties of each form, with what is fair and what is rare, and the verdict."""


@pytest.fixture(scope="module")
def made_up() -> Comparison:
    properties = {
        name: Property(name, holds, "R1", line, fair, rare) for line, (name, holds, fair, rare, _) in enumerate(MINE, 1)
    }
    flat = Flat(dataclasses.replace(SPEC, properties=properties), SPEC.reference, "mine")
    return compare(flat, dataclasses.replace(SMALL, queue=1), jobs=2)


@pytest.mark.xdist_group("made up")
@pytest.mark.parametrize(("name", "verdict"), [(mine[0], mine[4]) for mine in MINE])
def test_both_say_the_same_of_each_form(made_up: Comparison, name: str, verdict: str) -> None:
    assert verdicts(made_up)[name] == (verdict, verdict)


@pytest.mark.xdist_group("made up")
def test_both_are_asked_about_everything(made_up: Comparison) -> None:
    assert [row.name for row in made_up.rows] == [STATES, *(mine[0] for mine in MINE), "impossible", "deadlock"]
    assert not made_up.disagreements


def test_disagreement_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is taken for a wrong one: SPIN gets another property than we check."""
    lied = dict[str, bool]()

    def lie(flat: Flat, bounds: Bounds, asked: object = ()) -> str:
        lied["it"] = True
        return promela(flat, bounds, asked).replace("A = ", "A = !")  # type: ignore[arg-type]

    monkeypatch.setattr(spin, "promela", lie)
    found = compare(FLAT, SMALL, ["one_close"])
    assert lied
    assert [row.name for row in found.disagreements] == ["one_close"]
