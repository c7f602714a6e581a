"""The last minutes of the control plane: a point a second, rates, and latencies.

Made of differences of what the control plane counts since its start. So nothing is
asked of it but its numbers, and whoever opens the dashboard sees what was before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from fastworker._core._metrics import Series
from fastworker._core._overview import Overview
from fastworker.dashboard._quantiles import NO_COUNTS, Counts, difference, quantile, sum_of

MAX_POINTS: Final = 600
# Points that are closer would leave less than ten minutes of them.
POINT_SECONDS: Final = 0.6
RATE_SECONDS: Final = 10.0
LATENCY_SECONDS: Final = 60.0
PRIORITIES: Final = ("critical", "high", "normal", "low")


class Point(msgspec.Struct, frozen=True, gc=False):
    """A moment of the charts. ``at`` is wall time; rates are those since the last point.

    ``p50`` and ``p99`` are seconds from the submit to the end, of the tasks that ended
    in the last ten seconds; None if none has. ``lost_workers`` is how many were lost
    since the last point.
    """

    at: float
    submitted: float
    succeeded: float
    failed: float
    p50: float | None
    p99: float | None
    queued: dict[str, int]
    running: int
    workers: int
    lost_workers: int


class Rates(msgspec.Struct, frozen=True, gc=False):
    """Tasks a second, in the last ten seconds."""

    submitted: float = 0.0
    succeeded: float = 0.0
    failed: float = 0.0


class Latency(msgspec.Struct, frozen=True, gc=False):
    """Seconds, of the tasks that ended in the last minute; None if none has.

    From the submit to the end; ``wait`` to the last start, ``run`` from there.
    """

    p50: float | None = None
    p99: float | None = None
    wait_p50: float | None = None
    wait_p99: float | None = None
    run_p50: float | None = None
    run_p99: float | None = None


class _Sample(NamedTuple):
    """What was counted until a moment."""

    moment: float
    submitted: int
    succeeded: int
    failed: int
    ended: int
    lost_workers: int
    whole: Counts
    wait: Counts
    run: Counts

    def is_before(self, later: _Sample) -> bool:
        """Whether nothing has become less from here to ``later``."""
        return (
            self.moment <= later.moment
            and self.submitted <= later.submitted
            and self.succeeded <= later.succeeded
            and self.failed <= later.failed
            and self.ended <= later.ended
            and self.lost_workers <= later.lost_workers
        )


class History:
    """See the module's first lines. ``now`` is the monotonic time of the caller."""

    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=MAX_POINTS)
        self.rates = Rates()
        self.latency = Latency()
        self._life: tuple[str, int, float] = ("", 0, 0.0)
        # The oldest is the latest one that is a minute old, if there is one.
        self._samples: deque[_Sample] = deque()

    def needs_series(self, overview: Overview) -> bool:
        """Whether the series can have changed since the last sample."""
        if not self._samples or self._life != _life_of(overview):
            return True
        return self._samples[-1].ended != _ended(overview)

    def add(
        self, overview: Overview, series: Sequence[Series] | None, *, now: float
    ) -> Point | None:
        """Take the numbers of this moment; ``series`` is None if they have not changed.

        Returns:
          The new point. None if there is none: nobody can say how fast it goes by the
          first numbers of a control plane's life, nor soon after the last ones.
        """
        sample = self._sample(overview, series, now)
        if self._life != _life_of(overview) or not (
            self._samples and self._samples[-1].is_before(sample)
        ):
            # Another life counts anew: what is less than before is no negative rate.
            self._life = _life_of(overview)
            self._samples.clear()
            self._samples.append(sample)
            self.rates = Rates()
            self.latency = Latency()
            return None
        last = self._samples[-1]
        if now - last.moment < POINT_SECONDS:
            return None
        self._samples.append(sample)
        while self._samples[1].moment <= now - LATENCY_SECONDS:
            self._samples.popleft()
        recent = self._since(now - RATE_SECONDS)
        oldest = self._since(now - LATENCY_SECONDS)
        self.rates = _rates(recent, sample)
        self.latency = _latency(oldest, sample)
        rates = _rates(last, sample)
        whole = difference(sample.whole, recent.whole)
        point = Point(
            at=overview.now,
            submitted=rates.submitted,
            succeeded=rates.succeeded,
            failed=rates.failed,
            p50=quantile(0.5, whole),
            p99=quantile(0.99, whole),
            queued=by_priority(overview),
            running=overview.running,
            workers=overview.workers,
            lost_workers=sample.lost_workers - last.lost_workers,
        )
        self.points.append(point)
        return point

    def _sample(
        self, overview: Overview, series: Sequence[Series] | None, now: float
    ) -> _Sample:
        if series is not None:
            whole = sum_of(each.whole for each in series)
            wait = sum_of(each.wait for each in series)
            run = sum_of(each.run for each in series)
        elif self._samples:
            *_, whole, wait, run = self._samples[-1]
        else:
            whole = wait = run = NO_COUNTS
        return _Sample(
            now,
            overview.submitted,
            overview.succeeded,
            overview.failed,
            _ended(overview),
            overview.lost_workers,
            whole,
            wait,
            run,
        )

    def _since(self, moment: float) -> _Sample:
        """The latest sample that is so old; if none is, the first of this life.

        After a gap it is the one before the gap, so that what happened in it is
        spread over it and not taken for the last seconds' work.
        """
        found = self._samples[0]
        for sample in self._samples:
            if sample.moment > moment:
                break
            found = sample
        return found


def by_priority(overview: Overview) -> dict[str, int]:
    """How many tasks of each priority are queued."""
    return dict(zip(PRIORITIES, overview.queued, strict=True))


def _life_of(overview: Overview) -> tuple[str, int, float]:
    return overview.worker_id, overview.epoch, overview.started


def _ended(overview: Overview) -> int:
    return overview.succeeded + overview.failed + overview.cancelled + overview.expired


def _rates(older: _Sample, newer: _Sample) -> Rates:
    seconds = newer.moment - older.moment
    return Rates(
        (newer.submitted - older.submitted) / seconds,
        (newer.succeeded - older.succeeded) / seconds,
        (newer.failed - older.failed) / seconds,
    )


def _latency(older: _Sample, newer: _Sample) -> Latency:
    whole = difference(newer.whole, older.whole)
    wait = difference(newer.wait, older.wait)
    run = difference(newer.run, older.run)
    return Latency(
        p50=quantile(0.5, whole),
        p99=quantile(0.99, whole),
        wait_p50=quantile(0.5, wait),
        wait_p99=quantile(0.99, wait),
        run_p50=quantile(0.5, run),
        run_p99=quantile(0.99, run),
    )
