"""Campaigns in processes of their own, for those who test them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.processes import started

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds that one may take, with everything that is shrunk in it."""


def command(*arguments: str) -> list[str]:
    """A pytest that runs campaigns and what is given."""
    pytest = Path(sys.executable).with_name("pytest")
    return [str(pytest), "-q", "-p", "no:cacheprovider", *arguments, "tests/stateful/test_campaign.py"]


def environment(folder: Path, seconds: float, **others: object) -> dict[str, str]:
    """What asks for a campaign that keeps everything in this folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "WSLIFECYCLE_"))}
    asked = {"seconds": seconds, "directory": folder, **others}
    return kept | {f"WSLIFECYCLE_FUZZ_{name.upper()}": str(value) for name, value in asked.items()}


def run(
    folder: Path, *arguments: str, seconds: float, seed: int = 1, database: str = "", mutant: str = ""
) -> tuple[int, str, dict[str, Any] | None]:
    """Runs one: the exit status, what it printed, and its summary if there is one."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    asked = environment(folder, seconds, seed=seed, database=database, mutant=mutant)
    with started(*command(*arguments), log=log, cwd=ROOT, env=asked) as process:
        status = process.wait(PATIENCE)
    return status, log.read_text(encoding="utf-8"), summary(folder)


def summary(folder: Path) -> dict[str, Any] | None:
    """The summary that a campaign left in this folder."""
    file = folder / "summary.json"
    found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return found
