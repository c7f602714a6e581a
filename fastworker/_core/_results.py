"""Outcomes of ended tasks, kept for whoever asks later: LRU, TTL and a byte bound.

What had to go leaves a tombstone for a while, so that "ended, result no
longer kept" can be told from "never heard of".

Every task passes through here once, at the highest rate there is. That is why
this is not cachetools' TTLCache: measured, it took four times as long.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final, TypeAlias

from fastworker._core._messages import TaskEvent, WireStatus

TOMBSTONES: Final = 100_000
TOMBSTONE_SECONDS: Final = 600.0
# Of ends that do not count any more so many are no matter.
_FEW_ENDS: Final = 64
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024

# The content of a task, its outcome, and about how many bytes that weighs.
_Kept: TypeAlias = tuple[int, TaskEvent, int]


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
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the longest unused first
        # When each ends, in that order, since all have one time to live. What is not
        # kept any more stays until it comes first, or is too much of the whole.
        self._ends: deque[tuple[float, str, _Kept]] = deque()
        # Until when each stays, and the same in that order; some of it is no more true.
        self._tombstones: dict[str, float] = {}
        self._burials: deque[tuple[float, str]] = deque()
        self._expired_at = -math.inf  # what had to end by then has ended
        self._crowded = _FEW_ENDS + 2 * max_size

    def __len__(self) -> int:
        return len(self._kept)

    def may_know(self, task_id: str) -> bool:
        """Whether :meth:`get` could return something; cheap, and right if it says no."""
        return task_id in self._kept or task_id in self._tombstones

    @property
    def bytes(self) -> int:
        """About how much the kept outcomes weigh."""
        return self._bytes

    def put(self, event: TaskEvent, content: int, *, now: float) -> None:
        """Keep an outcome. ``content`` tells its task's content (see SUBMIT)."""
        # Of many that end at one moment the first has made room.
        if now != self._expired_at or len(self._ends) > self._crowded:
            self._expire(now)
        task_id, size = event.task_id, event.size
        if task_id in self._kept:
            self._remove(task_id)
        while self._kept and (
            len(self._kept) >= self._max_size or self._bytes + size > self._max_bytes
        ):
            self._bury(next(iter(self._kept)), now)
        kept = self._kept[task_id] = content, event, size
        if self._ttl < math.inf:
            self._ends.append((now + self._ttl, task_id, kept))
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
        assert self._bytes == sum([event.size for _, event, _ in self._kept.values()])
        assert len(self._kept) <= max(self._max_size, 1)
        assert len(self._tombstones) <= len(self._burials) <= TOMBSTONES
        live = [each for _, task_id, each in self._ends if self._kept.get(task_id) is each]
        assert len(live) == (len(self._kept) if self._ttl < math.inf else 0)
        assert len(self._ends) <= _FEW_ENDS + 2 * max(self._max_size, 1) + 1
        for times in ([each[0] for each in self._ends], [each[0] for each in self._burials]):
            assert times == sorted(times), "ends are out of order"

    def _expire(self, now: float) -> None:
        self._expired_at = now
        ends = self._ends
        while ends:
            end, task_id, kept = ends[0]
            if self._kept.get(task_id) is kept:
                if end > now:
                    break
                self._bury(task_id, now)
            ends.popleft()
        if len(ends) > _FEW_ENDS + 2 * len(self._kept):
            self._ends = deque(each for each in ends if self._kept.get(each[1]) is each[2])
        while self._burials and self._burials[0][0] <= now:
            self._forget_burial()

    def _bury(self, task_id: str, now: float) -> None:
        self._remove(task_id)
        until = self._tombstones[task_id] = now + TOMBSTONE_SECONDS
        self._burials.append((until, task_id))
        if len(self._burials) > TOMBSTONES:
            self._forget_burial()

    def _forget_burial(self) -> None:
        """Forget the first one, and the tombstone if that is of it and not of a later one."""
        until, task_id = self._burials.popleft()
        if self._tombstones.get(task_id) == until:
            del self._tombstones[task_id]

    def _remove(self, task_id: str) -> None:
        self._bytes -= self._kept.pop(task_id)[2]
