"""Reads every row of a SQLite store once, and sees that nothing is wrong or missing.

Checksums tell which rows are not what was written. A flipped bit can also hide rows,
or lead to others, without an error; so the rows are compared with the indexes, by
sums that do not depend on their order.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

from fastworker._core._stored import ENDED_STATES, CallbackStage, StoredKey, StoredTask
from fastworker._store._sqlite_file import Damaged
from fastworker._store._sqlite_rows import (
    COLUMNS,
    KEY_COLUMNS,
    BadRow,
    Row,
    key_of,
    task_of,
)

# Rows in one list.
LIST_ROWS: Final = 2_000
FIRST_ENDED: Final = int(ENDED_STATES[0])

# What an index has, and of which rows.
_INDEXES: Final = (
    "SELECT id, sequence FROM tasks INDEXED BY tasks_by_id",
    "SELECT state, sequence FROM tasks INDEXED BY tasks_by_state",
    f"SELECT changed, sequence FROM tasks INDEXED BY tasks_by_end WHERE state >= {FIRST_ENDED}",
    "SELECT 1, sequence FROM tasks INDEXED BY tasks_due WHERE callback = 1",
)


class Scan:
    """See the module's first lines.

    ``bad`` are the rows that do not fit, with the reasons; ``due`` the numbers of ended
    tasks of whose end somebody has to be told. Both are complete when all was read.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file
        self._sums = [0] * len(_INDEXES)
        self.bad: list[tuple[Row, str]] = []
        self.due: list[int] = []

    def tasks(self) -> Iterator[list[StoredTask]]:
        """All tasks that have not ended, in the order of their numbers, in lists.

        Raises:
          sqlite3.Error: they cannot be read, or come in a wrong order.
        """
        last = -(2**63)
        # Not by an index: a flipped bit there, or in a state, would hide a task.
        query = f"SELECT {COLUMNS} FROM tasks NOT INDEXED ORDER BY sequence"
        by_id, by_state, by_end, by_due = self._sums
        with contextlib.closing(self._file.execute(query)) as cursor:
            while rows := cursor.fetchmany(LIST_ROWS):
                tasks: list[StoredTask] = []
                for row in rows:
                    number, state = row[0], row[5]
                    if number <= last:
                        # It may have the number of another row, and would be taken for it.
                        raise Damaged("its rows are out of order")
                    last = number
                    try:
                        task = task_of(row)
                    except BadRow as error:
                        self.bad.append((row, str(error)))
                        continue
                    by_id += hash((row[1], number))
                    by_state += hash((state, number))
                    if state >= FIRST_ENDED:
                        by_end += hash((row[6], number))
                    else:
                        tasks.append(task)
                    if task.callback is CallbackStage.DUE:
                        by_due += hash((1, number))
                        self.due.append(number)
                self._sums = [by_id, by_state, by_end, by_due]
                yield tasks

    def check(self) -> None:
        """See that the indexes have the same rows; after :meth:`tasks`.

        Raises:
          sqlite3.Error: they do not, or cannot be read.
        """
        for query, total in zip(_INDEXES, self._sums, strict=True):
            with contextlib.closing(self._file.execute(query)) as cursor:
                while entries := cursor.fetchmany(LIST_ROWS):
                    total -= sum(map(hash, entries))
            if total:
                raise Damaged("its rows and its indexes are not the same")


def read_keys(file: sqlite3.Connection) -> tuple[list[StoredKey], list[str]]:
    """All idempotency keys, and what is wrong with others.

    Raises:
      sqlite3.Error: they cannot be read, or some are hidden.
    """
    keys: list[StoredKey] = []
    problems: list[str] = []
    total = 0
    for row in file.execute(f"SELECT {KEY_COLUMNS} FROM keys NOT INDEXED").fetchall():
        try:
            keys.append(key_of(row))
        except BadRow as error:
            problems.append(f"an idempotency key is lost: {error}")
        total += hash((row[3], row[0]))
    entries = file.execute("SELECT expires_at, key FROM keys INDEXED BY keys_by_end").fetchall()
    if total != sum(map(hash, entries)):
        raise Damaged("its keys and their index are not the same")
    return keys, problems
