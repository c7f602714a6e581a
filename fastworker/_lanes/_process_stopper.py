"""Stops the one attempt of a task process, from a thread that reads the request.

SIGTERM is how a ``def`` function is reached: its handler raises TaskCancelled
in the main thread, so ``finally`` blocks run. It means that only after the
lane has asked. Service managers send SIGTERM to every process of a service,
and the worker, which then lets its tasks end, decides for its processes.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastworker._core._attempts import AttemptKey
from fastworker._errors import TaskCancelled
from fastworker._lanes._execution import Execution

_logger = logging.getLogger("fastworker.lanes")


class Stopper:
    """Make it in the main thread, which is the one that runs attempts."""

    def __init__(self) -> None:
        self.is_requested = False
        self._main = threading.get_ident()
        self._execution: Execution | None = None
        self._interrupt: Callable[[], None] | None = None
        # What follows is touched by the main thread only, signal handler included.
        self._is_armed = False
        self._held = 0
        self._is_due = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def request(self) -> None:
        """Ask what runs to stop; called once, by the thread that reads."""
        self.is_requested = True
        execution, interrupt = self._execution, self._interrupt
        if execution is not None:
            execution.cancel()
        if interrupt is not None:
            interrupt()
        # To the main thread itself: only that wakes it from a system call.
        signal.pthread_kill(self._main, signal.SIGTERM)

    def credit(self, key: AttemptKey, count: int) -> None:
        """Let the stream that runs go on, as far as it may: for the thread that reads."""
        execution = self._execution
        if execution is not None and execution.key == key:
            execution.credit(count)

    @contextmanager
    def watching(self, execution: Execution) -> Iterator[None]:
        """Let the execution know that it is to stop."""
        self._execution = execution
        if self.is_requested:
            execution.cancel()
        try:
            yield
        finally:
            self._execution = None

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Have TaskCancelled raised in the block, once; or right behind it."""
        try:
            self._is_armed = True
            yield
        finally:
            self._is_armed = False

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Have ``interrupt`` called, from another thread, or here at once."""
        self._interrupt = interrupt
        # Both may see it and call: interrupt() has to bear that.
        if self.is_requested:
            interrupt()
        try:
            yield
        finally:
            self._interrupt = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raise nothing inside the block, but behind it: a frame is written whole."""
        if threading.get_ident() != self._main:
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._is_due and not self._held:
            self._raise()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if not self.is_requested:
            _logger.warning("SIGTERM ignored in a task process: its worker ends its tasks")
        elif self._held:
            self._is_due = True
        else:
            self._raise()

    def _raise(self) -> None:
        self._is_due = False
        if self._is_armed:
            self._is_armed = False
            raise TaskCancelled("this task was cancelled")
