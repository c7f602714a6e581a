"""A task that was submitted, as a thread without an event loop holds it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from fastworker._lanes._context import waiting_for_others
from fastworker._models import TaskResult, TaskStatus

if TYPE_CHECKING:
    from fastworker._cancel_outcome import CancelOutcome
    from fastworker._client_thread import ClientThread
    from fastworker._task_handle import Progress, TaskHandle

T = TypeVar("T")
V = TypeVar("V")


class SyncTaskHandle(Generic[T]):
    """One submitted task. Any thread may use it.

    Losing the handle does not cancel the task. It belongs to one run of its
    client: when that is stopped, what has arrived stays readable.

    Every call raises ForkedClient in a fork of the client's process.
    """

    def __init__(self, thread: ClientThread, handle: TaskHandle[T]) -> None:
        self._thread = thread
        self._handle = handle

    def __repr__(self) -> str:
        return f"<SyncTaskHandle {self.id} of {self.name!r}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._handle.id

    @property
    def name(self) -> str:
        """The name of its task function."""
        return self._handle.name

    @property
    def is_done(self) -> bool:
        """Whether it is known how the task has ended."""
        return self._thread.read(lambda: self._handle.is_done)

    @property
    def outcome(self) -> CancelOutcome | None:
        """How the task ended, None if that is not known yet."""
        return self._thread.read(lambda: self._handle.outcome)

    def status(self) -> TaskStatus:
        """Return the latest status that the client has heard of."""
        return self._thread.read(self._handle.status)

    def progress(self) -> Progress | None:
        """Return what the task last said by :func:`fastworker.progress`, None if nothing."""
        return self._thread.read(self._handle.progress)

    def wait(self, timeout: float | None = None) -> TaskResult:
        """Wait until the task has ended; how long that takes changes nothing for the task.

        Args:
          timeout: seconds that this waits; None is for ever.

        Returns:
          How it ended; look at ``status``.

        Raises:
          TimeoutError: it has not ended in time. It goes on.
          TaskCancelled: the task that calls was cancelled.
          everything else: as for :meth:`TaskHandle.wait`.
        """
        return self._when_done(
            self._handle._result, partial(_wait, self._handle, timeout, is_owner=False)
        )

    def result(self, timeout: float | None = None) -> T:
        """Wait for the value of the task. Whoever waits here owns the call.

        Ctrl-C, or whatever a signal handler raises, cancels the task, and
        waits until it has been, one second at most. So does the cancellation
        of the task that calls. To look without owning, use :meth:`wait`.

        Args:
          timeout: seconds that this waits; None is for ever.

        Returns:
          What the task function returned.

        Raises:
          TimeoutError: it has not ended in time. It goes on.
          everything else: as for :meth:`TaskHandle.result`.
        """
        return self._when_done(
            self._handle._value, partial(_wait, self._handle, timeout, is_owner=True)
        )

    def cancel(self, grace: float | None = None) -> CancelOutcome:
        """Have the task stopped, and wait until it is known what came of it.

        Args, Returns, Raises: as for :meth:`TaskHandle.cancel`.
        """
        if self.is_done:
            outcome = self.outcome
            assert outcome is not None
            return outcome
        return self._thread.call(partial(self._handle.cancel, grace))

    def _when_done(self, read: Callable[[], V], wait: Callable[[], object]) -> V:
        # What is known already needs no loop: that may have ended meanwhile.
        self._thread.check_process()
        if not self._handle._watch.is_set():
            self._thread.call(wait)  # type: ignore[arg-type]
        return read()


async def _wait(handle: TaskHandle[T], within: float | None, *, is_owner: bool) -> None:
    """Wait in the loop until it has ended; see :meth:`SyncTaskHandle.result`."""
    over = trio.move_on_after(math.inf if within is None else max(0.0, within))
    done = handle._watch
    try:
        with over, waiting_for_others():
            await done.wait()
    except trio.Cancelled:
        if is_owner and not done.is_set():
            await handle.result()  # is cancelled at once as well, and takes the task along
        raise
    if over.cancelled_caught and not done.is_set():
        raise TimeoutError(f"task {handle.id} has not ended within {within:g} s; it goes on")
