"""The lane for ``def`` functions: threads that take from one queue.

``trio.to_thread.run_sync`` costs two switches of the event loop for each call.
Here the threads serve themselves, and the loop only fills the queue.
"""

from __future__ import annotations

import threading
import time
from contextvars import Context

from fastworker._errors import LocalProtocolError
from fastworker._lanes._abc import Attempt, AttemptKey, LaneSink
from fastworker._lanes._execution import Settings
from fastworker._lanes._handover import Handover
from fastworker._models import DEFAULT_GRACE, SerializationFormat


class ThreadLane:
    """Runs ``slots`` functions at the same time, each in a daemon thread.

    A running function cannot be stopped from outside: ``cancel`` makes
    ``check_cancelled()`` raise in it, and its slot is taken until it returns.
    """

    kind = "thread"

    def __init__(
        self, slots: int, sink: LaneSink, accepted_formats: frozenset[SerializationFormat]
    ) -> None:
        self._handover = Handover(Settings(sink, accepted_formats, self.kind))
        self._wake = threading.Condition()
        self._threads = [
            threading.Thread(
                target=self._serve, name=f"fastworker-thread-{number}", daemon=True
            )
            for number in range(1, slots + 1)
        ]
        self._is_started = False

    @property
    def slots(self) -> int:
        """How many attempts run at the same time."""
        return len(self._threads)

    def start(self) -> None:
        """Start the threads."""
        if self._is_started:
            raise LocalProtocolError("a lane was started twice")
        self._is_started = True
        for thread in self._threads:
            thread.start()

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts and wake as many threads as can help."""
        self._handover.submit(attempts)
        with self._wake:
            self._wake.notify(len(attempts))

    def take_back(self) -> list[AttemptKey]:
        """Remove what has not started and say which they were."""
        return self._handover.take_back()

    def cancel(self, key: AttemptKey, grace: float = DEFAULT_GRACE) -> None:
        """End an unstarted attempt; let ``check_cancelled`` raise in a running one."""
        self._handover.cancel(key)

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
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        handover = self._handover
        while True:
            while (execution := handover.take()) is not None:
                # An empty context: what a function leaves in context variables
                # must not be seen by the next.
                handover.end(execution, Context().run(execution.run))
            with self._wake:
                # Asked again under the lock that submit() notifies under, so
                # that nothing can arrive unseen between asking and waiting.
                while not handover:
                    if handover.is_closed:
                        return
                    self._wake.wait()
