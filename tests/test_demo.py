"""`make demo`: what it tells, what it writes, and that it fails when something differs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from wslifecycle.__main__ import main
from wslifecycle.conformance import demo, peer
from wslifecycle.conformance.scenarios import find


def test_five_conversations_are_told_and_drawn(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "5 conversations over real sockets: as their scenarios say." in result.output
    for name in demo.CONVERSATIONS:
        assert f"{name}: " in result.output
        (picture,) = tmp_path.glob(f"{name}.*")
        assert picture.stat().st_size > 1000
    assert "websocket.receive text='two'" in result.output  # what the app saw
    assert "HTTP 403" in result.output  # what the wire saw
    assert "open/flowing/running" in result.output  # the states passed
    assert "DIFFERENT" not in result.output


def test_a_conversation_that_goes_otherwise_is_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = find("echo")
    acts = [
        dataclasses.replace(act, peer=({"text": "hello, world"},)) if act.peer == ({"text": "hello"},) else act
        for act in echo.acts
    ]
    monkeypatch.setattr(demo, "find", lambda name: dataclasses.replace(echo, acts=tuple(acts)))
    monkeypatch.setattr(peer, "PATIENCE", 0.2)
    result = CliRunner().invoke(main, ["demo", "echo", "-o", str(tmp_path)])
    assert result.exit_code == 1
    assert "the peer saw text 'hello' instead of text 'hello, world'" in result.output
    assert "1 otherwise than their scenarios say" in result.output


def test_without_dot_the_picture_is_mermaid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, ["demo", "reject", "-o", str(tmp_path)])
    assert result.exit_code == 0
    assert (tmp_path / "reject.mmd").read_text()
    assert "apt" in result.output
