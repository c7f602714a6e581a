"""Runs a worker's Trio program from whatever event loop its caller is in.

Under Trio it is simply awaited. Under asyncio it gets a thread with a Trio
loop of its own, and cancelling the asyncio task cancels the Trio program and
waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import sniffio
import trio


async def host_on_trio(program: Callable[[], Awaitable[None]]) -> None:
    """Run ``program`` on Trio until it ends.

    Raises:
      whatever ``program`` raises.

    Cancellation:
      The program is cancelled; this returns only when it has ended.
    """
    if sniffio.current_async_library() == "trio":
        await program()
    else:
        await _TrioThread(program).run()


class _TrioThread:
    def __init__(self, program: Callable[[], Awaitable[None]]) -> None:
        self._program = program
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._lock = threading.Lock()
        self._is_cancelled = False

    async def run(self) -> None:
        threading.Thread(target=self._serve, name="fastworker-trio").start()
        try:
            await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            self._cancel()
            # The thread must not outlive this call, however often it is cancelled.
            while not self._ended.done():
                try:
                    await asyncio.shield(self._ended)
                except asyncio.CancelledError:
                    continue
            self._ended.exception()  # its error gives way to the cancellation
            raise

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
            await self._program()

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
