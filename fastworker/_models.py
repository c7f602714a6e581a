"""The values that users hold: priorities, statuses, tasks and results.

These are the models and enums of the API reference. They know nothing of the
wire or of the machines, so every layer may use them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

# An attempt that is asked to stop gets this many seconds, unless it says otherwise.
DEFAULT_GRACE: Final = 5.0
# A year: whoever waits longer than this wants a schedule.
LONGEST_DELAY: Final = 365 * 24 * 3600.0
MAX_RETRIES: Final = 1_000_000


class TaskPriority(enum.IntEnum):
    """How urgent a task is; a lower number is served first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3

    @classmethod
    def parse(cls, value: TaskPriority | int | str) -> TaskPriority:
        """Accept a member, its number 0-3, or its name in any case.

        Raises:
          ValueError: the value names no priority.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            member = cls.__members__.get(value.strip().upper())
            if member is not None:
                return member
        elif type(value) is int and cls.CRITICAL <= value <= cls.LOW:
            return cls(value)
        raise ValueError(
            f"priority {value!r}: use a TaskPriority, 0 to 3, "
            f"or 'critical', 'high', 'normal', 'low'"
        )


class TaskStatus(enum.Enum):
    """Where a task is in its life; the values are the lower-case names.

    CANCELLED and EXPIRED appear only for tasks that somebody cancelled or
    gave an expiry; all others are in one of the first four.
    """

    PENDING = "pending"
    STARTED = "started"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether this status never changes again."""
        return self not in (TaskStatus.PENDING, TaskStatus.STARTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """What a task has come to, as the stream of events tells it.

    ``number`` is its place in the order of submission. ``state`` is more exact than
    ``status``: of a PENDING task it is "queued", "leased" or "retrying". ``error`` is
    one line, of its end or of the attempt before. Datetimes are UTC-aware.
    """

    task_id: str
    name: str
    status: TaskStatus
    state: str
    priority: TaskPriority
    number: int
    created_at: datetime
    changed_at: datetime
    started_at: datetime | None = None
    worker_id: str | None = None
    attempts: int = 0
    error: str | None = None
    cancel_requested: bool = False


class SerializationFormat(enum.Enum):
    """How arguments and results travel."""

    JSON = "json"
    PICKLE = "pickle"

    @classmethod
    def parse(cls, value: SerializationFormat | str) -> SerializationFormat:
        """Accept a member or its name in any case.

        Raises:
          ValueError: the value names no format.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            member = cls.__members__.get(value.strip().upper())
            if member is not None:
                return member
        raise ValueError(f"serialization format {value!r}: use 'json' or 'pickle'")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Task:
    """One submitted run of a task function.

    Datetimes are UTC-aware. ``error`` is one line. ``attempt`` is which attempt
    this is, from 1; ``deadline`` is when the task must have ended.
    """

    id: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    priority: TaskPriority = TaskPriority.NORMAL
    created_at: datetime = field(default_factory=_utc_now)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    status: TaskStatus = TaskStatus.PENDING
    result: Any = None
    error: str | None = None
    attempt: int = field(default=0, kw_only=True)
    worker_id: str | None = field(default=None, kw_only=True)
    deadline: datetime | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.args = tuple(self.args)
        self.priority = TaskPriority.parse(self.priority)


@dataclass(slots=True)
class TaskResult:
    """What is known about a task's execution.

    ``result`` is set for SUCCESS only. ``error`` is one line;
    ``traceback`` is the remote traceback as text, if there is one. ``attempts``
    is how many there were, and ``errors`` are those of the ones before the last.
    Datetimes are UTC-aware and come from the clock of the worker.
    """

    task_id: str
    status: TaskStatus
    result: Any = None
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    traceback: str | None = field(default=None, kw_only=True)
    worker_id: str | None = field(default=None, kw_only=True)
    attempts: int = field(default=0, kw_only=True)
    errors: list[str] = field(default_factory=list, kw_only=True)


@dataclass(slots=True, frozen=True)
class TaskFunctionInfo:
    """A task function that live workers know.

    ``signature`` and ``doc`` are one line each, for people; ``lane`` is
    "thread", "trio" or "asyncio", ``on_lost`` "retry" or "fail". ``workers``
    are the ids of the first few of ``worker_count``. Should workers differ, it
    is as the one announced it that joined last.
    """

    name: str
    signature: str
    doc: str
    lane: str
    on_lost: str
    workers: tuple[str, ...]
    worker_count: int


@dataclass(slots=True, frozen=True)
class CallbackInfo:
    """Where to send a notification when a task has ended, and what to add."""

    address: str
    data: dict[str, Any] | None = None


def shown(value: object) -> str:
    """A value that somebody gave, for the message that refuses it."""
    if isinstance(value, int) and value.bit_length() > 500:
        return "(a huge number)"  # Python may refuse to print it
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
