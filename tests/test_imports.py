"""What importing wslifecycle costs, and which module may import what.

A server author who wants the machine and the connection must not pay for asyncio, a drawing library or a
command line, nor wait for them: the first two tests look at a fresh interpreter. The others read every import
statement of the package: one module alone touches each foreign library, and the rooms depend on each other in
one direction.
"""

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("spec", "statemachine", "runtime", "conformance")  # each may import itself and those before it


def python(code: str) -> str:
    """Run `code` in a fresh interpreter that sees neither PYTHON* nor this folder; give its output."""
    command = [sys.executable, "-I", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def seconds(code: str) -> float:
    """How long `code` keeps a processor busy: a machine with other work to do must not make a test fail."""
    before = os.times()
    python(code)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def modules() -> Iterator[Path]:
    """Every module of the package, once: the links in src/wslifecycle/ are not followed."""
    for folder in (*ROOMS, "src/wslifecycle"):
        for path, _, names in os.walk(ROOT / folder):
            yield from (Path(path, name) for name in names if name.endswith(".py"))


def imports(module: Path) -> set[str]:
    """The dotted names that `module` imports anywhere, in functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def importers(library: str) -> list[str]:
    """The modules that import `library` or a part of it."""
    return [
        str(module.relative_to(ROOT))
        for module in modules()
        if any(name.split(".")[0] == library for name in imports(module))
    ]


def test_import_is_light() -> None:
    loaded = set(python("import sys, wslifecycle; print(*sys.modules)").split())
    heavy = {"asyncio", "graphviz", "hypothesis", "click", "rich", "jsonschema", "wsproto"}
    assert not loaded & heavy


def test_import_is_quick() -> None:
    """`import wslifecycle` adds at most 150 ms to an interpreter's start (medians of interleaved rounds)."""
    idle, importing = "pass", "import wslifecycle"
    seconds(importing)  # writes the bytecode
    rounds = [(seconds(idle), seconds(importing)) for _ in range(9)]
    without, with_it = (statistics.median(times) for times in zip(*rounds, strict=True))
    assert with_it - without <= 0.150


@pytest.mark.parametrize("library", ["transitions", "wsproto", "graphviz"])
def test_one_module_alone_imports(library: str) -> None:
    assert len(importers(library)) == 1, importers(library)


@pytest.mark.parametrize(
    ("room", "stranger"),
    [("statemachine", "asyncio"), ("statemachine", "socket"), ("runtime", "yaml")],
)
def test_room_knows_nothing_of(room: str, stranger: str) -> None:
    assert [module for module in importers(stranger) if module.startswith(f"{room}/")] == []


@pytest.mark.parametrize("room", ROOMS)
def test_dependencies_point_one_way(room: str) -> None:
    """conformance -> runtime -> statemachine -> spec; and no room imports the front, `wslifecycle` itself."""
    allowed = tuple(f"wslifecycle.{other}." for other in ROOMS[: ROOMS.index(room) + 1])
    backwards = {
        f"{module.relative_to(ROOT)}: {name}"
        for module in modules()
        if module.is_relative_to(ROOT / room)
        for name in imports(module)
        if f"{name}.".startswith((".", "wslifecycle.")) and not f"{name}.".startswith(allowed)
    }
    assert backwards == set()
