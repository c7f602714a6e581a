"""Questions of operators to a SQLite store, answered beside its writer.

In WAL mode a reader sees the last commit and is in nobody's way.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

from fastworker._core._stored import StoredTask, TaskRow, TasksAsked, TasksPage, row_of
from fastworker._errors import StoreUnavailable
from fastworker._store._sqlite_file import BUSY_SECONDS, in_words
from fastworker._store._sqlite_rows import COLUMNS, BadRow, Row, task_of

log = logging.getLogger("fastworker.store")


class SqliteReader:
    """See the module's first lines. From one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None
        self._inode = (0, 0)

    def page(self, asked: TasksAsked) -> TasksPage:
        """See ``StoreReader.page``."""
        where, values = _conditions(asked)
        rows = self._rows(
            f"SELECT {COLUMNS} FROM tasks WHERE {where} ORDER BY sequence DESC LIMIT ?",
            (*values, asked.limit + 1),
        )
        tasks = [self._task(row) for row in rows[: asked.limit]]
        found: list[TaskRow] = [row_of(task) for task in tasks if task is not None]
        return TasksPage(found, len(rows) > asked.limit)

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        """See ``StoreReader.read``."""
        found: list[StoredTask] = []
        for task_id in task_ids:
            for row in self._rows(f"SELECT {COLUMNS} FROM tasks WHERE id=?", (task_id,)):
                task = self._task(row)
                if task is not None and task.spec.id == task_id:
                    found.append(task)
        return found

    def close(self) -> None:
        """See ``StoreReader.close``."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _task(self, row: Row) -> StoredTask | None:
        try:
            return task_of(row)
        except BadRow as error:
            log.error("store: task %r in %s is not served: %s", row[1], self._path, error)
            return None

    def _rows(self, query: str, values: tuple[object, ...]) -> list[Row]:
        try:
            return self._connection().execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreUnavailable(in_words(self._path, error)) from error

    def _connection(self) -> sqlite3.Connection:
        stat = self._path.stat()
        if self._file is not None and self._inode != (stat.st_dev, stat.st_ino):
            self.close()  # the writer has made a new file
        if self._file is None:
            self._file = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                timeout=BUSY_SECONDS,
                check_same_thread=False,
            )
            self._inode = stat.st_dev, stat.st_ino
            self._file.execute("PRAGMA query_only = ON")
            # So that a text with a flipped bit is a row that does not fit, and no error.
            self._file.text_factory = _text
        return self._file


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _conditions(asked: TasksAsked) -> tuple[str, tuple[Any, ...]]:
    parts: list[str] = []
    values: list[Any] = []
    for column, wanted in (("state", asked.states), ("priority", asked.priorities)):
        if wanted:
            parts.append(f"{column} IN ({','.join('?' * len(wanted))})")
            values += [int(each) for each in wanted]
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
    return " AND ".join(parts) or "1", tuple(values)
