"""One process for one file, by a lock on another file beside it.

A file of its own, since SQLite's locks come and go with each transaction, and a
damaged file is replaced while its lock has to stay.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from fastworker._errors import StoreError


class LockFile:
    """See the module's first lines.

    ``has_been_begun``: the file that it guards was there once. Known after
    :meth:`take`; so a file that was deleted is told from one that never was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.has_been_begun = False

    def take(self) -> None:
        """Take it, for this process.

        Raises:
          StoreError: another process has it, or it cannot be made.
        """
        if self._descriptor is not None:
            raise StoreError(f"{self._path} is open already")
        lock = Path(f"{self._path}.lock")
        try:
            make_folder(self._path.parent)
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{lock} cannot be made: {error.strerror}; choose another file with --store, "
                f"or --store memory to keep tasks in memory only"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.has_been_begun = os.fstat(descriptor).st_size > 0
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreError(f"{lock} cannot be locked: {error.strerror}") from error
            raise StoreError(
                f"another process has {self._path} open; stop that control plane, or give this "
                f"one a file of its own with --store"
            ) from None
        self._descriptor = descriptor

    def note_begun(self) -> None:
        """The file that this guards is there, and durable.

        Raises:
          OSError: it cannot be written down.
        """
        if not self.has_been_begun and self._descriptor is not None:
            os.pwrite(self._descriptor, b"begun\n", 0)
            os.fsync(self._descriptor)
            self.has_been_begun = True

    def release(self) -> None:
        """Let others have it. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably; 0700 for those that are made."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
