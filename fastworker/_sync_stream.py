"""The values of a generator task, for threads without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from fastworker._client_block import Block
from fastworker._task_stream import Stream
from fastworker._unwrapped import unwrapped

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from fastworker._client_thread import ClientThread

T = TypeVar("T")
V = TypeVar("V")
S = TypeVar("S")
_OVER: Final = object()


class SyncStream(Generic[T]):
    """The values of one generator task. Made by :meth:`SyncClient.stream`.

    An iterator for one reader. ``id`` and ``name`` are the task's.
    """

    def __init__(self, block: Block[Stream[T]], stream: Stream[T]) -> None:
        self._block = block
        self._stream = stream
        self.id = stream.id
        self.name = stream.name

    def __repr__(self) -> str:
        return f"<SyncStream {self.id} of {self.name!r}>"

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Wait for the next value.

        Raises:
          TaskCancelled: also if the task that calls was cancelled.
          everything else: as for :meth:`Stream.__anext__`.
        """
        value = self._block.call(self._next)
        if value is _OVER:
            raise StopIteration
        return cast(T, value)

    async def _next(self) -> object:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            return _OVER


class OpenSyncBlock(Generic[V, S]):
    """The block of a stream; see :meth:`SyncClient.stream` and :meth:`SyncClient.events`.

    Args:
      thread: has the loop.
      manager: is entered and left there.
      make: gives the body what it can use.
    """

    def __init__(
        self,
        thread: ClientThread,
        manager: AbstractAsyncContextManager[V],
        make: Callable[[Block[V], V], S],
    ) -> None:
        self._block = Block(thread, manager)
        self._make = make

    def __enter__(self) -> S:
        return self._make(self._block, self._block.open())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            self._block.leave(error)
        except ExceptionGroup as group:
            if group is error:
                return False
            raise unwrapped(group) from None  # a client that was stopped
        return True  # it raises itself whatever there is to raise
