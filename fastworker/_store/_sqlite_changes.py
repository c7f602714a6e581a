"""What a transaction of the control plane does to the tables of a SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from fastworker._core._stored import CallbackStage, Changes, StoredTask
from fastworker._store._sqlite_file import Transaction
from fastworker._store._sqlite_rows import (
    COLUMNS,
    INSERT,
    INSERT_KEY,
    UPDATE,
    Row,
    changed_row,
    key_row,
    new_row,
)
from fastworker._store._sqlite_scan import FIRST_ENDED


def apply(
    file: sqlite3.Connection,
    changes: Changes,
    sound: Callable[[list[Row]], Iterable[StoredTask]],
) -> None:
    """Make these changes, inside a transaction.

    Args:
      sound: makes tasks of those rows that are what was written.
    """
    # First: its id may be used anew in this very transaction.
    for task_id in changes.purged:
        file.execute(f"DELETE FROM tasks WHERE id=? AND state >= {FIRST_ENDED}", (task_id,))
    if changes.created:
        file.executemany(INSERT, map(new_row, changes.created))
    if changes.updated:
        done = file.executemany(UPDATE, map(changed_row, changes.updated))
        if done.rowcount != len(changes.updated):
            # Some rows were damaged, and are gone; their tasks are known all the same.
            file.executemany(INSERT, map(new_row, changes.updated))
    for task_id in changes.called_back:
        rows = file.execute(f"SELECT {COLUMNS} FROM tasks WHERE id=?", (task_id,)).fetchall()
        for task in sound(rows):
            if task.spec.id == task_id:
                settled = replace(task, callback=CallbackStage.SETTLED)
                file.execute(UPDATE, changed_row(settled))
    if changes.keys:
        file.executemany(INSERT_KEY, map(key_row, changes.keys))
    for key in changes.dropped_keys:
        file.execute("DELETE FROM keys WHERE key=?", (key,))


def undo(file: sqlite3.Connection, changes: Changes) -> None:
    """Should a transaction that failed have become durable all the same: take it back.

    Its new tasks were refused. All else in it comes again with the next one.
    """
    with Transaction(file):
        for task in changes.created:
            file.execute("DELETE FROM tasks WHERE sequence=?", (task.sequence,))
        for key in changes.keys:
            file.execute("DELETE FROM keys WHERE key=?", (key.key,))
