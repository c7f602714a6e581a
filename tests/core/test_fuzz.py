"""What ``nox -s fuzz`` does a million times, ten thousand times."""

from __future__ import annotations

import pytest

from tests.core.fuzz import MAX_GROWTH, Campaign


@pytest.mark.slow
def test_ten_thousand_hostile_cases_raise_nothing_else_and_keep_no_memory() -> None:
    # N6 in docs/faults.md.
    campaign = Campaign(seed=7)
    campaign.run(1_000)
    assert campaign.run(10_000) < MAX_GROWTH
    campaign.end()
    assert min(campaign.counts.values()) > 500
    assert len(campaign.counts) == 8
