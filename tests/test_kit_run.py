"""The kit on servers in processes of their own: ours passes, planted faults are found, profiles are measured."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import UserDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.processes import exists
from wslifecycle.conformance.kit import agent, probes, profiles, run, servers
from wslifecycle.conformance.kit.cases import cases
from wslifecycle.conformance.kit.fuzz import Wrong, fuzz, replay
from wslifecycle.conformance.kit.results import Result, Verdict
from wslifecycle.conformance.kit.run import KitError, conform
from wslifecycle.conformance.kit.script import Step, Terms
from wslifecycle.statemachine.load import load_profile, load_spec

pytestmark = pytest.mark.xdist_group("servers")  # one at a time: they are judged by what they do in time

TESTS = Path(__file__).parent
OWN = servers.find("wslifecycle:start_server")[0]


def faulty(fault: str) -> servers.Server:
    return servers.custom(f"{sys.executable} {TESTS / 'faulty.py'} {fault} {{app}} --port {{port}}")


def test_our_own_server_passes_everything() -> None:
    result = conform(OWN)
    assert result.passed
    assert not result.deviations
    assert result.cases > 900
    assert not result.unasked
    spec = load_spec()
    assert result.answers.items() <= spec.reference.items()
    assert {"R20", "R28", "R36", "W7", "W13", "C2", "C43"} <= result.tried.keys()


CASES = {
    "dies": ("way:app_close", Verdict.DIED, ""),
    "hangs": ("way:app_close", Verdict.HUNG, ""),
    "crashes": ("way:app_close", Verdict.CRASHED, ""),
    "repeats": ("eager:receive+app_accept", Verdict.MUST, "R20"),
    "swallows": ("value:websocket.send:text=empty", Verdict.MUST, "W13"),
    "cancels": ("way:app_accept+peer_eof", Verdict.MUST, "R28"),
    "blocks": ("way:receive+app_close", Verdict.MUST, "R36"),
}


@pytest.mark.parametrize("fault", CASES)
def test_planted_fault_is_found_by_a_case_that_knows_nothing_of_it(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HEALTH", 1.0)
    begins, verdict, rule = CASES[fault]
    sane = named(begins)[:1]
    result = conform(faulty(fault), only=sane)
    heavy = [(found.verdict, found.rule) for found in result.deviations if found.verdict is not Verdict.CHOICE]
    assert (verdict, rule) in heavy
    found = next(found for found in result.deviations if (found.verdict, found.rule) == (verdict, rule))
    assert found.times == found.of == 3
    assert found.case in sane
    assert any(line.wrong for line in found.trace)
    if verdict in (Verdict.DIED, Verdict.HUNG):
        assert (found.event, found.state) == ("app_close", "handshake/connect_due/running")
    assert shlex.split(found.repeat)[-1] == found.case
    assert conform(OWN, only=sane).passed  # and it is the fault that is found


def named(*beginnings: str) -> list[str]:
    """The cases whose names begin so."""
    every = cases(Terms("2.5", ("websocket.http.response",)))
    return [case.name for case in every if case.name.startswith(beginnings)]


def measured(profile: Path, *only: str) -> Result:
    command = f"{sys.executable} -m wslifecycle.conformance.kit.own {{app}} --port {{port}} --profile {profile}"
    return conform(servers.custom(command), only=only)


def test_answers_of_a_profile_are_measured_again(tmp_path: Path) -> None:
    """A server that behaves by a profile is measured to behave by it: the way there and back."""
    answers = {
        "C2": "aborted",
        "C3": "close_1000",
        "C4": "http_403",
        "C10": "none",
        "C13": "both_1005",
        "C41": "swallowed",
    }
    profile = tmp_path / "other.yaml"
    profile.write_text(f"title: Other\nanswers: {answers}".replace("'", ""), encoding="utf-8")
    ways = (
        "app_return",
        "app_accept+app_return+peer_lost",
        "app_accept+app_raise",
        "app_send+app_response_body",
        "receive+app_send",
    )
    names = named(
        *(f"way:{way}" for way in ways), "eager:app_accept+peer_lost", "eager:app_accept+app_close+peer_close"
    )
    result = measured(profile, *names)
    assert answers.items() <= result.answers.items()
    told = next(found for found in result.deviations if found.choice == "C10")
    assert (told.verdict, told.rule, told.answer) == (Verdict.MUST, "R28", "none")  # a choice that breaks a rule
    assert {found.verdict for found in result.deviations if found.choice == "C13"} == {Verdict.CHOICE}
    kept = tmp_path / profiles.file_name("other")
    kept.write_text(profiles.write(result, "2026-11-27"), encoding="utf-8")
    assert answers.items() <= load_profile(load_spec(), str(kept)).answers.items()


def test_case_that_there_is_not_is_misuse() -> None:
    with pytest.raises(LookupError, match=r"no case way:app_acept .*Do you mean way:"):
        conform(OWN, only=["way:app_acept"])


def test_select_takes_what_tries_a_rule_or_leads_through_a_state() -> None:
    result = conform(OWN, select=["C50"])
    assert result.passed
    assert 0 < conform(OWN, select=["W8"]).cases < 200


def test_server_that_does_not_start_is_said_with_its_log() -> None:
    with pytest.raises(KitError, match=r"ended with status 3"):
        conform(servers.custom(f"{sys.executable} -c 'import sys; sys.exit(3)' {{app}} {{port}}"))


# ------------------------------------------------------------------------------------------------ fuzzing


def test_fuzzing_finds_a_planted_fault_and_writes_a_program_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = fuzz(faulty("repeats"), 8)
    first = found[0]
    assert (first.verdict, first.suspicion.blame.rule) == (Verdict.MUST, "R20")
    assert first.times == first.of
    assert len(first.steps) <= 3
    with pytest.raises(Wrong, match="R20"):
        exec(first.program, {})
    assert "websocket.connect" in capsys.readouterr().out
    assert not fuzz(faulty("repeats"), 2, known=[one.key for one in found])[len(found) :]


def test_fuzzing_sees_what_one_conversation_does_to_another() -> None:
    first = fuzz(faulty("mixes"), 8)[0]
    assert first.verdict is Verdict.MUST
    assert first.suspicion.blame.seen == "in another conversation a text"
    assert first.times == first.of
    assert len(first.steps) == 1
    with pytest.raises(Wrong, match="in another conversation"):
        exec(first.program, {})


def test_a_sound_conversation_is_replayed_without_a_finding() -> None:
    replay("wslifecycle:start_server", [Step("app asks"), Step("app sends", {"type": "websocket.close"})])


# ------------------------------------------------------------------------------------------------ servers


def test_names_and_commands_that_cannot_be_are_said() -> None:
    with pytest.raises(LookupError, match=r"no server 'nobody'\. Names: .*uvicorn"):
        servers.find("nobody")
    with pytest.raises(LookupError, match=r"granian is not installed: pip install granian"):
        servers.find("granian", TESTS)
    with pytest.raises(ValueError, match=r"no \{app\}"):
        servers.custom("server {port}")


def test_uvicorn_stands_for_its_implementations() -> None:
    assert [server.name for server in servers.find("uvicorn")] == [
        "uvicorn wsproto",
        "uvicorn websockets",
        "uvicorn websockets-sansio",
    ]


def test_no_server_outlives_a_kit_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, time\n"
        "from pathlib import Path\n"
        "from wslifecycle.conformance.kit import servers\n"
        "async def main():\n"
        "    folder = Path(sys.argv[1])\n"
        "    (folder / 'wslifecycle_agent.py').write_text('async def app(s, r, w): raise NotImplementedError')\n"
        "    server = servers.find('wslifecycle:start_server')[0]\n"
        "    async with servers.running(server, folder, {}, log=folder / 'log') as process:\n"
        "        print(process._process.pid, flush=True)\n"
        "        time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    kit = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert kit.stdout is not None
    with kit.stdout:
        pid = int(kit.stdout.readline())
        assert exists(pid)
        os.kill(kit.pid, signal.SIGKILL)
        kit.wait()
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline, "the server lives on"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    """Whether a process runs; a dead one may stay in the table until its new parent has looked."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_as_good_as_a_list_or_a_dict_is_told_as_one() -> None:
    """Headers need only be iterable, and some servers give an object of a parser's."""

    class Headers(Sequence[tuple[bytes, bytes]]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: Any) -> Any:
            return [(b"host", b"here")][index]

    scope = {"headers": Headers(), "state": UserDict(a={"b"}), "other": object}
    told = agent.load(agent.dump(scope)[agent.LENGTH.size :])
    assert told["headers"] == [[b"host", b"here"]]
    assert told["state"] == {"a": ["b"]}
    assert told["other"] == repr(object)


@pytest.mark.parametrize("headers", [None, 3, "text", [b"x"], [[b"x-twice"]], [["x-twice", "1"]]])
def test_headers_that_are_none_are_a_finding_and_no_end_of_the_kit(headers: Any) -> None:
    seen = {"type": "websocket", "headers": headers, "asgi": "2", "extensions": [], "subprotocols": None}
    wrong = {said[0] for said in probes._scope(seen, {}) if not said[2]}
    assert {"R6", "R14", "R17"} <= wrong


def test_headers_should_keep_their_order_and_must_keep_duplicates() -> None:
    def weight(*headers: tuple[bytes, bytes]) -> list[Any]:
        seen = {"headers": [list(pair) for pair in headers]}
        return [[*said[4:]] for said in probes._scope(seen, {}) if said[0] == "R14" and not said[2]]

    assert weight((b"x-twice", b"1"), (b"x-other", b"2"), (b"x-twice", b"3")) == []
    assert weight((b"x-twice", b"1"), (b"x-twice", b"3"), (b"x-other", b"2")) == [[Verdict.SHOULD]]
    assert weight((b"x-twice", b"1, 3"), (b"x-other", b"2")) == [[], [Verdict.SHOULD]]
