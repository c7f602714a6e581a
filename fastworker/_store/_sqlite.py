"""The durable store: one SQLite file (WAL, synchronous=FULL), for one control plane.

What ``write`` has returned for is on the disk. Every row has a checksum that is
verified whenever the row is read; what does not fit is set aside and reported,
never served. See docs/adr/0034-sqlite-store.md.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from fastworker._core._stored import Changes, StoredKey, StoredTask
from fastworker._crash import crash_point
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._abc import StoreOpened, StoreReader
from fastworker._store._sqlite_file import Transaction, in_words, is_damage
from fastworker._store._sqlite_held import HeldFile
from fastworker._store._sqlite_reader import SqliteReader
from fastworker._store._sqlite_replay import FIRST_ENDED, SqliteReplay
from fastworker._store._sqlite_rows import (
    INSERT,
    PAGE_COLUMNS,
    PUT_KEY,
    PUT_MARK,
    READ_MARKS,
    SCHEMA_VERSION,
    SETTLE,
    UPDATE,
    BadRow,
    changed_row,
    key_row,
    mark_row,
    marks_of,
    new_row,
    settled,
)
from fastworker._store._sqlite_trim import SqliteTrim, keep_last_sequence

T = TypeVar("T")

# Nobody starts a control plane more often than this between two seconds of the clock.
MANY_STARTS: Final = 1_000_000


class SqliteStore:
    """See the module's first lines.

    Args:
      path: of the file; made, with its folder, if it is not there.
      project: marks whose tasks these are; empty for anybody's.
      wall_clock: seconds since 1970.
    """

    is_durable: Final = True
    is_blocking: Final = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        project: str = "",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self._project = project
        self._wall_clock = wall_clock
        self._held = HeldFile(self.path, wall_clock)
        self._replay = SqliteReplay(self._held)
        self._trim = SqliteTrim()
        self._transaction = 0
        self._last_sequence = 0
        self._uncertain: Changes | None = None  # may have become durable all the same

    def __repr__(self) -> str:
        return f"<SqliteStore {self.name}>"

    @property
    def name(self) -> str:
        return str(self.path)

    # --- opening ---

    def open(self) -> StoreOpened:
        """See ``Store.open``. What is damaged is set aside, and what can be read is kept."""
        if self._held.is_open:
            raise StoreError(f"{self.path} is open already")
        try:
            with self._telling():
                self._held.open()
                return self._mended(self._begin_epoch)
        except (StoreError, StoreUnavailable):
            self.close()
            raise

    def _begin_epoch(self) -> StoreOpened:
        file = self._held.connection
        marks = marks_of(file.execute(READ_MARKS))
        self._check_marks(marks)
        if "epoch" not in marks:
            self._held.problems.append(
                f"the number of its last start in {self.path} was damaged"
            )
            marks["epoch"] = str(int(self._wall_clock()) + MANY_STARTS)
        epoch = int(marks["epoch"]) + 1
        self._last_sequence = max(
            int(marks.get("last_sequence", "0")), self._replay.last_sequence()
        )
        with Transaction(file):
            marks |= {"schema": str(SCHEMA_VERSION), "epoch": str(epoch)}
            marks["project"] = self._project or marks.get("project", "")
            file.executemany(PUT_MARK, (mark_row(*mark) for mark in marks.items()))
        self._transaction = self._held.transaction()
        is_guarded = "guarded" in marks
        return StoreOpened(epoch, self._last_sequence, self.take_problems(), is_guarded)

    def note_guarded(self) -> None:
        """See ``Store.note_guarded``."""
        file = self._held.connection
        with self._telling(), Transaction(file):
            file.execute(PUT_MARK, mark_row("guarded", "1"))

    def _check_marks(self, marks: dict[str, str]) -> None:
        # A mark that was damaged is not there; its tables are as we make them.
        version = marks.get("schema", str(SCHEMA_VERSION))
        project = marks.get("project", "")
        if version != str(SCHEMA_VERSION):
            raise StoreError(
                f"{self.path} has schema {version!r}, and this version of fastworker knows "
                f"{SCHEMA_VERSION}; use the version that wrote it, or choose another file with "
                f"--store"
            )
        if self._project and project and project != self._project:
            raise StoreError(
                f"{self.path} belongs to another project ({project!r}; this one is "
                f"{self._project!r}); give this one a file of its own with --store PATH"
            )

    # --- what came back ---

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.open_tasks``. Reads, and verifies, every row there is."""
        with self._telling():
            yield from self._replay.open_tasks()

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        """See ``Store.outcomes``."""
        with self._telling():
            return self._mended(lambda: self._replay.outcomes(limit=limit, since=since))

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.due_callbacks``; after :meth:`open_tasks`, which has found them."""
        with self._telling():
            for some in self._replay.due_lists():
                yield self._mended(functools.partial(self._replay.read_due, some))

    def keys(self, *, now: float) -> list[StoredKey]:
        """See ``Store.keys``."""
        with self._telling():
            return self._mended(lambda: self._replay.keys(now=now))

    # --- at work ---

    def write(self, changes: Changes) -> None:
        """See ``Store.write``."""
        file = self._held.connection
        if self._uncertain is not None:
            raise StoreUnavailable(f"{self.path} has to be recovered first")
        self._held.check()
        transaction = (self._transaction + 1) % 2**31
        last = max([task.sequence for task in changes.created], default=0)
        last = max(last, self._last_sequence)
        try:
            with self._telling(), Transaction(file):
                self._apply(file, changes, last)
                crash_point("before-commit")
                file.execute(f"PRAGMA user_version = {transaction:d}")
        except StoreUnavailable:
            self._uncertain = changes
            raise
        crash_point("after-commit")
        self._transaction, self._last_sequence = transaction, last

    def _apply(self, file: sqlite3.Connection, changes: Changes, last: int) -> None:
        # First: its id may be used anew in this very transaction.
        for task_id in changes.purged:
            file.execute(f"DELETE FROM tasks WHERE id=? AND state >= {FIRST_ENDED}", (task_id,))
        if changes.purged:
            keep_last_sequence(file, last)
        if changes.created:
            file.executemany(INSERT, map(new_row, changes.created))
        if changes.updated:
            done = file.executemany(UPDATE, map(changed_row, changes.updated))
            if done.rowcount != len(changes.updated):
                self._write_anew(file, changes.updated)
        for task_id in changes.called_back:
            self._settle(file, task_id)
        if changes.keys:
            file.executemany(PUT_KEY, map(key_row, changes.keys))
        for key in changes.dropped_keys:
            file.execute("DELETE FROM keys WHERE key=?", (key,))

    def _write_anew(self, file: sqlite3.Connection, tasks: list[StoredTask]) -> None:
        """Rows of some of these were set aside since they were damaged; here they are whole."""
        file.executemany(INSERT, map(new_row, tasks))

    def _settle(self, file: sqlite3.Connection, task_id: str) -> None:
        for row in file.execute(
            f"SELECT {PAGE_COLUMNS} FROM tasks WHERE id=?", (task_id,)
        ).fetchall():
            try:
                file.execute(SETTLE, settled(row))
            except BadRow as error:
                self._held.problems.append(
                    f"task {task_id!r} in {self.path} is not served: {error}"
                )

    def recover(self) -> None:
        """See ``Store.recover``."""
        with self._telling():
            self._held.recover()
            self._undo_uncertain()
            with Transaction(self._held.connection) as file:
                # Whether it can be written is known when it was.
                file.execute(PUT_MARK, mark_row("recovered", f"{self._wall_clock()}"))

    def _undo_uncertain(self) -> None:
        """Should the transaction that failed have become durable all the same: take it back.

        What it has changed of older tasks stays; it did happen, and is written again.
        """
        changes, found = self._uncertain, self._held.transaction()
        if changes is not None and found != self._transaction:
            with Transaction(self._held.connection) as file:
                for task in changes.created:
                    file.execute("DELETE FROM tasks WHERE sequence=?", (task.sequence,))
                for key in changes.keys:
                    file.execute("DELETE FROM keys WHERE key=?", (key.key,))
        self._transaction, self._uncertain = found, None

    def trim(self, *, max_ended: int, before: float) -> bool:
        """See ``Store.trim``."""
        if self._uncertain is not None:
            return False
        with self._telling():
            self._held.resolve_suspicion()
            # Also for whoever submits nothing: a file that is gone is written again.
            self._held.check()
            return self._trim.step(
                self._held.connection,
                max_ended=max_ended,
                before=before,
                now=self._wall_clock(),
                last_sequence=self._last_sequence,
            )

    def take_problems(self) -> list[str]:
        """See ``Store.take_problems``."""
        problems: list[str] = []
        while self._held.problems:
            problems.append(self._held.problems.popleft())
        return problems

    def reader(self) -> StoreReader:
        """See ``Store.reader``."""
        return SqliteReader(self.path, self._held.problems.append, self._held.suspect)

    def _mended(self, read: Callable[[], T]) -> T:
        """Do this; if the file turns out to be damaged, with what could be rescued of it."""
        try:
            return read()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._held.rescue(error)
            return read()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors of the disk and of SQLite in words."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._held.suspect(error)
            raise StoreUnavailable(in_words(self.path, error)) from error

    # --- ending ---

    def close(self) -> None:
        """See ``Store.close``."""
        self._held.close()
