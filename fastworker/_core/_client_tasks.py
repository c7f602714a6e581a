"""The tasks of a client, from when they are handed in until they end or are given up.

It says what is to be asked of the control plane for them, and never asks itself:
the link has sixteen slots, and callers come by the thousand.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from fastworker._core._client_batches import Batches
from fastworker._core._client_cancels import Cancel, PlannedCancels
from fastworker._core._client_events import (
    ClientCommand,
    TaskAcknowledged,
    TaskEnded,
    TaskRejected,
    TasksSubmitted,
    TaskSubmitted,
)
from fastworker._core._client_submits import SubmitQueue
from fastworker._core._client_task import ACCEPTED, Batch, ClientTask, Progress
from fastworker._core._deadlines import Deadlines
from fastworker._core._messages import Ending, TaskEvent, TaskSpec, WireStatus
from fastworker._core._results import Results
from fastworker._core._stream_reading import StreamReadings

LOST_STORE: Final = "lost: control plane restarted without a durable store"
LOST_SESSION: Final = "lost: the session with the control plane ended, and values with it"


class ClientTasks:
    """See the module's first lines.

    Args:
      out: what is to be told and done is appended to it.
      outcomes: the local cache.
      deadlines: of callers, by task id; and of those who have handed in many, by batch.
      queue: what is to be submitted.
      streams: what has come of those that are streams.
      retries: how many lost sessions a submit survives before it is rejected.

    Attributes:
      by_id: all of them.
      cancels: what is to be cancelled.
      to_watch: ids of those whose state is to be asked for.
      now: when the event came that is being handled.
    """

    def __init__(
        self,
        out: list[ClientCommand],
        *,
        outcomes: Results,
        deadlines: Deadlines[str | int],
        queue: SubmitQueue,
        streams: StreamReadings,
        retries: int,
    ) -> None:
        self.by_id: dict[str, ClientTask] = {}
        self.cancels = PlannedCancels()
        self.to_watch: deque[str] = deque()
        self.now = 0.0
        self._out = out
        self._outcomes = outcomes
        self._deadlines = deadlines
        self._queue = queue
        self._room = queue.room
        self._streams = streams
        self._retries = retries
        self._batches = Batches(deadlines)
        self._abandoned: set[str] = set()  # of those that may have been sent
        self._foreign: set[str] = set()  # other clients' tasks, cancelled from here

    def __len__(self) -> int:
        return len(self.by_id)

    @property
    def is_taking_back(self) -> bool:
        """Whether a task that its caller has left may still start or run."""
        return bool(self._abandoned)

    def check(self) -> None:
        """Assert every invariant."""
        for task in self.by_id.values():
            assert not task.event.status >= WireStatus.SUCCESS, f"{task.event} is no outcome"
        assert self._foreign == {task_id for task_id, t in self.by_id.items() if not t.is_own}
        abandoned = {task_id for task_id, t in self.by_id.items() if t.is_abandoned}
        assert self._abandoned == abandoned
        self._batches.check(self.by_id.values())

    # --- callers ---

    def submit_all(self, submitted: TasksSubmitted) -> None:
        """Several were handed in at once."""
        specs, batch = submitted.specs, None
        if submitted.deadline < math.inf and specs:
            batch = self._batches.open([spec.id for spec in specs], submitted.deadline)
        for spec in specs:
            self.submit(spec, submitted, batch, is_one_of_many=True)

    def submit(
        self,
        spec: TaskSpec,
        how: TaskSubmitted | TasksSubmitted,
        batch: Batch | None = None,
        *,
        is_one_of_many: bool = False,
    ) -> None:
        """One was handed in."""
        task_id = spec.id
        task = ClientTask(
            TaskEvent(task_id, WireStatus.PENDING),
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
        if task_id in self.by_id:
            # One that was left, or is another's, is wanted here (again) after all.
            self.cancels.discard(task_id)
            self.forget(task_id)
        self.by_id[task_id] = task
        self._queue.add(task_id, task, self.now)
        if spec.options is not None and spec.options.stream:
            self._streams.open(task_id, spec.options.stream)

    def abandon(self, task_id: str) -> None:
        """Its caller wants it not to run."""
        task = self.by_id.get(task_id)
        if task is None or task.is_abandoned:
            return
        self._deadlines.clear(task_id)
        if task.progress is Progress.UNSENT:
            self._queue.remove(task_id, task)
            self.forget(task_id)
            return
        task.is_abandoned = True
        self._abandoned.add(task_id)
        self.plan_cancel(task_id, task, Cancel(leaves=task.is_shared))

    def request_cancel(self, task_id: str, grace: float | None) -> None:
        """Somebody wants it stopped, whoever it belongs to, and to hear how it ends."""
        task = self.by_id.get(task_id)
        if task is None:
            # Another client's, or one that has ended: the control plane knows.
            task = self.by_id[task_id] = ClientTask(
                TaskEvent(task_id, WireStatus.PENDING),
                None,
                wants_outcome=True,
                progress=Progress.ACKNOWLEDGED,
                is_own=False,
            )
            self._foreign.add(task_id)
        if task.progress is Progress.UNSENT:
            self._queue.remove(task_id, task)
            event = TaskEvent(task_id, WireStatus.CANCELLED, ending=Ending.NEVER_STARTED)
            self.end(task_id, event)
            return
        self.plan_cancel(task_id, task, Cancel(grace, wants_end=not task.is_own))

    def plan_cancel(self, task_id: str, task: ClientTask, cancel: Cancel) -> None:
        """Have one cancelled that is not UNSENT."""
        # A CANCEL that overtakes its SUBMIT would find nothing to cancel, so
        # it waits for the acknowledgement.
        task.cancel = cancel.with_least_grace(task.cancel)
        if task.progress is not Progress.SENT:
            self.cancels.add(cancel, task_id)

    def take_late(self) -> list[str]:
        """Take out the callers whose time is over; return the ids of their tasks."""
        late: list[str] = []
        for due in self._deadlines.pop_due(self.now):
            if isinstance(due, str):
                late.append(due)
            else:
                late += self._batches.end(due, self.by_id)
        return late

    # --- what becomes of one ---

    def acknowledge(self, task_id: str, task: ClientTask) -> None:
        """The control plane has it, and keeps it as it has promised."""
        if task.progress is not Progress.ACKNOWLEDGED:
            if task.is_awaited or task.is_shared:
                self._out.append(TaskAcknowledged(task_id))
            self.accept(task_id, task, Progress.ACKNOWLEDGED)

    def accept(self, task_id: str, task: ClientTask, progress: Progress) -> None:
        """The control plane has it; ``progress`` says how."""
        was_sent = task.progress is Progress.SENT
        if progress is Progress.ACKNOWLEDGED and not task.wants_outcome:
            if task.batch is not None:
                self._batches.leave(task, task.batch)
            elif len(self._deadlines):
                self._deadlines.clear(task_id)
        task.progress = progress
        if task.waits_for_room:
            self._room.note_taken(task_id, self.now)
        if task.is_shared:
            self._outcomes.forget(task_id)  # of an earlier task of this id
        if progress is Progress.ACKNOWLEDGED:
            task.spec = None
        if was_sent and task.cancel is not None:
            self.cancels.add(task.cancel, task_id)

    def wait_for_room(self, task_id: str, task: ClientTask) -> None:
        """It was refused, since the queue is full: it is submitted again."""
        task.progress = Progress.UNSENT
        self._room.enter(task_id, self.now)

    def forget(self, task_id: str) -> None:
        """Nobody here has to do with it any more."""
        task = self.by_id.pop(task_id)
        if task.batch is not None:
            self._batches.leave(task, task.batch)
        self._abandoned.discard(task_id)
        self._foreign.discard(task_id)
        if len(self._deadlines):
            self._deadlines.clear(task_id)
        self._streams.forget(task_id)
        if task.waits_for_room:
            self._room.forget(task_id, self.now)

    def end(self, task_id: str, event: TaskEvent) -> None:
        """It has its outcome."""
        task = self.by_id[task_id]
        self.forget(task_id)
        if task.is_own and task.keeps_outcome:
            self._outcomes.put(event, 0, now=self.now)
        self._out.append(TaskEnded(task_id, event))

    def lose_stream(self, task_id: str, error: str) -> None:
        """Values of it are gone: its reader hears so, and nobody needs the rest."""
        self.cancels.add(Cancel(), task_id)
        lost = TaskEvent(task_id, WireStatus.FAILURE, error=error, ending=Ending.LOST)
        self.end(task_id, lost)

    # --- what becomes of all ---

    def note_unheard(self, call_id: int, ids: list[str]) -> None:
        """The SUBMIT of this number, with these tasks, was lost with its session."""
        # Not the same batch again: some of its tasks may have ended, and whoever
        # has no memory of them would run them once more.
        for task in filter(None, map(self.by_id.get, ids)):
            if task.call_id == call_id and task.progress is Progress.SENT:
                self._queue.add_unheard(task)

    def begin_session(self, *, lost_store: bool) -> None:
        """Find out, in a session that is not the first, what has become of all of them.

        Args:
          lost_store: whether the control plane has forgotten what it had acknowledged.
        """
        self.to_watch.clear()
        for task_id, task in list(self.by_id.items()):
            if task.progress is Progress.HELD:
                # It was never promised to be kept: ask for it again.
                task.progress = Progress.SENT
                self._queue.add_unheard(task)
                self._note_loss(task_id, task, lost_store=lost_store)
            elif task_id in self._streams and task.progress in ACCEPTED:
                self.lose_stream(task_id, LOST_STORE if lost_store else LOST_SESSION)
            elif task.progress in ACCEPTED:
                if task.cancel is not None:
                    # Once more: what was asked in the other session may be lost.
                    self.plan_cancel(task_id, task, task.cancel)
                if task.is_own:
                    self.to_watch.append(task_id)
            elif task.progress is Progress.SENT:
                self._note_loss(task_id, task, lost_store=lost_store)

    def _note_loss(self, task_id: str, task: ClientTask, *, lost_store: bool) -> None:
        """The session is gone in which a task was sent, and not acknowledged."""
        if task.cancel is not None:
            return  # what was taken back is sent until it is heard of, and cancelled then
        task.losses += 1
        if task.losses > self._retries:
            self.forget(task_id)
            why = "the control plane restarted" if lost_store else "the session was lost"
            message = f"{why} {task.losses} times before it acknowledged the task"
            self._out.append(TaskRejected(task_id, None, message))
