"""The lane for ``async def`` functions that need asyncio: its loop in a thread.

The loop runs bare, with no main task: user code that cancels "all tasks", or
whose subtask raises SystemExit out of the loop, must not end the lane.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextlib import nullcontext
from contextvars import Context
from functools import partial

from fastworker._core._held_attempts import MAX_LENT_SLOTS
from fastworker._errors import LocalProtocolError, TaskCancelled
from fastworker._lanes._abc import Attempt, AttemptEnded, AttemptKey, LaneSink
from fastworker._lanes._asyncio_bell import AsyncioBell
from fastworker._lanes._execution import Execution, Settings
from fastworker._lanes._handover import Handover
from fastworker._models import DEFAULT_GRACE, SerializationFormat

_logger = logging.getLogger("fastworker.lanes")


class AsyncioLane:
    """Runs up to ``slots`` coroutines at the same time in one thread.

    ``cancel`` calls ``Task.cancel`` once; the slot is free when the function
    has really ended. The lane owns the attempts' tasks and awaits them all;
    tasks that user code starts beside are cancelled when the lane ends.
    """

    kind = "asyncio"

    def __init__(
        self, slots: int, sink: LaneSink, accepted_formats: frozenset[SerializationFormat]
    ) -> None:
        self.slots = slots
        self._handover = Handover(
            Settings(
                sink,
                accepted_formats,
                self.kind,
                cancelled_types=(TaskCancelled, asyncio.CancelledError),
                lend=self._on_lent,
                make_bell=AsyncioBell,
            )
        )
        self._lent = 0
        self._to_cancel: deque[Execution] = deque()
        self._thread = threading.Thread(
            target=self._serve, name="fastworker-asyncio", daemon=True
        )
        self._is_started = False
        self._is_woken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # From here on only the lane's own thread reads and writes.
        self._tasks: dict[AttemptKey, asyncio.Task[AttemptEnded]] = {}
        self._is_over = False

    def start(self) -> None:
        """Start the thread."""
        if self._is_started:
            raise LocalProtocolError("a lane was started twice")
        self._is_started = True
        # Made here and not in the thread, so that a loop that cannot be made
        # is the caller's error.
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts and wake the loop once for all of them."""
        self._handover.submit(attempts)
        self._wake()

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot."""
        return len(self._handover)

    def take_back(self) -> list[AttemptKey]:
        """Remove what has not started and say which they were."""
        return self._handover.take_back()

    def cancel(self, key: AttemptKey, grace: float = DEFAULT_GRACE) -> None:
        """End an unstarted attempt; cancel the task of a running one."""
        execution = self._handover.cancel(key)
        if execution is not None:
            self._to_cancel.append(execution)
            self._wake()

    def credit(self, key: AttemptKey, count: int) -> None:
        """Let the generator of a stream go on, as far as it may."""
        self._handover.credit(key, count)

    def close(self) -> None:
        """Cancel what runs; the thread ends when the last of it has ended."""
        self._handover.close()
        self._wake()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended, ``timeout`` seconds at most."""
        if self._is_started:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _on_lent(self, change: int) -> None:
        """An attempt waits for tasks of its own, or goes on."""
        self._lent += change
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._look)
            except RuntimeError:
                pass  # the loop is closed, so the lane has ended

    def _serve(self) -> None:
        loop = self._loop
        assert loop is not None
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().call_soon(self._look)
            # Once more whenever user code has stopped the loop, or has raised
            # SystemExit or KeyboardInterrupt in a task of its own: asyncio
            # lets those two out, with every task still intact.
            while not (self._handover.is_closed and not self._tasks):
                try:
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt):
                    _logger.exception("a task was let out of the asyncio lane, which goes on")
            # What is still to be called must not stop the runner's last steps.
            self._is_over = True

    def _look(self) -> None:
        """Do what the link loop wants done; runs in the lane's loop."""
        self._is_woken = False
        while self._to_cancel:
            task = self._tasks.get(self._to_cancel.popleft().key)
            if task is not None:
                task.cancel()
        if self._handover.is_closed:
            for task in self._tasks.values():
                task.cancel()
        self._fill_slots()

    def _fill_slots(self) -> None:
        assert self._loop is not None
        while len(self._tasks) < self.slots + min(self._lent, MAX_LENT_SLOTS):
            execution = self._handover.take()
            if execution is None:
                break
            # An empty context: what a function leaves in context variables
            # must not be seen by the next.
            task = self._loop.create_task(execution.run_async(nullcontext()), context=Context())
            self._tasks[execution.key] = task
            task.add_done_callback(partial(self._on_done, execution))
        if self._handover.is_closed and not self._tasks and not self._is_over:
            self._loop.stop()

    def _on_done(self, execution: Execution, task: asyncio.Task[AttemptEnded]) -> None:
        # A callback and not the task's own last lines, which never run if the
        # task is cancelled before its first step.
        del self._tasks[execution.key]
        if not task.cancelled():
            ended = task.result()
        elif execution.is_cancelled:
            ended = execution.unstarted()
        else:
            ended = execution.lost(
                "CancelledError: other code cancelled the tasks of this loop"
            )
        self._handover.end(execution, ended)
        self._fill_slots()
