"""What a cancel has come to: one value for each way in which a task can end."""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastworker._core._messages import Ending, TaskEvent, WireStatus
from fastworker._errors import NotDecodable
from fastworker._models import SerializationFormat, TaskResult
from fastworker._outcomes import result_of


@dataclass(frozen=True, slots=True)
class NeverStarted:
    """None of the task's code ever ran."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task was running, was asked to stop, and did: its ``finally`` blocks have run.

    ``after`` is how many seconds the attempt had run, None if that is not known.
    """

    after: float | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The task ended by itself, before the cancel came or in spite of it.

    ``result`` says how: it may also have failed. ``value`` is what it returned.
    """

    result: TaskResult

    @property
    def value(self) -> Any:
        """What the task returned, None if it failed."""
        return self.result.result


@dataclass(frozen=True, slots=True)
class Killed:
    """The process that ran the task was ended by a signal, given by its number."""

    signal: int

    def __str__(self) -> str:
        try:
            return f"Killed({signals.Signals(self.signal).name})"
        except ValueError:
            return f"Killed({self.signal})"


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The task did not stop within its grace. It may still be running.

    Its result will be dropped. Only a process can be killed: see
    ``@task(isolation="process")``.
    """


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody can know: who ran the task, or who kept it, is gone.

    The only outcome after which it is unknown what the task has done.
    """

    reason: str


CancelOutcome: TypeAlias = NeverStarted | Cancelled | Completed | Killed | Abandoned | Lost


def outcome_of(event: TaskEvent, accepted: SerializationFormat) -> CancelOutcome:
    """What a caller learns of a task that it wanted cancelled, and that has ended.

    Args:
      event: its end.
      accepted: a value in another format is not decoded (X5).
    """
    match event.ending:
        case Ending.NEVER_STARTED:
            return NeverStarted()
        case Ending.CANCELLED:
            return Cancelled(_seconds(event))
        case Ending.KILLED:
            return Killed(event.signal)
        case Ending.ABANDONED:
            return Abandoned()
        case Ending.LOST:
            return Lost(event.error)
        case Ending.COMPLETED:
            pass
    if event.status is WireStatus.FAILURE and event.error.startswith("lost:"):
        return Lost(event.error)
    try:
        return Completed(result_of(event, accepted))
    except NotDecodable as error:
        # It has ended, and that is what was asked; its value is another's.
        bare = TaskEvent(event.task_id, event.status, error=str(error)[:1000])
        return Completed(result_of(bare, accepted, with_value=False))


def _seconds(event: TaskEvent) -> float | None:
    if not event.started or not event.completed:
        return None
    return max(0.0, event.completed - event.started)
