"""For the command line: what a store's file has, whether it is sound, and making it small.

Each opens the file by itself. The first two only read, and may do so while a control
plane works with the file; the last one needs it for itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from fastworker._core._stored import StoredState
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._sqlite_file import (
    connect,
    in_words,
    is_damage,
    looks_like_ours,
    open_to_read,
)
from fastworker._store._sqlite_lock import LockFile, is_locked
from fastworker._store._sqlite_rows import (
    COLUMNS,
    KEY_COLUMNS,
    PAGE_COLUMNS,
    READ_MARKS,
    SCHEMA_VERSION,
    BadRow,
    key_of,
    marks_of,
    number_of,
    page_row_of,
    task_of,
)

# Rows that are verified in one go; between two of them the log may be emptied.
CHECK_ROWS: Final = 5_000
# Beyond so many problems one knows enough.
MAX_PROBLEMS: Final = 1_000


class StoreInfo(msgspec.Struct, frozen=True):
    """What a file has.

    ``epoch`` is the number of the last start, 0 if that is damaged. ``tasks`` are
    counts by state, in lower case, states without a task left out. ``oldest`` and
    ``newest`` are wall
    time: when the tasks with the lowest and the highest number were created, 0
    without tasks. ``set_aside`` are damaged rows that were taken out. ``is_in_use``:
    a process has it open for writing.
    """

    path: str
    schema: int
    project: str
    epoch: int
    tasks: dict[str, int]
    keys: int
    set_aside: int
    oldest: float
    newest: float
    bytes: int
    log_bytes: int
    free_bytes: int
    is_in_use: bool


class StoreCheck(msgspec.Struct, frozen=True):
    """What a check has found: how much was verified, and a line for each problem."""

    tasks: int
    keys: int
    problems: list[str]


class StoreVacuumed(msgspec.Struct, frozen=True):
    """The size of a file in bytes, with its log, before and after."""

    before: int
    after: int


def store_info(path: Path) -> StoreInfo:
    """Say what a file has.

    Raises:
      StoreError: there is none, or it is not one that this version knows.
      StoreUnavailable: it cannot be read now.
    """
    with _reading(path) as file:
        marks = _marks(path, file)
        counts = dict(file.execute("SELECT state, count(*) FROM tasks GROUP BY state"))
        return StoreInfo(
            path=str(path),
            schema=SCHEMA_VERSION,
            project=marks.get("project", ""),
            epoch=number_of(marks, "epoch") or 0,
            tasks={s.name.lower(): counts[s.value] for s in StoredState if s.value in counts},
            keys=_number(file, "SELECT count(*) FROM keys"),
            set_aside=_number(file, "SELECT count(*) FROM bad_rows"),
            oldest=_created(file, "ASC"),
            newest=_created(file, "DESC"),
            bytes=path.stat().st_size,
            log_bytes=_log_bytes(path),
            free_bytes=_number(file, "PRAGMA freelist_count")
            * _number(file, "PRAGMA page_size"),
            is_in_use=is_locked(path),
        )


def check_store(path: Path) -> StoreCheck:
    """Verify a file: its structure, and the checksum of each row.

    It takes about 10 s for a million tasks.

    Raises:
      StoreError: there is none, or it is not one that this version knows.
      StoreUnavailable: it cannot be read now.
    """
    problems: list[str] = []
    tasks = keys = 0
    try:
        with _reading(path) as file:
            _marks(path, file)
            found = file.execute("PRAGMA integrity_check(100)").fetchall()
            lines = [line for (text,) in found for line in str(text).splitlines()]
            problems += [line for line in lines if line != "ok" and not line.startswith("*")]
            last = -(2**63)
            while True:
                rows = file.execute(
                    f"SELECT {COLUMNS} FROM tasks NOT INDEXED WHERE sequence > ? "
                    f"ORDER BY sequence LIMIT {CHECK_ROWS}",
                    (last,),
                ).fetchall()
                for row in rows:
                    try:
                        task_of(row)
                    except BadRow as error:
                        problems.append(f"task {row[1]!r}: {error}")
                    else:
                        tasks += 1
                if not rows or rows[-1][0] <= last:
                    break
                last = rows[-1][0]
            for row in file.execute(f"SELECT {KEY_COLUMNS} FROM keys"):
                try:
                    key_of(row)
                except BadRow as error:
                    problems.append(f"idempotency key {row[0]!r}: {error}")
                else:
                    keys += 1
    except _Damaged as error:
        problems.append(str(error))
    return StoreCheck(tasks, keys, problems[:MAX_PROBLEMS])


def vacuum_store(path: Path) -> StoreVacuumed:
    """Write a file anew, without what is free in it. It needs as much room once more.

    Raises:
      StoreError: there is none, it is not one that this version knows, or a process
        has it open.
      StoreUnavailable: it cannot be written now; it is as it was.
    """
    _see_that_it_is_there(path)
    lock = LockFile(path)
    lock.take()
    try:
        before = path.stat().st_size + _log_bytes(path)
        with _telling(path):
            file = connect(path)
            try:
                _marks(path, file)
                file.execute("VACUUM")
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                file.close()
        return StoreVacuumed(before, path.stat().st_size + _log_bytes(path))
    finally:
        lock.release()


class _Damaged(StoreError):
    """The file is damaged; the next start of a control plane sets it aside."""


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    _see_that_it_is_there(path)
    with _telling(path):
        file = open_to_read(path)
        try:
            yield file
        finally:
            file.close()


def _see_that_it_is_there(path: Path) -> None:
    if not path.is_file():
        raise StoreError(f"there is no store at {path}; name another one with --store")
    if not looks_like_ours(path):
        raise StoreError(f"{path} is not a store of tasks; name another one with --store")


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if is_damage(error):
            raise _Damaged(
                f"{in_words(path, error)}; a control plane that is started with it sets it "
                f"aside, and keeps what can be read"
            ) from error
        raise StoreUnavailable(in_words(path, error)) from error


def _marks(path: Path, file: sqlite3.Connection) -> dict[str, str]:
    marks = marks_of(file.execute(READ_MARKS))
    version = marks.get("schema", str(SCHEMA_VERSION))
    if version != str(SCHEMA_VERSION):
        raise StoreError(
            f"{path} has schema {version!r}, and this version of fastworker knows "
            f"{SCHEMA_VERSION}; use the version that wrote it"
        )
    return marks


def _number(file: sqlite3.Connection, query: str) -> int:
    (number,) = file.execute(query).fetchone()
    return int(number)


def _created(file: sqlite3.Connection, order: str) -> float:
    """When the first task in this order was created of which that can be trusted."""
    for row in file.execute(
        f"SELECT {PAGE_COLUMNS} FROM tasks NOT INDEXED ORDER BY sequence {order} "
        f"LIMIT {MAX_PROBLEMS}"
    ):
        try:
            return page_row_of(row).created
        except BadRow:
            continue
    return 0.0


def _log_bytes(path: Path) -> int:
    log = Path(f"{path}-wal")
    return log.stat().st_size if log.exists() else 0
