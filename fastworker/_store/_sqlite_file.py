"""The file of the SQLite store: locked, made, opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from fastworker._errors import StoreError
from fastworker._store._sqlite_rows import SCHEMA_VERSION, TABLES, meta_sum

log = logging.getLogger("fastworker.store")

APPLICATION_ID: Final = 0x46575354  # "FWST"
# The log of what was committed and is not in the file itself yet: 4 MiB, as a rule.
WAL_PAGES: Final = 1_000
WAL_BYTES: Final = 16 * 1024 * 1024
BUSY_SECONDS: Final = 5.0
HEADER_BYTES: Final = 512

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DAMAGE_WORDS: Final = ("no such table", "no such column", "no such index", "Could not decode")


class Damaged(sqlite3.DatabaseError):
    """The file is not what was written, although SQLite does not mind."""


class LockFile:
    """Keeps a second control plane away from the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take it, for this process.

        Raises:
          StoreError: another process has it, or it cannot be made.
        """
        if self._descriptor is not None:
            raise StoreError(f"{self._path} is open already")
        lock = beside(self._path, ".lock")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{lock} cannot be made: {error.strerror}; choose another file with --store, "
                f"or --store memory to keep tasks in memory only"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreError(f"{lock} cannot be locked: {error.strerror}") from error
            raise StoreError(
                f"another process has {self._path} open; stop that control plane, or give this "
                f"one a file of its own with --store"
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Transaction:
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


def beside(path: Path, suffix: str) -> Path:
    """The file that belongs to this one and has that suffix."""
    return path.with_name(path.name + suffix)


def begin_file(path: Path) -> None:
    """Make a file with empty tables where there is none; it is there wholly or not."""
    part = beside(path, ".part")
    with contextlib.closing(new_part(part)):
        pass
    publish_part(part, path)


def new_part(part: Path) -> sqlite3.Connection:
    """Make a file that is to become a store under another name; what is there goes."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        beside(part, suffix).unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    file = sqlite3.connect(part, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        file.execute("PRAGMA auto_vacuum = INCREMENTAL")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.executescript(
            f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
        )
        with Transaction(file):
            put_meta(file, schema=str(SCHEMA_VERSION), project="", epoch="0")
    except BaseException:
        file.close()
        raise
    return file


def publish_part(part: Path, path: Path) -> None:
    """Give a file that was made, and is closed, its name."""
    descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(part, path)
    sync_folder(path.parent)


def put_meta(file: sqlite3.Connection, *, schema: str, project: str, epoch: str) -> None:
    """Write what a file says of itself, inside a transaction."""
    file.executemany(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)",
        [
            ("schema", schema),
            ("project", project),
            ("epoch", epoch),
            ("sum", meta_sum(schema, project, epoch)),
        ],
    )


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there, for reading and writing.

    Raises:
      StoreError: it is another program's.
      sqlite3.Error: it is damaged (see :func:`is_damage`), or the disk does not let us.
    """
    if (size := path.stat().st_size) < HEADER_BYTES:
        # For SQLite it would be a new database.
        raise Damaged(f"it has {size} bytes")
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        _check_mark(path, file)
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        file.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        file.execute("PRAGMA cell_size_check = ON")
        file.execute("PRAGMA cache_size = -16384")
        file.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        file.close()
        raise
    return file


def _check_mark(path: Path, file: sqlite3.Connection) -> None:
    (mark,) = file.execute("PRAGMA application_id").fetchone()
    if mark != APPLICATION_ID:
        raise StoreError(
            f"{path} is a database of some other program; choose another file with --store"
        )


def check_length(path: Path, file: sqlite3.Connection) -> None:
    """See that the file was not cut short; after a checkpoint.

    Raises:
      Damaged: it was.
    """
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    (size,) = file.execute("PRAGMA page_size").fetchone()
    there = path.stat().st_size
    if there < pages * size:
        raise Damaged(f"it has {there:,} of {pages * size:,} bytes")


def check_tables(file: sqlite3.Connection) -> None:
    """See that the tables and indexes are the ones that this version makes.

    Raises:
      Damaged: they are not.
    """
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    with contextlib.closing(sqlite3.connect(":memory:")) as model:
        model.executescript(TABLES)
        if file.execute(query).fetchall() != model.execute(query).fetchall():
            raise Damaged("its tables are not the ones that were made")


def checkpoint(file: sqlite3.Connection, *, empty: bool = False) -> int:
    """Bring what the log has into the file; return how many pages the log had.

    Args:
      empty: let the log begin anew, whatever is in it behind its end.
    """
    mode = "TRUNCATE" if empty else "PASSIVE"
    is_busy, pages, _ = file.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    if empty and is_busy:
        raise sqlite3.OperationalError("its log is being read")
    return max(0, int(pages))


def is_damage(error: BaseException | None) -> bool:
    """Whether this says that the file is not what was written."""
    if isinstance(error, Damaged):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in _DAMAGE or any(words in str(error) for words in _DAMAGE_WORDS)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def in_words(path: Path, error: BaseException) -> str:
    """What happened to the file, for people."""
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    name = getattr(error, "sqlite_errorname", "") or ""
    return f"{path}: {error}{f' ({name})' if name else ''}"
