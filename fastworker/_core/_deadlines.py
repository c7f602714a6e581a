"""Many deadlines, of which most move before they come due.

A deadline that moves later costs one dictionary write: the heap keeps the
early entry, and when that surfaces the true time is looked up.
"""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

K = TypeVar("K")


class Deadlines(Generic[K]):
    """At most one deadline for each key."""

    def __init__(self) -> None:
        self._times: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._entry_times: dict[K, float] = {}  # the earliest live heap entry
        self._counter = 0

    def __len__(self) -> int:
        return len(self._times)

    def set(self, key: K, at: float) -> None:
        """Set or move the deadline of ``key``."""
        self._times[key] = at
        entry = self._entry_times.get(key)
        if entry is None or at < entry:
            self._push(key, at)

    def clear(self, key: K) -> None:
        """Drop the deadline of ``key``, if it has one."""
        self._times.pop(key, None)
        if len(self._heap) > 64 + 2 * len(self._times):
            self._rebuild()

    def next(self) -> float:
        """The earliest deadline, ``inf`` if there is none. May drop dead entries."""
        while self._heap:
            at, _, key = self._heap[0]
            true = self._times.get(key)
            if true == at:
                return at
            heapq.heappop(self._heap)
            if self._entry_times.get(key) == at:
                del self._entry_times[key]
                if true is not None:
                    self._push(key, true)
        return math.inf

    def pop_due(self, now: float) -> list[K]:
        """Remove and return every key whose deadline has come, earliest first."""
        due: list[K] = []
        while self.next() <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._times[key]
            self._entry_times.pop(key, None)
            due.append(key)
        return due

    def _rebuild(self) -> None:
        """Forget entries of cleared deadlines, which could lie there for long."""
        self._heap = []
        self._entry_times = {}
        for key, at in self._times.items():
            self._push(key, at)

    def _push(self, key: K, at: float) -> None:
        self._counter += 1
        heapq.heappush(self._heap, (at, self._counter, key))
        self._entry_times[key] = at
