"""Rows to keep: tasks as a control plane would hand them to a store."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fastworker._core._messages import TaskEvent, TaskSpec, WireStatus
from fastworker._core._stored import (
    STATE_OF_STATUS,
    CallbackStage,
    StoredLife,
    StoredState,
    StoredTask,
)
from fastworker._store._abc import Store

BEGIN = 1_700_000_000.0


def task(number: int, **changes: object) -> StoredTask:
    """A queued task; ``name``, ``id`` and the like change its spec."""
    spec = TaskSpec(f"task-{number}", "add", 2, 1, b"\x92\x01\x02", BEGIN + number)
    of_spec = {key: changes.pop(key) for key in list(changes) if key in spec.__struct_fields__}
    row = StoredTask(number, msgspec.structs.replace(spec, **of_spec), changed=BEGIN + number)
    return msgspec.structs.replace(row, **changes)


def started(row: StoredTask, *, worker: str = "w1", fence: int = 1) -> StoredTask:
    """The same task while it runs."""
    life = StoredLife(
        fence=fence, fence_epoch=1, holder=b"h" * 16, worker=worker, started=BEGIN
    )
    return msgspec.structs.replace(row, state=StoredState.STARTED, life=life)


def ended(
    row: StoredTask,
    status: WireStatus = WireStatus.SUCCESS,
    *,
    at: float = BEGIN,
    callback: CallbackStage = CallbackStage.NONE,
    value: bytes = b"\x03",
) -> StoredTask:
    """The same task when it has ended."""
    outcome = TaskEvent(
        row.spec.id,
        status,
        1,
        value,
        started=BEGIN,
        completed=at,
        worker_id=row.life.worker,
        attempts=1,
    )
    return msgspec.structs.replace(
        row,
        state=STATE_OF_STATUS[status],
        outcome=outcome,
        changed=at,
        content=7,
        callback=callback,
    )


def flat(lists: Iterable[list[StoredTask]]) -> list[StoredTask]:
    """All of them."""
    return [row for rows in lists for row in rows]


def trim_all(store: Store, *, max_ended: int, before: float = 0.0) -> int:
    """Trim until there is no more to do; return in how many steps."""
    steps = 1
    while store.trim(max_ended=max_ended, before=before):
        steps += 1
        assert steps < 10_000
    return steps
