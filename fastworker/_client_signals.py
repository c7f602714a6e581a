"""What lets coroutines wait for something, at no cost while nobody waits.

Making an event of the loop's takes microseconds. Of the thousands of tasks that a
client has under way most are only looked at, and somebody waits for one change
while hundreds happen.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel


class Done:
    """Happens once, as ``anyio.Event``. Belongs to one event loop."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: anyio.Event | None = None  # while somebody waits

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Wake everybody who waits, and let nobody wait any more."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait until it has happened.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        if self._is_set:
            await anyio.lowlevel.checkpoint()
            return
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class Change:
    """Happens again and again. Belongs to one event loop."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None  # while somebody waits

    def signal(self) -> None:
        """Wake everybody who waits now."""
        event, self._event = self._event, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Wait for the next :meth:`signal`.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
