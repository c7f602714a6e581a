"""Which open tasks each client has submitted or watches.

A client that leaves may have one task among a million: nobody else is to wait while
they are all looked through.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fastworker._core._task_states import TaskRecord


class TasksByClient:
    """By the key of the client; one that has none is not here."""

    def __init__(self) -> None:
        self._of: dict[bytes, dict[str, TaskRecord]] = {}

    def __len__(self) -> int:
        """How many clients have some."""
        return len(self._of)

    def of(self, key: bytes) -> Collection[TaskRecord]:
        """Those of one client, as they are at any moment."""
        return self._of.get(key, {}).values()

    def add(self, key: bytes, record: TaskRecord) -> None:
        """The client has submitted it, or watches it."""
        tasks = self._of.get(key)
        if tasks is None:
            tasks = self._of[key] = {}
        tasks[record.spec.id] = record

    def remove(self, key: bytes, task_id: str) -> None:
        """The client does neither any more."""
        tasks = self._of[key]
        del tasks[task_id]
        if not tasks:
            del self._of[key]

    def check(self, open_tasks: Mapping[str, TaskRecord]) -> None:
        """Assert every invariant."""
        expected: dict[bytes, set[str]] = {}
        for task_id, record in open_tasks.items():
            for key in (*record.owners, *record.watchers):
                expected.setdefault(key, set()).add(task_id)
        assert {key: set(tasks) for key, tasks in self._of.items()} == expected
        for tasks in self._of.values():
            for task_id, record in tasks.items():
                assert open_tasks[task_id] is record
