"""Rows of the SQLite store: tables, and what becomes of a task on its way to disk.

Each row carries a checksum over all that it says. SQLite itself serves changed
data without an error for most flipped bits (measured: 108 of 300).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from fastworker._core._messages import (
    Count,
    Name,
    Priority,
    ShortText,
    TaskEvent,
    TaskSpec,
    WallTime,
)
from fastworker._core._stored import (
    NEW_LIFE,
    CallbackStage,
    StoredKey,
    StoredLife,
    StoredState,
    StoredTask,
    TaskRow,
    row_of,
)

SCHEMA_VERSION: Final = 1

# ``spec`` is written once and has a checksum of its own, so that a change of a
# task's state does not have to read or write its arguments. Tables come before
# indexes, as VACUUM makes them: each begins on the same page in every file.
TABLES: Final = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tasks (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created REAL NOT NULL,
    state INTEGER NOT NULL,
    changed REAL NOT NULL,
    worker TEXT NOT NULL,
    callback INTEGER NOT NULL,
    content INTEGER NOT NULL,
    life BLOB,
    outcome BLOB,
    sum INTEGER NOT NULL,
    spec BLOB NOT NULL,
    spec_sum INTEGER NOT NULL
);
CREATE TABLE keys (
    key TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    content INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE bad_rows (found REAL NOT NULL, reason TEXT NOT NULL, row BLOB NOT NULL);
CREATE UNIQUE INDEX tasks_by_id ON tasks (id);
CREATE INDEX tasks_by_state ON tasks (state, sequence);
CREATE INDEX tasks_by_name ON tasks (name, sequence);
CREATE INDEX tasks_by_end ON tasks (changed) WHERE state >= 5;
CREATE INDEX tasks_due ON tasks (sequence) WHERE callback = 1;
CREATE INDEX keys_by_end ON keys (expires_at);
"""

# What a page of tasks needs: not the arguments.
PAGE_COLUMNS: Final = (
    "sequence, id, name, priority, created, state, changed, worker, callback, content, "
    "life, outcome, sum"
)
COLUMNS: Final = f"{PAGE_COLUMNS}, spec, spec_sum"
KEY_COLUMNS: Final = "key, task_id, content, expires_at, sum"
INSERT: Final = (
    f"INSERT OR REPLACE INTO tasks ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
INSERT_IF_NEW: Final = INSERT.replace("OR REPLACE", "OR IGNORE")
UPDATE: Final = (
    "UPDATE tasks SET state=?, changed=?, worker=?, callback=?, content=?, life=?, outcome=?, "
    "sum=? WHERE sequence=?"
)

SETTLE: Final = "UPDATE tasks SET callback=?, sum=? WHERE sequence=?"
# With names of their own, since those of a damaged table may be no text.
READ_MARKS: Final = "SELECT name AS name, value AS value, sum AS sum FROM meta"
PUT_MARK: Final = "INSERT OR REPLACE INTO meta VALUES (?,?,?)"
PUT_KEY: Final = "INSERT OR REPLACE INTO keys VALUES (?,?,?,?,?)"
BAD_ROW: Final = "INSERT INTO bad_rows VALUES (?,?,?)"

_encode = msgspec.msgpack.Encoder().encode
_decode_spec = msgspec.msgpack.Decoder(TaskSpec).decode
_decode_life = msgspec.msgpack.Decoder(StoredLife).decode
_decode_outcome = msgspec.msgpack.Decoder(TaskEvent).decode
_decode_key = msgspec.msgpack.Decoder(StoredKey).decode

Row = tuple[Any, ...]


class _Columns(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a checksum that fits says nothing of: SQLite takes any type in any column."""

    sequence: Count
    id: Name
    name: Name
    priority: Priority
    created: WallTime
    state: StoredState
    changed: WallTime
    worker: ShortText
    callback: CallbackStage
    content: int
    life: bytes | None
    outcome: bytes | None


_check_columns = msgspec.msgpack.Decoder(_Columns).decode


class BadRow(Exception):
    """A row is not what was written; the text says why."""


def _sum(fields: Row) -> int:
    """A checksum over the columns of a row that may change."""
    return zlib.crc32(_encode(fields))


def _changing(task: StoredTask) -> Row:
    life, outcome = task.life, task.outcome
    worker = life.worker if outcome is None else outcome.worker_id
    return (
        int(task.state),
        task.changed,
        worker,
        int(task.callback),
        task.content,
        None if life is NEW_LIFE or life == NEW_LIFE else _encode(life),
        None if outcome is None else _encode(outcome),
    )


def _fixed(sequence: int, spec: TaskSpec) -> Row:
    return sequence, spec.id, spec.name, int(spec.priority), spec.created


def new_row(task: StoredTask) -> Row:
    """The values of INSERT."""
    fixed, changing = _fixed(task.sequence, task.spec), _changing(task)
    blob = _encode(task.spec)
    total = _sum((*fixed, *changing))
    return (*fixed, *changing, total, blob, zlib.crc32(blob))


def changed_row(task: StoredTask) -> Row:
    """The values of UPDATE."""
    changing = _changing(task)
    return (*changing, _sum((*_fixed(task.sequence, task.spec), *changing)), task.sequence)


def _verify(row: Row) -> bytes:
    encoded = _encode(row[:12])
    if zlib.crc32(encoded) != row[12]:
        raise BadRow("its checksum does not fit")
    return encoded


def task_of(row: Row) -> StoredTask:
    """The task of a row of COLUMNS.

    Raises:
      BadRow: it is not what was written.
    """
    blob, spec_sum = row[13:15]
    try:
        _verify(row)
        if not isinstance(blob, bytes) or zlib.crc32(blob) != spec_sum:
            raise BadRow("the checksum of its arguments does not fit")
        spec, life, outcome = _decode_spec(blob), row[10], row[11]
        if row[1:5] != (spec.id, spec.name, spec.priority, spec.created):
            raise BadRow("its arguments are those of another task")
        # All other columns are decoded.
        if (type(row[0]), type(row[6]), type(row[9])) != (int, float, int):
            raise BadRow("a value in it is of another type")
        return StoredTask(
            sequence=row[0],
            spec=spec,
            state=StoredState(row[5]),
            life=NEW_LIFE if life is None else _decode_life(life),
            changed=row[6],
            outcome=None if outcome is None else _decode_outcome(outcome),
            content=row[9],
            callback=CallbackStage(row[8]),
        )
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise BadRow(f"it cannot be read: {error}") from None


def page_row_of(row: Row) -> TaskRow:
    """What a list of tasks shows of a row of PAGE_COLUMNS.

    Raises:
      BadRow: it is not what was written.
    """
    try:
        _check_columns(_verify(row))
        life, outcome = row[10], row[11]
        spec = TaskSpec(row[1], row[2], row[3], 0, b"", row[4])
        return row_of(
            StoredTask(
                sequence=row[0],
                spec=spec,
                state=StoredState(row[5]),
                life=NEW_LIFE if life is None else _decode_life(life),
                changed=row[6],
                outcome=None if outcome is None else _decode_outcome(outcome),
            )
        )
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise BadRow(f"it cannot be read: {error}") from None


def settled(row: Row) -> Row:
    """The values of SETTLE for a row of PAGE_COLUMNS.

    Raises:
      BadRow: it is not what was written.
    """
    try:
        _check_columns(_verify(row))
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise BadRow(f"it cannot be read: {error}") from None
    stage = int(CallbackStage.SETTLED)
    return stage, _sum((*row[:8], stage, *row[9:12])), row[0]


def key_row(key: StoredKey) -> Row:
    """The values of a row of ``keys``."""
    fields = key.key, key.task_id, key.content, key.expires_at
    return (*fields, _sum(fields))


def key_of(row: Row) -> StoredKey:
    """The key of such a row.

    Raises:
      BadRow: it is not what was written.
    """
    try:
        encoded = _encode(row[:4])
        if zlib.crc32(encoded) != row[4]:
            raise BadRow("its checksum does not fit")
        return _decode_key(encoded)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise BadRow(f"it cannot be read: {error}") from None


def mark_row(name: str, value: str) -> Row:
    """The values of PUT_MARK."""
    return name, value, _sum((name, value))


def marks_of(rows: Iterable[Row]) -> dict[str, str]:
    """What the rows of ``meta`` say; those that are not what was written say nothing."""
    marks: dict[str, str] = {}
    for name, value, total in rows:
        try:
            is_sound = _sum((name, value)) == total
        except ValueError:
            continue
        if is_sound and isinstance(name, str) and isinstance(value, str):
            marks[name] = value
    return marks


def number_of(marks: Mapping[str, str], name: str) -> int | None:
    """What the mark of this name says, None if that is no number."""
    text = marks.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def bad_row(row: Row, reason: str) -> Row:
    """The values of BAD_ROW: a row as it was found, to be looked at."""
    return time.time(), reason, repr(row).encode()


def bad_row_again(found: Row) -> Row:
    """The values of BAD_ROW for one of another file, which may be damaged in its turn."""
    when, reason, content = found
    if not isinstance(when, float) or not isinstance(content, bytes):
        return bad_row(found, "it was set aside before, and was damaged after that")
    return when, str(reason).encode("utf-8", "replace").decode(), content
