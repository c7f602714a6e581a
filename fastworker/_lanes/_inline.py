"""A lane inside the caller's own Trio loop, for simulation and virtual clocks.

The real lanes have threads, so a test that uses them has real time in it and
runs differently each time. This one keeps the same contract and has neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import Context
from math import inf

import trio

from fastworker._errors import LocalProtocolError, TaskCancelled
from fastworker._lanes._abc import Attempt, AttemptKey, LaneSink
from fastworker._lanes._execution import Execution, Settings
from fastworker._lanes._handover import Handover
from fastworker._lanes._trio_bell import TrioBell
from fastworker._models import DEFAULT_GRACE, SerializationFormat


class InlineLane:
    """Runs attempts as children of a nursery; a ``def`` function blocks the loop.

    Args:
      nursery: Where the attempts run. If it is cancelled, as when a process
          is killed, they end without a word.
      slots: How many attempts run at the same time.
      sink: Where the events go.
      accepted_formats: Payloads of other formats are refused, undecoded.
      kind: Which kind of lane this one stands for.
      duration: How many seconds of the loop's clock to sleep in an attempt's
          slot before its function is called.
      wall: Gives seconds since 1970 for the events.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        slots: int,
        sink: LaneSink,
        accepted_formats: frozenset[SerializationFormat],
        *,
        kind: str = "trio",
        duration: Callable[[Attempt], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.kind = kind
        self.slots = slots
        self._nursery = nursery

        async def pause(attempt: Attempt) -> None:
            if duration is not None:
                await trio.sleep(duration(attempt))

        self._handover = Handover(
            Settings(
                sink,
                accepted_formats,
                "trio",
                cancelled_types=(TaskCancelled, trio.Cancelled),
                wall=wall,
                clock=trio.current_time,
                pause=pause,
                lend=self._on_lent,
                make_bell=TrioBell,
            )
        )
        self._is_started = False
        self._lent = 0
        self._running: dict[AttemptKey, trio.CancelScope] = {}

    def start(self) -> None:
        """Start with what has been submitted so far."""
        if self._is_started:
            raise LocalProtocolError("a lane was started twice")
        self._is_started = True
        self._fill_slots()

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts and fill the free slots."""
        self._handover.submit(attempts)
        self._fill_slots()

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot."""
        return len(self._handover)

    def take_back(self) -> list[AttemptKey]:
        """Remove what has not started and say which they were."""
        return self._handover.take_back()

    def cancel(self, key: AttemptKey, grace: float = DEFAULT_GRACE) -> None:
        """End an unstarted attempt; cancel the scope of a running one."""
        if self._handover.cancel(key) is not None:
            self._running[key].cancel()

    def credit(self, key: AttemptKey, count: int) -> None:
        """Let the generator of a stream go on, as far as it may."""
        self._handover.credit(key, count)

    def close(self) -> None:
        """Cancel what runs, and take nothing more."""
        self._handover.close()
        for scope in self._running.values():
            scope.cancel()

    def join(self, timeout: float) -> bool:
        """Whether all attempts have ended. There is no thread to wait for."""
        return not self._running

    def _on_lent(self, change: int) -> None:
        """An attempt waits for tasks of its own, or goes on."""
        self._lent += change
        self._fill_slots()

    def _fill_slots(self) -> None:
        if not self._is_started:
            return
        while len(self._running) < self.slots + self._lent:
            execution = self._handover.take()
            if execution is None:
                return
            scope = self._running[execution.key] = trio.CancelScope()
            # An empty context, as in the real lanes.
            Context().run(self._nursery.start_soon, self._run_one, execution, scope)

    async def _run_one(self, execution: Execution, scope: trio.CancelScope) -> None:
        ended = await execution.run_async(scope)
        del self._running[execution.key]
        if trio.current_effective_deadline() == -inf:
            # The nursery is being cancelled: this process is dead by now.
            await trio.lowlevel.checkpoint_if_cancelled()
        self._handover.end(execution, ended)
        self._fill_slots()
