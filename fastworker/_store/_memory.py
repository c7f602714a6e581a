"""The store that forgets: a control plane's memory is all there is.

What it has acknowledged is gone when its process ends. Its epoch is drawn
from the wall clock, so that a restarted control plane is known as another one
and clients hear that their unfinished tasks are lost. Until then operators can
look at tasks as with any store. It works inside the control plane's loop, so
each row costs a few operations on dictionaries, and no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from msgspec.structs import replace

from fastworker._core._stored import (
    CallbackStage,
    Changes,
    StoredKey,
    StoredState,
    StoredTask,
    TasksAsked,
    TasksPage,
    is_asked,
    row_of,
)
from fastworker._store._abc import StoreOpened, StoreReader

# Arguments, values and tracebacks of what has ended; beyond it the oldest go.
MAX_ENDED_BYTES: Final = 64 * 1024 * 1024
# One step of trimming.
TRIM_ROWS: Final = 1_000
FIRST_ENDED: Final = StoredState.SUCCESS


class MemoryStore:
    """See the module's first lines. From one thread, its readers too."""

    def __init__(
        self,
        wall_clock: Callable[[], float] = time.time,
        *,
        max_ended_bytes: int = MAX_ENDED_BYTES,
    ) -> None:
        self._wall_clock = wall_clock
        self._max_ended_bytes = max_ended_bytes
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, StoredTask] = {}
        self._last_sequence = 0
        self._is_sorted = True  # _rows is in the order of the numbers
        # Those that have ended, the oldest first; and what they weigh together.
        self._ended: dict[str, StoredTask] = {}
        self._ended_bytes = 0

    @property
    def is_durable(self) -> bool:
        """Never."""
        return False

    @property
    def is_blocking(self) -> bool:
        """Never."""
        return False

    @property
    def name(self) -> str:
        return "memory"

    def open(self) -> StoreOpened:
        """Return an epoch that differs from that of any earlier start."""
        self._clear()
        return StoreOpened(max(1, int(self._wall_clock() * 1000)), 0)

    # --- what came back: nothing ---

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        return iter(())

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        return []

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        return iter(())

    def keys(self, *, now: float) -> list[StoredKey]:
        return []

    # --- at work ---

    def write(self, changes: Changes) -> None:
        """See ``Store.write``; keys are not kept, since nothing can come back."""
        rows = self._rows
        for task_id in changes.purged:
            if task_id in self._ended:
                self._forget(task_id)
        for task in changes.created:
            rows[task.spec.id] = task
            if task.sequence < self._last_sequence:
                self._is_sorted = False
            else:
                self._last_sequence = task.sequence
            if task.state >= FIRST_ENDED:
                self._note_end(task)
        for task in changes.updated:
            rows[task.spec.id] = task
            if task.state >= FIRST_ENDED:
                self._note_end(task)
        for task_id in changes.called_back:
            if task_id in rows:
                settled = replace(rows[task_id], callback=CallbackStage.SETTLED)
                rows[task_id] = settled
                if task_id in self._ended:
                    self._ended[task_id] = settled
        if self._ended_bytes > self._max_ended_bytes:
            self._make_room()

    def _note_end(self, task: StoredTask) -> None:
        self._ended[task.spec.id] = task
        self._ended_bytes += _weight(task)

    def _make_room(self) -> None:
        while self._ended_bytes > self._max_ended_bytes:
            self._forget(next(iter(self._ended)))

    def _forget(self, task_id: str) -> None:
        self._ended_bytes -= _weight(self._ended.pop(task_id))
        del self._rows[task_id]

    def recover(self) -> None:
        """It never fails."""

    def trim(self, *, max_ended: int, before: float) -> bool:
        """See ``Store.trim``. What is due is kept too, as long as there is room."""
        excess = len(self._ended) - max_ended
        oldest = (
            task for task in self._ended.values() if task.callback is not CallbackStage.DUE
        )
        tasks = list(islice(oldest, TRIM_ROWS))
        for task in tasks:
            if excess <= 0 and task.changed >= before:
                return False
            self._forget(task.spec.id)
            excess -= 1
        return len(tasks) == TRIM_ROWS

    def take_problems(self) -> list[str]:
        return []

    # --- questions ---

    def reader(self) -> StoreReader:
        return self

    def page(self, asked: TasksAsked) -> TasksPage:
        """See ``StoreReader.page``."""
        if not self._is_sorted:
            self._rows = dict(sorted(self._rows.items(), key=lambda item: item[1].sequence))
            self._is_sorted = True
        found = (task for task in reversed(self._rows.values()) if is_asked(task, asked))
        tasks = list(islice(found, asked.limit + 1))
        return TasksPage(
            [row_of(task) for task in tasks[: asked.limit]], len(tasks) > asked.limit
        )

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        """See ``StoreReader.read``."""
        return [self._rows[task_id] for task_id in task_ids if task_id in self._rows]

    def close(self) -> None:
        """Nothing to release: readers are closed by this too."""


def _weight(task: StoredTask) -> int:
    return task.spec.size + (0 if task.outcome is None else task.outcome.size)
