"""What a function may leave behind in its process that would hurt the next one.

Putting it right is guesswork; a new process is not. So a process in which
something of this has changed runs nothing more.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final, NamedTuple

_SIGNALS: Final = (
    signal.SIGALRM,
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
# Threads of a pool that was shut down need a moment to end.
_THREAD_SECONDS: Final = 0.1


class Surroundings(NamedTuple):
    """A snapshot of what all functions of a process share."""

    folder: tuple[int, int] | None
    standard_streams: tuple[tuple[int, int] | None, ...]
    handlers: tuple[object, ...]
    threads: frozenset[threading.Thread]
    children: bool

    @classmethod
    def now(cls) -> Surroundings:
        """Look around."""
        return cls(
            _identity("."),
            tuple(_identity(number) for number in (0, 1, 2)),
            tuple(signal.getsignal(number) for number in _SIGNALS),
            frozenset(each for each in threading.enumerate() if not each.daemon),
            _has_children(),
        )

    def leftovers(self) -> str:
        """Say what has changed for the worse since the snapshot; empty if nothing.

        Waits a moment for threads that are about to end.
        """
        found: list[str] = []
        if _identity(".") != self.folder:
            found.append("it changed the current folder")
        if tuple(_identity(number) for number in (0, 1, 2)) != self.standard_streams:
            found.append("it closed or replaced a standard stream")
        if tuple(signal.getsignal(number) for number in _SIGNALS) != self.handlers:
            found.append("it changed a signal handler")
        if signal.getitimer(signal.ITIMER_REAL)[0]:
            found.append("it left an alarm set")
        if not self.children and _has_children():
            found.append("it left a child process")
        if names := self._threads_left():
            found.append(f"it left threads: {names}")
        return "; ".join(found)

    def _threads_left(self) -> str:
        left = [
            each
            for each in threading.enumerate()
            if not each.daemon and each not in self.threads
        ]
        end = time.monotonic() + _THREAD_SECONDS
        for thread in left:
            thread.join(max(0.0, end - time.monotonic()))
        return ", ".join(sorted(each.name for each in left if each.is_alive()))


def _identity(what: str | int) -> tuple[int, int] | None:
    try:
        found = os.stat(what)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
