"""What the wire says of a task, as users see it."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, Final

from fastworker._core._messages import TaskEvent, WireStatus
from fastworker._errors import NotDecodable
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


def result_of(event: TaskEvent, accepted: SerializationFormat) -> TaskResult:
    """Decode what is known of a task.

    Raises:
      NotDecodable: the value is in a format that is not accepted here, or is
        not what that format produces.
    """
    value: Any = None
    error = event.error or None
    if event.status is WireStatus.SUCCESS:
        if event.value_dropped:
            error = "the task succeeded, and its result is no longer kept"
        else:
            value = _decode(event, accepted)
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
    )


def _decode(event: TaskEvent, accepted: SerializationFormat) -> Any:
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
