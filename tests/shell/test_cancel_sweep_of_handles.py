"""The calls that give or take handles, and the blocks, cancelled at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Cancelled, Client, ClientClosed, Completed, NeverStarted, TaskStatus
from tests.shell.callback_listener import HERE, listening
from tests.shell.sweep import assert_idle, cancelled_at, sweep
from tests.shell.world import World, open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]

# What a cancel may have come to that was asked at any moment.
TRUE_OUTCOMES = (NeverStarted, Cancelled, Completed)


async def test_submit(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            was_cancelled, handle = await cancelled_at(
                steps, lambda: client.submit("wait", steps)
            )
            await trio.sleep(0.1)
            if was_cancelled:
                assert steps not in world.ran or steps in world.stopped
            else:
                world.let_go(steps)
                assert await handle.result() == steps
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


async def test_delay_with_callback(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client, listening(world.network):

        async def attempt(steps: int) -> bool:
            was_cancelled, task_id = await cancelled_at(
                steps, lambda: client.delay_with_callback("note", HERE, steps)
            )
            await trio.sleep(0.5)
            if not was_cancelled:
                assert client.get_status(task_id) is TaskStatus.SUCCESS
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


async def test_cancel_of_anybodys_task(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as owner, world.client() as other:

        async def attempt(steps: int) -> bool:
            handle = await owner.submit("wait", steps)
            await trio.sleep(0.1)
            was_cancelled, outcome = await cancelled_at(steps, lambda: other.cancel(handle.id))
            await trio.sleep(0.2)
            # Asked is asked, unless the call was over before its first step.
            if handle.is_done:
                assert isinstance(handle.outcome, Cancelled)
                assert was_cancelled or outcome == handle.outcome
                assert steps in world.stopped
            else:
                assert was_cancelled
                world.let_go(steps)
                await handle.result()
            assert_idle(world, owner)
            assert_idle(world, other)
            return was_cancelled

        await sweep(attempt)


async def test_who_waits_for_the_value_owns_the_task(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            handle = await client.submit("wait", steps)
            await trio.sleep(0.1)
            deadline = trio.current_time() + 2
            world.nursery.start_soon(let_go_at, world, steps, deadline)
            was_cancelled, value = await cancelled_at(steps, handle.result)
            # Known at once: the caller has waited for it.
            if was_cancelled and trio.current_time() < deadline:
                assert isinstance(handle.outcome, Cancelled)
            elif not was_cancelled:
                assert isinstance(handle.outcome, Completed)
            assert (steps in world.stopped) is isinstance(handle.outcome, Cancelled)
            assert was_cancelled or value == steps
            await trio.sleep(0.1)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


async def let_go_at(world: World, what: int, moment: float) -> None:
    await trio.sleep_until(moment)
    world.let_go(what)


@pytest.mark.parametrize("wait", ["wait", "cancel"])
async def test_what_waits_for_a_handle(wait: str, autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            handle = await client.submit("sleep", steps, 0.05)
            call: Callable[[], Any] = getattr(handle, wait)
            was_cancelled, _ = await cancelled_at(steps, call)
            if wait == "wait":
                assert (await handle.wait()).result == steps  # it was only looked at
            await trio.sleep(0.1)
            assert isinstance(handle.outcome, TRUE_OUTCOMES)
            assert_idle(world, client)
            assert not client._usable_session()._watches
            return was_cancelled

        await sweep(attempt)


@pytest.mark.parametrize("on_error", ["cancel", "collect"])
async def test_the_block_of_a_task_group(on_error: Any, autojump_clock: MockClock) -> None:
    async with open_world(workers=2) as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            handles: list[Any] = []

            async def use() -> None:
                async with client.open_task_group(max_in_flight=2, on_error=on_error) as group:
                    for number in range(3):
                        handles.append(await group.submit("sleep", (steps, number), 0.02))
                    async for _ in group.as_completed():
                        pass

            was_cancelled, _ = await cancelled_at(steps, use)
            # The block is left when each member has its outcome, cancelled or not.
            assert all(handle.is_done for handle in handles)
            if not was_cancelled:
                assert [handle.status() for handle in handles] == [TaskStatus.SUCCESS] * 3
            await trio.sleep(0.1)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


@pytest.mark.parametrize("ordered", [True, False])
async def test_the_block_of_a_map(ordered: bool, autojump_clock: MockClock) -> None:
    async with open_world(workers=2) as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            got: list[int] = []

            async def use() -> None:
                texts = ["a", "bb", "ccc"]
                async with client.map(
                    "length", texts, max_in_flight=2, ordered=ordered
                ) as lengths:
                    async for value in lengths:
                        got.append(value)

            was_cancelled, _ = await cancelled_at(steps, use)
            assert was_cancelled or sorted(got) == [1, 2, 3]
            await trio.sleep(0.1)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


async def test_list_task_functions(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            was_cancelled, found = await cancelled_at(steps, client.list_task_functions)
            assert was_cancelled or [each.name for each in found] == world.registry.names()
            await trio.sleep(0.1)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


@pytest.mark.parametrize("method", ["run", "start"])
async def test_the_life_of_a_subworker(method: str, autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        links = world.count_links()
        for steps in range(1, 60):
            worker = world.new_worker(f"w{steps}")
            await cancelled_at(steps, getattr(worker, method))
            assert worker.statistics() is None
            assert world.count_links() == links, "it left its link behind"
        await trio.sleep(31)
        assert world.plane.get_subworker_status()["total"] == 0
        await world.start_worker("last")
        async with world.client() as client:
            assert (await client.submit_task("add", (1, 2))).result == 3


@pytest.mark.parametrize("method", ["run", "start"])
async def test_the_life_of_a_control_plane(method: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, seed=0)
        for steps in range(1, 60):
            plane = world.new_plane(executes=True)
            await cancelled_at(steps, getattr(plane, method))
            assert plane.statistics() is None
            assert not world.network._listeners, "it left a listener behind"
            assert world.count_links() == 0
        await world.start_plane()  # and all addresses are free
        nursery.cancel_scope.cancel()


async def test_resuming_and_stopping_from_outside_leave_no_waiter(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:

        async def attempt(steps: int) -> bool:
            client = world.new_client()
            await client.start()
            handle = await client.submit("wait", steps)

            async def wait_while_it_is_stopped() -> None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self_stop, client)
                    with pytest.raises(ClientClosed):
                        await handle.wait()

            was_cancelled, _ = await cancelled_at(steps, wait_while_it_is_stopped)
            client.stop()
            world.let_go(steps)
            await trio.sleep(40)
            assert world.count_clients() == 0
            return was_cancelled

        await sweep(attempt)


async def self_stop(client: Client) -> None:
    await trio.lowlevel.checkpoint()
    client.stop()
