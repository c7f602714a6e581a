"""Tasks that are to be stopped: of callers that have left, and whatever somebody cancels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from fastworker._client_life import SessionLife
from fastworker._client_watch import Watch, Watches
from fastworker._core._client import ClientState
from fastworker._core._client_events import CancelRequested, ClientEvent, TaskAbandoned
from fastworker._core._messages import LEASE_SECONDS
from fastworker._models import DEFAULT_GRACE

# How long a cancelled caller waits until its task has stopped.
CANCEL_SECONDS: Final = 1.0


class Cancels:
    """See the module's first lines.

    Args:
      state: the machine.
      life: of the session.
      watches: of the tasks.
      apply: has the machine apply an event.
      wake: has what comes of that sent.
      clock: the event loop's, in seconds.
    """

    def __init__(
        self,
        state: ClientState,
        life: SessionLife,
        watches: Watches,
        apply: Callable[[ClientEvent], None],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._life = life
        self._watches = watches
        self._apply = apply
        self._wake = wake
        self._clock = clock
        self._taken_back: anyio.Event | None = None  # while somebody waits for it

    # --- those that somebody cancels ---

    def request(self, task_id: str, grace: float | None = None) -> Watch:
        """Have a task stopped that may be anybody's, and hear how it ends.

        Raises:
          what the session has ended with.
        """
        self._life.check_open()
        watch = self._watches.watch(task_id)
        if not watch.is_set():
            self._apply(CancelRequested(task_id, grace))
            self._wake()
        return watch

    async def wait_stopped(self, watch: Watch, grace: float | None = None) -> None:
        """Wait until a task that was asked to stop has ended, or nobody can say.

        The control plane tells the end of each task within its grace and the
        lease of its worker. So once it has been out of reach for as long, without
        a break, or ``grace`` was given and is over, there is nothing more to wait
        for.
        """
        limit = (DEFAULT_GRACE if grace is None else grace) + LEASE_SECONDS
        until = self._clock() + limit
        while not watch.is_set() and self._clock() < until:
            with anyio.CancelScope(deadline=until):
                await watch.wait()
            if grace is None:
                until = self._state.connected_at(self._clock()) + limit

    # --- those that their callers have left ---

    def abandon(self, task_id: str) -> None:
        """Have a task not run that nobody here wants any more."""
        self._apply(TaskAbandoned(task_id))
        self._wake()

    async def take_back(self, task_id: str) -> None:
        """As :meth:`abandon`, and wait until it has stopped, one second at most."""
        self.abandon(task_id)
        if self._state.holds(task_id):
            watch = self._watches.watch(task_id)
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await watch.wait()

    async def wait_taken_back(self) -> None:
        """Wait until every task that its caller has left has ended, or the session has."""
        if self._taken_back is None:
            self._taken_back = anyio.Event()
        taken_back = self._taken_back
        self.look_whether_taken_back()
        await taken_back.wait()

    def look_whether_taken_back(self) -> None:
        """Wake whoever waits for that, if it is so."""
        if self._taken_back is not None and (
            self._life.is_over or not self._state.is_taking_back
        ):
            self._taken_back.set()
            self._taken_back = None
