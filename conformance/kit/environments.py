"""Environments with servers: what is in one, and new ones for other releases, made once for each list and kept.

What says that an environment is whole is written last, so that one which was interrupted is made anew, and a lock keeps
two processes from making the same one. With `uv` it takes seconds, without it pip does the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

INSTALLER = 600
"""Seconds that the installer may take."""

PROGRAM = 20
"""Seconds that a program has to say something of itself."""


class NoEnvironment(Exception):
    """An environment could not be made: why."""


# ------------------------------------------------------------------------------------------------ what is there


def interpreter(folder: Path) -> Path | None:
    """The Python of the environment with this folder of programs; None if it is elsewhere."""
    if folder == Path(sys.executable).parent:
        return Path(sys.executable)
    return next((folder / name for name in ("python", "python3") if (folder / name).exists()), None)


_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@cache
def versions(folder: Path, distributions: tuple[str, ...]) -> Mapping[str, str] | None:
    """The versions of those that an environment has; None if it has no interpreter, so that nobody can be asked."""
    python = interpreter(folder)
    if python is None:
        return None
    ask = [str(python), "-c", _ASK, *distributions]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=PROGRAM, check=True)
    return dict[str, str](json.loads(done.stdout))


@cache
def usage(program: str, module: tuple[str, ...] = ()) -> str:
    """What a program says of its options."""
    done = subprocess.run([program, *module, "--help"], capture_output=True, text=True, timeout=PROGRAM, check=False)
    return done.stdout


# ------------------------------------------------------------------------------------------------ new ones


def environment(requirements: str, root: Path) -> Path:
    """The folder of programs of an environment with these requirements, of the Python that runs. Makes what is missing.

    Raises `NoEnvironment`, with the end of what the installer said.
    """
    name = hashlib.sha256(f"{requirements} {sys.version_info[:2]}".encode()).hexdigest()[:12]
    place = root.absolute() / name
    with _alone(place.with_suffix(".lock")):
        if not (place / "requirements").exists():
            shutil.rmtree(place, ignore_errors=True)
            _make(place, requirements.split())
            (place / "requirements").write_text(requirements + "\n", encoding="utf-8")  # the last: now it is whole
    return place / "bin"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits until no other process is here."""
    import fcntl  # Windows has none, and has to import this module, too

    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(place: Path, requirements: list[str]) -> None:
    """Makes an environment. It cannot be built elsewhere and moved, since its scripts name their interpreter."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    python = str(place / "bin" / "python")
    if uv is not None:
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place))
        _run(uv, "pip", "install", "--quiet", "--python", python, *requirements)
    else:
        _run(sys.executable, "-m", "venv", "--clear", str(place))
        _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)


def _run(*command: str) -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=INSTALLER, check=True)
        except subprocess.SubprocessError as error:  # its words have the command and what came of it
            output.seek(0)
            raise NoEnvironment(f"{error} {output.read()[-800:].strip()}") from None
