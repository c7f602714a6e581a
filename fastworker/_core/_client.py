"""The client's machine: tasks handed in, news of them, and callers that leave.

Callers come and go by the thousand; the link has sixteen slots. So calls only
change this machine, and frames are made when the network can take one
(Flush), from everything that has gathered: under load a frame carries
hundreds of tasks without anybody having waited for a batch to fill.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from fastworker._core._client_events import (
    QUESTIONS,
    CancelRequested,
    ClientCommand,
    ClientEvent,
    ClientStopped,
    FrameArrived,
    QueryAbandoned,
    QueryAnswered,
    QueryMade,
    QuestionAnswered,
    QuestionAsked,
    SaidGoodbye,
    TaskAbandoned,
    TaskAcknowledged,
    TaskEnded,
    TaskRejected,
    TasksSubmitted,
    TaskSubmitted,
    TaskTimedOut,
    ValueArrived,
    ValueRead,
)
from fastworker._core._codec import decode_body, decode_frame, encode
from fastworker._core._deadlines import Deadlines
from fastworker._core._link_requester import (
    CallAnswered,
    CallDropped,
    CallerLeft,
    CallIssued,
    DropPipe,
    FrameReceived,
    LinkCommand,
    LinkEnded,
    LinkState,
    Redirected,
    RequesterLink,
    SendFrame,
    SessionOpened,
    SessionRefused,
)
from fastworker._core._messages import (
    BATCH_BYTES,
    MAX_BATCH_ITEMS,
    Ending,
    Kind,
    Nothing,
    Poll,
    PollReply,
    RefusalCode,
    Role,
    StreamValue,
    Submit,
    SubmitReply,
    TaskEvent,
    TaskEvents,
    TaskIds,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened
from fastworker._core._portions import portion_of
from fastworker._core._results import Results
from fastworker._core._stream_reading import StreamReadings
from fastworker._core._waiting_room import WaitingRoom
from fastworker._errors import RemoteProtocolError

# More frames under way would only make smaller batches.
SUBMIT_WINDOW: Final = 4
WATCH_BATCH: Final = 5_000
# One tells of room for values while the answer to the other is under way.
CREDIT_WINDOW: Final = 2
# Queries leave room for everything else: one POLL, the SUBMITs, one WATCH, CREDITs.
RESERVED_SLOTS: Final = SUBMIT_WINDOW + 2 + CREDIT_WINDOW

LOST_STORE: Final = "lost: control plane restarted without a durable store"
LOST_SESSION: Final = "lost: the session with the control plane ended, and values with it"
GONE: Final = "the task has ended, and its outcome is no longer kept"
DENIED: Final = (
    "the task belongs to another client that is still there; to cancel it needs the token of "
    "the role operator"
)
LOST_TASK: Final = "lost: the control plane no longer knows this task"


class _Progress(enum.Enum):
    UNSENT = 1
    SENT = 2
    HELD = 3  # the control plane has it; whether it is queued is still open
    ACKNOWLEDGED = 4


# The control plane has it.
_ACCEPTED: Final = (_Progress.HELD, _Progress.ACKNOWLEDGED)


class _Batch(msgspec.Struct, eq=False):
    """Tasks that were handed in at once, and have one deadline for their acknowledgements."""

    number: int
    ids: list[str]
    missing: int  # acknowledgements


class _ClientTask(msgspec.Struct, eq=False, gc=False):
    event: TaskEvent  # the latest news
    spec: TaskSpec | None  # until acknowledged
    wants_outcome: bool
    progress: _Progress = _Progress.UNSENT
    is_own: bool = True
    is_shared: bool = False
    is_awaited: bool = True  # somebody waits for the answer to its SUBMIT
    is_abandoned: bool = False
    cancel: _Cancel | None = None  # once it is to be cancelled
    early: TaskEvent | None = None  # its end, before its SUBMIT is answered
    losses: int = 0
    call_id: int = 0  # of the SUBMIT that it went with last
    waits_for_room: bool = False
    expires_at: float = math.inf
    budget_at: float = math.inf
    batch: _Batch | None = None  # of those that have not been acknowledged
    keeps_outcome: bool = True

    def to_send(self, now: float) -> TaskSpec:
        """The task as it is submitted at this moment."""
        assert self.spec is not None
        if self.expires_at == self.budget_at == math.inf:
            return self.spec
        self.spec = msgspec.structs.replace(
            self.spec,
            expires=_left(self.expires_at, now),
            budget=_left(self.budget_at, now),
        )
        return self.spec


class _Cancel(msgspec.Struct, frozen=True):
    """How a task is to be cancelled; ``wants_end`` of one that is another's.

    It ``leaves`` one that others may have submitted too.
    """

    grace: float | None = None
    wants_end: bool = False
    leaves: bool = False

    def with_least_grace(self, other: _Cancel | None) -> _Cancel:
        """This one, with the other's grace if that is named and shorter."""
        if other is None or other.grace is None:
            return self
        if self.grace is not None and self.grace <= other.grace:
            return self
        return _Cancel(other.grace, self.wants_end, self.leaves)


def _left(at: float, now: float) -> float | None:
    return None if at == math.inf else max(0.0, at - now)


class ClientStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a client."""

    link: LinkState
    unsent: int
    unacknowledged: int
    waiting: int
    kept_results: int
    kept_bytes: int
    malformed_frames: int


class ClientState:
    """The machine.

    Args:
      new_session_id: draws 16 random bytes.
      retries: how many lost sessions a submit survives before it is rejected.
      label: shown to people.
      outcomes: the local cache; it may outlive this machine.
    """

    def __init__(
        self,
        *,
        new_session_id: Callable[[], bytes],
        retries: int = 3,
        label: str = "client",
        outcomes: Results | None = None,
    ) -> None:
        self._link = RequesterLink(
            role=Role.CLIENT, worker_id=label, new_session_id=new_session_id
        )
        self._retries = retries
        self._tasks: dict[str, _ClientTask] = {}
        self._outcomes = (
            outcomes if outcomes is not None else Results(max_size=10_000, ttl=math.inf)
        )
        # Of callers, by task id; and of those who have handed in many, by batch.
        self._deadlines: Deadlines[str | int] = Deadlines()
        self._batches: dict[int, _Batch] = {}  # of which acknowledgements are missing
        self._batch_number = 0
        self._unsent: deque[_ClientTask] = deque()
        # Sent in a session that is gone, and held there: to be sent once more.
        self._unheard: deque[_ClientTask] = deque()
        self._waiting_room = WaitingRoom()
        self._abandoned: set[str] = set()  # of those that may have been sent
        self._to_cancel: dict[_Cancel, list[str]] = {}
        self._to_watch: deque[str] = deque()
        self._queries: deque[QueryMade | QuestionAsked] = deque()
        self._calls: dict[int, list[str] | QueryMade | QuestionAsked | None] = {}
        self._call_id = 0
        self._submits = 0  # SUBMITs under way
        self._polls = 0
        self._watches = 0
        self._foreign: set[str] = set()  # other clients' tasks, cancelled from here
        self._streams = StreamReadings()
        self._credits = 0  # CREDITs under way
        self._cursor = 0
        self._epoch = 0
        self._is_durable = False  # the control plane keeps what it acknowledges
        self._is_stopping = False
        self._goodbye: int | None = None
        self._out: list[ClientCommand] = []
        self._now = 0.0
        self._connected_at = 0.0  # as far as it has been looked
        self._malformed_frames = 0

    # --- reading ---

    @property
    def is_connected(self) -> bool:
        """Whether a session is open on a live pipe."""
        return self._link.state is LinkState.OPEN

    def connected_at(self, now: float) -> float:
        """The last moment at which a session was open: ``now`` if one is."""
        return now if self.is_connected else self._connected_at

    @property
    def is_taking_back(self) -> bool:
        """Whether a task that its caller has left may still start or run."""
        return bool(self._abandoned)

    def holds(self, task_id: str) -> bool:
        """Whether the task is known here, ended or not."""
        return task_id in self._tasks or self.outcome(task_id) is not None

    def progress(self, task_id: str) -> TaskEvent | None:
        """The latest news of a task, ended or not; None if it is not held here."""
        task = self._tasks.get(task_id)
        return task.event if task is not None else self.outcome(task_id)

    def late(self, task_id: str) -> TaskTimedOut:
        """Say where a task is whose caller has waited long enough."""
        task = self._tasks.get(task_id)
        if task is None:
            event = self.outcome(task_id) or TaskEvent(task_id, WireStatus.PENDING)
            return TaskTimedOut(task_id, event, was_sent=True)
        was_sent = task.progress is not _Progress.UNSENT
        return TaskTimedOut(task_id, task.event, was_sent, task_id in self._waiting_room)

    def outcome(self, task_id: str) -> TaskEvent | None:
        """The outcome of an ended task, None if it has none here."""
        event = self._outcomes.get(task_id, now=self._now)
        return None if event is None or event.status is WireStatus.EVICTED else event

    def statistics(self) -> ClientStatistics:
        """Return a snapshot."""
        values = self._tasks.values()
        return ClientStatistics(
            link=self._link.state,
            unsent=sum(1 for t in values if t.progress is _Progress.UNSENT),
            unacknowledged=sum(1 for t in values if t.progress is _Progress.SENT),
            waiting=len(self._tasks),
            kept_results=len(self._outcomes),
            kept_bytes=self._outcomes.bytes,
            malformed_frames=self._malformed_frames,
        )

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(
            self._link.next_deadline(), self._deadlines.next(), self._waiting_room.next_try()
        )

    def check(self) -> None:
        """Assert every invariant."""
        self._link.check()
        self._outcomes.check()
        assert self._polls in (0, 1)
        assert self._watches in (0, 1)
        assert 0 <= self._submits <= SUBMIT_WINDOW
        assert 0 <= self._credits <= CREDIT_WINDOW
        self._streams.check()
        for task in self._tasks.values():
            assert not task.event.status >= WireStatus.SUCCESS, f"{task.event} is no outcome"
        assert self._foreign == {task_id for task_id, t in self._tasks.items() if not t.is_own}
        abandoned = {task_id for task_id, t in self._tasks.items() if t.is_abandoned}
        assert self._abandoned == abandoned
        self._waiting_room.check()
        for task_id in self._waiting_room:
            assert self._tasks[task_id].progress is _Progress.UNSENT
        for task in self._unsent:
            assert task.progress is _Progress.UNSENT
        missing: dict[int, int] = {}
        for task in self._tasks.values():
            if task.batch is not None:
                assert self._batches[task.batch.number] is task.batch
                assert task.progress is not _Progress.ACKNOWLEDGED
                missing[task.batch.number] = missing.get(task.batch.number, 0) + 1
        assert missing == {number: each.missing for number, each in self._batches.items()}

    # --- the one mutator ---

    def handle(self, event: ClientEvent, *, now: float) -> list[ClientCommand]:
        """Apply an event and return what has to be done."""
        self._now = now
        if self.is_connected:  # so far; this event may be the end of it
            self._connected_at = now
        match event:
            case TaskSubmitted(spec=spec):
                if event.deadline < math.inf:
                    self._deadlines.set(spec.id, event.deadline)
                self._on_submitted(spec, event)
            case TasksSubmitted():
                self._on_all_submitted(event)
            case Flush():
                self._on_flush()
            case FrameArrived(data=data):
                self._on_frame(data)
            case TaskAbandoned(task_id=task_id):
                self._on_abandoned(task_id)
            case CancelRequested(task_id=task_id, grace=grace):
                self._on_cancel_requested(task_id, grace)
            case ValueRead(task_id=task_id, size=size):
                self._streams.note_read(task_id, size)
            case QueryMade() | QuestionAsked():
                self._queries.append(event)
            case QueryAbandoned(query_id=query_id):
                self._on_query_abandoned(query_id)
            case ClientStopped():
                self._on_stopped()
            case PipeOpened() | PipeClosed():
                self._follow(self._link.handle(event, now=now))
            case DeadlinePassed():
                self._on_deadline()
            case _:
                assert_never(event)
        out, self._out = self._out, []
        return out

    # --- callers ---

    def _on_deadline(self) -> None:
        for due in self._deadlines.pop_due(self._now):
            for task_id in [due] if isinstance(due, str) else self._unacknowledged(due):
                self._out.append(self.late(task_id))
                self._on_abandoned(task_id)
        for task_id in self._waiting_room.leave(self._now):
            self._unsent.append(self._tasks[task_id])
        if self._link.next_deadline() <= self._now:
            self._follow(self._link.handle(DeadlinePassed(), now=self._now))

    def _unacknowledged(self, number: int) -> list[str]:
        """The tasks of a batch whose acknowledgement has not come in time."""
        batch = self._batches.pop(number)
        late: list[str] = []
        for task_id in batch.ids:
            task = self._tasks.get(task_id)
            if task is not None and task.batch is batch:
                task.batch = None
                late.append(task_id)
        return late

    def _leave_batch(self, task: _ClientTask, batch: _Batch) -> None:
        task.batch = None
        batch.missing -= 1
        if not batch.missing:
            del self._batches[batch.number]
            self._deadlines.clear(batch.number)

    def _on_abandoned(self, task_id: str) -> None:
        task = self._tasks.get(task_id)
        if task is None or task.is_abandoned:
            return
        self._deadlines.clear(task_id)
        if task.progress is _Progress.UNSENT:
            self._unqueue(task_id, task)
            self._forget(task_id)
            return
        task.is_abandoned = True
        self._abandoned.add(task_id)
        self._plan_cancel(task_id, task, _Cancel(leaves=task.is_shared))

    def _on_cancel_requested(self, task_id: str, grace: float | None) -> None:
        task = self._tasks.get(task_id)
        if task is None:
            # Another client's, or one that has ended: the control plane knows.
            task = self._tasks[task_id] = _ClientTask(
                TaskEvent(task_id, WireStatus.PENDING),
                None,
                wants_outcome=True,
                progress=_Progress.ACKNOWLEDGED,
                is_own=False,
            )
            self._foreign.add(task_id)
        if task.progress is _Progress.UNSENT:
            self._unqueue(task_id, task)
            event = TaskEvent(task_id, WireStatus.CANCELLED, ending=Ending.NEVER_STARTED)
            self._end(task_id, event)
            return
        self._plan_cancel(task_id, task, _Cancel(grace, wants_end=not task.is_own))

    def _on_all_submitted(self, submitted: TasksSubmitted) -> None:
        specs, batch = submitted.specs, None
        if submitted.deadline < math.inf and specs:
            self._batch_number += 1
            batch = _Batch(self._batch_number, [spec.id for spec in specs], len(specs))
            self._batches[batch.number] = batch
            self._deadlines.set(batch.number, submitted.deadline)
        for spec in specs:
            self._on_submitted(spec, submitted, batch, is_one_of_many=True)

    def _on_submitted(
        self,
        spec: TaskSpec,
        how: TaskSubmitted | TasksSubmitted,
        batch: _Batch | None = None,
        *,
        is_one_of_many: bool = False,
    ) -> None:
        task = _ClientTask(
            TaskEvent(spec.id, WireStatus.PENDING),
            spec,
            how.wants_outcome,
            is_shared=spec.key_ttl is not None,
            is_awaited=not how.wants_outcome and not is_one_of_many,
            waits_for_room=how.waits_for_room,
            expires_at=how.expires_at,
            budget_at=how.budget_at,
            batch=batch,
            keeps_outcome=not is_one_of_many,
        )
        self._enqueue(spec.id, task)
        if spec.options is not None and spec.options.stream:
            self._streams.open(spec.id, spec.options.stream)

    def _enqueue(self, task_id: str, task: _ClientTask) -> None:
        if task_id in self._tasks:
            self._take_over(task_id)
        self._tasks[task_id] = task
        if task.waits_for_room and len(self._waiting_room):
            self._waiting_room.enter(task_id, self._now)  # behind those that wait already
        else:
            self._unsent.append(task)

    def _take_over(self, task_id: str) -> None:
        """A task that was left, or is another's, is wanted here (again) after all."""
        for cancel, ids in list(self._to_cancel.items()):
            rest = [other for other in ids if other != task_id]
            if rest:
                self._to_cancel[cancel] = rest
            else:
                del self._to_cancel[cancel]
        self._forget(task_id)

    def _unqueue(self, task_id: str, task: _ClientTask) -> None:
        """Take out a task that is not at the control plane."""
        if not self._waiting_room.discard(task_id):
            self._unsent.remove(task)

    def _plan_cancel(self, task_id: str, task: _ClientTask, cancel: _Cancel) -> None:
        # A CANCEL that overtakes its SUBMIT would find nothing to cancel, so
        # it waits for the acknowledgement.
        task.cancel = cancel.with_least_grace(task.cancel)
        if task.progress is not _Progress.SENT:
            self._to_cancel.setdefault(cancel, []).append(task_id)

    def _on_query_abandoned(self, query_id: int) -> None:
        self._queries = deque(q for q in self._queries if q.query_id != query_id)
        for call_id, asked in list(self._calls.items()):
            if isinstance(asked, QueryMade | QuestionAsked) and asked.query_id == query_id:
                del self._calls[call_id]
                self._follow(self._link.handle(CallerLeft(call_id), now=self._now))

    def _on_stopped(self) -> None:
        self._is_stopping = True
        if self._link.state is not LinkState.OPEN:
            self._link.handle(LinkEnded(), now=self._now)
            self._out.append(SaidGoodbye())

    # --- the link ---

    def _on_frame(self, data: bytes | memoryview) -> None:
        try:
            received = FrameReceived(decode_frame(data))
            self._follow(self._link.handle(received, now=self._now))
        except RemoteProtocolError:
            self._malformed_frames += 1
            self._out.append(DropPipe())

    def _follow(self, commands: list[LinkCommand]) -> None:
        for command in commands:
            match command:
                case SendFrame() | DropPipe() | Redirected() | SessionRefused():
                    self._out.append(command)
                case CallAnswered(call_id=call_id, kind=kind, body=body):
                    self._on_answer(call_id, kind, body)
                case CallDropped(call_id=call_id, kind=kind):
                    self._on_dropped(call_id, kind)
                case SessionOpened():
                    self._on_session(command)
                case _:
                    assert_never(command)

    def _on_session(self, opened: SessionOpened) -> None:
        self._out.append(opened)
        if opened.resumed:
            return
        self._cursor = 0
        lost_store = self._epoch not in (0, opened.epoch) and not opened.durable
        self._is_durable = opened.durable
        is_first = self._epoch == 0
        self._epoch = opened.epoch
        if is_first:
            return
        self._to_watch.clear()
        for task_id, task in list(self._tasks.items()):
            if task.progress is _Progress.HELD:
                # It was never promised to be kept: ask for it again.
                task.progress = _Progress.SENT
                self._unheard.append(task)
                self._note_loss(task_id, task, lost_store=lost_store)
            elif task_id in self._streams and task.progress in _ACCEPTED:
                self._lose_stream(task_id, LOST_STORE if lost_store else LOST_SESSION)
            elif task.progress in _ACCEPTED:
                if task.cancel is not None:
                    # Once more: what was asked in the other session may be lost.
                    self._plan_cancel(task_id, task, task.cancel)
                if task.is_own:
                    self._to_watch.append(task_id)
            elif task.progress is _Progress.SENT:
                self._note_loss(task_id, task, lost_store=lost_store)

    def _note_loss(self, task_id: str, task: _ClientTask, *, lost_store: bool) -> None:
        """The session is gone in which a task was sent, and not acknowledged."""
        if task.cancel is not None:
            return  # what was taken back is sent until it is heard of, and cancelled then
        task.losses += 1
        if task.losses > self._retries:
            self._forget(task_id)
            why = "the control plane restarted" if lost_store else "the session was lost"
            message = f"{why} {task.losses} times before it acknowledged the task"
            self._out.append(TaskRejected(task_id, None, message))

    def _on_dropped(self, call_id: int, kind: Kind) -> None:
        asked = self._calls.pop(call_id, None)
        if kind is Kind.POLL:
            self._polls -= 1
        elif kind is Kind.SUBMIT:
            assert isinstance(asked, list)
            self._submits -= 1
            # Not the same batch again: some of its tasks may have ended, and whoever
            # has no memory of them would run them once more.
            for task in filter(None, map(self._tasks.get, asked)):
                if task.call_id == call_id and task.progress is _Progress.SENT:
                    self._unheard.append(task)
        elif kind is Kind.CREDIT:
            self._credits -= 1
        elif kind is Kind.BYE:
            self._out.append(SaidGoodbye())

    def _on_answer(self, call_id: int, kind: Kind, data: bytes) -> None:
        asked = self._calls.pop(call_id)
        if kind is Kind.SUBMIT:
            assert isinstance(asked, list)
            self._submits -= 1
            self._apply_submitted(call_id, asked, decode_body(SubmitReply, data))
        elif kind is Kind.POLL:
            self._polls -= 1
            news = decode_body(PollReply, data)
            self._cursor = max(self._cursor, news.cursor)
            for value in news.values:
                self._on_value(value)
            for event in news.events:
                self._apply(event)
        elif kind is Kind.QUERY:
            assert isinstance(asked, QueryMade)
            events = decode_body(TaskEvents, data).events
            if not events:
                raise RemoteProtocolError("a QUERY was answered with nothing")
            self._out.append(QueryAnswered(asked.query_id, events[0]))
        elif isinstance(asked, QuestionAsked):
            _, reply_type = QUESTIONS[type(asked.question)]
            self._out.append(QuestionAnswered(asked.query_id, decode_body(reply_type, data)))
        elif kind is Kind.CREDIT:
            self._credits -= 1
        elif kind is Kind.BYE:
            self._link.handle(LinkEnded(), now=self._now)
            self._out.append(SaidGoodbye())
        else:
            assert isinstance(asked, list)
            self._apply_described(kind, asked, decode_body(TaskEvents, data).events)

    def _on_value(self, value: StreamValue) -> None:
        if self._streams.is_gap(value):
            self._lose_stream(value.task_id, LOST_SESSION)
        elif self._streams.take(value):
            task = self._tasks.get(value.task_id)
            if task is not None:
                self._acknowledge(value.task_id, task)
            self._out.append(ValueArrived(value))

    def _lose_stream(self, task_id: str, error: str) -> None:
        """Values of it are gone: its reader hears so, and nobody needs the rest."""
        self._to_cancel.setdefault(_Cancel(), []).append(task_id)
        lost = TaskEvent(task_id, WireStatus.FAILURE, error=error, ending=Ending.LOST)
        self._end(task_id, lost)

    def _apply_submitted(self, call_id: int, ids: list[str], reply: SubmitReply) -> None:
        refused = {refusal.index: refusal for refusal in reply.refusals}
        held = dict.fromkeys(reply.held)
        for index, task_id in enumerate(ids):
            task = self._tasks.get(task_id)
            if task is None or task.call_id != call_id:
                continue  # that one was left; if it is here, it is so anew
            refusal = refused.get(index)
            if refusal is not None:
                is_full = refusal.code is RefusalCode.QUEUE_FULL
                if is_full and task.waits_for_room and not task.cancel:
                    task.progress = _Progress.UNSENT
                    self._waiting_room.enter(task_id, self._now)
                else:
                    self._forget(task_id)
                    self._out.append(TaskRejected(task_id, refusal.code, refusal.message))
            elif index in held:
                if task.progress is _Progress.SENT:
                    self._accept(task_id, task, _Progress.HELD)
            else:
                self._acknowledge(task_id, task)
                if task.early is not None:
                    self._apply(task.early)

    def _acknowledge(self, task_id: str, task: _ClientTask) -> None:
        if task.progress is not _Progress.ACKNOWLEDGED:
            if task.is_awaited or task.is_shared:
                self._out.append(TaskAcknowledged(task_id))
            self._accept(task_id, task, _Progress.ACKNOWLEDGED)

    def _accept(self, task_id: str, task: _ClientTask, progress: _Progress) -> None:
        was_sent = task.progress is _Progress.SENT
        if progress is _Progress.ACKNOWLEDGED and not task.wants_outcome:
            if task.batch is not None:
                self._leave_batch(task, task.batch)
            elif len(self._deadlines):
                self._deadlines.clear(task_id)
        task.progress = progress
        if task.waits_for_room:
            self._waiting_room.note_taken(task_id, self._now)
        if task.is_shared:
            self._outcomes.forget(task_id)  # of an earlier task of this id
        if progress is _Progress.ACKNOWLEDGED:
            task.spec = None
        if was_sent and task.cancel is not None:
            self._to_cancel.setdefault(task.cancel, []).append(task_id)

    def _forget(self, task_id: str) -> None:
        task = self._tasks.pop(task_id)
        if task.batch is not None:
            self._leave_batch(task, task.batch)
        self._abandoned.discard(task_id)
        self._foreign.discard(task_id)
        if len(self._deadlines):
            self._deadlines.clear(task_id)
        self._streams.forget(task_id)
        if task.waits_for_room:
            self._waiting_room.forget(task_id, self._now)

    def _apply_described(self, kind: Kind, ids: list[str], events: list[TaskEvent]) -> None:
        if kind is Kind.WATCH:
            self._watches -= 1
            # The answer may be cut; ask again for the rest.
            self._to_watch.extendleft(reversed(ids[len(events) :]))
        else:
            for task_id in ids[len(events) :]:
                task = self._tasks.get(task_id)
                if task is not None and task.cancel is not None:
                    self._plan_cancel(task_id, task, task.cancel)
        for event in events:
            if event.status is WireStatus.UNKNOWN and kind is Kind.WATCH:
                error = LOST_TASK if self._is_durable else LOST_STORE
                event = msgspec.structs.replace(event, status=WireStatus.FAILURE, error=error)
            self._apply(event, is_known_best=kind is Kind.WATCH)

    def _apply(self, event: TaskEvent, *, is_known_best: bool = False) -> None:
        """Apply news of a task, from whatever answer.

        Args:
          event: the news.
          is_known_best: whether the store was asked as well as memory.
        """
        task = self._tasks.get(event.task_id)
        if task is None or event.status is WireStatus.HELD:
            return
        is_plain = task.is_own and not task.is_shared and not task.losses
        if is_plain and event.status is WireStatus.SUCCESS:  # as nearly all of them
            self._acknowledge(event.task_id, task)
            self._end(event.task_id, event)
            return
        if event.status is WireStatus.DENIED:
            self._forget(event.task_id)
            self._out.append(TaskRejected(event.task_id, RefusalCode.NOT_PERMITTED, DENIED))
            return
        if not task.is_own and event.status in (WireStatus.UNKNOWN, WireStatus.EVICTED):
            self._forget(event.task_id)
            self._out.append(TaskEnded(event.task_id, event))
            return
        if event.status is WireStatus.UNKNOWN:
            return
        if event.status is WireStatus.REFUSED:
            self._forget(event.task_id)
            self._out.append(TaskRejected(event.task_id, RefusalCode.UNKNOWN_TASK, event.error))
            return
        if task.is_shared and task.progress not in _ACCEPTED:
            # Whether it is about this task, only the answer to its SUBMIT can tell:
            # another of this id, with other content, may have been left just before.
            task.early = event if event.status >= WireStatus.SUCCESS else None
            return
        if event.status is WireStatus.EVICTED and task.is_shared and not is_known_best:
            # It was submitted long after its end, which a WATCH finds in the store.
            self._acknowledge(event.task_id, task)
            self._to_watch.append(event.task_id)
            return
        if event.status is WireStatus.EVICTED:
            event = msgspec.structs.replace(
                event, status=WireStatus.SUCCESS, value_dropped=True, error=GONE
            )
        self._acknowledge(event.task_id, task)
        if event.status in (WireStatus.PENDING, WireStatus.STARTED):
            task.event = event
            return
        has_succeeded = event.status is WireStatus.SUCCESS
        if has_succeeded and task.losses and self._streams.has_had_nothing(event.task_id):
            # It was submitted in an earlier session too, and whatever it gave went
            # there. That it gave nothing at all, nobody can say any more.
            event = msgspec.structs.replace(
                event, status=WireStatus.FAILURE, error=LOST_SESSION, ending=Ending.LOST
            )
        self._end(event.task_id, event)

    def _end(self, task_id: str, event: TaskEvent) -> None:
        task = self._tasks[task_id]
        self._forget(task_id)
        if task.is_own and task.keeps_outcome:
            self._outcomes.put(event, 0, now=self._now)
        self._out.append(TaskEnded(task_id, event))

    # --- frames ---

    def _on_flush(self) -> None:
        """Ask everything that may be asked now."""
        if self._link.state is LinkState.ENDED:
            return
        if self._is_stopping:
            if self._goodbye is None and self._link.can_issue_urgent:
                self._goodbye = self._issue(Kind.BYE, encode(Nothing()), None, reissue=False)
            return
        if self._to_cancel and self._link.can_issue_urgent:
            cancel, ids = next(iter(self._to_cancel.items()))
            batch, rest = ids[:MAX_BATCH_ITEMS], ids[MAX_BATCH_ITEMS:]
            if rest:
                self._to_cancel[cancel] = rest
            else:
                del self._to_cancel[cancel]
            body = TaskIds(batch, cancel.grace, cancel.wants_end, leaves=cancel.leaves)
            self._issue(Kind.CANCEL, encode(body), batch)
        if self._link.state is not LinkState.OPEN:
            return
        if not self._polls:
            self._polls += 1
            self._issue(Kind.POLL, encode(Poll(self._cursor)), None, reissue=False)
        free = SUBMIT_WINDOW - self._submits
        portion = portion_of(len(self._unheard or self._unsent), free)
        while (self._unheard or self._unsent) and self._submits < SUBMIT_WINDOW:
            self._submit_batch(portion)
        if self._to_watch and not self._watches:
            self._watches += 1
            count = min(WATCH_BATCH, len(self._to_watch))
            ids = [self._to_watch.popleft() for _ in range(count)]
            self._issue(Kind.WATCH, encode(TaskIds(ids)), ids)
        while self._streams.has_news and self._credits < CREDIT_WINDOW:
            self._credits += 1
            # In a session that is new there is nobody who would wait for it.
            self._issue(Kind.CREDIT, encode(self._streams.tell()), None, reissue=False)
        while self._queries and self._link.free_slots > RESERVED_SLOTS:
            query = self._queries.popleft()
            if isinstance(query, QueryMade):
                self._issue(Kind.QUERY, encode(TaskIds([query.task_id])), query)
            else:
                kind, _ = QUESTIONS[type(query.question)]
                self._issue(kind, encode(query.question), query)

    def _submit_batch(self, limit: int) -> None:
        specs: list[TaskSpec] = []
        tasks: list[_ClientTask] = []
        hurry = False
        size = 0
        queue = self._unheard or self._unsent
        while queue and len(specs) < limit:
            task = queue[0]
            is_gone = self._tasks.get(task.event.task_id) is not task
            if is_gone or task.progress in _ACCEPTED:
                queue.popleft()  # heard of, or given up, in the meantime
                continue
            spec = task.to_send(self._now)
            size += spec.size
            if specs and size > BATCH_BYTES:
                break
            queue.popleft()
            task.progress = _Progress.SENT
            hurry = hurry or task.is_awaited
            specs.append(spec)
            tasks.append(task)
        if not specs:
            return
        self._submits += 1
        body = encode(Submit(specs, hurry))
        call_id = self._issue(Kind.SUBMIT, body, [spec.id for spec in specs], reissue=False)
        for task in tasks:
            task.call_id = call_id

    def _issue(
        self,
        kind: Kind,
        body: bytes,
        asked: list[str] | QueryMade | QuestionAsked | None,
        *,
        reissue: bool = True,
    ) -> int:
        self._call_id += 1
        self._calls[self._call_id] = asked
        call = CallIssued(self._call_id, kind, body, reissue)
        self._follow(self._link.handle(call, now=self._now))
        return self._call_id
