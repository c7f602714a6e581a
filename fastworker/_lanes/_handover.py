"""The attempts of one lane, shared by the link loop and the lane's threads.

Whoever removes an attempt from ``_waiting`` owns it, and a deque removes
atomically: so ``take_back``, ``cancel`` and a free slot can never get the
same one, without any lock. Likewise whoever removes it from ``_executions``
posts its end, so there is exactly one.
"""

from __future__ import annotations

from collections import deque

from fastworker._errors import LocalProtocolError
from fastworker._lanes._abc import Attempt, AttemptEnded, AttemptKey
from fastworker._lanes._execution import Execution, Settings


class Handover:
    """Attempts that wait and attempts that run.

    ``take``, ``end`` and ``end_all`` are for the lane's threads, the rest for
    the link loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: deque[Execution] = deque()
        self._executions: dict[AttemptKey, Execution] = {}
        self.is_closed = False

    def __len__(self) -> int:
        """How many attempts wait."""
        return len(self._waiting)

    def submit(self, attempts: list[Attempt]) -> None:
        """Put attempts at the end of the queue; all or, with an error, none."""
        if self.is_closed:
            raise LocalProtocolError("attempts were submitted to a closed lane")
        known = self._executions
        settings = self._settings
        added = {attempt.key: Execution(attempt, settings) for attempt in attempts}
        if len(added) < len(attempts) or not known.keys().isdisjoint(added):
            raise LocalProtocolError("an attempt was submitted twice to a lane")
        known.update(added)
        self._waiting.extend(added.values())

    def take_back(self) -> list[AttemptKey]:
        """Remove all that wait, and say which they were."""
        keys: list[AttemptKey] = []
        while (execution := self.take()) is not None:
            del self._executions[execution.key]
            keys.append(execution.key)
        return keys

    def cancel(self, key: AttemptKey) -> Execution | None:
        """End an attempt that waits; mark and return one that has been taken."""
        execution = self._executions.get(key)
        if execution is None:
            return None
        execution.cancel()
        try:
            self._waiting.remove(execution)
        except ValueError:
            return execution
        self.end(execution, execution.unstarted())
        return None

    def credit(self, key: AttemptKey, count: int) -> None:
        """Say how many values of a stream have been read."""
        execution = self._executions.get(key)
        if execution is not None:
            execution.credit(count)

    def close(self) -> None:
        """Drop all that wait, and mark what runs as cancelled."""
        self.is_closed = True
        self.take_back()
        # A copy, because threads end attempts meanwhile; dict.copy is atomic.
        for execution in self._executions.copy().values():
            execution.cancel()

    def take(self) -> Execution | None:
        """Remove and return the first that waits."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def end(self, execution: Execution, ended: AttemptEnded) -> None:
        """Forget an attempt, then post its end, unless that was done before."""
        # Forgotten first: whoever sees the end may submit the same key again.
        if self._executions.get(execution.key) is execution:
            execution.finish()
            execution.note_end(ended)
            del self._executions[execution.key]
            self._settings.sink.post(ended)
