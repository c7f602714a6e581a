"""Tasks that a client was handed many at once, until each is acknowledged.

They have one deadline for all of them: thousands would each cost as much as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastworker._core._client_task import Batch, ClientTask, Progress
from fastworker._core._deadlines import Deadlines


class Batches:
    """Those of which acknowledgements are missing.

    Args:
      deadlines: has theirs, by their numbers, among others.
    """

    def __init__(self, deadlines: Deadlines[str | int]) -> None:
        self._deadlines = deadlines
        self._by_number: dict[int, Batch] = {}
        self._last_number = 0

    def open(self, ids: list[str], deadline: float) -> Batch:
        """Begin one, of tasks that name it as theirs."""
        self._last_number += 1
        batch = self._by_number[self._last_number] = Batch(self._last_number, ids, len(ids))
        self._deadlines.set(batch.number, deadline)
        return batch

    def leave(self, task: ClientTask, batch: Batch) -> None:
        """A task of it is acknowledged, or is none any more."""
        task.batch = None
        batch.missing -= 1
        if not batch.missing:
            del self._by_number[batch.number]
            self._deadlines.clear(batch.number)

    def end(self, number: int, tasks: Mapping[str, ClientTask]) -> list[str]:
        """Its time is over: return those of its tasks that were not acknowledged."""
        batch = self._by_number.pop(number)
        late: list[str] = []
        for task_id in batch.ids:
            task = tasks.get(task_id)
            if task is not None and task.batch is batch:
                task.batch = None
                late.append(task_id)
        return late

    def check(self, tasks: Iterable[ClientTask]) -> None:
        """Assert every invariant."""
        missing: dict[int, int] = {}
        for task in tasks:
            if task.batch is not None:
                assert self._by_number[task.batch.number] is task.batch
                assert task.progress is not Progress.ACKNOWLEDGED
                missing[task.batch.number] = missing.get(task.batch.number, 0) + 1
        assert missing == {number: each.missing for number, each in self._by_number.items()}
