"""What a client wants cancelled at the control plane, until it has asked for it.

Tasks that are to be cancelled in the same way go together.
"""

from __future__ import annotations

import msgspec

from fastworker._core._messages import MAX_BATCH_ITEMS, TaskIds


class Cancel(msgspec.Struct, frozen=True):
    """How a task is to be cancelled; ``wants_end`` of one that is another's.

    It ``leaves`` one that others may have submitted too.
    """

    grace: float | None = None
    wants_end: bool = False
    leaves: bool = False

    def with_least_grace(self, other: Cancel | None) -> Cancel:
        """This one, with the other's grace if that is named and shorter."""
        if other is None or other.grace is None:
            return self
        if self.grace is not None and self.grace <= other.grace:
            return self
        return Cancel(other.grace, self.wants_end, self.leaves)


class PlannedCancels:
    """Task ids by how they are to be cancelled, the way that was wanted first at first."""

    def __init__(self) -> None:
        self._ids: dict[Cancel, list[str]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, cancel: Cancel, task_id: str) -> None:
        """Have a task cancelled like this."""
        self._ids.setdefault(cancel, []).append(task_id)

    def discard(self, task_id: str) -> None:
        """A task is not to be cancelled after all."""
        for cancel, ids in list(self._ids.items()):
            rest = [other for other in ids if other != task_id]
            if rest:
                self._ids[cancel] = rest
            else:
                del self._ids[cancel]

    def take(self) -> TaskIds:
        """Take out as many as one request asks for. There must be some."""
        cancel, ids = next(iter(self._ids.items()))
        batch, rest = ids[:MAX_BATCH_ITEMS], ids[MAX_BATCH_ITEMS:]
        if rest:
            self._ids[cancel] = rest
        else:
            del self._ids[cancel]
        return TaskIds(batch, cancel.grace, cancel.wants_end, leaves=cancel.leaves)
