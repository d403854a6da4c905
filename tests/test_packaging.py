"""What pip installs: real files in one package, and nothing that could overwrite somebody else's.

The package reaches its rooms through links, and python-statemachine owns the import name `statemachine`. So
these tests build the wheel and the sdist as a release would, look inside, and install the wheel beside
python-statemachine into a clean environment, where both must work. They need the network, for pip.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("spec", "statemachine", "runtime", "conformance")
pytestmark = pytest.mark.xdist_group("packaging")  # it is built once
SHIPPED = {".py", ".yaml", ".json", ".typed", ".html", ".css", ".js", ".csv"}

TRY_BOTH = """
import statemachine
import wslifecycle

class Door(statemachine.StateMachine):
    closed = statemachine.State(initial=True)
    opened = statemachine.State(final=True)
    push = closed.to(opened)

door = Door()
door.push()
assert Door.opened in door.configuration

assert wslifecycle.lifecycle()
assert wslifecycle.load_spec()
connection = wslifecycle.Connection(spec_version="2.5")
assert connection.app_wants().message["type"] == "websocket.connect"
assert connection.app_sent({"type": "websocket.accept"})
"""


class Built(NamedTuple):
    """The package as a release would build it, and the tree that it was built from."""

    tree: Path
    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def run(*command: str | Path, cwd: Path) -> None:
    """Run `command` in `cwd`; if it fails, show what it printed."""
    result = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


def copy_tree(tree: Path) -> None:
    """Copy what a commit of everything would hold; without git, everything that no tool made."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        made = (".git", ".venv*", ".*_cache", "__pycache__", "*.egg-info", "build", "dist")
        shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*made))
        return
    for name in filter(os.path.lexists, (ROOT / name for name in listed.split("\0") if name)):
        copy = tree / name.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, copy, follow_symlinks=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("packaging")
    tree, direct, release = folder / "tree", folder / "direct", folder / "release"
    copy_tree(tree)
    build = (sys.executable, "-m", "build")
    run(*build, "--outdir", direct, "--wheel", tree, cwd=folder)
    run(*build, "--outdir", release, tree, cwd=folder)  # the sdist, then a wheel from it
    (wheel,), (sdist,), (wheel_of_sdist,) = (
        direct.glob("*.whl"),
        release.glob("*.tar.gz"),
        release.glob("*.whl"),
    )
    return Built(tree, wheel, sdist, wheel_of_sdist)


def shipped(tree: Path) -> set[str]:
    """The names that every file of the package must have once installed, read off the tree."""
    homes = {tree / "src/wslifecycle": "wslifecycle"} | {tree / room: f"wslifecycle/{room}" for room in ROOMS}
    return {
        f"{name}/{Path(path, file).relative_to(home).as_posix()}"
        for home, name in homes.items()
        for path, _, files in os.walk(home)  # does not follow the links
        for file in files
        if Path(file).suffix in SHIPPED and "__pycache__" not in path
    }


def test_wheel_holds_the_whole_package_and_nothing_else(built: Built) -> None:
    names = set(zipfile.ZipFile(built.wheel).namelist())
    assert {name for name in names if not name.startswith("wslifecycle-0.")} == shipped(built.tree)
    for folder in (*ROOMS, "integrations"):
        assert any(name.startswith(f"wslifecycle/{folder}/") for name in names), folder


def test_sdist_holds_files_where_the_tree_holds_links(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        members = {member.name.partition("/")[2]: member for member in sdist.getmembers()}
    assert {f"src/{name}" for name in shipped(built.tree)} <= members.keys()
    assert all(member.isfile() or member.isdir() for member in members.values())


def test_wheel_from_the_sdist_is_the_same(built: Built) -> None:
    direct, from_sdist = zipfile.ZipFile(built.wheel), zipfile.ZipFile(built.wheel_of_sdist)
    assert sorted(direct.namelist()) == sorted(from_sdist.namelist())


def test_works_beside_python_statemachine(built: Built, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "python-statemachine", built.wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(python, "-c", TRY_BOTH, cwd=elsewhere)
