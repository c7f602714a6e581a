"""The lane for ``def`` functions: threads that take from one queue.

``trio.to_thread.run_sync`` costs two switches of the event loop for each call.
Here the threads serve themselves, and the loop only fills the queue.
"""

from __future__ import annotations

import logging
import threading
import time
from contextvars import Context

from fastworker._core._held_attempts import MAX_LENT_SLOTS
from fastworker._errors import LocalProtocolError
from fastworker._lanes._abc import Attempt, AttemptKey, LaneSink
from fastworker._lanes._execution import Settings
from fastworker._lanes._handover import Handover
from fastworker._models import DEFAULT_GRACE, SerializationFormat

_logger = logging.getLogger("fastworker.lanes")


class ThreadLane:
    """Runs ``slots`` functions at the same time, each in a daemon thread.

    A running function cannot be stopped from outside: ``cancel`` makes
    ``check_cancelled()`` raise in it, and its slot is taken until it returns.
    """

    kind = "thread"

    def __init__(
        self, slots: int, sink: LaneSink, accepted_formats: frozenset[SerializationFormat]
    ) -> None:
        self.slots = slots
        self._handover = Handover(
            Settings(sink, accepted_formats, self.kind, lend=self._on_lent)
        )
        self._wake = threading.Condition()
        # Those that serve, or are about to; changed under the lock of _wake.
        self._threads: dict[threading.Thread, None] = {}
        self._made = 0
        self._lent = 0
        self._is_started = False

    def start(self) -> None:
        """Start the threads."""
        if self._is_started:
            raise LocalProtocolError("a lane was started twice")
        self._is_started = True
        with self._wake:
            for _ in range(self.slots):
                self._add_thread()

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts and wake as many threads as can help."""
        self._handover.submit(attempts)
        with self._wake:
            self._wake.notify(len(attempts))

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot."""
        return len(self._handover)

    def take_back(self) -> list[AttemptKey]:
        """Remove what has not started and say which they were."""
        return self._handover.take_back()

    def cancel(self, key: AttemptKey, grace: float = DEFAULT_GRACE) -> None:
        """End an unstarted attempt; let ``check_cancelled`` raise in a running one."""
        self._handover.cancel(key)

    def credit(self, key: AttemptKey, count: int) -> None:
        """Let the generator of a stream go on, as far as it may."""
        self._handover.credit(key, count)

    def close(self) -> None:
        """Let each thread end after the function that it runs now."""
        self._handover.close()
        with self._wake:
            self._wake.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait until all threads have ended, ``timeout`` seconds at most."""
        if not self._is_started:
            return True
        end = time.monotonic() + timeout
        with self._wake:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _on_lent(self, change: int) -> None:
        """An attempt waits for tasks of its own, or goes on: one thread more, or less."""
        with self._wake:
            self._lent += change
            wanted = self.slots + min(self._lent, MAX_LENT_SLOTS)
            if len(self._threads) >= wanted or self._handover.is_closed:
                self._wake.notify_all()
                return
            try:
                self._add_thread()
            except RuntimeError:
                # It waits all the same, and whoever waits with it times out at worst.
                _logger.exception("no thread for the slot that a waiting task lends")

    def _add_thread(self) -> None:
        self._made += 1
        name = f"fastworker-thread-{self._made}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        thread.start()
        self._threads[thread] = None  # before it can end: that takes our lock

    @property
    def _is_overstaffed(self) -> bool:
        """Whether there are more threads than slots, lent ones included."""
        return len(self._threads) > self.slots + min(self._lent, MAX_LENT_SLOTS)

    def _serve(self) -> None:
        handover = self._handover
        while True:
            # Not one attempt more once a slot that was lent is wanted back.
            while not self._is_overstaffed and (execution := handover.take()) is not None:
                # An empty context: what a function leaves in context variables
                # must not be seen by the next.
                handover.end(execution, Context().run(execution.run))
            with self._wake:
                # Asked again under the lock that submit() notifies under, so
                # that nothing can arrive unseen between asking and waiting.
                while not handover or self._is_overstaffed:
                    if handover.is_closed or self._is_overstaffed:
                        # Here, so that no other thread goes for the same reason.
                        self._threads.pop(threading.current_thread(), None)
                        return
                    self._wake.wait()
