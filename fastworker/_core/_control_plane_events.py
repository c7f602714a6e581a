"""What happens to the control plane, and what it wants done."""

from __future__ import annotations

import enum

import msgspec

from fastworker._core._link_responder import SendTo, Ticket
from fastworker._core._messages import Callback, CallbacksAsked, CallbacksReply, Kind, TaskEvent
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened, Route
from fastworker._core._stored import Changes, StoredTask, TasksAsked, TasksPage
from fastworker._core._task_questions import TaskAction


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
    data: bytes | memoryview


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


class TasksRead(msgspec.Struct, frozen=True, gc=False):
    """The answer to ReadTasks: those that the store has, or why it cannot say.

    ``reached`` is of how many ids, the first ones, this is the answer; what is not
    needed to answer the question may be left out of the tasks.
    """

    question: ReadTasks
    tasks: list[StoredTask]
    reached: int
    problem: str = ""


class PageRead(msgspec.Struct, frozen=True, gc=False):
    """The answer to ReadPage with this session and ticket."""

    session: bytes
    ticket: Ticket
    page: TasksPage


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
    | TasksRead
    | PageRead
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


class ReadPage(msgspec.Struct, frozen=True, gc=False):
    """Read a page of tasks from the store, and say PageRead."""

    session: bytes
    ticket: Ticket
    asked: TasksAsked


class ReadTasks(msgspec.Struct, frozen=True, gc=False):
    """Read these tasks from the store, and say TasksRead.

    ``events`` is what memory knows of the tasks that a QUERY, WATCH or CANCEL is about,
    ``action`` and ``newest`` are of a TASK_ACTION.
    """

    session: bytes
    ticket: Ticket
    kind: Kind
    ids: list[str]
    action: TaskAction | None = None
    newest: int = 0
    events: list[TaskEvent] = []


class DescribeCallbacks(msgspec.Struct, frozen=True, gc=False):
    """Say CallbacksDescribed: whoever sends the callbacks knows where they are."""

    session: bytes
    ticket: Ticket
    asked: CallbacksAsked


class NoteAction(msgspec.Struct, frozen=True, gc=False):
    """Write down what a client has asked for, and what came of it.

    ``session`` is the label that it has given itself, ``address`` the host that it has
    connected from.
    """

    action: str
    outcome: str
    session: str
    address: str
    task_ids: list[str] = []
    worker_id: str = ""


ControlPlaneCommand = (
    SendTo
    | ClosePipe
    | AppendRecords
    | CallBack
    | DescribeCallbacks
    | ReadPage
    | ReadTasks
    | NoteAction
)
