"""Rows of the store as SQLite may hand them over: damaged, or of other types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import msgspec

from fastworker._core._stored import StoredKey, StoredTask, TaskRow
from fastworker._store._sqlite_file import as_text
from fastworker._store._sqlite_rows import (
    BadRow,
    Row,
    _sum,
    bad_row,
    key_of,
    key_row,
    mark_row,
    marks_of,
    new_row,
    page_row_of,
    settled,
    task_of,
)
from tests.fuzz.hostile_messages import a_message, damaged

# Where the checksum of a row of tasks stands, over all that comes before.
_SUM: Final = 12


class StoreRows:
    """See the module's first lines. A row is served as it was written, or it is a BadRow."""

    name = "store rows"
    share = 60.0
    life = 1

    def live(self, cases: Iterable[Random]) -> None:
        for rng in cases:
            chance = rng.random()
            if chance < 0.7:
                _task(rng)
            elif chance < 0.9:
                _key(rng)
            else:
                _marks(rng)


def _task(rng: Random) -> None:
    task = a_message(rng, StoredTask)
    life = msgspec.structs.replace(task.life, fence=rng.randrange(9), uncounted=0)
    task = msgspec.structs.replace(task, life=life)
    row = new_row(task)
    if task_of(row) != task:
        raise AssertionError(f"{task} came back as {task_of(row)}")
    bad = _damaged_row(rng, row)
    # A page and a settled row have nothing to do with the arguments.
    is_sound, is_page_sound = bad == row, bad[: _SUM + 1] == row[: _SUM + 1]
    if rng.random() < 0.2:
        # Somebody else has written it, with a checksum that fits. His blobs are well-formed.
        bad = tuple(
            old if isinstance(new, bytes) else new for new, old in zip(bad, row, strict=True)
        )
        bad = (*bad[:_SUM], _fitting(bad[:_SUM], bad[_SUM]), *bad[_SUM + 1 :])
        is_sound = is_page_sound = True
    _serve(lambda: task_of(bad), StoredTask, is_sound)
    _serve(lambda: page_row_of(bad[: _SUM + 1]), TaskRow, is_page_sound)
    _serve(lambda: settled(bad[: _SUM + 1]), None, is_page_sound)
    bad_row(bad, "it is damaged")


def _key(rng: Random) -> None:
    key = a_message(rng, StoredKey)
    row = key_row(key)
    if key_of(row) != key:
        raise AssertionError(f"{key} came back as {key_of(row)}")
    bad = _damaged_row(rng, row)
    is_sound = bad == row
    if rng.random() < 0.2:
        bad = (*bad[:4], _fitting(bad[:4], bad[4]))
        is_sound = True
    _serve(lambda: key_of(bad), StoredKey, is_sound)


def _marks(rng: Random) -> None:
    rows = [mark_row("epoch", "5"), mark_row("schema", "1"), mark_row("project", "p")]
    place = rng.randrange(3)
    bad = _damaged_row(rng, rows[place])
    marks = marks_of([*rows[:place], bad, *rows[place + 1 :]])
    if bad != rows[place] and len(marks) != 2:
        raise AssertionError(f"{bad} was believed: {marks}")


def _serve(read: Callable[[], Any], kind: Any, may_be_served: bool) -> None:
    try:
        found = read()
    except BadRow as error:
        str(error).encode()
        return
    if not may_be_served:
        raise AssertionError(f"served although it is damaged: {found}")
    if kind is not None:
        # What is served is what its type says, so that it can be worked with.
        msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=kind)


def _fitting(fields: Row, otherwise: Any) -> Any:
    try:
        return _sum(fields)
    except ValueError:  # a text that is none has no checksum
        return otherwise


def _damaged_row(rng: Random, row: Row) -> Row:
    fields = list(row)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        place = rng.randrange(len(fields))
        fields[place] = _damaged_value(rng, fields[place])
    return tuple(fields)


def _damaged_value(rng: Random, value: Any) -> Any:
    if isinstance(value, bytes) and rng.random() < 0.7:
        return damaged(rng, value)
    if isinstance(value, str) and rng.random() < 0.5:
        return as_text(damaged(rng, value.encode("utf-8", "surrogateescape")))
    if isinstance(value, int) and rng.random() < 0.5:
        return (value ^ 1 << rng.randrange(63)) if value >= 0 else value + 1
    return a_value_of_sqlite(rng)


def a_value_of_sqlite(rng: Random) -> Any:
    """One of any of its types."""
    return rng.choice(
        [
            None,
            rng.choice([0, 1, -1, 7, 2**31, 2**63 - 1, -(2**63)]),
            rng.choice([0.0, 1.5, -1.0, 1e300, float("inf"), -float("inf")]),
            rng.choice(["", "add", "x" * 300, "\0", "5", "NaN", as_text(b"\xff\xfe")]),
            rng.choice([b"", b"\x90", b"\xc0", rng.randbytes(20), b"\x91" * 2_000]),
        ]
    )
