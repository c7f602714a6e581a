"""What a task group makes of cancels, deadlines, and control planes that are gone."""

# ruff: noqa: PT012, SIM117 - a block is what is tested, and where it ends

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    Abandoned,
    Cancelled,
    ClientClosed,
    LocalProtocolError,
    Lost,
    NeverStarted,
    TaskGroup,
    TaskLost,
    time_left,
)
from fastworker._transport._memory import Faults
from tests.shell.test_task_groups import cluster
from tests.shell.world import BASE, DISCOVERY, open_world, settle

pytestmark = pytest.mark.trio


async def test_an_outer_cancel_takes_all_tasks_along(autojump_clock: MockClock) -> None:
    async with cluster(workers=2, slots=1) as (world, client):
        with trio.CancelScope() as scope:
            async with client.open_task_group() as group:
                for number in range(3):
                    await group.submit("wait", number)
                await settle()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert sorted(world.stopped) == [0, 1]
        kinds = [type(handle.outcome) for handle in group.handles]
        assert kinds == [Cancelled, Cancelled, NeverStarted]


async def test_a_deadline_around_the_block_ends_its_tasks_in_time(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        start = trio.current_time()
        with trio.move_on_after(2) as scope:
            async with client.open_task_group() as group:
                await group.submit("wait", 1)
        assert scope.cancelled_caught
        assert trio.current_time() - start == pytest.approx(2, abs=0.1)
        assert world.stopped == [1]
        assert group.handles[0].outcome is not None


async def test_the_deadline_of_the_block_is_known_inside_its_tasks(
    autojump_clock: MockClock,
) -> None:
    async def ask() -> float | None:
        return None if math.isinf(time_left()) else time_left()

    async with open_world(workers=0) as world:
        world.registry.register(ask)
        await world.start_worker()
        async with world.client() as client:
            async with client.open_task_group() as group:
                free = await group.submit("ask")
            with trio.fail_after(20):
                async with client.open_task_group() as group:
                    await trio.sleep(5)
                    bound = await group.submit("ask")
                    with trio.fail_after(3):  # around the call, not around the block
                        other = await group.submit("ask")
        assert await free.result() is None
        assert await bound.result() == pytest.approx(15, abs=0.1)
        assert await other.result() == pytest.approx(15, abs=0.1)


async def test_groups_inside_groups_end_from_the_inside(autojump_clock: MockClock) -> None:
    async with cluster(slots=10) as (world, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group() as outer:
                await outer.submit("wait", "outer")
                async with client.open_task_group() as inner:
                    await inner.submit("wait", "inner")
                    await settle()
                    await outer.submit("fail", "outer fails")
                    await trio.sleep_forever()
        assert [str(error) for error in caught.value.exceptions] == ["ValueError: outer fails"]
        assert world.stopped == ["inner", "outer"]
        assert isinstance(inner.handles[0].outcome, Cancelled)


async def test_a_group_whose_control_plane_is_gone_ends_all_the_same(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        with trio.move_on_after(1):
            async with client.open_task_group() as group:
                for number in range(3):
                    await group.submit("wait", number)
                await settle()
                world.cut_off(DISCOVERY)
                world.cut_off("tcp://127.0.0.1:5555")
                start = trio.current_time()
                await trio.sleep_forever()
        assert trio.current_time() - start < 60
        for handle in group.handles:
            assert isinstance(handle.outcome, Lost)


async def test_a_moment_out_of_reach_does_not_end_the_wait_for_a_member(
    autojump_clock: MockClock,
) -> None:
    ended = []

    async def tidy_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)
            ended.append(trio.current_time())

    async with open_world(workers=0) as world:
        world.registry.register(tidy_up)
        await world.start_worker()
        async with world.client() as client:
            async with client.options(grace=100).open_task_group() as group:
                await group.submit("tidy_up")
                await settle()
                world.network.reset_pipes(BASE)
                group.cancel()
            assert ended
            assert isinstance(group.handles[0].outcome, Cancelled)


async def test_a_group_whose_control_plane_comes_back_empty_has_lost_its_members(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group() as group:
                await group.submit("wait", 1)
                await group.submit("wait", 2)
                await settle()
                with world.restarting():
                    await trio.sleep(1)
                    await world.start_plane()
                await trio.sleep_forever()
        assert {type(error) for error in caught.value.exceptions} == {TaskLost}
        assert [type(handle.outcome) for handle in group.handles] == [Lost, Lost]


async def test_a_member_that_does_not_stop_is_abandoned_after_its_grace(
    autojump_clock: MockClock,
) -> None:
    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    async with open_world(workers=0) as world:
        world.registry.register(stubborn)
        await world.start_worker(slots=2)
        async with world.client() as client:
            with trio.CancelScope() as scope:
                async with client.options(grace=3).open_task_group() as group:
                    await group.submit("stubborn")
                    await group.submit("wait", 1)
                    await settle()
                    start = trio.current_time()
                    scope.cancel()
            assert trio.current_time() - start == pytest.approx(3, abs=0.2)
            assert [type(handle.outcome) for handle in group.handles] == [Abandoned, Cancelled]


async def test_a_member_whose_submit_was_cancelled_is_waited_for_too(
    autojump_clock: MockClock,
) -> None:
    begun = ended = unacknowledged = 0

    async def tidy_up() -> None:
        nonlocal begun, ended
        begun += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)
            ended += 1

    async with open_world(workers=0) as world:
        world.registry.register(tidy_up)
        await world.start_worker(slots=2)
        async with world.client() as client:

            async def cancel_once_it_runs(scope: trio.CancelScope, before: int) -> None:
                while begun == before:
                    await trio.sleep(0.001)
                scope.cancel()

            for seed in range(10):
                world.network._random.seed(seed)
                world.network.faults = Faults(delay=0.3)
                with trio.CancelScope() as scope:
                    async with client.options(grace=10).open_task_group() as group:
                        world.nursery.start_soon(cancel_once_it_runs, scope, begun)
                        unacknowledged += 1
                        await group.submit("tidy_up")
                        unacknowledged -= 1
                        await trio.sleep_forever()
                assert scope.cancelled_caught
                assert begun == ended == seed + 1
                assert group.in_flight == 0
                assert group.failures == []
                world.network.faults = Faults()
                await trio.sleep(10)
            assert unacknowledged, "each was acknowledged before it ran"


async def test_a_submit_that_is_cancelled_alone_is_no_failure_of_its_group(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=2, slots=4) as world, world.client() as client:
        async with client.open_task_group(max_in_flight=2) as group:
            for seed in range(20):
                world.network._random.seed(seed)
                world.network.faults = Faults(delay=0.3)
                with trio.move_on_after(0.8):
                    await group.submit("sleep", seed, 0.01)
                assert group.in_flight <= 2
                world.network.faults = Faults()
        assert group.in_flight == 0
        assert group.failures == []
        assert 0 < len(group.handles) < 20


async def test_the_block_waits_for_who_submits_to_it_from_outside(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client), trio.open_nursery() as nursery:
        async with client.open_task_group(max_in_flight=1) as group:
            for number in range(3):
                nursery.start_soon(group.submit, "sleep", number)
            await trio.testing.wait_all_tasks_blocked()
        assert sorted(world.ran) == [0, 1, 2]
        assert group.in_flight == 0


async def test_who_submits_from_outside_while_the_block_is_cancelled_is_told(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        told = 0

        async def submit(number: int) -> None:
            nonlocal told
            try:
                await group.submit("wait", number)
            except LocalProtocolError:
                told += 1

        async with trio.open_nursery() as nursery:
            async with client.open_task_group(max_in_flight=1) as group:
                for number in range(4):
                    nursery.start_soon(submit, number)
                await settle()
                nursery.start_soon(submit, 4)
                group.cancel()
        assert told == 4
        await settle()
        assert len(world.ran) == len(world.stopped) == 1


async def test_a_client_that_is_stopped_ends_the_block_with_that_error(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group() as group:
                await group.submit("wait", 1)
                await settle()
                client.stop()
                await trio.sleep_forever()
        assert [type(error) for error in caught.value.exceptions] == [ClientClosed]
        await client.aclose()


async def test_a_group_can_be_cancelled_and_the_program_goes_on(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        async with client.open_task_group() as group:
            await group.submit("wait", 1)
            await settle()
            group.cancel()
        assert world.stopped == [1]
        assert isinstance(group.handles[0].outcome, Cancelled)


async def test_a_group_of_a_client_with_options_has_its_options(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.options(timeout=2).open_task_group() as group:
                await group.submit("wait", 1)
        assert [type(error).__name__ for error in caught.value.exceptions] == ["TaskTimedOut"]
        assert isinstance(group, TaskGroup)
