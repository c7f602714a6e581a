"""The store that keeps nothing: a control plane's memory is all there is.

What it has acknowledged is gone when its process ends. Its epoch is drawn
from the wall clock, so that a restarted control plane is known as another one
and clients hear that their unfinished tasks are lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from fastworker._core._stored import (
    Changes,
    StoredKey,
    StoredTask,
    TasksAsked,
    TasksPage,
)
from fastworker._store._abc import StoreOpened, StoreReader


class MemoryStore:
    """See the module's first lines."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock

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
        return StoreOpened(max(1, int(self._wall_clock() * 1000)), 0)

    def open_tasks(self) -> Iterator[list[StoredTask]]:
        return iter(())

    def outcomes(self, *, limit: int, since: float) -> list[StoredTask]:
        return []

    def due_callbacks(self) -> Iterator[list[StoredTask]]:
        return iter(())

    def keys(self, *, now: float) -> list[StoredKey]:
        return []

    def write(self, changes: Changes) -> None:
        pass

    def recover(self) -> None:
        pass

    def trim(self, *, max_ended: int, before: float) -> bool:
        return False

    def take_problems(self) -> list[str]:
        return []

    def reader(self) -> StoreReader:
        return self

    def page(self, asked: TasksAsked) -> TasksPage:
        return TasksPage([])

    def read(self, task_ids: list[str]) -> list[StoredTask]:
        return []

    def close(self) -> None:
        """Nothing to release."""
