"""Streams while networks lose frames, peers vanish, and much is to be sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import ResultExpired, TaskFailed, TaskLost
from fastworker._core._messages import STREAM_BYTES
from fastworker._core._sessions import OUTBOX_BYTES
from fastworker._registry import TaskOptions
from fastworker._transport._memory import Faults
from tests.shell.world import BASE, DISCOVERY, MANAGEMENT, World, open_world, settle

pytestmark = pytest.mark.trio

FAULTS = Faults(loss=0.2, duplicate=0.2, delay=0.05, reorder=0.2)
MIB = 1024 * 1024


@pytest.mark.parametrize("seed", range(4))
async def test_values_come_in_order_and_once_over_a_faulty_network(
    autojump_clock: MockClock, seed: int
) -> None:
    async with open_world(workers=2, slots=3, seed=seed) as world, world.client() as client:
        world.network.faults = FAULTS
        client.timeout = 1000

        async def read(name: int) -> None:
            options = client.options(buffer=1 + 8 * name)
            got: list[int] = []
            while len(got) < 60:
                got.clear()
                # Where so much is lost, a subworker may be given up as well.
                with suppress(TaskLost):
                    async with options.stream("count", name, 60) as values:
                        async for value in values:
                            got.append(value)
                assert got == list(range(len(got)))

        async with trio.open_nursery() as nursery:
            for name in range(4):
                nursery.start_soon(read, name)
        world.network.faults = Faults()
        assert len(world.ran) >= 4 * 60
        assert world.tasks().succeeded == 4


@pytest.mark.parametrize("address", [BASE, MANAGEMENT])
async def test_a_stream_goes_on_when_a_pipe_was_broken(
    address: str, autojump_clock: MockClock
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 100, every=0.01) as values,
    ):
        got: list[int] = []
        async for value in values:
            got.append(value)
            if value % 10 == 0:
                world.network.reset_pipes(address)
        assert got == list(range(100))
        assert len(world.ran) == 100


async def test_a_client_that_was_cut_off_misses_no_value(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 200, every=0.1) as values,
    ):
        assert await anext(values) == 0
        world.cut_off(BASE)
        world.cut_off(DISCOVERY)
        await trio.sleep(10)
        # It waits for the reader, who is not there.
        assert len(world.ran) <= 33
        world.network.heal(BASE)
        world.network.heal(DISCOVERY)
        assert [value async for value in values] == list(range(1, 200))


async def test_a_stream_whose_worker_is_lost_before_its_first_value_runs_again(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 3, every=5) as values,
    ):
        await settle()
        world.cut_off(MANAGEMENT)
        await world.start_worker("w2", BASE)
        assert [value async for value in values] == [0, 1, 2]


async def test_a_stream_whose_worker_is_lost_after_a_value_is_lost(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 1000, every=0.1) as values,
    ):
        await world.start_worker("w2", BASE)
        assert await anext(values) == 0
        world.cut_off(MANAGEMENT)
        with pytest.raises(TaskLost, match=r"lost: w1 lost its connection.*had given values"):
            async for _ in values:
                pass
        assert {number for _, number in world.ran} == set(range(len(world.ran)))


async def test_a_stream_that_its_worker_gives_up_when_drained_is_lost(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = await world.start_worker("w1", drain_timeout=1)
        await world.start_worker("w2")
        async with client.stream(world.count, "a", 1000, every=0.1) as values:
            assert await anext(values) == 0
            worker.drain()
            with pytest.raises(TaskLost, match="lost: w1 ended while it ran"):
                async for _ in values:
                    pass


@pytest.mark.parametrize("has_read", [False, True])
async def test_a_stream_is_lost_when_the_control_plane_restarts(
    has_read: bool, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        async with client.stream(world.count, "a", 1000, every=0.1) as values:
            if has_read:
                assert await anext(values) == 0
            else:
                await settle()
            with world.restarting():
                await settle()
            await world.start_plane()
            with pytest.raises(TaskLost, match="control plane restarted"):
                async for _ in values:
                    pass
        await settle()
        assert world.stopped == ["a"]


async def test_a_generator_that_fails_is_retried_only_before_its_first_value(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        attempts: list[str] = []

        async def flaky(early: bool) -> AsyncGenerator[int, None]:
            attempts.append("early" if early else "late")
            if early and len(attempts) < 3:
                raise ValueError("not yet")
            yield 1
            if not early:
                raise ValueError("too late")

        world.registry.register(flaky, options=TaskOptions(max_retries=5))
        await world.start_worker()
        async with world.client() as client:
            async with client.stream(flaky, True) as values:
                assert [value async for value in values] == [1]
            assert attempts == ["early"] * 3
            async with client.stream(flaky, False) as values:
                assert await anext(values) == 1
                with pytest.raises(TaskFailed, match="too late"):
                    await anext(values)
            assert attempts.count("late") == 1


@pytest.mark.slow
async def test_a_hundred_thousand_values(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.options(buffer=1000).stream(world.count, "a", 100_000) as values,
    ):
        number = 0
        async for value in values:
            assert value == number
            number += 1
        assert number == 100_000


async def test_large_values_wait_for_their_reader_by_weight(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        made: list[int] = []

        async def blobs(count: int) -> AsyncGenerator[str, None]:
            for number in range(count):
                made.append(number)
                yield chr(97 + number % 26) * MIB

        world.registry.register(blobs)
        await world.start_worker()
        async with (
            world.client() as client,
            client.options(buffer=1000).stream(blobs, 100) as values,
        ):
            most = STREAM_BYTES // MIB + 1
            for number in range(100):
                await settle()
                assert number < len(made) <= min(100, number + most)
                assert _weight(world) <= most * (MIB + 200)
                value: Any = await anext(values)
                assert value == chr(97 + number % 26) * MIB
            assert [value async for value in values] == []


async def test_values_beyond_the_weight_wait_one_by_one(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:

        async def blobs() -> AsyncGenerator[str, None]:
            for _ in range(4):
                yield "x" * (STREAM_BYTES + MIB)

        world.registry.register(blobs)
        await world.start_worker()
        async with world.client() as client, client.stream(blobs) as values:
            assert [len(value) async for value in values] == [STREAM_BYTES + MIB] * 4


@pytest.mark.slow
async def test_values_for_a_client_that_is_away_are_given_up_beyond_a_weight(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        gate = trio.Event()

        async def blobs() -> AsyncGenerator[str, None]:
            await gate.wait()
            while True:
                yield "x" * MIB

        world.registry.register(blobs)
        await world.start_worker(slots=10)
        async with world.client() as client, AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(client.stream(blobs)) for _ in range(10)]
            await settle()
            world.cut_off(BASE)
            world.cut_off(DISCOVERY)
            gate.set()
            await settle()
            # Eight of each: more than a session's outbox takes.
            assert OUTBOX_BYTES - MIB < _weight(world) <= OUTBOX_BYTES + MIB
            world.network.heal(BASE)
            world.network.heal(DISCOVERY)
            outcomes: list[str] = []
            for values in streams:
                try:
                    for _ in range(8):
                        assert len(await anext(values)) == MIB
                    outcomes.append("all")
                except ResultExpired:
                    assert [value async for value in values] == []
                    outcomes.append("too late")
            assert {*outcomes} == {"all", "too late"}


def _weight(world: World) -> int:
    statistics = world.plane.statistics()
    assert statistics is not None
    return statistics.outbox_bytes
