"""Wakes a wait in an asyncio loop from another thread."""

from __future__ import annotations

import asyncio


class AsyncioBell:
    """Made in the loop that waits for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """End the wait; nothing happens if the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:
            pass

    async def wait(self) -> None:
        """Wait until it has rung."""
        await self._rung.wait()
