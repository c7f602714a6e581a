"""Cancels a call at a given step of the program, and looks at what is left of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fastworker import Client
from tests.public_coroutines import Sweep
from tests.shell.world import World

TRIO_SWEEP = Sweep()


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when the program has made so many steps, in whatever task."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self._left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def cancelled_at(steps: int, call: Callable[[], Awaitable[Any]]) -> tuple[bool, Any]:
    """Call, cancel after so many steps, and say whether it was, and what it returned."""
    value = None
    with trio.CancelScope() as scope:
        instrument = _CancelAtStep(scope, steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            value = await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught, value


async def sweep(attempt: Callable[[int], Awaitable[bool]]) -> None:
    """Go on until the call has ended before it could be cancelled, five times running."""
    steps, untouched = 0, 0
    before = trio.lowlevel.current_statistics().tasks_living
    while untouched < 5:
        steps += 1
        assert steps < 500, "it never ends by itself"
        untouched = 0 if await attempt(steps) else untouched + 1
        await trio.testing.wait_all_tasks_blocked()
        living = trio.lowlevel.current_statistics().tasks_living
        assert living == before, f"{living - before} Trio tasks were left at step {steps}"
    assert steps > 5 + 2, "that was no sweep"


def assert_idle(world: World, client: Client) -> None:
    """Nothing is under way, neither at the client nor at the control plane."""
    statistics = client.statistics()
    assert (statistics.waiting, statistics.unsent, statistics.unacknowledged) == (0, 0, 0)
    session = client._session
    assert session is not None
    assert not session._submits
    assert not session.questions
    assert not session.watches
    state = client._state
    assert not state._queries
    assert not state._tasks.cancels
    assert not state._deadlines
    tasks = world.tasks()
    assert (tasks.held, sum(tasks.ready), tasks.leased, tasks.started) == (0, 0, 0, 0)


async def assert_left(world: World) -> None:
    """The client is gone, and only the subworker is still there."""
    assert world.count_links() == 1
    await trio.sleep(0.1)
    tasks = world.tasks()
    assert (tasks.held, sum(tasks.ready), tasks.leased, tasks.started) == (0, 0, 0, 0)
    # Who leaves before it was welcomed cannot say goodbye; its session ends by itself.
    await trio.sleep(31)
    assert world.count_clients() == 0
    assert len(world.plane._network.listeners) == 1, "pipes that are gone are remembered"
