"""Where telemetry is plugged in: one variable, None as long as nobody measures.

What runs tasks and what submits them asks ``current`` once for each task, and
knows nothing of OpenTelemetry, which may not be installed. The one who answers
is ``telemetry/_observer.py``. Nothing here or there raises, whatever exporters,
samplers and propagators do: a task is not to fail because it is watched.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Sending(Protocol):
    """A submit that is under way. ``trace`` travels with the task."""

    @property
    def trace(self) -> str:
        """What goes into ``CallOptions.trace``."""
        ...

    def end(self, error: BaseException | None) -> None:
        """Note that the control plane has the task, or why it has not."""
        ...


class AttemptFacts(NamedTuple):
    """What is told of an attempt when it starts.

    ``created`` is wall time, ``trace`` what came along with its task, ``earlier``
    the span of the attempt before, ``size`` that of the arguments in bytes.
    """

    key: tuple[str, int, int]
    name: str
    number: int
    priority: int
    worker_id: str
    lane: str
    created: float
    size: int
    trace: str
    earlier: str


class AttemptEnd(NamedTuple):
    """How it ended. ``kind`` is one of the OUTCOME_* numbers, ``error`` one line."""

    kind: int
    wall: float
    seconds: float
    error: str
    traceback: str
    signal: int


class Running(Protocol):
    """An attempt that runs, from any thread.

    ``span`` names it for later attempts; ``trace`` is the place in the trace of
    what its function does, as it travels to another process.
    """

    @property
    def span(self) -> str:
        """What goes into ``AttemptStarted.span``."""
        ...

    @property
    def trace(self) -> str:
        """What goes into ``Run.trace``."""
        ...

    def enter(self) -> None:
        """Have what this context does from now on belong to the attempt."""
        ...

    def end(self, end: AttemptEnd) -> None:
        """Note how it ended. Only the first end counts."""
        ...


class Instruments(Protocol):
    """Whoever measures. All methods are for any thread."""

    @property
    def is_from_environment(self) -> bool:
        """Whether the OTEL_* variables say where it goes, in task processes too."""
        ...

    def sending(self, name: str, task_id: str, priority: int, size: int) -> Sending:
        """Note that a task is being submitted in this context."""
        ...

    def starting(self, facts: AttemptFacts, wall: float) -> Running:
        """Note that an attempt starts."""
        ...

    def stopping(self, key: tuple[str, int, int], why: str) -> None:
        """Note that an attempt was asked to stop: ``why`` is an outcome's name."""
        ...

    def abandoned(self, key: tuple[str, int, int]) -> None:
        """Note that nobody waits any more for an attempt that does not stop."""
        ...

    def enter(self, trace: str) -> None:
        """Have what this context does belong to an attempt that another process notes."""
        ...

    def place(self) -> tuple[str, str] | None:
        """The ids of the trace and of the span that this context is in, as hex."""
        ...


current: Instruments | None = None
