"""Brings what is sound in a damaged file into a new one, and keeps the old one beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastworker._store._sqlite_file import (
    BUSY_SECONDS,
    Transaction,
    beside,
    new_part,
    publish_part,
    put_meta,
    sync_folder,
)
from fastworker._store._sqlite_rows import (
    COLUMNS,
    INSERT,
    INSERT_KEY,
    KEY_COLUMNS,
    SCHEMA_VERSION,
    BadRow,
    Row,
    as_bytes,
    key_of,
    meta_sum,
    task_of,
)


def rescue(path: Path, project: str, error: BaseException) -> str:
    """Put a new file in the place of a damaged one, which nobody has open.

    Returns a line that says what happened, for people.

    Raises:
      sqlite3.Error, OSError: there is no room, and all is as it was.
    """
    rows, bad, keys, (old_project, epoch) = _read(path)
    part = beside(path, ".part")
    with contextlib.closing(new_part(part)) as file, Transaction(file):
        put_meta(
            file, schema=str(SCHEMA_VERSION), project=old_project or project, epoch=f"{epoch}"
        )
        file.executemany(INSERT, rows)
        file.executemany(INSERT_KEY, keys)
        file.executemany("INSERT INTO bad_rows VALUES (?, ?, ?)", bad)
    aside = _set_aside(path)
    publish_part(part, path)
    kept = f"{len(rows):,} of its tasks could be read and are in a new file"
    if not rows:
        kept = "the tasks in it are not known any more"
    return f"{path} is damaged ({error}) and was set aside as {aside}; {kept}"


def _set_aside(path: Path) -> Path:
    """Give a damaged file, and its log, another name too."""
    aside = beside(path, f".bad-{time.time_ns()}")
    for suffix in ("-wal", "-shm"):
        if beside(path, suffix).exists():
            os.rename(beside(path, suffix), beside(aside, suffix))
    try:
        # So that there is a file under the old name at any moment.
        os.link(path, aside)
    except OSError:
        os.rename(path, aside)
    sync_folder(path.parent)
    return aside


def _read(
    path: Path,
) -> tuple[list[Row], list[tuple[float, str, bytes]], list[Row], tuple[str, int]]:
    """Rows that are sound, those that are not, keys; the project and the last epoch."""
    sound: dict[int, Row] = {}
    bad: list[tuple[float, str, bytes]] = []
    keys: dict[str, Row] = {}
    meta = "", int(time.time())
    now = time.time()
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_open(path)) as file:
        for row in _rows(file):
            try:
                sound[task_of(row).sequence] = row
            except BadRow as error:
                bad.append((now, str(error), as_bytes(row)))
        for row in _until_damage(file, f"SELECT {KEY_COLUMNS} FROM keys NOT INDEXED"):
            with contextlib.suppress(BadRow):
                keys[key_of(row).key] = row
        meta = _read_meta(file, meta)
    return [sound[number] for number in sorted(sound)], bad, list(keys.values()), meta


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
    )
    # A text with a flipped bit must not hide the rows behind it.
    file.text_factory = lambda content: content.decode(errors="replace")
    return file


def _rows(file: sqlite3.Connection) -> Iterator[Row]:
    """All rows of a damaged file that can be read; some come twice."""
    seen: set[object] = set()
    for order in ("ASC", "DESC"):
        # From both ends up to the damage; what is between two damages, one by one.
        query = f"SELECT {COLUMNS} FROM tasks NOT INDEXED ORDER BY sequence {order}"
        for row in _until_damage(file, query):
            if row not in seen:
                seen.add(row)
                yield row
    numbers = {row[0] for row in seen if isinstance(row, tuple)}
    for index in ("tasks_by_state", "tasks_by_id"):
        query = f"SELECT sequence FROM tasks INDEXED BY {index}"
        for (number,) in list(_until_damage(file, query)):
            if number not in numbers:
                numbers.add(number)
                query = f"SELECT {COLUMNS} FROM tasks NOT INDEXED WHERE sequence=?"
                yield from _until_damage(file, query, (number,))


def _until_damage(
    file: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()
) -> Iterator[Row]:
    try:
        with contextlib.closing(file.execute(query, values)) as cursor:
            yield from cursor
    except (sqlite3.Error, OverflowError):
        return  # a damage is what was to be expected


def _read_meta(file: sqlite3.Connection, unknown: tuple[str, int]) -> tuple[str, int]:
    meta: dict[Any, Any] = dict(_until_damage(file, "SELECT name, value FROM meta"))
    schema, project, epoch = (meta.get(name, "") for name in ("schema", "project", "epoch"))
    if meta.get("sum") != meta_sum(str(schema), str(project), str(epoch)):
        return unknown
    return str(project), int(epoch)
