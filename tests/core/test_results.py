"""Results are kept within three bounds, and what had to go is remembered for a while."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker._core import _results
from fastworker._core._messages import TaskEvent, WireStatus
from fastworker._core._results import TOMBSTONE_SECONDS, Results


def an_event(task_id: str, size: int = 0) -> TaskEvent:
    event = TaskEvent(task_id, WireStatus.SUCCESS, payload=bytes(size))
    assert event.size == 200 + size
    return event


def status(results: Results, task_id: str, now: float = 0.0) -> WireStatus | None:
    event = results.get(task_id, now=now)
    return None if event is None else event.status


class NaiveResults:
    """The same in a few slow lines."""

    def __init__(self, max_size: int, ttl: float, max_bytes: int) -> None:
        self.max_size, self.ttl, self.max_bytes = max_size, ttl, max_bytes
        self.kept: list[tuple[TaskEvent, int, float]] = []  # the one used last comes last
        self.buried: dict[str, float] = {}

    def tidy(self, now: float) -> None:
        for entry in [entry for entry in self.kept if entry[2] <= now]:
            self.bury(entry, now)
        self.buried = {key: end for key, end in self.buried.items() if end > now}

    def bury(self, entry: tuple[TaskEvent, int, float], now: float) -> None:
        self.kept.remove(entry)
        self.buried[entry[0].task_id] = now + TOMBSTONE_SECONDS

    def put(self, event: TaskEvent, content: int, now: float) -> None:
        self.tidy(now)
        self.kept = [entry for entry in self.kept if entry[0].task_id != event.task_id]
        while self.kept and (
            len(self.kept) >= self.max_size
            or sum(entry[0].size for entry in self.kept) + event.size > self.max_bytes
        ):
            self.bury(self.kept[0], now)
        self.kept.append((event, content, now + self.ttl))

    def forget(self, task_id: str) -> None:
        self.kept = [entry for entry in self.kept if entry[0].task_id != task_id]
        self.buried.pop(task_id, None)

    def get(self, task_id: str, now: float) -> WireStatus | None:
        self.tidy(now)
        for entry in self.kept:
            if entry[0].task_id == task_id:
                self.kept.remove(entry)
                self.kept.append(entry)
                return entry[0].status
        return WireStatus.EVICTED if task_id in self.buried else None


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "content", "forget"]),
        st.sampled_from([f"t{n}" for n in range(4)]),
        st.sampled_from([0, 0, 100, 700, 3000]),
        st.sampled_from([0.0, 0.0, 1.0, 4.0, TOMBSTONE_SECONDS]),
    ),
    max_size=50,
)


@settings(max_examples=500, deadline=None)
@given(steps, st.integers(1, 5))
def test_results_are_what_a_naive_cache_keeps(
    steps: list[tuple[str, str, int, float]], max_size: int
) -> None:
    results = Results(max_size=max_size, ttl=5.0, max_bytes=2000)
    naive = NaiveResults(max_size, 5.0, 2000)
    now = 0.0
    for content, (what, task_id, size, passed) in enumerate(steps):
        now += passed
        if what == "put":
            results.put(an_event(task_id, size), content, now=now)
            naive.put(an_event(task_id, size), content, now)
        elif what == "get":
            assert status(results, task_id, now) is naive.get(task_id, now)
        elif what == "forget":
            results.forget(task_id)
            naive.forget(task_id)
        else:
            naive.tidy(now)
            known = {entry[0].task_id: entry[1] for entry in naive.kept}
            assert results.content(task_id, now=now) == known.get(task_id)
        results.check()
        assert len(results) == len(naive.kept)
        assert results.bytes == sum(entry[0].size for entry in naive.kept)


def test_the_one_used_longest_ago_goes_first() -> None:
    """S13."""
    results = Results(max_size=2, ttl=math.inf)
    results.put(an_event("a"), 0, now=0.0)
    results.put(an_event("b"), 0, now=0.0)
    assert status(results, "a") is WireStatus.SUCCESS
    results.put(an_event("c"), 0, now=0.0)
    assert status(results, "b") is WireStatus.EVICTED
    assert status(results, "a") is WireStatus.SUCCESS


def test_a_result_ends_with_its_time_however_often_it_is_read() -> None:
    results = Results(max_size=9, ttl=10.0)
    results.put(an_event("a"), 0, now=0.0)
    assert status(results, "a", now=9.9) is WireStatus.SUCCESS
    assert status(results, "a", now=10.0) is WireStatus.EVICTED
    assert status(results, "a", now=10.0 + TOMBSTONE_SECONDS) is None


def test_a_result_heavier_than_the_bound_is_kept_alone() -> None:
    """B1: by bytes, not only by number."""
    results = Results(max_size=9, ttl=math.inf, max_bytes=1000)
    results.put(an_event("a"), 0, now=0.0)
    results.put(an_event("b", 5000), 0, now=0.0)
    assert status(results, "a") is WireStatus.EVICTED
    assert status(results, "b") is WireStatus.SUCCESS
    results.put(an_event("c"), 0, now=0.0)
    assert results.bytes == 200


def test_tombstones_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_results, "TOMBSTONES", 3)
    results = Results(max_size=1, ttl=math.inf)
    for number in range(10):
        results.put(an_event(f"t{number}"), 0, now=0.0)
    buried = [n for n in range(9) if status(results, f"t{n}") is WireStatus.EVICTED]
    assert buried == [6, 7, 8]
    results.check()


@pytest.mark.parametrize("what", ["put again", "read", "read and evicted", "forgotten"])
def test_what_is_no_longer_kept_leaves_no_growing_trace(what: str) -> None:
    """B1: neither of two results, of which one stays first for ever, nor of their ends."""
    results = Results(max_size=2, ttl=1000.0)
    results.put(an_event("first"), 0, now=0.0)
    for number in range(1000):
        now = number / 1000
        task_id = f"t{number}" if what == "read and evicted" else "t"
        results.put(an_event(task_id), 0, now=now)
        if what.startswith("read"):
            status(results, task_id, now)
        if what == "read and evicted":
            status(results, "first", now)
        if what == "forgotten":
            results.forget(task_id)
        results.check()
    assert status(results, "first", 1.0) is WireStatus.SUCCESS


def test_a_result_put_again_has_one_place_and_a_new_time() -> None:
    results = Results(max_size=9, ttl=10.0)
    results.put(an_event("a", 100), 1, now=0.0)
    results.put(an_event("a", 50), 2, now=8.0)
    assert (len(results), results.bytes) == (1, 250)
    assert results.content("a", now=15.0) == 2
    assert status(results, "a", now=18.0) is WireStatus.EVICTED
