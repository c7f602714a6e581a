"""What operators ask about the control plane and its subworkers, and what they are told."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fastworker._core._messages import Count, Line, Name, ShortText, WallTime


class About(msgspec.Struct, frozen=True, gc=False):
    """What a control plane says of itself. ``started`` is wall time."""

    version: str = ""
    store: str = "memory"
    started: float = 0.0


class OverviewAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How is the control plane?"""


class Overview(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The control plane in numbers, all of one moment (S20).

    submitted = refused + held + the queued ones + leased + running + away + retrying +
    succeeded + failed + cancelled + expired. ``queued`` has a number for each priority,
    critical first. ``now`` and ``started`` are wall time. ``store_error`` says why
    nothing can be written now. ``workers`` counts the subworkers with a session,
    ``lost_workers`` those whose session ended without a goodbye.
    """

    worker_id: ShortText
    version: ShortText
    epoch: Count
    now: WallTime
    started: WallTime
    store: Line
    is_durable: bool
    store_error: Line
    is_draining: bool
    submitted: Count
    refused: Count
    held: Count
    queued: Annotated[list[Count], Meta(min_length=4, max_length=4)]
    leased: Count
    running: Count
    away: Count
    retrying: Count
    succeeded: Count
    failed: Count
    cancelled: Count
    expired: Count
    queued_bytes: Count
    max_queued: Count
    max_queued_bytes: Count
    clients: Count
    workers: Count
    functions: Count
    stale_reports: Count = 0
    malformed_frames: Count = 0
    closed_sessions: Count = 0
    lost_workers: Count = 0


class WorkersAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Which subworkers are there? Those that joined after number ``after``."""

    after: Count = 0


class LaneRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A lane: how many attempts may run in it at once, how many it has, how many run."""

    name: ShortText
    capacity: Count
    leased: Count
    running: Count


class RunningTask(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task that runs. ``started`` is wall time; ``progress`` is negative if unsaid."""

    task_id: Name
    name: Name
    started: WallTime
    lane: ShortText = ""
    progress: float = -1.0
    message: Line = ""


class WorkerRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A subworker. ``number`` says when it joined, compared with the others.

    ``status`` is "active", "away" (its connection is lost), or "draining". ``idle`` is
    seconds since it was last heard of. ``is_inside``: its lanes are in the control
    plane's own process. Of what runs, and of its functions, there may be more than are
    named: ``running_count``, ``function_count``.
    """

    number: Count
    worker_id: ShortText
    address: ShortText
    status: ShortText
    is_inside: bool
    load: Count
    capacity: Count
    idle: float
    joined: WallTime
    lanes: list[LaneRow] = []
    running: list[RunningTask] = []
    running_count: Count = 0
    functions: list[Name] = []
    function_count: Count = 0


class WorkersReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A page of subworkers, in the order in which they joined."""

    workers: list[WorkerRow]
    more: bool = False


class DrainAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Have this subworker take no more work, and end when what it runs has ended."""

    worker_id: ShortText


class DrainReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """``problem`` says why that subworker is not drained; empty if it is."""

    problem: Line = ""
