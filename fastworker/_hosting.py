"""Runs a worker's Trio program from whatever event loop its caller is in.

Under Trio it is simply awaited. Under asyncio it gets a thread with a Trio
loop of its own, and cancelling the asyncio task cancels the Trio program and
waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import sniffio
import trio

T = TypeVar("T")
Program = Callable[[trio.TaskStatus[None]], Awaitable[None]]


async def host_on_trio(program: Program, task_status: trio.TaskStatus[None]) -> None:
    """Run ``program`` on Trio until it ends; ``task_status`` may be of either loop.

    Raises:
      whatever ``program`` raises.

    Cancellation:
      The program is cancelled; this returns only when it has ended.
    """
    if sniffio.current_async_library() == "trio":
        await program(task_status)
    else:
        await _TrioThread(program).run(task_status)


def read_in_loop(token: trio.lowlevel.TrioToken | None, read: Callable[[], T]) -> T:
    """Call ``read`` between two steps of that Trio loop, from whatever thread.

    Under asyncio a worker lives in a thread of its own, and what it has would
    change under the eyes of a reader. Takes as long as one step of the loop.
    """
    if token is None or _current_token() is token:
        return read()
    try:
        return trio.from_thread.run_sync(read, trio_token=token)
    except trio.RunFinishedError:
        return read()


def _current_token() -> trio.lowlevel.TrioToken | None:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


class _TrioThread(trio.TaskStatus[None]):
    def __init__(self, program: Program) -> None:
        self._program = program
        self._loop = asyncio.get_running_loop()
        # Whether it has said that it is ready, once that is known.
        self._ready: asyncio.Future[bool] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._lock = threading.Lock()
        self._is_cancelled = False

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        thread = threading.Thread(target=self._serve, name="fastworker-trio")
        thread.start()
        try:
            if await asyncio.shield(self._ready):
                # Said here, because a task group wants to hear it from its own task.
                task_status.started()
            await asyncio.shield(self._ended)
        except BaseException:
            self._cancel()
            # The thread must not outlive this call, however often it is cancelled.
            while not self._ended.done():
                try:
                    await asyncio.shield(self._ended)
                except asyncio.CancelledError:
                    continue
            self._ended.exception()  # if there is another, it gives way to the first
            raise
        finally:
            thread.join()  # saying that it has ended was the last thing it did

    def _cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            token = self._token
        if token is not None:
            try:
                token.run_sync_soon(self._scope.cancel)
            except trio.RunFinishedError:
                pass

    def _serve(self) -> None:
        error: BaseException | None = None
        try:
            trio.run(self._main)
        except BaseException as raised:  # noqa: BLE001 - raised again in the caller's loop
            error = raised
        self._loop.call_soon_threadsafe(self._end, error)

    async def _main(self) -> None:
        with self._lock:
            self._token = trio.lowlevel.current_trio_token()
            if self._is_cancelled:
                self._scope.cancel()
        with self._scope:
            await self._program(self)

    def started(self, value: None = None) -> None:
        """Say, in the Trio loop, that the program is ready."""
        self._loop.call_soon_threadsafe(self._ready.set_result, True)

    def _end(self, error: BaseException | None) -> None:
        if not self._ready.done():
            self._ready.set_result(False)
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
