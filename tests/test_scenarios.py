"""The hand-written traces judge the connection, without I/O and over real sockets; and they can fail."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from wslifecycle.conformance import judge, peer, sansio, sockets
from wslifecycle.conformance.scenarios import OBSERVATIONS, STIMULI, VIOLATIONS, load_scenarios, read
from wslifecycle.runtime.codec import Kind
from wslifecycle.runtime.frames import FrameCodec
from wslifecycle.runtime.handshake import Fields, Handshake
from wslifecycle.statemachine.findings import SpecError
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.machine import Lifecycle, build

SPEC = Path(__file__).parent.parent / "spec"
SCENARIOS = load_scenarios()


def machine_with(**answers: str) -> Lifecycle:
    spec = load_spec()
    return build(spec, {**spec.reference, **answers}, "another")


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_connection_obeys_the_scenario(name: str) -> None:
    assert sansio.run(SCENARIOS[name]) == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenario_holds_over_a_real_socket(name: str) -> None:
    assert asyncio.run(sockets.run(SCENARIOS[name])) == []


@pytest.mark.parametrize(
    ("choice", "answer"),
    [
        ("C2", "close_1011"),
        ("C2", "stays_open"),
        ("C4", "http_403"),
        ("C6", "waits"),
        ("C8", "ignored"),
        ("C9", "violation"),
        ("C15", "given"),
        ("C25", "lenient"),
    ],
)
def test_another_answer_breaks_only_scenarios_that_assume_it(choice: str, answer: str) -> None:
    machine = machine_with(**{choice: answer})
    broken = {name for name, scenario in SCENARIOS.items() if sansio.run(scenario, machine)}
    assert broken
    assert broken <= {name for name, scenario in SCENARIOS.items() if choice in scenario.assumes}


@pytest.mark.parametrize(
    ("name", "answers", "difference"),
    [
        ("return-open", {"C2": "stays_open"}, "the peer saw nothing instead of close code 1000"),
        ("data-around-own-close", {"C15": "given"}, "the app got websocket.receive text='too late' instead of"),
        ("return-before-reply", {"C4": "http_403"}, "http status 403"),
        ("after-own-close", {"C8": "ignored"}, "send() did not raise, not raised disconnected"),
    ],
)
def test_what_is_missing_on_top_or_different_is_seen_over_the_socket(
    monkeypatch: pytest.MonkeyPatch, name: str, answers: dict[str, str], difference: str
) -> None:
    monkeypatch.setattr(peer, "PATIENCE", 0.2)
    assert difference in "\n".join(asyncio.run(sockets.run(SCENARIOS[name], machine_with(**answers))))


def corrupt(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A server that breaks a rule which no scenario names: the peer has to see it all the same."""
    encode, accept = FrameCodec.encode, Handshake.accept

    def corrupt_frame(self: FrameCodec, of: Kind, payload: bytes | str) -> bytes:
        encoded = encode(self, of, payload)
        if kind == "data behind the Close" and of == "close":
            return encoded + b"\x81\x02hi"
        if kind == "a text that is no UTF-8" and of == "text":
            return encoded[:-1] + b"\xff"
        if kind == "a masked frame" and of == "text":
            return encoded[:1] + bytes((encoded[1] | 0x80,)) + b"\0\0\0\0" + encoded[2:]
        return encoded

    def corrupt_101(self: Handshake, key: bytes, fields: Fields) -> bytes:
        encoded = accept(self, key, fields)
        if kind == "a wrong accept key":
            return re.sub(rb"(?i)(sec-websocket-accept: ).{4}", rb"\1AAAA", encoded)
        return encoded + b"\xf1\x00" if kind == "an illegal frame behind the 101" else encoded

    monkeypatch.setattr(FrameCodec, "encode", corrupt_frame)
    monkeypatch.setattr(Handshake, "accept", corrupt_101)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("data behind the Close", "the peer saw text 'hi' "),
        ("a wrong accept key", "invalid 'handshake: "),
        ("an illegal frame behind the 101", "invalid 'frame: "),
        ("a masked frame", "invalid 'frame: "),
        ("a text that is no UTF-8", "invalid \"frame: 'utf-8' codec"),
    ],
)
def test_the_peer_sees_what_no_server_may_do(monkeypatch: pytest.MonkeyPatch, kind: str, says: str) -> None:
    monkeypatch.setattr(peer, "PATIENCE", 0.2)
    corrupt(monkeypatch, kind)
    assert says in "\n".join(asyncio.run(sockets.run(SCENARIOS["echo"])))


def test_a_peer_that_fails_itself_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "PATIENCE", 0.2)
    monkeypatch.setattr(judge, "_frame_seen", lambda frame: dict[str, str]()["a fault of ours"])
    with pytest.raises(KeyError, match="a fault of ours"):
        asyncio.run(sockets.run(SCENARIOS["echo"]))


def test_a_receive_that_raises_is_a_difference_and_no_crash() -> None:
    machine = machine_with(C6="raises")
    scenario = SCENARIOS["repeated-disconnect"]
    assert "raised 'disconnected'" in "\n".join(sansio.run(scenario, machine))
    assert "raised 'disconnected'" in "\n".join(asyncio.run(sockets.run(scenario, machine)))


class TestTheFiles:
    def test_there_are_about_sixty_or_more_and_the_demo_has_its_five(self) -> None:
        assert len(SCENARIOS) >= 60
        assert {"echo", "reject", "close-with-code", "peer-lost", "granian-591"} <= set(SCENARIOS)

    @pytest.mark.parametrize("file", sorted((SPEC / "scenarios").glob("*.yaml")), ids=lambda file: file.stem)
    def test_they_fulfil_the_schema_for_editors(self, file: Path) -> None:
        schema = json.loads((SPEC / "scenario.schema.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text()))

    def test_they_cite_rules_and_choices_that_exist(self) -> None:
        spec = load_spec()
        for scenario in SCENARIOS.values():
            assert scenario.cites
            for cite in scenario.cites:
                assert cite.rule in spec.rules or cite.rule in spec.choices, (scenario.name, cite)
                assert cite.doc in spec.documents, (scenario.name, cite)
            assert set(scenario.assumes) <= set(spec.choices), scenario.name

    def test_together_they_use_every_kind_of_step(self) -> None:
        steps = {step for file in (SPEC / "scenarios").glob("*.yaml") for step in _steps(file)}
        assert steps == {*STIMULI, *OBSERVATIONS}

    def test_together_they_pass_every_state_of_the_wire(self) -> None:
        passed: set[str] = set()
        for scenario in SCENARIOS.values():
            driver = sansio.SansIO(scenario)
            for act in scenario.acts:
                driver.do(act)
                passed.add(driver.connection.state)
        flat = build(load_spec()).flat
        wires = {state.split("/")[0] for state in passed}
        assert wires == {state[0] for state in flat.states}

    def test_every_kind_of_violation_can_be_sent(self) -> None:
        assert set(peer.FRAMES) == set(VIOLATIONS)

    @pytest.mark.parametrize(
        ("step", "says"),
        [
            ("app sends: hello", "has to be a mapping"),
            ("peer sends: {code: 1}", "has to have text or bytes"),
            ("peer sees: gone", "has to be `end` or a mapping of one key"),
            ("peer violates: everything", "has to be one of unmasked_frame"),
        ],
    )
    def test_a_step_that_cannot_be_read_is_a_finding(self, step: str, says: str) -> None:
        lines = ("scenarios:", "  - name: x", "    title: y", "    cites: []", "    steps:", "      - app asks:")
        with pytest.raises(SpecError, match=rf"here\.yaml:7: WSL006 .*{says}"):
            list(read("\n".join((*lines, f"      - {step}")), "here.yaml"))

    def test_a_cite_without_its_document_is_a_finding(self) -> None:
        text = "scenarios:\n  - {name: x, title: y, cites: [{rule: R1, says: z}], steps: []}\n"
        with pytest.raises(SpecError, match="a cite lacks `doc`"):
            list(read(text, "here.yaml"))

    def test_a_fault_in_a_file_names_its_line(self) -> None:
        lines = (
            "scenarios:",
            "  - name: x",
            "    title: y",
            "    cites: []",
            "    steps:",
            "      - app asks:",
            "      - app sings:",
        )
        text = "\n".join(lines)
        with pytest.raises(SpecError, match=r"here\.yaml:7: WSL011 There is no step `app sings`"):
            list(read(text, "here.yaml"))


def _steps(file: Path) -> Iterator[str]:
    for scenario in yaml.safe_load(file.read_text())["scenarios"]:
        for step in scenario["steps"]:
            yield from step
