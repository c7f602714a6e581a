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
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from fastworker._core._stored import Changes, StoredKey, StoredTask
from fastworker._crash import crash_point
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._abc import StoreOpened, StoreReader
from fastworker._store._sqlite_changes import apply, undo
from fastworker._store._sqlite_file import (
    LockFile,
    Transaction,
    begin_file,
    beside,
    check_length,
    check_tables,
    checkpoint,
    connect,
    in_words,
    is_damage,
    publish_part,
    put_meta,
)
from fastworker._store._sqlite_log import Log
from fastworker._store._sqlite_reader import SqliteReader
from fastworker._store._sqlite_rescue import rescue
from fastworker._store._sqlite_rows import (
    COLUMNS,
    SCHEMA_VERSION,
    BadRow,
    Row,
    as_bytes,
    meta_sum,
    task_of,
)
from fastworker._store._sqlite_scan import FIRST_ENDED, LIST_ROWS, Scan, read_keys
from fastworker._store._sqlite_trim import Trimmer

log = logging.getLogger("fastworker.store")

# Damaged rows that are named one by one.
MAX_NAMED: Final = 20


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
        self._inodes: list[tuple[int, int]] = []  # of the file and its log
        self._uncertain: Changes | None = None  # may have been committed all the same
        self._problems: list[str] = []
        self._due: list[int] = []
        self._trimmer = Trimmer()

    def __repr__(self) -> str:
        return f"<SqliteStore {self.name}>"

    @property
    def name(self) -> str:
        return str(self.path)

    # --- opening ---

    def open(self) -> StoreOpened:
        """See ``Store.open``; what is sound in a damaged file is brought into a new one."""
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder; give the path of a file with --store")
        self._lock.take()
        try:
            try:
                return self._open()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._rescue(error)
                return self._open()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreUnavailable(in_words(self.path, error)) from error
        except StoreError:
            self.close()
            raise

    def _open(self) -> StoreOpened:
        if not self.path.exists():
            begin_file(self.path)
        what_was = Log(self.path)
        self._connect()
        file = self._connection()
        self._problems += what_was.problems(checkpoint(file))
        check_length(self.path, file)
        epoch, project = self._read_meta(file)
        check_tables(file)
        last = self._last_sequence(file)
        with Transaction(file):
            put_meta(file, schema=str(SCHEMA_VERSION), project=project, epoch=f"{epoch + 1}")
        self._inodes = self._inodes_now()
        return StoreOpened(epoch + 1, last, self.take_problems())

    def _connect(self) -> None:
        self._file = connect(self.path)
        self._inodes = []

    def _read_meta(self, file: sqlite3.Connection) -> tuple[int, str]:
        """The last epoch, and whose tasks these are from now on."""
        meta = dict(file.execute("SELECT name, value FROM meta").fetchall())
        schema = str(meta.get("schema", ""))
        project, epoch = str(meta.get("project", "")), str(meta.get("epoch", ""))
        if schema != str(SCHEMA_VERSION):
            raise StoreError(
                f"{self.path} has schema {schema!r}, and this version of fastworker knows "
                f"{SCHEMA_VERSION}; use the version that wrote it, or choose another file with "
                f"--store"
            )
        if meta.get("sum") != meta_sum(schema, project, epoch):
            # It must be more than ever before, and that can not be read any more.
            self._problems.append(f"the start counter in {self.path} was damaged")
            return int(time.time()), self._project
        if self._project and project and project != self._project:
            raise StoreError(
                f"{self.path} belongs to another project ({project!r}; this one is "
                f"{self._project!r}); give this one a file of its own with --store PATH"
            )
        return int(epoch), project or self._project

    def _last_sequence(self, file: sqlite3.Connection) -> int:
        cursor = file.execute(f"SELECT {COLUMNS} FROM tasks ORDER BY sequence DESC")
        for task in self._sound(islice(cursor, LIST_ROWS)):
            cursor.close()
            return task.sequence
        return 0

    def _rescue(self, error: BaseException) -> None:
        self._disconnect()
        self._problems.append(rescue(self.path, self._project, error))

    def _connection(self) -> sqlite3.Connection:
        if self._file is None:
            raise StoreUnavailable(f"{self.path} is not open")
        return self._file

    # --- what came back ---

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.open_tasks``. Reads, and verifies, every row there is."""
        served = array("q")
        try:
            try:
                scan = Scan(self._connection())
                for tasks in scan.tasks():
                    served.extend(task.sequence for task in tasks)
                    crash_point("in-replay")
                    yield tasks
                if scan.bad:
                    self._set_rows_aside(scan.bad)
                scan.check()
                read_keys(self._connection())
                self._due = scan.due
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._rescue(error)
                yield from self._other_tasks(set(served))
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(in_words(self.path, error)) from error

    def _other_tasks(self, served: set[int]) -> Iterator[list[StoredTask]]:
        """Those in a file that was just made of a damaged one."""
        self._connect()
        file = self._connection()
        with Transaction(file):
            epoch, project = self._read_meta(file)
            put_meta(file, schema=str(SCHEMA_VERSION), project=project, epoch=f"{epoch}")
        self._inodes = self._inodes_now()
        scan = Scan(file)
        for tasks in scan.tasks():
            yield [task for task in tasks if task.sequence not in served]
        self._due = scan.due

    def _set_rows_aside(self, bad: list[tuple[Row, str]]) -> None:
        now = time.time()
        file = self._connection()
        with Transaction(file):
            for row, reason in bad:
                file.execute(
                    "INSERT INTO bad_rows VALUES (?, ?, ?)", (now, reason, as_bytes(row))
                )
                file.execute("DELETE FROM tasks WHERE sequence=?", (row[0],))
        for row, reason in bad[:MAX_NAMED]:
            self._problems.append(f"task {row[1]!r} in {self.path} was set aside: {reason}")
        if len(bad) > MAX_NAMED:
            self._problems.append(f"so were {len(bad) - MAX_NAMED:,} more")

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        """See ``Store.outcomes``."""
        rows = self._rows(
            f"SELECT {COLUMNS} FROM tasks WHERE state >= {FIRST_ENDED} AND changed > ? "
            f"ORDER BY changed DESC, sequence DESC LIMIT ?",
            (since, limit),
        )
        return list(self._sound(reversed(rows)))

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.due_callbacks``; after :meth:`open_tasks`, which has found them."""
        for start in range(0, len(self._due), LIST_ROWS):
            some = self._due[start : start + LIST_ROWS]
            marks = ",".join("?" * len(some))
            query = f"SELECT {COLUMNS} FROM tasks WHERE sequence IN ({marks}) ORDER BY sequence"
            yield list(self._sound(self._rows(query, tuple(some))))

    def keys(self, *, now: float) -> list[StoredKey]:
        """See ``Store.keys``."""
        try:
            keys, problems = read_keys(self._connection())
        except sqlite3.Error as error:
            raise StoreUnavailable(in_words(self.path, error)) from error
        self._problems += [f"in {self.path} {problem}" for problem in problems]
        return [key for key in keys if key.expires_at > now]

    def _sound(self, rows: Iterator[Row] | list[Row]) -> Iterator[StoredTask]:
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
        if self._uncertain is not None:
            raise StoreUnavailable(f"{self.path} has to be recovered first")
        try:
            with Transaction(file):
                apply(file, changes, self._sound)
                crash_point("before-commit")
            self._check_files()
        except (sqlite3.Error, OSError, StoreUnavailable) as error:
            self._uncertain = changes
            if isinstance(error, StoreUnavailable):
                raise
            raise StoreUnavailable(in_words(self.path, error)) from error
        crash_point("after-commit")

    def _inodes_now(self) -> list[tuple[int, int]]:
        stats = self.path.stat(), beside(self.path, "-wal").stat()
        return [(stat.st_dev, stat.st_ino) for stat in stats]

    def _check_files(self) -> None:
        """See that the file and its log are still what others will find after a crash."""
        try:
            is_same = self._inodes_now() == self._inodes
        except OSError as error:
            raise StoreUnavailable(
                f"{error.filename or self.path} is gone: {error.strerror}"
            ) from error
        if not is_same:
            raise StoreUnavailable(
                f"{self.path} was replaced by another file; move that away, and what this "
                f"control plane has is written there again"
            )

    def recover(self) -> None:
        """See ``Store.recover``."""
        try:
            try:
                self._recover()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._rescue(error)
                self._recover()
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(in_words(self.path, error)) from error

    def _recover(self) -> None:
        if self._file is not None:
            if not self.path.exists():
                self._write_again(self._file)
            self._check_place(self._file)
        # What the operating system still has of a file after an error is not to be
        # trusted: read it again.
        self._disconnect()
        self._connect()
        file = self._connection()
        if self._uncertain is not None:
            undo(file, self._uncertain)
        # A sync that failed may have left a hole in the log, after which nothing would be
        # found once the power has failed too. So the log begins anew.
        checkpoint(file, empty=True)
        check_length(self.path, file)
        with Transaction(file):
            file.execute("INSERT OR REPLACE INTO meta VALUES ('recovered', ?)", (time.time(),))
        self._inodes = self._inodes_now()
        self._uncertain = None

    def _check_place(self, file: sqlite3.Connection) -> None:
        """See that the path leads to the file that is open, and lose no log that is gone."""
        if not self._inodes:
            return
        stat = self.path.stat()
        if (stat.st_dev, stat.st_ino) != self._inodes[0]:
            self._check_files()
        if not beside(self.path, "-wal").exists():
            checkpoint(file, empty=True)

    def _write_again(self, file: sqlite3.Connection) -> None:
        """The file was deleted, and is still open here: write all of it anew."""
        part = beside(self.path, ".part")
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        copy = sqlite3.connect(part)
        try:
            file.backup(copy)
        finally:
            copy.close()
        self._disconnect()
        for suffix in ("-wal", "-shm"):
            beside(self.path, suffix).unlink(missing_ok=True)
        publish_part(part, self.path)
        self._connect()
        self._problems.append(f"{self.path} was deleted, and has been written again")

    def trim(self, *, max_ended: int, before: float) -> bool:
        """See ``Store.trim``."""
        file = self._connection()
        if self._uncertain is not None:
            return False
        try:
            self._check_files()
            return self._trimmer.step(file, max_ended=max_ended, before=before)
        except sqlite3.Error as error:
            raise StoreUnavailable(in_words(self.path, error)) from error

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
