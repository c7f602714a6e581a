"""The control plane's machine for tasks: who runs what, when, and what if somebody dies.

It knows nothing of sessions or frames. Clients are opaque owner keys,
subworkers are keys that the caller introduces. Handing out work is a step of
its own (Dispatch), taken when everything that has arrived is applied, so that
what goes out together travels together.

What it does stands beside it, one noun a module, and all of it changes the same
open tasks: submitting, reports, cancelling, owners, losses, restart, ended tasks.
"""

from __future__ import annotations

import random
from typing import assert_never

import msgspec

from fastworker._core._cancelling import Cancelling
from fastworker._core._ended_tasks import EndedTasks
from fastworker._core._known_functions import KnownFunctions
from fastworker._core._live_functions import list_live_functions
from fastworker._core._losses import Losses
from fastworker._core._messages import (
    FunctionInfo,
    FunctionsReply,
    HeldAttempt,
    Lease,
    TaskEvent,
)
from fastworker._core._open_tasks import MAX_QUEUED, MAX_QUEUED_BYTES, OpenTasks
from fastworker._core._owners import Owners
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._placement import Round
from fastworker._core._reports import Reports
from fastworker._core._restart import Restart
from fastworker._core._results import Results
from fastworker._core._scheduler_events import (
    Assign,
    AttemptsReported,
    CapacityStated,
    ChildrenEnded,
    Dispatch,
    OwnerGone,
    SchedulerCommand,
    SchedulerEvent,
    SubworkerJoined,
    SubworkerLost,
    TasksCancelled,
    TasksDescribed,
    TasksPurged,
    TasksRequeued,
    TasksSubmitted,
    TasksWatched,
    ValuesRead,
)
from fastworker._core._stored import StoredKey, StoredTask
from fastworker._core._submitting import Submitting
from fastworker._core._subworkers import SubworkerRecord, SubworkerStatus
from fastworker._core._task_states import TaskRecord, TaskState


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """A snapshot.

    submitted = refused + held + ready + leased + started + away + retrying + ended.
    """

    submitted: int
    refused: int
    held: int
    ready: list[int]
    leased: int
    started: int
    succeeded: int
    failed: int
    cancelled: int
    stale_reports: int
    queued_bytes: int
    subworkers: list[SubworkerStatus]
    retrying: int = 0
    expired: int = 0
    away: int = 0


class Scheduler:
    """The machine.

    Args:
      epoch: this control plane's start counter, part of every fence.
      results: where outcomes are kept.
      now: the time of the start, in seconds.
      rng: draws the jitter of retries.
      max_queued, max_queued_bytes: how many tasks that have not ended there
        may be, and how much they may weigh; beyond it submits are refused.
      wall_offset: what turns the machine's time into wall time.
    """

    def __init__(
        self,
        *,
        epoch: int,
        results: Results,
        now: float,
        rng: random.Random,
        max_queued: int = MAX_QUEUED,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        wall_offset: float = 0.0,
    ) -> None:
        self._epoch = epoch
        self._workers: dict[bytes, SubworkerRecord] = {}
        self._joined = 0
        self._known = KnownFunctions()
        self.open_tasks = OpenTasks(
            self._workers.values(),
            results=results,
            max_queued=max_queued,
            max_queued_bytes=max_queued_bytes,
            wall_offset=wall_offset,
        )
        self.results = results
        self.changes = self.open_tasks.changes
        self.metrics = self.open_tasks.metrics
        self._owners = Owners(self.open_tasks)
        self._cancelling = Cancelling(self.open_tasks, self._owners)
        self._submitting = Submitting(
            self.open_tasks, self._owners, self._cancelling, self._known, started_at=now
        )
        self._reports = Reports(self.open_tasks, self._workers, rng)
        self._losses = Losses(self.open_tasks)
        self._restart = Restart(self.open_tasks, self._losses, self._cancelling, epoch=epoch)
        self._ended = EndedTasks(self.open_tasks)

    # --- after a restart, before the first event ---

    def restore(self, tasks: list[StoredTask], *, now: float) -> list[SchedulerCommand]:
        """Take back tasks that have not ended, in the order of their numbers."""
        return self._restart.restore(tasks, now=now)

    def restore_keys(self, keys: list[StoredKey]) -> None:
        """Take back keys that have not expired."""
        self._restart.restore_keys(keys)

    def restore_sequence(self, last: int) -> None:
        """Give out only numbers that come after this one."""
        self._restart.restore_sequence(last)

    # --- the one mutator ---

    def handle(self, event: SchedulerEvent, *, now: float) -> list[SchedulerCommand]:
        """Apply an event and return what has to be done."""
        commands = self._apply(event, now)
        self._cancelling.cancel_doomed(now, commands)
        return commands

    def _apply(self, event: SchedulerEvent, now: float) -> list[SchedulerCommand]:
        match event:
            case Dispatch():
                return self._on_dispatch(event, now)
            case AttemptsReported(key=key, report=report):
                return self._reports.apply(key, report, now)
            case TasksSubmitted():
                has_workers = bool(self._workers)
                return self._submitting.apply(event, now, has_workers=has_workers)
            case CapacityStated(key=key, lease=lease):
                return self._on_capacity(key, lease)
            case SubworkerJoined():
                return self._on_join(event, now)
            case SubworkerLost(key=key, reason=reason, is_clean=is_clean):
                return self._on_lost(key, reason, is_clean, now)
            case ChildrenEnded(worker_ids=worker_ids):
                return self._restart.lose_children(worker_ids, now)
            case TasksCancelled():
                return self._cancelling.apply(event, now)
            case TasksRequeued(tasks=tasks):
                return [self._ended.requeue(tasks)]
            case TasksPurged(tasks=tasks):
                return [self._ended.purge(tasks)]
            case TasksWatched():
                return self._on_watch(event, now)
            case ValuesRead(owner=owner, read=read):
                return self._reports.note_read(owner, read)
            case OwnerGone(owner=owner):
                return self._cancelling.note_owner_gone(owner, now)
            case DeadlinePassed():
                return self._on_deadline(now)
            case _:
                assert_never(event)

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(
            self.open_tasks.next_deadline(),
            self._restart.next_deadline(),
            self._cancelling.next_deadline(),
        )

    def withdraw(self, records: list[TaskRecord]) -> list[TaskRecord]:
        """Forget new tasks that the store could not take; see ``Submitting.withdraw``."""
        return self._submitting.withdraw(records)

    # --- reading ---

    def describe(self, task_id: str, *, now: float) -> TaskEvent:
        """Say what is known of a task."""
        return self.open_tasks.describe(task_id, now=now)

    @property
    def has_work(self) -> bool:
        """Whether Dispatch could have anything to hand out."""
        waits = len(self.open_tasks.waiting) > 0 and not self._restart.is_holding
        return waits or any(w.cancels for w in self._workers.values())

    @property
    def leased_count(self) -> int:
        """How many attempts subworkers hold."""
        return sum(worker.leased_count for worker in self._workers.values())

    def subworker_status(self, key: bytes) -> SubworkerStatus:
        """Describe one subworker that has joined and is not lost."""
        return self._workers[key].status()

    def subworker(self, key: bytes) -> SubworkerRecord:
        """The ledger of one subworker that has joined and is not lost; for reading only."""
        return self._workers[key]

    @property
    def wall_offset(self) -> float:
        """What turns the machine's time into wall time."""
        return self.open_tasks.wall_offset

    @property
    def bounds(self) -> tuple[int, int]:
        """max_queued and max_queued_bytes."""
        return self.open_tasks.max_queued, self.open_tasks.max_queued_bytes

    @property
    def known_functions(self) -> dict[str, FunctionInfo]:
        """Every task function that a subworker has announced in this epoch."""
        return self._known.functions

    @property
    def live_function_count(self) -> int:
        """How many task functions live subworkers have."""
        return self._known.live_count

    def has_room_for(self, functions: list[FunctionInfo]) -> bool:
        """Whether a subworker that announces these may join."""
        return self._known.has_room(functions)

    def live_functions(self, after: str) -> FunctionsReply:
        """A page of the task functions that live subworkers have announced."""
        return list_live_functions(self._known.functions, self._workers.values(), after)

    def is_leased(self, task_id: str, attempt: int, key: bytes) -> bool:
        """Whether this attempt is leased to this subworker now."""
        return self._reports.current(task_id, attempt, key, self._epoch) is not None

    def kept_attempts(self, key: bytes, held: list[HeldAttempt]) -> list[HeldAttempt]:
        """Those of these attempts that are leased to this subworker now."""
        return self._reports.kept(key, held)

    def statistics(self) -> SchedulerStatistics:
        """Return a snapshot."""
        open_tasks = self.open_tasks
        counts = open_tasks.counts
        workers = [worker.status() for worker in self._workers.values()]
        started = sum(status.started for status in workers)
        return SchedulerStatistics(
            submitted=counts.submitted,
            refused=counts.refused,
            held=len(open_tasks.held),
            ready=open_tasks.waiting.counts(),
            leased=sum(status.leased for status in workers) - started,
            started=started,
            succeeded=counts.ended[TaskState.SUCCESS],
            failed=counts.ended[TaskState.FAILURE],
            cancelled=counts.ended[TaskState.CANCELLED],
            stale_reports=self._reports.stale,
            queued_bytes=open_tasks.bytes,
            subworkers=workers,
            retrying=len(open_tasks.retrying),
            expired=counts.ended[TaskState.EXPIRED],
            away=len(open_tasks.away),
        )

    def check(self) -> None:
        """Assert every invariant."""
        self.open_tasks.check()
        self._cancelling.check()
        self._known.check()
        for worker in self._workers.values():
            for alone in (worker.solo, worker.reserved_for):
                assert alone is None or alone.is_solo
        # Those of statistics(), which is not called here as this is called often.
        open_tasks = self.open_tasks
        counts = open_tasks.counts
        numbers = (
            counts.refused,
            len(open_tasks.held),
            sum(open_tasks.waiting.counts()),
            self.leased_count,
            len(open_tasks.away),
            len(open_tasks.retrying),
            *counts.ended.values(),
        )
        assert counts.submitted == sum(numbers), f"{counts.submitted} != {numbers}"

    # --- subworkers ---

    def _on_join(self, event: SubworkerJoined, now: float) -> list[SchedulerCommand]:
        self._joined += 1
        labels = {worker.label for worker in self._workers.values()}
        label, count = event.worker_id, 1
        while label in labels:
            count += 1
            # It has to stay short enough for the wire.
            label = f"{event.worker_id[:240]}#{count}"
        worker = SubworkerRecord(
            event.key,
            label,
            event.address,
            event.functions,
            self._joined,
            holder=event.holder,
            is_inside=event.is_inside,
            joined_at=now,
        )
        self._workers[event.key] = worker
        self._known.announce(worker.functions.values())
        commands = self._submitting.note_known(event.functions)
        self._restart.keep_attempts(worker, event.held, now, commands)
        return commands

    def _on_capacity(self, key: bytes, lease: Lease) -> list[SchedulerCommand]:
        worker = self._workers.get(key)
        if worker is not None:
            worker.state_capacity(lease.capacity)
            worker.is_draining = lease.draining
        return []

    def _on_lost(
        self, key: bytes, reason: str, is_clean: bool, now: float
    ) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        worker = self._workers.pop(key, None)
        if worker is not None:
            self._known.withdraw(worker.functions.values())
            self._losses.lose_all(worker, reason, is_clean, now, commands)
        return commands

    # --- clients ---

    def _on_watch(self, event: TasksWatched, now: float) -> list[SchedulerCommand]:
        for task_id in event.ids:
            record = self.open_tasks.by_id.get(task_id)
            if record is None:
                continue
            is_anothers = self._owners.is_anothers(record, event.owner)
            if event.is_owner and (event.may_take or not is_anothers):
                self._owners.join_or_watch(record, event.owner)
            else:
                self._owners.watch(record, event.owner)
        return [TasksDescribed([self.describe(each, now=now) for each in event.ids])]

    # --- time ---

    def _on_deadline(self, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        self._cancelling.pass_deadline(now, commands)
        self.open_tasks.keys.expire(now)  # the store trims its own
        self._restart.pass_deadline(now, commands)
        for record in self.open_tasks.take_due(now):
            self.open_tasks.wake(record, now, commands)
        self._submitting.refuse_overdue(now, commands)
        return commands

    # --- handing out ---

    def _on_dispatch(self, event: Dispatch, now: float) -> list[SchedulerCommand]:
        known, open_tasks = self._workers, self.open_tasks
        workers = [worker for key in event.keys if (worker := known.get(key)) is not None]
        if not open_tasks.waiting.has_suspects:
            # Most of a hundred are full at any moment, and would only be looked at.
            workers = [worker for worker in workers if worker.wants_round]
        rounds = [Round(worker, self._epoch, now) for worker in workers]
        if not event.only_cancels and not self._restart.is_holding:
            open_tasks.waiting.place(rounds, self._workers.values(), event.avoids_careful)
        commands: list[SchedulerCommand] = []
        for given in rounds:
            if not given.assignments and not given.worker.cancels:
                continue  # as most of a hundred
            for assignment in given.assignments:
                open_tasks.changes.mark(open_tasks.by_id[assignment.task_id])
            cancels = given.worker.take_cancels()
            commands.append(Assign(given.worker.key, given.assignments, cancels, given.careful))
        return commands
