"""Workers, cancelled at every step: see test_cancel_sweep.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from fastworker import ControlPlaneWorker, SubWorker
from tests.shell.cancel_steps import TRIO_SWEEP, cancelled_at, sweep
from tests.shell.world import BASE, open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]


@TRIO_SWEEP.covers("SubWorker.start", "SubWorker.run")
@pytest.mark.parametrize("call", [SubWorker.start, SubWorker.run])
async def test_subworker(
    autojump_clock: MockClock, call: Callable[[SubWorker], Awaitable[None]]
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = world.new_worker("w1")
        await world.nursery.start(call_of(call, worker))
        worker.drain()  # but now its tasks are known, and wait for it
        await trio.sleep(1)

        async def attempt(steps: int) -> bool:
            handle = await client.submit("sleep", steps, 0.02)

            async def work_until_it_is_done() -> None:
                async with trio.open_nursery() as nursery:

                    async def drain() -> None:
                        await handle.wait()
                        worker.drain()

                    nursery.start_soon(drain)
                    await call(worker)

            was_cancelled, _ = await cancelled_at(steps, work_until_it_is_done)
            assert worker.statistics() is None
            assert world.count_links() == 1, "it left its link behind"
            # What it ran is run elsewhere, and it counts as nobody's loss.
            if not handle.is_done:
                await world.nursery.start(call_of(call, worker))
                assert await handle.result() == steps
                worker.stop()
                await trio.sleep(1)
            await trio.sleep(1)
            assert world.plane.get_subworker_status()["total"] == 0
            assert world.tasks().leased == 0
            return was_cancelled

        await sweep(attempt)
        assert world.tasks().succeeded == world.tasks().submitted


@TRIO_SWEEP.covers("ControlPlaneWorker.start", "ControlPlaneWorker.run")
@pytest.mark.parametrize("call", [ControlPlaneWorker.start, ControlPlaneWorker.run])
@pytest.mark.parametrize("executes", [True, False])
async def test_control_plane(
    autojump_clock: MockClock,
    call: Callable[[ControlPlaneWorker], Awaitable[None]],
    executes: bool,
) -> None:
    async with open_world() as world:
        plane = world.plane
        plane.stop()
        await trio.sleep(2)
        plane = world.new_plane(executes=executes)
        links = world.count_links()  # the subworker's, that looks for it

        async def attempt(steps: int) -> bool:
            was_cancelled = False

            async def serve() -> None:
                async with trio.open_nursery() as nursery:

                    async def stop() -> None:
                        await trio.sleep(0.3)
                        plane.stop()

                    nursery.start_soon(stop)
                    await call(plane)

            was_cancelled, _ = await cancelled_at(steps, serve)
            assert plane.statistics() is None
            assert not world.network._listeners
            await trio.sleep(1)
            assert world.count_links() == links, "it left a link behind"
            return was_cancelled

        await sweep(attempt)
        # It works as ever.
        await world.nursery.start(call_of(call, plane))
        async with world.client() as client:
            assert (await client.submit_task("add", (1, 2))).result == 3
        assert BASE in world.network._listeners


def call_of(
    call: Callable[..., Awaitable[None]], worker: object
) -> Callable[..., Awaitable[None]]:
    """The method that ``call`` is, of this worker, as nursery.start() wants it."""

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await call(worker, task_status=task_status)

    return run
