"""The part of a task process: its worker measures the attempts, it what they do inside.

A task process is killed when it is not wanted any more, so after each attempt
it hands on what user code has measured, in a bounded time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from opentelemetry import metrics, trace

from fastworker.telemetry import instrument, instrument_from_environment
from fastworker.telemetry._observer import quietly

# How long an attempt's end waits for an exporter.
FLUSH_SECONDS: Final = 1.0


def join_worker(*, is_from_environment: bool) -> Callable[[], None]:
    """Measure as the worker of this task process does.

    Returns:
      What hands on all that was measured; call it after each attempt.
    """
    if is_from_environment:
        instrument_from_environment()
    else:
        instrument()
    return Flusher().flush


class Flusher:
    """Has a thread of its own, since an exporter may take as long as it likes."""

    def __init__(self) -> None:
        self._wanted: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._done = threading.Event()
        self._done.set()
        threading.Thread(target=self._serve, name="fastworker-telemetry", daemon=True).start()

    def flush(self) -> None:
        """Hand on what there is; give up waiting after FLUSH_SECONDS."""
        # While the exporter is stuck with what came before, nobody waits again.
        if self._done.is_set():
            self._done = threading.Event()
            self._wanted.put(self._done)
            self._done.wait(FLUSH_SECONDS)

    def _serve(self) -> None:
        while True:
            done = self._wanted.get()
            for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
                _flush(provider)
            done.set()


@quietly
def _flush(provider: object) -> None:
    flush = getattr(provider, "force_flush", None)  # the SDK's have it
    if flush is not None:
        flush()
