"""What user code may ask about the attempt that it runs in.

A context variable, so that it is right in threads, in async tasks and in the
threads that those start with ``trio.to_thread`` or ``asyncio.to_thread``.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from fastworker._core._attempts import AttemptKey
from fastworker._errors import TaskCancelled


class CurrentAttempt:
    """The attempt that runs here, and whether it was asked to stop.

    ``is_cancelled`` only ever goes from False to True; the link loop writes
    it, any thread may read it.
    """

    __slots__ = ("is_cancelled", "key")

    def __init__(self, key: AttemptKey) -> None:
        self.key = key
        self.is_cancelled = False


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
