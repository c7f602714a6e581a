"""Percentiles from histograms with fixed buckets, as Prometheus estimates them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from fastworker._core._metrics import BUCKETS, Histogram

# A number for each of BUCKETS, and one for what is beyond them.
Counts = tuple[int, ...]
NO_COUNTS: Counts = (0,) * (len(BUCKETS) + 1)


def sum_of(histograms: Iterable[Histogram]) -> Counts:
    """All of them as one."""
    # One may be shorter than the buckets are: the rest of it is empty then.
    columns = zip_longest(NO_COUNTS, *(each.counts for each in histograms), fillvalue=0)
    return tuple(map(sum, columns))


def difference(newer: Counts, older: Counts) -> Counts:
    """What was counted between two snapshots of one histogram."""
    return tuple(max(0, new - old) for new, old in zip(newer, older, strict=True))


def quantile(fraction: float, counts: Sequence[int]) -> float | None:
    """The value that ``fraction`` of what was counted does not exceed; in seconds.

    Taken as evenly spread within its bucket. What is beyond the last bucket counts as
    its upper bound. None if nothing was counted.
    """
    total = sum(counts)
    if not total:
        return None
    rank = fraction * total
    below = 0
    lower = 0.0
    for upper, count in zip(BUCKETS, counts, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * max(0.0, rank - below) / count
        below += count
        lower = upper
    return lower
