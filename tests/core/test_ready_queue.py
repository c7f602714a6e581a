"""The ready queue gives the oldest of each priority and name, whatever happened between."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker._core._messages import TaskSpec
from fastworker._core._ready_queue import PRIORITIES, ReadyQueue
from fastworker._core._task_states import Step, TaskRecord, TaskState

NAMES = ("a", "b")


def a_record(sequence: int, priority: int = 2, name: str = "a") -> TaskRecord:
    record = TaskRecord(TaskSpec(f"t{sequence}", name, priority, 1, b"", 0.0), sequence, b"ann")
    record.step(Step.QUEUE)
    return record


def take(queue: ReadyQueue, priority: int = 2, name: str = "a") -> TaskRecord | None:
    record = queue.head(priority, name)
    if record is not None:
        queue.pop(record)
        record.step(Step.LEASE)
    return record


moves = st.lists(
    st.tuples(
        st.sampled_from(["push", "take", "return", "cancel"]),
        st.integers(0, 3),
        st.sampled_from(NAMES),
        st.integers(0, 9),
    ),
    max_size=60,
)


@settings(max_examples=500, deadline=None)
@given(moves)
def test_the_queue_is_a_sorted_list(moves: list[tuple[str, int, str, int]]) -> None:
    queue = ReadyQueue()
    ready: list[TaskRecord] = []
    leased: list[TaskRecord] = []
    for sequence, (what, priority, name, which) in enumerate(moves):
        if what == "push":
            record = a_record(sequence, priority, name)
            queue.push(record)
            ready.append(record)
        elif what == "take":
            line = [r for r in ready if r.spec.priority == priority and r.spec.name == name]
            oldest = min(line, key=lambda r: r.sequence, default=None)
            assert take(queue, priority, name) is oldest
            if oldest is not None:
                ready.remove(oldest)
                leased.append(oldest)
        elif what == "return" and leased:
            record = leased.pop(which % len(leased))
            record.step(Step.HAND_BACK)
            queue.push(record)
            ready.append(record)
        elif what == "cancel" and ready:
            record = ready.pop(which % len(ready))
            record.step(Step.CANCEL)
            queue.discard(record)
        queue.check()
        assert len(queue) == len(ready)
        assert queue.counts() == [
            sum(1 for r in ready if r.spec.priority == p) for p in PRIORITIES
        ]
        assert {r.spec.id for r in queue.records()} == {r.spec.id for r in ready}
        for record in ready:
            assert record.spec.name in queue.names(record.spec.priority)


def test_what_returns_in_any_order_is_given_by_age() -> None:
    queue = ReadyQueue()
    for sequence in range(10):
        queue.push(a_record(sequence))
    records = [take(queue) for _ in range(8)]
    for index in (3, 7, 1, 0):
        record = records[index]
        assert record is not None
        record.step(Step.HAND_BACK)
        queue.push(record)
    order = [record.sequence for record in iter(lambda: take(queue), None)]
    assert order == [0, 1, 3, 7, 8, 9]


def test_cancelled_records_do_not_stay_in_memory() -> None:
    """B1: whoever submits and cancels all day must not fill the control plane."""
    queue = ReadyQueue()
    queue.push(a_record(0))
    for sequence in range(1, 20_000):
        record = a_record(sequence)
        queue.push(record)
        record.state = TaskState.CANCELLED
        queue.discard(record)
    kept = queue._lines[2]["a"]
    assert len(kept.fresh) + len(kept.returned) < 2100
    queue.check()


def test_a_line_that_ran_empty_is_forgotten() -> None:
    queue = ReadyQueue()
    queue.push(a_record(1))
    take(queue)
    assert take(queue) is None
    assert not queue._lines[2]


def test_what_is_cancelled_from_the_last_to_the_first_is_freed_one_by_one() -> None:
    queue = ReadyQueue()
    records = [a_record(sequence) for sequence in range(5000)]
    for record in records:
        queue.push(record)
    while len(records) > 1:
        record = records.pop()
        record.step(Step.CANCEL)
        queue.discard(record)
        assert queue._dead == 0
    queue.check()
    assert take(queue) is records[0]
