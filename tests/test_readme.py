"""The README tells the truth: its example runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.speed import readme, results
from benchmarks.speed.figures import Figures
from wslifecycle import ApplicationViolation, Connection
from wslifecycle.__main__ import main
from wslifecycle.conformance.stress.results import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    found = [code for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in code]
    assert len(found) == 1
    return str(found[0])


def test_the_example_gives_what_its_comments_say() -> None:
    names: dict[str, object] = {}
    lines = block("python", "c = Connection(").splitlines()
    checked = 0
    for position, line in enumerate(lines):
        code, _, said = line.partition("  #")
        if "raises Disconnected" in said:
            with pytest.raises(OSError, match="has ended"):
                eval(code, names)
            checked += 1
        elif code.startswith("c."):
            result = repr(eval(code, names))
            following = lines[position + 1] if position + 1 < len(lines) else ""
            if following.startswith("# ("):
                assert result == following.removeprefix("# ")
                checked += 1
            elif said.strip().startswith(("{", "True", "()")):
                assert said.strip().startswith(result)
                checked += 1
        elif code and not code.startswith("#"):
            exec(code, names)
    assert checked == 7


def test_the_error_is_the_error() -> None:
    connection = Connection(extensions={"websocket.http.response"})
    connection.app_wants()
    with pytest.raises(ApplicationViolation) as caught:
        connection.app_sent({"type": "websocket.send", "text": "hi"})
    assert f"ApplicationViolation: {caught.value}\n" in README


@pytest.mark.parametrize("line", [line for line in block("sh", "wslifecycle table").splitlines() if line])
def test_each_command_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = line.partition("#")[0].split()
    assert arguments.pop(0) == "wslifecycle"
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output


def test_each_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_each_verb_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for verb in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


def test_no_recipe_has_more_than_three_lines() -> None:
    for recipe in re.findall(r"^[a-z$().-]+:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE):
        assert recipe.count("\n") <= 3, recipe


def test_the_table_of_what_was_tried_is_what_was_measured() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "stress.py"))
    assert script["written"](README, load(script["KEPT"].read_text(encoding="utf-8"))) == README


def test_the_figures_of_speed_are_what_was_measured() -> None:
    kept = results.load(readme.KEPT.read_text(encoding="utf-8"))
    assert readme.written(README, Figures(kept)) == README
