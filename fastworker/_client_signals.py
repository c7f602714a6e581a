"""What lets coroutines wait for something, at no cost while nobody waits.

Making an event of the loop's takes microseconds. Of the thousands of tasks that a
client has under way most are only looked at, and somebody waits for one change
while hundreds happen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import sniffio


class Event(Protocol):
    """What an event loop's own event offers."""

    def set(self) -> Any:
        """Wake everybody who waits."""
        ...

    def wait(self) -> Coroutine[Any, Any, Any]:
        """Wait until it is set; always a checkpoint."""
        ...


def new_event() -> Event:
    """An event of the running loop.

    anyio's is an object and a coroutine more for whoever waits, and takes two
    microseconds to find out which loop it is for.
    """
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.Event()
    return anyio.Event()


class Done:
    """Happens once, as ``anyio.Event``. Belongs to one event loop."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: Event | None = None  # while somebody waits

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Wake everybody who waits, and let nobody wait any more."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    def wait(self) -> Awaitable[None]:
        """Wait until it has happened. To be awaited at once.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        # No coroutine of its own: each is one more object for whoever waits.
        if self._is_set:
            return anyio.lowlevel.checkpoint()
        if self._event is None:
            self._event = new_event()
        return self._event.wait()


class Change:
    """Happens again and again. Belongs to one event loop."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: Event | None = None  # while somebody waits

    def signal(self) -> None:
        """Wake everybody who waits now."""
        event, self._event = self._event, None
        if event is not None:
            event.set()

    def wait(self) -> Awaitable[None]:
        """Wait for the next :meth:`signal`. To be awaited at once.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        if self._event is None:
            self._event = new_event()
        return self._event.wait()
