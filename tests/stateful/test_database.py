"""Campaigns share what they find: a failing example that one of them has put into Redis is the first that another runs.

Each campaign is a process with an empty folder of its own, as on a machine of its own; a redis-server of this test is
all that they share. The control has the same seed and no Redis, and has to look for itself.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import started, until
from tests.stateful.campaign import examples
from tests.stateful.campaigns import run

MUTANT = "named:granian"


def answers(port: int) -> bool:
    """Whether a Redis answers there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis that forgets everything with its end."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.fail("redis-server is missing: install Debian's redis-server, as `make setup` does.", pytrace=False)
    folder = tmp_path_factory.mktemp("redis")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "log"
    command = (server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    with started(*command, log=log, cwd=folder) as process:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return answers(port)

        until(ready, log.read_text)
        yield f"redis://127.0.0.1:{port}/0"


def first(folder: Path, seed: int, redis: str = "") -> dict[str, Any]:
    """What a campaign in this folder finds first, with which it ends: it obeys a mutant."""
    status, output, summary = run(folder, seconds=60, seed=seed, database=redis, mutant=MUTANT)
    assert status == 1, output
    assert summary is not None
    found: dict[str, Any] = summary["findings"][0]
    assert found["name"] == "connect_once"
    return found


def test_what_one_campaign_has_found_another_one_finds_at_once(redis: str, tmp_path: Path) -> None:
    alone = first(tmp_path / "control", 2)
    assert alone["execution"] > 1, "this seed finds it at once without help: take another one"
    assert first(tmp_path / "one", 1, redis)["execution"] > 1
    assert first(tmp_path / "two", 2, redis)["execution"] == 1
    assert list((tmp_path / "two" / "examples").iterdir()), "what is found is kept here as well"


def test_what_is_saved_is_there_for_everybody_who_shares_the_database(redis: str, tmp_path: Path) -> None:
    with examples(tmp_path / "one", redis) as one, examples(tmp_path / "two", redis) as two:
        one.save(b"key", b"value")
        assert set(two.fetch(b"key")) == {b"value"}
    with examples(tmp_path / "two") as alone:
        assert set(alone.fetch(b"key")) == set()
    with examples(tmp_path / "one") as alone:
        assert set(alone.fetch(b"key")) == {b"value"}


def test_a_database_that_does_not_answer_ends_a_campaign_before_it_begins(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # nobody listens there
        url = f"redis://127.0.0.1:{bound.getsockname()[1]}/0"
        status, output, summary = run(tmp_path, seconds=1, database=url)
    assert status == pytest.ExitCode.USAGE_ERROR, output
    assert f"WSLIFECYCLE_FUZZ_DATABASE: no Redis answers at {url}" in output
    assert summary is None
