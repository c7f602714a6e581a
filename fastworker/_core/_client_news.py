"""What the control plane says of a client's tasks, in whatever answer, and what it means.

News of a task come with the answer to a POLL, a WATCH or a CANCEL, and may overtake
the answer to its SUBMIT.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fastworker._core._client_events import (
    ClientCommand,
    TaskEnded,
    TaskRejected,
    ValueArrived,
)
from fastworker._core._client_task import ACCEPTED, Progress
from fastworker._core._client_tasks import LOST_SESSION, ClientTasks
from fastworker._core._messages import (
    Ending,
    RefusalCode,
    StreamValue,
    SubmitReply,
    TaskEvent,
    WireStatus,
)
from fastworker._core._stream_reading import StreamReadings

GONE: Final = "the task has ended, and its outcome is no longer kept"
DENIED: Final = (
    "the task belongs to another client that is still there; to cancel it needs the token of "
    "the role operator"
)


class ClientNews:
    """See the module's first lines.

    Args:
      out: what is to be told and done is appended to it.
      tasks: those that it is about.
      streams: what has come of those that are streams.
    """

    def __init__(
        self, out: list[ClientCommand], tasks: ClientTasks, streams: StreamReadings
    ) -> None:
        self._out = out
        self._tasks = tasks
        self._by_id = tasks.by_id
        self._streams = streams

    def take_value(self, value: StreamValue) -> None:
        """A value of a stream has come."""
        if self._streams.is_gap(value):
            self._tasks.lose_stream(value.task_id, LOST_SESSION)
        elif self._streams.take(value):
            task = self._by_id.get(value.task_id)
            if task is not None:
                self._tasks.acknowledge(value.task_id, task)
            self._out.append(ValueArrived(value))

    def take_submitted(self, call_id: int, ids: list[str], reply: SubmitReply) -> None:
        """The SUBMIT of this number, with these tasks, was answered."""
        refused = {refusal.index: refusal for refusal in reply.refusals}
        held = dict.fromkeys(reply.held)
        for index, task_id in enumerate(ids):
            task = self._by_id.get(task_id)
            if task is None or task.call_id != call_id:
                continue  # that one was left; if it is here, it is so anew
            refusal = refused.get(index)
            if refusal is not None:
                is_full = refusal.code is RefusalCode.QUEUE_FULL
                if is_full and task.waits_for_room and not task.cancel:
                    self._tasks.wait_for_room(task_id, task)
                else:
                    self._tasks.forget(task_id)
                    self._out.append(TaskRejected(task_id, refusal.code, refusal.message))
            elif index in held:
                if task.progress is Progress.SENT:
                    self._tasks.accept(task_id, task, Progress.HELD)
            else:
                self._tasks.acknowledge(task_id, task)
                if task.early is not None:
                    self.apply(task.early)

    def take_watched(self, ids: list[str], events: list[TaskEvent], lost: str) -> None:
        """The WATCH of these tasks was answered.

        Args:
          ids: of the tasks.
          events: of as many of them as the answer has.
          lost: says of one that is not known why that is so.
        """
        # The answer may be cut; ask again for the rest.
        self._tasks.to_watch.extendleft(reversed(ids[len(events) :]))
        for event in events:
            if event.status is WireStatus.UNKNOWN:
                event = msgspec.structs.replace(event, status=WireStatus.FAILURE, error=lost)
            self.apply(event, is_known_best=True)

    def take_cancelled(self, ids: list[str], events: list[TaskEvent]) -> None:
        """The CANCEL of these tasks was answered, for as many as there are events."""
        for task_id in ids[len(events) :]:
            task = self._by_id.get(task_id)
            if task is not None and task.cancel is not None:
                self._tasks.plan_cancel(task_id, task, task.cancel)
        for event in events:
            self.apply(event)

    def apply(self, event: TaskEvent, *, is_known_best: bool = False) -> None:
        """Apply news of a task, from whatever answer.

        Args:
          event: the news.
          is_known_best: whether the store was asked as well as memory.
        """
        tasks = self._tasks
        task = self._by_id.get(event.task_id)
        if task is None or event.status is WireStatus.HELD:
            return
        is_plain = task.is_own and not task.is_shared and not task.losses
        if is_plain and event.status is WireStatus.SUCCESS:  # as nearly all of them
            tasks.acknowledge(event.task_id, task)
            tasks.end(event.task_id, event)
            return
        if event.status is WireStatus.DENIED:
            tasks.forget(event.task_id)
            self._out.append(TaskRejected(event.task_id, RefusalCode.NOT_PERMITTED, DENIED))
            return
        if not task.is_own and event.status in (WireStatus.UNKNOWN, WireStatus.EVICTED):
            tasks.forget(event.task_id)
            self._out.append(TaskEnded(event.task_id, event))
            return
        if event.status is WireStatus.UNKNOWN:
            return
        if event.status is WireStatus.REFUSED:
            tasks.forget(event.task_id)
            self._out.append(TaskRejected(event.task_id, RefusalCode.UNKNOWN_TASK, event.error))
            return
        if task.is_shared and task.progress not in ACCEPTED:
            # Whether it is about this task, only the answer to its SUBMIT can tell:
            # another of this id, with other content, may have been left just before.
            task.early = event if event.status >= WireStatus.SUCCESS else None
            return
        if event.status is WireStatus.EVICTED and task.is_shared and not is_known_best:
            # It was submitted long after its end, which a WATCH finds in the store.
            tasks.acknowledge(event.task_id, task)
            tasks.to_watch.append(event.task_id)
            return
        if event.status is WireStatus.EVICTED:
            event = msgspec.structs.replace(
                event, status=WireStatus.SUCCESS, value_dropped=True, error=GONE
            )
        tasks.acknowledge(event.task_id, task)
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
        tasks.end(event.task_id, event)
