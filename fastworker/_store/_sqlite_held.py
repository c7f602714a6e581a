"""The file while a store has it open: whether it is still there, still sound, still ours.

A write is only as good as the name under which the next process looks for it. And
an error of the disk says nothing of what the operating system goes on showing: so
what failed is thrown out of the log before anything is written after it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._sqlite_file import (
    begin_file,
    check_structure,
    connect,
    in_words,
    is_damage,
    looks_like_ours,
    new_file,
    put_in_place,
    roll_back,
    set_aside,
)
from fastworker._store._sqlite_lock import LockFile
from fastworker._store._sqlite_log import mend_log
from fastworker._store._sqlite_rescue import rescue

log = logging.getLogger("fastworker.store")

Identity = tuple[int, int]


class HeldFile:
    """See the module's first lines.

    ``problems`` are lines for people; readers in other threads add to them too.
    """

    def __init__(self, path: Path, wall_clock: Callable[[], float]) -> None:
        self.path = path
        self.problems: deque[str] = deque(maxlen=1_000)
        self._wall_clock = wall_clock
        self._lock = LockFile(path)
        self._file: sqlite3.Connection | None = None
        self._suspicion: BaseException | None = None
        # Of the file and of its log.
        self._identities: tuple[Identity, Identity] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed yet."""
        return self._identities is not None

    @property
    def connection(self) -> sqlite3.Connection:
        """To read and write.

        Raises:
          StoreUnavailable: it is not open.
        """
        if self._file is None:
            raise StoreUnavailable(f"{self.path} is not open")
        return self._file

    def open(self) -> None:
        """Open it, or begin it; what is damaged is set aside, and what can be read is kept.

        Raises:
          StoreError, sqlite3.Error, OSError.
        """
        self._lock.take()
        if not self.path.exists() or self.path.stat().st_size == 0:
            self._begin()
        try:
            self.problems += mend_log(self.path)
            self._connect()
            check_structure(self.path, self.connection)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            if not looks_like_ours(self.path) and not self._lock.has_been_begun:
                raise StoreError(
                    f"{self.path} is not a store of tasks ({error}); choose another file with "
                    f"--store"
                ) from error
            self.rescue(error)
        self._lock.note_begun()

    def _begin(self) -> None:
        leftover = Path(f"{self.path}-wal")
        if self._lock.has_been_begun or (leftover.exists() and leftover.stat().st_size):
            self.problems.append(
                f"{self.path} was deleted or emptied since it was last used; the tasks in it "
                f"are not known any more"
            )
            if self.path.exists() or leftover.exists():
                self.path.touch()
                set_aside(self.path)
                leftover.unlink(missing_ok=True)
        # Later than that of any file that may have been here before.
        begin_file(self.path, epoch=int(self._wall_clock()))

    def suspect(self, error: BaseException) -> None:
        """Note that the file was found damaged, if this error says so. From any thread."""
        if is_damage(error):
            self._suspicion = error

    def resolve_suspicion(self) -> None:
        """If the file was found damaged: :meth:`rescue`.

        Raises:
          sqlite3.Error, OSError: it cannot be written now; it is as it was.
        """
        if self._suspicion is not None:
            self.rescue(self._suspicion)

    def rescue(self, error: BaseException) -> None:
        """Set the file aside, and go on with a new one that has what could be read of it.

        Raises:
          sqlite3.Error, OSError: it cannot be written now; it is as it was.
        """
        self._suspicion = error
        self.disconnect()
        epoch = int(self._wall_clock())
        self.problems += rescue(self.path, str(error), epoch=epoch)
        self._suspicion = None
        self._connect()

    def _connect(self) -> None:
        self._file = connect(self.path)
        # The log is opened when something is read.
        self._file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self._identities = _identity(self.path), _identity(Path(f"{self.path}-wal"))

    def transaction(self) -> int:
        """The number of the last transaction in it."""
        (number,) = self.connection.execute("PRAGMA user_version").fetchone()
        return int(number)

    def check(self) -> None:
        """See that it is still the file that others will find after a crash.

        Raises:
          StoreUnavailable: it is not.
        """
        if self._identities is None:
            return
        paths = self.path, Path(f"{self.path}-wal")
        for path, known in zip(paths, self._identities, strict=True):
            try:
                found = _identity(path)
            except FileNotFoundError as error:
                raise StoreUnavailable(f"{path} is gone: {error.strerror}") from error
            except OSError as error:
                raise StoreUnavailable(in_words(path, error)) from error
            if found != known:
                raise StoreUnavailable(
                    f"{path} was replaced by another file; move that away, and what this "
                    f"control plane has is written there again"
                )

    def recover(self) -> None:
        """Find out whether it can be written again, without what failed.

        Raises:
          StoreUnavailable, sqlite3.Error, OSError: it cannot.
        """
        if self._file is not None:
            roll_back(self._file)
            if not self.path.exists() or not Path(f"{self.path}-wal").exists():
                self._see_that_nothing_was_replaced()
                self._write_again()
                return
        self.check()
        try:
            if self._suspicion is not None:
                self.rescue(self._suspicion)
                return
            if self._file is not None:
                self._empty_log(self._file)
            self.disconnect()
            self._connect()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.rescue(error)

    def _empty_log(self, file: sqlite3.Connection) -> None:
        # A transaction that failed may stand in the log, complete for the eye and not on
        # the disk. What is written after it would be lost with it at a power cut.
        (is_busy, _, _) = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise StoreUnavailable(f"{self.path} is being read; trying again")

    def _see_that_nothing_was_replaced(self) -> None:
        assert self._identities is not None
        if self.path.exists() and _identity(self.path) != self._identities[0]:
            self.check()

    def _write_again(self) -> None:
        """The file was deleted, and is still open here: write all of it anew."""
        new = new_file(self.path)
        copy = sqlite3.connect(new, isolation_level=None)
        try:
            self.connection.backup(copy)
        finally:
            copy.close()
        self.disconnect()
        put_in_place(new, self.path)
        self._connect()
        self.problems.append(f"{self.path} was deleted, and has been written again")

    def disconnect(self) -> None:
        """Close the connection. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except sqlite3.Error as error:
                log.warning("closing %s: %s", self.path, error)

    def close(self) -> None:
        """Let others have it. Idempotent."""
        self.disconnect()
        self._identities = None
        self._lock.release()


def _identity(path: Path) -> Identity:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino
