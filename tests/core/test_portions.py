"""A lot is spread over the requests that may be under way; little is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._messages import MAX_BATCH_ITEMS
from fastworker._core._portions import PORTION_ITEMS, portion_of


@pytest.mark.parametrize(
    ("waiting", "free", "each"),
    [
        (0, 4, PORTION_ITEMS),
        (PORTION_ITEMS, 4, PORTION_ITEMS),  # one request, and not four small ones
        (1000, 4, 250),
        (1001, 4, 251),
        (1000, 0, 1000),  # none is free now; whichever is next takes all
        (10**6, 4, MAX_BATCH_ITEMS),
    ],
)
def test_a_portion_is_an_equal_share_but_not_small(waiting: int, free: int, each: int) -> None:
    assert portion_of(waiting, free) == each


@given(st.integers(0, 4 * MAX_BATCH_ITEMS), st.integers(1, 4))
def test_the_free_requests_take_all_that_waits_or_are_full(waiting: int, free: int) -> None:
    each = portion_of(waiting, free)
    assert each * free >= waiting or each == MAX_BATCH_ITEMS
