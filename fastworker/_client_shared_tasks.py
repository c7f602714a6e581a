"""Callers of one client that submit the same task, under a key of its own choosing.

It is sent once. See ``_client_shared_task.py`` for what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from fastworker._client_cancels import Cancels
from fastworker._client_life import SessionLife
from fastworker._client_shared_task import SharedTask
from fastworker._client_watch import Watches
from fastworker._core._client import ClientState
from fastworker._core._client_events import ClientEvent, TaskSubmitted, TaskTimedOut
from fastworker._core._messages import TaskEvent
from fastworker._core._task_states import content_digest
from fastworker._errors import Conflict


class SharedTasks:
    """See the module's first lines.

    Args:
      by_id: all of them; who has them ended takes them out.
      state: the machine.
      life: of the session.
      watches: of the tasks.
      cancels: takes back those that nobody wants any more.
      apply: has the machine apply an event.
      wake: has what comes of that sent.
    """

    def __init__(
        self,
        by_id: dict[str, SharedTask],
        state: ClientState,
        life: SessionLife,
        watches: Watches,
        cancels: Cancels,
        apply: Callable[[ClientEvent], None],
        wake: Callable[[], None],
    ) -> None:
        self._by_id = by_id
        self._state = state
        self._life = life
        self._watches = watches
        self._cancels = cancels
        self._apply = apply
        self._wake = wake

    def get(self, task_id: str) -> SharedTask | None:
        """What a handle of a task with a key has to leave, None if there is no such task."""
        return self._by_id.get(task_id)

    async def submit(
        self, submitted: TaskSubmitted, wants_outcome: bool, within: float
    ) -> TaskEvent | TaskTimedOut | None:
        """As :meth:`Submissions.submit`, for a task that others here may have submitted too."""
        task_id, content = submitted.spec.id, content_digest(submitted.spec)
        shared = self._by_id.get(task_id)
        if shared is None:
            shared = self._by_id[task_id] = SharedTask(content)
            self._apply(submitted)
            self._wake()
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
                watch = self._watches.watch(task_id)
                await watch.wait()
                if watch.error is not None:
                    raise watch.error
                return watch.event
            late = self._state.late(task_id)
        finally:
            if not is_held and self._leaves(task_id, shared):
                if late is not None:
                    self._cancels.abandon(task_id)
                else:
                    await self._cancels.take_back(task_id)
        return late

    def leave(self, task_id: str, shared: SharedTask) -> bool:
        """A handle's owner does not want it any more; say if nobody here does."""
        if not self._leaves(task_id, shared):
            return False
        self._cancels.abandon(task_id)
        return True

    def _leaves(self, task_id: str, shared: SharedTask) -> bool:
        """Count one less who wants it; say whether it is to be taken back."""
        shared.users -= 1
        if not shared.is_left or self._by_id.get(task_id) is not shared:
            return False
        # Whoever comes now submits it anew.
        del self._by_id[task_id]
        return not self._life.is_over
