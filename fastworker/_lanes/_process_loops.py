"""Runs one ``async def`` attempt in an event loop of its own, in a task process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from fastworker._errors import TaskCancelled
from fastworker._lanes._abc import AttemptEnded
from fastworker._lanes._execution import Execution
from fastworker._lanes._outflow import Bell
from fastworker._lanes._process_stopper import Stopper

_logger = logging.getLogger("fastworker.lanes")


def cancelled_types(loop: str) -> tuple[type[BaseException], ...]:
    """Give the exceptions that a cancelled function of this loop ends with."""
    if loop == "trio":
        import trio

        return (TaskCancelled, trio.Cancelled)
    if loop == "asyncio":
        import asyncio

        return (TaskCancelled, asyncio.CancelledError)
    return (TaskCancelled,)


def bell_maker(loop: str) -> Callable[[], Bell] | None:
    """Give what makes the bells of this loop; None without one."""
    if loop == "trio":
        from fastworker._lanes._trio_bell import TrioBell

        return TrioBell
    if loop == "asyncio":
        from fastworker._lanes._asyncio_bell import AsyncioBell

        return AsyncioBell
    return None


def run_in_trio(
    execution: Execution, stopper: Stopper, keep: Callable[[AttemptEnded], None]
) -> None:
    """Run it and hand its end to ``keep``.

    Raises:
      whatever ``trio.run`` raises if user code breaks the loop, maybe after
      the end was known.
    """
    import trio

    async def main() -> None:
        scope = trio.CancelScope()
        token = trio.lowlevel.current_trio_token()

        def interrupt() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)

        with stopper.interrupting(interrupt):
            keep(await execution.run_async(scope))

    trio.run(main)


def run_in_asyncio(execution: Execution, stopper: Stopper) -> tuple[AttemptEnded, str]:
    """Run it; return its end, and what it has left in the loop, in words.

    Raises:
      whatever the loop raises if user code breaks it.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.new_event_loop()
    # One of ours, because the loop waits for its own one: a function that left
    # a thread in there would never be seen to end.
    pool = ThreadPoolExecutor()
    loop.set_default_executor(pool)
    task = loop.create_task(execution.run_async(contextlib.nullcontext()))
    is_asked = False

    def cancel() -> None:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            task.cancel()

    def interrupt() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(cancel)

    task.add_done_callback(lambda _: loop.stop())
    with stopper.interrupting(interrupt):
        # Once more whenever user code has stopped the loop, or a subtask was
        # let out of it by one of these two, with all tasks intact.
        while not task.done():
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                _logger.exception("a task was let out of the asyncio loop, which goes on")
    if not task.cancelled():
        ended = task.result()
    elif execution.is_cancelled:
        ended = execution.unstarted()
    else:
        ended = execution.lost("CancelledError: other code cancelled the tasks of this loop")
    pool.shutdown(wait=False, cancel_futures=True)
    if asyncio.all_tasks(loop):
        return ended, "it left asyncio tasks behind"
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    return ended, ""
