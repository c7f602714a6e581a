"""Leases of before a restart whose subworkers have not come back yet.

Their attempts may be running: who comes back in time goes on with them. What
nobody has claimed when the leases end is lost, as with a subworker that died.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from fastworker._core._messages import HeldAttempt
from fastworker._core._task_states import TaskRecord, TaskState


class AwayLeases:
    """Records in state AWAY, by who holds them."""

    def __init__(self) -> None:
        self._by_holder: dict[bytes, dict[str, TaskRecord]] = {}
        self._count = 0
        self._ends_at = math.inf

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[TaskRecord]:
        for held in self._by_holder.values():
            yield from held.values()

    @property
    def ends_at(self) -> float:
        """When these leases end, ``inf`` if there are none."""
        return self._ends_at if self._count else math.inf

    def add(self, record: TaskRecord, ends_at: float) -> None:
        """Add a record whose holder is named in it."""
        self._by_holder.setdefault(record.holder, {})[record.spec.id] = record
        self._count += 1
        self._ends_at = ends_at

    def take(self, holder: bytes) -> dict[str, TaskRecord]:
        """Remove and return, by task id, all that this subworker holds."""
        held = self._by_holder.pop(holder, {})
        self._count -= len(held)
        return held

    def take_of(self, labels: Collection[str]) -> list[TaskRecord]:
        """Remove and return what subworkers of these worker ids hold."""
        gone = [record for record in self if record.holder_label in labels]
        for record in gone:
            held = self._by_holder[record.holder]
            del held[record.spec.id]
            if not held:
                del self._by_holder[record.holder]
            self._count -= 1
        return gone

    def take_all(self) -> list[TaskRecord]:
        """Remove and return everything: the leases have ended."""
        records = list(self)
        self._by_holder.clear()
        self._count = 0
        return records

    def check(self) -> None:
        """Assert every invariant."""
        assert self._count == sum(len(held) for held in self._by_holder.values())
        for holder, held in self._by_holder.items():
            assert held, "a holder of nothing"
            for task_id, record in held.items():
                assert record.spec.id == task_id
                assert record.holder == holder
                assert record.state is TaskState.AWAY
                assert record.worker is None


def is_same_lease(record: TaskRecord, held: HeldAttempt) -> bool:
    """Whether a subworker holds just the lease that the store knows of."""
    return record.fence == held.attempt and record.fence_epoch == held.epoch


def is_later_lease(record: TaskRecord, held: HeldAttempt) -> bool:
    """Whether it holds one that was given ahead of its record, which never became durable.

    A lease that the store knows of, and that was given up since, is not later.
    """
    return held.epoch >= record.fence_epoch and held.attempt > record.fence
