"""What operators see of a store's file, and of tasks in it, when some of it is damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fastworker._core._stored import Changes, StoredKey, StoredState, TasksAsked
from fastworker._store._sqlite import SqliteStore
from fastworker._store._sqlite_reader import SqliteReader
from fastworker._store._sqlite_rows import (
    BadRow,
    Row,
    _sum,
    key_of,
    key_row,
    mark_row,
    marks_of,
    new_row,
    page_row_of,
    settled,
    task_of,
)
from fastworker._store._sqlite_tools import check_store, store_info

from .damage import make, now
from .rows import BEGIN, ended, flat, task, trim_all


def a_file(path: Path, *damages: str) -> Path:
    """Nine tasks and, behind the store's back, what these statements do."""
    store = make(path)
    store.open()
    store.write(Changes(created=[task(number) for number in range(1, 10)]))
    store.close()
    file = sqlite3.connect(path)
    for damage in damages:
        file.execute(damage)
    file.commit()
    file.close()
    return path


def test_a_row_that_cannot_be_trusted_takes_no_place_on_a_page(tmp_path: Path) -> None:
    """Else a page of such rows would end the list, and hide all tasks before them."""
    bad = "UPDATE tasks SET priority = 9 - priority WHERE sequence IN (9, 8, 7, 4)"
    path = a_file(tmp_path / "tasks.db", bad)
    lines: list[str] = []
    suspects: list[BaseException] = []
    reader = SqliteReader(path, lines.append, suspects.append)
    for states in ([], [StoredState.QUEUED], [StoredState.QUEUED, StoredState.FAILURE]):
        seen: list[list[int]] = []
        asked, more = TasksAsked(states, limit=2), True
        while more:
            page = reader.page(asked)
            seen.append([row.sequence for row in page.rows])
            more = page.more
            asked = TasksAsked(states, before=page.rows[-1].sequence, limit=2)
        assert seen == [[6, 5], [3, 2], [1]]
    reader.close()
    assert "is not served" in lines[0]
    assert suspects == []


def test_a_text_that_is_none_does_not_keep_the_rest_from_being_checked(
    tmp_path: Path,
) -> None:
    path = a_file(
        tmp_path / "tasks.db",
        "UPDATE tasks SET worker = CAST(x'ff' AS TEXT) WHERE sequence = 1",
        "UPDATE tasks SET state = 6 WHERE sequence = 5",
    )
    found = check_store(path)
    assert found.tasks == 7
    assert [line.split(":")[0] for line in found.problems] == ["task 'task-1'", "task 'task-5'"]


def test_a_file_whose_start_number_is_damaged_can_be_described(tmp_path: Path) -> None:
    path = a_file(tmp_path / "tasks.db", "UPDATE meta SET value = 'x' WHERE name = 'epoch'")
    facts = store_info(path)
    assert facts.epoch == 0
    assert facts.tasks == {"queued": 9}


def test_a_file_whose_times_are_damaged_tells_those_of_its_sound_tasks(tmp_path: Path) -> None:
    path = a_file(
        tmp_path / "tasks.db",
        "UPDATE tasks SET created = 1e300 WHERE sequence = 1",
        "UPDATE tasks SET created = 'soon' WHERE sequence = 9",
    )
    facts = store_info(path)
    assert (facts.oldest, facts.newest) == (BEGIN + 2, BEGIN + 8)


def test_a_row_that_was_set_aside_and_damaged_after_that_is_set_aside_again(
    tmp_path: Path,
) -> None:
    """Else a file that has such a row could never be opened again."""
    path = a_file(
        tmp_path / "tasks.db",
        "INSERT INTO bad_rows VALUES (0.0, CAST(x'ff' AS TEXT), x'01')",
        "INSERT INTO bad_rows VALUES ('x', 'reason', 'row')",
        "DROP INDEX tasks_by_name",  # so that all of it is rescued
    )
    store = make(path)
    store.open()
    assert len(flat(store.open_tasks())) == 9
    store.close()
    assert store_info(path).set_aside == 2


def test_an_expired_key_whose_text_is_none_is_forgotten_as_any_other(tmp_path: Path) -> None:
    """Else trimming would raise what nobody expects, and end the control plane."""
    path = tmp_path / "tasks.db"
    a_file(path)
    with_keys = make(path)
    with_keys.open()
    keys = [StoredKey(f"key-{number}", "task-1", 0, BEGIN - 1) for number in range(150)]
    with_keys.write(Changes(keys=keys))
    with_keys.close()
    file = sqlite3.connect(path)
    file.execute("UPDATE keys SET key = CAST(x'ff' AS TEXT) WHERE key = 'key-7'")
    file.execute("UPDATE keys SET key = x'ff00' WHERE key = 'key-8'")
    file.commit()
    file.close()
    store = SqliteStore(path, wall_clock=now)
    store.open()
    assert trim_all(store, max_ended=100) == 2
    store.close()
    assert store_info(path).keys == 0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, 1.5), (1, b"task-1"), (1, None), (2, 7), (3, "2"), (4, "now"), (5, 99), (5, None),
        (6, "now"), (6, None), (8, 7), (9, "7"), (9, 1.5), (10, "life"), (11, 5),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_not_served_although_its_checksum_fits(
    column: int, value: object
) -> None:
    row = list(new_row(ended(task(1))))
    row[column] = value
    row[12] = _sum(tuple(row[:12]))
    with pytest.raises(BadRow):
        task_of(tuple(row))
    with pytest.raises(BadRow):
        page_row_of(tuple(row[:13]))
    if column < 10:
        with pytest.raises(BadRow):
            settled(tuple(row[:13]))


@pytest.mark.parametrize("value", [(None,), (b"k",), (5,), ("k", b"t"), ("k", "t", 1.5)])
def test_a_key_of_another_type_is_not_served_although_its_checksum_fits(value: Row) -> None:
    row = (*value, *key_row(StoredKey("k", "t", 1, BEGIN))[len(value) : 4])
    with pytest.raises(BadRow):
        key_of((*row, _sum(row)))


def test_a_mark_of_another_type_says_nothing_although_its_checksum_fits() -> None:
    marks = [("epoch", 5), (7, "x"), (None, None)]
    rows = [(*mark, _sum(mark)) for mark in marks]
    assert marks_of([*rows, mark_row("project", "p")]) == {"project": "p"}


def test_a_start_number_that_is_none_does_not_keep_a_file_from_being_opened(
    tmp_path: Path,
) -> None:
    path = a_file(tmp_path / "tasks.db")
    file = sqlite3.connect(path)
    for name in ("epoch", "last_sequence"):
        file.execute("INSERT OR REPLACE INTO meta VALUES (?,?,?)", mark_row(name, "soon"))
    file.commit()
    file.close()
    store = make(path)
    opened = store.open()
    assert opened.epoch > BEGIN
    assert opened.last_sequence == 9
    assert "number of its last start" in opened.problems[0]
    store.close()
