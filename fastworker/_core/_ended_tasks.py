"""What operators do with tasks that have ended: have them run again, or forgotten."""

from __future__ import annotations

import msgspec

from fastworker._core._open_tasks import OpenTasks
from fastworker._core._scheduler_events import ActionDone
from fastworker._core._stored import StoredTask
from fastworker._core._task_questions import Untouched


class EndedTasks:
    """Acts on rows of the store, which are given to it."""

    def __init__(self, open_tasks: OpenTasks) -> None:
        self._open = open_tasks

    def requeue(self, tasks: list[StoredTask]) -> ActionDone:
        """Let them wait as if they were new, with nobody who owns them."""
        done: list[str] = []
        untouched: list[Untouched] = []
        unsettled = self._open.changes.ids()
        for task in tasks:
            spec = task.spec
            reason = self._why_not_ended(task, unsettled) or self._open.fullness(spec)
            if spec.options is not None and spec.options.stream:
                reason = "it was a stream, whose reader is gone"
            if reason:
                untouched.append(Untouched(spec.id, reason[:256]))
                continue
            # Whoever submitted it has had its outcome; what it was in time for is over.
            spec = msgspec.structs.replace(spec, attached=False, expires=None, budget=None)
            record = self._open.new(spec, None)
            record.is_requeued = True
            record.span = task.life.span
            self._forget(spec.id)
            self._open.take_back(record)
            self._open.queue(record)
            done.append(spec.id)
        return ActionDone(done, untouched)

    def purge(self, tasks: list[StoredTask]) -> ActionDone:
        """Forget that they were there."""
        done: list[str] = []
        untouched: list[Untouched] = []
        unsettled = self._open.changes.ids()
        for task in tasks:
            reason = self._why_not_ended(task, unsettled)
            if reason:
                untouched.append(Untouched(task.spec.id, reason))
                continue
            self._forget(task.spec.id)
            done.append(task.spec.id)
        return ActionDone(done, untouched)

    def _forget(self, task_id: str) -> None:
        self._open.results.forget(task_id)
        self._open.changes.mark_purged(task_id)

    def _why_not_ended(self, task: StoredTask, unsettled: set[str]) -> str:
        """Why nothing is done with a task; empty if it has ended, and this is its row."""
        record = self._open.by_id.get(task.spec.id)
        if record is not None:
            return f"it has not ended: it is {record.state.value}"
        is_settled = task.state.is_terminal and task.spec.id not in unsettled
        return "" if is_settled else "its end is not in the store yet"
