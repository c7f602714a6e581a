"""Tasks that have tasks of their own: they wait for them, and take them along."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, TaskStatus
from tests.shell.world import World, open_world, settle

pytestmark = pytest.mark.trio


class Family:
    """A task that has tasks of its own: its client is open as long as it runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.registry.register(self.run, name="parent")

    async def run(self, how: str, names: list[Any]) -> list[Any]:
        async with Client(transport=self.world.network, registry=self.world.registry) as client:
            if how == "submit_task":
                return [(await client.submit_task("wait", (name,))).result for name in names]
            if how == "map":
                async with client.map("wait", names) as values:
                    return [value async for value in values]
            if how == "group":
                async with client.open_task_group() as group:
                    for name in names:
                        await group.submit("wait", name)
                return [await handle.result() for handle in group.handles]
            handles = [await client.submit("wait", name) for name in names]
            if how == "wait":
                return [(await handle.wait()).result for handle in handles]
            return [await handle.result() for handle in handles]


HOW = pytest.mark.parametrize("how", ["submit_task", "map", "group", "wait", "result"])


@HOW
async def test_a_parent_that_waits_lends_its_slot_to_its_children(
    autojump_clock: MockClock, how: str
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        Family(world)
        await world.start_worker(slots=1)
        handle = await client.submit("parent", how, [1, 2])
        await settle()
        assert world.ran[0] in (1, 2)
        world.let_go(1)
        world.let_go(2)
        with trio.fail_after(10):
            assert await handle.result() == [1, 2]
        await settle()
        assert world.tasks().leased == 0
        assert (await client.submit_task("add", (1, 2))).result == 3


async def test_ten_generations_end_with_one_slot(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:

        async def generation(left: int) -> int:
            if left == 0:
                return 0
            async with Client(transport=world.network, registry=world.registry) as own:
                handle = await own.submit("generation", left - 1)
                value: int = await handle.result()
                return value + 1

        world.registry.register(generation)
        await world.start_worker(slots=1)
        with trio.fail_after(30):
            assert await (await client.submit("generation", 10)).result() == 10
        await settle()
        assert world.count_clients() == 1


@HOW
async def test_a_parent_that_is_cancelled_takes_its_children_along(
    autojump_clock: MockClock, how: str
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        Family(world)
        await world.start_worker("w1", slots=1)
        await world.start_worker("w2", slots=1)
        handle = await client.submit("parent", how, [1, 2])
        await settle()
        begun = sorted(world.ran)
        assert begun
        outcome = await handle.cancel()
        assert type(outcome).__name__ == "Cancelled"
        await settle()
        assert sorted(world.stopped) == begun
        tasks = world.tasks()
        assert (tasks.leased, sum(tasks.ready)) == (0, 0)
        assert sorted(world.ran) == begun
        assert world.count_clients() == 1


async def test_a_parent_that_fails_takes_those_along_that_it_does_not_wait_for(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:

        async def careless() -> None:
            async with Client(transport=world.network, registry=world.registry) as own:
                await own.submit("wait", "child")
                await trio.sleep(1)
                raise ValueError("and now?")

        world.registry.register(careless)
        await world.start_worker(slots=2)
        result = await client.submit_task("careless")
        assert result.status is TaskStatus.FAILURE
        await trio.sleep(31)
        assert world.stopped == ["child"]
        assert world.tasks().leased == 0


async def test_children_know_the_deadline_of_their_parent(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        Family(world)
        await world.start_worker(slots=2)
        start_at = trio.current_time()
        with trio.move_on_after(5) as scope:
            async with client.open_task_group() as group:
                await group.submit("parent", "group", ["child"])
        assert scope.cancelled_caught
        await settle()
        assert world.stopped == ["child"]
        assert trio.current_time() - start_at == pytest.approx(5, abs=0.5)
