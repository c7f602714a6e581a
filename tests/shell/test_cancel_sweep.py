"""Every public coroutine, cancelled at every step that the program takes meanwhile.

After each, what its docstring says under "Cancellation" is true, and nothing
is left: no call, no task that nobody waits for, no link.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, ClientBroken, TaskStatus
from fastworker._transport._memory import MemoryNetwork
from tests.shell.sweep import assert_idle, assert_left, cancelled_at, sweep
from tests.shell.world import open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]


async def test_delay(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            was_cancelled, task_id = await cancelled_at(
                steps, lambda: client.delay("wait", steps)
            )
            await trio.sleep(0.1)
            if was_cancelled:
                assert steps not in world.ran or steps in world.stopped
            else:
                assert client.get_status(task_id) is TaskStatus.STARTED
                world.let_go(steps)
                await trio.sleep(0.1)
                assert client.get_status(task_id) is TaskStatus.SUCCESS
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


async def test_submit_task(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            was_cancelled, result = await cancelled_at(
                steps, lambda: client.submit_task("sleep", (steps, 0.05))
            )
            await trio.sleep(0.2)
            if not was_cancelled:
                assert result.result == steps
                assert world.ran[-1] == steps
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)
        tasks = world.tasks()
        # None was cancelled that had ended, and none ended that was not begun.
        assert tasks.submitted == tasks.succeeded + tasks.cancelled


async def test_submit_task_behind_a_running_one_never_runs(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        await client.delay("wait", "blocker")
        await trio.sleep(0.1)
        for steps in range(1, 40):
            was_cancelled, _ = await cancelled_at(
                steps, lambda: client.submit_task("note", ("never",))
            )
            assert was_cancelled
            await trio.sleep(0.1)
            assert client.statistics().waiting == 1
        assert world.tasks().submitted == 1 + world.tasks().cancelled
        world.let_go("blocker")
        await trio.sleep(0.1)
        assert world.ran == ["blocker"]
        assert_idle(world, client)


async def test_get_task_result(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        known = await client.submit_task("add", (1, 2))

        async def attempt(steps: int) -> bool:
            was_cancelled, result = await cancelled_at(
                steps, lambda: client.get_task_result(known.task_id)
            )
            assert was_cancelled or result == known
            await trio.sleep(0.1)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)
        assert await client.get_task_result(known.task_id) == known


async def test_start(autojump_clock: MockClock) -> None:
    async with open_world() as world:

        async def attempt(steps: int) -> bool:
            client = world.new_client()
            was_cancelled, _ = await cancelled_at(steps, client.start)
            if was_cancelled:
                assert "closed" in repr(client)
                assert world.count_links() == 1, "it left its link behind"
                await client.start()  # and it can be started all the same
            assert (await client.submit_task("add", (steps, 1))).result == steps + 1
            await client.aclose()
            await assert_left(world)
            return was_cancelled

        await sweep(attempt)


async def test_start_of_a_client_that_breaks(autojump_clock: MockClock) -> None:
    class BrokenNetwork(MemoryNetwork):
        def dial(self, address: str) -> Any:
            raise OSError("no cable")

    async def attempt(steps: int) -> bool:
        client = Client(transport=BrokenNetwork())

        async def start() -> None:
            with pytest.raises(ClientBroken):
                await client.start()

        # What escaped into Trio's system nursery would end the test.
        was_cancelled, _ = await cancelled_at(steps, start)
        return was_cancelled

    for _ in range(10):
        await sweep(attempt)


async def test_entering_and_leaving(autojump_clock: MockClock) -> None:
    async with open_world() as world:

        async def attempt(steps: int) -> bool:
            async def enter_and_leave() -> None:
                async with world.new_client():
                    pass

            was_cancelled, _ = await cancelled_at(steps, enter_and_leave)
            assert world.count_links() == 1, "it left its link behind"
            await assert_left(world)
            return was_cancelled

        await sweep(attempt)


async def test_the_body_of_a_client(autojump_clock: MockClock) -> None:
    async with open_world() as world:

        async def attempt(steps: int) -> bool:
            async def use() -> None:
                async with world.new_client() as client:
                    await client.submit_task("sleep", (steps, 0.01))

            was_cancelled, _ = await cancelled_at(steps, use)
            assert world.count_links() == 1, "it left its link behind"
            await assert_left(world)
            return was_cancelled

        await sweep(attempt)


async def test_aclose(autojump_clock: MockClock) -> None:
    async with open_world() as world:

        async def attempt(steps: int) -> bool:
            client = world.new_client()
            await client.start()
            was_cancelled, _ = await cancelled_at(steps, client.aclose)
            assert "closed" in repr(client)
            await trio.sleep(0.6)  # it is stopped all the same, and says goodbye by itself
            await assert_left(world)
            return was_cancelled

        await sweep(attempt)
