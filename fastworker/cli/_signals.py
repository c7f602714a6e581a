"""What Ctrl-C and SIGTERM do: the first asks to end, the second insists.

For a command that only waits there is nothing to finish, so there already the
first one cancels.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio

from fastworker.cli._errors import Exit, say

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def run_until_signal(command: Callable[[], Awaitable[int]]) -> int:
    """Run a command that a signal cancels.

    Returns:
      The command's exit code, or 128 plus the number of the signal.
    """
    code = int(Exit.OK)

    async with trio.open_nursery() as nursery:

        async def obey(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            nonlocal code
            with trio.open_signal_receiver(*STOP_SIGNALS) as arrivals:
                task_status.started()
                async for number in arrivals:
                    code = 128 + number
                    say(f"{signal.Signals(number).name}: stopped")
                    nursery.cancel_scope.cancel()
                    return

        await nursery.start(obey)
        code = await command()
        nursery.cancel_scope.cancel()
    return code


class Drainable:
    """A worker that a first signal drains and a second one ends.

    Args:
      drain: lets what runs end, so that :meth:`run`'s program returns.
      describe: says what is still running; None says nothing at all.
    """

    def __init__(self, drain: Callable[[], None], describe: Callable[[], str] | None) -> None:
        self._drain = drain
        self._describe = describe
        self._is_up = False
        self._code = int(Exit.OK)

    def is_up(self) -> None:
        """From now on there is something to drain; before, a signal cancels."""
        self._is_up = True

    async def run(
        self,
        program: Callable[[], Awaitable[None]],
        *,
        on_scope: Callable[[trio.CancelScope], None] | None = None,
    ) -> int:
        """Run the worker.

        Args:
          program: runs until it is drained.
          on_scope: is given the scope that ends everything.

        Returns:
          0 if it was drained, or 128 plus the number of the signal that ended it.
        """
        async with trio.open_nursery() as nursery:
            if on_scope is not None:
                on_scope(nursery.cancel_scope)
            await nursery.start(self._obey, nursery.cancel_scope)
            await program()
            nursery.cancel_scope.cancel()
        return self._code

    async def _obey(
        self,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        is_draining = False
        with trio.open_signal_receiver(*STOP_SIGNALS) as arrivals:
            task_status.started()
            async for number in arrivals:
                name = signal.Signals(number).name
                if is_draining or not self._is_up:
                    self._code = 128 + number
                    if self._describe is not None:
                        say(f"{name}: stopping now")
                    scope.cancel()
                    return
                is_draining = True
                if self._describe is not None:
                    again = "Ctrl-C" if number == signal.SIGINT else name
                    say(f"{name}: draining, {self._describe()}; {again} again stops at once")
                self._drain()
