"""Forgets what ended long ago in a SQLite file, in steps between commits.

A step is a transaction of its own and takes a few milliseconds. What becomes free
in the file is used again; only if much of it is free does it go back to the disk.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from fastworker._core._stored import CallbackStage
from fastworker._store._sqlite_file import Transaction
from fastworker._store._sqlite_replay import FIRST_ENDED
from fastworker._store._sqlite_rows import PUT_MARK, mark_row

TRIM_ROWS: Final = 100
# Pages that are free go back to the disk beyond this part of all, and 16 MiB.
FREE_PART: Final = 0.25
FREE_PAGES: Final = 4_096
VACUUM_PAGES: Final = 128

_OLDEST: Final = (
    f"SELECT sequence FROM tasks WHERE state >= {FIRST_ENDED} "
    f"AND callback != {int(CallbackStage.DUE)}"
)


class SqliteTrim:
    """See the module's first lines."""

    def __init__(self) -> None:
        self._ended = 0
        self._is_under_way = False

    def step(
        self,
        file: sqlite3.Connection,
        *,
        max_ended: int,
        before: float,
        now: float,
        last_sequence: int,
    ) -> bool:
        """Take a step; return whether there is more to do.

        Raises:
          sqlite3.Error: nothing was done.
        """
        if not self._is_under_way:
            (self._ended,) = file.execute(
                f"SELECT count(*) FROM tasks WHERE state >= {FIRST_ENDED}"
            ).fetchone()
        deleted, expired = self._delete(file, max_ended, before, now, last_sequence)
        self._ended -= deleted
        self._is_under_way = TRIM_ROWS in (deleted, expired)
        return self._is_under_way or _give_pages_back(file)

    def _delete(
        self,
        file: sqlite3.Connection,
        max_ended: int,
        before: float,
        now: float,
        last_sequence: int,
    ) -> tuple[int, int]:
        excess = min(TRIM_ROWS, max(0, self._ended - max_ended))
        doomed: dict[int, None] = {}
        for condition, values in (
            ("", (excess,)),
            ("AND changed < ?", (before, TRIM_ROWS)),
        ):
            for (number,) in file.execute(
                f"{_OLDEST} {condition} ORDER BY changed LIMIT ?", values
            ):
                doomed[number] = None
        numbers = list(doomed)[:TRIM_ROWS]
        (has_expired,) = file.execute(
            "SELECT EXISTS (SELECT 1 FROM keys WHERE expires_at <= ?)", (now,)
        ).fetchone()
        expired = 0
        if numbers or has_expired:
            with Transaction(file):
                if numbers:
                    keep_last_sequence(file, last_sequence)
                file.executemany(
                    "DELETE FROM tasks WHERE sequence=?", ((number,) for number in numbers)
                )
                if has_expired:
                    # Not by what Python would read of them: a damaged one may be no text.
                    expired = file.execute(
                        "DELETE FROM keys WHERE key IN (SELECT key FROM keys "
                        "WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
                        (now, TRIM_ROWS),
                    ).rowcount
        return len(numbers), expired


def keep_last_sequence(file: sqlite3.Connection, last_sequence: int) -> None:
    """Remember this number although its row may go."""
    file.execute(PUT_MARK, mark_row("last_sequence", str(last_sequence)))


def _give_pages_back(file: sqlite3.Connection) -> bool:
    (free,) = file.execute("PRAGMA freelist_count").fetchone()
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    if free <= FREE_PAGES or free <= FREE_PART * pages:
        return False
    # A script, since a statement would stop after its first page.
    file.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES:d})")
    return True
