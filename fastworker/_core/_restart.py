"""Tasks that come back with the store, and the leases that may have outlived a restart.

A subworker that comes back in time goes on with what it was leased. Until all of them
had time for that nothing is handed out; what nobody claims is lost, or cancelled.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from fastworker._core._away import is_later_lease, is_same_lease
from fastworker._core._cancelling import Cancelling
from fastworker._core._losses import Losses
from fastworker._core._messages import LEASE_SECONDS, HeldAttempt, StopOrder
from fastworker._core._open_tasks import OpenTasks
from fastworker._core._pending_changes import restore_life
from fastworker._core._scheduler_events import SchedulerCommand
from fastworker._core._stored import StoredKey, StoredState, StoredTask
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord, TaskState

# After a restart with tasks that had not ended nothing is handed out for so long:
# subworkers come back within 0.1 s (measured), and may hold leases that were given
# ahead of their record.
HOLD_SECONDS: Final = 0.75


class Restart:
    """The time after one, as far as tasks are concerned.

    Args:
      epoch: this control plane's start counter.
    """

    def __init__(
        self, open_tasks: OpenTasks, losses: Losses, cancelling: Cancelling, *, epoch: int
    ) -> None:
        self._open = open_tasks
        self._losses = losses
        self._cancelling = cancelling
        self._epoch = epoch
        self._hold_until = -math.inf  # nothing is handed out before
        # Attached tasks, whose clients may come back for them until then.
        self._unclaimed: deque[str] = deque()
        self._claims_end_at = math.inf

    @property
    def is_holding(self) -> bool:
        """Whether nothing is handed out yet."""
        return self._hold_until > -math.inf

    def next_deadline(self) -> float:
        """When :meth:`pass_deadline` is wanted, ``inf`` for never."""
        return min(
            self._open.away.ends_at,
            self._hold_until if self.is_holding else math.inf,
            self._claims_end_at,
        )

    def pass_deadline(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Do what it is time for."""
        if self._hold_until <= now:
            self._hold_until = -math.inf
        if self._open.away.ends_at <= now:
            reason = "its worker did not come back after the control plane had restarted"
            for away in self._open.away.take_all():
                self._losses.lose_away(away, away.started > 0.0, reason, now, commands)
        if self._claims_end_at <= now:
            self._claims_end_at = math.inf
            unclaimed, self._unclaimed = self._unclaimed, deque()
            self._cancelling.note_unclaimed(unclaimed, now, commands)

    # --- what was stored ---

    def restore(self, tasks: list[StoredTask], *, now: float) -> list[SchedulerCommand]:
        """Take back tasks that have not ended, in the order of their numbers.

        Before the first event. A lease counts as fresh: its subworker has
        LEASE_SECONDS to come back. What was with lanes of the process that has
        ended is lost; what it was running twice so runs alone next time.
        """
        ends_at = now + LEASE_SECONDS
        commands: list[SchedulerCommand] = []
        for task in tasks:
            record = TaskRecord(task.spec, task.sequence, None)
            restore_life(record, task.life, self._open.wall_offset)
            record.has_row = record.is_durable = record.is_restored = True
            self.restore_sequence(task.sequence)
            self._open.counts.submitted += 1
            self._open.take_back(record)
            if record.stream is not None:
                self._open.wait_again(record, TaskState.READY)
                error = "lost: the control plane restarted, and values of this stream with it"
                self._open.remove(record, Step.CANCEL, now, commands, error=error)
            elif task.state is StoredState.RETRYING:
                self._open.wait_again(record, TaskState.RETRYING)
            elif task.state is StoredState.QUEUED:
                self._open.wait_again(record, TaskState.READY)
            else:
                record.state = _LEASED_STATES[task.state]
                record.step(Step.RESTART)
                record.holder, record.holder_label = task.life.holder, task.life.worker
                if record.holder:
                    self._open.away.add(record, ends_at)
                else:
                    reason = "the process of the control plane, in which it ran, ended"
                    self._losses.lose_away(
                        record, True, reason, now, commands, is_suspect=False
                    )
            if record.spec.attached and record.outcome is None:
                self._unclaimed.append(record.spec.id)
        if self._open.by_id:
            self._hold_until = now + HOLD_SECONDS
            self._claims_end_at = ends_at
        return commands

    def restore_keys(self, keys: list[StoredKey]) -> None:
        """Take back keys that have not expired; before the first event."""
        for key in keys:
            if not self._open.keys.is_full:
                expires_at = key.expires_at - self._open.wall_offset
                self._open.keys.remember(key.task_id, key.content, expires_at)

    def restore_sequence(self, last: int) -> None:
        """Give out only numbers that come after this one."""
        self._open.last_sequence = max(self._open.last_sequence, last)

    # --- who comes back ---

    def keep_attempts(
        self,
        worker: SubworkerRecord,
        held: list[HeldAttempt],
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        """Let a subworker that comes back go on with what it was leased before a restart."""
        away = self._open.away.take(worker.holder) if worker.holder else {}
        for item in held:
            record = self._open.by_id.get(item.task_id)
            if record is None:
                continue
            if item.task_id in away:
                if is_same_lease(record, item) and record.spec.name in worker.functions:
                    del away[item.task_id]
                    self._resume(record, worker, item)
            elif self._may_claim(record, worker, item):
                self._resume(record, worker, item)
        for record in away.values():
            # It never got it, or has stopped it when its lease ended.
            reason = f"{worker.label} came back without it after a restart"
            self._losses.lose_away(record, record.started > 0.0, reason, now, commands)

    def lose_children(self, worker_ids: list[str], now: float) -> list[SchedulerCommand]:
        """Subworkers that the earlier control plane had started have ended with it."""
        commands: list[SchedulerCommand] = []
        reason = "its worker ended with the control plane that had started it"
        for record in self._open.away.take_of(worker_ids):
            was_running = record.started > 0.0
            self._losses.lose_away(record, was_running, reason, now, commands, is_suspect=False)
        return commands

    def _may_claim(
        self, record: TaskRecord, worker: SubworkerRecord, item: HeldAttempt
    ) -> bool:
        """Whether a lease of before the restart holds that the store does not know of."""
        function = worker.functions.get(record.spec.name)
        return (
            function is not None
            and function.on_lost != "fail"  # such leases are never ahead of their record
            and record.is_restored
            and record.state is TaskState.READY
            and item.epoch < self._epoch
            and is_later_lease(record, item)
        )

    def _resume(self, record: TaskRecord, worker: SubworkerRecord, item: HeldAttempt) -> None:
        if record.state is TaskState.READY:
            self._open.waiting.remove(record)
        record.step(Step.RESUME)
        record.fence, record.fence_epoch = item.attempt, item.epoch
        record.holder, record.holder_label = b"", ""
        worker.lease(record)
        if item.started or record.started:
            record.step(Step.START)
            record.note_started()
        if record.is_cancel_requested:
            worker.stop(StopOrder(record.spec.id, record.fence, None, record.fence_epoch))
        self._open.changes.mark(record)


_LEASED_STATES = {
    StoredState.LEASED: TaskState.LEASED,
    StoredState.STARTED: TaskState.STARTED,
}
