"""How the end of an attempt is told: what the lane saw, and why it was stopped."""

from __future__ import annotations

from typing import Final

from fastworker._core._attempts import (
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptKey,
)
from fastworker._core._held_attempts import Held, Why
from fastworker._core._messages import EndedAttempt, Ending, WireStatus

_OUTCOMES: Final = {
    OUTCOME_SUCCESS: WireStatus.SUCCESS,
    OUTCOME_CANCELLED: WireStatus.CANCELLED,
    OUTCOME_EXPIRED: WireStatus.EXPIRED,
}


def ended_attempt(event: AttemptEnded, held: Held) -> EndedAttempt:
    """What the control plane is told of an attempt that has ended.

    One that had run too long and stopped when asked has failed; one that
    returned all the same, while it was asked to stop, has returned.
    """
    outcome = _OUTCOMES.get(event.kind, WireStatus.FAILURE)
    error, is_retryable = event.error, event.is_retryable
    if outcome is WireStatus.CANCELLED and held.why in _REASONS:
        outcome = WireStatus.FAILURE
        error = reason(held)
        is_retryable = _may_run_again(held)
    key = event.key
    return EndedAttempt(
        key.task_id,
        key.attempt,
        outcome,
        event.started_wall,
        event.wall,
        event.seconds,
        event.format,
        event.payload,
        error,
        event.traceback,
        _ending(event),
        event.signal,
        is_retryable,
        held.span,
    )


def abandoned_attempt(key: AttemptKey, held: Held, now: float) -> EndedAttempt:
    """What the control plane is told of an attempt that does not stop."""
    is_cancelled = held.why is Why.CANCELLED
    seconds = 0.0 if held.started_at is None else now - held.started_at
    still = "it has not stopped and may still be running; its result will be dropped"
    return EndedAttempt(
        task_id=key.task_id,
        attempt=key.attempt,
        outcome=WireStatus.CANCELLED if is_cancelled else WireStatus.FAILURE,
        started=0.0,
        completed=0.0,
        seconds=seconds,
        error=f"abandoned: {still}" if is_cancelled else f"{reason(held)}; {still}",
        ending=Ending.ABANDONED,
        is_retryable=_may_run_again(held),
        span=held.span,
    )


def reason(held: Held) -> str:
    """Why an attempt that nobody cancelled was stopped, in words."""
    if held.why is Why.TIMED_OUT:
        return f"TaskTimedOut: it ran longer than its timeout of {held.timeout:g} s"
    return "TaskTimedOut: its deadline passed while it ran"


def _may_run_again(held: Held) -> bool:
    # Not at its task's deadline: a retry would come after it.
    return held.why is Why.TIMED_OUT and held.retries_timeout


_REASONS: Final = (Why.TIMED_OUT, Why.DEADLINE)


def _ending(event: AttemptEnded) -> Ending:
    if event.signal:
        return Ending.KILLED
    if not event.started_wall:
        return Ending.NEVER_STARTED
    return Ending.CANCELLED if event.kind == OUTCOME_CANCELLED else Ending.COMPLETED
