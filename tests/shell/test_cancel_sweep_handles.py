"""Handles, groups and maps, cancelled at every step: see test_cancel_sweep.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Cancelled, Client, Completed, NeverStarted, TaskStatus
from tests.shell.cancel_steps import TRIO_SWEEP, assert_idle, cancelled_at, sweep
from tests.shell.world import World, open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]


@TRIO_SWEEP.covers("TaskHandle.wait")
async def test_wait(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            handle = await client.submit("sleep", steps, 0.05)
            was_cancelled, result = await cancelled_at(steps, handle.wait)
            if was_cancelled:
                result = await handle.wait()
            assert result.status is TaskStatus.SUCCESS, "to look changes nothing"
            assert result.result == steps
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)
        assert len(world.ran) == world.tasks().succeeded == world.tasks().submitted


@TRIO_SWEEP.covers("TaskHandle.result")
async def test_result(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            handle = await client.submit("sleep", steps, 0.05)
            was_cancelled, value = await cancelled_at(steps, handle.result)
            # Cancelled or not: how it ended has been waited for.
            assert handle.is_done
            if was_cancelled:
                assert isinstance(handle.outcome, Cancelled | NeverStarted | Completed)
            else:
                assert value == steps
            asked = await client.get_task_result(handle.id)
            assert asked is not None
            assert (asked.status is TaskStatus.SUCCESS) == isinstance(handle.outcome, Completed)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)
        assert world.tasks().cancelled > 5


@TRIO_SWEEP.covers("TaskHandle.cancel")
async def test_cancel(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            handle = await client.submit("wait", steps)
            await trio.sleep(0.05)
            was_cancelled, outcome = await cancelled_at(steps, handle.cancel)
            await trio.sleep(0.05)
            assert isinstance(handle.outcome, Cancelled), "it is cancelled all the same"
            assert was_cancelled or outcome == handle.outcome
            assert world.stopped[-1] == steps
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


async def _use_group(client: Client, name: Any) -> list[Any]:
    async with client.open_task_group(max_in_flight=2) as group:
        for number in range(3):
            await group.submit("sleep", (name, number), 0.01)
        return [await handle.result() async for handle in group.as_completed()]


@TRIO_SWEEP.covers("Submitter.open_task_group", "TaskGroup.submit", "_Ended.__anext__")
async def test_group(autojump_clock: MockClock) -> None:
    async with open_world(workers=2) as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            was_cancelled, values = await cancelled_at(steps, lambda: _use_group(client, steps))
            if not was_cancelled:
                assert sorted(value[1] for value in values) == [0, 1, 2]
            # The block ends when nothing of it runs anywhere any more.
            _assert_nothing_runs(world)
            await trio.sleep(0.05)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)
        tasks = world.tasks()
        assert tasks.submitted == tasks.succeeded + tasks.cancelled


async def test_group_of_tasks_that_take_their_time_to_stop(autojump_clock: MockClock) -> None:
    running = 0

    async def tidy_up(seconds: float) -> None:
        nonlocal running
        running += 1
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            running -= 1

    async with open_world(workers=0) as world:
        world.registry.register(tidy_up)
        await world.start_worker(slots=3)
        async with world.client() as client:

            async def use() -> None:
                async with client.open_task_group() as group:
                    for _ in range(3):
                        await group.submit("tidy_up", 0.01)

            async def attempt(steps: int) -> bool:
                was_cancelled, _ = await cancelled_at(steps, use)
                assert running == 0
                _assert_nothing_runs(world)
                await trio.sleep(0.05)
                assert_idle(world, client)
                return was_cancelled

            await sweep(attempt)


async def test_reading_a_group(autojump_clock: MockClock) -> None:
    async with open_world(slots=3) as world, world.client() as client:
        async with client.open_task_group() as group:
            for number in range(40):
                await group.submit("sleep", number)
            members = group.as_completed()
            got = []
            steps = untouched = 0
            while untouched < 5:
                steps += 1
                was_cancelled, handle = await cancelled_at(steps, members.__anext__)
                untouched = 0 if was_cancelled else untouched + 1
                if not was_cancelled:
                    got.append(handle.id)
            assert steps > 8
            got += [handle.id async for handle in members]
        assert sorted(got) == sorted(handle.id for handle in group.handles)
        assert_idle(world, client)


@TRIO_SWEEP.covers("Submitter.map")
@pytest.mark.parametrize("ordered", [True, False])
async def test_map(autojump_clock: MockClock, ordered: bool) -> None:
    async with open_world(workers=2) as world, world.client() as client:
        feeding = 0

        async def each() -> AsyncIterator[int]:
            nonlocal feeding
            feeding += 1
            try:
                for number in range(4):
                    await trio.lowlevel.checkpoint()
                    yield number
            finally:
                feeding -= 1

        async def use() -> list[Any]:
            items = each()
            try:
                async with client.map(
                    "note", items, max_in_flight=2, ordered=ordered
                ) as values:
                    return [value async for value in values]
            finally:
                await items.aclose()  # type: ignore[attr-defined]

        async def attempt(steps: int) -> bool:
            was_cancelled, values = await cancelled_at(steps, use)
            assert was_cancelled or sorted(values) == list(range(4))
            assert feeding == 0
            _assert_nothing_runs(world)
            await trio.sleep(0.05)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


@TRIO_SWEEP.covers("Values.collect")
@pytest.mark.parametrize("ordered", [True, False])
async def test_collecting_from_a_map(autojump_clock: MockClock, ordered: bool) -> None:
    async with open_world(slots=3) as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            async with client.map("note", range(9), max_in_flight=2, ordered=ordered) as values:
                was_cancelled, got = await cancelled_at(steps, values.collect)
                rest = await values.collect()
                got = rest if was_cancelled else [*got, *rest]
                assert sorted(got) == list(range(9)), "no value is lost"
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


@TRIO_SWEEP.covers("Values.__anext__")
@pytest.mark.parametrize("ordered", [True, False])
async def test_reading_a_map(autojump_clock: MockClock, ordered: bool) -> None:
    async with open_world(slots=3) as world, world.client() as client:
        got = []
        async with client.map("sleep", range(60), max_in_flight=3, ordered=ordered) as values:

            async def attempt(steps: int) -> bool:
                was_cancelled, value = await cancelled_at(steps, values.__anext__)
                if not was_cancelled:
                    got.append(value)
                return was_cancelled

            steps = untouched = 0
            while untouched < 5:
                steps += 1
                untouched = 0 if await attempt(steps) else untouched + 1
            assert steps > 8
            got += [value async for value in values]
        assert sorted(got) == list(range(60))
        assert got == sorted(got) or not ordered
        assert_idle(world, client)


def _assert_nothing_runs(world: World) -> None:
    tasks = world.tasks()
    assert (tasks.held, sum(tasks.ready), tasks.leased, tasks.started) == (0, 0, 0, 0)
