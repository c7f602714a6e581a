"""A task that was submitted under a key of its own choosing, and all who want it here.

Several callers of one client may submit the same task; it is sent once, and
left when the last of them has left it. Whoever was given its id only, by
``delay``, cannot leave it any more.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from fastworker._errors import FastWorkerError


class SharedTask:
    """See the module's first lines.

    Args:
      content: tells what was asked for.
    """

    __slots__ = ("content", "heard", "is_kept", "make_error", "users")

    def __init__(self, content: int) -> None:
        self.content = content
        self.users = 0  # callers that wait, and handles
        self.heard = anyio.Event()  # the control plane has it, or will not take it
        self.is_kept = False  # somebody wants it done, and does not wait for it
        self.make_error: Callable[[], FastWorkerError] | None = None

    @property
    def is_left(self) -> bool:
        """Whether nobody here wants it any more."""
        return self.users <= 0 and not self.is_kept

    def accept(self) -> None:
        """The control plane has it."""
        self.heard.set()

    def fail(self, make_error: Callable[[], FastWorkerError]) -> None:
        """It will not be done; every caller raises an error of its own."""
        if not self.heard.is_set():
            self.make_error = make_error
            self.heard.set()
