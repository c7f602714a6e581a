"""What operators are told of the control plane and its subworkers, and draining one."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from fastworker import Client
from fastworker._core._metrics import BUCKETS, Histogram
from fastworker._core._overview import Overview
from tests.shell.world import World, open_world, settle

pytestmark = pytest.mark.trio


async def ends_of_all_kinds(world: World, client: Client) -> str:
    """Two have succeeded, one has failed, one was cancelled, one runs and one waits."""
    for number in (1, 2):
        await client.submit_task("add", (number, number))
    await client.submit_task("fail")
    cancelled = await client.delay("wait", "never")
    await settle()
    await client.cancel(cancelled)
    running = await client.delay("wait", "runs")
    await settle()
    await client.delay("wait", "later", priority="critical")
    await settle()
    return running


def total(overview: Overview) -> int:
    return (
        overview.refused
        + overview.held
        + sum(overview.queued)
        + overview.leased
        + overview.running
        + overview.away
        + overview.retrying
        + overview.succeeded
        + overview.failed
        + overview.cancelled
        + overview.expired
    )


async def test_the_overview_has_the_numbers_of_the_statistics(
    autojump_clock: MockClock,
) -> None:
    # S20 in docs/faults.md.
    async with open_world() as world, world.client() as client:
        await ends_of_all_kinds(world, client)
        overview = await client._operations.overview()
        tasks = world.tasks()
        assert overview.submitted == total(overview) == tasks.submitted == 6
        assert overview.succeeded == tasks.succeeded == 2
        assert overview.failed == tasks.failed == 1
        assert overview.cancelled == tasks.cancelled == 1
        assert overview.running == tasks.started == 1
        assert overview.queued == tasks.ready == [1, 0, 0, 0]
        assert overview.queued_bytes == tasks.queued_bytes
        assert overview.max_queued == world.plane.max_queued
        assert (overview.workers, overview.clients) == (1, 1)
        assert overview.functions == len(world.registry.names())
        assert overview.epoch == world.plane.epoch
        assert overview.worker_id == "control-plane"
        assert overview.store == "memory"
        assert not overview.is_durable
        world.let_go("runs")
        world.let_go("later")


async def test_a_subworker_is_shown_with_its_lanes_and_what_it_runs(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=2) as world, world.client() as client:
        first = await client.delay("wait", "runs")
        await settle()
        await trio.sleep(3)
        rows = await client._operations.workers()
        assert [row.worker_id for row in rows] == ["w1", "w2"]
        (busy,) = [row for row in rows if row.running]
        (idle,) = [row for row in rows if not row.running]
        (task,) = busy.running
        assert (task.task_id, task.name) == (first, "wait")
        assert task.started > 0
        assert (busy.load, idle.load) == (1, 0)
        assert busy.status == "active"
        assert busy.idle <= 5
        assert sorted(busy.functions) == sorted(world.registry.names())
        lane = next(lane for lane in busy.lanes if lane.name == task.lane)
        assert (lane.capacity, lane.leased, lane.running) == (1, 1, 1)
        assert busy.capacity == sum(lane.capacity for lane in busy.lanes)
        assert abs(busy.joined - task.started) < 60
        world.let_go("runs")


async def test_many_subworkers_come_in_several_pages(autojump_clock: MockClock) -> None:
    long = "f" * 200
    async with open_world(workers=0) as world:
        for function in list(world.registry.names()):
            del world.registry._functions[function]
        for number in range(150):

            def function() -> None:
                """Nothing."""

            function.__qualname__ = function.__name__ = f"{long}_{number}"
            world.registry.register(function)
        for number in range(12):
            await world.start_worker(f"w{number}")
        async with world.client() as client:
            rows = await client._operations.workers()
            assert [row.worker_id for row in rows] == [f"w{n}" for n in range(12)]
            assert all(row.function_count == 150 for row in rows)


def count(histogram: Histogram) -> int:
    assert len(histogram.counts) == len(BUCKETS) + 1
    return sum(histogram.counts)


async def test_wait_and_run_are_counted_by_function_and_priority(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        await client.submit_task("sleep", ("x", 2.0), priority="high")
        await client.submit_task("sleep", ("y", 20.0), priority="high")
        await client.submit_task("fail")
        never = await client.delay("wait", "runs")
        await settle()
        waits = await client.delay("wait", "too late")
        await client.cancel(waits)
        world.let_go("runs")
        await client.get_task_result(never)
        await settle()
        series = {
            (each.name, each.priority): each for each in await client._operations.metrics()
        }
        slept = series["sleep", 1]
        assert (slept.succeeded, slept.failed) == (2, 0)
        assert count(slept.run) == count(slept.wait) == count(slept.whole) == 2
        assert slept.run.total <= slept.whole.total
        assert series["fail", 2].failed == 1
        waited = series["wait", 2]
        assert (waited.succeeded, waited.cancelled) == (1, 1)
        # One of them never ran.
        assert (count(waited.run), count(waited.whole)) == (1, 2)
        overview = await client._operations.overview()
        for field in ("succeeded", "failed", "cancelled", "expired"):
            counted = sum(getattr(each, field) for each in series.values())
            assert counted == getattr(overview, field)


async def test_a_drained_subworker_ends_what_it_runs_takes_nothing_more_and_leaves(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        running = await client.delay("wait", "runs")
        await settle()
        await client._operations.drain_worker("w1")
        later = await client.delay("add", 1, 2)
        await trio.sleep(1)
        (row,) = await client._operations.workers()
        assert row.status == "draining"
        world.let_go("runs")
        await settle()
        await trio.sleep(1)
        assert await client._operations.workers() == []
        result = await client.get_task_result(running)
        assert result is not None
        assert result.result == "runs"
        await world.start_worker("w2")
        await settle()
        result = await client.get_task_result(later)
        assert result is not None
        assert result.result == 3


async def test_an_idle_subworker_can_be_drained_over_a_bad_network(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        await client._operations.drain_worker("w1")
        world.network.reset_pipes("tcp://127.0.0.1:5560")
        await trio.sleep(10)
        assert await client._operations.workers() == []


async def test_what_cannot_be_drained_is_said(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(LookupError, match="no subworker 'w9' has joined"):
            await client._operations.drain_worker("w9")


async def test_lanes_of_the_control_plane_itself_are_not_drained(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        with world.restarting():
            await settle()
            await world.start_plane(executes=True)
        async with world.client() as client:
            (row,) = await client._operations.workers()
            assert row.is_inside
            with pytest.raises(LookupError, match="send SIGTERM"):
                await client._operations.drain_worker(row.worker_id)


async def test_an_overview_survives_the_wire_whole(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        overview = await client._operations.overview()
        assert (
            msgspec.msgpack.decode(msgspec.msgpack.encode(overview), type=Overview) == overview
        )
        del world
