"""What operators do with a store's file: look at it, check it, make it small."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastworker._core._messages import WireStatus
from fastworker._core._stored import Changes, StoredKey
from fastworker._errors import StoreError
from fastworker._store._sqlite import SqliteStore
from fastworker._store._sqlite_tools import check_store, store_info, vacuum_store

from .damage import flip, make, now
from .rows import BEGIN, ended, started, task, trim_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


def fill(path: Path) -> SqliteStore:
    store = SqliteStore(path, project="/one", wall_clock=now)
    store.open()
    rows = [task(1), task(2), started(task(3)), ended(task(4)), ended(task(5))]
    failed = ended(task(6), WireStatus.FAILURE)
    store.write(Changes(created=[*rows, failed], keys=[StoredKey("k", "task-1", 1, BEGIN + 9)]))
    return store


def test_info_says_what_is_in_a_file_while_it_is_in_use_and_afterwards(path: Path) -> None:
    store = fill(path)
    at_work = store_info(path)
    assert at_work.tasks == {"queued": 2, "started": 1, "success": 2, "failure": 1}
    assert (at_work.keys, at_work.set_aside) == (1, 0)
    assert (at_work.oldest, at_work.newest) == (BEGIN + 1, BEGIN + 6)
    assert (at_work.schema, at_work.project) == (1, "/one")
    assert at_work.is_in_use
    assert at_work.log_bytes > 0
    store.close()
    closed = store_info(path)
    assert not closed.is_in_use
    assert closed.tasks == at_work.tasks
    assert closed.bytes == path.stat().st_size
    store = make(path)
    assert store.open().epoch == closed.epoch + 1
    store.close()


def test_info_of_an_empty_store_has_no_times(path: Path) -> None:
    store = make(path)
    store.open()
    store.close()
    info = store_info(path)
    assert (info.tasks, info.oldest, info.newest) == ({}, 0.0, 0.0)


def test_a_check_of_a_sound_file_verifies_all_of_it_also_while_it_is_in_use(
    path: Path,
) -> None:
    store = fill(path)
    assert check_store(path).problems == []
    store.close()
    check = check_store(path)
    assert (check.tasks, check.keys, check.problems) == (6, 1, [])


def test_a_check_names_the_row_that_is_damaged_and_changes_nothing(path: Path) -> None:
    fill(path).close()
    flip(path, path.read_bytes().rindex(b"\x92\x01\x02") + 2, 3)
    before = path.read_bytes()
    check = check_store(path)
    (problem,) = check.problems
    assert "'task-1'" in problem
    assert "checksum" in problem
    assert check.tasks == 5
    assert path.read_bytes() == before


def test_a_check_of_a_file_that_cannot_be_read_is_a_problem(path: Path) -> None:
    fill(path).close()
    flip(path, 100, 1)
    (problem, *_) = check_store(path).problems
    assert str(path) in problem
    assert "malformed" in problem


def test_vacuum_gives_back_what_is_free_and_needs_the_file_for_itself(path: Path) -> None:
    store = make(path)
    store.open()
    for first in range(0, 2_000, 100):
        rows = [ended(task(first + n, payload=bytes(1_000))) for n in range(1, 101)]
        store.write(Changes(created=rows))
    trim_all(store, max_ended=10)
    with pytest.raises(StoreError, match="another process"):
        vacuum_store(path)
    store.close()
    sizes = vacuum_store(path)
    assert sizes.after == path.stat().st_size < sizes.before / 5
    check = check_store(path)
    assert (check.tasks, check.problems) == (10, [])
    # Its tables are where they were, and its pages can still be given back one by one.
    store = make(path)
    assert store.open().problems == []
    assert store._held.connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    store.close()


def test_a_file_that_is_not_there_or_not_ours_is_named(path: Path) -> None:
    for tool in (store_info, check_store, vacuum_store):
        with pytest.raises(StoreError, match=r"no store at .*tasks\.db"):
            tool(path)
    assert list(path.parent.iterdir()) == []
    path.write_text("a letter" * 100)
    for tool in (store_info, check_store, vacuum_store):
        with pytest.raises(StoreError, match="not a store"):
            tool(path)
