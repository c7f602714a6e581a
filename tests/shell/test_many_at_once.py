"""Task groups and maps: many tasks whose ends belong together."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import Cancelled, NeverStarted, TaskFailed
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_a_group_is_left_when_each_member_has_ended(autojump_clock: MockClock) -> None:
    async with open_world(slots=2) as world, world.client() as client:
        async with client.open_task_group() as group:
            handles = [await group.submit("sleep", n, 1.0) for n in range(4)]
        assert [await handle.result() for handle in handles] == [0, 1, 2, 3]
        assert group.handles == handles


async def test_the_first_failure_cancels_the_rest_and_comes_out_in_a_group(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=2) as world, world.client() as client:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block raises
            async with client.open_task_group() as group:
                await group.submit("wait", "a")
                await settle()
                await group.submit("fail", "b")
                await trio.sleep_forever()
        assert [type(error) for error in caught.value.exceptions] == [TaskFailed]
        assert world.stopped == ["a"]
        assert all(handle.is_done for handle in group.handles)


async def test_the_error_of_a_body_comes_out_without_the_cancels_that_it_caused(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block raises
            async with client.open_task_group(), client.open_task_group() as group:
                await group.submit("wait", "a")
                await settle()
                raise ZeroDivisionError
        inner = caught.value.exceptions
        assert [type(error) for error in inner] == [ZeroDivisionError]
        assert world.stopped == ["a"]
        assert group.failures == []


async def test_no_more_than_max_in_flight_are_under_way(autojump_clock: MockClock) -> None:
    async with open_world(slots=10) as world, world.client() as client:
        async with client.open_task_group(max_in_flight=2) as group:
            start = trio.current_time()
            for n in range(6):
                await group.submit("sleep", n, 1.0)
                assert group.in_flight <= 2
        assert trio.current_time() - start == pytest.approx(3, abs=0.2)


async def test_a_group_that_collects_raises_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with client.open_task_group(on_error="collect") as group:
            bad = await group.submit("fail")
            good = await group.submit("add", 1, 2)
        assert await good.result() == 3
        with pytest.raises(TaskFailed):
            await bad.result()


async def test_the_first_successes_are_enough_if_so_many_were_asked_for(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        async with client.open_task_group(first=1) as group:
            quick = await group.submit("sleep", "quick", 1.0)
            slow = await group.submit("sleep", "slow", 60.0)
            assert [handle async for handle in group.as_completed()] == [quick]
        assert isinstance(slow.outcome, Cancelled | NeverStarted)


async def test_a_group_may_be_cancelled_from_inside(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with client.open_task_group() as group:
            await group.submit("wait", "a")
            await settle()
            group.cancel()
        assert world.stopped == ["a"]


async def test_members_come_as_they_end(autojump_clock: MockClock) -> None:
    async with open_world(slots=3) as world, world.client() as client:
        async with client.open_task_group() as group:
            for seconds in (3.0, 1.0, 2.0):
                await group.submit("sleep", seconds, seconds)
            ended = [await handle.result() async for handle in group.as_completed()]
        assert ended == [1.0, 2.0, 3.0]


async def test_a_map_gives_values_in_the_order_of_the_items(autojump_clock: MockClock) -> None:
    texts = ["a" * n for n in range(100)]
    async with (
        open_world(slots=4) as world,
        world.client() as client,
        client.map("length", texts) as lengths,
    ):
        assert [each async for each in lengths] == list(range(100))


async def test_a_map_gives_values_as_they_come_if_that_was_asked_for(
    autojump_clock: MockClock,
) -> None:
    async with open_world(slots=3) as world, world.client() as client:
        world.registry.register(_nap)
        await world.start_worker("w2", slots=3)
        async with client.map("_nap", [3, 1, 2], max_in_flight=3, ordered=False) as naps:
            assert [each async for each in naps] == [1, 2, 3]


async def test_a_failure_in_a_map_comes_out_of_its_block(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block raises
            async with client.map("fail", ["x", "y"]) as values:
                async for _ in values:
                    pass
        assert isinstance(caught.value.exceptions[0], TaskFailed)


async def test_a_map_that_is_left_early_leaves_nothing_under_way(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        async with client.map("sleep", range(1_000_000)) as values:
            async for value in values:
                assert value == 0
                break
        assert client.statistics().waiting == 0


async def _nap(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds
