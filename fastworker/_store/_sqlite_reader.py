"""Questions of operators to a SQLite store, answered beside its writer.

In WAL mode a reader sees the last commit and is in nobody's way.
"""

from __future__ import annotations

import heapq
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastworker._core._stored import (
    POISON,
    StoredState,
    StoredTask,
    TaskRow,
    TasksAsked,
    TasksPage,
)
from fastworker._errors import StoreUnavailable
from fastworker._store._sqlite_file import in_words, open_to_read
from fastworker._store._sqlite_rows import (
    COLUMNS,
    PAGE_COLUMNS,
    BadRow,
    Row,
    page_row_of,
    task_of,
)


class SqliteReader:
    """See the module's first lines. From one thread at a time.

    Args:
      path: of the file, which a store has made.
      note: takes a line about a row that is not served.
      suspect: takes an error that may say that the file is damaged.
    """

    def __init__(
        self,
        path: Path,
        note: Callable[[str], None],
        suspect: Callable[[BaseException], None],
    ) -> None:
        self._path = path
        self._note = note
        self._suspect = suspect
        self._file: sqlite3.Connection | None = None
        self._identity: tuple[int, int] = (0, 0)

    def page(self, asked: TasksAsked) -> TasksPage:
        """See ``StoreReader.page``. A row that cannot be trusted takes no place on it."""
        found: list[TaskRow] = []
        try:
            for row in self._rows(asked):
                if len(found) == asked.limit:
                    return TasksPage(found, more=True)
                try:
                    shown = page_row_of(row)
                except BadRow as error:
                    self._note_bad(row, error)
                    continue
                if not asked.is_poison or shown.error.startswith(POISON):
                    found.append(shown)
        except (sqlite3.Error, OSError) as error:
            self.close()
            self._suspect(error)
            raise StoreUnavailable(in_words(self._path, error)) from error
        return TasksPage(found)

    def _rows(self, asked: TasksAsked) -> Iterator[Row]:
        """Rows that are asked for, the newest first; read as they are taken."""
        file = self._open()
        # A state at a time is already in order, by its index; several are merged.
        states: list[StoredState | None] = list(dict.fromkeys(asked.states)) or [None]
        answers: list[Iterator[Row]] = []
        for state in states:
            where, values = _conditions(asked, state)
            answers.append(
                file.execute(
                    f"SELECT {PAGE_COLUMNS} FROM tasks WHERE {where} ORDER BY sequence DESC",
                    values,
                )
            )
        return heapq.merge(*answers, key=lambda row: -row[0])

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        """See ``StoreReader.read``."""
        found: list[StoredTask] = []
        try:
            file = self._open()
            for task_id in dict.fromkeys(task_ids):
                for row in file.execute(f"SELECT {COLUMNS} FROM tasks WHERE id=?", (task_id,)):
                    try:
                        found.append(task_of(row))
                    except BadRow as error:
                        self._note_bad(row, error)
        except (sqlite3.Error, OSError) as error:
            self.close()
            self._suspect(error)
            raise StoreUnavailable(in_words(self._path, error)) from error
        return found

    def _note_bad(self, row: Row, error: BadRow) -> None:
        self._note(f"task {row[1]!r} in {self._path} is not served: {error}")

    def _open(self) -> sqlite3.Connection:
        """The file as it is now: a store that was damaged or deleted has another one."""
        stat = os.stat(self._path)
        if self._file is not None and self._identity != (stat.st_dev, stat.st_ino):
            self.close()
        if self._file is None:
            self._file = open_to_read(self._path)
            self._identity = stat.st_dev, stat.st_ino
        return self._file

    def close(self) -> None:
        """See ``StoreReader.close``."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _conditions(asked: TasksAsked, state: StoredState | None) -> tuple[str, tuple[Any, ...]]:
    parts: list[str] = []
    values: list[Any] = []
    if state is not None:
        parts.append("state = ?")
        values.append(int(state))
    if asked.priorities:
        parts.append(f"priority IN ({','.join('?' * len(asked.priorities))})")
        values += [int(each) for each in asked.priorities]
    for condition, value in (
        ("name = ?", asked.name),
        ("worker = ?", asked.worker),
        ("created >= ?", asked.since),
        ("created <= ?", asked.until),
        ("sequence < ?", asked.before),
    ):
        if value:
            parts.append(condition)
            values.append(value)
    if asked.text:
        parts.append("(instr(lower(id), lower(?)) OR instr(lower(name), lower(?)))")
        values += [asked.text, asked.text]
    if asked.is_poison:
        # Few rows come through, and of these the error is looked at.
        parts.append("instr(outcome, ?)")
        values.append(POISON.encode())
    return " AND ".join(parts) or "1", tuple(values)
