"""Tasks that a full queue has refused, and that their callers want to wait for room.

They are submitted again in their order, a few at a time: twice as many each time
that all of them were taken, half as many, and after a longer pause, when some were
not. So a queue that empties slowly is not asked about all that wait here for each
place in it. None of them takes up a slot of the link meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
# As large a part of a batch as is worth trying.
MOST_AT_ONCE: Final = 4_096


class WaitingRoom:
    """Task ids, in the order in which they came. Times are in seconds."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._tried: dict[str, None] = {}  # submitted again, and not answered yet
        self._refused: dict[str, None] = {}  # of those: they are the next, in their order
        self._some_taken = False
        self._at_once = 1
        self._pause = FIRST_PAUSE
        self._next_try = math.inf

    def __len__(self) -> int:
        return len(self._ids) + len(self._refused)

    def __contains__(self, task_id: str) -> bool:
        """Whether it has not found room yet."""
        return any(task_id in ids for ids in (self._ids, self._refused, self._tried))

    def __iter__(self) -> Iterator[str]:
        yield from self._refused
        yield from self._ids

    def next_try(self) -> float:
        """When some are to be submitted again, ``inf`` if not before the next answer."""
        return self._next_try if len(self) and not self._tried else math.inf

    def enter(self, task_id: str, now: float) -> None:
        """There was no room for this one."""
        if task_id in self._tried:
            self._refused[task_id] = None
            self._answered(task_id, now)
            return
        if not len(self) and not self._tried:
            self._next_try = now + self._pause
        self._ids[task_id] = None

    def leave(self, now: float) -> list[str]:
        """Take out those that it is time to submit again."""
        if self.next_try() > now:
            return []
        waiting = list(self)
        ids = waiting[: self._at_once]
        self._refused = {}
        self._ids = dict.fromkeys(waiting[self._at_once :])
        self._tried = dict.fromkeys(ids)
        self._some_taken = False
        return ids

    def discard(self, task_id: str) -> bool:
        """Forget one; say whether it was here."""
        for ids in (self._ids, self._refused):
            if task_id in ids:
                del ids[task_id]
                return True
        return False

    def note_taken(self, task_id: str, now: float) -> None:
        """This one has found room."""
        if task_id in self._tried:
            self._some_taken = True
            self._answered(task_id, now)

    def forget(self, task_id: str, now: float) -> None:
        """Nobody waits for this one any more."""
        if not self.discard(task_id) and task_id in self._tried:
            self._answered(task_id, now)

    def _answered(self, task_id: str, now: float) -> None:
        del self._tried[task_id]
        if self._tried:
            return
        if not self._refused:
            self._at_once = min(2 * self._at_once, MOST_AT_ONCE)
            self._pause, self._next_try = FIRST_PAUSE, now
            return
        self._at_once = max(1, self._at_once // 2)
        self._pause = FIRST_PAUSE if self._some_taken else min(2 * self._pause, LONGEST_PAUSE)
        self._next_try = now + self._pause

    def check(self) -> None:
        """Assert every invariant."""
        assert FIRST_PAUSE <= self._pause <= LONGEST_PAUSE
        assert 1 <= self._at_once <= MOST_AT_ONCE
        assert not len(self) or self._next_try < math.inf
        assert not self._ids.keys() & self._tried.keys()
        assert not self._ids.keys() & self._refused.keys()
        assert not self._tried.keys() & self._refused.keys()
