"""Idempotency keys: which tasks were asked for under a key, until the key expires.

A key is turned into the id of its task by the client, so the same key is the
same task whoever asks. What is kept here outlives the task's row and result:
within its time a key never makes a second task.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from fastworker._core._deadlines import Deadlines

MAX_KEYS: Final = 1_000_000


class Key(NamedTuple):
    """What was asked for under a key, and until when that counts."""

    content: int
    expires_at: float


class IdempotencyKeys:
    """By the id of the task. Times are on the machine's clock, in seconds.

    Args:
      max_keys: how many there may be; beyond it tasks with a key are refused.
    """

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._keys: dict[str, Key] = {}
        self._ends: Deadlines[str] = Deadlines()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another."""
        return len(self._keys) >= self._max_keys

    def next_deadline(self) -> float:
        """When the next one expires, ``inf`` for never."""
        return self._ends.next() if self._keys else math.inf

    def get(self, task_id: str, *, now: float) -> Key | None:
        """The key of this task, None if it has none or that has expired."""
        key = self._keys.get(task_id)
        return None if key is None or key.expires_at <= now else key

    def remember(self, task_id: str, content: int, expires_at: float) -> None:
        """From now on this task is the one of its key."""
        self._keys[task_id] = Key(content, expires_at)
        self._ends.set(task_id, expires_at)

    def forget(self, task_id: str) -> None:
        """The task was not taken after all."""
        if self._keys.pop(task_id, None) is not None:
            self._ends.clear(task_id)

    def expire(self, now: float) -> list[str]:
        """Forget what has expired; return the ids of those tasks."""
        expired = self._ends.pop_due(now)
        for task_id in expired:
            del self._keys[task_id]
        return expired

    def check(self) -> None:
        """Assert every invariant."""
        assert len(self._keys) <= self._max_keys
        assert len(self._ends) == len(self._keys)
