"""How much a file keeps, how large it gets, and how little is done at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from fastworker import StoreUnavailable
from fastworker._core._stored import CallbackStage, Changes, StoredKey, StoredTask, TasksAsked
from fastworker._store._sqlite import SqliteStore
from fastworker._store._sqlite_trim import TRIM_ROWS, VACUUM_PAGES
from tests.store.rows import ended, task

MIB = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    store.open()
    yield store
    store.close()


def queued(number: int, *, size: int = 10) -> StoredTask:
    return task(number, payload=b"x" * size)


def fill_ended(store: SqliteStore, count: int, *, size: int = 10) -> None:
    """Tasks that have ended one a second, from 10,001 on; each fifth is due."""
    for first in range(1, count + 1, 500):
        numbers = range(first, min(first + 500, count + 1))
        store.write(
            Changes(
                created=[
                    ended(
                        queued(n, size=size),
                        at=10_000.0 + n,
                        callback=CallbackStage.NONE if n % 5 else CallbackStage.DUE,
                    )
                    for n in numbers
                ]
            )
        )


def numbers(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as file:
        return [n for (n,) in file.execute("SELECT sequence FROM tasks ORDER BY sequence")]


def test_each_step_of_trimming_forgets_few_rows(path: Path, store: SqliteStore) -> None:
    """So that no commit has to wait for long."""
    fill_ended(store, 2_000)
    store.write(Changes(created=[queued(5_000)]))
    lengths = [len(numbers(path))]
    while store.trim(max_ended=300, before=10_900.0):
        lengths.append(len(numbers(path)))
    steps = [before - after for before, after in pairwise(lengths)]
    assert max(steps) == TRIM_ROWS
    due = set(range(5, 2_001, 5))
    kept = set(numbers(path))
    assert kept == due | {5_000}, "as many as are due are kept beyond the limit"


def test_what_is_too_old_goes_although_there_is_room(path: Path, store: SqliteStore) -> None:
    fill_ended(store, 1_000)
    while store.trim(max_ended=100_000, before=10_900.0):
        pass
    assert numbers(path) == sorted({*range(5, 901, 5), *range(900, 1_001)})


def test_expired_keys_go_in_small_steps_and_others_stay(path: Path, store: SqliteStore) -> None:
    keys = [StoredKey(f"k{n}", f"t{n}", n, 10.0) for n in range(500)]
    store.write(Changes(keys=[*keys, StoredKey("lives", "t", 1, 9e9)]))

    def count() -> int:
        with closing(sqlite3.connect(path)) as file:
            (number,) = file.execute("SELECT count(*) FROM keys").fetchone()
            return int(number)

    counts = [count()]
    while counts[-1] > 1:
        store.trim(max_ended=10, before=0.0)
        counts.append(count())
        assert 0 < counts[-2] - counts[-1] <= TRIM_ROWS
    assert [key.key for key in store.keys(now=0.0)] == ["lives"]


@pytest.mark.slow
def test_a_file_that_held_much_shrinks_again_step_by_step(
    path: Path, store: SqliteStore
) -> None:
    """Three times what lives in it, and 64 MiB, at most."""
    fill_ended(store, 10_000, size=10_000)
    large = path.stat().st_size
    assert large > 90 * MIB
    pages = []
    reader = store.reader()
    while store.trim(max_ended=100, before=13_000.0):
        with closing(sqlite3.connect(path)) as file:
            pages.append(file.execute("PRAGMA page_count").fetchone()[0])
    steps = [before - after for before, after in pairwise(pages)]
    # One more at times: a page that says where others belong.
    assert VACUUM_PAGES / 2 < max(steps) <= VACUUM_PAGES + 1, "few, and not one by one"
    live = 10_000 * len(reader.read([f"task-{n}" for n in numbers(path)]))
    assert reader.page(TasksAsked(limit=1)).more
    reader.close()
    store.close()
    assert path.stat().st_size <= 3 * live + 64 * MIB
    assert path.stat().st_size < large / 2


def test_the_log_stays_small_however_much_is_written(path: Path, store: SqliteStore) -> None:
    for number in range(1, 40):
        first = number * 1_000
        store.write(Changes(created=[queued(first + n, size=1_000) for n in range(500)]))
    assert Path(f"{path}-wal").stat().st_size < 16 * MIB


def test_d2_a_file_that_was_deleted_is_missed_when_it_is_trimmed(
    path: Path, store: SqliteStore
) -> None:
    """So that it is noticed, and written again, although nobody submits anything."""
    store.write(Changes(created=[queued(1)]))
    path.unlink()
    with pytest.raises(StoreUnavailable, match="is gone"):
        store.trim(max_ended=10, before=0.0)
    store.recover()
    assert numbers(path) == [1]
    store.trim(max_ended=10, before=0.0)
