"""One task for each item of an iterable, so many at a time, and their values."""

from __future__ import annotations

from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio

from fastworker._errors import LocalProtocolError
from fastworker._lanes._context import waiting_for_others
from fastworker._task_group import TaskGroup, open_task_group
from fastworker._task_handle import TaskHandle

if TYPE_CHECKING:
    from fastworker._submitter import Submitter

T = TypeVar("T")
# An iterator that takes its time holds up the event loop no longer than this at once.
TAKING_SECONDS: Final = 0.005
# While its reader is busy a map is fed in so many portions of all that may be in flight.
PORTIONS: Final = 8


class Values(Generic[T]):
    """The values of a map, as an async iterator. Made by :meth:`Client.map`."""

    def __init__(
        self,
        group: TaskGroup,
        *,
        max_in_flight: int,
        ordered: bool,
        clock: Callable[[], float],
    ) -> None:
        self._group = group
        self._ordered = ordered
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._portion = max(1, max_in_flight // PORTIONS)
        # Each task has one, from its submit until its value is taken.
        self._taken_places = 0
        # Given to nobody yet: in the order of the items, or those that have ended.
        self._handles: deque[TaskHandle[T]] = deque()
        self._collected: deque[T] = deque()  # by collect(), which has not returned them
        self._is_fed = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Wait for the next value.

        Raises:
          TaskError: its task has no value, and ``on_error`` is "collect".
          LocalProtocolError: the block has ended.

        Cancellation:
          Always a checkpoint. No value is lost.
        """
        await anyio.lowlevel.checkpoint()
        if self._collected:
            return self._collected.popleft()
        if not await self._wait_next():
            raise StopAsyncIteration
        # Whoever is cancelled before has taken nothing, and from here on nobody waits.
        return self._take()._value()

    async def collect(self) -> list[T]:
        """Wait for all values that nobody has taken yet.

        The quickest way to many values: they are taken as many at a time as there are.

        Returns:
          Them, in the order in which they would have been given one by one.

        Raises:
          TaskError: a task has no value, and ``on_error`` is "collect". Those before it,
            and behind it, can still be read.
          LocalProtocolError: the block has ended.

        Cancellation:
          Always a checkpoint. No value is lost: what it has taken is given next.
        """
        await anyio.lowlevel.checkpoint()
        while await self._wait_next():
            while self._has_next:
                self._collected.append(self._take()._value())
        values = list(self._collected)
        self._collected.clear()
        return values

    @property
    def _has_next(self) -> bool:
        handles = self._handles
        return bool(handles) and handles[0]._watch.is_set()

    async def _wait_next(self) -> bool:
        """Wait until there is one more to take; False if there will be none."""
        while True:
            if self._is_fed and not self._taken_places:
                return False
            if self._group._is_closed:
                raise LocalProtocolError("this map has ended; read it inside of its block")
            if self._has_next:
                return True
            with waiting_for_others():
                await self._group._changed.wait()

    def _take(self) -> TaskHandle[T]:
        self._taken_places -= 1
        handle = self._handles.popleft()
        if self._is_worth_feeding:
            self._group._signal()
        return handle

    # --- the other end ---

    async def _feed(
        self, task: str | Callable[..., T], items: Iterable[Any] | AsyncIterable[Any]
    ) -> None:
        if isinstance(items, AsyncIterable):
            await self._feed_one_by_one(task, items)
        else:
            await self._feed_many(task, iter(items))
        self._is_fed = True
        self._group._signal()

    async def _feed_one_by_one(
        self, task: str | Callable[..., T], items: AsyncIterable[Any]
    ) -> None:
        async with aclosing(_each(items)) as each:
            # The place first: an item that is taken is submitted.
            await self._wait_place()
            async for item in each:
                self._submit(task, [item])
                await self._wait_place()

    async def _feed_many(self, task: str | Callable[..., T], items: Iterator[Any]) -> None:
        while True:
            await self._wait_place()
            batch: list[Any] = []
            try:
                is_last = self._take_items(items, batch)
            finally:  # also of an iterator that raises: what was taken is submitted
                self._submit(task, batch)
            if is_last:
                return
            await anyio.lowlevel.checkpoint()

    def _take_items(self, items: Iterator[Any], batch: list[Any]) -> bool:
        """Take what there are places for, but not for long; say if these were the last."""
        until = self._clock() + TAKING_SECONDS
        for item in items:
            batch.append(item)
            if self._taken_places + len(batch) >= self._max_in_flight or self._clock() > until:
                return False
        return True

    def _submit(self, task: str | Callable[..., T], items: list[Any]) -> None:
        for handle in self._group._submit_all(task, items, self._note_end):
            self._taken_places += 1
            if self._ordered:
                self._handles.append(handle)

    def _note_end(self, task_id: str) -> None:
        """A task has ended. Called in the loop, by the session."""
        handle = self._group._note_end(task_id)
        if handle is not None and not self._ordered:
            self._handles.append(handle)

    async def _wait_place(self) -> None:
        await anyio.lowlevel.checkpoint()
        with waiting_for_others():
            while not self._is_worth_feeding:
                await self._group._changed.wait()

    @property
    def _is_worth_feeding(self) -> bool:
        """Whether there are places; while values wait to be read, a portion of them."""
        free = self._max_in_flight - self._taken_places
        return free >= self._portion or (free > 0 and not self._has_next)


@asynccontextmanager
async def open_map(
    submitter: Submitter,
    task: str | Callable[..., T],
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    max_in_flight: int,
    ordered: bool,
    on_error: Any,
) -> AsyncIterator[Values[T]]:
    """See :meth:`Client.map`."""
    async with open_task_group(
        submitter, max_in_flight=max_in_flight, on_error=on_error, first=None, keep=False
    ) as group:
        values: Values[T] = Values(
            group,
            max_in_flight=max_in_flight,
            ordered=ordered,
            clock=submitter._client._usable_session().clock,
        )
        async with anyio.create_task_group() as feeding:
            feeding.start_soon(values._feed, task, items)
            yield values
            # Who leaves early wants no more of it; nothing of it may go on.
            feeding.cancel_scope.cancel()
            if group.in_flight:
                group.cancel()


async def _each(items: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    async for item in items:
        yield item
