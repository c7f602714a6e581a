"""What user code may ask about the attempt that it runs in.

A context variable, so that it is right in threads, in async tasks and in the
threads that those start with ``trio.to_thread`` or ``asyncio.to_thread``.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Final

from fastworker._errors import TaskCancelled
from fastworker._lanes._abc import (
    Attempt,
    AttemptKey,
    AttemptPaused,
    AttemptProgressed,
    LaneEvent,
    LaneSink,
)
from fastworker._lanes._failure_text import one_line
from fastworker._models import Task, TaskPriority, TaskStatus

# One for all attempts: they wait seldom, and each would need one for that.
_pausing: Final = threading.Lock()


class CurrentAttempt:
    """The attempt that runs here, what it may know, and whether it has to stop.

    ``is_cancelled`` only ever goes from False to True; the link loop writes
    it, any thread may read it.

    Args:
      attempt: the attempt.
      sink: takes what user code says of itself; any thread may.
      clock: in seconds, the one that ``time_left`` runs by.
      lend: called, from any thread and under a lock, with 1 when this attempt
        begins to wait for tasks of its own, and with -1 when it goes on.
    """

    __slots__ = (
        "_clock",
        "_deadline",
        "_expires_at",
        "_is_over",
        "_lend",
        "_on_cancel",
        "_sink",
        "_waits",
        "attempt",
        "is_cancelled",
        "started_wall",
    )

    def __init__(
        self,
        attempt: Attempt,
        sink: LaneSink,
        clock: Callable[[], float] = time.perf_counter,
        lend: Callable[[int], None] = lambda change: None,
    ) -> None:
        self.attempt = attempt
        self.is_cancelled = False
        self.started_wall = 0.0
        self._sink = sink
        self._waits = 0
        self._is_over = False
        self._clock = clock
        self._lend = lend
        # Replaced, not changed: most attempts never have any.
        self._on_cancel: tuple[Callable[[], None], ...] = ()
        now = clock()
        self._deadline = now + attempt.time_left
        self._expires_at = now + attempt.start_within

    @property
    def key(self) -> AttemptKey:
        """Names this attempt."""
        return self.attempt.key

    @property
    def is_expired(self) -> bool:
        """Whether it is too late to start it."""
        return self._expires_at <= self._clock()

    def time_left(self) -> float:
        """Seconds until the task's deadline, not below 0; ``inf`` if it has none."""
        return max(0.0, self._deadline - self._clock())

    def post(self, event: LaneEvent) -> None:
        """Tell the subworker something, from any thread; nothing after the end."""
        if not self._is_over:
            self._sink.post(event)

    @property
    def is_waiting(self) -> bool:
        """Whether user code waits for tasks of its own."""
        return self._waits > 0

    def pause(self, *, is_waiting: bool) -> None:
        """Say that user code waits for tasks of its own, or goes on; from any thread.

        Of several that wait at the same time in one attempt, the first and
        the last count.
        """
        change = 1 if is_waiting else -1
        with _pausing:
            if self._is_over:
                return
            self._waits += change
            if self._waits != max(change, 0):
                return
            # Told before anything can start in its slot, so that nobody counts one
            # attempt too many; and taken back before it is told.
            if is_waiting:
                self._sink.post(AttemptPaused(self.key, is_waiting))
            self._lend(change)
            if not is_waiting:
                self._sink.post(AttemptPaused(self.key, is_waiting))

    def finish(self) -> None:
        """Note that user code has ended; a slot that it has lent is its lane's again."""
        with _pausing:
            self._is_over = True
            if self._waits > 0:
                self._lend(-1)

    def cancel(self) -> None:
        """Have it stop: for the link loop."""
        with _pausing:
            self.is_cancelled = True
            on_cancel = self._on_cancel
        for call in on_cancel:
            call()

    @contextlib.contextmanager
    def calling_on_cancel(self, call: Callable[[], None]) -> Iterator[None]:
        """Have something called, in another thread, when it is cancelled; maybe now.

        Several at a time may want that: a task may have threads of its own.
        """
        with _pausing:
            self._on_cancel = (*self._on_cancel, call)
            is_cancelled = self.is_cancelled
        try:
            if is_cancelled:
                call()
            yield
        finally:
            with _pausing:
                rest = list(self._on_cancel)
                rest.remove(call)
                self._on_cancel = tuple(rest)


current_attempt: Final[ContextVar[CurrentAttempt | None]] = ContextVar(
    "fastworker.current_attempt", default=None
)


def check_cancelled() -> None:
    """Raise if the task that this code belongs to was cancelled.

    A thread cannot be stopped from outside. Call this now and then in a long
    ``def`` function, where giving up is safe. Outside of a task it does
    nothing.

    Raises:
      TaskCancelled: somebody cancelled this task, or its time is up. Let it
          pass: the task then ends as cancelled.
    """
    attempt = current_attempt.get()
    if attempt is not None and attempt.is_cancelled:
        raise TaskCancelled("this task was cancelled", task_id=attempt.key.task_id)


def current_task() -> Task | None:
    """Describe the task that this code belongs to; None outside of one.

    Returns:
      A Task with id, name, priority, ``created_at``, ``started_at``, status
      STARTED, ``attempt`` (which one this is, from 1), ``worker_id``, and
      ``deadline`` (UTC by this machine's clock, None if it has none). Its
      arguments are not in it: the function has them.
    """
    current = current_attempt.get()
    if current is None:
        return None
    attempt = current.attempt
    left = current.time_left()
    deadline = None if math.isinf(left) else datetime.now(UTC) + timedelta(seconds=left)
    return Task(
        attempt.key.task_id,
        attempt.name,
        priority=TaskPriority(attempt.priority),
        created_at=datetime.fromtimestamp(attempt.created, UTC),
        started_at=datetime.fromtimestamp(current.started_wall, UTC),
        status=TaskStatus.STARTED,
        attempt=attempt.number,
        worker_id=attempt.worker_id,
        deadline=deadline,
    )


def time_left() -> float:
    """Seconds until the deadline of the task that this code belongs to.

    Never below 0; ``inf`` if it has no deadline, or outside of a task.
    """
    current = current_attempt.get()
    return math.inf if current is None else current.time_left()


def progress(fraction: float, message: str = "") -> None:
    """Say how far the task is that this code belongs to; never waits.

    Whoever submitted it reads it by ``handle.progress()``. What is said often
    is told seldom: only the latest arrives. Outside of a task it does nothing.

    Args:
      fraction: the part that is done, 0 to 1.
      message: for people; cut after 1,000 characters.

    Raises:
      ValueError: ``fraction`` is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"progress({fraction!r}): use the part that is done, from 0 to 1")
    current = current_attempt.get()
    if current is not None:
        text = one_line(str(message))
        current.post(AttemptProgressed(current.key, float(fraction), text))


def waiting_for_others() -> contextlib.AbstractContextManager[None]:
    """Give the lane's place to another attempt while this one waits for its children.

    Outside of a task it does nothing.
    """
    current = current_attempt.get()
    return _NOTHING if current is None else _pause(current)


_NOTHING: Final = contextlib.nullcontext()


@contextlib.contextmanager
def _pause(current: CurrentAttempt) -> Iterator[None]:
    current.pause(is_waiting=True)
    try:
        yield
    finally:
        current.pause(is_waiting=False)
