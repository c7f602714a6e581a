"""The control plane's machine for tasks: who runs what, when, and what if somebody dies.

It knows nothing of sessions or frames. Clients are opaque owner keys,
subworkers are keys that the caller introduces. Handing out work is a step of
its own (Dispatch), taken when everything that has arrived is applied, so that
what goes out together travels together.
"""

from __future__ import annotations

import bisect
import difflib
import heapq
import math
import random
from typing import Final, assert_never

import msgspec

from fastworker._core._deadlines import Deadlines
from fastworker._core._messages import (
    EndedAttempt,
    Ending,
    FunctionInfo,
    Lease,
    Refusal,
    RefusalCode,
    Report,
    StartedAttempt,
    StopOrder,
    SubmitReply,
    TaskEvent,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._placement import Round, least_loaded
from fastworker._core._ready_queue import PRIORITIES, ReadyQueue
from fastworker._core._results import Results
from fastworker._core._retry import RetryPolicy, decide
from fastworker._core._scheduler_events import (
    Assign,
    AttemptsReported,
    CapacityStated,
    Dispatch,
    OwnerGone,
    SchedulerCommand,
    SchedulerEvent,
    SubmitDecided,
    SubworkerJoined,
    SubworkerLost,
    TaskChanged,
    TasksCancelled,
    TasksDescribed,
    TasksSubmitted,
    TasksWatched,
)
from fastworker._core._subworkers import SubworkerRecord, SubworkerStatus
from fastworker._core._task_states import Step, TaskRecord, TaskState, content_digest

# A task of a name that nobody knows yet is held this long: at start-up the
# clients may be faster than the subworkers.
UNKNOWN_NAME_SECONDS: Final = 5.0
# A task that was running alone when its worker died, this often, is poison.
MAX_SOLO_LOSSES: Final = 3
# Names come from outside, and the wire has a limit for a line of text.
MESSAGE_LENGTH: Final = 2000
# So many may watch a task besides its owner; of more, the first hear nothing.
MAX_WATCHERS: Final = 16


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """A snapshot.

    submitted = refused + held + ready + leased + started + retrying + ended.
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
    subworkers: list[SubworkerStatus]
    retrying: int = 0
    expired: int = 0


class Scheduler:
    """The machine.

    Args:
      epoch: this control plane's start counter, part of every fence.
      results: where outcomes are kept.
      now: the time of the start, in seconds.
      rng: draws the jitter of retries.
    """

    def __init__(self, *, epoch: int, results: Results, now: float, rng: random.Random) -> None:
        self._rng = rng
        self.results = results
        self._epoch = epoch
        self._started_at = now
        self._tasks: dict[str, TaskRecord] = {}
        self._ready = ReadyQueue()
        # READY, but to be run alone; by priority, then by sequence
        self._suspects: list[TaskRecord] = []
        self._held: dict[str, list[TaskRecord]] = {}
        self._holds: Deadlines[str] = Deadlines()
        self._retrying: dict[str, TaskRecord] = {}
        self._alarms: Deadlines[str] = Deadlines()  # of tasks that have such a time
        # By the task that has submitted them, from inside: it takes them along.
        self._children: dict[str, dict[str, TaskRecord]] = {}
        self._workers: dict[bytes, SubworkerRecord] = {}
        self._known: dict[str, FunctionInfo] = {}
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
        match event:
            case Dispatch(keys=keys, only_cancels=only_cancels):
                return self._on_dispatch(keys, only_cancels, now)
            case AttemptsReported(key=key, report=report):
                return self._on_report(key, report, now)
            case TasksSubmitted(owner=owner, tasks=tasks):
                return self._on_submit(owner, tasks, now)
            case CapacityStated(key=key, lease=lease):
                return self._on_capacity(key, lease)
            case SubworkerJoined():
                return self._on_join(event)
            case SubworkerLost(key=key, reason=reason, is_clean=is_clean):
                return self._on_lost(key, reason, is_clean, now)
            case TasksCancelled():
                return self._on_cancel(event, now)
            case TasksWatched():
                return self._on_watch(event, now)
            case OwnerGone(owner=owner):
                return self._on_owner_gone(owner, now)
            case DeadlinePassed():
                return self._on_deadline(now)
            case _:
                assert_never(event)

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(self._holds.next(), self._alarms.next())

    # --- reading ---

    def describe(self, task_id: str, *, now: float) -> TaskEvent:
        """Say what is known of a task."""
        record = self._tasks.get(task_id)
        if record is not None:
            return record.event()
        return self.results.get(task_id, now=now) or TaskEvent(task_id, WireStatus.UNKNOWN)

    @property
    def has_work(self) -> bool:
        """Whether Dispatch could have anything to hand out."""
        return (
            len(self._ready) > 0
            or bool(self._suspects)
            or any(worker.cancels for worker in self._workers.values())
        )

    @property
    def leased_count(self) -> int:
        """How many attempts subworkers hold."""
        return sum(worker.leased_count for worker in self._workers.values())

    def subworker_status(self, key: bytes) -> SubworkerStatus:
        """Describe one subworker that has joined and is not lost."""
        return self._workers[key].status()

    @property
    def known_functions(self) -> dict[str, FunctionInfo]:
        """Every task function that a subworker has announced in this epoch."""
        return self._known

    def is_leased(self, task_id: str, attempt: int, key: bytes) -> bool:
        """Whether this attempt is leased to this subworker now."""
        return self._current(task_id, attempt, key, self._epoch) is not None

    def statistics(self) -> SchedulerStatistics:
        """Return a snapshot."""
        workers = [worker.status() for worker in self._workers.values()]
        started = sum(status.started for status in workers)
        ready = self._ready.counts()
        for record in self._suspects:
            ready[record.spec.priority] += 1
        return SchedulerStatistics(
            submitted=self._submitted,
            refused=self._refused,
            held=sum(len(records) for records in self._held.values()),
            ready=ready,
            leased=sum(status.leased for status in workers) - started,
            started=started,
            succeeded=self._ended[TaskState.SUCCESS],
            failed=self._ended[TaskState.FAILURE],
            cancelled=self._ended[TaskState.CANCELLED],
            stale_reports=self._stale_reports,
            subworkers=workers,
            retrying=len(self._retrying),
            expired=self._ended[TaskState.EXPIRED],
        )

    def check(self) -> None:
        """Assert every invariant."""
        self._ready.check()
        self.results.check()
        places: dict[str, int] = dict.fromkeys(self._tasks, 0)
        for record in [*self._ready.records(), *self._suspects]:
            assert record.state is TaskState.READY
            assert record.worker is None
            places[record.spec.id] += 1
        for records in self._held.values():
            for record in records:
                assert record.state is TaskState.HELD
                places[record.spec.id] += 1
        for task_id, record in self._retrying.items():
            assert record.state is TaskState.RETRYING
            places[task_id] += 1
        for parent, children in self._children.items():
            assert children, f"{parent} has an empty family"
            for task_id, record in children.items():
                assert self._tasks.get(task_id) is record
        for worker in self._workers.values():
            worker.check()
            for lane in worker.lanes.values():
                for task_id, record in lane.leased.items():
                    assert self._tasks.get(task_id) is record
                    places[task_id] += 1
        assert all(count == 1 for count in places.values()), f"not in one place: {places}"
        for worker in self._workers.values():
            for alone in (worker.solo, worker.reserved_for):
                assert alone is None or alone.is_solo
        snapshot = self.statistics()
        assert snapshot.submitted == (
            snapshot.refused
            + snapshot.held
            + sum(snapshot.ready)
            + snapshot.leased
            + snapshot.started
            + snapshot.retrying
            + snapshot.succeeded
            + snapshot.failed
            + snapshot.cancelled
            + snapshot.expired
        ), f"the numbers do not agree: {snapshot}"

    # --- submitting ---

    def _on_submit(
        self, owner: bytes, tasks: list[TaskSpec], now: float
    ) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        refusals: list[Refusal] = []
        held: list[int] = []
        queued: list[TaskRecord] = []
        for index, spec in enumerate(tasks):
            known = self._tasks.get(spec.id)
            if known is not None:
                if known.has_content(spec):
                    known.owner = owner
                    if known.state is TaskState.HELD:
                        held.append(index)
                else:
                    refusals.append(_conflict(index, spec))
                continue
            ended = self.results.get(spec.id, now=now)
            if ended is not None:
                content = self.results.content(spec.id, now=now)
                if content is None or content == content_digest(spec):
                    commands.append(TaskChanged(owner, ended, is_final=False))
                else:
                    refusals.append(_conflict(index, spec))
                continue
            self._submitted += 1
            self._sequence += 1
            record = self._new_record(spec, owner, now)
            if spec.name in self._known:
                self._accept(record)
                record.step(Step.QUEUE)
                self._ready.push(record)
                queued.append(record)
            elif self._workers and now >= self._started_at + UNKNOWN_NAME_SECONDS:
                self._refused += 1
                message = self._unknown_name(spec.name)
                refusals.append(Refusal(index, RefusalCode.UNKNOWN_TASK, message))
                continue
            else:
                self._accept(record)
                record.held_until = now + UNKNOWN_NAME_SECONDS
                waiting = self._held.setdefault(spec.name, [])
                waiting.append(record)
                if len(waiting) == 1:
                    self._holds.set(spec.name, record.held_until)
                held.append(index)
            if self._is_orphan(spec, now):
                # It was still under way when its parent was cancelled.
                self._cancel(record, now, commands)
        commands.insert(0, SubmitDecided(SubmitReply(refusals, held), queued))
        return commands

    def _is_orphan(self, spec: TaskSpec, now: float) -> bool:
        """Whether the task that submits this one was cancelled."""
        if spec.options is None or not spec.options.parent:
            return False
        parent = self._tasks.get(spec.options.parent)
        if parent is not None:
            return parent.is_cancel_requested
        ended = self.results.get(spec.options.parent, now=now)
        return ended is not None and ended.ending is not Ending.COMPLETED

    def _new_record(self, spec: TaskSpec, owner: bytes, now: float) -> TaskRecord:
        record = TaskRecord(spec, self._sequence, owner)
        if spec.expires is not None:
            record.expires_at = now + spec.expires
        if spec.budget is not None:
            record.deadline_at = now + spec.budget
        return record

    def _accept(self, record: TaskRecord) -> None:
        """From now on the task is ours to keep."""
        spec = record.spec
        self._tasks[spec.id] = record
        self._set_alarm(record)
        if spec.options is not None and spec.options.parent:
            self._children.setdefault(spec.options.parent, {})[spec.id] = record

    def _set_alarm(self, record: TaskRecord) -> None:
        at = record.next_alarm
        if at < math.inf:
            self._alarms.set(record.spec.id, at)

    def _unknown_name(self, name: str) -> str:
        if not self._known:
            return (
                f"unknown task {name!r}: no worker has registered any task; start the "
                f"control plane or a subworker with --task-modules"
            )
        near = difflib.get_close_matches(name, self._known, n=3)
        if near:
            message = f"unknown task {name!r}; did you mean {' or '.join(map(repr, near))}?"
            return message[:MESSAGE_LENGTH]
        some = ", ".join(sorted(self._known)[:8])
        more = len(self._known) - 8
        tail = f" and {more} more" if more > 0 else ""
        return f"unknown task {name!r}; the workers know {some}{tail}"[:MESSAGE_LENGTH]

    def _on_deadline(self, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
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
                self._refused += 1
                event = record.event(error=self._unknown_name(name))
                commands += self._news(record, event)
            if rest:
                self._held[name] = rest
                self._holds.set(name, rest[0].held_until)
        return commands

    # --- subworkers ---

    def _on_join(self, event: SubworkerJoined) -> list[SchedulerCommand]:
        self._joined += 1
        labels = {worker.label for worker in self._workers.values()}
        label, count = event.worker_id, 1
        while label in labels:
            count += 1
            # It has to stay short enough for the wire.
            label = f"{event.worker_id[:240]}#{count}"
        worker = SubworkerRecord(event.key, label, event.address, event.functions, self._joined)
        self._workers[event.key] = worker
        commands: list[SchedulerCommand] = []
        for function in event.functions:
            self._known[function.name] = function
            queued = self._held.pop(function.name, [])
            self._holds.clear(function.name)
            if queued:
                commands.append(SubmitDecided(SubmitReply(), queued))
            for record in queued:
                record.step(Step.QUEUE)
                self._ready.push(record)
                commands += self._news(record, record.event())
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
        commands: list[SchedulerCommand] = []
        was_alone = worker.solo is not None
        presumed = [] if is_clean else worker.presumed_started()
        suspects = {record.spec.id for record in presumed}
        for lane in worker.lanes.values():
            for record in list(lane.leased.values()):
                record.has_run = record.has_run or record.spec.id in suspects
                fate = self._fate(record, worker, reason)
                if fate is None and record.spec.id in suspects:
                    if was_alone:
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
        return None

    def _requeue(
        self, record: TaskRecord, step: Step, commands: list[SchedulerCommand]
    ) -> None:
        was_started = record.state is TaskState.STARTED
        record.step(step)
        record.started = 0.0
        record.progress, record.message = -1.0, ""
        self._make_ready(record)
        self._set_alarm(record)
        if was_started:
            commands += self._news(record, record.event())

    def _make_ready(self, record: TaskRecord) -> None:
        if record.is_solo:
            bisect.insort(self._suspects, record, key=_rank)
        else:
            self._ready.push(record)

    # --- reports ---

    def _current(self, task_id: str, attempt: int, key: bytes, epoch: int) -> TaskRecord | None:
        """The record if this fence is the live one, else None."""
        record = self._tasks.get(task_id)
        if (
            record is None
            or record.worker is None
            or record.worker.key != key
            or record.fence != attempt
            or epoch != self._epoch
        ):
            return None
        return record

    def _on_report(self, key: bytes, report: Report, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        worker = self._workers.get(key)
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
            was_started = record.state is TaskState.STARTED  # and then interrupted
            worker.lane_of(record.spec.name).is_blocked = not was_started
            worker.release(record)
            record.uncounted += 1
            if record.is_cancel_requested:
                self._end(record, Step.CANCEL, now, commands, ending=_unended(record))
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
        record.has_run = True
        record.started = started.wall
        commands += self._news(record, record.event())

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
        step = _STEP_OF.get(ended.outcome, Step.FAIL)
        if step is Step.CANCEL and not record.is_cancel_requested:
            step = Step.FAIL
        if step is Step.EXPIRE and record.state is TaskState.STARTED:
            step = Step.FAIL
        policy = worker.functions[record.spec.name].retry
        worker.measure(record.spec.name, ended.seconds)
        worker.lane_of(record.spec.name).is_blocked = False
        worker.release(record)
        # This attempt may never have started, and an earlier one have run.
        unstarted = ended.ending is Ending.NEVER_STARTED
        record.has_run = record.has_run or not unstarted
        if step is Step.FAIL and self._retry(record, policy, ended, now, commands):
            return
        record.step(step)
        event = TaskEvent(
            task_id=ended.task_id,
            status=_STATUS_OF[record.state],
            format=ended.format,
            payload=ended.payload,
            error=ended.error,
            traceback=ended.traceback,
            started=ended.started or record.started,
            completed=ended.completed,
            worker_id=worker.label,
            attempts=record.attempts,
            ending=_unended(record) if unstarted else ended.ending,
            signal=ended.signal,
            errors=list(record.errors),
        )
        self._finish(record, event, now, commands)

    def _retry(
        self,
        record: TaskRecord,
        policy: RetryPolicy,
        ended: EndedAttempt,
        now: float,
        commands: list[SchedulerCommand],
    ) -> bool:
        """Let a task whose attempt has failed wait for the next one, if it may."""
        options = record.spec.options
        if options is not None and options.retry is not None:
            policy = options.retry.applied_to(policy)
        if not policy.max_retries or record.is_cancel_requested:
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
        record.fail(ended.error)
        record.started = 0.0
        record.retry_at = now + decision.delay
        self._retrying[record.spec.id] = record
        self._set_alarm(record)
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
            self._make_ready(record)
            self._set_alarm(record)
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
        self._ended[record.state] += 1
        self.results.put(event, content_digest(record.spec), now=now)
        commands.append(TaskChanged(record.owner, event, True, record.spec.callback))
        commands += [TaskChanged(key, event, False) for key in record.watchers]
        if self._children and event.ending is not Ending.COMPLETED:
            self._cancel_children(event.task_id, now, commands)
        self._children.pop(event.task_id, None)

    def _forget(self, record: TaskRecord) -> None:
        spec = record.spec
        del self._tasks[spec.id]
        self._alarms.clear(spec.id)
        if spec.options is not None and spec.options.parent:
            family = self._children.get(spec.options.parent)
            if family is not None:
                family.pop(spec.id, None)
                if not family:
                    del self._children[spec.options.parent]

    def _news(self, record: TaskRecord, event: TaskEvent) -> list[SchedulerCommand]:
        """Tell everybody who wants to hear of this task, of which this is not the end."""
        keys = (record.owner, *record.watchers)
        return [TaskChanged(key, event, is_final=False) for key in keys]

    # --- cancelling, watching ---

    def _on_cancel(self, event: TasksCancelled, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        for task_id in event.ids:
            record = self._tasks.get(task_id)
            if record is not None:
                if event.watcher is not None:
                    self._watch(record, event.watcher)
                self._cancel(record, now, commands, event.grace)
        events = [self.describe(task_id, now=now) for task_id in event.ids]
        return [*commands, TasksDescribed(events)]

    def _cancel(
        self,
        record: TaskRecord,
        now: float,
        commands: list[SchedulerCommand],
        grace: float | None = None,
    ) -> None:
        """Ask a task to stop that a subworker has; end any other."""
        if record.worker is None:
            self._remove(record, Step.CANCEL, now, commands)
            return
        # Asked again it is told again: somebody may have less patience.
        if not record.is_cancel_requested or grace is not None:
            record.is_cancel_requested = True
            record.worker.cancels.append(StopOrder(record.spec.id, record.fence, grace))
        self._cancel_children(record.spec.id, now, commands)

    def _cancel_children(
        self, parent: str, now: float, commands: list[SchedulerCommand]
    ) -> None:
        for child in list(self._children.get(parent, {}).values()):
            # Whoever submits itself as its own parent gets no endless loop.
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
        elif record.is_solo:
            self._suspects.remove(record)
            self._drop_reservation(record)
        self._end(record, step, now, commands, error=error, ending=_unended(record))
        if state is TaskState.READY and not record.is_solo:
            self._ready.discard(record)

    def _on_watch(self, event: TasksWatched, now: float) -> list[SchedulerCommand]:
        for task_id in event.ids:
            record = self._tasks.get(task_id)
            if record is not None:
                if event.is_owner:
                    record.owner = event.owner
                else:
                    self._watch(record, event.owner)
        return [TasksDescribed([self.describe(each, now=now) for each in event.ids])]

    def _watch(self, record: TaskRecord, key: bytes) -> None:
        if key != record.owner and key not in record.watchers:
            record.watchers = (*record.watchers, key)[-MAX_WATCHERS:]

    def _on_owner_gone(self, owner: bytes, now: float) -> list[SchedulerCommand]:
        commands: list[SchedulerCommand] = []
        for record in list(self._tasks.values()):
            if owner in record.watchers:
                record.watchers = tuple(key for key in record.watchers if key != owner)
            if record.owner != owner or record.spec.id not in self._tasks:
                continue  # another's, or gone by now with its parent
            record.owner = None
            if record.spec.attached:
                self._cancel(record, now, commands)
        return commands

    # --- handing out ---

    def _on_dispatch(
        self, keys: list[bytes], only_cancels: bool, now: float
    ) -> list[SchedulerCommand]:
        workers = [self._workers[key] for key in keys if key in self._workers]
        rounds = [Round(worker, now) for worker in workers]
        if not only_cancels:
            self._place(rounds)
        commands: list[SchedulerCommand] = []
        for given in rounds:
            cancels, given.worker.cancels = given.worker.cancels, []
            if given.assignments or cancels:
                commands.append(Assign(given.worker.key, given.assignments, cancels))
        return commands

    def _place(self, rounds: list[Round]) -> None:
        reserved = self._take_reservations() if self._suspects else {}
        for priority in PRIORITIES:
            if self._suspects:
                self._place_suspects(priority, rounds, reserved)
            self._place_priority(priority, rounds)

    def _take_reservations(self) -> dict[str, SubworkerRecord]:
        """Undo all reservations: each is made again in its turn, or is no longer right."""
        reserved: dict[str, SubworkerRecord] = {}
        for worker in self._workers.values():
            if worker.reserved_for is not None:
                reserved[worker.reserved_for.spec.id] = worker
                worker.reserved_for = None
        return reserved

    def _drop_reservation(self, record: TaskRecord) -> None:
        for worker in self._workers.values():
            if worker.reserved_for is record:
                worker.reserved_for = None

    def _place_suspects(
        self, priority: int, rounds: list[Round], reserved: dict[str, SubworkerRecord]
    ) -> None:
        """Lease each to an idle subworker, or keep one free for it.

        They come before the other tasks of their priority, which would else
        keep every subworker from ever being idle.
        """
        hopeless: dict[str, bool] = {}
        for record in [r for r in self._suspects if r.spec.priority == priority]:
            name = record.spec.name
            if name in hopeless:
                continue
            able = [w for w in self._workers.values() if w.can_run_alone(name)]
            if not able:
                hopeless[name] = True
                continue
            kept = reserved.get(record.spec.id)
            idle = [g for g in rounds if not g.worker.leased_count and g.worker in able]
            if idle:
                given = next((g for g in idle if g.worker is kept), idle[0])
                self._suspects.remove(record)
                given.lease(record)
                given.worker.solo = record
            else:
                worker = min(able, key=lambda w: (w is not kept, w.leased_count, w.order))
                worker.reserved_for = record

    def _place_priority(self, priority: int, rounds: list[Round]) -> None:
        heads: list[tuple[int, str]] = []
        for name in self._ready.names(priority):
            if any(name in given.worker.functions for given in rounds):
                head = self._ready.head(priority, name)
                if head is not None:
                    heads.append((head.sequence, name))
        heapq.heapify(heads)
        while heads:
            _, name = heads[0]
            record = self._ready.head(priority, name)
            if record is None:
                heapq.heappop(heads)
                continue
            given = least_loaded(rounds, record)
            if given is None:
                heapq.heappop(heads)
                for other in rounds:
                    other.close_lane(name)
                continue
            self._ready.pop(record)
            given.lease(record)
            if len(heads) > 1:
                following = self._ready.head(priority, name)
                if following is None:
                    heapq.heappop(heads)
                else:
                    heapq.heapreplace(heads, (following.sequence, name))


def _unended(record: TaskRecord) -> Ending:
    """How a task has ended that no attempt is under way of."""
    return Ending.CANCELLED if record.has_run else Ending.NEVER_STARTED


def _poison(losses: tuple[str, ...]) -> str:
    reasons = "; ".join(losses)
    return f"lost: its worker died {len(losses)} times while it ran alone there ({reasons})"


def _rank(record: TaskRecord) -> tuple[int, int]:
    return record.spec.priority, record.sequence


def _conflict(index: int, spec: TaskSpec) -> Refusal:
    message = f"task id {spec.id!r} is already used by a task with other content"
    return Refusal(index, RefusalCode.CONFLICT, message)


_STEP_OF = {
    WireStatus.SUCCESS: Step.SUCCEED,
    WireStatus.FAILURE: Step.FAIL,
    WireStatus.CANCELLED: Step.CANCEL,
    WireStatus.EXPIRED: Step.EXPIRE,
}
_STATUS_OF = {
    TaskState.SUCCESS: WireStatus.SUCCESS,
    TaskState.FAILURE: WireStatus.FAILURE,
    TaskState.CANCELLED: WireStatus.CANCELLED,
    TaskState.EXPIRED: WireStatus.EXPIRED,
}
