"""What Ctrl-C and SIGTERM do: the first asks to end, the second insists, the third kills.

For a command that only waits there is nothing to finish, so there already the
first one cancels.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio

from fastworker.cli._errors import Exit, leave_now, say

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def run_until_signal(command: Callable[[], Awaitable[int]]) -> int:
    """Run a command that a signal cancels.

    A second signal changes nothing, as the command is about to end; a third
    one ends the process.

    Returns:
      The command's exit code, or 128 plus the number of the signal.
    """
    code = int(Exit.OK)

    # Two scopes: signals are heard until the command has cleaned up, so that
    # somebody who presses twice does not see it torn apart.
    async with trio.open_nursery() as watching:
        scope = trio.CancelScope()

        async def obey(*, task_status: trio.TaskStatus[None]) -> None:
            nonlocal code
            with trio.open_signal_receiver(*STOP_SIGNALS) as arrivals:
                task_status.started()
                count = 0
                async for number in arrivals:
                    count += 1
                    code = 128 + number
                    if count == 1:
                        say(f"{signal.Signals(number).name}: stopped")
                        scope.cancel()
                    elif count == 3:
                        leave_now(code)

        await watching.start(obey)
        with scope:
            code = await command()
        watching.cancel_scope.cancel()
    return code


class Drainable:
    """A worker that a first signal drains and a second one ends.

    A third one ends the process, whatever it does.

    Args:
      drain: lets what runs end, so that :meth:`run`'s program returns.
      describe: says what is still running; None says nothing at all.
    """

    def __init__(self, drain: Callable[[], None], describe: Callable[[], str] | None) -> None:
        self._drain = drain
        self._describe = describe
        self._is_up = False
        self.was_signalled = False
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
        async with trio.open_nursery() as watching:
            with trio.CancelScope() as scope:
                if on_scope is not None:
                    on_scope(scope)
                await watching.start(self._obey, scope)
                await program()
            watching.cancel_scope.cancel()
        return self._code

    async def _obey(
        self,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        is_draining = False
        count = 0
        with trio.open_signal_receiver(*STOP_SIGNALS) as arrivals:
            task_status.started()
            async for number in arrivals:
                name = signal.Signals(number).name
                count += 1
                self.was_signalled = True
                if count == 3:
                    leave_now(128 + number)
                if scope.cancel_called:
                    continue
                if is_draining or not self._is_up:
                    self._code = 128 + number
                    if self._describe is not None:
                        say(f"{name}: stopping now")
                    scope.cancel()
                    continue
                is_draining = True
                if self._describe is not None:
                    again = "Ctrl-C" if number == signal.SIGINT else name
                    say(f"{name}: draining, {self._describe()}; {again} again stops at once")
                self._drain()
