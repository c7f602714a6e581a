"""One run of a client, from start to stop: its machine, its connection, its callers.

Decisions are the machine's (``_core/_client.py``). This shell wakes callers
and keeps the background work inside one task group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio

from fastworker._client_call import Call
from fastworker._client_cancels import Cancels
from fastworker._client_life import SessionLife
from fastworker._client_questions import Questions
from fastworker._client_rejection import rejection
from fastworker._client_shared_task import SharedTask
from fastworker._client_shared_tasks import SharedTasks
from fastworker._client_submissions import Submissions
from fastworker._client_watch import Watches
from fastworker._core._client import ClientState
from fastworker._core._client_events import (
    ClientCommand,
    ClientEvent,
    ClientStopped,
    FrameArrived,
    QueryAnswered,
    QuestionAnswered,
    SaidGoodbye,
    TaskAcknowledged,
    TaskEnded,
    TaskRejected,
    TaskTimedOut,
    ValueArrived,
    ValueRead,
)
from fastworker._core._link_requester import (
    DropPipe,
    Redirected,
    SendFrame,
    SessionOpened,
    SessionRefused,
)
from fastworker._core._messages import StreamValue
from fastworker._core._pipes import DeadlinePassed, Flush, PipeEvent
from fastworker._crash import crash_point
from fastworker._errors import ClientClosed, FastWorkerError
from fastworker._transport._abc import Transport
from fastworker._transport._connection import Connection
from fastworker._validation import validated

# How long stopping waits for the control plane to take notice.
GOODBYE_SECONDS: Final = 0.5


class ClientSession:
    """See the module's first lines. All methods belong to one event loop.

    Args:
      state: the machine, new.
      transport: makes the connection.
      address: where the control plane is looked for.
      clock: the event loop's, in seconds.

    Attributes:
      clock: the same.
      life: whether the session is open, or over.
      submissions: takes tasks.
      shared_tasks: takes those with a key.
      watches: tell of the ends of tasks.
      cancels: has tasks stopped.
      questions: asks the control plane.
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
        self.clock = clock
        self._connection = Connection(transport, address, self)
        self._address = address
        self._submits: dict[str, Call] = {}
        self._shared: dict[str, SharedTask] = {}
        self._readers: dict[str, Callable[[StreamValue], None]] = {}
        apply, wake = self._apply, self._connection.wake
        self.life = SessionLife(address)
        self.watches = Watches(state, self.life)
        self.cancels = Cancels(state, self.life, self.watches, apply, wake, clock)
        self.shared_tasks = SharedTasks(
            self._shared, state, self.life, self.watches, self.cancels, apply, wake
        )
        self.submissions = Submissions(
            self._submits,
            self.life,
            self.watches,
            self.cancels,
            self.shared_tasks,
            apply,
            wake,
            clock,
        )
        self.questions = Questions(self.life, address, apply, wake)
        self._stopping = anyio.Event()
        self._said_goodbye = anyio.Event()
        self._connection_scope = anyio.CancelScope(shield=True)
        self._has_failed = False

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

    def close(self, make_error: Callable[[], FastWorkerError]) -> None:
        """End the session; every caller raises an error of its own. Idempotent."""
        if self.life.is_over:
            return
        self.life.end(make_error)
        for call in list(self._submits.values()):
            call.fail(make_error())
        self.questions.fail(make_error)
        for shared in self._shared.values():
            shared.fail(make_error)
        self.watches.end_all(make_error)
        self._stopping.set()
        self.cancels.look_whether_taken_back()
        if not self._has_failed:
            self._apply(ClientStopped())
            self._connection.wake()

    # --- streams ---

    def read_stream(self, task_id: str, take: Callable[[StreamValue], None]) -> None:
        """Have the values of a stream given to ``take``, in the loop, in order."""
        self._readers[task_id] = take

    def leave_stream(self, task_id: str) -> None:
        """Drop what comes of a stream from now on. Idempotent."""
        self._readers.pop(task_id, None)

    def note_read(self, task_id: str, size: int) -> None:
        """Say that the next value of a stream was read, of so many bytes."""
        if not self.life.is_over:
            self._apply(ValueRead(task_id, size))
            self._connection.wake()

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
        for command in self._handle(event, now=self.clock()):
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
                self.watches.end(task_id, event)
                self.cancels.look_whether_taken_back()
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
                self.watches.note_late(task_id)
            case TaskRejected():
                self._on_rejected(command)
            case QueryAnswered() | QuestionAnswered():
                self.questions.take_answer(command)
            case SessionOpened(operator=operator):
                self.life.note_opened(operator=operator)
            case Redirected(port=port):
                self._connection.move(port)
            case SessionRefused(reason=reason):
                self.life.note_refused(reason)
            case DropPipe():
                self._connection.drop_pipe()
            case SaidGoodbye():
                self._said_goodbye.set()

    def _on_rejected(self, rejected: TaskRejected) -> None:
        task_id = rejected.task_id
        call = self._submits.get(task_id)
        name = self.watches.task_name(task_id) if call is None else call.task_name

        def make_error() -> FastWorkerError:
            return rejection(rejected, name, self._address)

        if call is not None:
            call.fail(make_error())
        if task_id in self._shared:
            self._shared.pop(task_id).fail(make_error)
        self.watches.end(task_id, None, make_error)
        self.cancels.look_whether_taken_back()
