"""What happens to the scheduler, and what it wants done."""

from __future__ import annotations

import msgspec

from fastworker._core._messages import (
    Assignment,
    Callback,
    FunctionInfo,
    HeldAttempt,
    Lease,
    ReadUpTo,
    Report,
    StopOrder,
    StreamCredit,
    StreamValue,
    SubmitReply,
    TaskEvent,
    TaskSpec,
)
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._stored import StoredTask
from fastworker._core._task_questions import Untouched
from fastworker._core._task_states import TaskRecord

# --- events -----------------------------------------------------------------


class TasksSubmitted(msgspec.Struct, frozen=True, gc=False):
    """A client hands in tasks and wants to hear of them under ``owner``.

    ``misdirected`` are those, by index, whose callback may not go where it should,
    with the reason; they are refused unless they are known already.
    """

    owner: bytes
    tasks: list[TaskSpec]
    misdirected: dict[int, str] = {}


class SubworkerJoined(msgspec.Struct, frozen=True, gc=False):
    """A subworker opened a session.

    ``held`` is what it was leased by an earlier control plane, of which it may keep
    some. ``holder`` names the session in the store, and is empty for lanes in the
    control plane's own process.
    """

    key: bytes
    worker_id: str
    address: str
    functions: list[FunctionInfo]
    holder: bytes = b""
    held: list[HeldAttempt] = []
    is_inside: bool = False


class CapacityStated(msgspec.Struct, frozen=True, gc=False):
    """A subworker said what its lanes may hold."""

    key: bytes
    lease: Lease


class AttemptsReported(msgspec.Struct, frozen=True, gc=False):
    """A subworker told of its attempts."""

    key: bytes
    report: Report


class SubworkerLost(msgspec.Struct, frozen=True, gc=False):
    """A subworker is gone, with whatever it was running.

    ``is_clean``: it said goodbye, so nothing was running and nobody is suspect.
    """

    key: bytes
    reason: str
    is_clean: bool = False


class ChildrenEnded(msgspec.Struct, frozen=True, gc=False):
    """The processes of an earlier control plane that had these worker ids have ended."""

    worker_ids: list[str]


class TasksCancelled(msgspec.Struct, frozen=True, gc=False):
    """Somebody wants these tasks not to run, or to stop.

    ``grace`` is how many seconds a running attempt gets, None for what its
    function or its call says. ``watcher`` wants to hear how they end. A ``leaver``
    takes back its own interest only; they go on if others have submitted them too.
    ``only_of``: tasks that somebody else owns, and not this one, are DENIED.
    """

    ids: list[str]
    grace: float | None = None
    watcher: bytes | None = None
    leaver: bytes | None = None
    only_of: bytes | None = None


class TasksRequeued(msgspec.Struct, frozen=True, gc=False):
    """These tasks, which have ended, are to run again under their ids."""

    tasks: list[StoredTask]


class TasksPurged(msgspec.Struct, frozen=True, gc=False):
    """These tasks, which have ended, are to be forgotten."""

    tasks: list[StoredTask]


class TasksWatched(msgspec.Struct, frozen=True, gc=False):
    """A client wants to hear of these tasks under ``owner`` from now on.

    ``is_owner``: they are its own, in a session that it had to open anew. Unless it
    ``may_take``, it becomes the owner only of what nobody else owns.
    """

    owner: bytes
    ids: list[str]
    is_owner: bool = True
    may_take: bool = True


class ValuesRead(msgspec.Struct, frozen=True, gc=False):
    """A client says how far it has read the streams of its own."""

    owner: bytes
    read: list[ReadUpTo]


class OwnerGone(msgspec.Struct, frozen=True, gc=False):
    """A client will not come back; its attached tasks are cancelled."""

    owner: bytes


class Dispatch(msgspec.Struct, frozen=True, gc=False):
    """Hand out work to these subworkers, which can all be reached now.

    ``only_cancels``: no work any more, only what is to be stopped. ``avoids_careful``:
    nothing that must not start before its lease is durable; the store fails.
    """

    keys: list[bytes]
    only_cancels: bool = False
    avoids_careful: bool = False


SchedulerEvent = (
    TasksSubmitted
    | SubworkerJoined
    | CapacityStated
    | AttemptsReported
    | SubworkerLost
    | ChildrenEnded
    | TasksCancelled
    | TasksRequeued
    | TasksPurged
    | TasksWatched
    | ValuesRead
    | OwnerGone
    | Dispatch
    | DeadlinePassed
)

# --- commands ---------------------------------------------------------------


class SubmitDecided(msgspec.Struct, frozen=True, gc=False):
    """The answer to TasksSubmitted; ``queued`` are new."""

    reply: SubmitReply
    queued: list[TaskRecord]


class TaskChanged(msgspec.Struct, frozen=True, gc=False):
    """Tell ``owner`` what became of a task. ``is_final``: it has ended.

    ``callback`` is somebody else who wants to be told of the end.
    """

    owner: bytes | None
    event: TaskEvent
    is_final: bool
    callback: Callback | None = None


class Assign(msgspec.Struct, frozen=True, gc=False):
    """Lease these attempts to the subworker ``key``, and tell it what to stop.

    Those among them that are ``careful`` are not to be given to it before the store
    has these leases: they must not start twice, or may end this very process.
    """

    key: bytes
    assignments: list[Assignment]
    cancels: list[StopOrder]
    careful: list[Assignment] = []


class ValueCame(msgspec.Struct, frozen=True, gc=False):
    """Pass the next value of a stream on to its reader."""

    owner: bytes | None
    value: StreamValue


class PassCredit(msgspec.Struct, frozen=True, gc=False):
    """Tell the subworker ``key`` how far one of its streams was read."""

    key: bytes
    credit: StreamCredit


class ActionDone(msgspec.Struct, frozen=True, gc=False):
    """The answer to TasksRequeued and TasksPurged."""

    done: list[str]
    untouched: list[Untouched]


class TasksDescribed(msgspec.Struct, frozen=True, gc=False):
    """The answer to TasksCancelled and TasksWatched: each task as it is now."""

    events: list[TaskEvent]


SchedulerCommand = (
    SubmitDecided | TaskChanged | ValueCame | Assign | PassCredit | TasksDescribed | ActionDone
)
