"""What users are shown of a task, the same by the command line and by the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import msgspec

from fastworker._core._stored import StoredState, TaskRow
from fastworker._core._task_questions import TaskDetail
from fastworker._models import SerializationFormat
from fastworker._outcomes import STATUSES as RESULT_STATUSES
from fastworker._serialization import FORMATS
from fastworker._task_words import PRIORITIES, STATUSES

Status = Literal["pending", "started", "success", "failure", "cancelled", "expired"]
State = Literal[
    "queued", "leased", "started", "retrying", "success", "failure", "cancelled", "expired"
]
PriorityName = Literal["critical", "high", "normal", "low"]


class TaskView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A task of a list. Times are ISO 8601 in UTC, null if that has not been."""

    number: int
    task_id: str
    name: str
    status: Status
    state: State
    priority: PriorityName
    created_at: str | None
    started_at: str | None
    changed_at: str | None
    worker_id: str | None
    attempts: int
    error: str | None
    cancel_requested: bool


class TaskDetailView(TaskView, frozen=True, gc=False, kw_only=True):
    """Everything that is known of a task. Of what is large nothing is shown: ``is_cut``."""

    arguments: str | None
    callback: str | None
    losses: list[str]
    errors: list[str]
    completed_at: str | None = None
    result: str | None = None
    traceback: str | None = None
    is_cut: bool


_STATUS_OF: Final[dict[StoredState, Status]] = {
    StoredState[state]: status  # type: ignore[misc]  # of those
    for status, states in STATUSES.items()
    for state in states
}


def status_of(row: TaskRow) -> Status:
    """The status as users know it."""
    names = (name for name, states in STATUSES.items() if row.state.name in states)
    return cast(Status, next(names))


def view_of(row: TaskRow) -> TaskView:
    """A task of a list."""
    return TaskView(**_facts_of(row))


def row_as_json(row: TaskRow) -> dict[str, Any]:
    """A task of a list, as a JSON object."""
    return _facts_of(row)


def detail_view_of(detail: TaskDetail) -> TaskDetailView:
    """Everything that is known of a task."""
    assert detail.row is not None
    return TaskDetailView(**_facts_of(detail.row), **_more_of(detail))


def detail_as_json(detail: TaskDetail) -> dict[str, Any]:
    """Everything that is known of a task, as a JSON object."""
    assert detail.row is not None
    return _facts_of(detail.row) | _more_of(detail)


def moment(wall: float) -> str | None:
    """Seconds since 1970 as ISO 8601, None for 0: never."""
    return datetime.fromtimestamp(wall, UTC).isoformat() if wall else None


def _facts_of(row: TaskRow) -> dict[str, Any]:
    return {
        "number": row.sequence,
        "task_id": row.task_id,
        "name": row.name,
        "status": status_of(row),
        "state": row.state.name.lower(),
        "priority": PRIORITIES[row.priority],
        "created_at": moment(row.created),
        "started_at": moment(row.started),
        "changed_at": moment(row.changed),
        "worker_id": row.worker or None,
        "attempts": row.attempts,
        "error": row.error or None,
        "cancel_requested": row.is_cancel_requested,
    }


def _more_of(detail: TaskDetail) -> dict[str, Any]:
    outcome = detail.outcome
    facts: dict[str, Any] = {
        "arguments": _shown(detail.format, detail.payload),
        "callback": detail.callback or None,
        "losses": list(detail.losses),
        "errors": list(detail.errors),
    }
    if outcome is not None:
        is_success = RESULT_STATUSES[outcome.status].value == "success"
        facts |= {
            "completed_at": moment(outcome.completed),
            "result": _shown(outcome.format, outcome.payload) if is_success else None,
            "traceback": outcome.traceback or None,
        }
    return facts | {"is_cut": detail.is_cut}


def _shown(format: int, payload: bytes) -> str | None:
    """Bytes of a task as text: JSON as it travels; a pickle is never opened."""
    if not payload:
        return None
    if FORMATS.get(format) is SerializationFormat.JSON:
        return payload.decode("utf-8", "backslashreplace")
    return f"({len(payload):,} bytes in another format)"
