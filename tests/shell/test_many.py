"""Thousands at once, and a cache that keeps few."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import TaskStatus
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


@pytest.fixture
def without_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking all tasks at every call takes time by the square of their number."""
    monkeypatch.setenv("FASTWORKER_VALIDATE", "0")


@pytest.mark.slow
async def test_2000_delays_at_once_all_end_right(
    without_validation: None, autojump_clock: MockClock
) -> None:
    async with open_world(workers=2, slots=10) as world, world.client() as client:
        ids: dict[int, str] = {}

        async def delay(number: int) -> None:
            ids[number] = await client.delay("add", number, 1)

        async with trio.open_nursery() as nursery:
            for number in range(2000):
                nursery.start_soon(delay, number)
        await trio.sleep(5)
        assert len(set(ids.values())) == 2000
        for number, task_id in ids.items():
            result = client.get_result(task_id)
            assert result is not None
            assert result.result == number + 1
        assert client.statistics().waiting == 0
        assert world.tasks().succeeded == 2000


async def test_a_cache_of_10_keeps_10_and_every_waiting_caller_has_its_own(
    autojump_clock: MockClock,
) -> None:
    async with open_world(slots=100) as world, world.client(max_results=10) as client:
        results = {}

        async def submit(number: int) -> None:
            results[number] = await client.submit_task("add", (number, 1))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(submit, number)
        assert {number: result.result for number, result in results.items()} == {
            number: number + 1 for number in range(100)
        }
        assert client.statistics().kept_results == 10
        kept = [r for r in results.values() if client.get_result(r.task_id) is not None]
        assert len(kept) == 10
        dropped = next(r for r in results.values() if client.get_result(r.task_id) is None)
        assert client.get_status(dropped.task_id) is None
        # The control plane still has it.
        assert await client.get_task_result(dropped.task_id) == dropped


async def test_a_cache_of_few_bytes_keeps_few(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client(max_result_bytes=5000) as client:
        for _ in range(20):
            await client.submit_task("note", ("x" * 1000,))
        assert client.statistics().kept_bytes <= 5000
        assert 1 <= client.statistics().kept_results <= 4


async def test_a_delayed_result_that_the_cache_dropped_is_none_again(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client(max_results=1) as client:
        first = await client.delay("add", 1, 2)
        await settle()
        assert client.get_status(first) is TaskStatus.SUCCESS
        await client.delay("add", 3, 4)
        await settle()
        assert client.get_status(first) is None
