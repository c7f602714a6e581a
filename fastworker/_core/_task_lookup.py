"""What is known of tasks: by memory, and of what that has let go, by the store.

Of an end that can still be lost nobody hears.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastworker._core._answers import Answers
from fastworker._core._control_plane_events import ReadTasks, TasksRead
from fastworker._core._deadlines import Deadlines
from fastworker._core._durability_barrier import DurabilityBarrier
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import BATCH_BYTES, Kind, TaskEvent, TaskEvents, WireStatus
from fastworker._core._scheduler import Scheduler
from fastworker._core._sessions import Session
from fastworker._core._stored import STATE_OF_STATUS
from fastworker._core._turn import Turn

# When the store is asked again for what a client has to know, and could not be read.
REREAD_SECONDS: Final = 0.5

_NOT_KEPT: Final = (WireStatus.EVICTED, WireStatus.UNKNOWN)


class TaskLookup:
    """See the module's first lines.

    Args:
      turn: where questions to the store are put.
      sessions: those that live, by key.
      scheduler: the memory.
      barrier: which knows what has yet to reach the store.
      answers: by which peers are told.
    """

    def __init__(
        self,
        turn: Turn,
        sessions: Mapping[bytes, Session],
        *,
        scheduler: Scheduler,
        barrier: DurabilityBarrier,
        answers: Answers,
    ) -> None:
        self._turn = turn
        self._sessions = sessions
        self._scheduler = scheduler
        self._changes = scheduler.changes
        self._barrier = barrier
        self._answers = answers
        # By session and slot: what the store could not be asked, and when it is again.
        self._unread: dict[tuple[bytes, int], ReadTasks] = {}
        self._rereads: Deadlines[tuple[bytes, int]] = Deadlines()

    def is_kept(self, task_id: str) -> bool:
        """Whether memory has this task, or how it has ended."""
        return self._scheduler.describe(task_id, now=self._turn.now).status not in _NOT_KEPT

    def look_up(self, session: Session, ticket: Ticket, ids: list[str]) -> None:
        """Answer a QUERY with what these tasks are now."""
        events = [self._describe(task_id) for task_id in ids]
        if any(event.status in _NOT_KEPT for event in events):
            # The end of one may be on its way to the store, which will be asked.
            self._barrier.when_durable(
                lambda: self.tell(session, ticket, Kind.QUERY, events, keep=False)
            )
        else:
            self.tell(session, ticket, Kind.QUERY, events, keep=False)

    def _describe(self, task_id: str) -> TaskEvent:
        """Say what is known of a task. Of an end that can still be lost nobody hears."""
        event = self._scheduler.describe(task_id, now=self._turn.now)
        if event.status not in STATE_OF_STATUS or not self._barrier.is_durable:
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

    def tell(
        self,
        session: Session,
        ticket: Ticket,
        kind: Kind,
        events: list[TaskEvent],
        *,
        keep: bool,
    ) -> None:
        """Answer with these events; what memory has lost may still be in the store (S13).

        A store in memory has rows too, but there the bounds of the result cache are
        what was promised: what they let go is gone.
        """
        gone = [event.task_id for event in events if event.status in _NOT_KEPT]
        if gone and self._barrier.is_durable:
            asked = ReadTasks(session.key, ticket, kind, gone, events=events)
            self._turn.commands.append(asked)
        else:
            self._answers.answer(session, ticket, TaskEvents(_cut(events)), keep=keep)

    def take_answer(self, session: Session, read: TasksRead) -> None:
        """Tell what the store has said to the question of ``tell``."""
        question = read.question
        ticket = question.ticket
        if read.problem and question.kind is not Kind.CANCEL:
            # "Unknown" would be untrue. A cancellation does not wait: others come after it.
            place = session.key, ticket.slot
            self._unread[place] = question
            self._rereads.set(place, self._turn.now + REREAD_SECONDS)
            return
        found = {t.spec.id: t.outcome for t in read.tasks if t.outcome is not None}
        unread = set(question.ids[read.reached :])
        events: list[TaskEvent] = []
        for event in question.events:
            if event.task_id in unread:
                break  # the peer asks again for the rest
            events.append(found.get(event.task_id, event))
        self._answers.answer(session, ticket, TaskEvents(_cut(events)), keep=False)

    def next_deadline(self) -> float:
        """When ``pass_deadline`` is wanted, ``inf`` for never."""
        return self._rereads.next()

    def pass_deadline(self) -> None:
        """Ask the store again what it could not say."""
        for place in self._rereads.pop_due(self._turn.now):
            question = self._unread.pop(place)
            asking = self._sessions.get(question.session)
            if asking is not None and asking.link.waits(question.ticket):
                self._turn.commands.append(question)

    def check(self) -> None:
        """Assert every invariant."""
        assert len(self._rereads) == len(self._unread)


def _cut(events: list[TaskEvent]) -> list[TaskEvent]:
    """As many events as fit into a batch; the peer asks again for the rest."""
    size = 0
    for position, event in enumerate(events):
        size += event.size
        if size > BATCH_BYTES and position:
            return events[:position]
    return events
