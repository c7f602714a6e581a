"""What can still be read of a damaged SQLite file, brought into a new one.

The damaged file is set aside and stays as it is. Rows are taken only if their
checksums fit; those that do not go into ``bad_rows`` of the new file, and those
that an index still names and nothing can reach any more are reported by id.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fastworker._store._sqlite_file import (
    Damage,
    Transaction,
    begin_file,
    check_schema,
    connect,
    is_damage,
    open_to_read,
    put_in_place,
    set_aside,
)
from fastworker._store._sqlite_log import PAGE_SIZE
from fastworker._store._sqlite_rows import (
    BAD_ROW,
    COLUMNS,
    INSERT_IF_NEW,
    KEY_COLUMNS,
    PUT_MARK,
    READ_MARKS,
    BadRow,
    Row,
    bad_row,
    key_of,
    mark_row,
    marks_of,
    task_of,
)

# Rows that go into the new file in one transaction.
ROWS: Final = 5_000
# More names than these help nobody.
NAMED: Final = 20


def rescue(path: Path, reason: str, *, epoch: int) -> list[str]:
    """Set a damaged file aside, and put what can be read of it into a new one in its place.

    Nobody may have it open. ``epoch`` is that of the new file, if the old one does
    not say a later one. Returns lines for people.
    """
    rescued, copy = Path(f"{path}.rescued"), Path(f"{path}.rescue")
    _unlink(rescued)
    begin_file(rescued, epoch=epoch)
    target = connect(rescued)
    done: _Rescue | None = None
    try:
        try:
            damaged = _open(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            _copy_with_new_first_page(path, copy)
            damaged = _open(copy)
        try:
            done = _Rescue(damaged, target)
            done.run()
        finally:
            damaged.close()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    finally:
        target.close()
        _unlink(copy)
    aside = set_aside(path)
    put_in_place(rescued, path)
    if done is None:
        return [
            f"{path} is damaged ({reason}) and was set aside as {aside}; nothing in it can be "
            f"read, so none of its tasks is known any more"
        ]
    lines = [
        f"{path} is damaged ({reason}) and was set aside as {aside}; {done.tasks:,} tasks and "
        f"{done.keys:,} idempotency keys of it could be read, and are kept"
    ]
    lines += [f"task {name!r} of {path} was set aside: {why}" for name, why in done.bad[:NAMED]]
    lines += [f"task {name!r} of {path} is lost" for name in done.lost[:NAMED]]
    left = len(done.bad[NAMED:]) + len(done.lost[NAMED:])
    return [*lines, f"and {left:,} more"] if left else lines


def _open(path: Path) -> sqlite3.Connection:
    file = open_to_read(path)
    try:
        check_schema(file)
        _check_pages(path, file)
    except BaseException:
        file.close()
        raise
    return file


def _check_pages(path: Path, file: sqlite3.Connection) -> None:
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    if pages < path.stat().st_size // PAGE_SIZE:
        raise Damage("its first page says that it is shorter")


def _copy_with_new_first_page(damaged: Path, copy: Path) -> None:
    """Copy a file; its first page, which says where the tables are, is that of any new file."""
    _unlink(copy)
    fresh = Path(f"{copy}.fresh")
    begin_file(fresh, epoch=0)
    try:
        page = bytearray(fresh.read_bytes()[:PAGE_SIZE])
    finally:
        fresh.unlink()
    shutil.copyfile(damaged, copy)
    if Path(f"{damaged}-wal").exists():
        # With a newer first page, and all that is not in the file itself yet.
        shutil.copyfile(f"{damaged}-wal", f"{copy}-wal")
    pages = copy.stat().st_size // PAGE_SIZE
    page[28:32] = struct.pack(">I", pages)
    page[32:40] = bytes(8)  # no free pages: nothing will be written to it
    page[92:96] = page[24:28]  # so that the number of pages counts
    with open(copy, "rb+") as file:
        file.write(page)


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


class _Rescue:
    def __init__(self, damaged: sqlite3.Connection, target: sqlite3.Connection) -> None:
        self._damaged = damaged
        self._target = target
        self._taken: set[int] = set()
        self.tasks = 0
        self.keys = 0
        self.bad: list[tuple[str, str]] = []
        self.lost: list[str] = []

    def run(self) -> None:
        self._copy_marks()
        # From both ends up to the damage.
        for direction in ("ASC", "DESC"):
            query = f"SELECT {COLUMNS} FROM tasks NOT INDEXED ORDER BY sequence {direction}"
            self._take_rows(
                _until_damage(self._damaged, query), until_known=direction == "DESC"
            )
        self._take_rows(self._by_index())
        self._copy_keys()

    def _copy_marks(self) -> None:
        with Transaction(self._target) as file:
            marks = marks_of(file.execute(READ_MARKS))
            old = marks_of(_until_damage(self._damaged, READ_MARKS))
            marks["epoch"] = str(max(int(old.get("epoch", "0")), int(marks["epoch"])))
            kept = ("project", "last_sequence", "guarded")
            marks |= {name: old[name] for name in kept if name in old}
            file.executemany(PUT_MARK, (mark_row(*mark) for mark in marks.items()))
            file.executemany(
                BAD_ROW, _until_damage(self._damaged, "SELECT found, reason, row FROM bad_rows")
            )

    def _by_index(self) -> Iterator[Row]:
        """Between damaged pages: one by one, by the numbers that the indexes have."""
        names: dict[int, str] = {}
        for index in ("tasks_by_state", "tasks_by_id"):
            column = "id" if index == "tasks_by_id" else "''"
            for number, name in _until_damage(
                self._damaged, f"SELECT sequence, {column} FROM tasks INDEXED BY {index}"
            ):
                if number not in self._taken:
                    names[number] = name or names.get(number, "")
        for number in sorted(names):
            row = next(
                _until_damage(
                    self._damaged, f"SELECT {COLUMNS} FROM tasks WHERE sequence={number:d}"
                ),
                None,
            )
            if row is None:
                self.lost.append(names[number] or f"number {number}")
            else:
                yield row

    def _take_rows(self, rows: Iterator[Row], *, until_known: bool = False) -> None:
        some: list[Row] = []
        for row in rows:
            if row[0] in self._taken:
                if until_known:
                    break
                continue
            self._taken.add(row[0])
            some.append(row)
            if len(some) == ROWS:
                self._put(some)
                some = []
        self._put(some)

    def _put(self, rows: list[Row]) -> None:
        good: list[Row] = []
        with Transaction(self._target) as file:
            for row in rows:
                try:
                    task_of(row)
                except BadRow as error:
                    self.bad.append((str(row[1]), str(error)))
                    file.execute(BAD_ROW, bad_row(row, str(error)))
                else:
                    good.append(row)
            self.tasks += file.executemany(INSERT_IF_NEW, good).rowcount if good else 0

    def _copy_keys(self) -> None:
        good: list[Row] = []
        for row in _until_damage(self._damaged, f"SELECT {KEY_COLUMNS} FROM keys"):
            try:
                key_of(row)
            except BadRow as error:
                self.bad.append((f"of key {row[0]}", str(error)))
            else:
                good.append(row)
        with Transaction(self._target) as file:
            file.executemany("INSERT OR IGNORE INTO keys VALUES (?,?,?,?,?)", good)
        self.keys = len(good)


def _until_damage(file: sqlite3.Connection, query: str) -> Iterator[Row]:
    try:
        yield from file.execute(query)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
