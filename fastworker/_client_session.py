"""One run of a client, from start to stop: its machine, its connection, its callers.

Decisions are the machine's (``_core/_client.py``). This shell wakes callers
and keeps the background work inside one task group.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar

import anyio

from fastworker import _instruments
from fastworker._call_settings import with_trace
from fastworker._client_shared_task import SharedTask
from fastworker._client_signals import Done
from fastworker._core._client import ClientState
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
    Question,
    QuestionAnswered,
    QuestionAsked,
    QuestionReply,
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
from fastworker._core._event_messages import EventsAsked, EventsReply
from fastworker._core._feed import MAX_SUBSCRIPTIONS_OF_A_SESSION
from fastworker._core._link_requester import (
    DropPipe,
    Redirected,
    SendFrame,
    SessionOpened,
    SessionRefused,
)
from fastworker._core._messages import (
    LEASE_SECONDS,
    Kind,
    RefusalCode,
    StreamValue,
    TaskEvent,
    TaskSpec,
)
from fastworker._core._open_peers import NOTHING_PROVED
from fastworker._core._pipes import DeadlinePassed, Flush, PipeEvent
from fastworker._core._roles import ALLOWED_KINDS, PeerRole
from fastworker._core._task_states import content_digest
from fastworker._crash import crash_point
from fastworker._errors import (
    AuthenticationError,
    ClientClosed,
    ConfigurationError,
    Conflict,
    ControlPlaneUnreachable,
    FastWorkerError,
    LinkBroken,
    LocalProtocolError,
    NotPermitted,
    QueueFull,
    StoreUnavailable,
    SubmitRefused,
    UnknownTask,
)
from fastworker._models import DEFAULT_GRACE
from fastworker._transport._abc import Transport
from fastworker._transport._connection import Connection
from fastworker._validation import validated

log = logging.getLogger("fastworker.client")

R = TypeVar("R")

# How long stopping waits for the control plane to take notice.
GOODBYE_SECONDS: Final = 0.5
# How long a cancelled caller waits until its task has stopped.
CANCEL_SECONDS: Final = 1.0


class Call(Done):
    """Happens when its caller has what it waits for: an acknowledgement, outcome or answer."""

    __slots__ = (
        "answer",
        "error",
        "query_id",
        "reply",
        "task_name",
        "timed_out",
        "wants_outcome",
    )

    def __init__(self, task_name: str = "", *, wants_outcome: bool = False) -> None:
        super().__init__()
        self.task_name = task_name
        self.wants_outcome = wants_outcome
        self.answer: TaskEvent | None = None
        self.query_id = 0
        self.reply: QuestionReply | None = None
        self.timed_out: TaskTimedOut | None = None
        self.error: FastWorkerError | None = None

    def fail(self, error: FastWorkerError) -> None:
        """Let the caller raise, unless it has its answer."""
        if not self.is_set():
            self.error = error
            self.set()


class Watch(Done):
    """Happens when one task has ended, or never will; of several, each does.

    Args:
      task_id: of it.
      on_end: called with the id, in the loop, as soon as it has ended, or never will.
    """

    __slots__ = ("another", "error", "event", "on_end", "on_late", "task_id", "task_name")

    def __init__(self, task_id: str, on_end: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.task_id = task_id
        self.another: Watch | None = None  # of the same task
        self.on_end = on_end
        self.on_late: Callable[[], None] | None = None  # not acknowledged in time
        self.task_name = ""
        self.event: TaskEvent | None = None
        self.error: FastWorkerError | None = None

    def end(self, event: TaskEvent | None, error: FastWorkerError | None = None) -> None:
        """Let it know. Only the first time counts."""
        if not self.is_set():
            self.event, self.error = event, error
            self.set()
            if self.on_end is not None:
                self.on_end(self.task_id)


class ClientSession:
    """See the module's first lines. All methods belong to one event loop.

    Args:
      state: the machine, new.
      transport: makes the connection.
      address: where the control plane is looked for.
      clock: the event loop's, in seconds.
    """

    def __init__(
        self,
        state: ClientState,
        transport: Transport,
        address: str,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._handle = validated(state)
        self._clock = clock
        self._connection = Connection(transport, address, self)
        self._address = address
        self._submits: dict[str, Call] = {}
        self._shared: dict[str, SharedTask] = {}
        self._watches: dict[str, Watch] = {}  # by task; one leads to the next
        self._readers: dict[str, Callable[[StreamValue], None]] = {}
        self._queries: dict[int, Call] = {}
        self._query_count = 0
        self._listener_count = 0  # in all; names the subscriptions
        self._listeners = 0  # that are open
        self._is_connected = False  # or was before
        self._is_operator = True
        self._not_proved = ""
        self._taken_back: anyio.Event | None = None  # while somebody waits for it
        self._settled = anyio.Event()  # connected, or refused
        self._refusal: str | None = None
        self._stopping = anyio.Event()
        self._said_goodbye = anyio.Event()
        self._connection_scope = anyio.CancelScope(shield=True)
        self._has_failed = False
        # Makes the error that every call ends with from now on.
        self._end: Callable[[], FastWorkerError] | None = None

    # --- life ---

    async def run(self) -> None:
        """Do the background work until :meth:`close`; nothing is left behind.

        If it fails, callers still wait: the error has to go to :meth:`close`.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._run_connection)
            try:
                await self._stopping.wait()
            finally:
                if not self._has_failed:
                    self.close(lambda: ClientClosed("the client was cancelled"))
                    with anyio.move_on_after(GOODBYE_SECONDS, shield=True):
                        await self._said_goodbye.wait()
                self._connection_scope.cancel()

    async def _run_connection(self) -> None:
        # Outlives a cancellation, for the goodbye; run() ends it.
        with self._connection_scope:
            try:
                await self._connection.run()
            except BaseException:
                self._has_failed = not self._connection_scope.cancel_called
                self._said_goodbye.set()  # nobody is left who could
                raise

    async def wait_connected(self, within: float) -> None:
        """Wait until the session is open.

        Raises:
          ControlPlaneUnreachable: it is not, after ``within`` seconds.
          LinkBroken: the control plane refused the session.
          AuthenticationError: one side did not prove who it is.
          or what :meth:`close` was given.
        """
        with anyio.move_on_after(within):
            await self._settled.wait()
        if self._end is not None:
            raise self._end()
        if self._refusal is not None:
            error = AuthenticationError if self._refusal == NOTHING_PROVED else LinkBroken
            raise error(f"the control plane at {self._address} refused: {self._refusal}")
        if self._not_proved and not self._is_connected:
            raise AuthenticationError(
                f"no session with the control plane at {self._address}: {self._not_proved}"
            )
        if not self._settled.is_set():
            raise ControlPlaneUnreachable(self._address, f"no answer within {within:g} s")

    def note_not_proved(self, reason: str, *, is_final: bool) -> None:
        """One side did not prove who it is; it is tried again."""
        if self._is_connected and reason != self._not_proved:
            log.warning("no connection to %s any more: %s", self._address, reason)
        self._not_proved = reason
        if is_final:
            self._settled.set()

    def close(self, make_error: Callable[[], FastWorkerError]) -> None:
        """End the session; every caller raises an error of its own. Idempotent."""
        if self._end is not None:
            return
        self._end = make_error
        for call in [*self._submits.values(), *self._queries.values()]:
            call.fail(make_error())
        for shared in self._shared.values():
            shared.fail(make_error)
        for task_id in list(self._watches):
            self._end_watches(task_id, None, make_error)
        self._settled.set()
        self._stopping.set()
        self._look_whether_taken_back()
        if not self._has_failed:
            self._apply(ClientStopped())
            self._connection.wake()

    # --- calls ---

    @property
    def clock(self) -> Callable[[], float]:
        """The event loop's, in seconds."""
        return self._clock

    def submit(
        self,
        spec: TaskSpec,
        *,
        wants_outcome: bool,
        within: float,
        waits_for_room: bool = False,
        expires_at: float = math.inf,
        budget_at: float = math.inf,
    ) -> Coroutine[Any, Any, TaskEvent | TaskTimedOut | None]:
        """Hand in a task and wait, for the acknowledgement or for the outcome.

        Args:
          spec: the task.
          wants_outcome: whether to wait for that.
          within: seconds that this waits.
          waits_for_room: whether a full queue is waited for.
          expires_at, budget_at: when it must have started, and have ended, on
            the loop's clock.

        Returns:
          The outcome if that was wanted; or what the machine says when
          ``within`` seconds are over, and the task is taken back.

        Raises:
          SubmitError, ControlPlaneUnreachable, or what :meth:`close` was given.

        Cancellation:
          A caller that leaves takes its task back, unless it has its answer, and
          waits until that is done, one second at most.
        """
        # No coroutine of its own: each is one more object for whoever waits.
        instruments = _instruments.current
        if instruments is None:
            return self._hand_in(
                spec, wants_outcome, within, waits_for_room, expires_at, budget_at
            )
        return self._hand_in_measured(
            instruments, spec, wants_outcome, within, waits_for_room, expires_at, budget_at
        )

    async def _hand_in_measured(
        self,
        instruments: _instruments.Instruments,
        spec: TaskSpec,
        wants_outcome: bool,
        within: float,
        waits_for_room: bool,
        expires_at: float,
        budget_at: float,
    ) -> TaskEvent | TaskTimedOut | None:
        """As :meth:`submit`, in a span of a trace."""
        sending = instruments.sending(spec.name, spec.id, spec.priority, len(spec.payload))
        error: BaseException | None = None
        try:
            return await self._hand_in(
                with_trace(spec, sending.trace),
                wants_outcome,
                within,
                waits_for_room,
                expires_at,
                budget_at,
            )
        except BaseException as raised:
            error = raised
            raise
        finally:
            sending.end(error)

    async def _hand_in(
        self,
        spec: TaskSpec,
        wants_outcome: bool,
        within: float,
        waits_for_room: bool,
        expires_at: float,
        budget_at: float,
    ) -> TaskEvent | TaskTimedOut | None:
        """As :meth:`submit`, not measured."""
        self._check_open()
        if spec.key_ttl is not None:
            # No deadline goes along: that of one caller is none for the others.
            submitted = TaskSubmitted(
                spec, expires_at=expires_at, waits_for_room=waits_for_room
            )
            return await self._share(submitted, wants_outcome, within)
        call = self._submits[spec.id] = Call(spec.name, wants_outcome=wants_outcome)
        until = self._clock() + within
        self._apply(
            TaskSubmitted(spec, wants_outcome, until, expires_at, budget_at, waits_for_room)
        )
        self._connection.wake()
        try:
            await call.wait()
        except BaseException:
            # With an outcome there is nothing to take back; an acknowledged
            # task whose id never reached its caller is taken back too.
            if self._end is None and call.error is None and call.answer is None:
                await self._take_back(spec.id)
            raise
        finally:
            del self._submits[spec.id]
        if call.error is not None:
            raise call.error
        return call.answer or call.timed_out

    def submit_all(
        self,
        specs: list[TaskSpec],
        on_end: Callable[[str], None],
        on_late: Callable[[], None],
        *,
        within: float,
        waits_for_room: bool = False,
        expires_at: float = math.inf,
        budget_at: float = math.inf,
    ) -> list[Watch]:
        """Hand in tasks without a key, and wait for nothing.

        Args:
          specs: them.
          on_end: called with the id of each that has ended, or was refused.
          on_late: called for each that was not acknowledged in time, and so is taken
            back; it ends all the same.
          within: seconds in which the control plane has to acknowledge them.
          waits_for_room, expires_at, budget_at: as for :meth:`submit`.

        Returns:
          What each of them is watched by.

        Raises:
          what :meth:`close` was given.
        """
        self._check_open()
        instruments = _instruments.current
        if instruments is not None:
            specs = [_traced(instruments, spec) for spec in specs]
        watches: list[Watch] = []
        for spec in specs:
            watch = Watch(spec.id, on_end)
            watch.on_late, watch.task_name = on_late, spec.name
            self._watches[spec.id] = watch
            watches.append(watch)
        until = self._clock() + within
        self._apply(TasksSubmitted(specs, until, expires_at, budget_at, waits_for_room))
        self._connection.wake()
        return watches

    async def _share(
        self, submitted: TaskSubmitted, wants_outcome: bool, within: float
    ) -> TaskEvent | TaskTimedOut | None:
        """As :meth:`submit`, for a task that others here may have submitted too."""
        task_id, content = submitted.spec.id, content_digest(submitted.spec)
        shared = self._shared.get(task_id)
        if shared is None:
            shared = self._shared[task_id] = SharedTask(content)
            self._apply(submitted)
            self._connection.wake()
        elif shared.content != content:
            raise Conflict(f"{task_id!r} is already used by a task with other content")
        shared.users += 1
        is_held = False
        late: TaskTimedOut | None = None
        try:
            with anyio.move_on_after(within):
                await shared.heard.wait()
                if shared.make_error is not None:
                    raise shared.make_error()
                if not wants_outcome:
                    # A handle goes on wanting it; an id does so for ever.
                    is_held = submitted.spec.attached
                    shared.is_kept = shared.is_kept or not is_held
                    return None
                watch = self.watch(task_id)
                await watch.wait()
                if watch.error is not None:
                    raise watch.error
                return watch.event
            late = self._state.late(task_id)
        finally:
            if not is_held and self._leaves(task_id, shared):
                if late is not None:
                    self._abandon(task_id)
                else:
                    await self._take_back(task_id)
        return late

    def shared(self, task_id: str) -> SharedTask | None:
        """What a handle of a task with a key has to leave, None if there is no such task."""
        return self._shared.get(task_id)

    def leave(self, task_id: str, shared: SharedTask) -> bool:
        """A handle's owner does not want a shared task any more; say if nobody here does."""
        if not self._leaves(task_id, shared):
            return False
        self._abandon(task_id)
        return True

    def _leaves(self, task_id: str, shared: SharedTask) -> bool:
        """Count one less who wants it; say whether it is to be taken back."""
        shared.users -= 1
        if not shared.is_left or self._shared.get(task_id) is not shared:
            return False
        # Whoever comes now submits it anew.
        del self._shared[task_id]
        return self._end is None

    def _abandon(self, task_id: str) -> None:
        self._apply(TaskAbandoned(task_id))
        self._connection.wake()

    async def _take_back(self, task_id: str) -> None:
        self._abandon(task_id)
        if self._state.holds(task_id):
            watch = self.watch(task_id)
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await watch.wait()

    def watch(self, task_id: str, on_end: Callable[[str], None] | None = None) -> Watch:
        """Hear of the end of a task that this client has submitted, or cancels."""
        watch = Watch(task_id, on_end)
        event = self._state.outcome(task_id)
        if event is not None:
            watch.end(event)
        elif self._end is not None:
            watch.end(None, self._end())
        else:
            watch.another = self._watches.get(task_id)
            self._watches[task_id] = watch
        return watch

    def read_stream(self, task_id: str, take: Callable[[StreamValue], None]) -> None:
        """Have the values of a stream given to ``take``, in the loop, in order."""
        self._readers[task_id] = take

    def leave_stream(self, task_id: str) -> None:
        """Drop what comes of a stream from now on. Idempotent."""
        self._readers.pop(task_id, None)

    def note_read(self, task_id: str, size: int) -> None:
        """Say that the next value of a stream was read, of so many bytes."""
        if self._end is None:
            self._apply(ValueRead(task_id, size))
            self._connection.wake()

    def request_cancel(self, task_id: str, grace: float | None = None) -> Watch:
        """Have a task stopped that may be anybody's, and hear how it ends.

        Raises:
          what :meth:`close` was given.
        """
        self._check_open()
        watch = self.watch(task_id)
        if not watch.is_set():
            self._apply(CancelRequested(task_id, grace))
            self._connection.wake()
        return watch

    async def wait_stopped(self, watch: Watch, grace: float | None = None) -> None:
        """Wait until a task that was asked to stop has ended, or nobody can say.

        The control plane tells the end of each task within its grace and the
        lease of its worker. So once it has been out of reach for as long, without
        a break, or ``grace`` was given and is over, there is nothing more to wait
        for.
        """
        limit = (DEFAULT_GRACE if grace is None else grace) + LEASE_SECONDS
        until = self._clock() + limit
        while not watch.is_set() and self._clock() < until:
            with anyio.CancelScope(deadline=until):
                await watch.wait()
            if grace is None:
                until = self._state.connected_at(self._clock()) + limit

    async def wait_taken_back(self) -> None:
        """Wait until every task that its caller has left has ended, or the session has."""
        if self._taken_back is None:
            self._taken_back = anyio.Event()
        taken_back = self._taken_back
        self._look_whether_taken_back()
        await taken_back.wait()

    async def query(self, task_id: str) -> TaskEvent:
        """Ask the control plane for a task.

        Raises:
          what :meth:`close` was given.
        """
        call = await self._ask(lambda query_id: QueryMade(query_id, task_id))
        assert call.answer is not None
        return call.answer

    async def ask(self, question: Question, reply_type: type[R]) -> R:
        """Ask the control plane something about itself, or to do something.

        Raises:
          NotPermitted: it is for operators.
          or what :meth:`close` was given.
        """
        self._check_permitted(QUESTIONS[type(question)][0])
        call = await self._ask(lambda query_id: QuestionAsked(query_id, question))
        assert isinstance(call.reply, reply_type)
        return call.reply

    def open_subscription(self) -> int:
        """Return a number for a subscription to events, until :meth:`close_subscription`.

        Raises:
          LocalProtocolError: too many are open.
          NotPermitted: they are for operators.
          or what :meth:`close` was given.
        """
        self._check_open()
        self._check_permitted(Kind.EVENTS)
        if self._listeners >= MAX_SUBSCRIPTIONS_OF_A_SESSION:
            raise LocalProtocolError(
                f"this client has {self._listeners} streams of events open, which is the "
                f"limit; leave one, or use another client"
            )
        self._listeners += 1
        self._listener_count += 1
        return self._listener_count

    def listen(self, asked: EventsAsked) -> Call:
        """Ask for changes. The call may be waited for again and again; see :meth:`heard`.

        Raises:
          what :meth:`close` was given.
        """
        self._check_open()
        return self._start(lambda query_id: QuestionAsked(query_id, asked))

    def heard(self, call: Call) -> EventsReply:
        """The answer to a call that is done.

        Raises:
          LinkBroken: the control plane refused the subscription.
          or what :meth:`close` was given.
        """
        self._queries.pop(call.query_id, None)
        if call.error is not None:
            raise call.error
        assert isinstance(call.reply, EventsReply)
        if call.reply.problem:
            why = call.reply.problem
            raise LinkBroken(f"the control plane at {self._address} refused: {why}")
        return call.reply

    def close_subscription(self, number: int, call: Call | None) -> None:
        """Hear no more of it, and wait for this call no more. To be called once."""
        self._listeners -= 1
        if call is not None:
            self._queries.pop(call.query_id, None)
        if self._end is not None:
            return
        if call is not None:
            self._apply(QueryAbandoned(call.query_id))
        # Nobody waits for the answer.
        self._query_count += 1
        self._apply(QuestionAsked(self._query_count, EventsAsked(number, ends=True)))
        self._connection.wake()

    async def _ask(self, make_event: Callable[[int], QueryMade | QuestionAsked]) -> Call:
        self._check_open()
        call = self._start(make_event)
        try:
            await call.wait()
        except BaseException:
            if self._end is None:
                self._apply(QueryAbandoned(call.query_id))
            raise
        finally:
            del self._queries[call.query_id]
        if call.error is not None:
            raise call.error
        return call

    def _start(self, make_event: Callable[[int], QueryMade | QuestionAsked]) -> Call:
        self._query_count += 1
        call = self._queries[self._query_count] = Call()
        call.query_id = self._query_count
        self._apply(make_event(call.query_id))
        self._connection.wake()
        return call

    def _look_whether_taken_back(self) -> None:
        if self._taken_back is not None and (
            self._end is not None or not self._state.is_taking_back
        ):
            self._taken_back.set()
            self._taken_back = None

    def _check_permitted(self, kind: Kind) -> None:
        if not self._is_operator and kind not in ALLOWED_KINDS[PeerRole.CLIENT]:
            raise NotPermitted(
                f"{kind.name} is for operators, and this client has proved the role client "
                f"only; use the token or certificate of the role operator"
            )

    def _check_open(self) -> None:
        """A call that comes when nobody is left to answer it must not wait."""
        if self._end is not None:
            raise self._end()

    # --- what the connection wants (Machine) ---

    has_callers = True

    def take_frames(self, frames: Sequence[bytes | memoryview]) -> None:
        """Apply frames that have arrived."""
        for frame in frames:
            self._apply(FrameArrived(frame))

    def take_pipe_event(self, event: PipeEvent) -> None:
        """Apply news of the pipe."""
        self._apply(event)

    def gather(self) -> None:
        """Make frames of what has gathered."""
        self._apply(Flush())

    def pass_deadline(self) -> None:
        """Apply that a deadline may have passed."""
        self._apply(DeadlinePassed())

    def next_deadline(self) -> float:
        """When the machine wants to be called again."""
        return self._state.next_deadline()

    # --- carrying out ---

    def _apply(self, event: ClientEvent) -> None:
        for command in self._handle(event, now=self._clock()):
            self._carry_out(command)

    def _carry_out(self, command: ClientCommand) -> None:
        match command:
            case TaskAcknowledged(task_id=task_id):
                crash_point("acknowledged")
                call = self._submits.get(task_id)
                if call is not None and not call.wants_outcome:
                    call.set()
                if task_id in self._shared:
                    self._shared[task_id].accept()
            case TaskEnded(task_id=task_id, event=event):
                crash_point("outcome-received")
                call = self._submits.get(task_id)
                if call is not None:
                    # With no outcome wanted, it was cancelled before it was sent.
                    call.answer = event if call.wants_outcome else None
                    call.set()
                if task_id in self._shared:
                    self._shared.pop(task_id).accept()
                self._end_watches(task_id, event)
                self._look_whether_taken_back()
            case ValueArrived(value=value):
                take = self._readers.get(value.task_id)
                if take is not None:
                    take(value)
            case SendFrame(data=data):
                self._connection.send(data)
            case TaskTimedOut(task_id=task_id):
                call = self._submits.get(task_id)
                if call is not None and not call.is_set():
                    call.timed_out = command
                    call.set()
                for watch in _each(self._watches.get(task_id)):
                    if watch.on_late is not None:
                        watch.on_late()
            case TaskRejected(task_id=task_id):
                call = self._submits.get(task_id)
                name = self._name_of(task_id)
                if call is not None:
                    call.fail(self._rejection(command, name))
                if task_id in self._shared:
                    self._shared.pop(task_id).fail(lambda: self._rejection(command, name))
                self._end_watches(task_id, None, lambda: self._rejection(command, name))
                self._look_whether_taken_back()
            case QueryAnswered(query_id=query_id, event=event):
                call = self._queries.get(query_id)
                if call is not None:
                    call.answer = event
                    call.set()
            case QuestionAnswered(query_id=query_id, answer=answer):
                call = self._queries.get(query_id)
                if call is not None:
                    call.reply = answer
                    call.set()
            case SessionOpened(operator=operator):
                self._is_connected, self._is_operator = True, operator
                self._not_proved = ""
                self._settled.set()
            case Redirected(port=port):
                self._connection.move(port)
            case SessionRefused(reason=reason):
                self._refusal = reason
                self._settled.set()
            case DropPipe():
                self._connection.drop_pipe()
            case SaidGoodbye():
                self._said_goodbye.set()

    def _name_of(self, task_id: str) -> str:
        """The name of the task that was submitted here last with this id, if that is known."""
        call = self._submits.get(task_id)
        if call is not None:
            return call.task_name
        names = (watch.task_name for watch in _each(self._watches.get(task_id)))
        return next(filter(None, names), "")

    def _end_watches(
        self,
        task_id: str,
        event: TaskEvent | None,
        make_error: Callable[[], FastWorkerError] | None = None,
    ) -> None:
        watch = self._watches.pop(task_id, None)
        while watch is not None:
            # Whoever keeps one of them must not keep all.
            another, watch.another = watch.another, None
            watch.end(event, None if make_error is None else make_error())
            watch = another

    def _rejection(self, rejected: TaskRejected, task_name: str) -> FastWorkerError:
        if rejected.code is RefusalCode.UNKNOWN_TASK:
            return UnknownTask(rejected.message, task_name=task_name)
        make = _REJECTIONS.get(rejected.code)
        if make is None:
            return ControlPlaneUnreachable(self._address, rejected.message)
        return make(rejected.message)


def _each(watch: Watch | None) -> Iterator[Watch]:
    """All that watch the same task."""
    while watch is not None:
        yield watch
        watch = watch.another


def _traced(instruments: _instruments.Instruments, spec: TaskSpec) -> TaskSpec:
    """The task with its place in a trace; sending it takes no time of its own."""
    sending = instruments.sending(spec.name, spec.id, spec.priority, len(spec.payload))
    traced = with_trace(spec, sending.trace)
    sending.end(None)
    return traced


_REJECTIONS: Final[dict[RefusalCode | None, Callable[[str], FastWorkerError]]] = {
    RefusalCode.CONFLICT: Conflict,
    RefusalCode.QUEUE_FULL: QueueFull,
    RefusalCode.STOPPING: SubmitRefused,
    RefusalCode.STORE: StoreUnavailable,
    RefusalCode.NOT_PERMITTED: NotPermitted,
    RefusalCode.CALLBACK: ConfigurationError,
}
