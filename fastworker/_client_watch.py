"""Whoever hears of the end of a client's tasks.

There may be several for one task. They are a chain, as nearly always it is of one:
of what is made for each task, the collector looks at every object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fastworker._client_life import SessionLife
from fastworker._client_signals import Done
from fastworker._core._client import ClientState
from fastworker._core._messages import TaskEvent, TaskSpec
from fastworker._errors import FastWorkerError


class Watch(Done):
    """Happens when one task has ended, or never will; of several, each does.

    Args:
      task_id: of it.
      on_end: called with the id, in the loop, as soon as it has ended, or never will.
    """

    __slots__ = ("another", "error", "event", "on_end", "on_late", "task_id", "task_name")

    def __init__(self, task_id: str, on_end: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.task_id = task_id
        self.another: Watch | None = None  # of the same task
        self.on_end = on_end
        self.on_late: Callable[[], None] | None = None  # not acknowledged in time
        self.task_name = ""
        self.event: TaskEvent | None = None
        self.error: FastWorkerError | None = None

    def end(self, event: TaskEvent | None, error: FastWorkerError | None = None) -> None:
        """Let it know. Only the first time counts."""
        if not self.is_set():
            self.event, self.error = event, error
            self.set()
            if self.on_end is not None:
                self.on_end(self.task_id)


class Watches:
    """All that have not happened yet.

    Args:
      state: the machine.
      life: of the session.
    """

    def __init__(self, state: ClientState, life: SessionLife) -> None:
        self._state = state
        self._life = life
        self._by_id: dict[str, Watch] = {}  # by task; one leads to the next

    def __len__(self) -> int:
        return len(self._by_id)

    def watch(self, task_id: str, on_end: Callable[[str], None] | None = None) -> Watch:
        """Hear of the end of a task that this client has submitted, or cancels."""
        watch = Watch(task_id, on_end)
        event = self._state.outcome(task_id)
        if event is not None:
            watch.end(event)
        elif self._life.is_over:
            watch.end(None, self._life.error())
        else:
            watch.another = self._by_id.get(task_id)
            self._by_id[task_id] = watch
        return watch

    def watch_all(
        self,
        specs: Iterable[TaskSpec],
        on_end: Callable[[str], None],
        on_late: Callable[[], None],
    ) -> list[Watch]:
        """Hear of the ends of tasks that are just being submitted.

        Args:
          specs: them.
          on_end: as for a Watch.
          on_late: called for each that was not acknowledged in time.
        """
        watches: list[Watch] = []
        for spec in specs:
            watch = Watch(spec.id, on_end)
            watch.on_late, watch.task_name = on_late, spec.name
            self._by_id[spec.id] = watch
            watches.append(watch)
        return watches

    def end(
        self,
        task_id: str,
        event: TaskEvent | None,
        make_error: Callable[[], FastWorkerError] | None = None,
    ) -> None:
        """A task has ended, or never will; each raises an error of its own."""
        watch = self._by_id.pop(task_id, None)
        while watch is not None:
            # Whoever keeps one of them must not keep all.
            another, watch.another = watch.another, None
            watch.end(event, None if make_error is None else make_error())
            watch = another

    def end_all(self, make_error: Callable[[], FastWorkerError]) -> None:
        """Nothing is heard of any task from now on."""
        for task_id in list(self._by_id):
            self.end(task_id, None, make_error)

    def note_late(self, task_id: str) -> None:
        """A task was not acknowledged in time."""
        for watch in _each(self._by_id.get(task_id)):
            if watch.on_late is not None:
                watch.on_late()

    def task_name(self, task_id: str) -> str:
        """What a task is called, empty if nobody here knows."""
        names = (watch.task_name for watch in _each(self._by_id.get(task_id)))
        return next(filter(None, names), "")


def _each(watch: Watch | None) -> Iterator[Watch]:
    """All that watch the same task."""
    while watch is not None:
        yield watch
        watch = watch.another
