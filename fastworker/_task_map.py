"""One task for each item of an iterable, so many at a time, and their values."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from fastworker._errors import LocalProtocolError
from fastworker._lanes._context import waiting_for_others
from fastworker._task_group import TaskGroup, open_task_group
from fastworker._task_handle import TaskHandle

if TYPE_CHECKING:
    from fastworker._submitter import Submitter

T = TypeVar("T")


class Values(Generic[T]):
    """The values of a map, as an async iterator. Made by :meth:`Client.map`."""

    def __init__(self, group: TaskGroup, *, max_in_flight: int, ordered: bool) -> None:
        self._group = group
        self._ordered = ordered
        # One for each task that has been submitted and whose value nobody has taken.
        self._places = anyio.Semaphore(max_in_flight)
        self._handles: deque[TaskHandle[T]] = (
            deque()
        )  # given to nobody yet, in the order of the items
        self._is_fed = False
        self._fed = anyio.Event()  # replaced at each

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
        with waiting_for_others():
            handle = await self._next_handle()
        # Whoever is cancelled before has taken nothing, and from here on nobody waits.
        self._handles.remove(handle)
        self._places.release()
        return handle._value()

    async def _next_handle(self) -> TaskHandle[T]:
        while True:
            if self._is_fed and not self._handles:
                raise StopAsyncIteration
            if self._group._is_closed:
                raise LocalProtocolError("this map has ended; read it inside of its block")
            for handle in self._handles:
                if handle._watch.done.is_set():
                    return handle
                if self._ordered:
                    break
            await self._wait_change()

    async def _wait_change(self) -> None:
        """Wait until one more was submitted, all were, or one has ended."""
        async with anyio.create_task_group() as group:

            async def watch(event: anyio.Event) -> None:
                await event.wait()
                group.cancel_scope.cancel()

            group.start_soon(watch, self._fed)
            group.start_soon(watch, self._group._changed)

    async def _feed(
        self, task: str | Callable[..., T], items: Iterable[Any] | AsyncIterable[Any]
    ) -> None:
        async with aclosing(_each(items)) as each:
            # The place first: an item that is taken is submitted.
            await self._places.acquire()
            async for item in each:
                self._handles.append(await self._group.submit(task, item))
                self._signal()
                await self._places.acquire()
        self._is_fed = True
        self._signal()

    def _signal(self) -> None:
        self._fed.set()
        self._fed = anyio.Event()


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
        values: Values[T] = Values(group, max_in_flight=max_in_flight, ordered=ordered)
        async with anyio.create_task_group() as feeding:
            feeding.start_soon(values._feed, task, items)
            yield values
            # Who leaves early wants no more of it; nothing of it may go on.
            feeding.cancel_scope.cancel()
            if group.in_flight:
                group.cancel()


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
