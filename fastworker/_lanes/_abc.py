"""Lanes: where user code runs, seen from the subworker's link loop.

User code never runs on the loop that speaks to the control plane, so a task
that blocks stops no heartbeat. Each kind of lane has a thread (or several) of
its own; attempts go in, events come out, and nothing here awaits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from fastworker._core._attempts import OUTCOME_CANCELLED as OUTCOME_CANCELLED
from fastworker._core._attempts import OUTCOME_EXPIRED as OUTCOME_EXPIRED
from fastworker._core._attempts import OUTCOME_FAILURE as OUTCOME_FAILURE
from fastworker._core._attempts import OUTCOME_SUCCESS as OUTCOME_SUCCESS
from fastworker._core._attempts import AttemptEnded as AttemptEnded
from fastworker._core._attempts import AttemptKey as AttemptKey
from fastworker._core._attempts import AttemptPaused as AttemptPaused
from fastworker._core._attempts import AttemptProgressed as AttemptProgressed
from fastworker._core._attempts import AttemptStarted as AttemptStarted
from fastworker._core._attempts import AttemptYielded as AttemptYielded
from fastworker._core._attempts import LaneEvent as LaneEvent
from fastworker._models import DEFAULT_GRACE


class InProcess(msgspec.Struct, frozen=True, gc=False):
    """What another process must know to find a function and to run it.

    ``module`` is where the function was written; importing it registers the
    function. ``loop`` is the event loop that it needs, empty for a ``def``.
    ``memory`` is in bytes, see ``@task``; None is any amount.
    """

    module: str
    loop: str = ""
    memory: int | None = None
    recycle_after: int | None = None


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One execution to be done: the function and its still encoded arguments.

    ``time_left`` is seconds until the task's deadline, from now on, ``inf`` for
    none: for user code to ask. To stop the attempt then is the link loop's
    business; but once ``start_within`` seconds are over, the lane does not start
    it, and it ends as OUTCOME_EXPIRED. ``created`` is wall time. ``stream`` is
    how many values a generator may be ahead of its reader, 0 if it is no stream.
    ``process`` is for the process lane, which cannot be given the function.
    ``trace`` and ``earlier`` are for whoever measures, see ``_instruments.py``.
    """

    key: AttemptKey
    name: str
    function: Callable[..., Any]
    payload: bytes
    format: int
    is_retryable: Callable[[BaseException], bool] | None = None
    number: int = 1
    priority: int = 2
    time_left: float = math.inf
    start_within: float = math.inf
    worker_id: str = ""
    created: float = 0.0
    stream: int = 0
    process: InProcess | None = None
    trace: str = ""
    earlier: str = ""


class LaneSink(Protocol):
    """Takes events from lane threads and wakes the link loop once per batch."""

    def post(self, event: LaneEvent) -> None:
        """Hand over an event, from any thread; never blocks and never raises."""
        ...


class Lane(Protocol):
    """One place where attempts run. All methods are for the link loop only.

    Each submitted attempt is either taken back, or dropped by ``close``, or
    posts exactly one AttemptEnded. AttemptStarted comes before it, unless it
    never started, having been cancelled before: then ``started_wall`` is 0.
    """

    @property
    def kind(self) -> str:
        """``"thread"``, ``"trio"``, ``"asyncio"`` or ``"process"``."""
        ...

    @property
    def slots(self) -> int:
        """How many attempts run at the same time."""
        ...

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot; one more or less while threads take them."""
        ...

    def start(self) -> None:
        """Start the lane's threads. Called once."""
        ...

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts; they are taken in this order as slots become free.

        Raises:
          LocalProtocolError: the lane is closed, or holds an attempt of the
              same key. Nothing was queued.
        """
        ...

    def take_back(self) -> list[AttemptKey]:
        """Remove every attempt that has not started and say which they were.

        An attempt is either taken back or posts its events, never both.
        """
        ...

    def cancel(self, key: AttemptKey, grace: float = DEFAULT_GRACE) -> None:
        """Ask one attempt to stop. Unstarted ones end as OUTCOME_CANCELLED.

        ``grace`` is in seconds. A process gets SIGTERM now and SIGKILL after
        it; the other lanes ask, and can do no more.

        A running one ends in its own time, as what it really did: a function
        that returned its value all the same is OUTCOME_SUCCESS. An attempt
        that has already ended, or is not known, is left alone.
        """
        ...

    def credit(self, key: AttemptKey, count: int) -> None:
        """Say that ``count`` values of a stream have been read, from the first on.

        Its generator goes on once fewer wait than ``Attempt.stream``. A count
        that is not above an earlier one changes nothing, nor does one for an
        attempt that is not known.
        """
        ...

    def close(self) -> None:
        """Take no more attempts and let the threads end; never waits.

        Attempts that have not started never will, and post nothing: call
        ``take_back`` first to learn which they are. Running ones are
        cancelled where the lane can (Trio, asyncio); in a thread
        ``check_cancelled()`` raises from now on, and a function that never
        asks runs on until it returns. All threads are daemons, so they never
        hold the process.
        """
        ...

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the threads; True if all ended."""
        ...
