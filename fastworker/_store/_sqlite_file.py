"""The file of the SQLite store: begun, opened, and set aside when it is damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from fastworker._errors import StoreError
from fastworker._store._sqlite_lock import sync_folder
from fastworker._store._sqlite_rows import SCHEMA_VERSION, TABLES

log = logging.getLogger("fastworker.store")

APPLICATION_ID: Final = 0x46575354  # "FWST"
# The log of what was committed and is not in the file itself yet: 4 MiB, as a rule.
WAL_PAGES: Final = 1_000
WAL_BYTES: Final = 16 * 1024 * 1024
BUSY_SECONDS: Final = 5.0

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Damage(sqlite3.DatabaseError):
    """The file is not what was written, although SQLite has no objection."""


class Transaction:
    """All of it becomes durable at the end, or nothing."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    def __enter__(self) -> sqlite3.Connection:
        self._file.execute("BEGIN IMMEDIATE")
        return self._file

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is not None:
            roll_back(self._file)
            return
        try:
            self._file.execute("COMMIT")
        except sqlite3.Error:
            roll_back(self._file)
            raise


def roll_back(file: sqlite3.Connection) -> None:
    """End a transaction, if one is open, without its changes."""
    if file.in_transaction:
        try:
            file.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.warning("rolling back: %s", error)


def begin_file(path: Path, *, epoch: int) -> None:
    """Make a file and its tables, durably, or nothing; one that is there is replaced.

    ``epoch`` is that of the start before the first.
    """
    new = new_file(path)
    file = sqlite3.connect(new, isolation_level=None)
    try:
        file.execute("PRAGMA page_size = 4096")
        file.execute("PRAGMA auto_vacuum = INCREMENTAL")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.executescript(
            f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID};"
            f"INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}'), ('epoch', '{epoch:d}');"
            f"COMMIT;"
        )
    finally:
        file.close()
    put_in_place(new, path)


def new_file(path: Path) -> Path:
    """Make an empty file beside this one, for :func:`put_in_place`."""
    new = Path(f"{path}.new")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    return new


def put_in_place(new: Path, path: Path) -> None:
    """Give a closed file its name, durably; what is left of an older one's log goes."""
    descriptor = os.open(new, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    os.rename(new, path)
    sync_folder(path.parent)


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there, for reading and writing.

    Raises:
      StoreError: it is a database of some other program.
      sqlite3.DatabaseError: it cannot be read, or is damaged (:func:`is_damage`).
    """
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        file.text_factory = _text
        _check_application(path, file)
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


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file that is there, beside whoever writes to it."""
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        file.text_factory = _text
        file.execute("PRAGMA query_only = ON")
    except BaseException:
        file.close()
        raise
    return file


def _text(raw: bytes) -> str:
    # A flipped bit may make it none; then the checksum of its row will not fit.
    return raw.decode("utf-8", "surrogateescape")


def _check_application(path: Path, file: sqlite3.Connection) -> None:
    (mark,) = file.execute("PRAGMA application_id").fetchone()
    if mark == APPLICATION_ID:
        return
    tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    if {"tasks", "keys", "bad_rows"} <= tables:
        raise Damage("its first page is damaged")
    raise StoreError(
        f"{path} is a database of some other program; choose another file with --store"
    )


def check_structure(path: Path, file: sqlite3.Connection) -> None:
    """See that nothing is missing as a whole: the end of the file, or a page with its rows.

    Raises:
      sqlite3.DatabaseError: something is (:func:`is_damage`).
    """
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    (size,) = file.execute("PRAGMA page_size").fetchone()
    (is_busy, _, _) = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    length = path.stat().st_size
    if not is_busy and length < pages * size:
        raise Damage(f"it has {length:,} of {pages * size:,} bytes")
    (rows,) = file.execute("SELECT count(*) FROM tasks NOT INDEXED").fetchone()
    for index in ("tasks_by_id", "tasks_by_state", "tasks_by_name"):
        (named,) = file.execute(f"SELECT count(*) FROM tasks INDEXED BY {index}").fetchone()
        if named != rows:
            raise Damage(f"it has {rows:,} tasks, and names {named:,}")


def is_damage(error: BaseException | None) -> bool:
    """Whether this says that the file is not what was written."""
    if isinstance(error, Damage):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in _DAMAGE or "no such" in str(error) or "unsupported file" in str(error)


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


def in_words(path: Path, error: BaseException) -> str:
    """What happened to the file, for people."""
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    name = getattr(error, "sqlite_errorname", "") or ""
    return f"{path}: {error}{f' ({name})' if name else ''}"
