"""Which open tasks each client has submitted or watches.

A client that leaves may have one task among a million: nobody else is to wait while
they are all looked through.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastworker._core._task_states import TaskRecord


class TasksByClient:
    """By the key of the client; one that has none is not here.

    ``gone``, for reading, are clients that will not come back, and whose tasks have not
    all been looked at: it still stands on them that they want them.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, dict[str, TaskRecord]] = {}
        self.gone: dict[bytes, dict[str, TaskRecord]] = {}

    def __len__(self) -> int:
        """How many clients have some, those that are gone included."""
        return len(self._of) + len(self.gone)

    def add(self, key: bytes, record: TaskRecord) -> None:
        """The client has submitted it, or watches it."""
        tasks = self._of.get(key)
        if tasks is None:
            tasks = self._of[key] = {}
        tasks[record.spec.id] = record

    def remove(self, key: bytes, task_id: str) -> None:
        """The client does neither any more."""
        tasks = self._of.get(key)
        if tasks is None:
            assert key in self.gone
            return
        del tasks[task_id]
        if not tasks:
            del self._of[key]

    def let_go(self, key: bytes) -> dict[str, TaskRecord]:
        """The client is gone: return what it had, to be taken out one by one.

        Some may have ended by their turn. None is to be kept longer than that: to free a
        million at once takes a while, too.
        """
        tasks = self.gone[key] = self._of.pop(key, {})
        return tasks

    def forget(self, key: bytes) -> None:
        """All that a client had that is gone has been looked at."""
        del self.gone[key]

    def check(self, open_tasks: Mapping[str, TaskRecord]) -> None:
        """Assert every invariant."""
        assert not self._of.keys() & self.gone.keys(), "a client that is gone has come back"
        expected: dict[bytes, set[str]] = {}
        for task_id, record in open_tasks.items():
            for key in (*record.owners, *record.watchers):
                if key in self.gone:
                    assert self.gone[key].get(task_id) is record
                else:
                    expected.setdefault(key, set()).add(task_id)
        assert {key: set(tasks) for key, tasks in self._of.items()} == expected
        for tasks in self._of.values():
            for task_id, record in tasks.items():
                assert open_tasks[task_id] is record
