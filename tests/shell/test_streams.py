"""Generator tasks: values one by one, never further ahead than their reader has room."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import TaskFailed
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


@pytest.mark.parametrize("name", ["count", "count_in_a_thread"])
async def test_the_values_of_a_generator_come_in_order(
    name: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        async with client.stream(name, "a", 1000) as values:
            assert [value async for value in values] == list(range(1000))
            assert [value async for value in values] == []
        assert world.stopped == ["a"]


async def test_a_generator_without_values_is_an_empty_stream(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 0) as values,
    ):
        assert [value async for value in values] == []


@pytest.mark.parametrize("name", ["count", "count_in_a_thread"])
@pytest.mark.parametrize("buffer", [1, 2, 5, 32])
async def test_a_generator_waits_for_its_reader(
    name: str, buffer: int, autojump_clock: MockClock
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.options(buffer=buffer).stream(name, "a", 100) as values,
    ):
        for number in range(50):
            await settle()
            # Room is told in portions of a quarter.
            ahead = len(world.ran) - number
            assert buffer - max(1, buffer // 4) < ahead <= buffer
            assert await anext(values) == number
        await trio.sleep(3600)
        assert len(world.ran) <= 50 + buffer


async def test_the_error_of_a_generator_comes_after_its_values(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 100, fail=True) as values,
    ):
        for number in range(100):
            assert await anext(values) == number
        with pytest.raises(TaskFailed, match="ValueError: no luck"):
            await anext(values)
        assert [value async for value in values] == []


@pytest.mark.parametrize("name", ["count", "count_in_a_thread"])
async def test_the_finally_of_a_generator_has_run_when_its_block_is_left_early(
    name: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        async with client.stream(name, "a", 100_000) as values:
            async for value in values:
                if value == 40:
                    break
        assert world.stopped == ["a"]
        assert len(world.ran) <= 41 + 32
        statistics = world.tasks()
        assert statistics.cancelled == 1
        assert statistics.started == 0
