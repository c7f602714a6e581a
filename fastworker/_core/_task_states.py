"""A task's life as a table, and the control plane's row for one task.

The table is the only place that says which step may follow which; the picture
in the docs is drawn from it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from fastworker._core._messages import TaskEvent, TaskSpec, WireStatus
from fastworker._errors import LocalProtocolError

if TYPE_CHECKING:
    from fastworker._core._subworkers import SubworkerRecord


class TaskState(enum.Enum):
    """Where a task is, as the control plane sees it."""

    HELD = "held"  # its name is unknown so far; not accepted yet
    READY = "ready"
    LEASED = "leased"  # given to a subworker, not known to run
    STARTED = "started"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
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
    CANCEL = "cancel"

    __hash__ = object.__hash__


TASK_TRANSITIONS: dict[tuple[TaskState, Step], TaskState] = {
    (TaskState.HELD, Step.QUEUE): TaskState.READY,
    (TaskState.HELD, Step.REFUSE): TaskState.REFUSED,
    (TaskState.HELD, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.READY, Step.LEASE): TaskState.LEASED,
    (TaskState.READY, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.LEASED, Step.START): TaskState.STARTED,
    (TaskState.LEASED, Step.HAND_BACK): TaskState.READY,
    (TaskState.LEASED, Step.LOSE): TaskState.READY,
    (TaskState.LEASED, Step.SUCCEED): TaskState.SUCCESS,
    (TaskState.LEASED, Step.FAIL): TaskState.FAILURE,
    (TaskState.LEASED, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.STARTED, Step.LOSE): TaskState.READY,
    (TaskState.STARTED, Step.SUCCEED): TaskState.SUCCESS,
    (TaskState.STARTED, Step.FAIL): TaskState.FAILURE,
    (TaskState.STARTED, Step.CANCEL): TaskState.CANCELLED,
}

TERMINAL_STATES = (
    TaskState.SUCCESS,
    TaskState.FAILURE,
    TaskState.CANCELLED,
    TaskState.REFUSED,
)

WIRE_STATUS: dict[TaskState, WireStatus] = {
    TaskState.HELD: WireStatus.HELD,
    TaskState.READY: WireStatus.PENDING,
    TaskState.LEASED: WireStatus.PENDING,
    TaskState.STARTED: WireStatus.STARTED,
    TaskState.SUCCESS: WireStatus.SUCCESS,
    TaskState.FAILURE: WireStatus.FAILURE,
    TaskState.CANCELLED: WireStatus.CANCELLED,
    TaskState.REFUSED: WireStatus.REFUSED,
}


class TaskRecord:
    """The control plane's row for a task that has not ended.

    ``fence`` grows with every lease; ``uncounted`` of those leases were no
    attempts (handed back, or lost beside another task). A suspect is run alone
    (``is_solo``); what was merely near when a worker died is never sent ahead
    again (``is_wary``), so that it is among the suspects if that happens twice.
    """

    __slots__ = (
        "estimate",
        "fence",
        "held_until",
        "is_cancel_requested",
        "is_solo",
        "is_wary",
        "losses",
        "owner",
        "sequence",
        "spec",
        "started",
        "state",
        "uncounted",
        "worker",
    )

    def __init__(self, spec: TaskSpec, sequence: int, owner: bytes | None) -> None:
        self.spec = spec
        self.sequence = sequence
        self.owner = owner
        self.state = TaskState.HELD
        self.fence = 0
        self.uncounted = 0
        self.worker: SubworkerRecord | None = None
        self.estimate: float | None = None
        self.started = 0.0
        self.is_solo = False
        self.is_wary = False
        self.is_cancel_requested = False
        self.losses: tuple[str, ...] = ()
        self.held_until = 0.0

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
        )

    def event(self, *, error: str = "") -> TaskEvent:
        """What a client is told about this task now."""
        return TaskEvent(
            task_id=self.spec.id,
            status=WIRE_STATUS[self.state],
            error=error,
            started=self.started,
            worker_id=self.worker.label if self.worker is not None else "",
            attempts=self.fence - self.uncounted,
        )


def content_digest(spec: TaskSpec) -> int:
    """Tells the contents of two tasks with one id apart, long after the task ended."""
    # A collision would accept a second, different task under a used id as the
    # first one; within one process's life 64 bits of hash are plenty for that.
    return hash((spec.name, spec.payload, spec.priority, spec.format, spec.callback))
