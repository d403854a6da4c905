"""Our runtime keeps what the spec says for as long as anybody cares to look: one test for each worker of a campaign.

It is collected only where `WSLIFECYCLE_FUZZ_SECONDS` asks for it, as `make fuzz` does.
"""

from __future__ import annotations

import os

import pytest

from tests.stateful.campaign import Campaign, Worker
from wslifecycle.conformance.orders.survey import quiet

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


@pytest.mark.parametrize("number", range(WORKERS))
def test_campaign_finds_nothing(number: int) -> None:
    campaign = Campaign.asked()
    assert campaign is not None
    with quiet():  # what apps raise is logged, thousands of times
        found = Worker(campaign, number).run().findings
    if found:
        pytest.fail("\n\n".join(finding.text for finding in found), pytrace=False)
