"""What the control plane wants of a store.

The shell hands over batches and tells the machine when they are durable; an
acknowledgement or an outcome leaves only after that. A store may take its
time: dispatch runs ahead of the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fastworker._core._control_plane_events import AppendRecords


class Store(Protocol):
    """Keeps tasks, outcomes and the epoch."""

    @property
    def is_durable(self) -> bool:
        """Whether what was appended survives the end of this process."""
        ...

    def open(self) -> int:
        """Open the store and return the new epoch: one more than ever before."""
        ...

    def append(self, records: AppendRecords, done: Callable[[int], None]) -> None:
        """Make a batch durable, then call ``done(batch)`` in the loop's thread.

        ``done`` may be called before this returns. Batches become durable in
        the order in which they were appended.
        """
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...
