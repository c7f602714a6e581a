"""How long tasks wait and run, and how they end, by task function and priority.

Cumulative histograms in fixed buckets, as Prometheus has them: two snapshots can
be subtracted, and those of several control planes added.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fastworker._core._messages import BATCH_BYTES, Count, Priority, ShortText, WireStatus

# Upper bounds in seconds; what takes longer than the last is in one more bucket.
BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
    *(120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0),
)
# Whoever submits chooses names, as far as subworkers have them: beyond so many series
# all the others are counted together, under no name.
MAX_SERIES: Final = 2_000
_SERIES_BYTES: Final = 500


class MetricsAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How long do tasks take? The series from number ``after`` on."""

    after: Count = 0


class Histogram(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """``counts`` has a number for each of BUCKETS and one for what is beyond them.

    ``total`` is the sum of what was counted, in seconds.
    """

    counts: Annotated[list[Count], Meta(max_length=len(BUCKETS) + 1)]
    total: float = 0.0


class Series(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The ended tasks of one function and priority, since the control plane started.

    ``wait`` is from the submit to the start of the last attempt, ``run`` from there
    to its end, ``whole`` from the submit to the end; tasks that never started are in
    ``whole`` only. ``retries`` are attempts that were followed by another.
    """

    name: ShortText
    priority: Priority
    succeeded: Count
    failed: Count
    cancelled: Count
    expired: Count
    retries: Count
    wait: Histogram
    run: Histogram
    whole: Histogram


class MetricsReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A page of series; ``more`` come after them."""

    series: list[Series]
    more: bool = False


class _Tally:
    """A histogram that still counts."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        # Clocks of two machines may differ, and nothing takes less than no time.
        if seconds > 0.0:
            self.total += seconds

    def snapshot(self) -> Histogram:
        return Histogram(list(self.counts), self.total)


class _Ends:
    __slots__ = ("ended", "retries", "run", "wait", "whole")

    def __init__(self) -> None:
        self.ended = dict.fromkeys(_ENDS, 0)
        self.retries = 0
        self.wait = _Tally()
        self.run = _Tally()
        self.whole = _Tally()


_ENDS: Final = (
    WireStatus.SUCCESS,
    WireStatus.FAILURE,
    WireStatus.CANCELLED,
    WireStatus.EXPIRED,
)


class Metrics:
    """See the module's first lines."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, int], _Ends] = {}

    def note_end(
        self,
        name: str,
        priority: int,
        status: WireStatus,
        *,
        created: float,
        started: float,
        ended: float,
    ) -> None:
        """Count a task that has ended. Wall times; ``started`` is 0 if it never was."""
        ends = self._of(name, priority)
        ends.ended[status] += 1
        ends.whole.add(ended - created)
        if started:
            ends.wait.add(started - created)
            ends.run.add(ended - started)

    def note_retry(self, name: str, priority: int) -> None:
        """Count an attempt that is followed by another."""
        self._of(name, priority).retries += 1

    def list_series(self, after: int) -> MetricsReply:
        """A page of the series, in the order in which they began."""
        found: list[Series] = []
        size = 0
        for (name, priority), ends in list(self._series.items())[after:]:
            size += _SERIES_BYTES + 4 * len(name)
            if found and size > BATCH_BYTES:
                return MetricsReply(found, more=True)
            found.append(
                Series(
                    name,
                    priority,
                    succeeded=ends.ended[WireStatus.SUCCESS],
                    failed=ends.ended[WireStatus.FAILURE],
                    cancelled=ends.ended[WireStatus.CANCELLED],
                    expired=ends.ended[WireStatus.EXPIRED],
                    retries=ends.retries,
                    wait=ends.wait.snapshot(),
                    run=ends.run.snapshot(),
                    whole=ends.whole.snapshot(),
                )
            )
        return MetricsReply(found)

    def _of(self, name: str, priority: int) -> _Ends:
        ends = self._series.get((name, priority))
        if ends is None:
            if len(self._series) >= MAX_SERIES:
                name = ""
            ends = self._series.setdefault((name, priority), _Ends())
        return ends
