"""The way back from the lanes into the subworker's link loop."""

from __future__ import annotations

from collections import deque

import trio

from fastworker._lanes._abc import LaneEvent


class TrioSink:
    """Collects events from any thread for one reader in a Trio loop.

    Create it in the loop that reads it. The loop is woken once for all that
    has gathered until it comes to look, so a busy lane costs no wake-up per
    attempt.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._events: deque[LaneEvent] = deque()
        self._is_woken = False
        self._arrived = trio.Event()

    def post(self, event: LaneEvent) -> None:
        """Hand over an event, from any thread; dropped if the loop has ended."""
        self._events.append(event)
        # Appended first and asked second, where _wake resets first and the
        # reader takes second: whatever the order, no event is left unseen.
        if not self._is_woken:
            self._is_woken = True
            try:
                self._token.run_sync_soon(self._wake)
            except trio.RunFinishedError:
                self._is_woken = False
                self._events.clear()

    async def receive(self) -> list[LaneEvent]:
        """Wait until there are events, then take all of them, oldest first.

        One task at a time may call this.

        Cancellation:
          Always a checkpoint. If it raises ``Cancelled``, no event was taken.
        """
        await self.wait()
        return self.receive_nowait()

    async def wait(self) -> None:
        """Wait until there are events, and take none. One task at a time may.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        if self._events:
            await trio.lowlevel.checkpoint()
            return
        while True:
            # An event that comes from now on is followed by a wake-up.
            self._arrived = trio.Event()
            await self._arrived.wait()
            if self._events:
                return

    def receive_nowait(self) -> list[LaneEvent]:
        """Take the events that are there, oldest first; there may be none."""
        take = self._events.popleft
        return [take() for _ in range(len(self._events))]

    def _wake(self) -> None:
        self._is_woken = False
        self._arrived.set()
