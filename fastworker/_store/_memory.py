"""The store that keeps nothing: a control plane's memory is all there is.

What it has acknowledged is gone when its process ends. Its epoch is drawn
from the wall clock, so that a restarted control plane is known as another one
and clients hear that their unfinished tasks are lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fastworker._core._control_plane_events import AppendRecords


class MemoryStore:
    """See the module's first lines."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock

    @property
    def is_durable(self) -> bool:
        """Never."""
        return False

    def open(self) -> int:
        """Return an epoch that differs from that of any earlier start."""
        return max(1, int(self._wall_clock() * 1000))

    def append(self, records: AppendRecords, done: Callable[[int], None]) -> None:
        """Say at once that the batch is as durable as it gets."""
        done(records.batch)

    def close(self) -> None:
        """Nothing to release."""
