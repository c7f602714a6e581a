"""A block of an async client that a thread without an event loop is in.

Trio wants an async context manager to be entered and left by one Trio task.
So each block has one in the client's loop, which does nothing but hold it
open; what the body calls meanwhile runs inside of it, as its own code would.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Generic, TypeVar

import trio

from fastworker._client_thread import TAKE_BACK_SECONDS, Call, Calls, ClientThread
from fastworker._errors import ClientBroken, ClientClosed, FastWorkerError, TaskCancelled

T = TypeVar("T")
V = TypeVar("V")


class Block(Generic[V]):
    """One block, entered by :meth:`open` and left by :meth:`leave`, each once.

    Args:
      thread: has the loop.
      manager: what is entered and left there.
    """

    def __init__(self, thread: ClientThread, manager: AbstractAsyncContextManager[V]) -> None:
        self.thread = thread
        self._manager = manager
        self._calls = Calls(self._why_none)
        self._holding: Call[None] = Call(self._hold)
        self._settled = trio.Event()  # open, or never will be
        self._left = trio.Event()
        self._ended = trio.Event()
        self._body_error: Exception | None = None
        self._has_raised = False  # that error, in the loop
        self._value: V | None = None

    # --- in the thread of the body ---

    def open(self) -> V:
        """Enter it.

        Raises:
          whatever entering it raises; and as :meth:`ClientThread.call`.
        """
        return self.thread.call(self._open)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """As :meth:`ClientThread.call`, inside of the block.

        Raises:
          TaskCancelled: the block was cancelled, from inside.
        """
        return self.thread.call(work, self._calls)

    def leave(self, error: BaseException | None) -> None:
        """Leave it, with the error of its body if there was one.

        An interrupted body does not wait for more than a second.

        Raises:
          whatever leaving it raises. If that is nothing and there was an
          error, the block has swallowed it.
        """
        if error is None or isinstance(error, Exception):
            try:
                self.thread.call(partial(self._leave, error))
            except (ClientClosed, ClientBroken):
                self._holding.wait()  # the client has ended: so has the block, or soon will
            self._end(error)
            return
        # Nobody hurries a generator that is closed with its block open.
        is_closed = isinstance(error, GeneratorExit)
        self.thread.call(partial(self._abort, math.inf if is_closed else TAKE_BACK_SECONDS))
        raise error

    def _end(self, error: Exception | None) -> None:
        try:
            self._holding.result()
        except ExceptionGroup as group:
            # Why the block has ended, its body has heard by one of these.
            has_heard = isinstance(error, TaskCancelled | ClientClosed | ClientBroken)
            if error is None or self._has_raised or has_heard:
                raise
            raise ExceptionGroup(group.message, [error, *group.exceptions]) from None
        if not (error is None or self._has_raised or isinstance(error, TaskCancelled)):
            raise ExceptionGroup("1 error in a block", [error])

    # --- in the loop ---

    async def _open(self) -> V:
        nursery = self.thread.calls.nursery
        if nursery is None:
            raise self.thread.why_closed()
        nursery.start_soon(self._run)
        try:
            await self._settled.wait()
        except trio.Cancelled:
            self._holding.scope.cancel()
            raise
        if self._value is None:
            self._holding.result()
        assert self._value is not None
        return self._value

    async def _run(self) -> None:
        try:
            await self.thread.perform(self._holding, self.thread.calls)
        finally:
            self._settled.set()
            self._ended.set()

    async def _hold(self) -> None:
        async with self._manager as self._value:
            async with trio.open_nursery() as watching:
                watching.start_soon(self._watch_stop)
                async with trio.open_nursery() as calls:
                    self._calls.nursery = calls
                    self._settled.set()
                    try:
                        await self._left.wait()
                    finally:
                        # At once: a nursery that has closed would take no more.
                        self._calls.nursery = None
                    if self._body_error is not None:
                        calls.cancel_scope.cancel()
                watching.cancel_scope.cancel()
            if self._body_error is not None:
                self._has_raised = True
                raise self._body_error

    async def _watch_stop(self) -> None:
        """A client that stops waits for no body."""
        await self.thread.stopping.wait()
        raise self.thread.why_closed()

    async def _leave(self, error: Exception | None) -> None:
        self._body_error = error
        self._left.set()
        try:
            await self._ended.wait()
        except trio.Cancelled:
            self._holding.scope.cancel()
            with trio.CancelScope(shield=True):
                await self._ended.wait()
            raise

    async def _abort(self, within: float) -> None:
        self._holding.scope.cancel()
        with trio.move_on_after(within):
            await self._ended.wait()

    def _why_none(self) -> FastWorkerError:
        if self.thread.stopping.is_set():
            return self.thread.why_closed()
        return TaskCancelled("this block was cancelled; leave it to learn why")
