"""Stopping tasks: because somebody asks, because their owner is gone, or their parent."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from fastworker._core._messages import StopOrder, TaskEvent, WireStatus
from fastworker._core._open_tasks import OpenTasks
from fastworker._core._owners import Owners
from fastworker._core._scheduler_events import (
    SchedulerCommand,
    TasksCancelled,
    TasksDescribed,
)
from fastworker._core._task_states import Step, TaskRecord, TaskState

# So many of the tasks that clients leave behind are looked at before somebody else has
# his turn. To cancel one takes 5 µs, and a client may have a million.
PORTION: Final = 1_000


class Cancelling:
    """Asks what runs to stop, and ends all else."""

    def __init__(self, open_tasks: OpenTasks, owners: Owners) -> None:
        self._open = open_tasks
        self._owners = owners
        # Clients that have left tasks behind, and those that were not looked at yet.
        self._gone: deque[tuple[bytes, dict[str, TaskRecord]]] = deque()
        self._unclaimed: deque[str] = deque()
        self._count = PORTION  # how many may be looked at before the next deadline
        self._stopped_at = math.inf

    def apply(self, event: TasksCancelled, now: float) -> list[SchedulerCommand]:
        """Somebody asks."""
        commands: list[SchedulerCommand] = []
        denied: set[str] = set()
        for task_id in event.ids:
            record = self._open.by_id.get(task_id)
            if record is not None and self._owners.is_anothers(record, event.only_of):
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
            if child.is_shared and self._owners.others_want(child):
                continue  # who has submitted it inside leaves it by itself
            if not child.is_cancel_requested and self._open.by_id.get(child.spec.id) is child:
                self.cancel(child, now, commands)

    # --- clients that will not come back ---

    def note_owner_gone(self, owner: bytes, now: float) -> list[SchedulerCommand]:
        """A client is gone: nobody else may want what it has submitted."""
        commands: list[SchedulerCommand] = []
        self._gone.append((owner, self._open.clients.let_go(owner)))
        self._go_on(now, commands)
        return commands

    def note_unclaimed(
        self, task_ids: deque[str], now: float, commands: list[SchedulerCommand]
    ) -> None:
        """Attached tasks of before a restart, whose clients had time to come back."""
        self._unclaimed.extend(task_ids)
        self._go_on(now, commands)

    def next_deadline(self) -> float:
        """When :meth:`pass_deadline` is wanted: at once, or ``inf`` for never."""
        return self._stopped_at if self._gone or self._unclaimed else math.inf

    def pass_deadline(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Look at the next portion of what was left behind."""
        self._count = PORTION
        self._go_on(now, commands)

    def _go_on(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Look at what was left behind, as far as the portion reaches."""
        self._stopped_at = now
        while self._gone and self._count:
            owner, records = self._gone[0]
            while records and self._count:
                self._count -= 1
                _, record = records.popitem()
                if self._open.by_id.get(record.spec.id) is record:
                    self._leave_behind(record, owner, now, commands)
            if not records:
                self._gone.popleft()
                self._open.clients.forget(owner)
        while self._unclaimed and self._count:
            self._count -= 1
            found = self._open.by_id.get(self._unclaimed.popleft())
            if found is None or not found.is_restored or found.owner is not None:
                continue
            if found.spec.attached and not found.is_shared:
                self.cancel(found, now, commands)

    def check(self) -> None:
        """Assert every invariant."""
        assert [owner for owner, _ in self._gone] == list(self._open.clients.gone)
        assert 0 <= self._count <= PORTION
        assert not self._open.families.doomed

    def _leave_behind(
        self,
        record: TaskRecord,
        owner: bytes,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        if owner in record.watchers:
            self._owners.unwatch(record, owner)
        elif owner in record.owners:
            self._owners.disown(record, owner)
            if record.is_shared:
                # Whoever comes back with its key shall find it.
                self._owners.keep(record)
            elif record.spec.attached:
                self.cancel(record, now, commands)
