"""What becomes of tasks that are submitted: queued, held, joined, answered or refused."""

from __future__ import annotations

from typing import Final

from fastworker._core._cancelling import Cancelling
from fastworker._core._held_tasks import UNKNOWN_NAME_SECONDS
from fastworker._core._known_functions import KnownFunctions
from fastworker._core._messages import (
    Ending,
    FunctionInfo,
    Refusal,
    RefusalCode,
    SubmitReply,
    TaskEvent,
    TaskSpec,
    WireStatus,
)
from fastworker._core._open_tasks import OpenTasks
from fastworker._core._owners import MAX_OWNERS, Owners
from fastworker._core._scheduler_events import (
    SchedulerCommand,
    SubmitDecided,
    TaskChanged,
    TasksSubmitted,
)
from fastworker._core._task_states import Step, TaskRecord, TaskState, content_digest

# Looking for similar names takes a while: not for each of thousands at once.
MAX_EXPLAINED: Final = 5


class Submitting:
    """Takes tasks in.

    Args:
      known: the functions that subworkers have announced.
      started_at: when the control plane was started. For a while after that a name
        may only be unknown because no subworker has come yet.
    """

    def __init__(
        self,
        open_tasks: OpenTasks,
        owners: Owners,
        cancelling: Cancelling,
        known: KnownFunctions,
        *,
        started_at: float,
    ) -> None:
        self._open = open_tasks
        self._owners = owners
        self._cancelling = cancelling
        self._known = known
        self._started_at = started_at

    def apply(
        self, submitted: TasksSubmitted, now: float, *, has_workers: bool
    ) -> list[SchedulerCommand]:
        """Decide about each of the tasks."""
        owner, open_tasks = submitted.owner, self._open
        commands: list[SchedulerCommand] = []
        refusals: list[Refusal] = []
        held: list[int] = []
        queued: list[TaskRecord] = []
        unknown: dict[str, str] = {}
        for index, spec in enumerate(submitted.tasks):
            known = open_tasks.by_id.get(spec.id)
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
            record = open_tasks.new(spec, owner)
            if index in submitted.misdirected:
                open_tasks.counts.refused += 1
                reason = submitted.misdirected[index]
                refusals.append(Refusal(index, RefusalCode.CALLBACK, reason))
                continue
            full = open_tasks.fullness(spec)
            if full is not None:
                open_tasks.counts.refused += 1
                refusals.append(Refusal(index, RefusalCode.QUEUE_FULL, full))
                continue
            if spec.name in self._known:
                open_tasks.accept(record, now)
                open_tasks.queue(record)
                queued.append(record)
            elif has_workers and now >= self._started_at + UNKNOWN_NAME_SECONDS:
                open_tasks.counts.refused += 1
                message = self._explain(spec.name, unknown)
                refusals.append(Refusal(index, RefusalCode.UNKNOWN_TASK, message))
                continue
            else:
                open_tasks.accept(record, now)
                open_tasks.held.add(record, now)
                held.append(index)
            if spec.options is not None and self._is_orphan(spec.options.parent, now):
                # It was still under way when its parent was cancelled.
                self._cancelling.cancel(record, now, commands)
        commands.insert(0, SubmitDecided(SubmitReply(refusals, held), queued))
        return commands

    def note_known(self, functions: list[FunctionInfo]) -> list[SchedulerCommand]:
        """A subworker has announced these: what was held for want of them is queued."""
        commands: list[SchedulerCommand] = []
        for function in functions:
            queued = self._open.held.take(function.name)
            if queued:
                commands.append(SubmitDecided(SubmitReply(), queued))
            for record in queued:
                self._open.queue(record)
                commands += self._open.news(record, record.event())
        return commands

    def refuse_overdue(self, now: float, commands: list[SchedulerCommand]) -> None:
        """Refuse what was held long enough."""
        unknown: dict[str, str] = {}
        for record in self._open.held.take_overdue(now):
            record.step(Step.REFUSE)
            self._open.forget(record)
            self._open.forget_key(record.spec)
            self._open.counts.refused += 1
            event = record.event(error=self._explain(record.spec.name, unknown))
            commands += self._open.news(record, event)

    def withdraw(self, records: list[TaskRecord]) -> list[TaskRecord]:
        """Forget new tasks that the store could not take, and that nobody was given.

        Returns those that were forgotten; the others may run already, and stay. So do
        those that are to run again: of their end nothing is known any more.
        """
        gone: list[TaskRecord] = []
        for record in records:
            if record.state is not TaskState.READY or record.fence or record.is_requeued:
                continue
            self._open.waiting.remove(record)
            record.step(Step.WITHDRAW)
            self._open.changes.forget(record)
            self._open.forget(record)
            self._open.forget_key(record.spec)
            self._open.counts.refused += 1
            gone.append(record)
        return gone

    def _join(
        self, record: TaskRecord, key: bytes, index: int, spec: TaskSpec
    ) -> Refusal | None:
        """Somebody submits a task that is here already."""
        if not record.has_content(spec):
            return _conflict(index, spec)
        if self._owners.join(record, key):
            return None
        message = f"{MAX_OWNERS:,} clients have submitted task {spec.id!r}; try again later"
        return Refusal(index, RefusalCode.QUEUE_FULL, message)

    def _earlier(self, spec: TaskSpec, now: float) -> tuple[TaskEvent, int | None] | None:
        """The end of a task of this id, and its content if that is known."""
        results = self._open.results
        key = self._open.keys.get(spec.id, now=now)
        if key is None and not results.may_know(spec.id):
            return None
        ended = results.get(spec.id, now=now)
        if spec.key_ttl is not None and key is None:
            return None  # its key has expired: the id is free again
        if ended is not None:
            content = results.content(spec.id, now=now)
            return ended, key.content if content is None and key is not None else content
        if key is not None:
            return TaskEvent(spec.id, WireStatus.EVICTED), key.content
        return None

    def _is_orphan(self, parent_id: str, now: float) -> bool:
        """Whether the task that submits this one, if one does, was cancelled."""
        parent = self._open.by_id.get(parent_id)
        if parent is not None:
            return parent.is_cancel_requested
        ended = self._open.results.get(parent_id, now=now) if parent_id else None
        return ended is not None and ended.ending is not Ending.COMPLETED

    def _explain(self, name: str, explained: dict[str, str]) -> str:
        """Say that a name is unknown, once for all tasks of one event that have it."""
        if name not in explained:
            near = len(explained) < MAX_EXPLAINED
            explained[name] = self._known.explain_unknown(name, near=near)
        return explained[name]


def _conflict(index: int, spec: TaskSpec) -> Refusal:
    what = "task id" if spec.key_ttl is None else "the idempotency key of task"
    message = f"{what} {spec.id!r} is already used by a task with other content"
    return Refusal(index, RefusalCode.CONFLICT, message)
