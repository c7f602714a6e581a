"""Forgets old rows of a SQLite store in small steps, and gives their room back."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from fastworker._core._stored import CallbackStage
from fastworker._store._sqlite_file import Transaction
from fastworker._store._sqlite_scan import FIRST_ENDED

# One step: a few milliseconds.
TRIM_ROWS: Final = 200
# Pages that are free are given back to the file system beyond this part of all.
FREE_PART: Final = 0.25
FREE_PAGES: Final = 4_096
VACUUM_PAGES: Final = 256

_OLDEST: Final = (
    f"SELECT sequence FROM tasks WHERE state >= {FIRST_ENDED} "
    f"AND callback != {int(CallbackStage.DUE)}"
)
_DELETE_EXCESS: Final = (
    f"DELETE FROM tasks WHERE sequence IN ({_OLDEST} ORDER BY changed LIMIT ?)"
)
_DELETE_OLD: Final = (
    f"DELETE FROM tasks WHERE sequence IN ({_OLDEST} AND changed < ? ORDER BY changed LIMIT ?)"
)
_DELETE_KEYS: Final = (
    "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires_at < ? "
    "ORDER BY expires_at LIMIT ?)"
)


class Trimmer:
    """See the module's first lines."""

    def __init__(self) -> None:
        self._is_under_way = False
        self._ended = 0

    def step(self, file: sqlite3.Connection, *, max_ended: int, before: float) -> bool:
        """Take one step; return whether there is more to do."""
        if not self._is_under_way:
            # Counting takes as long as a step or two; meanwhile it changes by little.
            (self._ended,) = file.execute(
                f"SELECT count(*) FROM tasks WHERE state >= {FIRST_ENDED}"
            ).fetchone()
        excess = min(TRIM_ROWS, max(0, self._ended - max_ended))
        with Transaction(file):
            deleted = file.execute(_DELETE_EXCESS, (excess,)).rowcount
            if deleted < TRIM_ROWS:
                deleted += file.execute(_DELETE_OLD, (before, TRIM_ROWS - deleted)).rowcount
            file.execute(_DELETE_KEYS, (time.time(), TRIM_ROWS))
        self._ended -= deleted
        self._is_under_way = deleted == TRIM_ROWS
        return self._is_under_way or _give_pages_back(file)


def _give_pages_back(file: sqlite3.Connection) -> bool:
    (free,) = file.execute("PRAGMA freelist_count").fetchone()
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    if free <= FREE_PAGES or free <= FREE_PART * pages:
        return False
    # One page a step, of a statement that has no columns: execute() would take one step.
    file.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
    return True
