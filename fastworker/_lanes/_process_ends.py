"""How an attempt has ended whose process has died under it."""

from __future__ import annotations

import signal
import time
from typing import Final

import msgspec

from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_FAILURE,
    AttemptEnded,
    AttemptKey,
)
from fastworker._lanes._process_messages import LOST_PIPE

# Whoever dies of these was not asked to.
_CRASHES: Final = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGABRT,
        signal.SIGSYS,
    }
)
_LOST_PIPE_TEXT: Final = "its process closed the pipe to its worker"


class Death(msgspec.Struct, frozen=True):
    """What the lane knows of a process that is gone.

    ``returncode`` is as in ``subprocess``. ``asked_ago`` is for how many
    seconds it had been asked to stop, None if it was not. ``why_killed`` says
    why the lane killed it before its time, empty if it did not.
    """

    returncode: int
    asked_ago: float | None = None
    why_killed: str = ""
    memory: int | None = None


def describe_exit(returncode: int) -> str:
    """Say how a process has ended, in words."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def end_by_death(
    key: AttemptKey, started_wall: float, seconds: float, death: Death
) -> AttemptEnded:
    """Give the end of an attempt that had started when its process died.

    It was cancelled if it was asked to stop and did not crash; else it failed.
    """
    number = max(0, -death.returncode)
    is_cancelled = death.asked_ago is not None and number not in _CRASHES
    if is_cancelled:
        error = f"TaskCancelled: {_how_it_was_stopped(death)}"
    elif death.why_killed:
        error = f"ProcessDied: {death.why_killed}, and was killed"
    else:
        error = f"ProcessDied: {_how_it_died(death)}"
    return AttemptEnded(
        key,
        OUTCOME_CANCELLED if is_cancelled else OUTCOME_FAILURE,
        started_wall,
        max(started_wall, time.time()),
        seconds,
        error=error,
        signal=number,
        is_retryable=not is_cancelled,
    )


def _how_it_was_stopped(death: Death) -> str:
    if death.returncode == -signal.SIGKILL:
        return f"it did not stop within {death.asked_ago:.1f} s, so its process was killed"
    return f"its process ended with {describe_exit(death.returncode)} when it was asked to stop"


def _how_it_died(death: Death) -> str:
    if death.returncode == LOST_PIPE:
        return _LOST_PIPE_TEXT
    text = f"its process ended with {describe_exit(death.returncode)}"
    if death.returncode == -signal.SIGKILL:
        text += ", not sent by its worker; the kernel does that when memory runs out"
    elif death.memory is not None and -death.returncode in _CRASHES:
        text += f"; its memory is limited ({death.memory:,} bytes)"
    return text
