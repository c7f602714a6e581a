"""The control plane's machine for tasks: who runs what, when, and what if somebody dies.

It knows nothing of sessions or frames. Clients are opaque owner keys,
subworkers are keys that the caller introduces. Handing out work is a step of
its own (Dispatch), taken when everything that has arrived is applied, so that
what goes out together travels together.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Final, assert_never

import msgspec

from fastworker._core._away import AwayLeases, is_later_lease, is_same_lease
from fastworker._core._deadlines import Deadlines
from fastworker._core._idempotency import IdempotencyKeys
from fastworker._core._known_functions import KnownFunctions
from fastworker._core._live_functions import list_live_functions
from fastworker._core._messages import (
    LEASE_SECONDS,
    EndedAttempt,
    Ending,
    FunctionInfo,
    FunctionsReply,
    HeldAttempt,
    Lease,
    ReadUpTo,
    Refusal,
    RefusalCode,
    Report,
    StartedAttempt,
    StopOrder,
    StreamCredit,
    StreamValue,
    SubmitReply,
    TaskEvent,
    TaskSpec,
    WireStatus,
    YieldedValue,
)
from fastworker._core._metrics import Metrics
from fastworker._core._pending_changes import PendingChanges, restore_life
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._placement import Round
from fastworker._core._results import Results
from fastworker._core._retry import decide
from fastworker._core._scheduler_events import (
    ActionDone,
    Assign,
    AttemptsReported,
    CapacityStated,
    ChildrenEnded,
    Dispatch,
    OwnerGone,
    PassCredit,
    SchedulerCommand,
    SchedulerEvent,
    SubmitDecided,
    SubworkerJoined,
    SubworkerLost,
    TaskChanged,
    TasksCancelled,
    TasksDescribed,
    TasksPurged,
    TasksRequeued,
    TasksSubmitted,
    TasksWatched,
    ValueCame,
    ValuesRead,
)
from fastworker._core._stored import POISON, StoredKey, StoredState, StoredTask
from fastworker._core._subworkers import SubworkerRecord, SubworkerStatus
from fastworker._core._task_questions import Untouched
from fastworker._core._task_states import Step, TaskRecord, TaskState, content_digest
from fastworker._core._waiting import WaitingTasks
from fastworker._errors import RemoteProtocolError

# A task of a name that nobody knows yet is held this long: at start-up the
# clients may be faster than the subworkers.
UNKNOWN_NAME_SECONDS: Final = 5.0
# A task that was running alone when its worker died, this often, is poison.
MAX_SOLO_LOSSES: Final = 3
# So many may watch a task besides its owner; of more, the first hear nothing.
MAX_WATCHERS: Final = 16
# So many may have submitted one task, under its key.
MAX_OWNERS: Final = 1_000
# Looking for similar names takes a while: not for each of thousands at once.
MAX_EXPLAINED: Final = 5
# Tasks that have not ended, by number and by weight.
MAX_QUEUED: Final = 1_000_000
MAX_QUEUED_BYTES: Final = 1024 * 1024 * 1024
# After a restart with tasks that had not ended nothing is handed out for so long:
# subworkers come back within 0.1 s (measured), and may hold leases that were given
# ahead of their record.
HOLD_SECONDS: Final = 0.75


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
        self.changes = PendingChanges(wall_offset)
        self.metrics = Metrics()
        self._keys = IdempotencyKeys()
        self._wall_offset = wall_offset
        self._away = AwayLeases()
        self._hold_until = -math.inf  # nothing is handed out before
        self._claims_end_at = math.inf  # when attached tasks of nobody's are cancelled
        self._rng = rng
        self.results = results
        self._epoch = epoch
        self._started_at = now
        self._max_queued = max_queued
        self._max_queued_bytes = max_queued_bytes
        self._tasks: dict[str, TaskRecord] = {}
        self._queued_bytes = 0  # of all that have not ended
        self._waiting = WaitingTasks()
        self._held: dict[str, list[TaskRecord]] = {}
        self._holds: Deadlines[str] = Deadlines()
        self._retrying: dict[str, TaskRecord] = {}
        self._alarms: Deadlines[str] = Deadlines()  # of tasks that have such a time
        # By the task that has submitted them, from inside: it takes them along.
        self._children: dict[str, dict[str, TaskRecord]] = {}
        # To be cancelled by the end of this step: families may be deeper than the stack.
        self._doomed: deque[TaskRecord] = deque()
        self._workers: dict[bytes, SubworkerRecord] = {}
        self._known = KnownFunctions()
        self._sequence = 0
        self._joined = 0
        self._submitted = 0
        self._refused = 0
        self._ended = {
            TaskState.SUCCESS: 0,
            TaskState.FAILURE: 0,
            TaskState.CANCELLED: 0,
            TaskState.EXPIRED: 0,
        }
        self._stale_reports = 0

    # --- the one mutator ---

    def handle(self, event: SchedulerEvent, *, now: float) -> list[SchedulerCommand]:
        """Apply an event and return what has to be done."""
        commands = self._apply(event, now)
        self._cancel_doomed(now, commands)
        return commands

    def _apply(self, event: SchedulerEvent, now: float) -> list[SchedulerCommand]:
        match event:
            case Dispatch():
                return self._on_dispatch(event, now)
            case AttemptsReported(key=key, report=report):
                return self._on_report(key, report, now)
            case TasksSubmitted():
                return self._on_submit(event, now)
            case CapacityStated(key=key, lease=lease):
                return self._on_capacity(key, lease)
            case SubworkerJoined():
                return self._on_join(event, now)
            case SubworkerLost(key=key, reason=reason, is_clean=is_clean):
                return self._on_lost(key, reason, is_clean, now)
            case ChildrenEnded(worker_ids=worker_ids):
                return self._on_children_ended(worker_ids, now)
            case TasksCancelled():
                return self._on_cancel(event, now)
            case TasksRequeued(tasks=tasks):
                return self._on_requeued(tasks, now)
            case TasksPurged(tasks=tasks):
                return self._on_purged(tasks)
            case TasksWatched():
                return self._on_watch(event, now)
            case ValuesRead(owner=owner, read=read):
                return self._on_read(owner, read)
            case OwnerGone(owner=owner):
                return self._on_owner_gone(owner, now)
            case DeadlinePassed():
                return self._on_deadline(now)
            case _:
                assert_never(event)

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(
            self._holds.next(),
            self._alarms.next(),
            self._away.ends_at,
            self._hold_until if self._is_holding else math.inf,
            self._claims_end_at,
            self._keys.next_deadline(),
        )

    # --- reading ---

    def describe(self, task_id: str, *, now: float) -> TaskEvent:
        """Say what is known of a task."""
        record = self._tasks.get(task_id)
        if record is not None:
            return record.event()
        ended = self.results.get(task_id, now=now)
        if ended is not None:
            return ended
        has_key = self._keys.get(task_id, now=now) is not None
        return TaskEvent(task_id, WireStatus.EVICTED if has_key else WireStatus.UNKNOWN)

    @property
    def has_work(self) -> bool:
        """Whether Dispatch could have anything to hand out."""
        waits = len(self._waiting) > 0 and not self._is_holding
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
        return self._wall_offset

    @property
    def bounds(self) -> tuple[int, int]:
        """max_queued and max_queued_bytes."""
        return self._max_queued, self._max_queued_bytes

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
        return self._current(task_id, attempt, key, self._epoch) is not None

    def kept_attempts(self, key: bytes, held: list[HeldAttempt]) -> list[HeldAttempt]:
        """Those of these attempts that are leased to this subworker now."""
        return [
            item
            for item in held
            if self._current(item.task_id, item.attempt, key, item.epoch) is not None
        ]

    def statistics(self) -> SchedulerStatistics:
        """Return a snapshot."""
        workers = [worker.status() for worker in self._workers.values()]
        started = sum(status.started for status in workers)
        return SchedulerStatistics(
            submitted=self._submitted,
            refused=self._refused,
            held=sum(len(records) for records in self._held.values()),
            ready=self._waiting.counts(),
            leased=sum(status.leased for status in workers) - started,
            started=started,
            succeeded=self._ended[TaskState.SUCCESS],
            failed=self._ended[TaskState.FAILURE],
            cancelled=self._ended[TaskState.CANCELLED],
            stale_reports=self._stale_reports,
            queued_bytes=self._queued_bytes,
            subworkers=workers,
            retrying=len(self._retrying),
            expired=self._ended[TaskState.EXPIRED],
            away=len(self._away),
        )

    def check(self) -> None:
        """Assert every invariant."""
        self._waiting.check()
        self.results.check()
        assert not self._doomed
        self._known.check()
        assert self._queued_bytes == sum([r.size for r in self._tasks.values()])
        assert len(self._tasks) <= self._max_queued
        assert self._queued_bytes <= self._max_queued_bytes
        places = [record.spec.id for record in self._waiting]
        for records in self._held.values():
            for record in records:
                assert record.state is TaskState.HELD
                places.append(record.spec.id)
        for task_id, record in self._retrying.items():
            assert record.state is TaskState.RETRYING
            places.append(task_id)
        self._away.check()
        self._keys.check()
        self.changes.check()
        places += [record.spec.id for record in self._away]
        for parent, children in self._children.items():
            assert children, f"{parent} has an empty family"
            for task_id, record in children.items():
                assert self._tasks.get(task_id) is record
        for worker in self._workers.values():
            worker.check()
            for lane in worker.lanes.values():
                for task_id, record in lane.leased.items():
                    assert self._tasks.get(task_id) is record
                    places.append(task_id)
        # Each in one place: as many places as tasks, and the same ones.
        assert len(places) == len(self._tasks), f"not in one place: {places}"
        assert self._tasks.keys() == set(places), f"not in one place: {places}"
        for record in self._tasks.values():
            if record.stream is not None:
                record.stream.check()
        for worker in self._workers.values():
            for alone in (worker.solo, worker.reserved_for):
                assert alone is None or alone.is_solo
        # Those of statistics(), which is not called here as this is called often.
        numbers = (
            self._refused,
            sum(map(len, self._held.values())),
            sum(self._waiting.counts()),
            self.leased_count,
            len(self._away),
            len(self._retrying),
            *self._ended.values(),
        )
        assert self._submitted == sum(numbers), f"{self._submitted} != {numbers}"

    # --- submitting ---

    def _on_submit(self, submitted: TasksSubmitted, now: float) -> list[SchedulerCommand]:
        owner, tasks = submitted.owner, submitted.tasks
        commands: list[SchedulerCommand] = []
        refusals: list[Refusal] = []
        held: list[int] = []
        queued: list[TaskRecord] = []
        unknown: dict[str, str] = {}
        for index, spec in enumerate(tasks):
            known = self._tasks.get(spec.id)
            if known is not None:
                refusal = self._join(known, owner, index, spec)
                if refusal is not None:
                    refusals.append(refusal)
                elif known.state is TaskState.HELD:
                    held.append(index)
                continue
            ended = self._earlier(spec, now)
            if ended is not None:
                event, content = ended
                if content is None or content == content_digest(spec):
                    commands.append(TaskChanged(owner, event, is_final=False))
                else:
                    refusals.append(_conflict(index, spec))
                continue
            self._submitted += 1
            self._sequence += 1
            record = TaskRecord(spec, self._sequence, owner)
            if index in submitted.misdirected:
                self._refused += 1
                reason = submitted.misdirected[index]
                refusals.append(Refusal(index, RefusalCode.CALLBACK, reason))
                continue
            full = self._fullness(spec)
            if full is not None:
                self._refused += 1
                refusals.append(Refusal(index, RefusalCode.QUEUE_FULL, full))
                continue
            if spec.name in self._known:
                self._accept(record, now)
                record.step(Step.QUEUE)
                self._waiting.add(record)
                self.changes.mark(record)
                queued.append(record)
            elif self._workers and now >= self._started_at + UNKNOWN_NAME_SECONDS:
                self._refused += 1
                message = self._explain(spec.name, unknown)
                refusals.append(Refusal(index, RefusalCode.UNKNOWN_TASK, message))
                continue
            else:
                self._accept(record, now)
                record.held_until = now + UNKNOWN_NAME_SECONDS
                waiting = self._held.setdefault(spec.name, [])
                waiting.append(record)
                if len(waiting) == 1:
                    self._holds.set(spec.name, record.held_until)
                held.append(index)
            if spec.options is not None and self._is_orphan(spec.options.parent, now):
                # It was still under way when its parent was cancelled.
                self._cancel(record, now, commands)
        commands.insert(0, SubmitDecided(SubmitReply(refusals, held), queued))
        return commands

    def _earlier(self, spec: TaskSpec, now: float) -> tuple[TaskEvent, int | None] | None:
        """The end of a task of this id, and its content if that is known."""
        key = self._keys.get(spec.id, now=now)
        if key is None and not self.results.may_know(spec.id):
            return None
        ended = self.results.get(spec.id, now=now)
        if spec.key_ttl is not None and key is None:
            return None  # its key has expired: the id is free again
        if ended is not None:
            content = self.results.content(spec.id, now=now)
            return ended, key.content if content is None and key is not None else content
        if key is not None:
            return TaskEvent(spec.id, WireStatus.EVICTED), key.content
        return None

    def _remember_key(self, record: TaskRecord, now: float) -> None:
        """Let the id of a task that was made of a key stand for it as long as that counts."""
        spec, content = record.spec, record.content
        assert spec.key_ttl is not None
        expires_at = now + spec.key_ttl
        # What had the key before, and has ended, makes room.
        self.results.forget(spec.id)
        self.changes.mark_purged(spec.id)
        self._keys.remember(spec.id, content, expires_at)
        wall = expires_at + self._wall_offset
        self.changes.mark_key(StoredKey(spec.id, spec.id, content, wall))

    def _forget_key(self, spec: TaskSpec) -> None:
        if spec.key_ttl is not None:
            self._keys.forget(spec.id)
            self.changes.drop_key(spec.id)

    def restore_keys(self, keys: list[StoredKey]) -> None:
        """Take back keys that have not expired; before the first event."""
        for key in keys:
            if not self._keys.is_full:
                expires_at = key.expires_at - self._wall_offset
                self._keys.remember(key.task_id, key.content, expires_at)

    def _is_orphan(self, parent_id: str, now: float) -> bool:
        """Whether the task that submits this one, if one does, was cancelled."""
        parent = self._tasks.get(parent_id)
        if parent is not None:
            return parent.is_cancel_requested
        ended = self.results.get(parent_id, now=now) if parent_id else None
        return ended is not None and ended.ending is not Ending.COMPLETED

    def _accept(self, record: TaskRecord, now: float) -> None:
        """From now on the task is ours to keep."""
        spec = record.spec
        self._tasks[spec.id] = record
        self._queued_bytes += record.size
        if spec.key_ttl is not None:
            self._remember_key(record, now)
        if spec.expires is not None or spec.budget is not None:
            if spec.expires is not None:
                record.expires_at = now + spec.expires
            if spec.budget is not None:
                record.deadline_at = now + spec.budget
            self._set_alarm(record)
        if spec.options is not None:
            self._join_family(record)

    def _join_family(self, record: TaskRecord) -> None:
        options = record.spec.options
        if options is None or not options.parent:
            return
        self._children.setdefault(options.parent, {})[record.spec.id] = record
        parent = self._tasks.get(options.parent)
        # Whoever submits itself as its own parent waits for nobody.
        if parent is not None and parent is not record:
            record.parent = parent
            if parent.children is None:
                parent.children = {}
            parent.children[record.spec.id] = record
            parent.has_family = record.has_family = True

    def _set_alarm(self, record: TaskRecord) -> None:
        at = record.next_alarm
        if at < math.inf:
            self._alarms.set(record.spec.id, at)

    def _explain(self, name: str, explained: dict[str, str]) -> str:
        """Say that a name is unknown, once for all tasks of one event that have it."""
        if name not in explained:
            near = len(explained) < MAX_EXPLAINED
            explained[name] = self._known.explain_unknown(name, near=near)
        return explained[name]

    def _fullness(self, spec: TaskSpec) -> str | None:
        """Why there is no room for this task, None if there is."""
        if spec.key_ttl is not None and self._keys.is_full:
            return (
                f"{len(self._keys):,} idempotency keys have not expired, which is the limit; "
                f"try again later, or use a shorter idempotency_ttl"
            )
        if len(self._tasks) >= self._max_queued:
            return (
                f"the queue is full: {len(self._tasks):,} tasks have not ended, and "
                f"max_queued={self._max_queued}; try again later, or raise it"
            )
        if self._queued_bytes + spec.size > self._max_queued_bytes:
            return (
                f"the queue is full: tasks of {self._queued_bytes:,} bytes have not ended, and "
                f"max_queued_bytes={self._max_queued_bytes}; try again later, or raise it"
            )
        return None

    def _on_deadline(self, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        unknown: dict[str, str] = {}
        self._keys.expire(now)  # the store trims its own
        if self._hold_until <= now:
            self._hold_until = -math.inf
        if self._away.ends_at <= now:
            reason = "its worker did not come back after the control plane had restarted"
            for away in self._away.take_all():
                self._lose_away(away, away.started > 0.0, reason, now, commands)
        if self._claims_end_at <= now:
            self._claims_end_at = math.inf
            self._cancel_unclaimed(now, commands)
        for task_id in self._alarms.pop_due(now):
            record = self._tasks.get(task_id)
            if record is not None and record.next_alarm <= now:
                self._on_alarm(record, now, commands)
        for name in self._holds.pop_due(now):
            waiting = self._held.pop(name)
            expired = [record for record in waiting if record.held_until <= now]
            rest = [record for record in waiting if record.held_until > now]
            for record in expired:
                record.step(Step.REFUSE)
                self._forget(record)
                self._forget_key(record.spec)
                self._refused += 1
                event = record.event(error=self._explain(name, unknown))
                commands += self._news(record, event)
            if rest:
                self._held[name] = rest
                self._holds.set(name, rest[0].held_until)
        return commands

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
        commands: list[SchedulerCommand] = []
        self._known.announce(worker.functions.values())
        for function in event.functions:
            queued = self._held.pop(function.name, [])
            self._holds.clear(function.name)
            if queued:
                commands.append(SubmitDecided(SubmitReply(), queued))
            for record in queued:
                record.step(Step.QUEUE)
                self._waiting.add(record)
                self.changes.mark(record)
                commands += self._news(record, record.event())
        self._keep_attempts(worker, event.held, now, commands)
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
        worker = self._workers.pop(key, None)
        if worker is None:
            return []
        self._known.withdraw(worker.functions.values())
        commands: list[SchedulerCommand] = []
        alone = worker.solo
        presumed = [] if is_clean else worker.presumed_started()
        suspects = {record.spec.id for record in presumed}
        for lane in worker.lanes.values():
            for record in list(lane.leased.values()):
                fate = self._fate(record, worker, reason)
                if record.state is TaskState.STARTED or record.spec.id in suspects:
                    record.last_ending, record.loss = Ending.LOST, reason
                if fate is None and record.spec.id in suspects:
                    if record is alone:
                        record.losses = (*record.losses, reason)
                        if len(record.losses) >= MAX_SOLO_LOSSES:
                            fate = Step.FAIL, _poison(record.losses)
                    else:
                        record.uncounted += 1
                    record.is_solo = True
                elif fate is None:
                    record.uncounted += 1
                    record.is_wary = record.is_wary or not is_clean
                if fate is not None:
                    step, error = fate
                    self._end(record, step, now, commands, error=error, ending=Ending.LOST)
                worker.release(record)
                if fate is None:
                    self._requeue(record, Step.LOSE, commands)
        return commands

    def _fate(
        self, record: TaskRecord, worker: SubworkerRecord, reason: str
    ) -> tuple[Step, str] | None:
        """How a task ends that must not run again although its worker is lost."""
        if record.is_cancel_requested:
            return Step.CANCEL, reason
        if worker.functions[record.spec.name].on_lost == "fail":
            return Step.FAIL, f"lost: {reason}; it is not run again (on_lost='fail')"
        if record.has_yielded:
            return Step.FAIL, f"lost: {reason}; {_HAS_YIELDED}"
        return None

    def _requeue(
        self, record: TaskRecord, step: Step, commands: list[SchedulerCommand]
    ) -> None:
        was_started = record.state is TaskState.STARTED
        record.step(step)
        record.started = 0.0
        record.holder, record.holder_label = b"", ""
        self.changes.mark(record)
        record.progress, record.message = -1.0, ""
        self._waiting.add(record)
        self._set_alarm(record)
        if was_started:
            commands += self._news(record, record.event())

    # --- reports ---

    def _current(self, task_id: str, attempt: int, key: bytes, epoch: int) -> TaskRecord | None:
        """The record if this fence is the live one, else None."""
        record = self._tasks.get(task_id)
        if (
            record is None
            or record.worker is None
            or record.worker.key != key
            or record.fence != attempt
            or record.fence_epoch != epoch
        ):
            return None
        return record

    def _on_report(self, key: bytes, report: Report, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        worker = self._workers.get(key)
        # First: a subworker that breaks a rule here has told nothing.
        for value in report.yielded:
            self._apply_yielded(key, report.epoch, value, commands)
        for started in report.started:
            self._apply_started(key, report.epoch, started, commands)
        for ended in report.ended:
            self._apply_ended(key, report.epoch, ended, now, commands)
        for item in report.handed_back:
            record = self._current(item.task_id, item.attempt, key, report.epoch)
            if record is None:
                self._stale_reports += 1
                continue
            assert worker is not None
            # It may have started, and then have been interrupted.
            was_started = item.was_started or record.state is TaskState.STARTED
            worker.block(record.spec.name, is_blocked=not was_started)
            worker.release(record)
            record.uncounted += 1
            if was_started:
                record.note_started()
            if record.is_cancel_requested:
                self._end(record, Step.CANCEL, now, commands, ending=record.last_ending)
            elif record.has_yielded:
                error = f"lost: {worker.label} ended while it ran; {_HAS_YIELDED}"
                self._end(record, Step.FAIL, now, commands, error=error, ending=Ending.LOST)
            elif was_started and worker.functions[record.spec.name].on_lost == "fail":
                error = "lost: its worker ended first; it is not run again (on_lost='fail')"
                self._end(record, Step.FAIL, now, commands, error=error, ending=Ending.LOST)
            else:
                self._requeue(record, Step.HAND_BACK, commands)
        for news in report.progress:
            record = self._current(news.task_id, news.attempt, key, report.epoch)
            if record is not None:
                record.progress, record.message = news.fraction, news.message
                commands += self._news(record, record.event())
        if worker is not None:
            for name, seconds in report.busy.items():
                if name in worker.functions:
                    worker.measure(name, seconds)
        return commands

    def _apply_started(
        self,
        key: bytes,
        epoch: int,
        started: StartedAttempt,
        commands: list[SchedulerCommand],
    ) -> None:
        record = self._current(started.task_id, started.attempt, key, epoch)
        if record is None or record.state is not TaskState.LEASED:
            self._stale_reports += 1
            return
        record.step(Step.START)
        record.note_started()
        record.started = started.wall
        record.span = started.span
        self.changes.mark(record)
        commands += self._news(record, record.event())

    def _apply_yielded(
        self, key: bytes, epoch: int, value: YieldedValue, commands: list[SchedulerCommand]
    ) -> None:
        record = self._current(value.task_id, value.attempt, key, epoch)
        if record is None:
            self._stale_reports += 1
            return
        if record.stream is None:
            raise RemoteProtocolError(f"task {value.task_id!r} is no stream, and has a value")
        if record.stream.take(value.index):
            passed = StreamValue(value.task_id, value.index, value.format, value.payload)
            commands.append(ValueCame(record.owner, passed))

    def _on_read(self, owner: bytes, read: list[ReadUpTo]) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        for item in read:
            record = self._tasks.get(item.task_id)
            if record is None or record.owner != owner or record.stream is None:
                continue
            if record.stream.note_read(item.count) and record.worker is not None:
                credit = StreamCredit(item.task_id, record.fence, record.stream.read)
                commands.append(PassCredit(record.worker.key, credit))
        return commands

    def _apply_ended(
        self,
        key: bytes,
        epoch: int,
        ended: EndedAttempt,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        record = self._current(ended.task_id, ended.attempt, key, epoch)
        if record is None:
            self._stale_reports += 1
            return
        worker = record.worker
        assert worker is not None
        if ended.span:
            record.span = ended.span
        step = _STEP_OF.get(ended.outcome, Step.FAIL)
        if step is Step.CANCEL and not record.is_cancel_requested:
            step = Step.FAIL
        if step is Step.EXPIRE and not record.may_expire:
            step = Step.FAIL
        function = worker.functions[record.spec.name]
        worker.measure(function.name, ended.seconds)
        if worker.lanes[function.lane].is_blocked:
            worker.block(function.name, is_blocked=False)
        worker.release(record)
        if step is Step.FAIL and self._retry(record, function, ended, now, commands):
            return
        ending = ended.ending
        if ending is Ending.NEVER_STARTED:
            ending = record.last_ending  # an earlier attempt may have started
        record.step(step)
        event = TaskEvent(
            ended.task_id,
            _STATUS_OF[record.state],
            ended.format,
            ended.payload,
            ended.error,
            ended.traceback,
            ended.started or record.started,
            ended.completed,
            worker.label,
            record.fence - record.uncounted,
            False,  # its value is there
            ending,
            ended.signal,
            record.errors,
        )
        self._finish(record, event, now, commands)

    def _retry(
        self,
        record: TaskRecord,
        function: FunctionInfo,
        ended: EndedAttempt,
        now: float,
        commands: list[SchedulerCommand],
    ) -> bool:
        """Let a task whose attempt has failed wait for the next one, if it may."""
        policy, options = function.retry, record.spec.options
        if options is not None and options.retry is not None:
            policy = options.retry.applied_to(policy)
        # Whoever calls may ask for retries, but not of what runs at most once.
        is_final = record.is_cancel_requested or record.has_yielded
        if is_final or function.on_lost == "fail":
            return False
        decision = decide(
            policy,
            failures=record.failures + 1,
            is_retryable=ended.is_retryable,
            time_left=record.deadline_at - now,
            rng=self._rng,
        )
        if decision.delay is None:
            return False
        record.step(Step.RETRY)
        record.fail(ended.error, ended.ending)
        self.metrics.note_retry(record.spec.name, record.spec.priority)
        record.started = 0.0
        record.retry_at = now + decision.delay
        self._retrying[record.spec.id] = record
        self._set_alarm(record)
        self.changes.mark(record)
        commands += self._news(record, record.event())
        return True

    def _on_alarm(
        self, record: TaskRecord, now: float, commands: list[SchedulerCommand]
    ) -> None:
        """Do what it was time for: the next attempt, or none any more."""
        if record.state is TaskState.RETRYING and record.deadline_at > now:
            record.retry_at = math.inf
            del self._retrying[record.spec.id]
            record.step(Step.QUEUE)
            self._waiting.add(record)
            self._set_alarm(record)
            self.changes.mark(record)
            return
        is_late = record.deadline_at <= now
        what = "its deadline passed" if is_late else "it was not started in time"
        where = "while it waited for a retry" if record.failures else "while it was queued"
        self._remove(record, Step.EXPIRE, now, commands, error=f"expired: {what} {where}")

    def _end(
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
        self._finish(record, record.event(error=error, ending=ending), now, commands)

    def _finish(
        self,
        record: TaskRecord,
        event: TaskEvent,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        self._forget(record)
        record.outcome = event
        self.changes.mark(record)
        self._ended[record.state] += 1
        self.metrics.note_end(
            record.spec.name,
            record.spec.priority,
            event.status,
            created=record.spec.created,
            started=event.started,
            ended=event.completed or now + self._wall_offset,
        )
        self.results.put(event, record.content, now=now)
        commands.append(TaskChanged(record.owner, event, True, record.spec.callback))
        if record.joint or record.watchers:
            for key in (*record.joint, *record.watchers):
                commands.append(TaskChanged(key, event, False))
        if event.task_id in self._children:
            children = self._children.pop(event.task_id).values()
            for child in children:
                child.parent = None  # no chain of tasks that have ended is kept
            if event.ending is not Ending.COMPLETED:
                self._doomed.extend(children)

    def _forget(self, record: TaskRecord) -> None:
        spec = record.spec
        del self._tasks[spec.id]
        self._queued_bytes -= record.size
        if len(self._alarms):
            self._alarms.clear(spec.id)
        if spec.options is not None and spec.options.parent:
            family = self._children.get(spec.options.parent)
            if family is not None:
                family.pop(spec.id, None)
                if not family:
                    del self._children[spec.options.parent]
        if record.parent is not None and record.parent.children is not None:
            del record.parent.children[spec.id]

    def _news(self, record: TaskRecord, event: TaskEvent) -> list[SchedulerCommand]:
        """Tell everybody who wants to hear of this task, of which this is not the end."""
        keys = (record.owner, *record.joint, *record.watchers)
        return [TaskChanged(key, event, is_final=False) for key in keys]

    # --- cancelling, watching ---

    def _on_cancel(self, event: TasksCancelled, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        denied: set[str] = set()
        for task_id in event.ids:
            record = self._tasks.get(task_id)
            if record is not None and _is_anothers(record, event.only_of):
                denied.add(task_id)
            elif record is not None:
                if event.watcher is not None:
                    self._watch(record, event.watcher)
                leaver = event.leaver if record.is_shared else None
                if leaver is not None and self._leave(record, leaver):
                    continue
                self._cancel(record, now, commands, event.grace)
        self._cancel_doomed(now, commands)
        events = [
            TaskEvent(task_id, WireStatus.DENIED)
            if task_id in denied
            else self.describe(task_id, now=now)
            for task_id in event.ids
        ]
        return [*commands, TasksDescribed(events)]

    def _cancel(
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
            self.changes.mark(record)
            self._doomed.extend(self._children.get(record.spec.id, {}).values())
            return
        if record.worker is None:
            self._remove(record, Step.CANCEL, now, commands)
            return
        # Asked again it is told again: somebody may have less patience.
        if not record.is_cancel_requested or grace is not None:
            record.is_cancel_requested = True
            self.changes.mark(record)
            order = StopOrder(record.spec.id, record.fence, grace, record.fence_epoch)
            record.worker.stop(order)
        self._doomed.extend(self._children.get(record.spec.id, {}).values())

    def _cancel_doomed(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Cancel the children of whatever was cancelled, and theirs."""
        while self._doomed:
            child = self._doomed.popleft()
            # Whoever submits itself as its own parent gets no endless loop.
            if child.is_shared and (child.joint or child.is_kept):
                continue  # others want it; who has submitted it inside leaves it by itself
            if not child.is_cancel_requested and self._tasks.get(child.spec.id) is child:
                self._cancel(child, now, commands)

    def _remove(
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
            waiting = self._held[record.spec.name]
            waiting.remove(record)
            if not waiting:
                del self._held[record.spec.name]
                self._holds.clear(record.spec.name)
        elif state is TaskState.RETRYING:
            del self._retrying[record.spec.id]
        ending, error = record.last_ending, error or record.loss
        self._end(record, step, now, commands, error=error, ending=ending)
        if state is TaskState.READY:
            self._waiting.discard(record, self._workers.values())

    def _on_watch(self, event: TasksWatched, now: float) -> list[SchedulerCommand]:
        for task_id in event.ids:
            record = self._tasks.get(task_id)
            if record is not None:
                is_anothers = not event.may_take and _is_anothers(record, event.owner)
                if not event.is_owner or is_anothers:
                    self._watch(record, event.owner)
                elif not record.is_shared:
                    self._own(record, event.owner)
                elif not self._own_too(record, event.owner):
                    self._watch(record, event.owner)
        return [TasksDescribed([self.describe(each, now=now) for each in event.ids])]

    def _join(
        self, record: TaskRecord, key: bytes, index: int, spec: TaskSpec
    ) -> Refusal | None:
        """Somebody submits a task that is here already."""
        if not record.has_content(spec):
            return _conflict(index, spec)
        if not record.is_shared:
            self._own(record, key)
        elif not self._own_too(record, key):
            message = f"{MAX_OWNERS:,} clients have submitted task {spec.id!r}; try again later"
            return Refusal(index, RefusalCode.QUEUE_FULL, message)
        return None

    def _own(self, record: TaskRecord, key: bytes) -> None:
        record.owner = key
        # An owner hears everything once.
        record.watchers = tuple(other for other in record.watchers if other != key)

    def _own_too(self, record: TaskRecord, key: bytes) -> bool:
        """Note one more who has submitted a task; False if they are too many."""
        if record.owner is None:
            self._own(record, key)
        elif key not in record.owners:
            if len(record.owners) >= MAX_OWNERS:
                return False
            record.joint = (*record.joint, key)
            self._mark(record)
            record.watchers = tuple(other for other in record.watchers if other != key)
        return True

    def _leave(self, record: TaskRecord, key: bytes) -> bool:
        """Note that one of the owners does not want a task; say whether others do."""
        self._disown(record, key)
        self._watch(record, key)  # it still wants to know when nothing runs any more
        return bool(record.owners) or record.is_kept

    def _disown(self, record: TaskRecord, key: bytes) -> None:
        others = [other for other in record.owners if other != key]
        record.owner = others[0] if others else None
        record.joint = tuple(others[1:])

    def _watch(self, record: TaskRecord, key: bytes) -> None:
        if key not in (record.owner, *record.joint, *record.watchers):
            record.watchers = (*record.watchers, key)[-MAX_WATCHERS:]

    def _on_owner_gone(self, owner: bytes, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        for record in list(self._tasks.values()):
            if owner in record.watchers:
                record.watchers = tuple(other for other in record.watchers if other != owner)
            if owner not in record.owners or record.spec.id not in self._tasks:
                continue  # another's, or gone by now with its parent
            self._disown(record, owner)
            if record.is_shared:
                # Whoever comes back with its key shall find it.
                self._keep(record)
            elif record.spec.attached:
                self._cancel(record, now, commands)
        return commands

    def _keep(self, record: TaskRecord) -> None:
        """Somebody wants a task who cannot be asked any more."""
        if not record.is_kept:
            record.is_kept = True
            self._mark(record)

    def _mark(self, record: TaskRecord) -> None:
        """The store is to know what has become of a task, if it has it at all."""
        if record.state is not TaskState.HELD:
            self.changes.mark(record)

    # --- what operators do ---

    def _on_requeued(self, tasks: list[StoredTask], now: float) -> list[SchedulerCommand]:
        done: list[str] = []
        untouched: list[Untouched] = []
        unsettled = self.changes.ids()
        for task in tasks:
            spec = task.spec
            reason = self._why_not_ended(task, unsettled) or self._fullness(spec)
            if spec.options is not None and spec.options.stream:
                reason = "it was a stream, whose reader is gone"
            if reason:
                untouched.append(Untouched(spec.id, reason[:256]))
                continue
            # Whoever submitted it has had its outcome; what it was in time for is over.
            spec = msgspec.structs.replace(spec, attached=False, expires=None, budget=None)
            self._submitted += 1
            self._sequence += 1
            record = TaskRecord(spec, self._sequence, None)
            record.is_requeued = True
            record.span = task.life.span
            self.results.forget(spec.id)
            self.changes.mark_purged(spec.id)
            self._take_back(record)
            record.step(Step.QUEUE)
            self._waiting.add(record)
            self.changes.mark(record)
            done.append(spec.id)
        return [ActionDone(done, untouched)]

    def _on_purged(self, tasks: list[StoredTask]) -> list[SchedulerCommand]:
        done: list[str] = []
        untouched: list[Untouched] = []
        unsettled = self.changes.ids()
        for task in tasks:
            reason = self._why_not_ended(task, unsettled)
            if reason:
                untouched.append(Untouched(task.spec.id, reason))
                continue
            self.results.forget(task.spec.id)
            self.changes.mark_purged(task.spec.id)
            done.append(task.spec.id)
        return [ActionDone(done, untouched)]

    def _why_not_ended(self, task: StoredTask, unsettled: set[str]) -> str:
        """Why nothing is done with a task; empty if it has ended, and this is its row."""
        record = self._tasks.get(task.spec.id)
        if record is not None:
            return f"it has not ended: it is {record.state.value}"
        is_settled = task.state.is_terminal and task.spec.id not in unsettled
        return "" if is_settled else "its end is not in the store yet"

    # --- after a restart ---

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
            restore_life(record, task.life, self._wall_offset)
            record.has_row = record.is_durable = record.is_restored = True
            self._sequence = max(self._sequence, task.sequence)
            self._submitted += 1
            self._take_back(record)
            if record.stream is not None:
                self._wait_again(record, TaskState.READY)
                error = "lost: the control plane restarted, and values of this stream with it"
                self._remove(record, Step.CANCEL, now, commands, error=error)
            elif task.state is StoredState.RETRYING:
                self._wait_again(record, TaskState.RETRYING)
            elif task.state is StoredState.QUEUED:
                self._wait_again(record, TaskState.READY)
            else:
                record.state = _LEASED_STATES[task.state]
                record.step(Step.RESTART)
                record.holder, record.holder_label = task.life.holder, task.life.worker
                if record.holder:
                    self._away.add(record, ends_at)
                else:
                    reason = "the process of the control plane, in which it ran, ended"
                    self._lose_away(record, True, reason, now, commands, is_suspect=False)
        if self._tasks:
            self._hold_until = now + HOLD_SECONDS
            self._claims_end_at = ends_at
        return commands

    def restore_sequence(self, last: int) -> None:
        """Give out only numbers that come after this one."""
        self._sequence = max(self._sequence, last)

    @property
    def _is_holding(self) -> bool:
        return self._hold_until > -math.inf

    def _take_back(self, record: TaskRecord) -> None:
        spec = record.spec
        self._tasks[spec.id] = record
        self._queued_bytes += record.size
        self._join_family(record)

    def _wait_again(self, record: TaskRecord, state: TaskState) -> None:
        record.state = state
        if state is TaskState.RETRYING:
            self._retrying[record.spec.id] = record
        else:
            record.retry_at = math.inf
            self._waiting.add(record)
        self._set_alarm(record)

    def _keep_attempts(
        self,
        worker: SubworkerRecord,
        held: list[HeldAttempt],
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        """Let a subworker that comes back go on with what it was leased before a restart."""
        away = self._away.take(worker.holder) if worker.holder else {}
        for item in held:
            record = self._tasks.get(item.task_id)
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
            self._lose_away(record, record.started > 0.0, reason, now, commands)

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
            self._waiting.remove(record)
        record.step(Step.RESUME)
        record.fence, record.fence_epoch = item.attempt, item.epoch
        record.holder, record.holder_label = b"", ""
        worker.lease(record)
        if item.started or record.started:
            record.step(Step.START)
            record.note_started()
        if record.is_cancel_requested:
            worker.stop(StopOrder(record.spec.id, record.fence, None, record.fence_epoch))
        self.changes.mark(record)

    def _lose_away(
        self,
        record: TaskRecord,
        was_running: bool,
        reason: str,
        now: float,
        commands: list[SchedulerCommand],
        *,
        is_suspect: bool = True,
    ) -> None:
        """A lease of before the restart has ended without a word of its attempt.

        Not ``is_suspect``: its worker ended because the control plane did, for which
        there are more likely reasons than the task. It is one if that happens again.
        """
        if was_running or record.is_careful:
            record.last_ending, record.loss = Ending.LOST, reason
        fate: tuple[Step, str] | None = None
        if record.is_cancel_requested:
            fate = Step.CANCEL, reason
        elif record.is_careful:
            fate = Step.FAIL, f"lost: {reason}; it is not run again (on_lost='fail')"
        elif was_running and record.is_solo:
            record.losses = (*record.losses, reason)
            if len(record.losses) >= MAX_SOLO_LOSSES:
                fate = Step.FAIL, _poison(record.losses)
        else:
            record.uncounted += 1
            if was_running and (is_suspect or record.is_wary):
                record.is_solo = True
            record.is_wary = True
        if fate is not None:
            step, error = fate
            self._end(record, step, now, commands, error=error, ending=Ending.LOST)
        else:
            self._requeue(record, Step.LOSE, commands)

    def _on_children_ended(self, worker_ids: list[str], now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        reason = "its worker ended with the control plane that had started it"
        for record in self._away.take_of(worker_ids):
            was_running = record.started > 0.0
            self._lose_away(record, was_running, reason, now, commands, is_suspect=False)
        return commands

    def _cancel_unclaimed(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Cancel attached tasks whose clients have not come back after a restart."""
        for record in list(self._tasks.values()):
            is_unclaimed = record.is_restored and record.owner is None
            is_unclaimed = is_unclaimed and not record.is_shared
            if is_unclaimed and record.spec.attached and record.spec.id in self._tasks:
                self._cancel(record, now, commands)

    def withdraw(self, records: list[TaskRecord], *, now: float) -> list[TaskRecord]:
        """Forget new tasks that the store could not take, and that nobody was given.

        Returns those that were forgotten; the others may run already, and stay. So do
        those that are to run again: of their end nothing is known any more.
        """
        gone: list[TaskRecord] = []
        for record in records:
            if record.state is not TaskState.READY or record.fence or record.is_requeued:
                continue
            self._waiting.remove(record)
            record.step(Step.WITHDRAW)
            self.changes.forget(record)
            self._forget(record)
            self._forget_key(record.spec)
            self._refused += 1
            gone.append(record)
        return gone

    # --- handing out ---

    def _on_dispatch(self, event: Dispatch, now: float) -> list[SchedulerCommand]:
        known = self._workers
        workers = [worker for key in event.keys if (worker := known.get(key)) is not None]
        if not self._waiting.has_suspects:
            # Most of a hundred are full at any moment, and would only be looked at.
            workers = [worker for worker in workers if worker.wants_round]
        rounds = [Round(worker, self._epoch, now) for worker in workers]
        if not event.only_cancels and not self._is_holding:
            self._waiting.place(rounds, self._workers.values(), event.avoids_careful)
        commands: list[SchedulerCommand] = []
        for given in rounds:
            if not given.assignments and not given.worker.cancels:
                continue  # as most of a hundred
            for assignment in given.assignments:
                self.changes.mark(self._tasks[assignment.task_id])
            cancels = given.worker.take_cancels()
            commands.append(Assign(given.worker.key, given.assignments, cancels, given.careful))
        return commands


_HAS_YIELDED: Final = "it is not run again, because it had given values"


def _poison(losses: tuple[str, ...]) -> str:
    reasons = "; ".join(losses)
    return f"{POISON}{len(losses)} times while it ran alone there ({reasons})"


def _conflict(index: int, spec: TaskSpec) -> Refusal:
    what = "task id" if spec.key_ttl is None else "the idempotency key of task"
    message = f"{what} {spec.id!r} is already used by a task with other content"
    return Refusal(index, RefusalCode.CONFLICT, message)


_STEP_OF = {
    WireStatus.SUCCESS: Step.SUCCEED,
    WireStatus.FAILURE: Step.FAIL,
    WireStatus.CANCELLED: Step.CANCEL,
    WireStatus.EXPIRED: Step.EXPIRE,
}
_LEASED_STATES = {
    StoredState.LEASED: TaskState.LEASED,
    StoredState.STARTED: TaskState.STARTED,
}
_STATUS_OF = {
    TaskState.SUCCESS: WireStatus.SUCCESS,
    TaskState.FAILURE: WireStatus.FAILURE,
    TaskState.CANCELLED: WireStatus.CANCELLED,
    TaskState.EXPIRED: WireStatus.EXPIRED,
}


def _is_anothers(record: TaskRecord, key: bytes | None) -> bool:
    """Whether somebody has this task, and it is not this one; None may be anybody."""
    return key is not None and bool(record.owners) and key not in record.owners
