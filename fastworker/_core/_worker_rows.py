"""What the control plane tells of its subworkers: to operators a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from fastworker._core._messages import BATCH_BYTES
from fastworker._core._overview import LaneRow, RunningTask, WorkerRow, WorkersReply
from fastworker._core._scheduler import Scheduler
from fastworker._core._sessions import Session
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import TaskState

# What is told of one subworker: so many of what it runs and knows, and no more.
MAX_SHOWN_TASKS: Final = 100
MAX_SHOWN_FUNCTIONS: Final = 200
# What a row weighs at most, but for its texts.
_ROW_BYTES: Final = 200
_TASK_BYTES: Final = 50


class SubworkerView(msgspec.Struct, frozen=True):
    """What an operator sees of a subworker. ``idle`` is seconds since its last frame."""

    worker_id: str
    address: str
    status: str
    load: int
    capacity: dict[str, int]
    functions: list[str]
    idle: float


def view_workers(
    scheduler: Scheduler, sessions: Iterable[Session], *, now: float
) -> list[SubworkerView]:
    """All of the subworkers that have a session."""
    views: list[SubworkerView] = []
    for session in sessions:
        status = scheduler.subworker_status(session.key)
        state = status_of(scheduler.subworker(session.key), session)
        views.append(
            SubworkerView(
                worker_id=status.label,
                address=status.address,
                status=state,
                load=status.leased,
                capacity=status.capacity,
                functions=status.functions,
                idle=max(0.0, now - session.seen_at),
            )
        )
    return views


def list_workers(
    scheduler: Scheduler, sessions: Iterable[Session], after: int, *, now: float
) -> WorkersReply:
    """A page of the subworkers that have a session."""
    found = [(scheduler.subworker(session.key), session) for session in sessions]
    found.sort(key=lambda pair: pair[0].order)
    rows: list[WorkerRow] = []
    size = 0
    for worker, session in found:
        if worker.order <= after:
            continue
        row = worker_row(worker, session, now=now, wall_offset=scheduler.wall_offset)
        size += _size_of(row)
        if rows and size > BATCH_BYTES:
            return WorkersReply(rows, more=True)
        rows.append(row)
    return WorkersReply(rows)


def worker_row(
    worker: SubworkerRecord, session: Session, *, now: float, wall_offset: float
) -> WorkerRow:
    """What an operator sees of a subworker."""
    lanes: list[LaneRow] = []
    running: list[RunningTask] = []
    running_count = 0
    for name, lane in worker.lanes.items():
        started = [r for r in lane.leased.values() if r.state is TaskState.STARTED]
        lanes.append(LaneRow(name, lane.capacity, len(lane.leased), len(started)))
        running_count += len(started)
        for record in started[: MAX_SHOWN_TASKS - len(running)]:
            spec = record.spec
            running.append(
                RunningTask(
                    spec.id, spec.name, record.started, name, record.progress, record.message
                )
            )
    return WorkerRow(
        number=worker.order,
        worker_id=worker.label,
        address=worker.address,
        status=status_of(worker, session),
        is_inside=worker.is_inside,
        load=worker.leased_count,
        capacity=worker.capacity,
        idle=max(0.0, now - session.seen_at),
        joined=worker.joined_at + wall_offset,
        lanes=lanes,
        running=running,
        running_count=running_count,
        functions=list(worker.functions)[:MAX_SHOWN_FUNCTIONS],
        function_count=len(worker.functions),
    )


def status_of(worker: SubworkerRecord, session: Session) -> str:
    """ "active", "away" or "draining"."""
    if worker.is_draining:
        return "draining"
    return "away" if session.pipe is None else "active"


def why_not_drained(worker: SubworkerRecord | None, worker_id: str) -> str:
    """Why this subworker cannot be drained; empty if it can."""
    if worker is None:
        return f"no subworker {worker_id!r} has joined"
    if worker.is_inside:
        return (
            f"{worker_id!r} is lanes of the control plane's own process; to drain them, "
            f"send SIGTERM to that"
        )
    return ""


def _size_of(row: WorkerRow) -> int:
    """About how many bytes it holds."""
    texts = [row.worker_id, row.address, *row.functions]
    texts += [text for task in row.running for text in (task.task_id, task.name, task.message)]
    size = _ROW_BYTES + _TASK_BYTES * (len(row.lanes) + len(row.running))
    return size + 4 * sum(map(len, texts))
