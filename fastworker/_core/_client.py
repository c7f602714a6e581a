"""The client's machine: tasks handed in, news of them, and callers that leave.

Callers come and go by the thousand; the link has sixteen slots. So calls only
change this machine, and frames are made when the network can take one
(Flush), from everything that has gathered: under load a frame carries
hundreds of tasks without anybody having waited for a batch to fill.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from fastworker._core._client_events import (
    CancelRequested,
    ClientCommand,
    ClientEvent,
    ClientStopped,
    FrameArrived,
    QueryAbandoned,
    QueryMade,
    QuestionAsked,
    SaidGoodbye,
    TaskAbandoned,
    TasksSubmitted,
    TaskSubmitted,
    TaskTimedOut,
    ValueRead,
)
from fastworker._core._client_news import ClientNews
from fastworker._core._client_queries import ClientQueries, Query
from fastworker._core._client_submits import SubmitQueue
from fastworker._core._client_task import Progress
from fastworker._core._client_tasks import LOST_STORE, ClientTasks
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
    Kind,
    Nothing,
    Poll,
    PollReply,
    Role,
    SubmitReply,
    TaskEvent,
    TaskEvents,
    TaskIds,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened
from fastworker._core._portions import portion_of
from fastworker._core._results import Results
from fastworker._core._stream_reading import StreamReadings
from fastworker._errors import RemoteProtocolError

# More frames under way would only make smaller batches.
SUBMIT_WINDOW: Final = 4
WATCH_BATCH: Final = 5_000
# One tells of room for values while the answer to the other is under way.
CREDIT_WINDOW: Final = 2
# Queries leave room for everything else: one POLL, the SUBMITs, one WATCH, CREDITs.
RESERVED_SLOTS: Final = SUBMIT_WINDOW + 2 + CREDIT_WINDOW

LOST_TASK: Final = "lost: the control plane no longer knows this task"


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
        self._outcomes = (
            outcomes if outcomes is not None else Results(max_size=10_000, ttl=math.inf)
        )
        self._out: list[ClientCommand] = []
        # Of callers, by task id; and of those who have handed in many, by batch.
        self._deadlines: Deadlines[str | int] = Deadlines()
        self._queue = SubmitQueue()
        self._streams = StreamReadings()
        self._tasks = ClientTasks(
            self._out,
            outcomes=self._outcomes,
            deadlines=self._deadlines,
            queue=self._queue,
            streams=self._streams,
            retries=retries,
        )
        self._news = ClientNews(self._out, self._tasks, self._streams)
        self._queries = ClientQueries(self._out)
        # By their numbers: what each is about.
        self._calls: dict[int, list[str] | Query | None] = {}
        self._call_id = 0
        self._submits = 0  # SUBMITs under way
        self._polls = 0
        self._watches = 0
        self._credits = 0  # CREDITs under way
        self._cursor = 0
        self._epoch = 0
        self._is_durable = False  # the control plane keeps what it acknowledges
        self._is_stopping = False
        self._goodbye: int | None = None
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
        return self._tasks.is_taking_back

    def holds(self, task_id: str) -> bool:
        """Whether the task is known here, ended or not."""
        return task_id in self._tasks.by_id or self.outcome(task_id) is not None

    def progress(self, task_id: str) -> TaskEvent | None:
        """The latest news of a task, ended or not; None if it is not held here."""
        task = self._tasks.by_id.get(task_id)
        return task.event if task is not None else self.outcome(task_id)

    def late(self, task_id: str) -> TaskTimedOut:
        """Say where a task is whose caller has waited long enough."""
        task = self._tasks.by_id.get(task_id)
        if task is None:
            event = self.outcome(task_id) or TaskEvent(task_id, WireStatus.PENDING)
            return TaskTimedOut(task_id, event, was_sent=True)
        was_sent = task.progress is not Progress.UNSENT
        return TaskTimedOut(task_id, task.event, was_sent, task_id in self._queue.room)

    def outcome(self, task_id: str) -> TaskEvent | None:
        """The outcome of an ended task, None if it has none here."""
        event = self._outcomes.get(task_id, now=self._now)
        return None if event is None or event.status is WireStatus.EVICTED else event

    def statistics(self) -> ClientStatistics:
        """Return a snapshot."""
        values = self._tasks.by_id.values()
        return ClientStatistics(
            link=self._link.state,
            unsent=sum(1 for t in values if t.progress is Progress.UNSENT),
            unacknowledged=sum(1 for t in values if t.progress is Progress.SENT),
            waiting=len(self._tasks),
            kept_results=len(self._outcomes),
            kept_bytes=self._outcomes.bytes,
            malformed_frames=self._malformed_frames,
        )

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(
            self._link.next_deadline(), self._deadlines.next(), self._queue.room.next_try()
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
        self._tasks.check()
        self._queue.check(self._tasks.by_id)

    # --- the one mutator ---

    def handle(self, event: ClientEvent, *, now: float) -> list[ClientCommand]:
        """Apply an event and return what has to be done."""
        self._now = self._tasks.now = now
        if self.is_connected:  # so far; this event may be the end of it
            self._connected_at = now
        match event:
            case TaskSubmitted(spec=spec):
                if event.deadline < math.inf:
                    self._deadlines.set(spec.id, event.deadline)
                self._tasks.submit(spec, event)
            case TasksSubmitted():
                self._tasks.submit_all(event)
            case Flush():
                self._on_flush()
            case FrameArrived(data=data):
                self._on_frame(data)
            case TaskAbandoned(task_id=task_id):
                self._tasks.abandon(task_id)
            case CancelRequested(task_id=task_id, grace=grace):
                self._tasks.request_cancel(task_id, grace)
            case ValueRead(task_id=task_id, size=size):
                self._streams.note_read(task_id, size)
            case QueryMade() | QuestionAsked():
                self._queries.add(event)
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
        out = self._out.copy()
        self._out.clear()  # the others that append to it go on with it
        return out

    # --- callers ---

    def _on_deadline(self) -> None:
        for task_id in self._tasks.take_late():
            self._out.append(self.late(task_id))
            self._tasks.abandon(task_id)
        self._queue.readmit(self._tasks.by_id, self._now)
        if self._link.next_deadline() <= self._now:
            self._follow(self._link.handle(DeadlinePassed(), now=self._now))

    def _on_query_abandoned(self, query_id: int) -> None:
        self._queries.discard(query_id)
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
        self._tasks.begin_session(lost_store=lost_store)

    def _on_dropped(self, call_id: int, kind: Kind) -> None:
        asked = self._calls.pop(call_id, None)
        if kind is Kind.POLL:
            self._polls -= 1
        elif kind is Kind.SUBMIT:
            assert isinstance(asked, list)
            self._submits -= 1
            self._tasks.note_unheard(call_id, asked)
        elif kind is Kind.CREDIT:
            self._credits -= 1
        elif kind is Kind.BYE:
            self._out.append(SaidGoodbye())

    def _on_answer(self, call_id: int, kind: Kind, data: bytes) -> None:
        asked = self._calls.pop(call_id)
        if kind is Kind.SUBMIT:
            assert isinstance(asked, list)
            self._submits -= 1
            self._news.take_submitted(call_id, asked, decode_body(SubmitReply, data))
        elif kind is Kind.POLL:
            self._polls -= 1
            news = decode_body(PollReply, data)
            self._cursor = max(self._cursor, news.cursor)
            for value in news.values:
                self._news.take_value(value)
            for event in news.events:
                self._news.apply(event)
        elif isinstance(asked, QueryMade | QuestionAsked):
            self._queries.answer(asked, data)
        elif kind is Kind.CREDIT:
            self._credits -= 1
        elif kind is Kind.BYE:
            self._link.handle(LinkEnded(), now=self._now)
            self._out.append(SaidGoodbye())
        elif kind is Kind.WATCH:
            assert isinstance(asked, list)
            events = decode_body(TaskEvents, data).events
            self._watches -= 1
            self._news.take_watched(
                asked, events, LOST_TASK if self._is_durable else LOST_STORE
            )
        else:
            assert isinstance(asked, list)
            self._news.take_cancelled(asked, decode_body(TaskEvents, data).events)

    # --- frames ---

    def _on_flush(self) -> None:
        """Ask everything that may be asked now."""
        if self._link.state is LinkState.ENDED:
            return
        if self._is_stopping:
            if self._goodbye is None and self._link.can_issue_urgent:
                self._goodbye = self._issue(Kind.BYE, encode(Nothing()), None, reissue=False)
            return
        tasks = self._tasks
        if len(tasks.cancels) and self._link.can_issue_urgent:
            cancelled = tasks.cancels.take()
            self._issue(Kind.CANCEL, encode(cancelled), cancelled.ids)
        if self._link.state is not LinkState.OPEN:
            return
        if not self._polls:
            self._polls += 1
            self._issue(Kind.POLL, encode(Poll(self._cursor)), None, reissue=False)
        waiting = len(self._queue)
        if waiting:
            portion = portion_of(waiting, SUBMIT_WINDOW - self._submits)
            while self._submits < SUBMIT_WINDOW and len(self._queue):
                self._submit_batch(portion)
        if tasks.to_watch and not self._watches:
            self._watches += 1
            count = min(WATCH_BATCH, len(tasks.to_watch))
            ids = [tasks.to_watch.popleft() for _ in range(count)]
            self._issue(Kind.WATCH, encode(TaskIds(ids)), ids)
        while self._streams.has_news and self._credits < CREDIT_WINDOW:
            self._credits += 1
            # In a session that is new there is nobody who would wait for it.
            self._issue(Kind.CREDIT, encode(self._streams.tell()), None, reissue=False)
        while len(self._queries) and self._link.free_slots > RESERVED_SLOTS:
            query, kind, body = self._queries.take()
            self._issue(kind, body, query)

    def _submit_batch(self, limit: int) -> None:
        taken, body = self._queue.take(self._tasks.by_id, limit, self._now)
        if not taken:
            return
        self._submits += 1
        ids = [spec.id for spec in body.tasks]
        call_id = self._issue(Kind.SUBMIT, encode(body), ids, reissue=False)
        for task in taken:
            task.call_id = call_id

    def _issue(
        self,
        kind: Kind,
        body: bytes,
        asked: list[str] | Query | None,
        *,
        reissue: bool = True,
    ) -> int:
        self._call_id += 1
        self._calls[self._call_id] = asked
        call = CallIssued(self._call_id, kind, body, reissue)
        self._follow(self._link.handle(call, now=self._now))
        return self._call_id
