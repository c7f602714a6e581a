"""Lanes: where user code runs, seen from the subworker's link loop.

User code never runs on the loop that speaks to the control plane, so a task
that blocks stops no heartbeat. Each kind of lane has a thread (or several) of
its own; attempts go in, events come out, and nothing here awaits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec



class AttemptKey(NamedTuple):
    """Names one execution of one task: the fence, as the worker sees it."""

    task_id: str
    epoch: int
    attempt: int


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One execution to be done: the function and its still encoded arguments."""

    key: AttemptKey
    name: str
    function: Callable[..., Any]
    payload: bytes
    format: int


class AttemptStarted(msgspec.Struct, frozen=True, gc=False):
    """User code is about to run. ``wall`` is seconds since 1970, UTC."""

    key: AttemptKey
    wall: float


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """User code has ended; exactly one for each attempt that was started.

    ``kind`` is one of the OUTCOME_* numbers. ``payload`` holds the encoded
    result in ``format`` when it is OUTCOME_SUCCESS; else ``error`` is one line
    ("ValueError: bad") and ``traceback`` the text of the traceback. The walls
    are seconds since 1970, UTC; ``seconds`` is how long user code ran.
    """

    key: AttemptKey
    kind: int
    started_wall: float
    wall: float
    seconds: float
    payload: bytes = b""
    format: int = 0
    error: str = ""
    traceback: str = ""


OUTCOME_SUCCESS = 0
OUTCOME_FAILURE = 1
OUTCOME_CANCELLED = 2

LaneEvent = AttemptStarted | AttemptEnded


class LaneSink(Protocol):
    """Takes events from lane threads and wakes the link loop once per batch."""

    def post(self, event: LaneEvent) -> None:
        """Hand over an event, from any thread; never blocks and never raises."""
        ...


class Lane(Protocol):
    """One place where attempts run. All methods are for the link loop only."""

    @property
    def kind(self) -> str:
        """``"thread"``, ``"trio"`` or ``"asyncio"``."""
        ...

    @property
    def slots(self) -> int:
        """How many attempts run at the same time."""
        ...

    def start(self) -> None:
        """Start the lane's threads. Called once."""
        ...

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts; they start in this order as slots become free."""
        ...

    def take_back(self) -> list[AttemptKey]:
        """Remove every attempt that has not started and say which they were.

        An attempt is either taken back or posts its events, never both.
        """
        ...

    def cancel(self, key: AttemptKey) -> None:
        """Ask one attempt to stop. Unstarted ones end as OUTCOME_CANCELLED.

        An attempt that has already ended, or is not known, is left alone.
        """
        ...

    def close(self) -> None:
        """Take no more attempts and let the threads end; never waits.

        Attempts that have not started never will. Running ones are cancelled
        where the lane can (Trio, asyncio); a thread runs on until its
        function returns, and is a daemon, so it never holds the process.
        """
        ...

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the threads; True if all ended."""
        ...


