"""The store that keeps nothing: a control plane's memory is all there is.

What it has acknowledged is gone when its process ends. Its epoch is drawn
from the wall clock, so that a restarted control plane is known as another one
and clients hear that their unfinished tasks are lost. Its rows are there for
operators to look at, also after the control plane has stopped; none of them
comes back to work, whoever opens it again.

It is used on the event loop: a write costs an entry in a dictionary or two for
each row, and a page reads rows from the newest on until it is full, or it has read enough.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from fastworker._core._stored import (
    POISON,
    CallbackStage,
    Changes,
    StoredKey,
    StoredState,
    StoredTask,
    TaskRow,
    TasksAsked,
    TasksPage,
    has_text,
    row_of,
)
from fastworker._store._abc import StoreOpened, StoreReader

# Rows that are looked at for one page: everything else waits meanwhile.
LOOKED_ROWS: Final = 2_000
# Rows that one step of trimming forgets.
TRIM_ROWS: Final = 1_000
# What ended tasks may weigh: beyond it the oldest are forgotten at once.
MAX_ENDED_BYTES: Final = 64 * 1024 * 1024


class MemoryStore:
    """See the module's first lines.

    Args:
      wall_clock: seconds since 1970.
      max_ended_bytes: about what ended tasks may hold, values and arguments included.
    """

    is_durable: Final = False
    is_blocking: Final = False
    name: Final = "memory"

    def __init__(
        self,
        wall_clock: Callable[[], float] = time.time,
        *,
        max_ended_bytes: int = MAX_ENDED_BYTES,
    ) -> None:
        self._wall_clock = wall_clock
        self._max_ended_bytes = max_ended_bytes
        self._last_epoch = 0
        # In the order of their numbers, since they come in it; or else is put into it
        # when somebody asks.
        self._rows: dict[str, StoredTask] = {}
        self._is_sorted = True
        # Those of them that have ended, in the order in which they did, and their sizes.
        # Ordered, since the first goes again and again: in a plain dict looking for it
        # passes all the places of those before it.
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._ended_bytes = 0
        self._last_sequence = 0

    def open(self) -> StoreOpened:
        """Return an epoch that differs from that of any earlier start."""
        self._last_epoch = max(self._last_epoch + 1, int(self._wall_clock() * 1000))
        return StoreOpened(self._last_epoch, self._last_sequence)

    def note_guarded(self) -> None:
        """Not needed: this process knows it."""

    # --- what came back: nothing ---

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        """None."""
        return iter(())

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        """None."""
        return []

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        """None."""
        return iter(())

    def keys(self, *, now: float) -> list[StoredKey]:
        """None; they are not kept at all."""
        return []

    # --- at work ---

    def write(self, changes: Changes) -> None:
        """See ``Store.write``; it always works."""
        rows = self._rows
        for task_id in changes.purged:
            if task_id in self._ended:
                self._forget(task_id)
        for task in changes.created:
            task_id = task.spec.id
            if task_id in rows:  # of a task that is long over
                self._forget(task_id)
            rows[task_id] = task
            if task.sequence > self._last_sequence:
                self._last_sequence = task.sequence
            else:
                self._is_sorted = False
            if task.outcome is not None:
                self._note_end(task)
        for task in changes.updated:
            rows[task.spec.id] = task
            if task.outcome is not None:
                self._note_end(task)
        for task_id in changes.called_back:
            called = rows.get(task_id)
            if called is not None:
                rows[task_id] = msgspec.structs.replace(called, callback=CallbackStage.SETTLED)

    def _note_end(self, task: StoredTask) -> None:
        assert task.outcome is not None
        size = task.spec.size + task.outcome.size
        self._ended_bytes += size - self._ended.pop(task.spec.id, 0)
        self._ended[task.spec.id] = size
        while self._ended_bytes > self._max_ended_bytes and len(self._ended) > 1:
            self._forget(next(iter(self._ended)))

    def _forget(self, task_id: str) -> None:
        del self._rows[task_id]
        self._ended_bytes -= self._ended.pop(task_id, 0)

    def recover(self) -> None:
        """There is nothing to recover from."""

    def trim(self, *, max_ended: int, before: float) -> bool:
        """See ``Store.trim``."""
        excess = len(self._ended) - max_ended
        doomed: list[str] = []
        for task_id in self._ended:
            task = self._rows[task_id]
            if excess <= 0 and task.changed >= before:
                break
            if task.callback is CallbackStage.DUE:
                continue
            if len(doomed) == TRIM_ROWS:
                break
            doomed.append(task_id)
            excess -= 1
        for task_id in doomed:
            self._forget(task_id)
        return len(doomed) == TRIM_ROWS

    def take_problems(self) -> list[str]:
        """None, ever."""
        return []

    # --- its reader, which is itself ---

    def reader(self) -> StoreReader:
        """See ``Store.reader``."""
        return self

    def page(self, asked: TasksAsked) -> TasksPage:
        """See ``StoreReader.page``."""
        if not self._is_sorted:
            ordered = sorted(self._rows.values(), key=lambda task: task.sequence)
            self._rows = {task.spec.id: task for task in ordered}
            self._is_sorted = True
        found: list[TaskRow] = []
        states = frozenset(asked.states) or frozenset(StoredState)
        looked = 0
        for task in reversed(self._rows.values()):
            if asked.before and task.sequence >= asked.before:
                continue
            looked += 1
            if looked > LOOKED_ROWS:
                return TasksPage(found, more=True, reached=task.sequence + 1)
            if task.state not in states or not _is_asked(task, asked):
                continue
            row = row_of(task)
            if asked.worker and row.worker != asked.worker:
                continue
            if asked.is_poison and not row.error.startswith(POISON):
                continue
            if len(found) == asked.limit:
                return TasksPage(found, more=True)
            found.append(row)
        return TasksPage(found)

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        """See ``StoreReader.read``."""
        ids = dict.fromkeys(task_ids)
        return [self._rows[task_id] for task_id in ids if task_id in self._rows]

    def close(self) -> None:
        """Nothing to release."""


def _is_asked(task: StoredTask, asked: TasksAsked) -> bool:
    spec = task.spec
    return (
        (not asked.name or spec.name == asked.name)
        and (not asked.priorities or spec.priority in asked.priorities)
        and (not asked.since or spec.created >= asked.since)
        and (not asked.until or spec.created <= asked.until)
        and (not asked.text or has_text(spec.id, spec.name, asked.text))
    )
