"""The tasks that have not ended, each in one place, and what an end is for whom.

All parts of the scheduler change tasks through here. So each of them waits in one
place at most, and an end is one for the store, for the outcomes that are kept, for
whoever wants to hear of it, and for the task's family.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

import msgspec

from fastworker._core._away import AwayLeases
from fastworker._core._deadlines import Deadlines
from fastworker._core._families import Families
from fastworker._core._held_tasks import HeldTasks
from fastworker._core._idempotency import IdempotencyKeys
from fastworker._core._messages import Ending, TaskEvent, TaskSpec, WireStatus
from fastworker._core._metrics import Metrics
from fastworker._core._pending_changes import PendingChanges
from fastworker._core._results import Results
from fastworker._core._scheduler_events import SchedulerCommand, TaskChanged
from fastworker._core._stored import StoredKey
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord, TaskState
from fastworker._core._tasks_by_client import TasksByClient
from fastworker._core._waiting import WaitingTasks

# Tasks that have not ended, by number and by weight.
MAX_QUEUED: Final = 1_000_000
MAX_QUEUED_BYTES: Final = 1024 * 1024 * 1024


class TaskCounts(msgspec.Struct):
    """How many tasks there have been in this epoch."""

    submitted: int = 0
    refused: int = 0
    ended: dict[TaskState, int] = msgspec.field(
        default_factory=lambda: {
            TaskState.SUCCESS: 0,
            TaskState.FAILURE: 0,
            TaskState.CANCELLED: 0,
            TaskState.EXPIRED: 0,
        }
    )


class OpenTasks:
    """See the module's first lines.

    Args:
      workers: all that have joined, as they are at any moment.
      results: where outcomes are kept.
      max_queued, max_queued_bytes: how many there may be, and how much they may weigh.
      wall_offset: what turns the machine's time into wall time.
    """

    def __init__(
        self,
        workers: Collection[SubworkerRecord],
        *,
        results: Results,
        max_queued: int,
        max_queued_bytes: int,
        wall_offset: float,
    ) -> None:
        self._workers = workers
        self.results = results
        self.max_queued = max_queued
        self.max_queued_bytes = max_queued_bytes
        self.wall_offset = wall_offset
        self.changes = PendingChanges(wall_offset)
        self.metrics = Metrics()
        self.keys = IdempotencyKeys()
        self.by_id: dict[str, TaskRecord] = {}
        self.bytes = 0  # of all of them
        self.clients = TasksByClient()
        self.families = Families()
        self.counts = TaskCounts()
        self.last_sequence = 0
        # Where one is that no subworker has.
        self.held = HeldTasks()
        self.waiting = WaitingTasks()
        self.retrying: dict[str, TaskRecord] = {}
        self.away = AwayLeases()
        self._alarms: Deadlines[str] = Deadlines()  # of those that have such a time

    def next_deadline(self) -> float:
        """When something is to be done here, ``inf`` for never."""
        return min(self.held.next_deadline(), self._alarms.next(), self.keys.next_deadline())

    # --- coming ---

    def new(self, spec: TaskSpec, owner: bytes | None) -> TaskRecord:
        """Make a record with the next number; it is not here yet."""
        self.counts.submitted += 1
        self.last_sequence += 1
        return TaskRecord(spec, self.last_sequence, owner)

    def fullness(self, spec: TaskSpec) -> str | None:
        """Why there is no room for this task, None if there is."""
        if spec.key_ttl is not None and self.keys.is_full:
            return (
                f"{len(self.keys):,} idempotency keys have not expired, which is the limit; "
                f"try again later, or use a shorter idempotency_ttl"
            )
        if len(self.by_id) >= self.max_queued:
            return (
                f"the queue is full: {len(self.by_id):,} tasks have not ended, and "
                f"max_queued={self.max_queued}; try again later, or raise it"
            )
        if self.bytes + spec.size > self.max_queued_bytes:
            return (
                f"the queue is full: tasks of {self.bytes:,} bytes have not ended, and "
                f"max_queued_bytes={self.max_queued_bytes}; try again later, or raise it"
            )
        return None

    def accept(self, record: TaskRecord, now: float) -> None:
        """From now on the task is ours to keep."""
        spec = record.spec
        self.by_id[spec.id] = record
        self.bytes += record.size
        if record.owner is not None:
            self.clients.add(record.owner, record)
        if spec.key_ttl is not None:
            self._remember_key(record, now)
        if spec.expires is not None or spec.budget is not None:
            if spec.expires is not None:
                record.expires_at = now + spec.expires
            if spec.budget is not None:
                record.deadline_at = now + spec.budget
            self.set_alarm(record)
        if spec.options is not None:
            self._join_family(record)

    def take_back(self, record: TaskRecord) -> None:
        """Take a task that was here before, with its times and without its key."""
        self.by_id[record.spec.id] = record
        self.bytes += record.size
        self._join_family(record)

    def _join_family(self, record: TaskRecord) -> None:
        options = record.spec.options
        if options is not None and options.parent:
            self.families.join(record, options.parent, self.by_id.get(options.parent))

    def _remember_key(self, record: TaskRecord, now: float) -> None:
        """Let the id of a task that was made of a key stand for it as long as that counts."""
        spec, content = record.spec, record.content
        assert spec.key_ttl is not None
        expires_at = now + spec.key_ttl
        # What had the key before, and has ended, makes room.
        self.results.forget(spec.id)
        self.changes.mark_purged(spec.id)
        self.keys.remember(spec.id, content, expires_at)
        wall = expires_at + self.wall_offset
        self.changes.mark_key(StoredKey(spec.id, spec.id, content, wall))

    def forget_key(self, spec: TaskSpec) -> None:
        """The task was not taken after all: its key stands for nothing."""
        if spec.key_ttl is not None:
            self.keys.forget(spec.id)
            self.changes.drop_key(spec.id)

    # --- waiting ---

    def queue(self, record: TaskRecord) -> None:
        """Let a task wait for a subworker."""
        record.step(Step.QUEUE)
        self.waiting.add(record)
        self.changes.mark(record)

    def requeue(self, record: TaskRecord, step: Step, commands: list[SchedulerCommand]) -> None:
        """Let a task wait once more whose lease has ended without its end."""
        was_started = record.state is TaskState.STARTED
        record.step(step)
        record.started = 0.0
        record.holder, record.holder_label = b"", ""
        self.changes.mark(record)
        record.progress, record.message = -1.0, ""
        self.waiting.add(record)
        self.set_alarm(record)
        if was_started:
            commands += self.news(record, record.event())

    def retry(self, record: TaskRecord, at: float) -> None:
        """Let a task whose attempt has failed wait for its next one."""
        record.step(Step.RETRY)
        record.started = 0.0
        record.retry_at = at
        self.retrying[record.spec.id] = record
        self.set_alarm(record)
        self.changes.mark(record)

    def wait_again(self, record: TaskRecord, state: TaskState) -> None:
        """Let a task that came from the store wait as it did."""
        record.state = state
        if state is TaskState.RETRYING:
            self.retrying[record.spec.id] = record
        else:
            record.retry_at = math.inf
            self.waiting.add(record)
        self.set_alarm(record)

    def set_alarm(self, record: TaskRecord) -> None:
        """Have :meth:`take_due` return it when it is time for something."""
        at = record.next_alarm
        if at < math.inf:
            self._alarms.set(record.spec.id, at)

    def take_due(self, now: float) -> list[TaskRecord]:
        """Those for which it is time: for the next attempt, or for none any more."""
        due: list[TaskRecord] = []
        for task_id in self._alarms.pop_due(now):
            record = self.by_id.get(task_id)
            if record is not None and record.next_alarm <= now:
                due.append(record)
        return due

    def wake(self, record: TaskRecord, now: float, commands: list[SchedulerCommand]) -> None:
        """Do what it was time for."""
        if record.state is TaskState.RETRYING and record.deadline_at > now:
            record.retry_at = math.inf
            del self.retrying[record.spec.id]
            self.queue(record)
            self.set_alarm(record)
            return
        is_late = record.deadline_at <= now
        what = "its deadline passed" if is_late else "it was not started in time"
        where = "while it waited for a retry" if record.failures else "while it was queued"
        self.remove(record, Step.EXPIRE, now, commands, error=f"expired: {what} {where}")

    def mark(self, record: TaskRecord) -> None:
        """The store is to know what has become of a task, if it has it at all."""
        if record.state is not TaskState.HELD:
            self.changes.mark(record)

    # --- going ---

    def remove(
        self,
        record: TaskRecord,
        step: Step,
        now: float,
        commands: list[SchedulerCommand],
        *,
        error: str = "",
    ) -> None:
        """End a task that no subworker has, wherever it waits."""
        state = record.state
        if state is TaskState.HELD:
            self.held.remove(record)
        elif state is TaskState.RETRYING:
            del self.retrying[record.spec.id]
        ending, error = record.last_ending, error or record.loss
        self.end(record, step, now, commands, error=error, ending=ending)
        if state is TaskState.READY:
            self.waiting.discard(record, self._workers)

    def end(
        self,
        record: TaskRecord,
        step: Step,
        now: float,
        commands: list[SchedulerCommand],
        *,
        error: str = "",
        ending: Ending,
    ) -> None:
        """End a task without a report from a subworker."""
        record.step(step)
        self.finish(record, record.event(error=error, ending=ending), now, commands)

    def finish(
        self,
        record: TaskRecord,
        event: TaskEvent,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        """A task has ended, with this outcome: tell everybody."""
        self.forget(record)
        record.outcome = event
        self.changes.mark(record)
        self.counts.ended[record.state] += 1
        self.metrics.note_end(
            record.spec.name,
            record.spec.priority,
            event.status,
            created=record.spec.created,
            started=event.started,
            ended=event.completed or now + self.wall_offset,
        )
        self.results.put(event, record.content, now=now)
        commands.append(TaskChanged(record.owner, event, True, record.spec.callback))
        if record.joint or record.watchers:
            for key in (*record.joint, *record.watchers):
                commands.append(TaskChanged(key, event, False))
        if event.task_id in self.families.children:
            self.families.note_end(event.task_id, event.ending)

    def forget(self, record: TaskRecord) -> None:
        """A task is not here any more."""
        spec = record.spec
        del self.by_id[spec.id]
        self.bytes -= record.size
        if record.owner is not None:
            self.clients.remove(record.owner, spec.id)
        if record.joint or record.watchers:
            for key in (*record.joint, *record.watchers):
                self.clients.remove(key, spec.id)
        if len(self._alarms):
            self._alarms.clear(spec.id)
        if spec.options is not None and spec.options.parent:
            self.families.leave(record, spec.options.parent)

    # --- telling ---

    def news(self, record: TaskRecord, event: TaskEvent) -> list[SchedulerCommand]:
        """Tell everybody who wants to hear of this task, of which this is not the end."""
        keys = (record.owner, *record.joint, *record.watchers)
        return [TaskChanged(key, event, is_final=False) for key in keys]

    def describe(self, task_id: str, *, now: float) -> TaskEvent:
        """Say what is known of a task, ended or not."""
        record = self.by_id.get(task_id)
        if record is not None:
            return record.event()
        ended = self.results.get(task_id, now=now)
        if ended is not None:
            return ended
        has_key = self.keys.get(task_id, now=now) is not None
        return TaskEvent(task_id, WireStatus.EVICTED if has_key else WireStatus.UNKNOWN)

    def check(self) -> None:
        """Assert every invariant."""
        self.held.check()
        self.waiting.check()
        self.away.check()
        self.results.check()
        self.keys.check()
        self.changes.check()
        self.clients.check(self.by_id)
        self.families.check(self.by_id)
        assert self.bytes == sum([record.size for record in self.by_id.values()])
        assert len(self.by_id) <= self.max_queued
        assert self.bytes <= self.max_queued_bytes
        places: list[str] = []
        for records in (self.held, self.waiting, self.away, self.retrying.values()):
            places += [record.spec.id for record in records]
        for worker in self._workers:
            worker.check()
            for lane in worker.lanes.values():
                for task_id, record in lane.leased.items():
                    assert self.by_id.get(task_id) is record
                    places.append(task_id)
        # Each in one place: as many places as tasks, and the same ones.
        assert len(places) == len(self.by_id), f"not in one place: {places}"
        assert self.by_id.keys() == set(places), f"not in one place: {places}"
        for record in self.retrying.values():
            assert record.state is TaskState.RETRYING
        for record in self.by_id.values():
            if record.stream is not None:
                record.stream.check()
