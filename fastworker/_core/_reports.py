"""What subworkers tell of their attempts, as far as it is about leases that still count."""

from __future__ import annotations

import random
from collections.abc import Mapping

from fastworker._core._losses import HAS_YIELDED, ON_LOST_FAIL
from fastworker._core._messages import (
    EndedAttempt,
    Ending,
    FunctionInfo,
    HandedBack,
    HeldAttempt,
    ReadUpTo,
    Report,
    StartedAttempt,
    StreamCredit,
    StreamValue,
    TaskEvent,
    WireStatus,
    YieldedValue,
)
from fastworker._core._open_tasks import OpenTasks
from fastworker._core._retry import decide
from fastworker._core._scheduler_events import PassCredit, SchedulerCommand, ValueCame
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord, TaskState
from fastworker._errors import RemoteProtocolError


class Reports:
    """Applies them to the open tasks.

    Args:
      workers: all that have joined, by key, as they are at any moment.
      rng: draws the jitter of retries.
    """

    def __init__(
        self,
        open_tasks: OpenTasks,
        workers: Mapping[bytes, SubworkerRecord],
        rng: random.Random,
    ) -> None:
        self._open = open_tasks
        self._workers = workers
        self._rng = rng
        self.stale = 0  # parts of reports about leases that do not count any more

    def current(self, task_id: str, attempt: int, key: bytes, epoch: int) -> TaskRecord | None:
        """The record if this fence is the live one, else None."""
        record = self._open.by_id.get(task_id)
        if (
            record is None
            or record.worker is None
            or record.worker.key != key
            or record.fence != attempt
            or record.fence_epoch != epoch
        ):
            return None
        return record

    def kept(self, key: bytes, held: list[HeldAttempt]) -> list[HeldAttempt]:
        """Those of these attempts that are leased to this subworker now."""
        return [
            item
            for item in held
            if self.current(item.task_id, item.attempt, key, item.epoch) is not None
        ]

    def apply(self, key: bytes, report: Report, now: float) -> list[SchedulerCommand]:
        """Apply all that a subworker tells at once."""
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
            record = self.current(item.task_id, item.attempt, key, report.epoch)
            if record is None:
                self.stale += 1
                continue
            assert worker is not None
            self._take_back(record, worker, item, now, commands)
        for news in report.progress:
            record = self.current(news.task_id, news.attempt, key, report.epoch)
            if record is not None:
                record.progress, record.message = news.fraction, news.message
                commands += self._open.news(record, record.event())
        if worker is not None:
            for name, seconds in report.busy.items():
                if name in worker.functions:
                    worker.measure(name, seconds)
        return commands

    def note_read(self, owner: bytes, read: list[ReadUpTo]) -> list[SchedulerCommand]:
        """A client has read values of streams: their generators may go on."""
        commands: list[SchedulerCommand] = []
        for item in read:
            record = self._open.by_id.get(item.task_id)
            if record is None or record.owner != owner or record.stream is None:
                continue
            if record.stream.note_read(item.count) and record.worker is not None:
                credit = StreamCredit(item.task_id, record.fence, record.stream.read)
                commands.append(PassCredit(record.worker.key, credit))
        return commands

    def _apply_yielded(
        self, key: bytes, epoch: int, value: YieldedValue, commands: list[SchedulerCommand]
    ) -> None:
        record = self.current(value.task_id, value.attempt, key, epoch)
        if record is None:
            self.stale += 1
            return
        if record.stream is None:
            raise RemoteProtocolError(f"task {value.task_id!r} is no stream, and has a value")
        if record.stream.take(value.index):
            passed = StreamValue(value.task_id, value.index, value.format, value.payload)
            commands.append(ValueCame(record.owner, passed))

    def _apply_started(
        self,
        key: bytes,
        epoch: int,
        started: StartedAttempt,
        commands: list[SchedulerCommand],
    ) -> None:
        record = self.current(started.task_id, started.attempt, key, epoch)
        if record is None or record.state is not TaskState.LEASED:
            self.stale += 1
            return
        record.step(Step.START)
        record.note_started()
        record.started = started.wall
        record.span = started.span
        self._open.changes.mark(record)
        commands += self._open.news(record, record.event())

    def _apply_ended(
        self,
        key: bytes,
        epoch: int,
        ended: EndedAttempt,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        record = self.current(ended.task_id, ended.attempt, key, epoch)
        if record is None:
            self.stale += 1
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
        self._open.finish(record, event, now, commands)

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
        record.fail(ended.error, ended.ending)
        self._open.metrics.note_retry(record.spec.name, record.spec.priority)
        self._open.retry(record, now + decision.delay)
        commands += self._open.news(record, record.event())
        return True

    def _take_back(
        self,
        record: TaskRecord,
        worker: SubworkerRecord,
        item: HandedBack,
        now: float,
        commands: list[SchedulerCommand],
    ) -> None:
        """A subworker does not want an attempt, or has interrupted it to end."""
        # It may have started, and then have been interrupted.
        was_started = item.was_started or record.state is TaskState.STARTED
        worker.block(record.spec.name, is_blocked=not was_started)
        worker.release(record)
        record.uncounted += 1
        if was_started:
            record.note_started()
        if record.is_cancel_requested:
            self._open.end(record, Step.CANCEL, now, commands, ending=record.last_ending)
        elif record.has_yielded:
            error = f"lost: {worker.label} ended while it ran; {HAS_YIELDED}"
            self._open.end(record, Step.FAIL, now, commands, error=error, ending=Ending.LOST)
        elif was_started and worker.functions[record.spec.name].on_lost == "fail":
            error = f"lost: its worker ended first; {ON_LOST_FAIL}"
            self._open.end(record, Step.FAIL, now, commands, error=error, ending=Ending.LOST)
        else:
            self._open.requeue(record, Step.HAND_BACK, commands)


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
