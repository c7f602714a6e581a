"""How far a generator may be ahead of its reader, and the wait for it to catch up.

The link loop says how many values have been read, from its own thread; the
generator's thread, or the loop that it runs in, waits. A lane with a loop
gives the bell by which that loop is woken.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from fastworker._core._messages import STREAM_BYTES


class Bell(Protocol):
    """Wakes one wait in an event loop, once."""

    def ring(self) -> None:
        """End the wait, from any thread; never blocks and never raises."""
        ...

    async def wait(self) -> None:
        """Wait in the loop until it has rung."""
        ...


class Outflow:
    """The values that one generator has yielded, and how many of them were read.

    Args:
      window: how many may wait for their reader. Fewer may if they weigh
        STREAM_BYTES; one always may.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._condition = threading.Condition()
        self._bell: Bell | None = None
        self._is_ended = False
        self._read = 0
        self._sizes: deque[int] = deque()  # of what is not known to be read
        self._bytes = 0

    @property
    def count(self) -> int:
        """How many values were yielded."""
        return self._read + len(self._sizes)

    @property
    def is_full(self) -> bool:
        """Whether the generator has to wait."""
        return len(self._sizes) >= self._window or self._bytes >= STREAM_BYTES

    def add(self, size: int) -> None:
        """Note a value that was yielded."""
        with self._condition:
            self._sizes.append(size)
            self._bytes += size

    def note_read(self, count: int) -> None:
        """Note that so many values were read, from the first on: for the link loop."""
        with self._condition:
            while self._read < count and self._sizes:
                self._bytes -= self._sizes.popleft()
                self._read += 1
            if not self.is_full:
                self._condition.notify_all()
                if self._bell is not None:
                    self._bell.ring()

    def end(self) -> None:
        """Let no thread wait any more: for the link loop.

        A wait in an event loop is ended by whoever cancels it there; until
        then it waits, so that the generator is asked to stop in one way only.
        """
        with self._condition:
            self._is_ended = True
            self._condition.notify_all()

    def wait(self) -> None:
        """Wait in a thread until a value more may be yielded, or it has ended."""
        with self._condition:
            while self.is_full and not self._is_ended:
                self._condition.wait()

    def must_wait(self, bell: Bell) -> bool:
        """Whether to wait until this bell rings, which it then does."""
        with self._condition:
            self._bell = bell if self.is_full or self._is_ended else None
            return self._bell is not None
