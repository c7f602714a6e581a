"""Outcomes of ended tasks, kept for whoever asks later: LRU, TTL and a byte bound.

What had to go leaves a tombstone for a while, so that "ended, result no
longer kept" can be told from "never heard of".

Every task passes through here once, at the highest rate there is. That is why
this is not cachetools' TTLCache: measured, it took four times as long.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Final, TypeAlias

from fastworker._core._messages import TaskEvent, WireStatus

TOMBSTONES: Final = 100_000
TOMBSTONE_SECONDS: Final = 600.0
# Of entries that do not count any more so many are no matter.
_FEW: Final = 64
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024

# The content of a task, its outcome, about how many bytes that weighs, and until when it
# is kept. Two are the same only if they are one object.
_Kept: TypeAlias = tuple[int, TaskEvent, int, float]


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
        self._kept: dict[str, _Kept] = {}
        # The longest unused first. Those that nobody has asked for end in this order too,
        # since all have one time to live; for the others there is a heap. What is not kept
        # any more stays in both until it comes first, or is too much of the whole.
        self._order: deque[_Kept] = deque()
        self._read: list[tuple[float, int, _Kept]] = []
        self._reads = 0
        # Until when each stays, and the same in that order; some of it is no more true.
        self._tombstones: dict[str, float] = {}
        self._burials: deque[tuple[float, str]] = deque()
        self._expired_at = -math.inf  # what had to end by then has ended

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
        if now != self._expired_at:
            self._expire(now)
        kept, task_id, size = self._kept, event.task_id, event.size
        if task_id in kept:
            self._remove(task_id)
        while kept and (len(kept) >= self._max_size or self._bytes + size > self._max_bytes):
            first = self._order.popleft()
            if kept.get(first[1].task_id) is first:
                self._bury(first[1].task_id, now)
        kept[task_id] = entry = (content, event, size, now + self._ttl)
        self._add(entry)
        self._bytes += size

    def get(self, task_id: str, *, now: float) -> TaskEvent | None:
        """Return the outcome, or one that says EVICTED, or None if never heard of."""
        self._expire(now)
        kept = self._kept.get(task_id)
        if kept is not None:
            self._note_read(task_id, kept)
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
        assert self._bytes == sum([entry[1].size for entry in self._kept.values()])
        assert len(self._kept) <= max(self._max_size, 1)
        assert len(self._tombstones) <= len(self._burials) <= TOMBSTONES
        live = [entry for entry in self._order if self._is_kept(entry)]
        assert len(live) == len(self._kept)
        read = {id(entry) for _, _, entry in self._read}
        unread = [entry[3] for entry in live if id(entry) not in read]
        for times in (unread, [each[0] for each in self._burials]):
            assert times == sorted(times), "ends are out of order"
        for entries in (self._order, self._read):
            assert len(entries) <= _FEW + 2 * max(self._max_size, 1)

    def _is_kept(self, entry: _Kept) -> bool:
        return self._kept.get(entry[1].task_id) is entry

    def _note_read(self, task_id: str, kept: _Kept) -> None:
        """It was used last now. A new entry, so that the one before does not count."""
        content, event, size, end = kept
        entry = self._kept[task_id] = (content, event, size, end)
        if end < math.inf:
            self._reads += 1
            heapq.heappush(self._read, (end, self._reads, entry))
            if len(self._read) > _FEW + 2 * len(self._kept):
                self._read = [each for each in self._read if self._is_kept(each[2])]
                heapq.heapify(self._read)
        self._add(entry)

    def _add(self, entry: _Kept) -> None:
        self._order.append(entry)
        if len(self._order) > _FEW + 2 * len(self._kept):
            self._order = deque(filter(self._is_kept, self._order))

    def _expire(self, now: float) -> None:
        self._expired_at = now
        order = self._order
        while order:
            first = order[0]
            if self._is_kept(first):
                if first[3] > now:
                    break
                self._bury(first[1].task_id, now)
            order.popleft()
        while self._read and self._read[0][0] <= now:
            _, _, entry = heapq.heappop(self._read)
            if self._is_kept(entry):
                self._bury(entry[1].task_id, now)
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
