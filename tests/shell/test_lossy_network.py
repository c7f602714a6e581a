"""A network that loses, doubles, delays and reorders: every task ends exactly once."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, TaskStatus
from fastworker._transport._memory import Faults
from tests.shell.world import BASE, MANAGEMENT, open_world

pytestmark = pytest.mark.trio

FAULTS = Faults(loss=0.2, duplicate=0.2, delay=0.05, reorder=0.2)


@pytest.mark.parametrize("seed", range(5))
async def test_all_tasks_end_exactly_once(autojump_clock: MockClock, seed: int) -> None:
    async with open_world(workers=2, slots=3, seed=seed) as world, world.client() as client:
        world.network.faults = FAULTS
        values = await _submit_all(client, 50)
        world.network.faults = Faults()
        assert values == list(range(50))
        assert sorted(world.ran) == list(range(50))
        assert world.tasks().succeeded == 50
        assert world.tasks().submitted == 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_all_tasks_end_although_pipes_break_too(
    autojump_clock: MockClock, seed: int
) -> None:
    async with open_world(workers=2, slots=3, seed=seed) as world, world.client() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_break_pipes, world.network)
            world.network.faults = FAULTS
            values = await _submit_all(client, 50)
            world.network.faults = Faults()
            nursery.cancel_scope.cancel()
        assert values == list(range(50))
        # A worker that is away for too long may cost a second run, no more outcomes.
        assert set(world.ran) == set(range(50))
        assert world.tasks().succeeded == 50


async def test_a_client_starts_and_leaves_on_a_lossy_network(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        for seed in range(10):
            world.network._random.seed(seed)
            world.network.faults = FAULTS
            async with world.client(connect_timeout=60) as client:
                assert (await client.submit_task("add", (seed, 1))).result == seed + 1
            world.network.faults = Faults()


async def _submit_all(client: Client, count: int) -> list[object]:
    values: list[object] = [None] * count
    client.timeout = 1000

    async def submit(number: int) -> None:
        result = await client.submit_task("sleep", (number, 0.5))
        assert result.status is TaskStatus.SUCCESS, result.error
        assert values[number] is None
        values[number] = result.result

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(submit, number)
    return values


async def _break_pipes(network: object) -> None:
    # Three times only: a task that is lost three times while it runs alone is
    # taken for the cause, and the first loss never counts as such.
    for _ in range(3):
        for address in (BASE, MANAGEMENT):
            await trio.sleep(1.3)
            network.reset_pipes(address)  # type: ignore[attr-defined]
