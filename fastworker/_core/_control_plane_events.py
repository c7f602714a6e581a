"""What happens to the control plane, and what it wants done."""

from __future__ import annotations

import enum

import msgspec

from fastworker._core._link_responder import SendTo, Ticket
from fastworker._core._messages import Callback, CallbacksAsked, CallbacksReply, TaskEvent
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened, Route
from fastworker._core._stored import Changes


class Port(enum.Enum):
    """Which of the three addresses a frame came in by."""

    BASE = "base"
    INSIDE = "inside"  # lanes of the control plane's own process
    MANAGEMENT = "management"
    DISCOVERY = "discovery"


# --- events -----------------------------------------------------------------


class FrameArrived(msgspec.Struct, frozen=True, gc=False):
    """Bytes came along a route. They may be anything."""

    port: Port
    route: Route
    data: bytes


class RecordsDurable(msgspec.Struct, frozen=True, gc=False):
    """The store has made everything up to this batch durable."""

    batch: int


class RecordsFailed(msgspec.Struct, frozen=True, gc=False):
    """The store could not take this batch, and has nothing of it.

    It is not to be asked again before StoreRecovered. ``reason`` is for people.
    """

    batch: int
    reason: str


class StoreRecovered(msgspec.Struct, frozen=True, gc=False):
    """The store can be written again."""


class CalledBack(msgspec.Struct, frozen=True, gc=False):
    """All has been done to tell somebody of the ends of these tasks."""

    task_ids: list[str]


class ProcessExited(msgspec.Struct, frozen=True, gc=False):
    """Our own supervisor saw the process of this subworker end."""

    worker_id: str


class OldProcessesEnded(msgspec.Struct, frozen=True, gc=False):
    """The subworker processes have ended that an earlier control plane had started."""

    worker_ids: list[str]


class DrainRequested(msgspec.Struct, frozen=True, gc=False):
    """Accept nothing more and hand out nothing more; what runs may end."""


class CallbacksDescribed(msgspec.Struct, frozen=True, gc=False):
    """The answer to DescribeCallbacks with this session and ticket."""

    session: bytes
    ticket: Ticket
    reply: CallbacksReply


ControlPlaneEvent = (
    FrameArrived
    | CallbacksDescribed
    | DrainRequested
    | RecordsDurable
    | RecordsFailed
    | StoreRecovered
    | CalledBack
    | ProcessExited
    | OldProcessesEnded
    | PipeOpened
    | PipeClosed
    | Flush
    | DeadlinePassed
)

# --- commands ---------------------------------------------------------------


class ClosePipe(msgspec.Struct, frozen=True, gc=False):
    """Close this pipe."""

    pipe: int


class AppendRecords(msgspec.Struct, frozen=True, gc=False):
    """Make these durable, then say RecordsDurable(batch), or RecordsFailed."""

    batch: int
    changes: Changes


class CallBack(msgspec.Struct, frozen=True, gc=False):
    """Tell this of the task's end, whose record is durable."""

    callback: Callback
    event: TaskEvent


class DescribeCallbacks(msgspec.Struct, frozen=True, gc=False):
    """Say CallbacksDescribed: whoever sends the callbacks knows where they are."""

    session: bytes
    ticket: Ticket
    asked: CallbacksAsked


ControlPlaneCommand = SendTo | ClosePipe | AppendRecords | CallBack | DescribeCallbacks
