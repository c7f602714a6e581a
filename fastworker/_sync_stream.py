"""The values of a generator task, for threads without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from fastworker._client import unwrapped
from fastworker._client_block import Block
from fastworker._task_stream import Stream

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from fastworker._client_thread import ClientThread

T = TypeVar("T")
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


class OpenSyncStream(Generic[T]):
    """The block of a stream; see :meth:`SyncClient.stream`."""

    def __init__(
        self, thread: ClientThread, manager: AbstractAsyncContextManager[Stream[T]]
    ) -> None:
        self._block: Block[Stream[Any]] = Block(thread, manager)

    def __enter__(self) -> SyncStream[T]:
        return SyncStream(self._block, self._block.open())

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
