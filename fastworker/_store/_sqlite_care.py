"""What operators do with a store's file: look at it, check it, shrink it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastworker._core._stored import StoredState
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._sqlite_file import APPLICATION_ID, BUSY_SECONDS, in_words
from fastworker._store._sqlite_lock import LockFile
from fastworker._store._sqlite_rows import COLUMNS, BadRow, key_of, task_of


def describe_file(path: Path) -> dict[str, Any]:
    """Tell what is in a file: schema, epoch, tasks by state, bytes.

    Raises:
      StoreError: it is not a store.
      StoreUnavailable: it cannot be read now.
    """
    with _open(path) as file:
        meta = dict(file.execute("SELECT name, value FROM meta").fetchall())
        states = file.execute("SELECT state, count(*) FROM tasks GROUP BY state").fetchall()
        (keys,) = file.execute("SELECT count(*) FROM keys").fetchone()
        (bad,) = file.execute("SELECT count(*) FROM bad_rows").fetchone()
        (pages,) = file.execute("PRAGMA page_count").fetchone()
        (free,) = file.execute("PRAGMA freelist_count").fetchone()
        (size,) = file.execute("PRAGMA page_size").fetchone()
    wal = Path(f"{path}-wal")
    return {
        "path": str(path),
        "schema": meta.get("schema"),
        "project": meta.get("project") or None,
        "epoch": int(meta.get("epoch") or 0),
        "tasks": {_name_of(state): number for state, number in states},
        "keys": keys,
        "set_aside": bad,
        "bytes": pages * size,
        "free_bytes": free * size,
        "log_bytes": wal.stat().st_size if wal.exists() else 0,
    }


def check_file(path: Path) -> tuple[int, list[str]]:
    """Read every row and verify it; return how many tasks were sound, and what is damaged.

    Raises:
      StoreError, StoreUnavailable: as for :func:`describe_file`.
    """
    problems: list[str] = []
    count = 0
    with _open(path) as file:
        for (line,) in file.execute("PRAGMA integrity_check(20)"):
            if line != "ok":
                problems.append(str(line))
        try:
            for row in file.execute(f"SELECT {COLUMNS} FROM tasks NOT INDEXED"):
                try:
                    task_of(row)
                    count += 1
                except BadRow as error:
                    problems.append(f"task {row[1]!r}: {error}")
            for row in file.execute("SELECT key, task_id, content, expires_at, sum FROM keys"):
                try:
                    key_of(row)
                except BadRow as error:
                    problems.append(f"key {row[0]!r}: {error}")
        except sqlite3.DatabaseError as error:
            problems.append(f"the rest cannot be read: {error}")
    return count, problems


def vacuum_file(path: Path) -> tuple[int, int]:
    """Write the file anew without free space; return its bytes before and now.

    Raises:
      StoreError: a control plane has it open, or it is not a store.
      StoreUnavailable: there is no room to write it.
    """
    lock = LockFile(path)
    lock.take()
    try:
        before = path.stat().st_size
        with _open(path, mode="rw") as file:
            file.execute("VACUUM")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return before, path.stat().st_size
    finally:
        lock.release()


@contextlib.contextmanager
def _open(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    try:
        file = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=BUSY_SECONDS,
        )
        try:
            (mark,) = file.execute("PRAGMA application_id").fetchone()
            if mark != APPLICATION_ID:
                raise StoreError(f"{path} is not a file of FastWorker's")
            yield file
        finally:
            file.close()
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(in_words(path, error)) from error


def _name_of(state: int) -> str:
    try:
        return StoredState(state).name.lower()
    except ValueError:
        return f"state {state}"
