"""Rows of the SQLite store: tables, and what becomes of a task on its way to disk.

Each row carries a checksum over all that it says. SQLite itself serves changed
data without an error for most flipped bits (measured: 108 of 300).
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec

from fastworker._core._messages import TaskEvent, TaskSpec
from fastworker._core._stored import (
    NEW_LIFE,
    CallbackStage,
    StoredKey,
    StoredLife,
    StoredState,
    StoredTask,
)

SCHEMA_VERSION: Final = 1

# ``spec`` is written once and has a checksum of its own, so that a change of a
# task's state does not have to read or write its arguments.
TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
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
CREATE UNIQUE INDEX tasks_by_id ON tasks (id);
CREATE INDEX tasks_by_state ON tasks (state, sequence);
CREATE INDEX tasks_by_end ON tasks (changed) WHERE state >= 5;
CREATE INDEX tasks_due ON tasks (sequence) WHERE callback = 1;
CREATE TABLE keys (
    key TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    content INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_by_end ON keys (expires_at);
CREATE TABLE bad_rows (found REAL NOT NULL, reason TEXT NOT NULL, row BLOB NOT NULL);
"""

COLUMNS: Final = (
    "sequence, id, name, priority, created, state, changed, worker, callback, content, "
    "life, outcome, sum, spec, spec_sum"
)
INSERT: Final = (
    f"INSERT OR REPLACE INTO tasks ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
KEY_COLUMNS: Final = "key, task_id, content, expires_at, sum"
INSERT_KEY: Final = f"INSERT OR REPLACE INTO keys ({KEY_COLUMNS}) VALUES (?,?,?,?,?)"
UPDATE: Final = (
    "UPDATE tasks SET state=?, changed=?, worker=?, callback=?, content=?, life=?, outcome=?, "
    "sum=? WHERE sequence=?"
)

_encode = msgspec.msgpack.Encoder().encode
_decode_spec = msgspec.msgpack.Decoder(TaskSpec).decode
_decode_life = msgspec.msgpack.Decoder(StoredLife).decode
_decode_outcome = msgspec.msgpack.Decoder(TaskEvent).decode

Row = tuple[Any, ...]


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


def task_of(row: Row) -> StoredTask:
    """The task of a row of COLUMNS.

    Raises:
      BadRow: it is not what was written.
    """
    total, blob, spec_sum = row[12:15]
    try:
        if _sum(row[:12]) != total:
            raise BadRow("its checksum does not fit")
        if not isinstance(blob, bytes) or zlib.crc32(blob) != spec_sum:
            raise BadRow("the checksum of its arguments does not fit")
        life, outcome = row[10], row[11]
        return StoredTask(
            sequence=row[0],
            spec=_decode_spec(blob),
            state=StoredState(row[5]),
            life=NEW_LIFE if life is None else _decode_life(life),
            changed=row[6],
            outcome=None if outcome is None else _decode_outcome(outcome),
            content=row[9],
            callback=CallbackStage(row[8]),
        )
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise BadRow(f"it cannot be read: {error}") from None


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
        if _sum(row[:4]) != row[4]:
            raise BadRow("its checksum does not fit")
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRow(f"it cannot be read: {error}") from None
    return StoredKey(*row[:4])


def meta_sum(schema: str, project: str, epoch: str) -> str:
    """A checksum over what a file says of itself."""
    return str(zlib.crc32(_encode((schema, project, epoch))))


def as_bytes(row: Row) -> bytes:
    """A bad row as it was found, to be looked at."""
    return repr(row).encode()
