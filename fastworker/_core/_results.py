"""Outcomes of ended tasks, kept for whoever asks later: LRU, TTL and a byte bound.

What had to go leaves a tombstone for a while, so that "ended, result no
longer kept" can be told from "never heard of".

Every task passes through here once, at the highest rate there is. That is why
this is not cachetools' TTLCache: measured, it took four times as long.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fastworker._core._messages import TaskEvent, WireStatus

TOMBSTONES: Final = 100_000
TOMBSTONE_SECONDS: Final = 600.0
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024


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
        self._max_size = max_size
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._bytes = 0
        # Each holds (content, outcome); the one used longest ago comes first.
        self._kept: OrderedDict[str, tuple[int, TaskEvent]] = OrderedDict()
        # The same keys in the order of their end: all have one time to live.
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._tombstones: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """About how much the kept outcomes weigh."""
        return self._bytes

    def put(self, event: TaskEvent, content: int, *, now: float) -> None:
        """Keep an outcome. ``content`` tells its task's content (see SUBMIT)."""
        self._expire(now)
        task_id, size = event.task_id, event.size
        if task_id in self._kept:
            self._remove(task_id)
        while self._kept and (
            len(self._kept) >= self._max_size or self._bytes + size > self._max_bytes
        ):
            self._bury(next(iter(self._kept)), now)
        self._kept[task_id] = (content, event)
        self._ends[task_id] = now + self._ttl
        self._bytes += size

    def get(self, task_id: str, *, now: float) -> TaskEvent | None:
        """Return the outcome, or one that says EVICTED, or None if never heard of."""
        self._expire(now)
        kept = self._kept.get(task_id)
        if kept is not None:
            self._kept.move_to_end(task_id)
            return kept[1]
        if task_id in self._tombstones:
            return TaskEvent(task_id, WireStatus.EVICTED)
        return None

    def forget(self, task_id: str) -> None:
        """Keep nothing of this task any more, not even that it was there."""
        if task_id in self._kept:
            self._remove(task_id)
        self._tombstones.pop(task_id, None)

    def content(self, task_id: str, *, now: float) -> int | None:
        """Return the content number given to :meth:`put`, None if not kept."""
        self._expire(now)
        kept = self._kept.get(task_id)
        return None if kept is None else kept[0]

    def check(self) -> None:
        """Assert every invariant."""
        assert self._bytes == sum([event.size for _, event in self._kept.values()])
        assert len(self._kept) <= max(self._max_size, 1)
        assert len(self._tombstones) <= TOMBSTONES
        assert len(self._ends) == len(self._kept)
        for ends in (self._ends, self._tombstones):
            times = list(ends.values())
            assert times == sorted(times), "ends are out of order"

    def _expire(self, now: float) -> None:
        while self._ends:
            task_id = next(iter(self._ends))
            if self._ends[task_id] > now:
                break
            self._bury(task_id, now)
        while self._tombstones:
            task_id = next(iter(self._tombstones))
            if self._tombstones[task_id] > now:
                break
            del self._tombstones[task_id]

    def _bury(self, task_id: str, now: float) -> None:
        self._remove(task_id)
        self._tombstones.pop(task_id, None)
        self._tombstones[task_id] = now + TOMBSTONE_SECONDS
        if len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _remove(self, task_id: str) -> None:
        _, event = self._kept.pop(task_id)
        del self._ends[task_id]
        self._bytes -= event.size
