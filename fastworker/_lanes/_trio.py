"""The lane for ``async def`` functions: a Trio loop of their own in a thread.

Each attempt is a child of one nursery, in a cancel scope of its own. The link
loop never waits for this loop, so a task that blocks it delays only the
lane's own tasks.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextvars import Context
from math import inf

import trio

from fastworker._core._held_attempts import MAX_LENT_SLOTS
from fastworker._errors import LocalProtocolError, TaskCancelled
from fastworker._lanes._abc import OUTCOME_FAILURE, Attempt, AttemptKey, LaneSink
from fastworker._lanes._execution import Execution, Settings
from fastworker._lanes._failure_text import error_line
from fastworker._lanes._handover import Handover
from fastworker._lanes._trio_bell import TrioBell
from fastworker._models import DEFAULT_GRACE, SerializationFormat

_logger = logging.getLogger("fastworker.lanes")

# A loop that cannot even start (no descriptors left, say) is tried again so late.
_RESTART_DELAY = 1.0


class TrioLane:
    """Runs up to ``slots`` coroutines at the same time in one thread.

    ``cancel`` cancels the attempt's scope; its slot is free when the function
    has really ended. Should user code break the loop itself, by a crashing
    system task for instance, what ran fails and a new loop takes the rest.
    """

    kind = "trio"

    def __init__(
        self, slots: int, sink: LaneSink, accepted_formats: frozenset[SerializationFormat]
    ) -> None:
        self.slots = slots
        self._handover = Handover(
            Settings(
                sink,
                accepted_formats,
                self.kind,
                cancelled_types=(TaskCancelled, trio.Cancelled),
                lend=self._on_lent,
                make_bell=TrioBell,
            )
        )
        self._lent = 0
        self._to_cancel: deque[Execution] = deque()
        self._thread = threading.Thread(target=self._serve, name="fastworker-trio", daemon=True)
        self._closing = threading.Event()
        self._is_started = False
        self._token: trio.lowlevel.TrioToken | None = None
        # From here on only the lane's own thread reads and writes.
        self._nursery: trio.Nursery | None = None
        self._may_end = trio.Event()
        self._scopes: dict[AttemptKey, trio.CancelScope] = {}
        self._running: dict[AttemptKey, Execution] = {}

    def start(self) -> None:
        """Start the thread."""
        if self._is_started:
            raise LocalProtocolError("a lane was started twice")
        self._is_started = True
        self._thread.start()

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts and wake the loop once for all of them."""
        self._handover.submit(attempts)
        self._wake()

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot."""
        return len(self._handover)

    def take_back(self) -> list[AttemptKey]:
        """Remove what has not started and say which they were."""
        return self._handover.take_back()

    def cancel(self, key: AttemptKey, grace: float = DEFAULT_GRACE) -> None:
        """End an unstarted attempt; cancel the scope of a running one."""
        execution = self._handover.cancel(key)
        if execution is not None:
            self._to_cancel.append(execution)
            self._wake()

    def credit(self, key: AttemptKey, count: int) -> None:
        """Let the generator of a stream go on, as far as it may."""
        self._handover.credit(key, count)

    def close(self) -> None:
        """Cancel what runs; the thread ends when the last of it has ended."""
        self._handover.close()
        self._closing.set()
        self._wake()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended, ``timeout`` seconds at most."""
        if self._is_started:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _on_lent(self, change: int) -> None:
        """An attempt waits for tasks of its own, or goes on."""
        self._lent += change
        self._wake()

    def _wake(self) -> None:
        # Read once: the lane's thread takes it away when its loop has broken.
        # Without a token the loop is not there yet, and looks when it comes.
        token = self._token
        if token is not None:
            try:
                token.run_sync_soon(self._look, idempotent=True)
            except trio.RunFinishedError:
                pass

    def _serve(self) -> None:
        while True:
            try:
                trio.run(self._main)
            except BaseException as error:
                if not self._handover.is_closed:
                    _logger.exception("the Trio lane's loop broke and is started anew")
                has_run = self._token is not None
                self._give_up_running(error)
                if not has_run:
                    self._closing.wait(_RESTART_DELAY)
            if self._handover.is_closed:
                return

    async def _main(self) -> None:
        self._may_end = trio.Event()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._token = trio.lowlevel.current_trio_token()
            self._look()
            try:
                await self._may_end.wait()
            finally:
                # Closing, or broken: either way nothing more starts in it.
                self._nursery = None

    def _look(self) -> None:
        """Do what the link loop wants done; runs in the lane's loop."""
        while self._to_cancel:
            scope = self._scopes.get(self._to_cancel.popleft().key)
            if scope is not None:
                scope.cancel()
        if self._handover.is_closed:
            for scope in self._scopes.values():
                scope.cancel()
            self._may_end.set()
        self._fill_slots()

    def _fill_slots(self) -> None:
        slots = self.slots + min(self._lent, MAX_LENT_SLOTS)
        while self._nursery is not None and len(self._running) < slots:
            execution = self._handover.take()
            if execution is None:
                return
            self._running[execution.key] = execution
            # An empty context: what a function leaves in context variables
            # must not be seen by the next.
            Context().run(self._nursery.start_soon, self._run_one, execution)

    async def _run_one(self, execution: Execution) -> None:
        key = execution.key
        scope = self._scopes[key] = trio.CancelScope()
        ended = await execution.run_async(scope)
        if ended.kind == OUTCOME_FAILURE and trio.current_effective_deadline() == -inf:
            return  # the loop is breaking under it, and _give_up_running() says so
        del self._scopes[key], self._running[key]
        self._handover.end(execution, ended)
        self._fill_slots()
        if nurseries := trio.lowlevel.current_task().child_nurseries:
            # The function has left these open. Its attempt has failed for it
            # already, but if this task ended now, Trio would cancel all
            # others as well: so it stays until the lane ends.
            for nursery in nurseries:
                nursery.cancel_scope.cancel()
            await self._may_end.wait()

    def _give_up_running(self, error: BaseException) -> None:
        error = error.__cause__ or error  # that of a TrioInternalError says more
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        reason = error_line(error)
        running = list(self._running.values())
        self._token = None
        self._running.clear()
        self._scopes.clear()
        for execution in running:
            ended = execution.lost(f"LaneBroken: other code broke the Trio loop: {reason}")
            self._handover.end(execution, ended)
