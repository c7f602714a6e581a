"""What operators see of a store's file, and of tasks in it, when some of it is damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fastworker._core._stored import Changes, StoredState, TasksAsked
from fastworker._store._sqlite_reader import SqliteReader
from fastworker._store._sqlite_tools import check_store, store_info

from .damage import make
from .rows import task


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
