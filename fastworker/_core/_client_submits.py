"""Tasks that a client has to submit, in their order, and those that wait for room.

What was sent in vain goes before everything else, and not as the same batch again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from fastworker._core._client_task import ACCEPTED, ClientTask, Progress
from fastworker._core._messages import BATCH_BYTES, Submit, TaskSpec
from fastworker._core._waiting_room import WaitingRoom


class SubmitQueue:
    """See the module's first lines.

    Attributes:
      room: has those that wait until the queue of the control plane has room.
    """

    def __init__(self) -> None:
        self.room = WaitingRoom()
        self._unsent: deque[ClientTask] = deque()
        # Sent in a session that is gone, and held there: to be sent once more.
        self._unheard: deque[ClientTask] = deque()

    def __len__(self) -> int:
        """How many could go next."""
        return len(self._unheard or self._unsent)

    def add(self, task_id: str, task: ClientTask, now: float) -> None:
        """A task is new."""
        if task.waits_for_room and len(self.room):
            self.room.enter(task_id, now)  # behind those that wait already
        else:
            self._unsent.append(task)

    def add_unheard(self, task: ClientTask) -> None:
        """A task was sent, and nothing was heard of it."""
        self._unheard.append(task)

    def remove(self, task_id: str, task: ClientTask) -> None:
        """Take out a task that is not at the control plane."""
        if not self.room.discard(task_id):
            self._unsent.remove(task)

    def readmit(self, tasks: Mapping[str, ClientTask], now: float) -> None:
        """Take in those of which it is time to look whether they find room."""
        for task_id in self.room.leave(now):
            self._unsent.append(tasks[task_id])

    def take(
        self, tasks: Mapping[str, ClientTask], limit: int, now: float
    ) -> tuple[list[ClientTask], Submit]:
        """Take out as many as go next, and make one request of them; there may be none.

        Args:
          tasks: all of the client.
          limit: how many at most.
          now: when they are sent.
        """
        specs: list[TaskSpec] = []
        taken: list[ClientTask] = []
        hurry = False
        size = 0
        queue = self._unheard or self._unsent
        while queue and len(specs) < limit:
            task = queue[0]
            is_gone = tasks.get(task.event.task_id) is not task
            if is_gone or task.progress in ACCEPTED:
                queue.popleft()  # heard of, or given up, in the meantime
                continue
            spec = task.to_send(now)
            size += spec.size
            if specs and size > BATCH_BYTES:
                break
            queue.popleft()
            task.progress = Progress.SENT
            hurry = hurry or task.is_awaited
            specs.append(spec)
            taken.append(task)
        return taken, Submit(specs, hurry)

    def check(self, tasks: Mapping[str, ClientTask]) -> None:
        """Assert every invariant."""
        self.room.check()
        for task_id in self.room:
            assert tasks[task_id].progress is Progress.UNSENT
        for task in self._unsent:
            assert task.progress is Progress.UNSENT
