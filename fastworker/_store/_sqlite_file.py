"""The file of the SQLite store: made, locked, opened, and set aside when it is damaged."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from fastworker._errors import StoreError
from fastworker._store._sqlite_rows import SCHEMA_VERSION, TABLES

APPLICATION_ID: Final = 0x46575354  # "FWST"
# The log of what was committed and is not in the file itself yet: 4 MiB, as a rule.
WAL_PAGES: Final = 1_000
WAL_BYTES: Final = 16 * 1024 * 1024
BUSY_SECONDS: Final = 5.0

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


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
        lock = Path(f"{self._path}.lock")
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


def begin_file(path: Path) -> None:
    """Make the file and its tables, unless they are there."""
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    file = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        (mark,) = file.execute("PRAGMA application_id").fetchone()
        (count,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark == 0 and count == 0:
            file.execute("PRAGMA auto_vacuum = INCREMENTAL")
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = FULL")
            file.executescript(
                f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID};"
                f"INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}'); COMMIT;"
            )
        elif mark != APPLICATION_ID:
            raise StoreError(
                f"{path} is a database of some other program; choose another file with --store"
            )
    finally:
        file.close()
    sync_folder(path.parent)


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there, for reading and writing."""
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        file.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        file.execute("PRAGMA cell_size_check = ON")
        file.execute("PRAGMA cache_size = -16384")
        file.execute("PRAGMA trusted_schema = OFF")
        # A file that was cut short is noticed here.
        file.execute("SELECT count(*) FROM (SELECT 1 FROM tasks LIMIT 1)").fetchone()
        _check_length(path, file)
    except BaseException:
        file.close()
        raise
    return file


def _check_length(path: Path, file: sqlite3.Connection) -> None:
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    (size,) = file.execute("PRAGMA page_size").fetchone()
    wal = Path(f"{path}-wal")
    has_log = wal.exists() and wal.stat().st_size > 0
    if not has_log and path.stat().st_size < pages * size:
        raise _Truncated(f"it has {path.stat().st_size:,} of {pages * size:,} bytes")


class _Truncated(sqlite3.DatabaseError):
    """The file is shorter than it says."""


def is_damage(error: BaseException | None) -> bool:
    """Whether this says that the file is not what was written."""
    if isinstance(error, _Truncated):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in _DAMAGE or "no such table" in str(error)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, with what belongs to it; return its new name."""
    aside = path.with_name(f"{path.name}.bad-{time.time_ns()}")
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            os.rename(beside, f"{aside}{suffix}")
    sync_folder(path.parent)
    return aside


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
