"""Decides which messages browsers get, and when.

All of them get the same: a snapshot first, then what has changed. A message is made
once, so that another browser costs little more than its socket. Changes are gathered
and sent at most four times a second, however fast tasks run. A browser on a slow line is
told fewer tasks, and one that does not read is given up (``_outbox.py``).

Rule 1: what browsers have been told is ``_shown_…``; what is new waits beside it until
:meth:`Broadcast.flush`. A snapshot is made of what is shown, so that the update that
follows it fits to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from fastworker._core._overview import Overview, WorkerRow
from fastworker.dashboard._history import History, Point
from fastworker.dashboard._outbox import Message, Outbox
from fastworker.dashboard._status_views import overview_view, worker_view

UPDATE_SECONDS: Final = 0.25
BEAT_SECONDS: Final = 5.0
# Nobody reads more, and each costs time in every browser.
MAX_TASKS: Final = 100
# When a subworker was last heard of is told anew when it differs by so many seconds.
IDLE_SECONDS: Final = 5.0

Task = TypeVar("Task")


class Broadcast(Generic[Task]):
    """See the module's first lines. ``now`` is the monotonic time of the caller.

    Args:
      task_view: what is told of a task.
    """

    def __init__(self, history: History, task_view: Callable[[Task], Any]) -> None:
        self._history = history
        self._task_view = task_view
        self._outboxes: dict[Outbox, None] = {}
        self._watchers: dict[Outbox, None] = {}
        self._shown_overview: msgspec.Raw | None = None
        self._shown_workers: _Workers | None = None
        self._snapshot: Message | None = None
        self._lost = ""
        # --- what is new ---
        self._overview: msgspec.Raw | None = None
        self._workers: _Workers | None = None
        self._points: list[Point] = []
        self._tasks: dict[str, Task] = {}
        self._dropped = 0
        # --- when ---
        self._updated_at = -math.inf
        self._told_at = -math.inf

    # --- browsers ---

    @property
    def has_browsers(self) -> bool:
        """Whether anybody looks: only then is it worth while to ask for subworkers."""
        return bool(self._outboxes)

    @property
    def wants_tasks(self) -> bool:
        """Whether anybody watches tasks."""
        return bool(self._watchers)

    @property
    def has_snapshot(self) -> bool:
        """Whether a browser that joined now would get a snapshot at once."""
        return self._shown_overview is not None and self._shown_workers is not None

    def join(self, *, now: float) -> Outbox:
        """Begin with a browser: it gets a snapshot, now or as soon as there is one."""
        if not self._outboxes:
            self._told_at = now
        outbox = Outbox()
        self._outboxes[outbox] = None
        if self.has_snapshot:
            self._put_snapshot(outbox)
        if self._lost:
            outbox.put(_lost(self._lost))
        return outbox

    def leave(self, outbox: Outbox) -> None:
        """Forget a browser."""
        self._outboxes.pop(outbox, None)
        self.watch(outbox, tasks=False)

    def watch(self, outbox: Outbox, *, tasks: bool) -> None:
        """Say whether this browser is to be told of tasks."""
        if tasks and outbox in self._outboxes:
            self._watchers[outbox] = None
            return
        self._watchers.pop(outbox, None)
        if not self._watchers:
            self._tasks.clear()
            self._dropped = 0

    # --- what is new ---

    def note_sample(
        self,
        overview: Overview,
        workers: Sequence[WorkerRow] | None,
        point: Point | None,
    ) -> None:
        """Take the numbers of this moment; ``workers`` is None if nobody asked for them."""
        self._lost = ""
        facts = overview_view(overview, self._history.rates, self._history.latency)
        self._overview = msgspec.Raw(msgspec.json.encode(facts))
        if point is not None:
            self._points.append(point)
        if workers is not None:
            shown = self._shown_workers or {}
            self._workers = {
                row.worker_id: _worker(row, overview.now, shown.get(row.worker_id))
                for row in workers
            }
        elif not self._outboxes:
            # By the time that somebody comes they are no longer true.
            self._shown_workers = self._workers = None

    def note_task(self, task_id: str, task: Task) -> None:
        """Take the newest state of a task; the oldest news go if there are too many."""
        if not self._watchers:
            return
        if self._tasks.pop(task_id, None) is None and len(self._tasks) >= MAX_TASKS:
            del self._tasks[next(iter(self._tasks))]
            self._dropped += 1
        self._tasks[task_id] = task

    def note_dropped_tasks(self, count: int) -> None:
        """News of so many tasks have not come here at all."""
        if self._watchers:
            self._dropped += count

    def note_lost(self, message: str) -> None:
        """The control plane does not answer. Everybody is told, once for each reason."""
        if message == self._lost:
            return
        self._lost = message
        self._put_all(_lost(message))

    # --- sending ---

    @property
    def due_at(self) -> float:
        """When :meth:`flush` has something to do."""
        if self._overview is not None or self._tasks or self._dropped:
            return self._updated_at + UPDATE_SECONDS
        return self._told_at + BEAT_SECONDS if self._outboxes else math.inf

    def flush(self, *, now: float) -> None:
        """Give every browser what is new, or a sign of life."""
        if now < self.due_at:
            return
        has_sample = self._overview is not None
        if not (has_sample or self._tasks or self._dropped):
            self._told_at = now
            self._put_all(_message({"type": "beat"}))
            return
        self._updated_at = now
        if has_sample:
            self._told_at = now
        update = self._take_update()
        tasks, dropped = self._take_tasks()
        if not self.has_snapshot:
            return  # there is nothing to be told of yet
        if not self._outboxes:
            return
        plain = _message(update | {"tasks": [], "dropped": 0}) if has_sample else None
        full = plain
        if tasks or dropped:
            full = _message(update | {"tasks": tasks, "dropped": dropped})
        short = plain
        if (tasks or dropped) and any(outbox.is_behind for outbox in self._watchers):
            short = _message(update | {"tasks": [], "dropped": dropped + len(tasks)})
        for outbox in self._outboxes:
            message = plain
            if outbox in self._watchers:
                message = short if outbox.is_behind else full
            if not outbox.has_snapshot:
                self._put_snapshot(outbox)
            elif message is not None:
                outbox.put(message)

    def _take_update(self) -> dict[str, Any]:
        """Make what is new what is shown."""
        changed: list[dict[str, Any]] = []
        gone: list[str] = []
        if self._workers is not None:
            shown = self._shown_workers or {}
            changed = [worker.view for worker in self._workers.values() if worker.is_changed]
            gone = [worker_id for worker_id in shown if worker_id not in self._workers]
            self._shown_workers = self._workers
            self._workers = None
        if self._overview is not None:
            self._shown_overview = self._overview
            self._overview = None
            self._snapshot = None
        point = self._points[-1] if self._points else None
        self._points.clear()
        return {
            "type": "update",
            "overview": self._shown_overview,
            "workers": changed,
            "gone": gone,
            "point": point,
        }

    def _take_tasks(self) -> tuple[list[Any], int]:
        tasks = [self._task_view(task) for task in self._tasks.values()]
        dropped = self._dropped
        self._tasks.clear()
        self._dropped = 0
        return tasks, dropped

    def _put_all(self, message: Message) -> None:
        for outbox in self._outboxes:
            outbox.put(message)

    def _put_snapshot(self, outbox: Outbox) -> None:
        if self._snapshot is None:
            assert self._shown_workers is not None
            points = list(self._history.points)
            self._snapshot = _message(
                {
                    "type": "snapshot",
                    "overview": self._shown_overview,
                    "workers": [worker.view for worker in self._shown_workers.values()],
                    # The others are new.
                    "history": points[: len(points) - len(self._points)],
                }
            )
        outbox.put(self._snapshot)
        outbox.has_snapshot = True


class _Worker(NamedTuple):
    """A subworker as browsers know it. ``heard_at`` is what ``idle`` told them."""

    view: dict[str, Any]
    heard_at: float
    is_changed: bool


_Workers = dict[str, _Worker]


def _worker(row: WorkerRow, wall: float, shown: _Worker | None) -> _Worker:
    view = worker_view(row)
    heard_at = wall - row.idle
    # It is heard of every few seconds, and browsers count on by themselves: an idle
    # subworker is no news each second.
    is_known = (
        shown is not None
        and abs(heard_at - shown.heard_at) < IDLE_SECONDS
        and view | {"idle": 0} == shown.view | {"idle": 0}
    )
    if shown is not None and is_known:
        return _Worker(view, shown.heard_at, is_changed=False)
    return _Worker(view, heard_at, is_changed=True)


def _lost(message: str) -> Message:
    return _message({"type": "lost", "message": message})


def _message(content: dict[str, Any]) -> Message:
    encoded = msgspec.json.encode(content)
    return Message(encoded.decode(), len(encoded))
