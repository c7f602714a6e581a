"""Every public coroutine, cancelled at every step that the program takes meanwhile.

After each, what its docstring says under "Cancellation" is true, and nothing
is left: no call, no task that nobody waits for, no link. Here are the calls of
a client; handles, groups and maps, and workers have modules of their own.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Cancelled, Client, ClientBroken, TaskStatus
from fastworker._transport._memory import MemoryNetwork
from tests.shell.callback_listener import HERE, listening
from tests.shell.cancel_steps import (
    TRIO_SWEEP,
    assert_idle,
    assert_left,
    cancelled_at,
    sweep,
)
from tests.shell.world import open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]


@pytest.mark.trio
async def test_none_is_forgotten() -> None:
    import tests.shell.test_cancel_sweep_handles
    import tests.shell.test_cancel_sweep_workers
    import tests.shell.test_events
    import tests.shell.test_stream_sweep  # noqa: F401 - they say what they cover

    TRIO_SWEEP.check()


@TRIO_SWEEP.covers("Submitter.delay")
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


@TRIO_SWEEP.covers("Submitter.delay_with_callback")
async def test_delay_with_callback(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay_with_callback("note", HERE, 0)  # who sends them stays for a while
        await trio.sleep(1)

        async def attempt(steps: int) -> bool:
            before = len(listener.heard)
            was_cancelled, task_id = await cancelled_at(
                steps, lambda: client.delay_with_callback("wait", HERE, steps)
            )
            await trio.sleep(0.1)
            if was_cancelled:
                assert steps not in world.ran or steps in world.stopped
            else:
                world.let_go(steps)
                await trio.sleep(0.1)
                assert client.get_status(task_id) is TaskStatus.SUCCESS
            assert_idle(world, client)
            await trio.sleep(1)
            assert len(listener.heard) <= before + 1
            assert was_cancelled or listener.task_ids[-1] == task_id
            return was_cancelled

        await sweep(attempt)
        # Told of each that the control plane had, and of no other.
        assert len(listener.heard) == world.tasks().submitted


@TRIO_SWEEP.covers("Submitter.submit")
async def test_submit(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            was_cancelled, handle = await cancelled_at(
                steps, lambda: client.submit("wait", steps)
            )
            if was_cancelled:
                # What had begun has been waited for.
                assert steps not in world.ran or steps in world.stopped
            else:
                world.let_go(steps)
                assert await handle.result() == steps
            await trio.sleep(0.1)
            assert steps not in world.ran or steps in world.stopped or not was_cancelled
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


@TRIO_SWEEP.covers("Client.cancel")
async def test_cancel(autojump_clock: MockClock) -> None:
    async with open_world(slots=2) as world, world.client() as client, world.client() as other:

        async def attempt(steps: int) -> bool:
            handle = await client.submit("wait", steps)
            await trio.sleep(0.1)
            was_cancelled, outcome = await cancelled_at(steps, lambda: other.cancel(handle.id))
            await trio.sleep(0.1)
            assert isinstance(handle.outcome, Cancelled), "it is cancelled all the same"
            assert was_cancelled or outcome == handle.outcome
            assert world.stopped[-1] == steps
            assert_idle(world, client)
            assert_idle(world, other)
            return was_cancelled

        await sweep(attempt)


@TRIO_SWEEP.covers("Submitter.submit_task")
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


@TRIO_SWEEP.covers("Client.get_task_result")
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


@TRIO_SWEEP.covers("Client.list_task_functions")
async def test_list_task_functions(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            was_cancelled, found = await cancelled_at(steps, client.list_task_functions)
            assert was_cancelled or [each.name for each in found] == world.registry.names()
            await trio.sleep(0.1)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


@TRIO_SWEEP.covers("Client.start")
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


@TRIO_SWEEP.covers("Client.__aenter__", "Client.__aexit__")
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


@TRIO_SWEEP.covers("Client.aclose")
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
