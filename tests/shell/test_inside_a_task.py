"""What a task may ask and say about itself, and what it starts."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

import fastworker
from fastworker import TaskPriority, TaskStatus
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_a_task_knows_its_id_attempt_priority_worker_and_deadline(
    autojump_clock: MockClock,
) -> None:
    seen: list[fastworker.Task | None] = []

    async def look() -> None:
        seen.append(fastworker.current_task())
        if len(seen) == 1:
            raise ValueError("once more")

    async with open_world(workers=0) as world:
        world.registry.register(look)
        await world.start_worker("w9")
        async with world.client() as client:
            options = client.options(priority="high", max_retries=1, retry_delay=0)
            handle = await options.submit("look")
            await handle.result()
    first, second = seen
    assert first is not None
    assert second is not None
    assert first.id == second.id == handle.id
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.priority is TaskPriority.HIGH
    assert first.worker_id == "w9"
    assert first.status is TaskStatus.STARTED
    assert first.deadline is None


async def test_outside_of_a_task_there_is_none_and_time_is_endless() -> None:
    assert fastworker.current_task() is None
    assert fastworker.time_left() == math.inf
    fastworker.progress(0.5)
    with pytest.raises(ValueError, match="from 0 to 1"):
        fastworker.progress(50)


async def test_a_deadline_around_the_call_is_the_tasks_own(autojump_clock: MockClock) -> None:
    seen: list[float] = []

    async def look() -> None:
        seen.append(fastworker.time_left())

    async with open_world(workers=0) as world:
        world.registry.register(look)
        await world.start_worker()
        async with world.client() as client:
            with trio.fail_after(10):
                await client.submit_task("look")
            with trio.fail_after(5):
                async with client.open_task_group() as group:
                    await group.submit("look")
    assert seen[0] == pytest.approx(10, abs=0.2)
    assert seen[1] == pytest.approx(5, abs=0.2)


async def test_parents_that_wait_for_children_do_not_take_their_places(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:

        async def descend(depth: int) -> int:
            if not depth:
                return 0
            async with world.client() as client:
                below = await client.submit_task("descend", (depth - 1,))
                assert below.error is None
                return int(below.result) + 1

        world.registry.register(descend)
        await world.start_worker(slots=1)
        async with world.client() as client:
            result = await client.submit_task("descend", (5,))
        assert result.result == 5


async def test_who_is_cancelled_takes_its_children_along(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:

        async def parent() -> None:
            async with world.client() as client:
                await client.delay("wait", "detached child")
                await client.submit_task("wait", ("child",))

        world.registry.register(parent)
        await world.start_worker(slots=4)
        async with world.client() as client:
            handle = await client.submit("parent")
            await settle()
            assert sorted(world.ran) == ["child", "detached child"]
            await handle.cancel()
            await settle()
            assert sorted(world.stopped) == ["child", "detached child"]
