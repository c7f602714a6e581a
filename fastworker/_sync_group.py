"""Task groups and maps for threads without an event loop.

The block lives in the client's loop (``_client_block.py``); its body runs in
the thread that has opened it. No code of the body's can be stopped there, so
it hears of the end of the group by the next call that it makes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, overload

import trio

from fastworker._client_block import Block
from fastworker._errors import TaskError
from fastworker._lanes._context import waiting_for_others
from fastworker._sync_handle import SyncTaskHandle
from fastworker._task_group import OnError, TaskGroup, open_task_group
from fastworker._task_map import TAKING_SECONDS

if TYPE_CHECKING:
    from fastworker._client_thread import ClientThread
    from fastworker._submitter import Submitter
    from fastworker._task_handle import TaskHandle

P = ParamSpec("P")
T = TypeVar("T")
_NO_ITEM: Final = object()


class SyncTaskGroup:
    """The tasks of one block. Made by :meth:`SyncClient.open_task_group`.

    Any thread may submit to it. Once the group is cancelled, by a failure or
    by :meth:`cancel`, each of its calls raises TaskCancelled: let that pass, and
    the block then raises what really happened.
    """

    def __init__(self, block: Block[TaskGroup], group: TaskGroup) -> None:
        self._block = block
        self._group = group
        self._handles: dict[str, SyncTaskHandle[Any]] = {}

    @overload
    def submit(
        self, task: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> SyncTaskHandle[T]: ...

    @overload
    def submit(
        self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> SyncTaskHandle[T]: ...

    @overload
    def submit(self, task: str, *args: Any, **kwargs: Any) -> SyncTaskHandle[Any]: ...

    def submit(self, task: Any, *args: Any, **kwargs: Any) -> SyncTaskHandle[Any]:
        """Submit one task as a member; waits while ``max_in_flight`` are under way.

        Args, Returns, Raises: as for :meth:`SyncClient.submit`.

        Raises:
          TaskCancelled: the group was cancelled.
        """
        return self._own(self._block.call(partial(self._group.submit, task, *args, **kwargs)))

    def as_completed(self) -> Iterator[SyncTaskHandle[Any]]:
        """Give each member as it ends, until none is under way.

        Raises:
          TaskCancelled: the group was cancelled.
        """
        while (handle := self._block.call(self._group._next_completed)) is not None:
            yield self._own(handle)

    @property
    def handles(self) -> list[SyncTaskHandle[Any]]:
        """All members, in the order in which they were submitted."""
        return [self._own(handle) for handle in self._read(lambda: list(self._group.handles))]

    @property
    def failures(self) -> list[TaskError]:
        """What has failed so far."""
        return self._read(lambda: list(self._group.failures))

    @property
    def in_flight(self) -> int:
        """How many members are under way."""
        return self._read(lambda: self._group.in_flight)

    def cancel(self) -> None:
        """Have all members cancelled that are under way, and let the block end."""
        self._read(self._group.cancel)

    def _read(self, read: Callable[[], T]) -> T:
        return self._block.thread.read(read)

    def _own(self, handle: TaskHandle[Any]) -> SyncTaskHandle[Any]:
        """The one handle that this thread's side has of it."""
        made = SyncTaskHandle(self._block.thread, handle)
        return self._handles.setdefault(handle.id, made) if self._group._keep else made


class OpenSyncGroup:
    """The block of a task group; see :meth:`SyncClient.open_task_group`.

    ``keep``: all members, until the end.
    """

    def __init__(
        self,
        thread: ClientThread,
        submitter: Submitter,
        *,
        max_in_flight: int,
        on_error: OnError,
        first: int | None,
        keep: bool = True,
    ) -> None:
        manager = open_task_group(
            submitter, max_in_flight=max_in_flight, on_error=on_error, first=first, keep=keep
        )
        self._block = Block(thread, manager)

    def __enter__(self) -> SyncTaskGroup:
        return SyncTaskGroup(self._block, self._block.open())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._block.leave(error)
        return True  # it raises itself whatever there is to raise


class SyncValues(Generic[T]):
    """The values of a map, as an iterator for one thread. Made by :meth:`SyncClient.map`."""

    def __init__(
        self,
        group: SyncTaskGroup,
        task: str | Callable[..., T],
        items: Iterator[Any],
        *,
        max_in_flight: int,
        ordered: bool,
    ) -> None:
        self._block = group._block
        self._group = group._group
        self._task = task
        self._items = items
        self._is_fed = False
        self._max_in_flight = max_in_flight
        self._ordered = ordered
        self._under_way = 0  # submitted, and not in _ended
        # In the order of the items, or those that have ended. The loop's.
        self._handles: deque[TaskHandle[T]] = deque()
        self._ended: deque[TaskHandle[T]] = deque()  # whose values are given next

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Wait for the next value.

        Items are taken here, in the caller's thread, as many at a time as there are
        places for: ``max_in_flight`` tasks may be under way, or have values that wait.

        Raises:
          TaskError: its task has no value, and ``on_error`` is "collect".
          TaskCancelled: a task has failed, and ``on_error`` is "cancel".
          whatever the iterable raises.
        """
        while not self._ended:
            items: list[Any] = []
            try:
                self._take_items(items)
            except BaseException:
                if items:  # what was taken is submitted
                    self._step(items, waits=False)
                raise
            if items or self._under_way:
                self._step(items, waits=True)
            elif self._is_fed:
                raise StopIteration
        return self._ended.popleft()._value()

    def _step(self, items: list[Any], *, waits: bool) -> None:
        ended = self._block.call(partial(self._submit_and_take, items, waits=waits))
        self._under_way -= len(ended)
        self._ended += ended

    def _take_items(self, taken: list[Any]) -> None:
        """Take what there are places for, but not for long."""
        until = time.monotonic() + TAKING_SECONDS
        while not self._is_fed and self._under_way + len(taken) < self._max_in_flight:
            item = next(self._items, _NO_ITEM)
            if item is _NO_ITEM:
                self._is_fed = True
                return
            taken.append(item)
            if time.monotonic() > until:
                return

    async def _submit_and_take(self, items: list[Any], *, waits: bool) -> list[TaskHandle[T]]:
        """Submit items, and take what has ended; wait for one if nothing else is to be done."""
        # Here and below: a group that was cancelled has no values.
        await trio.lowlevel.checkpoint()
        for handle in self._group._submit_all(self._task, items, self._note_end):
            self._under_way += 1
            if self._ordered:
                self._handles.append(handle)
        may_take_more = not self._is_fed and self._under_way < self._max_in_flight
        while waits and not self._has_ended and not (items and may_take_more):
            with waiting_for_others():
                await self._group._changed.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        ended: list[TaskHandle[T]] = []
        while self._has_ended:
            ended.append(self._handles.popleft())
        return ended

    def _note_end(self, task_id: str) -> None:
        handle = self._group._note_end(task_id)
        if handle is not None and not self._ordered:
            self._handles.append(handle)

    @property
    def _has_ended(self) -> bool:
        return bool(self._handles) and self._handles[0]._watch.is_set()


class OpenSyncMap(Generic[T]):
    """The block of a map; see :meth:`SyncClient.map`."""

    def __init__(
        self,
        thread: ClientThread,
        submitter: Submitter,
        task: str | Callable[..., T],
        items: Iterable[Any],
        *,
        max_in_flight: int,
        ordered: bool,
        on_error: OnError,
    ) -> None:
        self._open = OpenSyncGroup(
            thread,
            submitter,
            max_in_flight=max_in_flight,
            on_error=on_error,
            first=None,
            keep=False,
        )
        self._task = task
        self._items = iter(items)
        self._max_in_flight = max_in_flight
        self._ordered = ordered

    def __enter__(self) -> SyncValues[T]:
        self._group = self._open.__enter__()
        return SyncValues(
            self._group,
            self._task,
            self._items,
            max_in_flight=self._max_in_flight,
            ordered=self._ordered,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None and self._group.in_flight:
            self._group.cancel()  # who leaves early wants no more of it
        return self._open.__exit__(kind, error, traceback)
