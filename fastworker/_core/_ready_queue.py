"""Ready tasks in strict priority, then in the order they were submitted.

One line for each (priority, name), merged by sequence number when work is
handed out. So tasks whose name no subworker can run wait in lines of their
own and cost nothing to pass over.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from fastworker._core._task_states import TaskRecord, TaskState

PRIORITIES = range(4)


class _Line:
    """The ready records of one priority and name."""

    __slots__ = ("fresh", "returned")

    def __init__(self) -> None:
        self.fresh: deque[TaskRecord] = deque()  # ascending sequence numbers
        # A heap of what came back from subworkers: hundreds may return at
        # once, and a place in the deque would cost a search for each.
        self.returned: list[tuple[int, TaskRecord]] = []

    def records(self) -> list[TaskRecord]:
        found = [record for record in self.fresh if record.state is TaskState.READY]
        if self.returned:
            found += [record for _, record in self.returned if record.state is TaskState.READY]
        return found


class ReadyQueue:
    """Holds records in state READY. A record that leaves that state is skipped."""

    def __init__(self) -> None:
        self._lines: list[dict[str, _Line]] = [{} for _ in PRIORITIES]
        self._counts = [0 for _ in PRIORITIES]
        self._dead = 0  # records in the lines that are READY no more

    def __len__(self) -> int:
        return sum(self._counts)

    def push(self, record: TaskRecord) -> None:
        """Add a record at the place its sequence number gives it."""
        priority = record.spec.priority
        line = self._lines[priority].get(record.spec.name)
        if line is None:
            line = self._lines[priority][record.spec.name] = _Line()
        if not line.fresh or line.fresh[-1].sequence < record.sequence:
            line.fresh.append(record)
        else:
            heapq.heappush(line.returned, (record.sequence, record))
        self._counts[priority] += 1

    def discard(self, record: TaskRecord) -> None:
        """Forget a record that was just moved out of READY, wherever it stands."""
        priority = record.spec.priority
        self._counts[priority] -= 1
        self._dead += 1
        # A client that leaves takes its tasks along from the last to the first. Those go
        # here, one by one: to free half a million at once takes 300 ms.
        fresh = self._lines[priority][record.spec.name].fresh
        while fresh and fresh[-1].state is not TaskState.READY:
            fresh.pop()
            self._dead -= 1
        if self._dead > 1000 and self._dead > len(self):
            self._compact()

    def remove(self, record: TaskRecord) -> None:
        """Take out a record that is still READY, and may be pushed again.

        It is searched for, which costs the more the farther back it stands.
        """
        line = self._lines[record.spec.priority][record.spec.name]
        entry = (record.sequence, record)
        if entry in line.returned:
            line.returned.remove(entry)
            heapq.heapify(line.returned)
        else:
            line.fresh.remove(record)
        self._counts[record.spec.priority] -= 1

    def head(self, priority: int, name: str) -> TaskRecord | None:
        """The first record of this priority and name, which stays."""
        line = self._lines[priority].get(name)
        if line is None:
            return None
        fresh, returned = line.fresh, line.returned
        while fresh and fresh[0].state is not TaskState.READY:
            fresh.popleft()
            self._dead -= 1
        while returned and returned[0][1].state is not TaskState.READY:
            heapq.heappop(returned)
            self._dead -= 1
        if returned and (not fresh or returned[0][0] < fresh[0].sequence):
            return returned[0][1]
        if fresh:
            return fresh[0]
        del self._lines[priority][name]
        return None

    def pop(self, record: TaskRecord) -> None:
        """Remove what :meth:`head` just returned."""
        priority = record.spec.priority
        line = self._lines[priority][record.spec.name]
        if line.fresh and line.fresh[0] is record:
            line.fresh.popleft()
        else:
            _, first = heapq.heappop(line.returned)
            assert first is record, f"{record!r} is not the head of its line"
        self._counts[priority] -= 1

    def names(self, priority: int) -> list[str]:
        """The names that may have a record of this priority, in no special order."""
        return list(self._lines[priority]) if self._counts[priority] else []

    def counts(self) -> list[int]:
        """How many records are ready, by priority."""
        return list(self._counts)

    def records(self) -> Iterator[TaskRecord]:
        """Every ready record, in no special order."""
        for by_name in self._lines:
            for line in by_name.values():
                yield from line.records()

    def check(self) -> None:
        """Assert every invariant."""
        entries = 0
        for priority, by_name in enumerate(self._lines):
            ready = 0
            for line in by_name.values():
                ready += len(line.records())
                entries += len(line.fresh) + len(line.returned)
                sequences = [record.sequence for record in line.fresh]
                assert sequences == sorted(sequences), "a queue is out of order"
            assert ready == self._counts[priority], "the count of ready tasks is off"
        assert entries == len(self) + self._dead, "the count of dead records is off"

    def _compact(self) -> None:
        for by_name in self._lines:
            for name, line in list(by_name.items()):
                line.fresh = deque(r for r in line.fresh if r.state is TaskState.READY)
                line.returned = [e for e in line.returned if e[1].state is TaskState.READY]
                heapq.heapify(line.returned)
                if not line.fresh and not line.returned:
                    del by_name[name]
        self._dead = 0
