"""A task that was submitted, as its client holds it: wait for it, look at it, cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import anyio

from fastworker._call_settings import check_grace
from fastworker._cancel_outcome import CancelOutcome, Lost, outcome_of
from fastworker._client_cancels import CANCEL_SECONDS
from fastworker._client_session import ClientSession
from fastworker._client_shared_task import SharedTask
from fastworker._client_watch import Watch
from fastworker._lanes._context import waiting_for_others
from fastworker._models import SerializationFormat, TaskResult, TaskStatus
from fastworker._outcomes import STATUSES, decode_value, error_of, has_value, result_of

if TYPE_CHECKING:
    from fastworker._core._client import ClientState

T = TypeVar("T")


class Progress(NamedTuple):
    """What a running task last said of itself: the part done, 0 to 1, and a text."""

    fraction: float
    message: str


class TaskHandle(Generic[T]):
    """One submitted task.

    Losing the handle does not cancel the task. It belongs to its client, and
    to the event loop of that.
    """

    # A client may have thousands of them under way.
    __slots__ = (
        "__weakref__",
        "_accepted",
        "_is_shared",
        "_lost",
        "_session",
        "_shared",
        "_state",
        "_watch",
        "id",
        "name",
    )

    def __init__(
        self,
        task_id: str,
        name: str,
        session: ClientSession,
        state: ClientState,
        accepted: SerializationFormat,
        watch: Watch,
        shared: SharedTask | None = None,
    ) -> None:
        self.id = task_id
        self.name = name
        self._session = session
        self._state = state
        self._accepted = accepted
        self._watch = watch
        self._is_shared = shared is not None
        self._shared = shared  # as long as this has a part in it
        self._lost: Lost | None = None

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id} of {self.name!r}: {self.status().value}>"

    @property
    def is_done(self) -> bool:
        """Whether it is known how the task has ended."""
        return self._watch.event is not None

    @property
    def outcome(self) -> CancelOutcome | None:
        """How the task ended, None if that is not known yet."""
        if self._watch.event is None:
            return self._lost
        return outcome_of(self._watch.event, self._accepted)

    def status(self) -> TaskStatus:
        """Return the latest status that this client has heard of."""
        event = self._watch.event or self._state.progress(self.id)
        return TaskStatus.PENDING if event is None else STATUSES[event.status]

    def progress(self) -> Progress | None:
        """Return what the task last said by :func:`fastworker.progress`, None if nothing."""
        event = self._state.progress(self.id)
        if event is None or event.progress < 0:
            return None
        return Progress(event.progress, event.message)

    async def wait(self) -> TaskResult:
        """Wait until the task has ended.

        Returns:
          How it ended; look at ``status``.

        Raises:
          NotDecodable: its value is in a format that this client does not accept.
          ClientClosed, ClientBroken: the client has ended before the task.
          SubmitError: the task was not accepted after all: no worker knows it.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        with waiting_for_others():
            await self._watch.wait()
        return self._result()

    async def result(self) -> T:
        """Wait for the value of the task. Whoever waits here owns the call.

        Returns:
          What the task function returned.

        Raises:
          TaskFailed: it raised; the message is "ValueError: ...", and the remote
            traceback is in ``traceback`` and among the notes.
          TaskTimedOut: it ran, or waited, longer than it may.
          TaskCancelled, TaskExpired: it was cancelled; it was not started in time.
          TaskLost: nobody can know how it ended.
          ResultExpired: it succeeded, and its value is no longer kept.
          everything else: as for :meth:`wait`.

        Cancellation:
          Always a checkpoint. If it raises ``Cancelled``, the task is cancelled
          too, and that is waited for, one second at most; ``outcome`` then says
          what came of it. One with a key goes on if others want it too. A CANCEL
          that could not be delivered goes out when the control plane is back. To
          look without owning, use :meth:`wait`.
        """
        try:
            with waiting_for_others():
                await self._watch.wait()
        except BaseException:
            if not self._watch.is_set() and self._give_back():
                with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                    await self._watch.wait()
            raise
        return self._value()

    def _value(self) -> T:
        """The value of a task that has ended; raises as :meth:`result`."""
        event = self._watch.event
        if event is not None and has_value(event):
            return cast(T, decode_value(event, self._accepted))
        result = self._result()
        assert event is not None
        error = error_of(result, event.ending)
        if error is not None:
            raise error
        return cast(T, result.result)

    async def cancel(self, grace: float | None = None) -> CancelOutcome:
        """Have the task stopped, and wait until it is known what came of it.

        Also if others have submitted it too, under its key.

        Args:
          grace: seconds that a running attempt gets to end; then a process is
            killed, and anything else is Abandoned. None is what its function,
            or its call, says.

        Returns:
          The truth: NeverStarted, Cancelled, Completed, Killed, Abandoned or
          Lost. A task that has ended before is what it was.

        Raises:
          ValueError: ``grace`` is no number of seconds.
          ClientClosed, ClientBroken: the client has ended meanwhile.

        Cancellation:
          Always a checkpoint. If it raises ``Cancelled``, the task is being
          cancelled all the same.
        """
        check_grace(grace)
        if not self._watch.is_set():
            self._session.cancels.request(self.id, grace)
            with waiting_for_others():
                await self._session.cancels.wait_stopped(self._watch, grace)
        else:
            await anyio.lowlevel.checkpoint()
        if not self._watch.is_set():
            return self._give_up()
        return outcome_of(self._ended(), self._accepted)

    def _give_back(self) -> bool:
        """Have the task stopped unless others want it; say whether nobody here does."""
        if not self._is_shared:
            self._session.cancels.request(self.id)
            return True
        shared, self._shared = self._shared, None
        return shared is not None and self._session.shared_tasks.leave(self.id, shared)

    def _give_up(self) -> Lost:
        """Nobody can say how it ended, or will; unless the control plane comes back."""
        self._lost = Lost("the control plane cannot be reached")
        return self._lost

    def _result(self) -> TaskResult:
        return result_of(self._ended(), self._accepted)

    def _ended(self) -> Any:
        if self._watch.error is not None:
            raise self._watch.error
        assert self._watch.event is not None
        return self._watch.event
