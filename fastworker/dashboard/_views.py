"""What the API tells, as types: of these the bodies are made, and their description."""

from __future__ import annotations

from typing import Literal

import msgspec

from fastworker._core._messages import CallbacksReply, LiveFunction
from fastworker._core._overview import Overview
from fastworker._task_views import PriorityName, TaskView
from fastworker._task_words import PRIORITIES
from fastworker.dashboard._history import Latency, Rates

WorkerStatus = Literal["active", "away", "draining"]
Phase = Literal["queued", "retrying", "parked"]


class Problem(msgspec.Struct, frozen=True):
    """What went wrong: a word for programs and a sentence for people."""

    code: str
    message: str


class ErrorView(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: Problem


class ByPriority(msgspec.Struct, frozen=True, gc=False):
    """A number for each priority."""

    critical: int
    high: int
    normal: int
    low: int


class OverviewView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The control plane in numbers, all of one moment.

    submitted = refused + held + queued + leased + running + away + retrying + succeeded
    + failed + cancelled + expired. ``now`` and ``started_at`` are seconds since 1970.
    """

    worker_id: str
    version: str
    epoch: int
    now: float
    started_at: float
    store: str
    is_durable: bool
    store_error: str | None
    is_draining: bool
    submitted: int
    refused: int
    held: int
    queued: ByPriority
    leased: int
    running: int
    away: int
    retrying: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    queued_bytes: int
    max_queued: int
    max_queued_bytes: int
    clients: int
    workers: int
    functions: int
    stale_reports: int
    malformed_frames: int
    closed_sessions: int
    lost_workers: int
    rates: Rates
    latency: Latency


class LaneView(msgspec.Struct, frozen=True, gc=False):
    """A lane of a worker: how many attempts it may have at once, has, and runs."""

    name: str
    capacity: int
    leased: int
    running: int


class RunningView(msgspec.Struct, frozen=True, gc=False):
    """A task that runs. ``progress`` is from 0 to 1, null if the task does not say."""

    task_id: str
    name: str
    started_at: float
    lane: str
    progress: float | None
    message: str | None


class WorkerView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A worker. Of what it runs, and of its functions, only the first are named.

    ``number`` tells who joined first, ``idle`` is seconds since it was last heard of;
    times are seconds since 1970.
    """

    number: int
    worker_id: str
    address: str
    status: WorkerStatus
    is_inside: bool
    load: int
    capacity: int
    idle: float
    joined_at: float
    lanes: list[LaneView]
    running: list[RunningView]
    running_count: int
    functions: list[str]
    function_count: int


class WorkersView(msgspec.Struct, frozen=True):
    """All workers, in the order in which they joined."""

    workers: list[WorkerView]


class DrainView(msgspec.Struct, frozen=True):
    """This worker takes no more work, and ends when what it runs has ended."""

    worker_id: str


class QueueView(msgspec.Struct, frozen=True):
    """How many tasks of a priority wait for a worker."""

    priority: PriorityName
    queued: int


class QueuesView(msgspec.Struct, frozen=True):
    """What waits. ``held`` has no worker that knows it, ``retrying`` waits for its time."""

    queues: list[QueueView]
    held: int
    retrying: int
    queued_bytes: int
    max_queued: int
    max_queued_bytes: int


class TasksView(msgspec.Struct, frozen=True):
    """A page of tasks, the newest first. ``next`` is the next page's ``before``."""

    tasks: list[TaskView]
    next: int | None


class CancelView(msgspec.Struct, frozen=True):
    """What has come of a cancel so far; "cancelling" if the task is about to stop."""

    task_id: str
    status: Literal["cancelling", "cancelled", "success", "failure", "expired"]


class TaskIdView(msgspec.Struct, frozen=True):
    """It was done with this task."""

    task_id: str


class UntouchedView(msgspec.Struct, frozen=True):
    """It was not done with this task, and why."""

    task_id: str
    reason: str


class ActionsView(msgspec.Struct, frozen=True):
    """What was done with which tasks."""

    done: list[str]
    untouched: list[UntouchedView]


class FunctionView(msgspec.Struct, frozen=True, kw_only=True):
    """A task function. ``timeout`` null is none; there may be more workers than are named."""

    name: str
    signature: str
    doc: str
    lane: str
    on_lost: str
    timeout: float | None
    grace: float
    retries: int
    is_stream: bool
    workers: list[str]
    worker_count: int


class FunctionsView(msgspec.Struct, frozen=True):
    """All task functions that live workers know, by name."""

    functions: list[FunctionView]


class CallbackCounts(msgspec.Struct, frozen=True):
    """due = delivered + queued + retrying + parked + dropped."""

    due: int
    delivered: int
    queued: int
    retrying: int
    parked: int
    dropped: int


class CallbackView(msgspec.Struct, frozen=True):
    """A callback that has not arrived."""

    task_id: str
    event_id: str
    address: str
    phase: Phase
    attempts: int
    error: str | None


class CallbacksView(msgspec.Struct, frozen=True):
    """Callbacks that have not arrived, parked ones first; ``is_cut``: there are more."""

    counts: CallbackCounts
    callbacks: list[CallbackView]
    is_cut: bool


class HealthView(msgspec.Struct, frozen=True):
    """How the dashboard, or the control plane, is."""

    status: str


def queues_view(overview: Overview) -> QueuesView:
    """What waits."""
    return QueuesView(
        [
            QueueView(priority, queued)  # type: ignore[arg-type]  # of those
            for priority, queued in zip(PRIORITIES, overview.queued, strict=True)
        ],
        overview.held,
        overview.retrying,
        overview.queued_bytes,
        overview.max_queued,
        overview.max_queued_bytes,
    )


def function_view(live: LiveFunction) -> FunctionView:
    """A task function."""
    info = live.function
    return FunctionView(
        name=info.name,
        signature=info.signature,
        doc=info.doc,
        lane=info.lane,
        on_lost=info.on_lost,
        timeout=info.timeout or None,
        grace=info.grace,
        retries=info.retry.max_retries,
        is_stream=info.is_stream,
        workers=list(live.workers),
        worker_count=live.worker_count,
    )


def callbacks_view(reply: CallbacksReply) -> CallbacksView:
    """Callbacks that have not arrived."""
    return CallbacksView(
        CallbackCounts(
            reply.due,
            reply.delivered,
            reply.queued,
            reply.retrying,
            reply.parked,
            reply.dropped,
        ),
        [
            CallbackView(
                view.task_id,
                view.event_id,
                view.address,
                view.phase.name.lower(),  # type: ignore[arg-type]  # of those
                view.tries,
                view.error or None,
            )
            for view in reply.callbacks
        ],
        reply.is_cut,
    )
