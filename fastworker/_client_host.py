"""Where a client's background work lives when ``start`` and ``stop`` are used.

The structured form, ``async with Client()``, needs none of this. ``start()``
returns while the work goes on, so the work needs a parent that is not the
caller: a Trio system task (the one this project permits itself) or an asyncio
task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import sniffio


def current_clock() -> Callable[[], float]:
    """The clock of the running event loop, to be called without asking which one."""
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.current_time
    return asyncio.get_running_loop().time


def current_loop() -> object:
    """What stands for the running event loop: another loop has another one."""
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()


class Host:
    """Runs one coroutine function in the background, which must not raise."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start the work in the current event loop."""
        if sniffio.current_async_library() == "trio":
            import trio  # an asyncio program need not load it

            trio.lowlevel.spawn_system_task(self._run)
        else:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name="fastworker-client"
            )

    async def wait_ended(self) -> None:
        """Wait until the work has ended."""
        await self._ended.wait()

    def cancel(self) -> None:
        """Cancel the work; it ends a moment later."""
        self._scope.cancel()

    async def end_now(self) -> None:
        """Cancel the work and wait until it has ended."""
        self.cancel()
        await self._ended.wait()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._work()
        finally:
            self._ended.set()
