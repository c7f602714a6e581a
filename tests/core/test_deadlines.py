"""Deadlines that move behave like a plain dictionary of times, and stay small."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker._core._deadlines import Deadlines

keys = st.sampled_from("abcd")
times = st.integers(0, 12).map(float)
moves = st.one_of(
    st.tuples(st.just("set"), keys, times),
    st.tuples(st.just("clear"), keys, times),
    st.tuples(st.just("pop"), keys, times),
    st.tuples(st.just("next"), keys, times),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(moves, max_size=60))
def test_deadlines_are_a_dictionary_of_times(moves: list[tuple[str, str, float]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    naive: dict[str, float] = {}
    for what, key, at in moves:
        if what == "set":
            deadlines.set(key, at)
            naive[key] = at
        elif what == "clear":
            deadlines.clear(key)
            naive.pop(key, None)
        elif what == "pop":
            due = deadlines.pop_due(at)
            assert sorted(due) == sorted(key for key, time in naive.items() if time <= at)
            assert [naive[key] for key in due] == sorted(naive[key] for key in due)
            naive = {key: time for key, time in naive.items() if time > at}
            assert deadlines.next() > at
        else:
            assert deadlines.next() == min(naive.values(), default=math.inf)
        assert len(deadlines) == len(naive)


def test_keys_that_are_due_at_once_come_in_the_order_in_which_they_were_set() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key in "cab":
        deadlines.set(key, 1.0)
    assert deadlines.pop_due(1.0) == ["c", "a", "b"]


def test_a_deadline_that_moves_on_and_on_takes_no_memory() -> None:
    """B1: a session's lease moves with every frame."""
    deadlines: Deadlines[str] = Deadlines()
    for beat in range(10_000):
        deadlines.set("session", float(beat))
    assert len(deadlines._heap) == 1


def test_a_deadline_that_jumps_to_and_fro_takes_memory_only_until_it_comes_due() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for flap in range(1000):
        deadlines.set("session", flap + 30.0)
        deadlines.set("session", flap + 0.75)
        deadlines.pop_due(flap + 0.5)
    assert len(deadlines._heap) <= 100
    deadlines.clear("session")
    assert deadlines.next() == math.inf
    assert not deadlines._heap
    assert not deadlines._entry_times
