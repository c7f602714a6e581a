"""The control plane's machine: sessions, and the scheduler behind them.

Frames come in, frames go out. Whatever an answer promises is in the store
before the answer leaves: effects wait for the batch of records they rest on
(RecordsDurable), and come out in the order in which they were decided.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from fastworker._core._callback_addresses import CallbackRules
from fastworker._core._callbacks import CallbackStatistics
from fastworker._core._codec import REQUEST_BODIES, AnyBody, decode_body, decode_frame, encode
from fastworker._core._control_plane_events import (
    AppendRecords,
    CallBack,
    CallbacksDescribed,
    CalledBack,
    ClosePipe,
    ControlPlaneCommand,
    ControlPlaneEvent,
    DescribeCallbacks,
    DrainRequested,
    FrameArrived,
    NoteAction,
    OldProcessesEnded,
    PageRead,
    Port,
    ProcessExited,
    ReadPage,
    ReadTasks,
    RecordsDurable,
    RecordsFailed,
    StoreRecovered,
    TasksRead,
)
from fastworker._core._deadlines import Deadlines
from fastworker._core._event_messages import EventsAsked
from fastworker._core._feed import Feed, Told
from fastworker._core._known_functions import ANNOUNCED_BYTES
from fastworker._core._link_responder import (
    AnswerBeat,
    Answered,
    CloseSession,
    Execute,
    RequestReceived,
    ResponderCommand,
    SendTo,
    Ticket,
)
from fastworker._core._listener_gate import GateStatistics
from fastworker._core._messages import (
    BATCH_BYTES,
    BEAT_DELAY,
    LEASE_SECONDS,
    PROTOCOL_VERSION,
    Assignment,
    Callback,
    CallbacksAsked,
    Credits,
    FunctionsAsked,
    HandedBack,
    Hello,
    Kind,
    Lease,
    LeaseReply,
    Nothing,
    Poll,
    PollReply,
    Redirect,
    Refusal,
    RefusalCode,
    Refused,
    Rehello,
    Report,
    Request,
    Role,
    StreamValue,
    Submit,
    SubmitReply,
    TaskEvent,
    TaskEvents,
    TaskIds,
    TaskSpec,
    Welcome,
    WireStatus,
)
from fastworker._core._metrics import MetricsAsked
from fastworker._core._overview import (
    About,
    DrainAsked,
    DrainReply,
    Overview,
    OverviewAsked,
    WorkersAsked,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened, Route
from fastworker._core._roles import (
    EVERYTHING,
    NOTHING,
    Authority,
    allowed_kinds,
    may_open,
    may_touch_others,
)
from fastworker._core._scheduler import Scheduler, SchedulerStatistics
from fastworker._core._scheduler_events import (
    ActionDone,
    Assign,
    AttemptsReported,
    CapacityStated,
    ChildrenEnded,
    Dispatch,
    OwnerGone,
    PassCredit,
    SchedulerCommand,
    SubmitDecided,
    SubworkerJoined,
    SubworkerLost,
    TaskChanged,
    TasksCancelled,
    TasksDescribed,
    TasksPurged,
    TasksRequeued,
    TasksSubmitted,
    TasksWatched,
    ValueCame,
    ValuesRead,
)
from fastworker._core._sessions import Session
from fastworker._core._stored import STATE_OF_STATUS, StoredTask, TasksAsked
from fastworker._core._task_questions import (
    TaskAction,
    TaskAsked,
    TaskDetail,
    TasksDone,
    TasksNamed,
    Untouched,
    cut_page,
    detail_of,
)
from fastworker._core._worker_rows import list_workers, status_of, why_not_drained
from fastworker._errors import RemoteProtocolError

BEAT_SECONDS: Final = 5.0
# A closed pipe is not a death: a dialer is back within 0.1 s (measured).
RECONNECT_GRACE: Final = 0.75
HELLO_SECONDS: Final = 5.0
MAX_SESSIONS: Final = 10_000
# Nobody needs a second one; without a bound one connection could take all.
MAX_SESSIONS_OF_A_PIPE: Final = 8
# When the store is asked again for what a client has to know, and could not be read.
REREAD_SECONDS: Final = 0.5
# How long a receipt waits for company.
RECEIPT_DELAY: Final = 0.005
# As many peers' beats are answered together at most. They will come together from then on,
# and more would be a stall: to take in as many takes 3 ms. Whoever is left over is
# answered so much later, and comes apart from then on; 10,000 peers have their turn in 3.2 s.
MAX_BEATS: Final = 64
BEATS_APART: Final = 0.02
# How long what a durable store is to be told waits for company while nobody waits for it:
# most tasks of callers who want the outcome have ended by then, and are written once.
GATHER_SECONDS: Final = 0.002

_NOT_KEPT: Final = (WireStatus.EVICTED, WireStatus.UNKNOWN)


class SubworkerView(msgspec.Struct, frozen=True):
    """What an operator sees of a subworker. ``idle`` is seconds since its last frame."""

    worker_id: str
    address: str
    status: str
    load: int
    capacity: dict[str, int]
    functions: list[str]
    idle: float


class ControlPlaneStatistics(msgspec.Struct, frozen=True):
    """A snapshot. ``callbacks`` are the shell's, which sends them, and ``admission`` too."""

    epoch: int
    clients: int
    tasks: SchedulerStatistics
    outbox_bytes: int
    kept_bytes: int
    malformed_frames: int
    closed_sessions: int
    lost_workers: int
    callbacks: CallbackStatistics = CallbackStatistics()
    admission: GateStatistics = GateStatistics()


class ControlPlaneState:
    """The machine.

    Args:
      epoch: the start counter from the store; at least 1.
      scheduler: the machine behind the sessions.
      worker_id: a label.
      base_port, management_port: where HELLO on the discovery port sends
        clients and subworkers.
      is_durable: whether the store outlives this process.
      authenticates: whether peers have to prove who they are. Then a pipe of which
        there was no news may do nothing, else everything.
      about: what operators are told of it.
      callback_rules: where callbacks may go.
    """

    def __init__(
        self,
        *,
        epoch: int,
        scheduler: Scheduler,
        worker_id: str,
        base_port: int,
        management_port: int,
        is_durable: bool = False,
        authenticates: bool = False,
        about: About | None = None,
        callback_rules: CallbackRules | None = None,
    ) -> None:
        self._epoch = epoch
        self._authenticates = authenticates
        self._authority: dict[int, Authority] = {}  # by pipe, where it is not the usual
        self._about = about or About()
        self._callback_rules = callback_rules or CallbackRules()
        self._remotes: dict[int, str] = {}  # by pipe, where its peer has come from
        self._is_durable = is_durable
        self._store_error = ""  # why nothing can be written now
        self._scheduler = scheduler
        self._worker_id = worker_id
        self._ports = {Role.CLIENT: base_port, Role.SUBWORKER: management_port}
        self._sessions: dict[bytes, Session] = {}
        self._by_pipe: dict[int, bytes] = {}
        self._opened_by_pipe: dict[int, int] = {}  # how many that live
        self._overfull: dict[bytes, Session] = {}  # fetch nothing, and are owed too much
        self._deadlines: Deadlines[bytes | int] = Deadlines()  # by session or pipe
        self._parked_leases: dict[bytes, Session] = {}
        self._parked_polls: dict[bytes, Session] = {}
        # Sessions that may have something to fetch since it was looked last.
        self._owed: dict[bytes, Session] = {}
        self._out: list[ControlPlaneCommand] = []
        self._now = 0.0
        # records not yet appended, and effects that wait for them
        self._batch = 0
        self._durable = 0
        self._append_at = math.inf  # at the latest, as nobody waits for the store
        self._is_waited_for = False  # somebody does
        self._changes = scheduler.changes
        self._effects: deque[_Effect] = deque()
        self._receipts: Deadlines[bytes] = Deadlines()  # of sessions that have some
        self._beating: dict[bytes, Session] = {}  # beats of theirs are not answered yet
        self._beats_at = math.inf  # when they are
        # By session and slot: what the store could not be asked, and when it is again.
        self._unread: dict[tuple[bytes, int], ReadTasks] = {}
        self._rereads: Deadlines[tuple[bytes, int]] = Deadlines()
        self._feed = Feed(epoch)
        self._is_draining = False
        self._malformed_frames = 0
        self._closed_sessions = 0
        self._lost_workers = 0

    @property
    def epoch(self) -> int:
        """This control plane's start counter."""
        return self._epoch

    @property
    def scheduler(self) -> Scheduler:
        """The machine behind the sessions; for reading only."""
        return self._scheduler

    @property
    def has_pending_changes(self) -> bool:
        """Whether the store does not have everything yet, and can be written."""
        is_pending = len(self._changes) > 0 or self._changes.is_under_way
        return is_pending and not self._store_error

    @property
    def wants_flush(self) -> bool:
        """Whether Flush would find something to do that the last one did not."""
        return bool(self._owed or self._overfull) or (
            self.has_pending_changes and not self._changes.is_under_way
        )

    @property
    def is_drained(self) -> bool:
        """Whether nothing runs any more since DrainRequested."""
        return self._is_draining and self._scheduler.leased_count == 0

    # --- after a restart ---

    def restore(self, tasks: list[StoredTask], *, now: float) -> None:
        """Take back tasks that have not ended; see ``Scheduler.restore``."""
        self._now = now
        self._carry_out(self._scheduler.restore(tasks, now=now))

    # --- the one mutator ---

    def handle(self, event: ControlPlaneEvent, *, now: float) -> list[ControlPlaneCommand]:
        """Apply an event and return what has to be done."""
        self._now = now
        match event:
            case FrameArrived(port=port, route=route, data=data):
                self._on_frame(port, route, data)
            case Flush():
                self._on_flush()
            case RecordsDurable(batch=batch):
                self._on_durable(batch)
            case RecordsFailed(batch=batch, reason=reason):
                self._on_failed(batch, reason)
            case StoreRecovered():
                self._store_error = ""
            case CalledBack(task_ids=task_ids):
                for task_id in task_ids:
                    self._changes.mark_called_back(task_id)
            case PipeOpened(pipe=pipe, authority=authority, remote=remote):
                if authority != self._usual_authority:
                    self._authority[pipe] = authority
                self._note_remote(pipe, remote)
                # Its first frames may have come before the news of it.
                if pipe not in self._by_pipe:
                    self._deadlines.set(pipe, now + HELLO_SECONDS)
            case PipeClosed(pipe=pipe):
                self._on_pipe_closed(pipe)
            case DrainRequested():
                self._is_draining = True
            case CallbacksDescribed(session=key, ticket=ticket, reply=reply):
                session = self._sessions.get(key)
                if session is not None:
                    self._answer(session, ticket, reply, keep=False)
            case PageRead(session=key, ticket=ticket, page=page):
                session = self._sessions.get(key)
                if session is not None:
                    self._answer(session, ticket, cut_page(page), keep=False)
            case TasksRead():
                self._on_tasks_read(event)
            case OldProcessesEnded(worker_ids=worker_ids):
                ended = ChildrenEnded(worker_ids)
                self._carry_out(self._scheduler.handle(ended, now=now))
            case ProcessExited(worker_id=worker_id):
                self._on_process_exited(worker_id)
            case DeadlinePassed():
                self._on_deadline()
            case _:
                assert_never(event)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(
            self._deadlines.next(),
            self._receipts.next(),
            self._beats_at,
            self._rereads.next(),
            self._append_at,
            self._feed.next_deadline(),
            self._scheduler.next_deadline(),
        )

    # --- reading ---

    def statistics(self) -> ControlPlaneStatistics:
        """Return a snapshot."""
        sessions = self._sessions.values()
        return ControlPlaneStatistics(
            epoch=self._epoch,
            clients=sum(1 for s in sessions if s.role is Role.CLIENT),
            tasks=self._scheduler.statistics(),
            outbox_bytes=sum(session.outbox.bytes for session in sessions),
            kept_bytes=sum(session.link.kept_bytes for session in sessions),
            malformed_frames=self._malformed_frames,
            closed_sessions=self._closed_sessions,
            lost_workers=self._lost_workers,
        )

    def overview(self, *, now: float) -> Overview:
        """Everything in numbers, all of one moment."""
        known = self.statistics()
        tasks, about = known.tasks, self._about
        max_queued, max_queued_bytes = self._scheduler.bounds
        return Overview(
            worker_id=self._worker_id,
            version=about.version,
            epoch=self._epoch,
            now=now + self._scheduler.wall_offset,
            started=about.started,
            store=about.store[:4096],
            is_durable=self._is_durable,
            store_error=self._store_error[:4096],
            is_draining=self._is_draining,
            submitted=tasks.submitted,
            refused=tasks.refused,
            held=tasks.held,
            queued=tasks.ready,
            leased=tasks.leased,
            running=tasks.started,
            away=tasks.away,
            retrying=tasks.retrying,
            succeeded=tasks.succeeded,
            failed=tasks.failed,
            cancelled=tasks.cancelled,
            expired=tasks.expired,
            queued_bytes=tasks.queued_bytes,
            max_queued=max_queued,
            max_queued_bytes=max_queued_bytes,
            clients=known.clients,
            workers=len(tasks.subworkers),
            functions=self._scheduler.live_function_count,
            stale_reports=tasks.stale_reports,
            malformed_frames=known.malformed_frames,
            closed_sessions=known.closed_sessions,
            lost_workers=known.lost_workers,
        )

    def subworkers(self, *, now: float) -> list[SubworkerView]:
        """Describe every subworker, in the order in which they joined."""
        sessions = self._subworker_sessions()
        views: list[SubworkerView] = []
        for session in sessions:
            status = self._scheduler.subworker_status(session.key)
            state = status_of(self._scheduler.subworker(session.key), session)
            views.append(
                SubworkerView(
                    worker_id=status.label,
                    address=status.address,
                    status=state,
                    load=status.leased,
                    capacity=status.capacity,
                    functions=status.functions,
                    idle=max(0.0, now - session.seen_at),
                )
            )
        return views

    def check(self) -> None:
        """Assert every invariant."""
        self._scheduler.check()
        for key, session in self._sessions.items():
            session.check()
            assert session.key == key
            assert session.pipe is None or self._by_pipe.get(session.pipe) == key
            parked = (
                self._parked_leases if session.role is Role.SUBWORKER else self._parked_polls
            )
            assert (session.parked is not None) == (key in parked)
            assert bool(session.beats) == (key in self._beating)
        assert self._beating.keys() <= self._sessions.keys()
        assert bool(self._beating) <= (self._beats_at < math.inf), "unanswered for ever"
        assert len(self._rereads) == len(self._unread)
        self._feed.check(lambda key, ticket: self._sessions[key].link.waits(ticket))
        for key in [*self._parked_leases, *self._parked_polls]:
            assert key in self._sessions
        for pipe, key in self._by_pipe.items():
            assert self._sessions[key].pipe == pipe
        assert sum(self._opened_by_pipe.values()) == len(self._sessions)
        assert all(0 < n <= MAX_SESSIONS_OF_A_PIPE for n in self._opened_by_pipe.values())
        assert self._overfull.keys() <= self._sessions.keys()
        for key, session in [*self._parked_leases.items(), *self._parked_polls.items()]:
            has_news = len(session.handout) or len(session.outbox)
            assert not has_news or key in self._owed, f"{session} would wait for ever"
        assert self._durable <= self._batch <= self._durable + 1
        assert (self._batch > self._durable) == self._changes.is_under_way
        needed = [effect.batch for effect in self._effects]
        assert needed == sorted(needed)
        assert not needed or self._durable < needed[0] <= needed[-1] <= self._batch + 1
        assert not needed or needed[-1] <= self._batch or len(self._changes), "waits for ever"

    # --- pipes and sessions ---

    def _on_frame(self, port: Port, route: Route, data: bytes | memoryview) -> None:
        try:
            frame = decode_frame(data)
        except RemoteProtocolError:
            frame = None
        if isinstance(frame, Request):
            self._on_request(route, frame)
        elif isinstance(frame, Hello):
            self._on_hello(port, route, frame)
        else:
            # Whoever sends such bytes is no peer of ours, or a broken one.
            self._malformed_frames += 1
            self._out.append(ClosePipe(route.pipe))

    def _on_hello(self, port: Port, route: Route, hello: Hello) -> None:
        if hello.protocol != PROTOCOL_VERSION:
            reason = (
                f"this control plane speaks protocol {PROTOCOL_VERSION}, the peer "
                f"{hello.protocol}; use the same version of fastworker on both sides"
            )
            self._send(route, Refused(hello.nonce, reason))
            return
        if not may_open(self._authority_of(route), hello.role):
            reason = (
                f"what this peer has proved, by token or certificate, is not good for a "
                f"{hello.role.name.lower()}"
            )
            self._send(route, Refused(hello.nonce, reason))
            return
        if port is Port.DISCOVERY:
            self._send(route, Redirect(hello.nonce, self._ports[hello.role]))
            return
        session = self._sessions.get(hello.session)
        is_known = session is not None
        if session is None:
            if hello.epoch == self._epoch:
                # It expired. Under its old id, frames of its former life that
                # are still under way would be taken for new requests.
                self._send(route, Rehello(hello.session, self._epoch))
                return
            if len(self._sessions) >= MAX_SESSIONS:
                reason = (
                    f"{MAX_SESSIONS} sessions are open, which is the limit; stop clients "
                    f"that are not needed, and try again"
                )
                self._send(route, Refused(hello.nonce, reason))
                return
            if self._opened_by_pipe.get(route.pipe, 0) >= MAX_SESSIONS_OF_A_PIPE:
                reason = f"{MAX_SESSIONS_OF_A_PIPE} sessions were opened by this connection"
                self._send(route, Refused(hello.nonce, reason))
                return
            if not self._scheduler.has_room_for(hello.functions):
                reason = (
                    f"{len(hello.functions)} task functions are too many: what all subworkers "
                    f"have registered together would be more than "
                    f"{ANNOUNCED_BYTES // 2**20} MiB of names, signatures and docstrings"
                )
                self._send(route, Refused(hello.nonce, reason))
                return
            session = self._open_session(hello, route.pipe, port)
        elif session.role is not hello.role:
            self._send(route, Refused(hello.nonce, "this session has another role"))
            return
        self._hear(session, route)
        self._send(
            route,
            Welcome(
                nonce=hello.nonce,
                session=hello.session,
                epoch=self._epoch,
                resumed=is_known,
                lease=LEASE_SECONDS,
                beat=BEAT_SECONDS,
                worker_id=self._worker_id,
                kept=self._scheduler.kept_attempts(session.key, hello.held),
                durable=self._is_durable,
                operator=may_touch_others(self._authority_of(route)),
            ),
        )

    def _open_session(self, hello: Hello, pipe: int, port: Port) -> Session:
        session = Session(
            hello.session, hello.role, hello.worker_id, hello.address, self._epoch, self._now
        )
        session.opened_on = pipe
        self._opened_by_pipe[pipe] = self._opened_by_pipe.get(pipe, 0) + 1
        self._sessions[session.key] = session
        if session.role is Role.SUBWORKER:
            is_inside = port is Port.INSIDE
            joined = SubworkerJoined(
                session.key,
                hello.worker_id,
                hello.address,
                hello.functions,
                b"" if is_inside else holder_of(session.key),
                hello.held,
                is_inside,
            )
            self._carry_out(self._scheduler.handle(joined, now=self._now))
        return session

    def _hear(self, session: Session, route: Route) -> None:
        """Any frame renews a session and says by which pipe it is reached."""
        session.seen_at = self._now
        self._deadlines.set(session.key, self._now + LEASE_SECONDS)
        if session.pipe == route.pipe:
            return
        other = self._by_pipe.get(route.pipe)
        if other is not None:
            self._lose_pipe(self._sessions[other])
        if session.pipe is not None:
            del self._by_pipe[session.pipe]
        session.pipe = route.pipe
        # The news of the pipe may come later; until then, the peer is where it was.
        session.remote = self._remotes.get(route.pipe, session.remote)
        self._by_pipe[route.pipe] = session.key
        self._deadlines.clear(route.pipe)

    @property
    def _usual_authority(self) -> Authority:
        return NOTHING if self._authenticates else EVERYTHING

    def _authority_of(self, route: Route) -> Authority:
        """What the peer behind this route has proved to be."""
        return self._authority.get(route.pipe, self._usual_authority)

    def _note_remote(self, pipe: int, remote: str) -> None:
        if not remote:
            return
        self._remotes[pipe] = remote
        key = self._by_pipe.get(pipe)
        if key is not None:
            self._sessions[key].remote = remote

    def _on_pipe_closed(self, pipe: int) -> None:
        self._authority.pop(pipe, None)
        self._remotes.pop(pipe, None)
        self._deadlines.clear(pipe)
        key = self._by_pipe.get(pipe)
        if key is not None:
            self._lose_pipe(self._sessions[key])

    def _lose_pipe(self, session: Session) -> None:
        assert session.pipe is not None
        del self._by_pipe[session.pipe]
        session.pipe = None
        if session.role is Role.SUBWORKER:
            self._deadlines.set(session.key, self._now + RECONNECT_GRACE)

    def _on_process_exited(self, worker_id: str) -> None:
        for session in list(self._sessions.values()):
            if session.role is Role.SUBWORKER and session.label == worker_id:
                self._end_session(session, f"the process of {worker_id} ended")

    def _on_deadline(self) -> None:
        for key in self._deadlines.pop_due(self._now):
            if isinstance(key, int):
                self._out.append(ClosePipe(key))
                continue
            session = self._sessions[key]
            if session.pipe is None:
                reason = f"{session.label} lost its connection and did not come back"
            else:
                reason = f"{session.label} was silent for {LEASE_SECONDS:g} s"
            self._end_session(session, reason)
        for key in self._receipts.pop_due(self._now):
            self._send_receipts(self._sessions[key])
        if self._beats_at <= self._now:
            self._answer_beats()
        for place in self._rereads.pop_due(self._now):
            question = self._unread.pop(place)
            asking = self._sessions.get(question.session)
            if asking is not None and asking.link.waits(question.ticket):
                self._out.append(question)
        if self._append_at <= self._now:
            self._append_at, self._is_waited_for = math.inf, True
        self._tell_listeners(self._feed.pass_deadline(now=self._now))
        if self._scheduler.next_deadline() <= self._now:
            self._carry_out(self._scheduler.handle(DeadlinePassed(), now=self._now))

    def _end_session(self, session: Session, reason: str, *, is_clean: bool = False) -> None:
        self._send_receipts(session)
        del self._sessions[session.key]
        self._overfull.pop(session.key, None)
        self._owed.pop(session.key, None)
        self._opened_by_pipe[session.opened_on] -= 1
        if not self._opened_by_pipe[session.opened_on]:
            del self._opened_by_pipe[session.opened_on]
        self._deadlines.clear(session.key)
        self._parked_leases.pop(session.key, None)
        self._parked_polls.pop(session.key, None)
        self._feed.end_session(session.key)
        if session.pipe is not None:
            del self._by_pipe[session.pipe]
            # It may say HELLO again on this pipe, or be a stranger from now on.
            self._deadlines.set(session.pipe, self._now + HELLO_SECONDS)
        if session.role is Role.SUBWORKER:
            self._lost_workers += not is_clean
            event: SubworkerLost | OwnerGone = SubworkerLost(session.key, reason, is_clean)
        else:
            event = OwnerGone(session.key)
        self._carry_out(self._scheduler.handle(event, now=self._now))

    # --- requests ---

    def _on_request(self, route: Route, request: Request) -> None:
        session = self._sessions.get(request.session)
        if session is None or request.epoch != self._epoch:
            self._send(route, Rehello(request.session, self._epoch))
            return
        authority = self._authority_of(route)
        if not may_open(authority, session.role):
            # Not even a sign of life: it knows a session id that it must not know.
            self._send(route, Rehello(request.session, self._epoch))
            return
        self._hear(session, route)
        if request.kind not in allowed_kinds(authority, session.role):
            reason = f"a {session.role.name.lower()} may not ask {request.kind.name}"
            self._close_session(session, route, reason)
            return
        received = RequestReceived(route, request)
        try:
            self._follow(session, session.link.handle(received, now=self._now), authority)
        except RemoteProtocolError as error:  # its body is not what its kind promises
            self._close_session(session, route, str(error)[:1000])

    def _follow(
        self,
        session: Session,
        commands: list[ResponderCommand],
        authority: Authority = NOTHING,
    ) -> None:
        for command in commands:
            match command:
                case SendTo():
                    self._send_with_receipts(session, command)
                case AnswerBeat():
                    self._gather_beat(session, command)
                case Execute():
                    self._execute(session, command, authority)
                case CloseSession(route=route, reason=reason):
                    self._close_session(session, route, reason)

    def _close_session(self, session: Session, route: Route, reason: str) -> None:
        self._closed_sessions += 1
        self._out.append(SendTo(route, session.link.farewell(reason)))
        self._end_session(session, reason)

    def _execute(self, session: Session, request: Execute, authority: Authority) -> None:
        body = decode_body(REQUEST_BODIES[request.kind], request.body)
        ticket = request.ticket
        if session.parked is not None and session.parked.slot == ticket.slot:
            self._unpark(session)
        if len(self._feed):
            self._feed.free_slot(session.key, ticket.slot)
        match body:
            case Submit(tasks=tasks) if self._is_draining:
                message = "the control plane is shutting down; try again later"
                refusals = [
                    Refusal(index, RefusalCode.STOPPING, message) for index in range(len(tasks))
                ]
                self._answer(session, ticket, SubmitReply(refusals), keep=False)
            case Submit(tasks=tasks) if self._store_error:
                message = f"the store cannot be written: {self._store_error}; try again later"
                refusals = [
                    Refusal(index, RefusalCode.STORE, message[:4096])
                    for index in range(len(tasks))
                ]
                self._answer(session, ticket, SubmitReply(refusals), keep=False)
            case Submit(tasks=tasks, hurry=hurry):
                submitted = TasksSubmitted(
                    session.key, tasks, self._misdirected(session, tasks)
                )
                commands = self._scheduler.handle(submitted, now=self._now)
                ids = [spec.id for spec in tasks]
                self._carry_out(commands, _Asker(session, ticket, hurry, ids))
            case Report():
                reported = AttemptsReported(session.key, body)
                self._carry_out(self._scheduler.handle(reported, now=self._now))
                # The next values of any stream wait for this receipt.
                hurry = bool(body.yielded)
                self._when_durable(
                    lambda: self._acknowledge(session, ticket, Nothing(), hurry=hurry),
                    is_waited_for=hurry,
                )
            case Credits(read=read):
                for item in read:
                    session.outbox.forget_read(item.task_id, item.count)
                values_read = ValuesRead(session.key, read)
                self._carry_out(self._scheduler.handle(values_read, now=self._now))
                self._acknowledge(session, ticket, Nothing())
            case Poll(cursor=cursor):
                session.outbox.acknowledge(cursor)
                self._park(session, ticket, cursor)
            case Lease(cursor=cursor):
                session.handout.acknowledge(cursor)
                if body.draining:
                    session.handout.wants_drain = False
                if not request.repeat:
                    stated = CapacityStated(session.key, body)
                    self._carry_out(self._scheduler.handle(stated, now=self._now))
                self._park(session, ticket, cursor)
            case TaskIds():
                self._on_ids(session, ticket, request.kind, body, authority)
            case FunctionsAsked(after=after):
                functions = self._scheduler.live_functions(after)
                self._answer(session, ticket, functions, keep=False)
            case TasksAsked() | TaskAsked() | TasksNamed():
                self._on_operator(session, ticket, body)
            case OverviewAsked():
                self._answer(session, ticket, self.overview(now=self._now), keep=False)
            case WorkersAsked(after=after):
                workers = self._subworker_sessions()
                page = list_workers(self._scheduler, workers, after, now=self._now)
                self._answer(session, ticket, page, keep=False)
            case MetricsAsked(after=after):
                self._answer(
                    session, ticket, self._scheduler.metrics.list_series(after), keep=False
                )
            case DrainAsked(worker_id=worker_id):
                problem = self._drain_subworker(worker_id)
                self._note(session, "drain", problem or "done", worker_id=worker_id)
                self._answer(session, ticket, DrainReply(problem))
            case EventsAsked():
                self._tell_listeners(self._feed.ask(session.key, ticket, body, now=self._now))
            case CallbacksAsked():
                self._out.append(DescribeCallbacks(session.key, ticket, body))
            case _:
                self._answer(session, ticket, Nothing())
                self._end_session(session, f"{session.label} said goodbye", is_clean=True)

    def _misdirected(self, session: Session, tasks: list[TaskSpec]) -> dict[int, str]:
        """Which tasks' callbacks may not go where their client wants them to, and why."""
        reasons: dict[int, str] = {}
        for index, spec in enumerate(tasks):
            if spec.callback is not None:
                reason = self._callback_rules.refuse(spec.callback.address, session.remote)
                if reason is not None:
                    reasons[index] = reason
        return reasons

    def _subworker_sessions(self) -> list[Session]:
        return [s for s in self._sessions.values() if s.role is Role.SUBWORKER]

    def _drain_subworker(self, worker_id: str) -> str:
        """Have a subworker drained; why not, if that cannot be."""
        for session in self._subworker_sessions():
            worker = self._scheduler.subworker(session.key)
            if worker.label == worker_id:
                problem = why_not_drained(worker, worker_id)
                session.handout.wants_drain = not problem and not worker.is_draining
                self._owed[session.key] = session
                return problem
        return why_not_drained(None, worker_id)

    def _on_operator(
        self, session: Session, ticket: Ticket, asked: TasksAsked | TaskAsked | TasksNamed
    ) -> None:
        """Ask the store, which has the answer, or what something is to be done with."""
        command: ReadPage | ReadTasks
        match asked:
            case TasksAsked():
                command = ReadPage(session.key, ticket, asked)
            case TaskAsked(task_id=task_id):
                command = ReadTasks(session.key, ticket, Kind.TASK, [task_id])
            case TasksNamed() if self._store_error:
                problem = f"the store cannot be written: {self._store_error}; try again later"
                self._answer(session, ticket, TasksDone(problem=problem[:4096]), keep=False)
                return
            case TasksNamed(action=action, ids=ids, newest=newest):
                kind = Kind.TASK_ACTION
                command = ReadTasks(session.key, ticket, kind, ids, action, newest)
        self._out.append(command)

    def _on_ids(
        self,
        session: Session,
        ticket: Ticket,
        kind: Kind,
        asked: TaskIds,
        authority: Authority,
    ) -> None:
        ids, is_operator = asked.ids, may_touch_others(authority)
        if kind is Kind.QUERY:
            events = [self._describe(task_id) for task_id in ids]
            if any(event.status in _NOT_KEPT for event in events):
                # The end of one may be on its way to the store, which will be asked.
                self._when_durable(lambda: self._tell_events(session, ticket, kind, events))
            else:
                self._tell_events(session, ticket, kind, events)
            return
        event: TasksCancelled | TasksWatched
        if kind is Kind.CANCEL:
            watcher = session.key if asked.wants_end else None
            leaver = session.key if asked.leaves else None
            if not asked.leaves:
                self._note(session, "cancel", "asked", ids)
            only_of = None if is_operator else session.key
            event = TasksCancelled(ids, asked.grace, watcher, leaver, only_of)
        else:
            event = TasksWatched(session.key, ids, asked.is_owner, is_operator)
        asker = _Asker(session, ticket, kind=kind)
        self._carry_out(self._scheduler.handle(event, now=self._now), asker)

    def _describe(self, task_id: str) -> TaskEvent:
        """Say what is known of a task. Of an end that can still be lost nobody hears."""
        event = self._scheduler.describe(task_id, now=self._now)
        if event.status not in STATE_OF_STATUS or not self._is_durable:
            return event
        if not self._changes.has(task_id):
            return event
        return TaskEvent(
            task_id,
            WireStatus.STARTED if event.started else WireStatus.PENDING,
            started=event.started,
            worker_id=event.worker_id,
            attempts=event.attempts,
        )

    def _tell_events(
        self,
        session: Session,
        ticket: Ticket,
        kind: Kind,
        events: list[TaskEvent],
        *,
        keep: bool = False,
    ) -> None:
        """Answer with these events; what memory has lost may still be in the store (S13).

        A store in memory has rows too, but there the bounds of the result cache are
        what was promised: what they let go is gone.
        """
        gone = [event.task_id for event in events if event.status in _NOT_KEPT]
        if gone and self._is_durable:
            asked = ReadTasks(session.key, ticket, kind, gone, events=events)
            self._out.append(asked)
        else:
            self._answer(session, ticket, TaskEvents(_cut(events)), keep=keep)

    def _on_tasks_read(self, read: TasksRead) -> None:
        question = read.question
        session = self._sessions.get(question.session)
        if session is None:
            return
        ticket, problem = question.ticket, read.problem
        if question.kind is Kind.TASK:
            detail = detail_of(read.tasks[0]) if read.tasks else TaskDetail(problem=problem)
            self._answer(session, ticket, detail, keep=False)
        elif question.kind is Kind.TASK_ACTION:
            self._act_on_tasks(session, ticket, read)
        elif problem and question.kind is not Kind.CANCEL:
            # "Unknown" would be untrue. A cancellation does not wait: others come after it.
            place = session.key, ticket.slot
            self._unread[place] = question
            self._rereads.set(place, self._now + REREAD_SECONDS)
        else:
            found = {t.spec.id: t.outcome for t in read.tasks if t.outcome is not None}
            unread = set(question.ids[read.reached :])
            events: list[TaskEvent] = []
            for event in question.events:
                if event.task_id in unread:
                    break  # the peer asks again for the rest
                events.append(found.get(event.task_id, event))
            self._answer(session, ticket, TaskEvents(_cut(events)), keep=False)

    def _act_on_tasks(self, session: Session, ticket: Ticket, read: TasksRead) -> None:
        question = read.question
        verb = "requeue" if question.action is TaskAction.REQUEUE else "purge"
        if read.problem:
            self._note(session, verb, read.problem, question.ids)
            self._answer(session, ticket, TasksDone(problem=read.problem), keep=False)
            return
        tasks = [task for task in read.tasks if task.sequence <= question.newest]
        is_requeue = question.action is TaskAction.REQUEUE
        action = TasksRequeued(tasks) if is_requeue else TasksPurged(tasks)
        commands = self._scheduler.handle(action, now=self._now)
        asker = _Asker(session, ticket)
        found = {task.spec.id: task.sequence for task in read.tasks}
        for task_id in question.ids[: read.reached]:
            if task_id not in found:
                asker.untouched.append(Untouched(task_id, self._why_missing(task_id)))
            elif found[task_id] > question.newest:
                asker.untouched.append(Untouched(task_id, "it was queued again meanwhile"))
        acted = [command for command in commands if isinstance(command, ActionDone)]
        done = [task_id for each in acted for task_id in each.done]
        left = len(asker.untouched) + sum(len(each.untouched) for each in acted)
        self._note(session, verb, f"done, except {left}" if left else "done", done)
        self._carry_out(commands, asker)

    def _note(
        self,
        session: Session,
        action: str,
        outcome: str,
        task_ids: list[str] | None = None,
        worker_id: str = "",
    ) -> None:
        """Have it written down that this client has asked for something (X21)."""
        self._out.append(
            NoteAction(
                action, outcome, session.label, session.remote, task_ids or [], worker_id
            )
        )

    def _why_missing(self, task_id: str) -> str:
        status = self._scheduler.describe(task_id, now=self._now).status
        if status in _NOT_KEPT:
            return "no such task is kept"
        return "it has not ended, or its end is not in the store yet"

    def _park(self, session: Session, ticket: Ticket, cursor: int) -> None:
        """Let a long request wait; one that waited before is answered empty."""
        if session.parked is not None:
            older, session.parked = session.parked, None
            is_subworker = session.role is Role.SUBWORKER
            empty = LeaseReply(session.cursor) if is_subworker else PollReply(session.cursor)
            self._answer(session, older, empty, keep=False)
        session.parked = ticket
        session.cursor = cursor
        self._parking(session)[session.key] = session
        self._owed[session.key] = session

    def _parking(self, session: Session) -> dict[bytes, Session]:
        """Where the long requests of such peers wait."""
        return self._parked_leases if session.role is Role.SUBWORKER else self._parked_polls

    def _unpark(self, session: Session) -> Ticket:
        """Return the request that waited."""
        assert session.parked is not None
        ticket, session.parked = session.parked, None
        del self._parking(session)[session.key]
        return ticket

    def _answer(
        self, session: Session, ticket: Ticket, body: AnyBody, *, keep: bool = True
    ) -> None:
        if self._sessions.get(session.key) is session and session.link.waits(ticket):
            answered = Answered(ticket, encode(body), keep)
            self._follow(session, session.link.handle(answered, now=self._now))

    # --- what the scheduler wants ---

    def _carry_out(
        self,
        commands: list[SchedulerCommand],
        asker: _Asker | None = None,
    ) -> None:
        answer: AnyBody | None = None
        news: list[TaskChanged] = []  # that stand beside each other
        for command in commands:
            if isinstance(command, TaskChanged):
                if command.owner is not None:
                    news.append(command)
                if command.callback is not None:
                    self._call_back_when_durable(command.callback, command.event)
                continue
            if news:
                self._tell_when_durable(news)
                news = []
            match command:
                case SubmitDecided(reply=reply):
                    answer = reply
                case TasksDescribed(events=events):
                    answer = TaskEvents(events)
                case ActionDone(done=done, untouched=untouched):
                    more = [] if asker is None else asker.untouched
                    answer = TasksDone(done, [*untouched, *more])
                case ValueCame(owner=owner, value=value):
                    self._pass_when_durable(owner, value)
                case PassCredit(key=key, credit=credit):
                    owed = self._owed[key] = self._sessions[key]
                    owed.handout.put_credit(credit)
                case Assign(key=key, assignments=assignments, cancels=cancels):
                    owed = self._owed[key] = self._sessions[key]
                    handout = owed.handout
                    if command.careful and self._is_durable and not self._store_error:
                        careful = {item.task_id for item in command.careful}
                        self._give_when_durable(key, command.careful)
                        assignments = [i for i in assignments if i.task_id not in careful]
                    handout.put(assignments)
                    handout.put(cancels)
                case _:
                    assert_never(command)
        if news:
            self._tell_when_durable(news)
        if asker is not None and answer is not None:
            asker.answer = answer
            self._when_durable(
                lambda: self._answer_asker(asker), asker, is_waited_for=asker.hurry
            )

    def _answer_asker(self, asker: _Asker) -> None:
        assert asker.answer is not None
        if isinstance(asker.answer, TaskEvents):
            # Of what is kept in memory no longer, the store may have the end.
            events = asker.answer.events
            self._tell_events(asker.session, asker.ticket, asker.kind, events, keep=True)
            return
        self._acknowledge(asker.session, asker.ticket, asker.answer, hurry=asker.hurry)

    def _give_when_durable(self, key: bytes, careful: list[Assignment]) -> None:
        def give() -> None:
            # Should the lease have ended meanwhile, _give() leaves it out.
            session = self._sessions.get(key)
            if session is not None:
                session.handout.put(careful)
                self._owed[key] = session

        self._when_durable(give, _Careful(key, careful))

    def _acknowledge(
        self, session: Session, ticket: Ticket, body: AnyBody, *, hurry: bool = False
    ) -> None:
        """Answer a request of which only the fact of the answer matters.

        A message costs far more than a frame, so a receipt waits a moment for
        another frame that goes the same way; never two of them, or the
        peer's window could fill.
        """
        if self._sessions.get(session.key) is not session or not session.link.waits(ticket):
            return
        answered = Answered(ticket, encode(body))
        for command in session.link.handle(answered, now=self._now):
            assert isinstance(command, SendTo)
            if hurry or session.receipts:
                self._send_with_receipts(session, command)
            else:
                session.receipts.append(command)
                self._receipts.set(session.key, self._now + RECEIPT_DELAY)

    def _send_with_receipts(self, session: Session, frame: SendTo) -> None:
        self._out.append(frame)
        self._send_receipts(session)

    def _send_receipts(self, session: Session) -> None:
        if session.receipts:
            self._out += session.receipts
            session.receipts.clear()
            self._receipts.clear(session.key)
        if session.beats:
            self._out += session.beats.values()
            session.beats.clear()
            del self._beating[session.key]

    def _gather_beat(self, session: Session, beat: AnswerBeat) -> None:
        """Answer a beat together with those of other peers.

        What a beat costs is to wake up for it and to fall asleep again, here and in the
        network library. A thousand idle peers beat two hundred times a second.
        """
        session.beats[beat.slot] = beat.answer
        self._beating[session.key] = session
        if self._beats_at == math.inf:
            self._beats_at = self._now + BEAT_DELAY

    def _answer_beats(self) -> None:
        for session in list(itertools.islice(self._beating.values(), MAX_BEATS)):
            self._send_receipts(session)
        self._beats_at = self._now + BEATS_APART if self._beating else math.inf

    def _tell_when_durable(self, news: list[TaskChanged]) -> None:
        self._when_durable(lambda: self._tell(news))

    def _pass_when_durable(self, owner: bytes | None, value: StreamValue) -> None:
        """In one queue with the news, so that the end stays behind the values."""
        if owner is not None:
            self._when_durable(lambda: self._pass_value(owner, value))

    def _pass_value(self, owner: bytes, value: StreamValue) -> None:
        session = self._sessions.get(owner)
        if session is not None:
            session.outbox.put_value(value)
            self._owed[owner] = session

    def _call_back_when_durable(self, callback: Callback, event: TaskEvent) -> None:
        self._when_durable(lambda: self._out.append(CallBack(callback, event)))

    def _tell(self, news: list[TaskChanged]) -> None:
        owner: bytes | None = None
        session: Session | None = None
        for changed in news:
            if changed.owner != owner or session is None:
                owner = changed.owner
                session = None if owner is None else self._sessions.get(owner)
                if session is None:
                    continue
            session.outbox.put(changed.event)
            if session.outbox.is_overfull:
                self._overfull[session.key] = session
            self._owed[session.key] = session

    def _tell_listeners(self, told: list[Told]) -> None:
        for key, ticket, reply in told:
            self._answer(self._sessions[key], ticket, reply, keep=False)

    # --- durability ---

    def _when_durable(
        self,
        effect: Callable[[], None],
        asker: _Asker | _Careful | None = None,
        *,
        is_waited_for: bool = True,
    ) -> None:
        """Do something once everything decided so far is in the store."""
        needed = self._batch + 1 if len(self._changes) else self._batch
        if needed <= self._durable and not self._effects:
            effect()
        else:
            self._effects.append(_Effect(needed, effect, asker))
            self._is_waited_for = self._is_waited_for or is_waited_for

    def _on_durable(self, batch: int) -> None:
        assert batch == self._batch == self._durable + 1
        self._durable = batch
        changes = self._changes.note_durable()
        while self._effects and self._effects[0].batch <= self._durable:
            self._effects.popleft().act()
        if len(self._feed):
            tasks = [*changes.created, *changes.updated]
            self._tell_listeners(self._feed.publish(tasks, now=self._now))

    def _on_failed(self, batch: int, reason: str) -> None:
        """Nothing of the batch is kept: it goes into the next one, without what can go."""
        assert batch == self._batch == self._durable + 1
        self._store_error = reason
        self._batch -= 1
        self._is_waited_for = True
        # A task that was held until now can be refused by no answer: it waits for the store.
        askers = [e.asker for e in self._effects if isinstance(e.asker, _Asker)]
        asked = {task_id for asker in askers for task_id in asker.ids}
        new = [record for record in self._changes.put_back() if record.spec.id in asked]
        gone = {r.spec.id for r in self._scheduler.withdraw(new, now=self._now)}
        message = f"the store cannot be written: {reason}; try again later"[:4096]
        waiting, self._effects = self._effects, deque()
        back: list[_Careful] = []
        for effect in waiting:
            asker = effect.asker
            if isinstance(asker, _Careful):
                back.append(asker)
                continue
            if asker is not None and isinstance(asker.answer, SubmitReply):
                refused = [n for n, task_id in enumerate(asker.ids) if task_id in gone]
                if refused:
                    asker.answer.refusals.extend(
                        Refusal(index, RefusalCode.STORE, message) for index in refused
                    )
                if len(asker.answer.refusals) == len(asker.ids):
                    effect.act()  # it promises nothing any more
                    continue
            effect.batch = min(effect.batch, self._batch + 1)
            self._effects.append(effect)
        if not len(self._changes):
            while self._effects:
                self._effects.popleft().act()
        for careful in back:
            # Nobody was given these; meanwhile others may have their slots.
            items = [HandedBack(item.task_id, item.attempt) for item in careful.assignments]
            report = AttemptsReported(careful.key, Report(self._epoch, handed_back=items))
            self._carry_out(self._scheduler.handle(report, now=self._now))

    def _on_flush(self) -> None:
        """Make frames of what has gathered: work, records, news, receipts.

        Work goes ahead of the records: a lease that is lost with this process
        is no promise to anybody.
        """
        for overfull in list(self._overfull.values()):
            self._closed_sessions += 1
            self._end_session(overfull, f"{overfull.label} fetched none of its outcomes")
        if self._parked_leases and self._scheduler.has_work:
            reachable = [k for k, s in self._parked_leases.items() if not s.handout.has_orders]
            dispatch = Dispatch(
                reachable, self._is_draining, avoids_careful=bool(self._store_error)
            )
            self._carry_out(self._scheduler.handle(dispatch, now=self._now))
        # Who has not asked for it yet is looked at again when it does.
        owed, self._owed = self._owed, {}
        for session in owed.values():
            if session.parked is None or self._sessions.get(session.key) is not session:
                continue
            if session.role is Role.SUBWORKER:
                if len(session.handout):
                    self._give(session)
            elif len(session.outbox):
                reply = session.outbox.take(session.cursor)
                self._answer(session, self._unpark(session), reply, keep=False)
        if len(self._changes) and not self._changes.is_under_way and not self._store_error:
            if self._may_append:
                self._batch += 1
                self._append_at, self._is_waited_for = math.inf, False
                self._out.append(AppendRecords(self._batch, self._changes.take(self._now)))
            elif self._append_at == math.inf:
                self._append_at = self._now + GATHER_SECONDS

    @property
    def _may_append(self) -> bool:
        """Whether it is time to tell the store of changes."""
        return (
            self._is_waited_for
            or not self._is_durable
            or self._is_draining
            or len(self._feed) > 0
        )

    def _give(self, session: Session) -> None:
        """Answer a LEASE with what is new, and with what may have been lost before."""
        key, handout = session.key, session.handout
        handout.keep(lambda item: self._scheduler.is_leased(item.task_id, item.attempt, key))
        if len(handout):
            self._answer(session, self._unpark(session), handout.take(), keep=False)

    def _send(self, route: Route, frame: Welcome | Redirect | Refused | Rehello) -> None:
        self._out.append(SendTo(route, encode(frame)))


class _Asker:
    """Who asked something whose answer waits for the store. ``ids`` are of a SUBMIT."""

    __slots__ = ("answer", "hurry", "ids", "kind", "session", "ticket", "untouched")

    def __init__(
        self,
        session: Session,
        ticket: Ticket,
        hurry: bool = True,
        ids: list[str] | None = None,
        kind: Kind = Kind.WATCH,
    ) -> None:
        self.kind = kind
        self.session = session
        self.ticket = ticket
        self.hurry = hurry
        self.ids = ids or []
        self.untouched: list[Untouched] = []
        self.answer: AnyBody | None = None


class _Careful:
    """Leases that wait for the store before their subworker is told of them."""

    __slots__ = ("assignments", "key")

    def __init__(self, key: bytes, assignments: list[Assignment]) -> None:
        self.key = key
        self.assignments = assignments


class _Effect:
    """What happens once a batch is durable."""

    __slots__ = ("act", "asker", "batch")

    def __init__(
        self, batch: int, act: Callable[[], None], asker: _Asker | _Careful | None
    ) -> None:
        self.batch = batch
        self.act = act
        self.asker = asker


def holder_of(session: bytes) -> bytes:
    """What the store calls a session, whose id is a secret."""
    return hashlib.blake2b(session, digest_size=16, person=b"fw-holder").digest()


def _cut(events: list[TaskEvent]) -> list[TaskEvent]:
    """As many events as fit into a batch; the peer asks again for the rest."""
    size = 0
    for position, event in enumerate(events):
        size += event.size
        if size > BATCH_BYTES and position:
            return events[:position]
    return events
