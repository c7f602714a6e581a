"""What comes back from a SQLite file when a control plane starts.

Every row is read and verified once, in the order in which it lies in the file. Not
by an index: a flipped bit there, or in a state, would hide a task.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fastworker._core._stored import ENDED_STATES, CallbackStage, StoredKey, StoredTask
from fastworker._crash import crash_point
from fastworker._store._sqlite_file import Damage, Transaction, is_damage
from fastworker._store._sqlite_held import HeldFile
from fastworker._store._sqlite_rows import (
    BAD_ROW,
    COLUMNS,
    KEY_COLUMNS,
    BadRow,
    Row,
    bad_row,
    key_of,
    task_of,
)

# Rows in one list.
LIST_ROWS: Final = 2_000
FIRST_ENDED: Final = int(ENDED_STATES[0])
_BEFORE_ALL: Final = -(2**63)


class SqliteReplay:
    """See the module's first lines."""

    def __init__(self, held: HeldFile) -> None:
        self._held = held
        self._due = array("q")

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.open_tasks``; notes those of which somebody is still to be told."""
        self._due = array("q")
        last = _BEFORE_ALL
        bad: list[tuple[Row, str]] = []
        while True:
            try:
                for rows in self._lists(last):
                    tasks: list[StoredTask] = []
                    for row in rows:
                        try:
                            task = task_of(row)
                        except BadRow as error:
                            bad.append((row, str(error)))
                            continue
                        last = task.sequence
                        if not task.state.is_terminal:
                            tasks.append(task)
                        elif task.callback is CallbackStage.DUE:
                            self._due.append(last)
                    crash_point("in-replay")
                    yield tasks
                self._set_aside(bad)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                # What came before it has been given away: go on behind it.
                bad = []
                self._held.rescue(error)
            else:
                return

    def _lists(self, last: int) -> Iterator[list[Row]]:
        cursor = self._held.connection.execute(
            f"SELECT {COLUMNS} FROM tasks NOT INDEXED WHERE sequence > ? ORDER BY sequence",
            (last,),
        )
        try:
            while rows := cursor.fetchmany(LIST_ROWS):
                yield rows
        finally:
            cursor.close()

    def _set_aside(self, bad: list[tuple[Row, str]]) -> None:
        if not bad:
            return
        with Transaction(self._held.connection) as file:
            for row, reason in bad:
                file.execute(BAD_ROW, bad_row(row, reason))
                if file.execute("DELETE FROM tasks WHERE sequence=?", (row[0],)).rowcount != 1:
                    raise Damage("a row is not where it should be")
        for row, reason in bad:
            self._held.problems.append(
                f"task {row[1]!r} in {self._held.path} was set aside: {reason}"
            )

    def due_lists(self) -> Iterator[Sequence[int]]:
        """The numbers of tasks of whose end somebody is to be told."""
        for start in range(0, len(self._due), LIST_ROWS):
            yield self._due[start : start + LIST_ROWS]

    def read_due(self, numbers: Sequence[int]) -> list[StoredTask]:
        """The tasks of such a list."""
        marks = ",".join("?" * len(numbers))
        return self._good(
            self._held.connection.execute(
                f"SELECT {COLUMNS} FROM tasks WHERE sequence IN ({marks}) ORDER BY sequence",
                tuple(numbers),
            )
        )

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        """See ``Store.outcomes``."""
        rows = self._held.connection.execute(
            f"SELECT {COLUMNS} FROM tasks WHERE state >= {FIRST_ENDED} AND changed > ? "
            f"ORDER BY changed DESC, sequence DESC LIMIT ?",
            (since, limit),
        )
        return self._good(rows)[::-1]

    def keys(self, *, now: float) -> list[StoredKey]:
        """See ``Store.keys``."""
        keys: list[StoredKey] = []
        # All of them, since an end that was damaged hides one.
        for row in self._held.connection.execute(f"SELECT {KEY_COLUMNS} FROM keys"):
            try:
                key = key_of(row)
            except BadRow as error:
                self._held.problems.append(
                    f"idempotency key {row[0]!r} in {self._held.path} is lost: {error}"
                )
            else:
                if key.expires_at > now:
                    keys.append(key)
        return keys

    def last_sequence(self) -> int:
        """The highest number in the file that can be trusted, 0 if there is none."""
        for row in self._held.connection.execute(
            f"SELECT {COLUMNS} FROM tasks NOT INDEXED ORDER BY sequence DESC LIMIT 1000"
        ):
            try:
                return task_of(row).sequence
            except BadRow:
                continue
        return 0

    def _good(self, rows: Iterable[Row]) -> list[StoredTask]:
        good: list[StoredTask] = []
        for row in rows:
            try:
                good.append(task_of(row))
            except BadRow as error:
                self._held.problems.append(
                    f"task {row[1]!r} in {self._held.path} is not served: {error}"
                )
        return good
