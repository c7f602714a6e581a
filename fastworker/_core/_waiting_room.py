"""Tasks that a full queue has refused, and that their callers want to wait for room.

They are submitted again, all together and in their order, after a pause that
doubles each time in vain: a queue of a million tasks does not empty faster for
being asked. None of them takes up a slot of the link meanwhile.
"""

from __future__ import annotations

import math
from typing import Final

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0


class WaitingRoom:
    """Task ids, in the order in which they came. Times are in seconds."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._pause = FIRST_PAUSE
        self._next_try = math.inf

    def __len__(self) -> int:
        return len(self._ids)

    def next_try(self) -> float:
        """When they are to be submitted again, ``inf`` if there are none."""
        return self._next_try if self._ids else math.inf

    def enter(self, task_id: str, now: float) -> None:
        """There was no room for this one."""
        if not self._ids:
            self._next_try = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._ids[task_id] = None

    def leave(self, now: float) -> list[str]:
        """Take out all of them, if it is time to submit them again."""
        if self.next_try() > now:
            return []
        ids, self._ids = list(self._ids), {}
        return ids

    def discard(self, task_id: str) -> bool:
        """Forget one; say whether it was here."""
        if task_id not in self._ids:
            return False
        del self._ids[task_id]
        return True

    def note_room(self) -> None:
        """A task was taken: there is room again, or was a moment ago."""
        self._pause = FIRST_PAUSE

    def check(self) -> None:
        """Assert every invariant."""
        assert FIRST_PAUSE <= self._pause <= LONGEST_PAUSE
        assert not self._ids or self._next_try < math.inf
