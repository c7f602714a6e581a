"""The charts' points, rates and latencies are right whatever the control plane does."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._metrics import BUCKETS, Histogram
from fastworker.dashboard._history import MAX_POINTS, POINT_SECONDS, History, Point
from fastworker.dashboard._quantiles import quantile, sum_of
from tests.dashboard.numbers import a_histogram, a_series, an_overview

durations = st.floats(0.0001, 20_000.0, allow_nan=False)


# --- percentiles ---


@given(st.lists(durations, min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_in_the_bucket_of_the_true_one(
    values: list[float], fraction: float
) -> None:
    found = quantile(fraction, a_histogram(values).counts)
    assert found is not None
    rank = fraction * len(values)
    true = next(v for n, v in enumerate(sorted(values), 1) if n >= rank)
    number = bisect_left(BUCKETS, true)
    if number == len(BUCKETS):
        assert found == BUCKETS[-1]
        return
    lower = BUCKETS[number - 1] if number else 0.0
    assert lower <= found <= BUCKETS[number]


@given(st.lists(durations, min_size=1), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_a_higher_percentile_is_never_lower(
    values: list[float], fractions: list[float]
) -> None:
    counts = a_histogram(values).counts
    found = [quantile(fraction, counts) for fraction in sorted(fractions)]
    assert found == sorted(found, key=lambda value: value or 0.0)


def test_values_are_taken_as_evenly_spread_in_their_bucket() -> None:
    # All of them are between 1 and 2.5 s.
    assert quantile(0.5, a_histogram([2.0] * 4).counts) == pytest.approx(1.75)
    assert quantile(1.0, a_histogram([2.0] * 4).counts) == pytest.approx(2.5)


def test_there_is_no_percentile_of_nothing() -> None:
    assert quantile(0.5, a_histogram([]).counts) is None


def test_what_is_beyond_the_buckets_counts_as_their_upper_end() -> None:
    assert quantile(0.5, a_histogram([1e9]).counts) == BUCKETS[-1]


def test_histograms_of_different_lengths_are_added() -> None:
    total = sum_of([Histogram([1, 2]), Histogram([10, 20, 30])])
    assert total[:4] == (11, 22, 30, 0)
    assert len(total) == len(BUCKETS) + 1
    assert sum_of([]) == (0,) * (len(BUCKETS) + 1)


# --- points ---


def test_a_point_tells_what_happened_since_the_last_one() -> None:
    history = History()
    assert history.add(an_overview(submitted=100, succeeded=50), [], now=0.0) is None
    point = history.add(
        an_overview(
            now=1_000_002.0,
            submitted=120,
            succeeded=60,
            failed=4,
            queued=[1, 2, 3, 4],
            running=5,
            workers=6,
            lost_workers=3,
        ),
        [],
        now=2.0,
    )
    assert point == Point(
        at=1_000_002.0,
        submitted=10.0,
        succeeded=5.0,
        failed=2.0,
        p50=None,
        p99=None,
        queued={"critical": 1, "high": 2, "normal": 3, "low": 4},
        running=5,
        workers=6,
        lost_workers=3,
    )


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    history = History()
    for second in range(31):
        submitted = 1000 * second if second <= 20 else 20_000 + 100 * (second - 20)
        history.add(an_overview(submitted=submitted), [], now=float(second))
    assert history.rates.submitted == pytest.approx(100.0)


def test_latencies_are_those_of_the_last_minute() -> None:
    history = History()
    slow = [9.0] * 1000
    history.add(an_overview(), [], now=0.0)
    history.add(an_overview(succeeded=1000), [a_series(whole=slow)], now=1.0)
    assert history.latency.p50 == pytest.approx(8.75)
    for second in range(2, 70):
        quick = [0.004] * 10 * (second - 1)
        overview = an_overview(succeeded=1000 + len(quick))
        history.add(overview, [a_series(whole=slow + quick)], now=float(second))
    assert history.latency.p50 == pytest.approx(0.00375)
    assert history.latency.p99 is not None
    assert history.latency.p99 <= 0.005


def test_a_point_has_the_latencies_of_the_last_ten_seconds() -> None:
    history = History()
    history.add(an_overview(), [], now=0.0)
    history.add(an_overview(succeeded=5), [a_series(whole=[9.0] * 5)], now=1.0)
    last = history.add(
        an_overview(succeeded=6), [a_series(whole=[9.0] * 5 + [0.004])], now=20.0
    )
    assert last is not None
    assert last.p50 == pytest.approx(0.00375)
    assert history.latency.p50 == pytest.approx(8.5)


def test_waiting_and_running_have_latencies_of_their_own() -> None:
    history = History()
    history.add(an_overview(), [], now=0.0)
    series = [
        a_series("a", whole=[2.0], wait=[2.0], run=[0.004]),
        a_series("b", whole=[2.0], wait=[2.0], run=[0.004]),
    ]
    history.add(an_overview(succeeded=2), series, now=1.0)
    assert history.latency.wait_p50 == pytest.approx(1.75)
    assert history.latency.run_p50 == pytest.approx(0.00375)


def test_series_are_needed_only_when_a_task_has_ended_since() -> None:
    history = History()
    assert history.needs_series(an_overview())
    history.add(an_overview(succeeded=1), [a_series(whole=[2.0])], now=0.0)
    assert not history.needs_series(an_overview(succeeded=1, submitted=9))
    history.add(an_overview(succeeded=1, submitted=9), None, now=1.0)
    assert history.needs_series(an_overview(succeeded=1, expired=1))
    assert history.needs_series(an_overview(succeeded=1, epoch=2))
    overview = an_overview(succeeded=2, submitted=9)
    history.add(overview, [a_series(whole=[2.0] * 2)], now=2.0)
    assert history.latency.p50 == pytest.approx(1.75)


def test_a_new_life_of_the_control_plane_has_no_negative_rates() -> None:
    history = History()
    history.add(an_overview(), [], now=0.0)
    history.add(an_overview(succeeded=900), [a_series(whole=[9.0] * 900)], now=1.0)
    first = an_overview(epoch=2, submitted=50, succeeded=3)
    assert history.add(first, [a_series(whole=[9.0] * 3)], now=2.0) is None
    assert history.rates.succeeded == 0
    assert history.latency.p50 is None
    point = history.add(an_overview(epoch=2, submitted=60, succeeded=4), None, now=3.0)
    assert point is not None
    assert (point.submitted, point.succeeded) == (10.0, 1.0)
    assert len(history.points) == 2  # those of the former life are still there


def test_a_new_life_is_noticed_even_if_nothing_has_become_less() -> None:
    history = History()
    history.add(an_overview(submitted=1), [], now=0.0)
    history.add(an_overview(submitted=2), [], now=1.0)
    assert history.add(an_overview(epoch=2, submitted=900), [], now=2.0) is None
    assert history.rates.submitted == 0


def test_after_a_gap_its_work_is_spread_over_it() -> None:
    history = History()
    for second in range(5):
        history.add(an_overview(submitted=0), [], now=float(second))
    point = history.add(an_overview(submitted=5000), [], now=104.0)
    assert point is not None
    assert point.submitted == pytest.approx(50.0)
    assert history.rates.submitted == pytest.approx(50.0)


def test_numbers_that_come_too_soon_are_counted_with_the_next_ones() -> None:
    history = History()
    history.add(an_overview(), [], now=1.0)
    for now in (1.0, 1.5):
        assert history.add(an_overview(submitted=5), [], now=now) is None
    point = history.add(an_overview(submitted=8), [], now=3.0)
    assert point is not None
    assert point.submitted == 4.0
    assert len(history.points) == 1


steps = st.lists(
    st.tuples(
        st.floats(POINT_SECONDS + 0.01, 100.0),  # seconds since the last sample
        st.integers(0, 1000),  # submitted
        st.lists(durations, max_size=10),  # what ended
        st.sampled_from(["same life"] * 9 + ["another epoch", "less without a reason"]),
    ),
    max_size=60,
)


@given(steps)
def test_rates_are_never_negative_and_account_for_every_task(
    history_of: list[tuple[float, int, list[float], str]],
) -> None:
    history = History()
    now, epoch, submitted, expected = 0.0, 1, 0, 0.0
    ended: list[float] = []
    counted = 0.0
    history.add(an_overview(), [], now=now)
    for seconds, more, ends, life in history_of:
        before, now = now, now + seconds
        if life != "same life":
            epoch += life == "another epoch"
            submitted, ended = -1, []
        submitted += more
        submitted = max(0, submitted)
        ended += ends
        overview = an_overview(epoch=epoch, submitted=submitted, succeeded=len(ended))
        point = history.add(overview, [a_series(whole=ended)], now=now)
        rates = history.rates
        assert min(rates.submitted, rates.succeeded, rates.failed) >= 0
        if point is not None:
            assert min(point.submitted, point.succeeded, point.failed) >= 0
            counted += point.submitted * (now - before)
            expected += more
            assert point.p50 is None or (point.p99 is not None and point.p50 <= point.p99)
    if all(life == "same life" for *_, life in history_of):
        assert counted == pytest.approx(expected)


def test_no_more_than_ten_minutes_are_kept() -> None:
    history = History()
    for second in range(2 * MAX_POINTS):
        history.add(an_overview(now=float(second)), None, now=float(second))
    assert len(history.points) == MAX_POINTS == 600
    assert history.points[-1].at == 2 * MAX_POINTS - 1
    assert len(history._samples) <= 62
