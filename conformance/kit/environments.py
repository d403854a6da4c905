"""Environments with other releases of servers: made once for each list of requirements, and kept.

What says that an environment is whole is written last, so that one which was interrupted is made anew. With `uv` it
takes seconds, without it pip does the same.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


class NoEnvironment(Exception):
    """An environment could not be made: why."""


def environment(requirements: str, root: Path) -> Path:
    """The folder of programs of an environment with these requirements, of the Python that runs. Makes what is missing.

    Raises `NoEnvironment`, with the end of what the installer said.
    """
    name = hashlib.sha256(f"{requirements} {sys.version_info[:2]}".encode()).hexdigest()[:12]
    place = root / name
    if not (place / "requirements").exists():
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        _make(place, requirements.split())
        (place / "requirements").write_text(requirements + "\n", encoding="utf-8")  # the last: now it is whole
    return place / "bin"


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
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            output.seek(0)
            raise NoEnvironment(f"{Path(command[0]).name} {command[1]} failed: {output.read()[-800:].strip()}")
