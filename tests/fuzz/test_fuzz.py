"""What ``nox -s fuzz`` does a million times, some thousand times."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import MAX_GROWTH, Campaign
from tests.fuzz.targets import TARGETS, share_of

CASES = 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_hostile_cases_raise_nothing_else_and_keep_no_memory(name: str) -> None:
    # N6, D5 and X16 in docs/faults.md.
    campaign = Campaign(seed=7)
    campaign.run(TARGETS[name], max(100, share_of(TARGETS[name], CASES)))
    assert campaign.growth < MAX_GROWTH
