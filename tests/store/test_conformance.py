"""What every store does. A new one joins by a maker in ``makers.py``."""

from __future__ import annotations

import msgspec
import pytest

from fastworker._core._messages import WireStatus
from fastworker._core._stored import (
    OPEN_STATES,
    POISON,
    CallbackStage,
    Changes,
    StoredKey,
    StoredState,
    StoredTask,
    TasksAsked,
    row_of,
)
from fastworker._store._abc import Store

from .makers import StoreMaker
from .rows import BEGIN, ended, flat, started, task, trim_all


def read(store: Store, *ids: str) -> list[StoredTask]:
    reader = store.reader()
    try:
        return sorted(reader.read(list(ids)), key=lambda row: row.sequence)
    finally:
        reader.close()


def page(store: Store, asked: TasksAsked | None = None) -> list[int]:
    """The numbers of the tasks on a page."""
    reader = store.reader()
    try:
        return [row.sequence for row in reader.page(asked or TasksAsked()).rows]
    finally:
        reader.close()


def again(maker: StoreMaker, store: Store) -> Store:
    """What the next process finds."""
    store.close()
    store = maker.make()
    store.open()
    return store


def test_that_peers_had_to_prove_who_they_are_is_remembered(maker: StoreMaker) -> None:
    store = maker.make()
    assert not store.open().is_guarded
    store.note_guarded()
    for _ in range(2):
        store.close()
        store = maker.make()
        assert store.open().is_guarded is store.is_durable
    store.close()


def test_no_epoch_comes_twice(maker: StoreMaker) -> None:
    epochs: list[int] = []
    for _ in range(4):
        store = maker.make()
        epochs.append(store.open().epoch)
        store.close()
    assert epochs == sorted(set(epochs))
    assert epochs[0] > 0


def test_what_was_written_is_read_whole(store: Store) -> None:
    rows = [task(1), started(task(2)), ended(started(task(3)))]
    store.write(Changes(created=rows))
    assert read(store, "task-1", "task-2", "task-3", "task-4") == rows
    assert read(store, "task-2") == [rows[1]]
    assert read(store) == []


def test_an_id_that_is_asked_for_twice_is_read_once(store: Store) -> None:
    store.write(Changes(created=[task(1)]))
    assert read(store, "task-1", "task-1") == [task(1)]


def test_texts_of_all_kinds_come_back_as_they_were(store: Store) -> None:
    row = task(1, id="\0 ü 🜁 '", name="naïve\n")
    store.write(Changes(created=[row]))
    assert read(store, row.spec.id) == [row]
    assert page(store, TasksAsked(name="naïve\n")) == [1]


def test_a_change_keeps_the_spec_and_nothing_else(store: Store) -> None:
    store.write(Changes(created=[task(1), task(2)]))
    store.write(Changes(updated=[started(task(1))]))
    assert read(store, "task-1") == [started(task(1))]
    end = ended(started(task(1)), WireStatus.FAILURE)
    store.write(Changes(updated=[end]))
    assert read(store, "task-1", "task-2") == [end, task(2)]


def test_who_was_told_is_told_no_more(store: Store) -> None:
    due = ended(task(1), callback=CallbackStage.DUE)
    store.write(Changes(created=[due, task(2)]))
    store.write(Changes(called_back=["task-1", "task-9"]))
    assert read(store, "task-1") == [
        msgspec.structs.replace(due, callback=CallbackStage.SETTLED)
    ]


def test_a_purged_id_may_be_used_anew_in_the_same_transaction(store: Store) -> None:
    store.write(Changes(created=[ended(task(1)), ended(task(2)), task(3)]))
    store.write(Changes(created=[task(4, id="task-1")], purged=["task-1", "task-2", "task-9"]))
    assert read(store, "task-1", "task-2", "task-3") == [task(3), task(4, id="task-1")]
    assert page(store) == [4, 3]


def test_a_task_that_has_not_ended_is_not_purged(store: Store) -> None:
    store.write(Changes(created=[task(1)]))
    store.write(Changes(purged=["task-1"]))
    assert read(store, "task-1") == [task(1)]


def test_a_new_task_takes_the_place_of_an_old_one_of_its_id(store: Store) -> None:
    store.write(Changes(created=[ended(task(1)), task(2)]))
    store.write(Changes(created=[task(3, id="task-1")]))
    assert read(store, "task-1") == [task(3, id="task-1")]
    assert page(store) == [3, 2]


def test_pages_follow_each_other_from_the_newest_to_the_oldest(store: Store) -> None:
    store.write(Changes(created=[task(number) for number in range(1, 26)]))
    reader = store.reader()
    seen: list[int] = []
    asked = TasksAsked(limit=10)
    while True:
        found = reader.page(asked)
        seen += [row.sequence for row in found.rows]
        if not found.more:
            break
        assert len(found.rows) == 10
        asked = TasksAsked(limit=10, before=seen[-1])
    assert seen == list(range(25, 0, -1))
    full = reader.page(TasksAsked(limit=25))
    assert (len(full.rows), full.more) == (25, False)
    reader.close()


def test_a_page_shows_what_a_row_says(store: Store) -> None:
    rows = [task(1), started(task(2)), ended(started(task(3)), WireStatus.FAILURE)]
    store.write(Changes(created=rows))
    reader = store.reader()
    assert reader.page(TasksAsked()).rows == [row_of(row) for row in reversed(rows)]
    reader.close()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (TasksAsked(states=[StoredState.QUEUED]), [4, 1]),
        (TasksAsked(states=[StoredState.SUCCESS, StoredState.QUEUED]), [5, 4, 1]),
        (TasksAsked(states=list(OPEN_STATES)), [4, 3, 2, 1]),
        (TasksAsked(states=[StoredState.EXPIRED]), []),
        (TasksAsked(states=[StoredState.QUEUED, StoredState.QUEUED]), [4, 1]),
        (TasksAsked(name="other"), [4, 3]),
        (TasksAsked(name="nobody"), []),
        (TasksAsked(name="other", states=[StoredState.STARTED]), [3]),
        (TasksAsked(worker="w2"), [5, 3]),
        (TasksAsked(priorities=[0, 3]), [2, 1]),
        (TasksAsked(since=BEGIN + 3), [5, 4, 3]),
        (TasksAsked(until=BEGIN + 3), [3, 2, 1]),
        (TasksAsked(since=BEGIN + 2, until=BEGIN + 4, before=4), [3, 2]),
        (TasksAsked(text="THE"), [4, 3]),
        (TasksAsked(text="%"), []),
        (TasksAsked(text="_"), []),
        (TasksAsked(text=task(2).spec.id), [2]),
        (TasksAsked(text=task(3).spec.id, name="other"), [3]),
        (TasksAsked(is_poison=True), []),
    ],
)
def test_filters_apply_all_together(
    store: Store, asked: TasksAsked, expected: list[int]
) -> None:
    rows = [
        task(1, priority=0),
        started(task(2, priority=3)),
        started(task(3, name="other"), worker="w2"),
        task(4, name="other"),
        ended(started(task(5), worker="w2")),
    ]
    store.write(Changes(created=rows))
    assert page(store, asked) == expected


def test_poison_is_found_by_its_error_and_by_nothing_that_looks_like_it(
    store: Store,
) -> None:
    def failed(number: int, error: str) -> StoredTask:
        row = ended(started(task(number)), status=WireStatus.FAILURE)
        assert row.outcome is not None
        outcome = msgspec.structs.replace(row.outcome, error=error)
        return msgspec.structs.replace(row, outcome=outcome)

    store.write(
        Changes(
            created=[
                failed(1, f"{POISON}3 times while it ran alone there"),
                failed(2, f"ValueError: {POISON}"),
                failed(3, "lost: w1 ended"),
                task(4),
            ]
        )
    )
    assert page(store, TasksAsked(is_poison=True)) == [1]
    assert page(store, TasksAsked([StoredState.SUCCESS], is_poison=True)) == []


def test_a_reader_sees_what_was_written_last(store: Store) -> None:
    first, second = store.reader(), store.reader()
    store.write(Changes(created=[task(1)]))
    assert first.page(TasksAsked()).rows == second.page(TasksAsked()).rows != []
    store.write(Changes(updated=[started(task(1))]))
    for reader in (first, second):
        assert [row.state for row in reader.page(TasksAsked()).rows] == [StoredState.STARTED]
        reader.close()
        reader.close()


def test_trimming_forgets_the_tasks_that_ended_first(store: Store) -> None:
    store.write(Changes(created=[task(number) for number in range(1, 1_301)]))
    # They end in another order than they came.
    for number in range(1_200, 0, -1):
        store.write(Changes(updated=[ended(task(number), at=BEGIN + 2_000 - number)]))
    steps = trim_all(store, max_ended=100)
    assert steps > 1
    kept = [row.sequence for row in read(store, *(f"task-{n}" for n in range(1, 1_301)))]
    assert kept == [*range(1, 101), *range(1_201, 1_301)]


def test_trimming_forgets_what_ended_before_a_time(store: Store) -> None:
    rows = [ended(task(number), at=BEGIN + number) for number in range(1, 11)]
    store.write(Changes(created=[*rows, task(11)]))
    trim_all(store, max_ended=100, before=BEGIN + 6)
    assert page(store) == [11, 10, 9, 8, 7, 6]


def test_trimming_keeps_tasks_of_whose_end_somebody_is_to_be_told(store: Store) -> None:
    due = [ended(task(n), at=BEGIN + n, callback=CallbackStage.DUE) for n in (1, 2)]
    rows = [ended(task(number), at=BEGIN + number) for number in range(3, 6)]
    store.write(Changes(created=[*due, *rows]))
    trim_all(store, max_ended=0, before=BEGIN + 100)
    assert page(store) == [2, 1]
    store.write(Changes(called_back=["task-1"]))
    trim_all(store, max_ended=0, before=BEGIN + 100)
    assert page(store) == [2]


def test_trimming_leaves_open_tasks_alone(store: Store) -> None:
    store.write(Changes(created=[task(1), started(task(2))]))
    assert not store.trim(max_ended=0, before=BEGIN + 1_000)
    assert page(store) == [2, 1]


def test_a_sound_store_recovers_at_once(store: Store) -> None:
    store.write(Changes(created=[task(1)]))
    store.recover()
    store.write(Changes(created=[task(2)]))
    assert page(store) == [2, 1]
    assert store.take_problems() == []


def test_a_store_that_is_closed_twice_is_closed(maker: StoreMaker) -> None:
    store = maker.make()
    store.close()
    store.open()
    store.close()
    store.close()


def test_what_comes_back_is_all_of_a_durable_store_and_nothing_of_another(
    maker: StoreMaker,
) -> None:
    store = maker.make()
    store.open()
    open_rows = [task(1), started(task(2)), task(5)]
    ends = [
        ended(task(3), at=BEGIN + 30),
        ended(task(4), at=BEGIN + 20, callback=CallbackStage.DUE),
    ]
    keys = [StoredKey("k1", "task-1", 5, BEGIN + 60), StoredKey("k2", "task-2", 6, BEGIN + 10)]
    store.write(Changes(created=[*open_rows, *ends], keys=keys))
    store.write(Changes(updated=[started(open_rows[0])]))
    store = again(maker, store)
    came_back = (
        flat(store.open_tasks()),
        store.outcomes(limit=10, since=BEGIN),
        flat(store.due_callbacks()),
        store.keys(now=BEGIN + 30),
    )
    expected = (
        [started(open_rows[0]), open_rows[1], open_rows[2]],
        [ends[1], ends[0]],
        [ends[1]],
        [keys[0]],
    )
    assert came_back == (expected if store.is_durable else ([], [], [], []))
    assert store.take_problems() == []
    # Operators may look at it in any case.
    assert page(store) == [5, 4, 3, 2, 1]
    store.close()


def test_the_latest_outcomes_come_back_the_oldest_first(maker: StoreMaker) -> None:
    store = maker.make()
    store.open()
    rows = [ended(task(number), at=BEGIN + 100 - number) for number in range(1, 21)]
    store.write(Changes(created=rows))
    store = again(maker, store)
    list(store.open_tasks())
    found = [row.sequence for row in store.outcomes(limit=3, since=BEGIN)]
    later = [row.sequence for row in store.outcomes(limit=30, since=BEGIN + 96)]
    assert (found, later) == (([3, 2, 1], [3, 2, 1]) if store.is_durable else ([], []))
    assert store.outcomes(limit=0, since=0.0) == []
    store.close()


def test_a_key_stands_for_what_it_was_given_last(maker: StoreMaker) -> None:
    store = maker.make()
    store.open()
    old, new = StoredKey("k", "task-1", 1, BEGIN), StoredKey("k", "task-2", 2, BEGIN)
    store.write(Changes(keys=[old, StoredKey("gone", "task-3", 3, BEGIN)]))
    store.write(Changes(keys=[new], dropped_keys=["gone", "never"]))
    store = again(maker, store)
    list(store.open_tasks())
    assert store.keys(now=0.0) == ([new] if store.is_durable else [])
    assert store.keys(now=BEGIN) == []
    store.close()


def test_no_number_is_used_twice_although_its_task_is_gone(maker: StoreMaker) -> None:
    store = maker.make()
    store.open()
    rows = [ended(task(number)) for number in range(1, 4)]
    store.write(Changes(created=rows))
    store.write(Changes(purged=["task-3"]))
    store.close()
    store = maker.make()
    assert store.open().last_sequence == 3
    trim_all(store, max_ended=0)
    store.close()
    store = maker.make()
    assert store.open().last_sequence == 3
    store.close()
