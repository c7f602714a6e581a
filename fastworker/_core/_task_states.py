"""A task's life as a table, and the control plane's row for one task.

The table is the only place that says which step may follow which; the picture
in the docs is drawn from it.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

from fastworker._core._messages import (
    MAX_EARLIER_ERRORS,
    Ending,
    TaskEvent,
    TaskSpec,
    WireStatus,
)
from fastworker._errors import LocalProtocolError

if TYPE_CHECKING:
    from fastworker._core._subworkers import SubworkerRecord


class TaskState(enum.Enum):
    """Where a task is, as the control plane sees it."""

    HELD = "held"  # its name is unknown so far; not accepted yet
    READY = "ready"
    LEASED = "leased"  # given to a subworker, not known to run
    STARTED = "started"
    RETRYING = "retrying"  # an attempt failed; it waits for the next
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"

    # Members are singletons; Enum's own hash is a Python call for each step.
    __hash__ = object.__hash__


class Step(enum.Enum):
    """What happens to a task."""

    QUEUE = "queue"
    REFUSE = "refuse"
    LEASE = "lease"
    START = "start"
    HAND_BACK = "hand back"
    LOSE = "lose"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    CANCEL = "cancel"
    EXPIRE = "expire"

    __hash__ = object.__hash__


TASK_TRANSITIONS: dict[tuple[TaskState, Step], TaskState] = {
    (TaskState.HELD, Step.QUEUE): TaskState.READY,
    (TaskState.HELD, Step.REFUSE): TaskState.REFUSED,
    (TaskState.HELD, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.HELD, Step.EXPIRE): TaskState.EXPIRED,
    (TaskState.READY, Step.LEASE): TaskState.LEASED,
    (TaskState.READY, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.READY, Step.EXPIRE): TaskState.EXPIRED,
    (TaskState.LEASED, Step.START): TaskState.STARTED,
    (TaskState.LEASED, Step.HAND_BACK): TaskState.READY,
    (TaskState.LEASED, Step.LOSE): TaskState.READY,
    (TaskState.LEASED, Step.SUCCEED): TaskState.SUCCESS,
    (TaskState.LEASED, Step.FAIL): TaskState.FAILURE,
    (TaskState.LEASED, Step.RETRY): TaskState.RETRYING,
    (TaskState.LEASED, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.LEASED, Step.EXPIRE): TaskState.EXPIRED,
    (TaskState.STARTED, Step.HAND_BACK): TaskState.READY,
    (TaskState.STARTED, Step.LOSE): TaskState.READY,
    (TaskState.STARTED, Step.SUCCEED): TaskState.SUCCESS,
    (TaskState.STARTED, Step.FAIL): TaskState.FAILURE,
    (TaskState.STARTED, Step.RETRY): TaskState.RETRYING,
    (TaskState.STARTED, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.RETRYING, Step.QUEUE): TaskState.READY,
    (TaskState.RETRYING, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.RETRYING, Step.EXPIRE): TaskState.EXPIRED,
}

TERMINAL_STATES = (
    TaskState.SUCCESS,
    TaskState.FAILURE,
    TaskState.CANCELLED,
    TaskState.EXPIRED,
    TaskState.REFUSED,
)

WIRE_STATUS: dict[TaskState, WireStatus] = {
    TaskState.HELD: WireStatus.HELD,
    TaskState.READY: WireStatus.PENDING,
    TaskState.LEASED: WireStatus.PENDING,
    TaskState.STARTED: WireStatus.STARTED,
    TaskState.RETRYING: WireStatus.PENDING,
    TaskState.SUCCESS: WireStatus.SUCCESS,
    TaskState.FAILURE: WireStatus.FAILURE,
    TaskState.CANCELLED: WireStatus.CANCELLED,
    TaskState.EXPIRED: WireStatus.EXPIRED,
    TaskState.REFUSED: WireStatus.REFUSED,
}


class TaskRecord:
    """The control plane's row for a task that has not ended.

    ``fence`` grows with every lease; ``uncounted`` of those leases were no
    attempts (handed back, or lost beside another task). A suspect is run alone
    (``is_solo``); what was merely near when a worker died is never sent ahead
    again (``is_wary``), so that it is among the suspects if that happens twice.

    ``expires_at`` is when it must have started, ``deadline_at`` when it must have
    ended, ``retry_at`` when it is its turn again while RETRYING: all ``inf``
    where there is no such time. ``errors`` are those of failed attempts.
    ``has_run`` once some of its code may have run, whether that counted or not.
    ``watchers`` want to hear of it besides its owner.
    """

    __slots__ = (
        "deadline_at",
        "errors",
        "estimate",
        "expires_at",
        "failures",
        "fence",
        "has_run",
        "held_until",
        "is_cancel_requested",
        "is_solo",
        "is_wary",
        "losses",
        "message",
        "owner",
        "progress",
        "retry_at",
        "sequence",
        "spec",
        "started",
        "state",
        "uncounted",
        "watchers",
        "worker",
    )

    def __init__(self, spec: TaskSpec, sequence: int, owner: bytes | None) -> None:
        self.spec = spec
        self.sequence = sequence
        self.owner = owner
        self.state = TaskState.HELD
        self.fence = 0
        self.uncounted = 0
        self.has_run = False
        self.worker: SubworkerRecord | None = None
        self.estimate: float | None = None
        self.started = 0.0
        self.is_solo = False
        self.is_wary = False
        self.is_cancel_requested = False
        self.losses: tuple[str, ...] = ()
        self.held_until = 0.0
        self.expires_at = math.inf
        self.deadline_at = math.inf
        self.retry_at = math.inf
        self.failures = 0
        self.errors: tuple[str, ...] = ()
        self.progress = -1.0
        self.message = ""
        self.watchers: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<TaskRecord {self.spec.id} {self.spec.name!r} {self.state.value} #{self.fence}>"
        )

    def step(self, step: Step) -> None:
        """Move along the table.

        Raises:
          LocalProtocolError: the table has no such step; nothing changed.
        """
        state = TASK_TRANSITIONS.get((self.state, step))
        if state is None:
            raise LocalProtocolError(f"cannot {step.value} {self!r}")
        self.state = state

    def has_content(self, spec: TaskSpec) -> bool:
        """Whether ``spec`` asks for the very same thing."""
        own = self.spec
        return (
            own.name == spec.name
            and own.payload == spec.payload
            and own.priority == spec.priority
            and own.format == spec.format
            and own.callback == spec.callback
            and own.options == spec.options
        )

    @property
    def attempts(self) -> int:
        """How many attempts have counted so far, a live one included."""
        return self.fence - self.uncounted

    @property
    def next_alarm(self) -> float:
        """When something has to happen to it by itself, ``inf`` for never.

        While a subworker has it, that keeps the time.
        """
        if self.worker is not None:
            return math.inf
        expires_at = self.expires_at if not self.failures else math.inf
        return min(self.deadline_at, expires_at, self.retry_at)

    def fail(self, error: str) -> None:
        """Note an attempt that has failed, and that is not the last."""
        self.failures += 1
        self.errors = (*self.errors, error)[-MAX_EARLIER_ERRORS:]
        self.progress, self.message = -1.0, ""

    def event(self, *, error: str = "", ending: Ending = Ending.COMPLETED) -> TaskEvent:
        """What a client is told about this task now."""
        return TaskEvent(
            task_id=self.spec.id,
            status=WIRE_STATUS[self.state],
            error=error,
            started=self.started,
            worker_id=self.worker.label if self.worker is not None else "",
            attempts=self.attempts,
            ending=ending,
            errors=list(self.errors),
            progress=self.progress,
            message=self.message,
        )


def content_digest(spec: TaskSpec) -> int:
    """Tells the contents of two tasks with one id apart, long after the task ended."""
    # A collision would accept a second, different task under a used id as the
    # first one; within one process's life 64 bits of hash are plenty for that.
    return hash(
        (spec.name, spec.payload, spec.priority, spec.format, spec.callback, spec.options)
    )
