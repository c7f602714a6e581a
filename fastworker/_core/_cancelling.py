"""Stopping tasks: because somebody asks, because their owner is gone, or their parent."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import Final

from fastworker._core._messages import StopOrder, TaskEvent, WireStatus
from fastworker._core._open_tasks import OpenTasks
from fastworker._core._owners import Owners, is_anothers
from fastworker._core._scheduler_events import (
    SchedulerCommand,
    TasksCancelled,
    TasksDescribed,
)
from fastworker._core._task_states import Step, TaskRecord, TaskState

# So many of the tasks that a client leaves behind are looked at in one step. To cancel
# one takes 5 µs, and a client may have a million.
PORTION: Final = 1_000


class Cancelling:
    """Asks what runs to stop, and ends all else."""

    def __init__(self, open_tasks: OpenTasks, owners: Owners) -> None:
        self._open = open_tasks
        self._owners = owners
        self._gone: deque[bytes] = deque()  # clients that have left tasks behind
        self._unclaimed: deque[TaskRecord] = deque()
        self._looked_at = math.inf

    def apply(self, event: TasksCancelled, now: float) -> list[SchedulerCommand]:
        """Somebody asks."""
        commands: list[SchedulerCommand] = []
        denied: set[str] = set()
        for task_id in event.ids:
            record = self._open.by_id.get(task_id)
            if record is not None and is_anothers(record, event.only_of):
                denied.add(task_id)
            elif record is not None:
                if event.watcher is not None:
                    self._owners.watch(record, event.watcher)
                leaver = event.leaver if record.is_shared else None
                if leaver is not None and self._owners.leave(record, leaver):
                    continue
                self.cancel(record, now, commands, event.grace)
        self.cancel_doomed(now, commands)
        events = [
            TaskEvent(task_id, WireStatus.DENIED)
            if task_id in denied
            else self._open.describe(task_id, now=now)
            for task_id in event.ids
        ]
        return [*commands, TasksDescribed(events)]

    def cancel(
        self,
        record: TaskRecord,
        now: float,
        commands: list[SchedulerCommand],
        grace: float | None = None,
    ) -> None:
        """Ask a task to stop that a subworker has; end any other."""
        if record.state is TaskState.AWAY:
            # Who comes back with it is told to stop.
            record.is_cancel_requested = True
            self._open.changes.mark(record)
            self._open.families.doom(record.spec.id)
            return
        if record.worker is None:
            self._open.remove(record, Step.CANCEL, now, commands)
            return
        # Asked again it is told again: somebody may have less patience.
        if not record.is_cancel_requested or grace is not None:
            record.is_cancel_requested = True
            self._open.changes.mark(record)
            order = StopOrder(record.spec.id, record.fence, grace, record.fence_epoch)
            record.worker.stop(order)
        self._open.families.doom(record.spec.id)

    def cancel_doomed(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Cancel the children of whatever was cancelled, and theirs."""
        doomed = self._open.families.doomed
        while doomed:
            child = doomed.popleft()
            # Whoever submits itself as its own parent gets no endless loop.
            if child.is_shared and (child.joint or child.is_kept):
                continue  # others want it; who has submitted it inside leaves it by itself
            if not child.is_cancel_requested and self._open.by_id.get(child.spec.id) is child:
                self.cancel(child, now, commands)

    # --- clients that will not come back ---

    def note_owner_gone(self, owner: bytes, now: float) -> list[SchedulerCommand]:
        """A client is gone: nobody else may want what it has submitted."""
        commands: list[SchedulerCommand] = []
        self._gone.append(owner)
        self.go_on(now, commands)
        return commands

    def note_unclaimed(
        self, records: deque[TaskRecord], now: float, commands: list[SchedulerCommand]
    ) -> None:
        """Attached tasks of before a restart, whose clients had time to come back."""
        self._unclaimed.extend(records)
        self.go_on(now, commands)

    def next_deadline(self) -> float:
        """When :meth:`go_on` is wanted: at once, or ``inf`` for never."""
        return self._looked_at if self._gone or self._unclaimed else math.inf

    def go_on(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Look at the next tasks that were left behind; not at too many at once."""
        count, self._looked_at = PORTION, now
        while self._gone and count:
            owner = self._gone[0]
            # None of them is its own any more after that.
            records = list(islice(self._open.clients.of(owner), count))
            for record in records:
                self._leave_behind(record, owner, now, commands)
            count -= len(records)
            if not self._open.clients.of(owner):
                self._gone.popleft()
        while self._unclaimed and count:
            count -= 1
            record = self._unclaimed.popleft()
            if record.owner is None and self._open.by_id.get(record.spec.id) is record:
                self.cancel(record, now, commands)

    def _leave_behind(
        self,
        record: TaskRecord,
        owner: bytes,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        if owner in record.watchers:
            self._owners.unwatch(record, owner)
            return
        self._owners.disown(record, owner)
        if record.is_shared:
            # Whoever comes back with its key shall find it.
            self._owners.keep(record)
        elif record.spec.attached:
            self.cancel(record, now, commands)
