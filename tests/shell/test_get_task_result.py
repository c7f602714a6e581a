"""``get_task_result``: any client may ask for any task, in whatever state."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import ControlPlaneUnreachable, TaskStatus
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_another_client_sees_a_queued_a_running_and_an_ended_task(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        running = await client.delay("wait", "a")
        queued = await client.delay("wait", "b")
        await trio.sleep(0.1)

        result = await other.get_task_result(running)
        assert result is not None
        assert result.status is TaskStatus.STARTED
        assert result.worker_id == "w1"
        assert result.started_at is not None
        assert result.completed_at is None

        result = await other.get_task_result(queued)
        assert result is not None
        assert result.status is TaskStatus.PENDING
        assert result.started_at is None

        world.let_go("a")
        await settle()
        result = await other.get_task_result(running)
        assert result == client.get_result(running)
        assert other.get_result(running) is None


async def test_a_failed_task_comes_with_its_error_and_traceback(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        failed = await client.submit_task("fail")
        assert await other.get_task_result(failed.task_id) == failed


async def test_an_unknown_task_is_none(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        assert await client.get_task_result("no such id") is None


async def test_an_evicted_result_is_none(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        await world.start_plane(result_cache_max_size=1)
        await world.start_worker()
        async with world.client() as client, world.client() as other:
            first = await client.submit_task("note", (1,))
            await client.submit_task("note", (2,))
            assert await other.get_task_result(first.task_id) is None
            assert client.get_result(first.task_id) == first


async def test_a_result_expires_after_its_time(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        await world.start_plane(result_cache_ttl_seconds=60)
        await world.start_worker()
        async with world.client() as client:
            result = await client.submit_task("note", (1,))
            await trio.sleep(59)
            assert await client.get_task_result(result.task_id) == result
            await trio.sleep(2)
            assert await client.get_task_result(result.task_id) is None


async def test_no_answer_within_the_timeout_raises_and_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client(timeout=3) as client:
        world.network.partition(world.plane.base_address)
        before = trio.current_time()
        with pytest.raises(ControlPlaneUnreachable, match="no answer within 3 s"):
            await client.get_task_result("any")
        assert trio.current_time() - before == 3
        world.network.heal(world.plane.base_address)
        assert await client.get_task_result("any") is None


async def test_a_question_that_nobody_waits_for_any_more_is_not_asked(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        world.cut_off(world.plane.base_address)
        await settle()
        with trio.move_on_after(1):
            await client.get_task_result("any")
        assert not client._state._queries


async def test_hundreds_may_ask_at_once(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        ids = [await client.delay("add", number, 1) for number in range(100)]
        await settle()
        values: dict[str, object] = {}

        async def ask(task_id: str) -> None:
            result = await client.get_task_result(task_id)
            assert result is not None
            values[task_id] = result.result

        async with trio.open_nursery() as nursery:
            for task_id in ids:
                nursery.start_soon(ask, task_id)
        assert values == {task_id: number + 1 for number, task_id in enumerate(ids)}
