"""A store on a disk that is a dictionary, with the faults of a real one.

A transaction is on the disk when ``write`` returns, or not at all: what was being
written as its process died is as if it had never been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
from fastworker._store._memory import MemoryStore
from fastworker.testing._process import Process

# Told of each transaction that has become durable.
Written = Callable[[Changes], None]


class Disk:
    """What outlives a process.

    Attributes:
      failure: why nothing can be written now, empty if it can.
      crash_in_write: "before" or "after": the process that writes next is killed
        before its transaction is on the disk, or just after that.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.last_sequence = 0
        self.rows: dict[str, StoredTask] = {}
        self.kept_keys: dict[str, StoredKey] = {}
        self.failure = ""
        self.is_guarded = False
        self.crash_in_write = ""


class SimulatedStore:
    """See the module's first lines.

    Args:
      disk: is written.
      process: whose store this is; once that is dead, nothing is written any more.
      written: told of each transaction.
      is_blocking: whether calls take virtual time.
      crash: kills the process.
    """

    is_durable = True
    name = "a simulated disk"

    def __init__(
        self,
        disk: Disk,
        process: Process,
        written: Written,
        *,
        is_blocking: bool,
        crash: Callable[[], None],
    ) -> None:
        self.is_blocking = is_blocking
        self._disk = disk
        self._process = process
        self._written = written
        self._crash = crash

    def open(self) -> StoreOpened:
        """Count the epoch, which is durable at once."""
        self._check()
        self._disk.epoch += 1
        return StoreOpened(
            self._disk.epoch, self._disk.last_sequence, is_guarded=self._disk.is_guarded
        )

    def note_guarded(self) -> None:
        """See ``Store.note_guarded``."""
        self._disk.is_guarded = True

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.open_tasks``."""
        yield [task for task in self._sorted() if not task.state.is_terminal]

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        """See ``Store.outcomes``."""
        rows = self._disk.rows.values()
        ended = [task for task in rows if task.state.is_terminal and task.changed > since]
        return sorted(ended, key=lambda task: task.changed)[-limit:] if limit else []

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        """See ``Store.due_callbacks``."""
        yield [
            task
            for task in self._sorted()
            if task.state.is_terminal and task.callback is CallbackStage.DUE
        ]

    def keys(self, *, now: float) -> list[StoredKey]:
        """See ``Store.keys``."""
        return [key for key in self._disk.kept_keys.values() if key.expires_at > now]

    def write(self, changes: Changes) -> None:
        """See ``Store.write``."""
        self._check()
        torn, self._disk.crash_in_write = self._disk.crash_in_write, ""
        if torn == "before":
            self._crash()
            raise StoreUnavailable("the process is dead")
        rows, keys = self._disk.rows, self._disk.kept_keys
        for task_id in changes.purged:
            if task_id in rows and rows[task_id].state.is_terminal:
                del rows[task_id]
        for task in changes.created:
            assert task.spec.id not in rows, f"task {task.spec.id} was created twice"
            rows[task.spec.id] = task
            self._disk.last_sequence = max(self._disk.last_sequence, task.sequence)
        for task in changes.updated:
            before = rows[task.spec.id]
            assert task.life.fence >= before.life.fence, "S5: a fence shrank"
            assert not before.state.is_terminal, "S2: a task that had ended was changed"
            rows[task.spec.id] = task
        for task_id in changes.called_back:
            rows[task_id] = msgspec.structs.replace(
                rows[task_id], callback=CallbackStage.SETTLED
            )
        for key in changes.keys:
            keys[key.key] = key
        for name in changes.dropped_keys:
            keys.pop(name, None)
        self._written(changes)
        if torn:
            self._crash()

    def recover(self) -> None:
        """See ``Store.recover``."""
        self._check()

    def trim(self, *, max_ended: int, before: float) -> bool:
        """See ``Store.trim``."""
        ended = [task for task in self._sorted() if task.state.is_terminal]
        excess = len(ended) - max_ended
        for number, task in enumerate(ended):
            if number < excess or task.changed < before:
                del self._disk.rows[task.spec.id]
        return False

    def take_problems(self) -> list[str]:
        """None, ever."""
        return []

    def reader(self) -> StoreReader:
        """See ``Store.reader``; it is its own."""
        return self

    def page(self, asked: TasksAsked) -> TasksPage:
        """See ``StoreReader.page``."""
        rows = [row_of(task) for task in reversed(self._sorted()) if _is_asked(task, asked)]
        return TasksPage(rows[: asked.limit], len(rows) > asked.limit)

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        """See ``StoreReader.read``."""
        rows = self._disk.rows
        return [rows[task_id] for task_id in task_ids if task_id in rows]

    def close(self) -> None:
        """Nothing to release."""

    def _sorted(self) -> list[StoredTask]:
        return sorted(self._disk.rows.values(), key=lambda task: task.sequence)

    def _check(self) -> None:
        if self._process.is_dead:
            raise StoreUnavailable("the process is dead")
        if self._disk.failure:
            raise StoreUnavailable(self._disk.failure)


class RecordedMemoryStore(MemoryStore):
    """A store in memory, which ends with its process, and tells what was written."""

    def __init__(self, process: Process, written: Written) -> None:
        super().__init__(process.wall_clock)
        self._process = process
        self._told = written

    def write(self, changes: Changes) -> None:
        """See ``Store.write``."""
        super().write(changes)
        if not self._process.is_dead:
            self._told(changes)


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
