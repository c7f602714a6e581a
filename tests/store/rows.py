"""Tasks, outcomes and keys for the tests of stores."""

from __future__ import annotations

from msgspec.structs import replace

from fastworker._core._messages import TaskEvent, TaskSpec, WireStatus
from fastworker._core._stored import (
    STATE_OF_STATUS,
    CallbackStage,
    Changes,
    StoredLife,
    StoredState,
    StoredTask,
)
from fastworker._store._abc import Store


def queued(number: int, *, size: int = 10, name: str = "add", priority: int = 2) -> StoredTask:
    """A task that waits; what it says depends on its number alone."""
    payload = (f"[[{number}],{{}}]" * (1 + size // 10)).encode()[:size]
    spec = TaskSpec(f"task-{number:06}", name, priority, 1, payload, 1_000.0 + number)
    return StoredTask(number, spec, changed=1_000.0 + number)


def started(task: StoredTask, worker: str = "w1") -> StoredTask:
    life = StoredLife(fence=1, fence_epoch=1, holder=b"h" * 8, worker=worker, started=2_000.0)
    return replace(task, state=StoredState.STARTED, life=life, changed=2_000.0)


def ended(
    task: StoredTask,
    status: WireStatus = WireStatus.SUCCESS,
    *,
    at: float = 3_000.0,
    is_due: bool = False,
    value: bytes = b"",
) -> StoredTask:
    outcome = TaskEvent(
        task.spec.id,
        status,
        1,
        value or f"{task.sequence}".encode(),
        worker_id="w1",
        completed=at,
    )
    return replace(
        task,
        state=STATE_OF_STATUS[status],
        outcome=outcome,
        changed=at,
        content=task.sequence + 7,
        callback=CallbackStage.DUE if is_due else CallbackStage.NONE,
    )


def open_again(store: Store) -> list[StoredTask]:
    """Open a store, and return the tasks that it says are open."""
    store.open()
    return [task for tasks in store.open_tasks() for task in tasks]


def fill(store: Store, count: int, *, start: int = 1, size: int = 10) -> dict[str, StoredTask]:
    """Write tasks of every kind; return what is there now, by id."""
    tasks: dict[str, StoredTask] = {}
    for first in range(start, start + count, 50):
        created = [queued(n, size=size) for n in range(first, min(first + 50, start + count))]
        store.write(Changes(created=created))
        updated = [started(task) for task in created if task.sequence % 4 == 1]
        updated += [
            ended(task, at=3_000.0 + task.sequence, is_due=task.sequence % 8 == 2)
            for task in created
            if task.sequence % 4 == 2
        ]
        store.write(Changes(updated=updated))
        tasks.update({task.spec.id: task for task in (*created, *updated)})
    return tasks
