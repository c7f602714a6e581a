"""One run of a subworker: its machine, its connection, its lanes.

The loop that speaks to the control plane runs no user code (lanes do), so a
task that blocks stops no heartbeat. Decisions are the machine's
(``_core/_subworker.py``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from fastworker import _instruments
from fastworker._core._attempts import AttemptKey
from fastworker._core._held_attempts import Why
from fastworker._core._link_requester import (
    DropPipe,
    Redirected,
    SendFrame,
    SessionOpened,
    SessionRefused,
)
from fastworker._core._messages import Assignment
from fastworker._core._open_peers import NOTHING_PROVED
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeEvent
from fastworker._core._subworker import SubworkerState, SubworkerStatistics
from fastworker._core._subworker_events import (
    AttemptAbandoned,
    AttemptsTakenBack,
    CancelAttempt,
    DrainCancelled,
    Drained,
    DrainOrdered,
    DrainRequested,
    FrameArrived,
    GiveCredit,
    Interrupted,
    LaneNews,
    SaidGoodbye,
    StartAttempts,
    SubworkerCommand,
    SubworkerEvent,
    SubworkerStopped,
    TakeBack,
    WornOut,
)
from fastworker._crash import crash_point
from fastworker._errors import (
    AuthenticationError,
    ControlPlaneUnreachable,
    LinkBroken,
    LinkError,
)
from fastworker._lanes._abc import Attempt, InProcess, Lane
from fastworker._lanes._sink import TrioSink
from fastworker._task_function import Backend, TaskFunction
from fastworker._transport._abc import Transport
from fastworker._transport._connection import Connection
from fastworker._validation import validated

log = logging.getLogger("fastworker.subworker")

# How long stopping waits for the control plane to take notice.
GOODBYE_SECONDS: Final = 0.5
# How long ends of attempts gather while others wait for their turn in the lanes.
GATHER_SECONDS: Final = 0.001
# What still runs when the time of a drain is over gets this long to stop, so
# that the process has ended two seconds after that time at most.
INTERRUPT_SECONDS: Final = 1.0
# What an attempt that was asked to stop, and did, is called by whoever measures.
_OUTCOME_OF: Final[dict[Why | None, str]] = {
    Why.CANCELLED: "cancelled",
    Why.TIMED_OUT: "timed_out",
    Why.DEADLINE: "timed_out",
    Why.INTERRUPTED: "interrupted",
    None: "lost",  # its lease is gone: another worker may run it
}


class SubworkerSession:
    """See the module's first lines.

    Args:
      state: the machine, new.
      transport: makes the connection.
      address: where the control plane is.
      functions: what can run here, by name.
      lanes: where it runs, by kind; started by :meth:`run`.
      sink: where the lanes post their events.
      worker_id: a label, told to user code.
      default_backend: the loop of an ``async def`` in a process that names none.
      ends_when_worn_out: drain and end once a lane has no slot left that is not
        taken by an attempt that was given up.
    """

    def __init__(
        self,
        state: SubworkerState,
        transport: Transport,
        address: str,
        functions: Mapping[str, TaskFunction],
        lanes: Mapping[str, Lane],
        sink: TrioSink,
        *,
        worker_id: str,
        default_backend: Backend = "trio",
        ends_when_worn_out: bool = False,
    ) -> None:
        self._state = state
        self._handle = validated(state)
        self._connection = Connection(transport, address, self)
        self._address = address
        self._worker_id = worker_id
        self._default_backend: Backend = default_backend
        self._functions = functions
        self._lanes = lanes
        self._sink = sink
        self._settled = trio.Event()  # connected, or refused
        self._refusal: str | None = None
        self._not_proved = ""
        self._drain_requested = trio.Event()
        self._drained = trio.Event()
        self._ends_when_worn_out = ends_when_worn_out
        self.is_worn_out = False
        self._resumed = trio.Event()  # replaced at each
        self._said_goodbye = trio.Event()
        self._connection_scope = trio.CancelScope(shield=True)
        self._is_leaving = False

    # --- life ---

    async def run(
        self,
        *,
        connect_timeout: float,
        drain_timeout: float,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work until drained; if cancelled, stop what runs and leave.

        Args:
          connect_timeout: seconds to find the control plane the first time.
          drain_timeout: seconds that running attempts get once drained.

        Raises:
          ControlPlaneUnreachable, LinkBroken, AuthenticationError: there was no first time.
        """
        for lane in self._lanes.values():
            lane.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_connection)
                nursery.start_soon(self._follow_lanes)
                try:
                    failure = await self._wait_connected(connect_timeout)
                    if failure is None:
                        task_status.started()
                        await self._wait_drained(drain_timeout)
                finally:
                    with trio.move_on_after(GOODBYE_SECONDS, shield=True):
                        await self._say_goodbye()
                    self._connection_scope.cancel()
                nursery.cancel_scope.cancel()
        finally:
            for lane in self._lanes.values():
                lane.close()
        if failure is not None:  # raised here, a nursery would wrap it in a group
            raise failure

    def drain(self) -> None:
        """Take no more work; :meth:`run` returns when what runs has ended."""
        if self._drain_requested.is_set():
            return
        self._drain_requested.set()
        self._apply(DrainRequested())
        self._connection.wake()

    def resume(self) -> None:
        """Take work again, if the drain has not ended yet."""
        if not self._drain_requested.is_set() or self._is_leaving:
            return
        self._drain_requested = trio.Event()
        self._resumed.set()
        self._resumed = trio.Event()
        self._apply(DrainCancelled())
        self._connection.wake()

    def note_not_proved(self, reason: str, *, is_final: bool) -> None:
        """One side did not prove who it is; it is tried again."""
        if self._settled.is_set() and reason != self._not_proved:
            log.warning("no connection to %s: %s", self._address, reason)
        self._not_proved = reason
        if is_final:
            self._settled.set()

    def statistics(self) -> SubworkerStatistics:
        """Return a snapshot, with all that the lanes have told so far."""
        self._take_news()
        return self._state.statistics()

    async def _wait_connected(self, within: float) -> LinkError | None:
        with trio.move_on_after(within):
            await self._settled.wait()
        if self._refusal is not None:
            error = AuthenticationError if self._refusal == NOTHING_PROVED else LinkBroken
            return error(f"the control plane at {self._address} refused: {self._refusal}")
        if self._not_proved:
            return AuthenticationError(
                f"no session with the control plane at {self._address}: {self._not_proved}"
            )
        if not self._settled.is_set():
            return ControlPlaneUnreachable(self._address, f"no answer within {within:g} s")
        return None

    async def _wait_drained(self, within: float) -> None:
        """Wait until a drain has come to its end, one way or the other."""
        while True:
            await self._drain_requested.wait()
            with trio.move_on_after(within) as scope:
                await self._wait_drained_or_resumed()
            if scope.cancelled_caught:
                await self._interrupt(within)
                return
            if self._drained.is_set():
                return

    async def _wait_drained_or_resumed(self) -> None:
        async with trio.open_nursery() as nursery:

            async def watch(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch, self._drained)
            nursery.start_soon(watch, self._resumed)

    async def _interrupt(self, after: float) -> None:
        """Stop what still runs and hand it back; it has run for nothing."""
        log.warning(
            "%d attempts still run after %g s of draining; they are stopped and handed back",
            self._state.statistics().running,
            after,
        )
        self._is_leaving = True
        self._apply(Interrupted(INTERRUPT_SECONDS))
        self._connection.wake()
        with trio.move_on_after(INTERRUPT_SECONDS + GOODBYE_SECONDS):
            await self._drained.wait()

    async def _run_connection(self) -> None:
        # Outlives a cancellation, for the goodbye; run() ends it.
        with self._connection_scope:
            await self._connection.run()

    async def _say_goodbye(self) -> None:
        self._is_leaving = True
        self._apply(SubworkerStopped())
        self._connection.wake()
        await self._said_goodbye.wait()

    async def _follow_lanes(self) -> None:
        while True:
            await self._sink.wait()
            if any(lane.waiting for lane in self._lanes.values()):
                # Both threads want the interpreter. Should they take turns at each
                # attempt, each would be told of by itself.
                await trio.sleep_until(trio.current_time() + GATHER_SECONDS)
            self._take_news()

    def _take_news(self) -> None:
        crash_point("before-report")
        self._apply(LaneNews(self._sink.receive_nowait()))
        self._connection.flush()
        crash_point("after-report")

    # --- what the connection wants (Machine) ---

    has_callers = False

    def take_frames(self, frames: Sequence[bytes | memoryview]) -> None:
        """Apply frames that have arrived."""
        for frame in frames:
            self._apply(FrameArrived(frame))

    def take_pipe_event(self, event: PipeEvent) -> None:
        """Apply news of the pipe."""
        if isinstance(event, PipeClosed) and self._settled.is_set() and not self._is_leaving:
            log.warning("lost the connection to %s; dialing again", self._connection.address)
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

    def _apply(self, event: SubworkerEvent) -> None:
        for command in self._handle(event, now=trio.current_time()):
            self._carry_out(command)

    def _carry_out(self, command: SubworkerCommand) -> None:
        match command:
            case StartAttempts(lane=lane, epoch=epoch, assignments=assignments):
                crash_point("before-start")
                self._lanes[lane].submit([self._attempt(epoch, a) for a in assignments])
            case SendFrame(data=data):
                self._connection.send(data)
            case TakeBack(lane=lane):
                self._apply(AttemptsTakenBack(self._lanes[lane].take_back()))
            case CancelAttempt(lane=lane, key=key, grace=grace, why=why):
                if _instruments.current is not None:
                    _instruments.current.stopping(key, _OUTCOME_OF[why])
                self._lanes[lane].cancel(key, grace)
            case AttemptAbandoned(key=key):
                if _instruments.current is not None:
                    _instruments.current.abandoned(key)
            case GiveCredit(lane=lane, key=key, count=count):
                self._lanes[lane].credit(key, count)
            case WornOut(lane=lane):
                self._on_worn_out(lane)
            case SessionOpened(worker_id=worker_id, resumed=resumed):
                verb = "resumed the session with" if resumed else "joined"
                log.info("%s %s at %s", verb, worker_id, self._connection.address)
                self._not_proved = ""
                self._settled.set()
            case Redirected(port=port):
                self._connection.move(port)
            case SessionRefused(reason=reason):
                log.error("refused by the control plane: %s", reason)
                self._refusal = reason
                self._settled.set()
            case DropPipe():
                self._connection.drop_pipe()
            case Drained():
                self._drained.set()
            case DrainOrdered():
                log.info("the control plane wants this worker drained")
                self._drain_requested.set()
            case SaidGoodbye():
                self._said_goodbye.set()

    def _on_worn_out(self, lane: str) -> None:
        if self.is_worn_out:
            return
        self.is_worn_out = True
        log.error(
            "all %d slots of the %s lane are taken by tasks that were stopped and run on; %s",
            self._lanes[lane].slots,
            lane,
            "this worker drains and ends, to be started again"
            if self._ends_when_worn_out
            else "restart the process to have them back",
        )
        if self._ends_when_worn_out:
            self.drain()

    def _attempt(self, epoch: int, assignment: Assignment) -> Attempt:
        function, options = self._functions[assignment.name], assignment.options
        left = math.inf if assignment.time_left is None else assignment.time_left
        within = left
        if assignment.start_within is not None and assignment.start_within < left:
            within = assignment.start_within
        return Attempt(
            AttemptKey(assignment.task_id, epoch, assignment.attempt),
            assignment.name,
            function.function,
            assignment.payload,
            assignment.format,
            function.options.is_retryable,
            assignment.number,
            assignment.priority,
            left,
            within,
            self._worker_id,
            assignment.created,
            0 if options is None else options.stream,
            self._in_process(function),
            "" if options is None else options.trace,
            assignment.earlier,
        )

    def _in_process(self, function: TaskFunction) -> InProcess | None:
        if function.lane != "process":
            return None
        return InProcess(
            function.module,
            function.loop_for(self._default_backend) or "",
            function.options.memory_bytes,
            function.options.recycle_after,
        )
