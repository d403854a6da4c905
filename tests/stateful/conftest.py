"""Where a campaign is asked for (`campaign.py`): collects its test, tells how far it is, and what came of it."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from tests.stateful.campaign import Campaign, Summary, examples, line, reachable, reports

ASKED = Campaign.asked()
EVERY = 5.0
"""Seconds from one line to the next."""

collect_ignore = [] if ASKED else ["test_campaign.py"]


class Teller:
    """Tells of a campaign, from the process that the workers belong to."""

    def __init__(self, campaign: Campaign, config: pytest.Config) -> None:
        self._begun = time.monotonic()
        self._campaign = campaign
        self._config = config
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._summary: Summary | None = None

    def pytest_sessionstart(self) -> None:
        """It begins."""
        self._thread.start()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """It ends, in whatever way."""
        self._over.set()
        self._thread.join()
        elapsed = time.monotonic() - self._begun
        told = reports(self._campaign.directory)
        broken = session.testsfailed > sum(bool(report.findings) for report in told)
        # to know them all takes seconds, which are well spent only at a good end
        known = reachable(self._campaign) if session.exitstatus == pytest.ExitCode.OK else None
        self._summary = Summary(self._campaign, told, elapsed, known, broken)
        self._summary.save()
        if not self._summary.passed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The summary."""
        if self._summary is None:
            return
        terminalreporter.section("fuzzing", "-")
        for text in self._summary.table():
            terminalreporter.line(text)
        terminalreporter.line(f"Also in {self._campaign.directory / 'summary.json'}")

    def _tell(self) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        assert isinstance(reporter, pytest.TerminalReporter)
        while not self._over.wait(EVERY):
            if told := reports(self._campaign.directory):  # before that pytest tells how the workers begin
                reporter.ensure_newline()
                reporter.line(line(told, time.monotonic() - self._begun))


def pytest_configure(config: pytest.Config) -> None:
    """The process that the workers belong to prepares everything; they get its seed by the environment."""
    if ASKED is None or config.option.collectonly or hasattr(config, "workerinput"):
        return
    seed = ASKED.seed or random.SystemRandom().randrange(1, 2**32)
    os.environ["WSLIFECYCLE_FUZZ_SEED"] = str(seed)
    campaign = Campaign.asked()
    assert campaign is not None
    campaign.begin()
    try:
        with examples(campaign.directory / "examples", campaign.shared):
            assert campaign.mutant == "" or campaign.machine
    except (ConnectionError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(Teller(campaign, config), "wslifecycle-fuzz")
