"""Tasks that callers of a client hand in, and wait for.

Each is the machine's from then on; who is cancelled takes his task back. Those with a
key are passed on: several callers may wait for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastworker import _instruments
from fastworker._call_settings import with_trace
from fastworker._client_call import Call
from fastworker._client_cancels import Cancels
from fastworker._client_life import SessionLife
from fastworker._client_shared_tasks import SharedTasks
from fastworker._client_watch import Watch, Watches
from fastworker._core._client_events import (
    ClientEvent,
    TasksSubmitted,
    TaskSubmitted,
    TaskTimedOut,
)
from fastworker._core._messages import TaskEvent, TaskSpec


class Submissions:
    """See the module's first lines.

    Args:
      calls: of those that wait, by task id; who has them answered sets them.
      life: of the session.
      watches: of the tasks.
      cancels: takes back what callers have left.
      shared_tasks: takes those with a key.
      apply: has the machine apply an event.
      wake: has what comes of that sent.
      clock: the event loop's, in seconds.
    """

    def __init__(
        self,
        calls: dict[str, Call],
        life: SessionLife,
        watches: Watches,
        cancels: Cancels,
        shared_tasks: SharedTasks,
        apply: Callable[[ClientEvent], None],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._life = life
        self._watches = watches
        self._cancels = cancels
        self._shared_tasks = shared_tasks
        self._apply = apply
        self._wake = wake
        self._clock = clock

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
          SubmitError, ControlPlaneUnreachable, or what the session has ended with.

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
        self._life.check_open()
        if spec.key_ttl is not None:
            # No deadline goes along: that of one caller is none for the others.
            submitted = TaskSubmitted(
                spec, expires_at=expires_at, waits_for_room=waits_for_room
            )
            return await self._shared_tasks.submit(submitted, wants_outcome, within)
        call = self._calls[spec.id] = Call(spec.name, wants_outcome=wants_outcome)
        until = self._clock() + within
        self._apply(
            TaskSubmitted(spec, wants_outcome, until, expires_at, budget_at, waits_for_room)
        )
        self._wake()
        try:
            await call.wait()
        except BaseException:
            # With an outcome there is nothing to take back; an acknowledged
            # task whose id never reached its caller is taken back too.
            if not self._life.is_over and call.error is None and call.answer is None:
                await self._cancels.take_back(spec.id)
            raise
        finally:
            del self._calls[spec.id]
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
          what the session has ended with.
        """
        self._life.check_open()
        instruments = _instruments.current
        if instruments is not None:
            specs = [_traced(instruments, spec) for spec in specs]
        watches = self._watches.watch_all(specs, on_end, on_late)
        until = self._clock() + within
        self._apply(TasksSubmitted(specs, until, expires_at, budget_at, waits_for_room))
        self._wake()
        return watches


def _traced(instruments: _instruments.Instruments, spec: TaskSpec) -> TaskSpec:
    """The task with its place in a trace; sending it takes no time of its own."""
    sending = instruments.sending(spec.name, spec.id, spec.priority, len(spec.payload))
    traced = with_trace(spec, sending.trace)
    sending.end(None)
    return traced
