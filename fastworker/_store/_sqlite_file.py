"""The file of the SQLite store: begun, opened, and set aside when it is damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
import time
from pathlib import Path
from typing import Final

from fastworker._store._sqlite_lock import sync_folder
from fastworker._store._sqlite_rows import (
    PUT_MARK,
    READ_MARKS,
    SCHEMA_VERSION,
    TABLES,
    mark_row,
    marks_of,
)

log = logging.getLogger("fastworker.store")

APPLICATION_ID: Final = 0x46575354  # "FWST"
# The log of what was committed and is not in the file itself yet: 4 MiB, as a rule.
WAL_PAGES: Final = 1_000
WAL_BYTES: Final = 16 * 1024 * 1024
BUSY_SECONDS: Final = 5.0

# Format, page size 4,096, write-ahead log, and constants.
_FIRST_BYTES: Final = b"SQLite format 3\0" + bytes([16, 0, 2, 2, 0, 64, 32, 32])
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
            f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID};COMMIT;"
        )
        with Transaction(file):
            for name, number in (("schema", SCHEMA_VERSION), ("epoch", epoch)):
                file.execute(PUT_MARK, mark_row(name, str(number)))
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
      sqlite3.DatabaseError: it cannot be read, or is damaged (:func:`is_damage`).
    """
    _check_header(path)
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        file.text_factory = as_text
        _read_schema(file)
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
    """Open a file that is there, beside whoever writes to it.

    Raises:
      sqlite3.DatabaseError: it cannot be read, or is damaged (:func:`is_damage`).
    """
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        file.text_factory = as_text
        _read_schema(file)
        file.execute("PRAGMA query_only = ON")
    except BaseException:
        file.close()
        raise
    return file


def _read_schema(file: sqlite3.Connection) -> None:
    """Have the description of the tables read, by which all other statements go.

    Where that is damaged, SQLite quotes it in its error, and Python cannot read that if it
    is no text.
    """
    try:
        file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except UnicodeDecodeError as error:
        said = error.object.decode("utf-8", "backslashreplace")
        raise Damage(said) from None


def as_text(raw: bytes) -> str:
    """A text of a row. A flipped bit may make it none; then its checksum does not fit."""
    return raw.decode("utf-8", "surrogateescape")


def _check_header(path: Path) -> None:
    """See that the first bytes are those of all our files; SQLite makes its own of some."""
    with open(path, "rb") as file:
        header = file.read(100)
    (application,) = struct.unpack(">I", header[68:72].rjust(4, b"\0"))
    if header[:24] != _FIRST_BYTES or application != APPLICATION_ID:
        raise Damage("its first bytes are not those of a store")


def looks_like_ours(path: Path) -> bool:
    """Whether this file, which is damaged, is one of ours, by its first bytes."""
    with open(path, "rb") as file:
        header = file.read(100).ljust(100, b"\0")
    found = header[:16] + header[68:72]
    ours = _FIRST_BYTES[:16] + struct.pack(">I", APPLICATION_ID)
    differing = int.from_bytes(found, "big") ^ int.from_bytes(ours, "big")
    return differing.bit_count() <= 8


def check_structure(path: Path, file: sqlite3.Connection) -> None:
    """See that nothing is missing as a whole: the end of the file, or a page with its rows.

    Of a file of another schema nothing is known.

    Raises:
      sqlite3.DatabaseError: something is (:func:`is_damage`).
    """
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    (size,) = file.execute("PRAGMA page_size").fetchone()
    (is_busy, _, _) = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    length = path.stat().st_size
    if not is_busy and length != pages * size:
        raise Damage(f"it has {length:,} of {pages * size:,} bytes")
    version = marks_of(file.execute(READ_MARKS)).get("schema", str(SCHEMA_VERSION))
    if version != str(SCHEMA_VERSION):
        return
    check_schema(file)
    (rows,) = file.execute("SELECT count(*) FROM tasks NOT INDEXED").fetchone()
    for index in ("tasks_by_id", "tasks_by_state", "tasks_by_name"):
        (named,) = file.execute(f"SELECT count(*) FROM tasks INDEXED BY {index}").fetchone()
        if named != rows:
            raise Damage(f"it has {rows:,} tasks, and names {named:,}")


def check_schema(file: sqlite3.Connection) -> None:
    """See that the tables are those that we make, where we make them.

    Raises:
      sqlite3.DatabaseError: they are not (:func:`is_damage`).
    """
    if _schema(file) != _our_schema():
        raise Damage("its tables are not as they were made")


def _schema(file: sqlite3.Connection) -> list[object]:
    return file.execute(
        "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY name"
    ).fetchall()


def _our_schema() -> list[object]:
    file = sqlite3.connect(":memory:")
    try:
        file.execute("PRAGMA page_size = 4096")
        file.execute("PRAGMA auto_vacuum = INCREMENTAL")
        file.executescript(TABLES)
        return _schema(file)
    finally:
        file.close()


def is_damage(error: BaseException | None) -> bool:
    """Whether this says that the file is not what was written."""
    if isinstance(error, Damage):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in _DAMAGE or "no such" in str(error) or "unsupported file" in str(error)


def set_aside(path: Path) -> Path:
    """Give a damaged file, and its log, a second name under which it stays; return that."""
    aside = path.with_name(f"{path.name}.bad-{time.time_ns()}")
    for suffix in ("", "-wal"):
        source = Path(f"{path}{suffix}")
        if source.exists() and (not suffix or source.stat().st_size):
            os.link(source, f"{aside}{suffix}")
    sync_folder(path.parent)
    return aside


def in_words(path: Path, error: BaseException) -> str:
    """What happened to the file, for people."""
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    name = getattr(error, "sqlite_errorname", "") or ""
    return f"{path}: {error}{f' ({name})' if name else ''}"
