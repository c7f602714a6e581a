"""A store whose disk is a dictionary: what was written is there after a restart.

The test decides when it fails. It does not block, so that a control plane in
virtual time can use it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fastworker._core._stored import (
    POISON,
    CallbackStage,
    Changes,
    StoredKey,
    StoredTask,
    TasksAsked,
    TasksPage,
    has_text,
    row_of,
)
from fastworker._errors import StoreUnavailable
from fastworker._store._abc import StoreOpened, StoreReader


class KeptStore:
    """See the module's first lines. ``failure`` is why nothing can be written now."""

    is_durable = True
    is_blocking = False
    name = "a dictionary"

    def __init__(self) -> None:
        self.epoch = 0
        self.rows: dict[str, StoredTask] = {}
        self.kept_keys: dict[str, StoredKey] = {}
        self.failure = ""
        self.is_guarded = False
        self.writes = 0

    def open(self) -> StoreOpened:
        self.epoch += 1
        last = max((task.sequence for task in self.rows.values()), default=0)
        return StoreOpened(self.epoch, last, is_guarded=self.is_guarded)

    def _sorted(self) -> list[StoredTask]:
        return sorted(self.rows.values(), key=lambda task: task.sequence)

    def note_guarded(self) -> None:
        self.is_guarded = True

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        yield [task for task in self._sorted() if not task.state.is_terminal]

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        ended = [t for t in self.rows.values() if t.state.is_terminal and t.changed > since]
        return sorted(ended, key=lambda task: task.changed)[-limit:] if limit else []

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        yield [
            task
            for task in self._sorted()
            if task.state.is_terminal and task.callback is CallbackStage.DUE
        ]

    def keys(self, *, now: float) -> list[StoredKey]:
        return [key for key in self.kept_keys.values() if key.expires_at > now]

    def write(self, changes: Changes) -> None:
        if self.failure:
            raise StoreUnavailable(self.failure)
        self.writes += 1
        for task_id in changes.purged:
            if task_id in self.rows and self.rows[task_id].state.is_terminal:
                del self.rows[task_id]
        for task in changes.created:
            assert task.spec.id not in self.rows, "created twice"
            self.rows[task.spec.id] = task
        for task in changes.updated:
            before = self.rows[task.spec.id]
            assert task.life.fence >= before.life.fence, "S5: a fence shrank"
            assert not before.state.is_terminal, "S2: it had ended"
            self.rows[task.spec.id] = task
        for task_id in changes.called_back:
            task = self.rows[task_id]
            self.rows[task_id] = msgspec.structs.replace(task, callback=CallbackStage.SETTLED)
        for key in changes.keys:
            self.kept_keys[key.key] = key
        for name in changes.dropped_keys:
            self.kept_keys.pop(name, None)

    def recover(self) -> None:
        if self.failure:
            raise StoreUnavailable(self.failure)

    def trim(self, *, max_ended: int, before: float) -> bool:
        ended = [t for t in self._sorted() if t.state.is_terminal]
        excess = len(ended) - max_ended
        for number, task in enumerate(ended):
            if number < excess or task.changed < before:
                del self.rows[task.spec.id]
        return False

    def take_problems(self) -> list[str]:
        return []

    def reader(self) -> StoreReader:
        return self

    def page(self, asked: TasksAsked) -> TasksPage:
        rows = [row_of(t) for t in reversed(self._sorted()) if _is_asked(t, asked)]
        return TasksPage(rows[: asked.limit], len(rows) > asked.limit)

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        return [self.rows[task_id] for task_id in task_ids if task_id in self.rows]

    def close(self) -> None:
        """Nothing to release."""


def _is_asked(task: StoredTask, asked: TasksAsked) -> bool:
    row = row_of(task)
    return (
        (not asked.states or task.state in asked.states)
        and (not asked.name or task.spec.name == asked.name)
        and (not asked.worker or row.worker == asked.worker)
        and (not asked.priorities or task.spec.priority in asked.priorities)
        and task.spec.created >= asked.since
        and (not asked.until or task.spec.created <= asked.until)
        and (not asked.before or task.sequence < asked.before)
        and (not asked.text or has_text(task.spec.id, task.spec.name, asked.text))
        and (not asked.is_poison or row.error.startswith(POISON))
    )
