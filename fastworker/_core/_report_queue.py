"""What a subworker has still to tell of its attempts, and in which frames.

News of attempts that ended gather while the last report is under way and go
out together. A start is told by itself only if no end follows at once, and of
what a task says of its progress only the latest, a few times a second.

Reports may overtake each other on the way. The values of a stream have an
order, and its end comes behind them: so of the reports that have any of these
one at a time is under way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container
from typing import Final

from fastworker._core._attempts import AttemptKey
from fastworker._core._messages import (
    BATCH_BYTES,
    MAX_BATCH_ITEMS,
    EndedAttempt,
    HandedBack,
    Progress,
    Report,
    StartedAttempt,
    YieldedValue,
)

# A start is reported by itself only if no end follows within this time.
STARTED_DELAY: Final = 0.005
# With the longest ids they fill a quarter of a batch. A lane that is blocked may
# return far more: as much as was sent ahead to each of its slots.
MAX_HANDED_BACK: Final = 1000
# As often as somebody who watches can read it.
PROGRESS_DELAY: Final = 0.1


class ReportQueue:
    """News by kind. Times are on the caller's clock, in seconds."""

    def __init__(self) -> None:
        # When each is due, and the wall time and the span of its start.
        self._started: dict[AttemptKey, tuple[float, float, str]] = {}
        self._progress: dict[AttemptKey, Progress] = {}
        self._progress_due = math.inf
        self._ended: deque[tuple[int, EndedAttempt]] = deque()  # epoch, what
        self._handed_back: deque[tuple[int, HandedBack]] = deque()
        self._busy: dict[str, float] = {}
        self._streamed: deque[tuple[int, YieldedValue | EndedAttempt]] = deque()
        # Whether a report with such is under way; the caller says when no more.
        self.is_streaming = False

    def __len__(self) -> int:
        """How much there is to tell, without progress."""
        ends = len(self._ended) + len(self._handed_back)
        return ends + len(self._started) + len(self._streamed)

    @property
    def ended(self) -> int:
        """How many ends there are to tell, but for those of streams."""
        return len(self._ended)

    @property
    def is_urgent(self) -> bool:
        """Whether something can be told that should not wait."""
        can_stream = bool(self._streamed) and not self.is_streaming
        return bool(self._ended or self._handed_back) or can_stream

    def is_due(self, now: float) -> bool:
        """Whether a report should go now."""
        return self.is_urgent or self.next_due() <= now

    def next_due(self) -> float:
        """When a report should go though no attempt has ended, ``inf`` for never."""
        due = next(iter(self._started.values()))[0] if self._started else math.inf
        return min(due, self._progress_due)

    def add_started(self, key: AttemptKey, wall: float, span: str, now: float) -> None:
        self._started[key] = now + STARTED_DELAY, wall, span

    def add_yielded(self, epoch: int, item: YieldedValue) -> None:
        self._streamed.append((epoch, item))

    def add_ended(self, epoch: int, item: EndedAttempt, *, of_stream: bool = False) -> None:
        if of_stream:
            self._streamed.append((epoch, item))
        else:
            self._ended.append((epoch, item))

    def add_handed_back(self, epoch: int, item: HandedBack) -> None:
        self._handed_back.append((epoch, item))

    def add_progress(self, key: AttemptKey, item: Progress, now: float) -> None:
        if not self._progress:
            self._progress_due = now + PROGRESS_DELAY
        self._progress[key] = item

    def note_busy(self, name: str, seconds: float) -> None:
        """Note that a function has run for so long, and has not ended."""
        self._busy[name] = max(self._busy.get(name, 0.0), seconds)

    def forget(self, key: AttemptKey) -> None:
        """Its end says all that its start and its progress would."""
        self._started.pop(key, None)
        if self._progress:
            self._drop_progress([key])

    def clear(self) -> None:
        """Forget what is about attempts that go on: their leases are gone."""
        self._started.clear()
        self._drop_progress(list(self._progress))

    def keys(self) -> list[AttemptKey]:
        """The attempts whose ends have still to be told."""
        keys = [AttemptKey(i.task_id, e, i.attempt) for e, i in self._ended]
        keys += [AttemptKey(i.task_id, e, i.attempt) for e, i in self._handed_back]
        keys += [AttemptKey(i.task_id, e, i.attempt) for e, i in self._streamed]
        return keys

    def keep(self, kept: Container[AttemptKey]) -> None:
        """Forget everything about other attempts than these."""

        def is_kept(entry: tuple[int, EndedAttempt | HandedBack | YieldedValue]) -> bool:
            epoch, item = entry
            return AttemptKey(item.task_id, epoch, item.attempt) in kept

        self._ended = deque(filter(is_kept, self._ended))
        self._handed_back = deque(filter(is_kept, self._handed_back))
        self._streamed = deque(filter(is_kept, self._streamed))
        for key in [key for key in self._started if key not in kept]:
            del self._started[key]
        self._drop_progress([key for key in self._progress if key not in kept])

    def take(self, epoch: int, limit: int = MAX_BATCH_ITEMS) -> Report:
        """Take one epoch's news off the queues, as much as fits into a batch.

        Args:
          epoch: the one of the session, for a report without news.
          limit: how many ends at most.
        """
        reported = self._next_epoch(epoch)
        begun = [key for key in self._started if key.epoch == reported]
        started: list[StartedAttempt] = []
        for key in begun:
            _, wall, span = self._started.pop(key)
            started.append(StartedAttempt(key.task_id, key.attempt, wall, span))
        told = [key for key in self._progress if key.epoch == reported]
        progress = [self._progress[key] for key in told]
        self._drop_progress(told)
        ended = self._take_ended(reported, limit)
        yielded = self._take_streamed(reported, ended)
        handed_back: list[HandedBack] = []
        while self._handed_back and self._handed_back[0][0] == reported:
            if len(handed_back) >= MAX_HANDED_BACK:
                break
            handed_back.append(self._handed_back.popleft()[1])
        busy, self._busy = self._busy, {}
        return Report(reported, started, ended, handed_back, busy, progress, yielded)

    def _next_epoch(self, epoch: int) -> int:
        if self._ended:
            return self._ended[0][0]
        if self._handed_back:
            return self._handed_back[0][0]
        if self._streamed and not self.is_streaming:
            return self._streamed[0][0]
        for news in (self._started, self._progress):
            if news:
                return next(iter(news)).epoch
        return epoch

    def _take_streamed(self, epoch: int, ended: list[EndedAttempt]) -> list[YieldedValue]:
        """Take values, and the ends behind them, which are added to ``ended``."""
        yielded: list[YieldedValue] = []
        if self.is_streaming:
            return yielded
        size = sum(item.size for item in ended)
        count = len(ended)
        while self._streamed and self._streamed[0][0] == epoch and count < MAX_BATCH_ITEMS:
            item = self._streamed[0][1]
            size += item.size
            if count and size > BATCH_BYTES:
                break
            self._streamed.popleft()
            self.is_streaming = True
            count += 1
            if isinstance(item, YieldedValue):
                yielded.append(item)
            else:
                ended.append(item)
        return yielded

    def _take_ended(self, epoch: int, limit: int) -> list[EndedAttempt]:
        ended: list[EndedAttempt] = []
        size = 0
        while self._ended and self._ended[0][0] == epoch and len(ended) < limit:
            item = self._ended[0][1]
            size += item.size
            if ended and size > BATCH_BYTES:
                break
            self._ended.popleft()
            ended.append(item)
        return ended

    def _drop_progress(self, keys: list[AttemptKey]) -> None:
        for key in keys:
            self._progress.pop(key, None)
        if not self._progress:
            self._progress_due = math.inf
