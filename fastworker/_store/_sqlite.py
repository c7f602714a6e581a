"""The durable store: one SQLite file (WAL, synchronous=FULL), for one control plane.

What ``write`` has returned for is on the disk. Every row has a checksum that is
verified whenever the row is read; what does not fit is set aside and reported,
never served. See docs/adr/0034-sqlite-store.md.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fastworker._core._stored import (
    ENDED_STATES,
    CallbackStage,
    Changes,
    StoredKey,
    StoredTask,
)
from fastworker._crash import crash_point
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._abc import StoreOpened, StoreReader
from fastworker._store._sqlite_file import (
    LockFile,
    begin_file,
    connect,
    in_words,
    is_damage,
    set_aside,
)
from fastworker._store._sqlite_reader import SqliteReader
from fastworker._store._sqlite_rows import (
    COLUMNS,
    INSERT,
    SCHEMA_VERSION,
    UPDATE,
    BadRow,
    Row,
    as_bytes,
    changed_row,
    key_of,
    key_row,
    new_row,
    task_of,
)

log = logging.getLogger("fastworker.store")

# Rows in one list of open_tasks().
LIST_ROWS: Final = 2_000
# One step of trimming: a few milliseconds.
TRIM_ROWS: Final = 200
# Pages that are free are given back to the file system beyond this part of all.
FREE_PART: Final = 0.25
FREE_PAGES: Final = 4_096
VACUUM_PAGES: Final = 256
FIRST_ENDED: Final = int(ENDED_STATES[0])


class SqliteStore:
    """See the module's first lines.

    Args:
      path: of the file; made, with its folder, if it is not there.
      project: marks whose tasks these are; empty for anybody's.
    """

    is_durable: Final = True
    is_blocking: Final = True

    def __init__(self, path: str | os.PathLike[str], *, project: str = "") -> None:
        self.path = Path(path)
        self._project = project
        self._lock = LockFile(self.path)
        self._file: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._transaction = 0
        self._uncertain: Changes | None = None  # may have been committed all the same
        self._problems: list[str] = []
        self._due: list[int] | None = None
        self._is_trimming = False
        self._ended = 0

    def __repr__(self) -> str:
        return f"<SqliteStore {self.name}>"

    @property
    def name(self) -> str:
        return str(self.path)

    # --- opening ---

    def open(self) -> StoreOpened:
        """See ``Store.open``; a file that is damaged as a whole is set aside first."""
        self._lock.take()
        try:
            try:
                return self._open()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                aside = set_aside(self.path)
                self._problems.append(
                    f"{self.path} is damaged ({error}) and was set aside as {aside}; the tasks "
                    f"in it are not known any more"
                )
                return self._open()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreUnavailable(in_words(self.path, error)) from error
        except StoreError:
            self.close()
            raise

    def _open(self) -> StoreOpened:
        begin_file(self.path)
        self._connect()
        file = self._connection()
        self._check_mark(file)
        epoch = self._read_epoch(file) + 1
        with _Transaction(file):
            self._put_meta(file, "epoch", f"{epoch}")
        (last,) = file.execute("SELECT max(sequence) FROM tasks").fetchone()
        last = last if isinstance(last, int) else 0
        return StoreOpened(epoch, last, self.take_problems())

    def _connect(self) -> None:
        self._file = connect(self.path)
        stat = self.path.stat()
        self._inode = stat.st_dev, stat.st_ino
        (self._transaction,) = self._file.execute("PRAGMA user_version").fetchone()

    def _check_mark(self, file: sqlite3.Connection) -> None:
        version = self._get_meta(file, "schema")
        if version != str(SCHEMA_VERSION):
            raise StoreError(
                f"{self.path} has schema {version!r}, and this version of fastworker knows "
                f"{SCHEMA_VERSION}; use the version that wrote it, or choose another file with "
                f"--store"
            )
        project = self._get_meta(file, "project")
        if self._project and project and project != self._project:
            raise StoreError(
                f"{self.path} belongs to another project ({project!r}; this one is "
                f"{self._project!r}); give this one a file of its own with --store PATH"
            )
        if self._project and not project:
            with _Transaction(file):
                self._put_meta(file, "project", self._project)

    def _read_epoch(self, file: sqlite3.Connection) -> int:
        try:
            return int(self._get_meta(file, "epoch") or "0")
        except ValueError:
            # It must be more than ever before, and that can not be read any more.
            self._problems.append(f"the start counter in {self.path} was damaged")
            return int(time.time())

    def _get_meta(self, file: sqlite3.Connection, name: str) -> str:
        row = file.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def _put_meta(self, file: sqlite3.Connection, name: str, value: str) -> None:
        file.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _connection(self) -> sqlite3.Connection:
        if self._file is None:
            raise StoreUnavailable(f"{self.path} is not open")
        return self._file

    # --- what came back ---

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.open_tasks``. Reads, and verifies, every row there is."""
        # Not by an index: a flipped bit there, or in a state, would hide a task.
        self._due = []
        self._ended = 0
        bad: list[tuple[Row, str]] = []
        for rows in self._all_rows():
            tasks: list[StoredTask] = []
            for row in rows:
                try:
                    task = task_of(row)
                except BadRow as error:
                    bad.append((row, str(error)))
                    continue
                if not task.state.is_terminal:
                    tasks.append(task)
                    continue
                self._ended += 1
                if task.callback is CallbackStage.DUE:
                    self._due.append(task.sequence)
            crash_point("in-replay")
            yield tasks
        if bad:
            self._set_rows_aside(bad)

    def _all_rows(self) -> Iterator[list[Row]]:
        last = -(2**62)
        while True:
            try:
                rows = self._rows(
                    f"SELECT {COLUMNS} FROM tasks NOT INDEXED WHERE sequence > ? "
                    f"ORDER BY sequence LIMIT {LIST_ROWS}",
                    (last,),
                )
            except StoreUnavailable as error:
                if not is_damage(error.__cause__):
                    raise
                yield self._rescue()
                return
            if not rows:
                return
            yield rows
            last = rows[-1][0]

    def _rescue(self) -> list[Row]:
        """Bring what can be read of a damaged file into a new one, and read that."""
        rows = list(_readable_rows(self._connection()))
        keys = list(_readable_keys(self._connection()))
        epoch = self._read_epoch(self._connection())
        self._disconnect()
        aside = set_aside(self.path)
        self._problems.append(
            f"{self.path} is damaged: {len(rows):,} of its tasks could be read and are in a "
            f"new file; the old one was set aside as {aside}"
        )
        begin_file(self.path)
        self._connect()
        file = self._connection()
        with _Transaction(file):
            self._put_meta(file, "epoch", f"{epoch}")
            self._put_meta(file, "project", self._project)
            marks = ",".join("?" * len(COLUMNS.split(",")))
            file.executemany(f"INSERT OR IGNORE INTO tasks VALUES ({marks})", rows)
            file.executemany("INSERT OR IGNORE INTO keys VALUES (?,?,?,?,?)", keys)
        self._due, self._ended = [], 0
        return rows

    def _set_rows_aside(self, bad: list[tuple[Row, str]]) -> None:
        now = time.time()
        file = self._connection()
        try:
            with _Transaction(file):
                for row, reason in bad:
                    file.execute(
                        "INSERT INTO bad_rows VALUES (?, ?, ?)", (now, reason, as_bytes(row))
                    )
                    file.execute("DELETE FROM tasks WHERE sequence=?", (row[0],))
        except sqlite3.Error as error:
            log.error("bad rows of %s stay where they are: %s", self.path, error)
        for row, reason in bad:
            self._problems.append(f"task {row[1]!r} in {self.path} was set aside: {reason}")

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        """See ``Store.outcomes``."""
        rows = self._rows(
            f"SELECT {COLUMNS} FROM tasks WHERE state >= {FIRST_ENDED} AND changed > ? "
            f"ORDER BY changed DESC LIMIT ?",
            (since, limit),
        )
        return list(self._good_tasks(reversed(rows)))

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.due_callbacks``; after :meth:`open_tasks`, which has found them."""
        due = self._due or []
        for start in range(0, len(due), LIST_ROWS):
            some = due[start : start + LIST_ROWS]
            marks = ",".join("?" * len(some))
            yield list(
                self._good_tasks(
                    self._rows(
                        f"SELECT {COLUMNS} FROM tasks WHERE sequence IN ({marks}) "
                        f"ORDER BY sequence",
                        tuple(some),
                    )
                )
            )

    def keys(self, *, now: float) -> list[StoredKey]:
        """See ``Store.keys``."""
        keys: list[StoredKey] = []
        for row in self._rows(
            "SELECT key, task_id, content, expires_at, sum FROM keys WHERE expires_at > ?",
            (now,),
        ):
            try:
                keys.append(key_of(row))
            except BadRow as error:
                self._problems.append(f"an idempotency key in {self.path} is lost: {error}")
        return keys

    def _good_tasks(self, rows: Iterator[Row] | list[Row]) -> Iterator[StoredTask]:
        for row in rows:
            try:
                yield task_of(row)
            except BadRow as error:
                self._problems.append(f"task {row[1]!r} in {self.path} is not served: {error}")

    def _rows(self, query: str, values: tuple[object, ...]) -> list[Row]:
        try:
            return self._connection().execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(in_words(self.path, error)) from error

    # --- at work ---

    def write(self, changes: Changes) -> None:
        """See ``Store.write``."""
        file = self._connection()
        self._check_file()
        if self._uncertain is not None:
            raise StoreUnavailable(f"{self.path} has to be recovered first")
        try:
            with _Transaction(file):
                self._apply(file, changes)
                crash_point("before-commit")
                file.execute(f"PRAGMA user_version = {(self._transaction + 1) % 2**31}")
        except (sqlite3.Error, OSError) as error:
            self._uncertain = changes
            raise StoreUnavailable(in_words(self.path, error)) from error
        crash_point("after-commit")
        self._transaction = (self._transaction + 1) % 2**31
        self._ended += sum(t.state.is_terminal for t in (*changes.created, *changes.updated))

    def _apply(self, file: sqlite3.Connection, changes: Changes) -> None:
        # First: its id may be used anew in this very transaction.
        for task_id in changes.purged:
            file.execute(f"DELETE FROM tasks WHERE id=? AND state >= {FIRST_ENDED}", (task_id,))
        if changes.created:
            file.executemany(INSERT, map(new_row, changes.created))
        if changes.updated:
            file.executemany(UPDATE, map(changed_row, changes.updated))
        if changes.called_back:
            for task in self._read_tasks(file, changes.called_back):
                settled = StoredTask(
                    task.sequence,
                    task.spec,
                    task.state,
                    task.life,
                    task.changed,
                    task.outcome,
                    task.content,
                    CallbackStage.SETTLED,
                )
                file.execute(UPDATE, changed_row(settled))
        if changes.keys:
            file.executemany(
                "INSERT OR REPLACE INTO keys VALUES (?,?,?,?,?)", map(key_row, changes.keys)
            )
        for key in changes.dropped_keys:
            file.execute("DELETE FROM keys WHERE key=?", (key,))

    def _read_tasks(self, file: sqlite3.Connection, ids: list[str]) -> Iterator[StoredTask]:
        for task_id in ids:
            row = file.execute(f"SELECT {COLUMNS} FROM tasks WHERE id=?", (task_id,)).fetchone()
            if row is not None:
                yield from self._good_tasks([row])

    def _check_file(self) -> None:
        """See that the file is still the one that others will find after a crash."""
        try:
            stat = self.path.stat()
        except OSError as error:
            raise StoreUnavailable(f"{self.path} is gone: {error.strerror}") from error
        if (stat.st_dev, stat.st_ino) != self._inode:
            raise StoreUnavailable(
                f"{self.path} was replaced by another file; move that away, and what this "
                f"control plane has is written there again"
            )

    def recover(self) -> None:
        """See ``Store.recover``."""
        try:
            if not self.path.exists() and self._file is not None:
                self._write_again()
            else:
                if self._inode != (0, 0):
                    self._check_file()
                # What the operating system still has of a file after an error is not to
                # be trusted: read it again.
                self._disconnect()
                self._connect()
            self._undo_uncertain()
            file = self._connection()
            with _Transaction(file):
                self._put_meta(file, "recovered", f"{time.time()}")
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(in_words(self.path, error)) from error

    def _write_again(self) -> None:
        """The file was deleted, and is still open here: write all of it anew."""
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        file = self._connection()
        if file.in_transaction:
            file.rollback()
        copy = sqlite3.connect(new)
        try:
            file.backup(copy)
        finally:
            copy.close()
        with open(new, "rb+") as written:
            os.fsync(written.fileno())
        self._disconnect()
        for suffix in ("-wal", "-shm"):
            Path(str(self.path) + suffix).unlink(missing_ok=True)
        os.rename(new, self.path)
        begin_file(self.path)
        self._connect()
        self._problems.append(f"{self.path} was deleted, and has been written again")

    def _undo_uncertain(self) -> None:
        """Should the transaction that failed have become durable all the same: take it back."""
        changes, file = self._uncertain, self._connection()
        if changes is not None:
            with _Transaction(file):
                for task in changes.created:
                    file.execute("DELETE FROM tasks WHERE sequence=?", (task.sequence,))
                for key in changes.keys:
                    file.execute("DELETE FROM keys WHERE key=?", (key.key,))
        self._uncertain = None

    def trim(self, *, max_ended: int, before: float) -> bool:
        """See ``Store.trim``."""
        file = self._connection()
        if self._uncertain is not None:
            return False
        try:
            if not self._is_trimming:
                (self._ended,) = file.execute(
                    f"SELECT count(*) FROM tasks WHERE state >= {FIRST_ENDED}"
                ).fetchone()
            deleted = self._trim_step(file, max_ended, before)
            self._is_trimming = deleted == TRIM_ROWS
            return self._is_trimming or self._give_pages_back(file)
        except sqlite3.Error as error:
            raise StoreUnavailable(in_words(self.path, error)) from error

    def _trim_step(self, file: sqlite3.Connection, max_ended: int, before: float) -> int:
        excess = min(TRIM_ROWS, max(0, self._ended - max_ended))
        oldest = (
            f"SELECT sequence FROM tasks WHERE state >= {FIRST_ENDED} "
            f"AND callback != {int(CallbackStage.DUE)}"
        )
        with _Transaction(file):
            deleted = file.execute(
                f"DELETE FROM tasks WHERE sequence IN ({oldest} ORDER BY changed LIMIT ?)",
                (excess,),
            ).rowcount
            if deleted < TRIM_ROWS:
                deleted += file.execute(
                    f"DELETE FROM tasks WHERE sequence IN "
                    f"({oldest} AND changed < ? ORDER BY changed LIMIT ?)",
                    (before, TRIM_ROWS - deleted),
                ).rowcount
            file.execute(
                "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires_at < ? "
                "ORDER BY expires_at LIMIT ?)",
                (time.time(), TRIM_ROWS),
            )
        self._ended -= deleted
        return deleted

    def _give_pages_back(self, file: sqlite3.Connection) -> bool:
        (free,) = file.execute("PRAGMA freelist_count").fetchone()
        (pages,) = file.execute("PRAGMA page_count").fetchone()
        if free <= FREE_PAGES or free <= FREE_PART * pages:
            return False
        file.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return True

    def take_problems(self) -> list[str]:
        """See ``Store.take_problems``."""
        problems, self._problems = self._problems, []
        return problems

    def reader(self) -> StoreReader:
        """See ``Store.reader``."""
        return SqliteReader(self.path)

    # --- ending ---

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except sqlite3.Error as error:
                log.warning("closing %s: %s", self.path, error)

    def close(self) -> None:
        """See ``Store.close``."""
        self._disconnect()
        self._lock.release()


class _Transaction:
    """All of it becomes durable at the end, or nothing."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    def __enter__(self) -> None:
        self._file.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            try:
                self._file.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        if self._file.in_transaction:
            try:
                self._file.execute("ROLLBACK")
            except sqlite3.Error as error:
                log.warning("rolling back: %s", error)


def _readable_rows(file: sqlite3.Connection) -> Iterator[Row]:
    """All rows of a damaged file that can be read, the ones that cannot left out."""
    seen: set[int] = set()
    for order in ("ASC", "DESC"):
        # From both ends up to the damage; between damaged pages by index, one by one.
        cursor = file.execute(
            f"SELECT sequence FROM tasks NOT INDEXED ORDER BY sequence {order}"
        )
        while True:
            try:
                row = cursor.fetchone()
            except sqlite3.DatabaseError:
                break
            if row is None:
                break
            seen.add(row[0])
    try:
        for (number,) in file.execute("SELECT sequence FROM tasks INDEXED BY tasks_by_state"):
            seen.add(number)
    except sqlite3.DatabaseError:
        pass  # what the index has given so far is seen
    for number in sorted(seen):
        try:
            row = file.execute(
                f"SELECT {COLUMNS} FROM tasks WHERE sequence=?", (number,)
            ).fetchone()
        except sqlite3.DatabaseError:
            continue
        if row is not None:
            yield row


def _readable_keys(file: sqlite3.Connection) -> Iterator[Row]:
    try:
        yield from file.execute("SELECT key, task_id, content, expires_at, sum FROM keys")
    except sqlite3.DatabaseError:
        return
