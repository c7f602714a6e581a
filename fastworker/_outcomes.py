"""What the wire says of a task, as users see it."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, Final

from fastworker._core import _client_events
from fastworker._core._messages import Ending, StreamValue, TaskEvent, WireStatus
from fastworker._errors import (
    NotDecodable,
    ResultExpired,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskLost,
    TaskTimedOut,
)
from fastworker._models import SerializationFormat, TaskResult, TaskStatus
from fastworker._serialization import FORMATS, decode_result


class Absence(enum.Enum):
    """Why the control plane has nothing to show of a task."""

    EVICTED = "evicted"  # it has ended, and its outcome is no longer kept
    UNKNOWN = "unknown"  # never heard of, or so long ago that this is forgotten too


STATUSES: Final = {
    WireStatus.HELD: TaskStatus.PENDING,
    WireStatus.PENDING: TaskStatus.PENDING,
    WireStatus.STARTED: TaskStatus.STARTED,
    WireStatus.SUCCESS: TaskStatus.SUCCESS,
    WireStatus.FAILURE: TaskStatus.FAILURE,
    WireStatus.CANCELLED: TaskStatus.CANCELLED,
    WireStatus.EXPIRED: TaskStatus.EXPIRED,
}


def result_of(
    event: TaskEvent, accepted: SerializationFormat, *, with_value: bool = True
) -> TaskResult:
    """Decode what is known of a task.

    Args:
      event: it.
      accepted: the format of values that may be decoded.
      with_value: whether its value is wanted at all.

    Raises:
      NotDecodable: the value is in a format that is not accepted here, or is
        not what that format produces.
    """
    value: Any = None
    error = event.error or None
    if event.status is WireStatus.SUCCESS and with_value:
        if event.value_dropped:
            error = error or "the task succeeded, and its result is no longer kept"
        else:
            value = decode_value(event, accepted)
    return TaskResult(
        task_id=event.task_id,
        status=STATUSES[event.status],
        result=value,
        error=error,
        started_at=_moment(event.started),
        completed_at=_moment(event.completed),
        traceback=event.traceback or None,
        worker_id=event.worker_id or None,
        attempts=event.attempts,
        errors=list(event.errors),
    )


def late_result(late: _client_events.TaskTimedOut, timeout: float) -> TaskResult:
    """The outcome for a caller that has waited long enough: ``timeout`` seconds."""
    worker = late.event.worker_id or None
    if late.finds_no_room:
        where = "while the queue was full"
    elif not late.was_sent:
        where = "before it was sent: no control plane was reached"
    elif late.event.status is WireStatus.STARTED:
        where = f"while running on {worker or 'a worker'}"
    else:
        where = "while queued"
    return TaskResult(
        task_id=late.task_id,
        status=TaskStatus.FAILURE,
        error=f"timed out after {timeout:g} s {where}",
        worker_id=worker,
    )


def has_value(event: TaskEvent) -> bool:
    """Whether a task has succeeded, and its value is there."""
    return event.status is WireStatus.SUCCESS and not event.value_dropped and not event.error


def error_of(result: TaskResult, ending: Ending) -> TaskError | None:
    """The error that stands for the end of a task, None if it has a value.

    The remote traceback, and the errors of earlier attempts, are its notes.
    """
    if result.status is TaskStatus.SUCCESS and result.error is None:
        return None
    message = result.error or f"the task is {result.status.value}"
    kind: type[TaskError] = TaskFailed
    if result.status is TaskStatus.SUCCESS:
        kind = ResultExpired
    elif result.status is TaskStatus.CANCELLED:
        kind = TaskCancelled
    elif result.status is TaskStatus.EXPIRED:
        kind = TaskExpired
    elif ending is Ending.LOST or message.startswith("lost:"):
        kind = TaskLost
    elif message.startswith(("TaskTimedOut:", "timed out")):
        kind = TaskTimedOut
    error = kind(message, task_id=result.task_id)
    error.traceback = result.traceback
    error.errors = list(result.errors)
    if result.traceback:
        error.add_note(f"Remote traceback:\n{result.traceback.rstrip()}")
    for number, earlier in enumerate(result.errors, 1):
        error.add_note(f"Earlier attempt {number} of those kept: {earlier}")
    return error


def decode_value(event: TaskEvent | StreamValue, accepted: SerializationFormat) -> Any:
    """Decode the value of a task, or of its stream.

    Raises:
      NotDecodable: as for :func:`result_of`.
    """
    format = FORMATS.get(event.format)
    # Unpickling runs code of whoever made the bytes, so a peer that is set to
    # JSON never does it, whatever it is sent (X5).
    if format is None or (format is SerializationFormat.PICKLE and format is not accepted):
        shown = format.name if format is not None else f"format {event.format}"
        raise NotDecodable(
            f"the result of task {event.task_id} is in {shown}, and this client accepts "
            f"{accepted.name}; use a client with serialization_format={shown}"
        )
    return decode_result(event.payload, format)


def _moment(wall: float) -> datetime | None:
    if not wall:
        return None
    try:
        return datetime.fromtimestamp(wall, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # a worker's clock that no calendar has
