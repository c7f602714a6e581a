"""Ready tasks in strict priority, then in the order they were submitted.

One deque for each (priority, name), merged by sequence number when work is
handed out. So tasks whose name no subworker can run wait in deques of their
own and cost nothing to pass over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fastworker._core._task_states import TaskRecord, TaskState

PRIORITIES = range(4)


class ReadyQueue:
    """Holds records in state READY. A record that leaves that state is skipped."""

    def __init__(self) -> None:
        self._queues: list[dict[str, deque[TaskRecord]]] = [{} for _ in PRIORITIES]
        self._dead = 0  # records in the deques that are READY no more
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, record: TaskRecord) -> None:
        """Add a record at the place its sequence number gives it."""
        by_name = self._queues[record.spec.priority]
        queue = by_name.get(record.spec.name)
        if queue is None:
            queue = by_name[record.spec.name] = deque()
        if not queue or queue[-1].sequence < record.sequence:
            queue.append(record)
        elif record.sequence < queue[0].sequence:
            queue.appendleft(record)
        else:
            # Only records that come back from a subworker land here. They are
            # among the oldest, so the search from the left is short.
            position = next(
                n for n, other in enumerate(queue) if other.sequence > record.sequence
            )
            queue.insert(position, record)
        self._length += 1

    def discard(self, record: TaskRecord) -> None:
        """Forget a record that was just moved out of READY, wherever it stands."""
        self._length -= 1
        self._dead += 1
        if self._dead > 1000 and self._dead > self._length:
            self._compact()

    def head(self, priority: int, name: str) -> TaskRecord | None:
        """The first record of this priority and name, which stays."""
        queue = self._queues[priority].get(name)
        if queue is None:
            return None
        while queue and queue[0].state is not TaskState.READY:
            queue.popleft()
            self._dead -= 1
        if queue:
            return queue[0]
        del self._queues[priority][name]
        return None

    def pop(self, record: TaskRecord) -> None:
        """Remove what :meth:`head` just returned."""
        queue = self._queues[record.spec.priority][record.spec.name]
        assert queue[0] is record
        queue.popleft()
        self._length -= 1

    def names(self, priority: int) -> list[str]:
        """The names that may have a record of this priority, in no special order."""
        return list(self._queues[priority])

    def counts(self) -> list[int]:
        """How many records are ready, by priority."""
        return [
            sum(1 for queue in by_name.values() for r in queue if r.state is TaskState.READY)
            for by_name in self._queues
        ]

    def records(self) -> Iterator[TaskRecord]:
        """Every ready record, in no special order."""
        for by_name in self._queues:
            for queue in by_name.values():
                yield from (record for record in queue if record.state is TaskState.READY)

    def check(self) -> None:
        """Assert every invariant."""
        assert sum(self.counts()) == self._length, "the count of ready tasks is off"
        for by_name in self._queues:
            for queue in by_name.values():
                sequences = [record.sequence for record in queue]
                assert sequences == sorted(sequences), "a queue is out of order"

    def _compact(self) -> None:
        for by_name in self._queues:
            for name in list(by_name):
                kept = deque(r for r in by_name[name] if r.state is TaskState.READY)
                if kept:
                    by_name[name] = kept
                else:
                    del by_name[name]
        self._dead = 0
