"""Finds out whether a file's log lost transactions that were durable.

SQLite reads its log (the "-wal" file) up to the first page that does not fit its
checksum, and takes that for the end: a control plane that was killed in the middle of a
transaction leaves exactly that. A flipped bit does so too, and all that comes after it
would be gone without a word. The pages behind that end tell the difference.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Final

from fastworker._store._sqlite_file import beside

_HEADER: Final = struct.Struct(">IIIIIIII")
_FRAME: Final = struct.Struct(">IIIIII")
_MAGIC: Final = (0x377F0682, 0x377F0683)
_PAGE_SIZES: Final = frozenset(2**power for power in range(9, 17))


class Log:
    """A log as it was before SQLite saw it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        wal = beside(path, "-wal")
        self._content = wal.read_bytes() if wal.exists() else b""

    def problems(self, pages: int) -> list[str]:
        """Return a line if SQLite, which found that many pages, misses transactions.

        The log is put aside then, to be looked at.
        """
        lost = sum(number > pages for number in self._commits())
        if not lost:
            return []
        aside = beside(self._path, f".bad-{time.time_ns()}-wal")
        aside.touch(mode=0o600)
        aside.write_bytes(self._content)
        return [
            f"the log of {self._path} ends before its last {lost:,} transactions: it is "
            f"damaged, or the power failed in the middle of one; what they changed is not "
            f"known; it was copied to {aside}"
        ]

    def _commits(self) -> list[int]:
        """The numbers of the pages that end a transaction, as far as they say so."""
        content = self._content
        if len(content) < _HEADER.size:
            return []
        magic, _, size, _, first_salt, second_salt, *_ = _HEADER.unpack_from(content)
        if magic not in _MAGIC or size not in _PAGE_SIZES:
            size = 4096
        salts = first_salt, second_salt
        step = _FRAME.size + size
        found: list[tuple[int, tuple[int, int]]] = []
        for number, start in enumerate(
            range(_HEADER.size, len(content) - step + 1, step), start=1
        ):
            _, total, *marks = _FRAME.unpack_from(content, start)
            if total:
                found.append((number, (marks[0], marks[1])))
        # Other salts are those of an earlier log, whose pages are in the file; unless it is
        # the header that is damaged, and then the first page tells.
        if found and all(marks != salts for _, marks in found) and len(content) >= step:
            _, _, *marks = _FRAME.unpack_from(content, _HEADER.size)
            salts = marks[0], marks[1]
        return [number for number, marks in found if marks == salts]
