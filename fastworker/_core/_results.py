"""Outcomes of ended tasks, kept for whoever asks later: LRU, TTL and a byte bound.

cachetools does the keeping. What had to go leaves a tombstone for a while, so
that "ended, result no longer kept" can be told from "never heard of".
"""

from __future__ import annotations

from typing import Final

import msgspec
from cachetools import TTLCache

from fastworker._core._messages import TaskEvent, WireStatus

TOMBSTONES: Final = 100_000
TOMBSTONE_SECONDS: Final = 600.0
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024


class _Kept(msgspec.Struct, frozen=True, gc=False):
    event: TaskEvent
    content: int


class Results:
    """Bounded by count, by age in seconds and by bytes.

    Args:
      max_size: how many outcomes are kept at most.
      ttl: for how many seconds each is kept at most.
      max_bytes: how much they may weigh together; the one stored last stays
        even if it alone is heavier.
    """

    def __init__(
        self, *, max_size: int, ttl: float, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self._now = 0.0
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: TTLCache[str, _Kept] = TTLCache(max_size, ttl, timer=self._time)
        self._tombstones: TTLCache[str, bool] = TTLCache(
            TOMBSTONES, TOMBSTONE_SECONDS, timer=self._time
        )

    def _time(self) -> float:
        return self._now

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """About how much the kept outcomes weigh."""
        return self._bytes

    def put(self, event: TaskEvent, content: int, *, now: float) -> None:
        """Keep an outcome. ``content`` tells its task's content (see SUBMIT)."""
        self._advance(now)
        replaced = self._kept.pop(event.task_id, None)
        if replaced is not None:
            self._bytes -= replaced.event.size
        while self._kept and (
            len(self._kept) >= self._kept.maxsize or self._bytes + event.size > self._max_bytes
        ):
            self._bury(*self._kept.popitem())
        self._kept[event.task_id] = _Kept(event, content)
        self._bytes += event.size

    def get(self, task_id: str, *, now: float) -> TaskEvent | None:
        """Return the outcome, or one that says EVICTED, or None if never heard of."""
        self._advance(now)
        kept = self._kept.get(task_id)
        if kept is not None:
            return kept.event
        if task_id in self._tombstones:
            return TaskEvent(task_id, WireStatus.EVICTED)
        return None

    def content(self, task_id: str, *, now: float) -> int | None:
        """Return the content number given to :meth:`put`, None if not kept."""
        self._advance(now)
        kept = self._kept.get(task_id)
        return None if kept is None else kept.content

    def check(self) -> None:
        """Assert every invariant."""
        assert self._bytes == sum(kept.event.size for kept in self._kept.values())
        assert len(self._kept) <= self._kept.maxsize

    def _advance(self, now: float) -> None:
        self._now = now
        for task_id, kept in self._kept.expire(now):
            self._bury(task_id, kept)

    def _bury(self, task_id: str, kept: _Kept) -> None:
        self._bytes -= kept.event.size
        self._tombstones[task_id] = True
