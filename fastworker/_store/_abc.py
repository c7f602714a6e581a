"""What the control plane wants of a store.

Everything here may take its time (a disk, a lock) and is called from threads:
all of :class:`Store` from one thread at a time, a :class:`StoreReader` from
another one beside it. What becomes durable, and when, is decided by whoever
calls; a store only says truthfully when it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from fastworker._core._stored import (
    Changes,
    StoredKey,
    StoredTask,
    TasksAsked,
    TasksPage,
)


class StoreOpened(msgspec.Struct, frozen=True):
    """What a store says when it was opened.

    ``epoch`` is one more than ever before, and durable already.
    ``last_sequence`` is the highest number that a task has ever had.
    ``is_guarded``: a control plane has used it whose peers had to prove who they are.
    ``problems`` are for people to read, a line each: rows or a whole file set
    aside because they cannot be trusted.
    """

    epoch: int
    last_sequence: int
    problems: list[str] = []
    is_guarded: bool = False


class StoreReader(Protocol):
    """Answers questions of operators, without being in the way of commits."""

    def page(self, asked: TasksAsked) -> TasksPage:
        """Return a page of tasks, the newest first.

        A store that does not block looks at a bounded number of rows, and says in
        ``reached`` how far it came.

        Raises:
          StoreUnavailable: it cannot be read now.
        """
        ...

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        """Return those of these tasks that are kept, in no special order.

        Raises:
          StoreUnavailable: it cannot be read now.
        """
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...


class Store(Protocol):
    """Keeps tasks, their outcomes, idempotency keys and the epoch."""

    @property
    def is_durable(self) -> bool:
        """Whether what was written survives the end of this process."""
        ...

    @property
    def is_blocking(self) -> bool:
        """Whether its calls may take a while, so that they belong into a thread."""
        ...

    @property
    def name(self) -> str:
        """For people: a path, or "memory"."""
        ...

    def open(self) -> StoreOpened:
        """Open the store, for this process alone.

        Raises:
          StoreError: it cannot be used, and waiting would not help: another
            process has it, it belongs to another project, or it is not ours.
          StoreUnavailable: its disk does not let us.
        """
        ...

    def note_guarded(self) -> None:
        """Remember, durably, that peers had to prove who they are; after open().

        Raises:
          StoreUnavailable: it cannot be written now.
        """
        ...

    # --- what came back; after open(), before the first write() ---

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        """All tasks that have not ended, in the order of their numbers, in lists.

        A row that cannot be trusted is set aside and not among them; it is
        named in :meth:`take_problems`.
        """
        ...

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        """The ``limit`` tasks that have ended last, after ``since``; the oldest first."""
        ...

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        """All ended tasks whose ``callback`` is DUE, in the order of their numbers."""
        ...

    def keys(self, *, now: float) -> list[StoredKey]:
        """All idempotency keys that have not expired at ``now`` (wall time)."""
        ...

    # --- at work ---

    def write(self, changes: Changes) -> None:
        """Make one transaction durable, all of it or nothing.

        Raises:
          StoreUnavailable: it is not durable now; nothing of it is kept, and the
            same call may work later.
        """
        ...

    def recover(self) -> None:
        """After StoreUnavailable: find out whether writing works again.

        Raises:
          StoreUnavailable: it does not.
        """
        ...

    def trim(self, *, max_ended: int, before: float) -> bool:
        """Forget some ended tasks: the oldest beyond ``max_ended``, and all that
        ended before ``before`` (wall time); also expired keys.

        It takes a small step, so that commits need not wait; True says that there
        is more to do.

        Raises:
          StoreUnavailable: it cannot be written now.
        """
        ...

    def take_problems(self) -> list[str]:
        """What was found wrong since this was last asked; a line each, for people."""
        ...

    def reader(self) -> StoreReader:
        """Make a reader; there may be several."""
        ...

    def close(self) -> None:
        """Release everything. Idempotent; not while another call is under way."""
        ...
