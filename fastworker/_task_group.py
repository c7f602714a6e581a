"""A task group over the cluster: its block ends when nothing of it runs anywhere.

What a nursery is to Trio tasks, this is to tasks on other machines. The first
failure cancels the rest; the block waits until each member has its outcome;
what failed arrives as one ExceptionGroup.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, overload

import anyio

from fastworker._client_signals import Change
from fastworker._errors import ClientClosed, LocalProtocolError, TaskCancelled, TaskError
from fastworker._lanes._context import waiting_for_others
from fastworker._outcomes import error_of, has_value, result_of
from fastworker._task_handle import TaskHandle

if TYPE_CHECKING:
    from fastworker._submitter import Submitter

P = ParamSpec("P")
T = TypeVar("T")
OnError = Literal["cancel", "collect"]
ON_ERROR: Final = ("cancel", "collect")


class TaskGroup:
    """The tasks of one block. Made by :meth:`Client.open_task_group`."""

    def __init__(
        self,
        submitter: Submitter,
        *,
        max_in_flight: int,
        on_error: OnError,
        first: int | None,
        scope: anyio.CancelScope,
        deadline: float,
        keep: bool,
    ) -> None:
        self._submitter = submitter
        self._on_error = on_error
        self._first = first
        self._scope = scope  # of the body: a failure cancels it
        self._deadline = deadline
        self._places = anyio.Semaphore(max_in_flight)
        self._running: dict[str, TaskHandle[Any]] = {}
        self._ended: deque[TaskHandle[Any]] = deque()  # not given by as_completed() yet
        self._changed = Change()
        self._succeeded = 0
        self._keep = keep
        self._closed: Exception | None = None  # why the client has ended
        self._is_closed = False
        self._joining: set[anyio.CancelScope] = set()  # of the submits under way
        # Members that their submit() has taken back: waited for, not judged.
        self._left: set[str] = set()
        self._is_left_in_peace = False  # nobody wants to hear of failures any more
        self.handles: list[TaskHandle[Any]] = []
        self.failures: list[TaskError] = []

    @overload
    async def submit(
        self, task: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[T]: ...

    @overload
    async def submit(
        self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[T]: ...

    @overload
    async def submit(self, task: str, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...

    async def submit(self, task: Any, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Submit one task as a member; waits while ``max_in_flight`` are under way.

        Args, Returns, Raises: as for :meth:`Client.submit`.

        Raises:
          LocalProtocolError: the block has ended, maybe meanwhile; the task is
            not its member, and does not run.

        Cancellation:
          As for :meth:`Client.submit`. What was taken back keeps its place in
          the block until it has ended, and is no failure.
        """
        if not self._is_closed:
            # The caller may be anywhere; the block must not end before this has.
            with anyio.CancelScope() as scope:
                self._joining.add(scope)
                try:
                    return await self._join(task, args, kwargs)
                finally:
                    self._joining.remove(scope)
                    self._signal()
        raise LocalProtocolError("this task group has ended; open another one")

    async def _join(
        self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> TaskHandle[Any]:
        with waiting_for_others():
            await self._places.acquire()
        taken_back: list[TaskHandle[Any]] = []
        try:
            handle = await self._submitter._submit(
                task,
                args,
                kwargs,
                budget_at=self._deadline,
                on_end=self._on_end,
                on_taken_back=taken_back.append,
            )
        except BaseException:
            if taken_back and not taken_back[0]._watch.is_set():
                self._left.add(taken_back[0].id)
                self._running[taken_back[0].id] = taken_back[0]
            else:
                self._places.release()
            raise
        if self._keep:
            self.handles.append(handle)
        self._running[handle.id] = handle
        if handle._watch.is_set():  # so fast that it was not yet a member
            self._on_end(handle.id)
        return handle

    def _submit_all(
        self, task: Any, items: Iterable[Any], on_end: Callable[[str], None]
    ) -> Iterator[TaskHandle[Any]]:
        """Submit a task for each item as members, which need no place, and wait for nothing.

        ``on_end`` is told of the end of each, and has to tell :meth:`_note_end`.
        """
        if self._is_closed:
            raise LocalProtocolError("this task group has ended; open another one")
        handles = self._submitter._submit_all(
            task, items, budget_at=self._deadline, on_end=on_end, on_late=self._note_late
        )
        for handle in handles:
            self._running[handle.id] = handle
            yield handle

    def as_completed(self) -> AsyncIterator[TaskHandle[Any]]:
        """Give each member as it ends, until none is under way.

        Cancellation:
          Each step is a checkpoint, and as the body of the block; no member is
          lost.
        """
        return _Ended(self)

    async def _next_completed(self) -> TaskHandle[Any] | None:
        """Wait for the next member that ends, None if none is under way."""
        await anyio.lowlevel.checkpoint()
        while not self._ended:
            if not self._running and not self._joining:
                return None
            with waiting_for_others():
                await self._changed.wait()
        return self._ended.popleft()

    # --- inside ---

    def _on_end(self, task_id: str) -> None:
        """A member has ended that had a place. Called in the loop, by the session."""
        if self._note_end(task_id) is not None:
            self._places.release()

    def _note_end(self, task_id: str) -> TaskHandle[Any] | None:
        """A member has ended: this one, if it is one by now."""
        handle = self._running.pop(task_id, None)
        if handle is None:
            return None  # its submit() has not returned yet, and looks
        if task_id in self._left:
            self._left.remove(task_id)
        else:
            if self._keep:
                self._ended.append(handle)
            self._judge(handle)
        self._signal()
        return handle

    def _signal(self) -> None:
        self._changed.signal()

    def _note_late(self, error: Exception) -> None:
        """A member was not acknowledged in time, and is taken back."""
        self._closed = error
        self._scope.cancel()

    def _judge(self, handle: TaskHandle[Any]) -> None:
        event = handle._watch.event
        error: TaskError | None = None
        if event is None:
            self._closed = handle._watch.error
            self._scope.cancel()
            return
        if not has_value(event):
            result = result_of(event, handle._accepted, with_value=False)
            error = error_of(result, event.ending)
        if error is None:
            self._succeeded += 1
            if self._has_enough:
                self.cancel()
        elif self._is_ending and (self._is_left_in_peace or isinstance(error, TaskCancelled)):
            pass  # that is what was asked of it
        else:
            self.failures.append(error)
            if self._on_error == "cancel" and self._first is None:
                self._scope.cancel()

    @property
    def _is_ending(self) -> bool:
        return self._is_closed or self._scope.cancel_called

    @property
    def _has_enough(self) -> bool:
        return self._first is not None and self._succeeded >= self._first

    @property
    def in_flight(self) -> int:
        """How many members are under way."""
        return len(self._running)

    def cancel(self) -> None:
        """Have all members cancelled that are under way, and leave the block.

        As with a cancel scope, what stands behind the block goes on. What fails
        from now on is no failure.
        """
        if not self._is_ending:
            self._is_left_in_peace = True
        self._scope.cancel()

    async def _wait_all(self) -> None:
        with waiting_for_others():
            while self._running or self._joining:
                await self._changed.wait()

    async def _end_all(self) -> None:
        """Cancel what is under way, and wait until each has its outcome.

        The wait is bounded by each member's grace and the lease of its worker.
        """
        with anyio.CancelScope(shield=True):
            for scope in self._joining:
                scope.cancel()
            while self._joining:
                await self._changed.wait()
            running = list(self._running.values())
            try:
                watches = [handle._session.cancels.request(handle.id) for handle in running]
            except ClientClosed:
                return  # nobody is left who would tell
            for handle, watch in zip(running, watches, strict=True):
                await handle._session.cancels.wait_stopped(watch)
                if not watch.is_set():
                    break  # out of reach, and so are the others
            for handle in self._running.values():
                handle._give_up()

    def _raise_failures(self, body: Exception | None) -> None:
        errors: list[Exception] = []
        if isinstance(body, ExceptionGroup):
            errors += body.exceptions
        elif body is not None:
            errors.append(body)
        if self._on_error == "cancel" and not self._has_enough:
            errors += self.failures
        if self._closed is not None and not errors:
            errors = [self._closed]
        if errors:
            count = f"{len(errors)} error" if len(errors) == 1 else f"{len(errors)} errors"
            raise ExceptionGroup(f"{count} in a task group", errors) from None


class _Ended:
    """The members of a group as they end.

    No generator: who leaves the loop early has nothing to close.
    """

    def __init__(self, group: TaskGroup) -> None:
        self._group = group

    def __aiter__(self) -> AsyncIterator[TaskHandle[Any]]:
        return self

    async def __anext__(self) -> TaskHandle[Any]:
        handle = await self._group._next_completed()
        if handle is None:
            raise StopAsyncIteration
        return handle


@asynccontextmanager
async def open_task_group(
    submitter: Submitter,
    *,
    max_in_flight: int,
    on_error: OnError,
    first: int | None,
    keep: bool = True,
) -> AsyncIterator[TaskGroup]:
    """See :meth:`Client.open_task_group`. ``keep``: all members, until the end."""
    _check(max_in_flight, on_error, first)
    body = _Body()
    with body, anyio.CancelScope() as scope:
        group = TaskGroup(
            submitter,
            max_in_flight=max_in_flight,
            on_error=on_error,
            first=first,
            scope=scope,
            deadline=anyio.current_effective_deadline(),
            keep=keep,
        )
        try:
            yield group
            await group._wait_all()
        finally:
            group._is_closed = True
            group._signal()
            await group._end_all()
    group._raise_failures(body.error)


class _Body:
    """Keeps the error of the block's body, to go with those of the members.

    It stands around the block's scope, which takes its cancellation out of what
    the body raises: a group of errors may have some of both.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
        return self.error is not None


def _check(max_in_flight: int, on_error: str, first: int | None) -> None:
    if type(max_in_flight) is not int or max_in_flight < 1:
        raise ValueError(f"max_in_flight={max_in_flight!r}: use a whole number from 1 on")
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error={on_error!r}: use 'cancel' or 'collect'")
    if first is not None and (type(first) is not int or first < 1):
        raise ValueError(f"first={first!r}: use a whole number from 1 on, or None")
