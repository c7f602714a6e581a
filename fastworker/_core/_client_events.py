"""What happens to a client, and what it wants done."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from fastworker._core._event_messages import EventsAsked, EventsReply
from fastworker._core._link_requester import (
    DropPipe,
    Redirected,
    SendFrame,
    SessionOpened,
    SessionRefused,
)
from fastworker._core._messages import (
    CallbacksAsked,
    CallbacksReply,
    FunctionsAsked,
    FunctionsReply,
    Kind,
    RefusalCode,
    StreamValue,
    TaskEvent,
    TaskSpec,
)
from fastworker._core._metrics import MetricsAsked, MetricsReply
from fastworker._core._overview import (
    DrainAsked,
    DrainReply,
    Overview,
    OverviewAsked,
    WorkersAsked,
    WorkersReply,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened
from fastworker._core._stored import TasksAsked, TasksPage
from fastworker._core._task_questions import TaskAsked, TaskDetail, TasksDone, TasksNamed

# What can be asked about the control plane itself, and what comes as the answer.
Question: TypeAlias = (
    FunctionsAsked
    | CallbacksAsked
    | TasksAsked
    | TaskAsked
    | TasksNamed
    | OverviewAsked
    | WorkersAsked
    | MetricsAsked
    | DrainAsked
    | EventsAsked
)
QuestionReply: TypeAlias = (
    FunctionsReply
    | CallbacksReply
    | TasksPage
    | TaskDetail
    | TasksDone
    | Overview
    | WorkersReply
    | MetricsReply
    | DrainReply
    | EventsReply
)
QUESTIONS: Final[dict[type[Any], tuple[Kind, type[Any]]]] = {
    FunctionsAsked: (Kind.FUNCTIONS, FunctionsReply),
    CallbacksAsked: (Kind.CALLBACKS, CallbacksReply),
    TasksAsked: (Kind.TASKS, TasksPage),
    TaskAsked: (Kind.TASK, TaskDetail),
    TasksNamed: (Kind.TASK_ACTION, TasksDone),
    OverviewAsked: (Kind.OVERVIEW, Overview),
    WorkersAsked: (Kind.WORKERS, WorkersReply),
    MetricsAsked: (Kind.METRICS, MetricsReply),
    DrainAsked: (Kind.DRAIN, DrainReply),
    EventsAsked: (Kind.EVENTS, EventsReply),
}

# --- events -----------------------------------------------------------------


class FrameArrived(msgspec.Struct, frozen=True, gc=False):
    """Bytes came from the control plane."""

    data: bytes | memoryview


class TaskSubmitted(msgspec.Struct, frozen=True, gc=False):
    """A caller hands in a task.

    It waits for the outcome, or only for the acknowledgement, until ``deadline``.
    ``waits_for_room``: should the queue be full, it is submitted again.
    The task must start before ``expires_at`` and end before ``budget_at``: what
    is left of that goes along when it is sent.
    """

    spec: TaskSpec
    wants_outcome: bool = False
    deadline: float = math.inf
    expires_at: float = math.inf
    budget_at: float = math.inf
    waits_for_room: bool = False


class TasksSubmitted(msgspec.Struct, frozen=True, gc=False):
    """Somebody hands in several tasks, and hears of their ends; else as TaskSubmitted.

    Nobody waits for their acknowledgement itself, but it has to come until ``deadline``.
    Who hears of their ends keeps them: nobody asks here again.
    """

    specs: list[TaskSpec]
    deadline: float = math.inf
    expires_at: float = math.inf
    budget_at: float = math.inf
    waits_for_room: bool = False
    wants_outcome: ClassVar[bool] = False


class TaskAbandoned(msgspec.Struct, frozen=True, gc=False):
    """The caller wants this task not to run, and does not wait for it."""

    task_id: str


class CancelRequested(msgspec.Struct, frozen=True, gc=False):
    """A caller wants a task stopped that may be anybody's, and to hear how it ends.

    ``grace`` is how many seconds a running attempt gets; None is what its
    function or its call says.
    """

    task_id: str
    grace: float | None = None


class ValueRead(msgspec.Struct, frozen=True, gc=False):
    """A caller has taken the next value of a stream; ``size`` is its weight in bytes."""

    task_id: str
    size: int


class QueryMade(msgspec.Struct, frozen=True, gc=False):
    """A caller asks for the state of a task that may be anybody's."""

    query_id: int
    task_id: str


class QuestionAsked(msgspec.Struct, frozen=True, gc=False):
    """A caller asks about the control plane itself. Numbered as QueryMade is."""

    query_id: int
    question: Question


class QueryAbandoned(msgspec.Struct, frozen=True, gc=False):
    """The caller does not wait for this answer any more."""

    query_id: int


class ClientStopped(msgspec.Struct, frozen=True, gc=False):
    """Say goodbye, as far as that is possible."""


ClientEvent = (
    FrameArrived
    | TaskSubmitted
    | TasksSubmitted
    | TaskAbandoned
    | CancelRequested
    | ValueRead
    | QueryMade
    | QuestionAsked
    | QueryAbandoned
    | ClientStopped
    | PipeOpened
    | PipeClosed
    | Flush
    | DeadlinePassed
)

# --- commands ---------------------------------------------------------------


class TaskAcknowledged(msgspec.Struct, frozen=True, gc=False):
    """The control plane has the task. Said if somebody waits to hear just that."""

    task_id: str


class TaskRejected(msgspec.Struct, frozen=True, gc=False):
    """The task was not queued. ``code`` None: the control plane cannot be reached."""

    task_id: str
    code: RefusalCode | None
    message: str


class TaskEnded(msgspec.Struct, frozen=True, gc=False):
    """The task has its outcome. The local cache may have dropped it already.

    ``event`` says UNKNOWN or EVICTED of a task that was to be cancelled here, is
    another client's, and is not there (any more).
    """

    task_id: str
    event: TaskEvent


class ValueArrived(msgspec.Struct, frozen=True, gc=False):
    """The next value of a stream of this client has come."""

    value: StreamValue


class TaskTimedOut(msgspec.Struct, frozen=True, gc=False):
    """The caller's time is over. The task is taken back; ``event`` says where it was.

    ``finds_no_room``: the queue was full.
    """

    task_id: str
    event: TaskEvent
    was_sent: bool
    finds_no_room: bool = False


class QueryAnswered(msgspec.Struct, frozen=True, gc=False):
    """The state of the task that was asked for."""

    query_id: int
    event: TaskEvent


class QuestionAnswered(msgspec.Struct, frozen=True, gc=False):
    """The answer to QuestionAsked."""

    query_id: int
    answer: QuestionReply


class SaidGoodbye(msgspec.Struct, frozen=True, gc=False):
    """The control plane knows that this client has left."""


ClientCommand = (
    TaskAcknowledged
    | TaskRejected
    | TaskEnded
    | ValueArrived
    | TaskTimedOut
    | QueryAnswered
    | QuestionAnswered
    | SaidGoodbye
    | SendFrame
    | DropPipe
    | SessionOpened
    | Redirected
    | SessionRefused
)
