"""Wakes a wait in a Trio loop from another thread."""

from __future__ import annotations

import trio


class TrioBell:
    """Made in the loop that waits for it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._rung = trio.Event()

    def ring(self) -> None:
        """End the wait; nothing happens if the loop has ended."""
        try:
            self._token.run_sync_soon(self._rung.set)
        except trio.RunFinishedError:
            pass

    async def wait(self) -> None:
        """Wait until it has rung."""
        await self._rung.wait()
