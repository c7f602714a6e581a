"""``submit_task``: the outcome, or after ``timeout`` seconds where the task was."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, TaskResult, TaskStatus
from tests.shell.world import MANAGEMENT, open_world, settle

pytestmark = pytest.mark.trio


async def test_submit_task_returns_what_the_function_returned(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        result = await client.submit_task("sleep", ("a", 3.0))
        assert result.status is TaskStatus.SUCCESS
        assert result.result == "a"
        assert result.error is None
        assert client.get_result(result.task_id) == result


async def test_a_raising_function_gives_a_failure_with_line_and_traceback(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        result = await client.submit_task("fail", ("the disk is full",))
        assert result.status is TaskStatus.FAILURE
        assert result.result is None
        assert result.error == "ValueError: the disk is full"
        assert result.traceback is not None
        assert result.traceback.startswith("Traceback (most recent call last)")
        assert "raise ValueError(message)" in result.traceback
        assert "fastworker" not in result.traceback


async def test_a_timeout_while_queued_says_so_and_cancels_the_task(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client(timeout=7) as client:
        await client.delay("wait", "blocker")
        before = trio.current_time()
        result = await client.submit_task("note", ("never",))
        assert trio.current_time() - before == 7
        assert result.status is TaskStatus.FAILURE
        assert result.error == "timed out after 7 s while queued"
        await _assert_cancelled(client, result)
        world.let_go("blocker")
        await settle()
        assert world.ran == ["blocker"]
        assert world.tasks().cancelled == 1


async def test_a_timeout_while_running_says_where(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client(timeout=2.5) as client:
        before = trio.current_time()
        result = await client.submit_task("wait", ("for ever",))
        assert trio.current_time() - before == 2.5
        assert result.status is TaskStatus.FAILURE
        assert result.error == "timed out after 2.5 s while running on w1"
        assert result.worker_id == "w1"
        await settle()
        assert world.stopped == ["for ever"]
        await _assert_cancelled(client, result)


async def test_a_timeout_before_it_was_sent_says_so(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client(timeout=3) as client:
        world.cut_off(world.plane.base_address)
        world.cut_off(world.plane.discovery_address)
        await trio.sleep(1)
        before = trio.current_time()
        result = await client.submit_task("note", ("never",))
        assert trio.current_time() - before == 3
        assert result.status is TaskStatus.FAILURE
        assert (
            result.error
            == "timed out after 3 s before it was sent: no control plane was reached"
        )
        assert client.statistics().waiting == 0
        world.network.heal(world.plane.base_address)
        world.network.heal(world.plane.discovery_address)
        await trio.sleep(10)
        assert world.ran == []
        assert world.tasks().submitted == 0


async def test_a_timeout_during_a_partition_takes_the_task_back_when_it_is_healed(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client(timeout=3) as client:
        await client.delay("wait", "blocker")
        world.network.partition(world.plane.base_address)
        result = await client.submit_task("note", ("never",))
        assert result.status is TaskStatus.FAILURE
        world.network.heal(world.plane.base_address)
        await trio.sleep(10)
        world.let_go("blocker")
        await trio.sleep(10)
        assert world.ran == ["blocker"]
        await _assert_cancelled(client, result)


async def test_a_cancelled_caller_takes_its_queued_task_back(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        await client.delay("wait", "blocker")
        with trio.move_on_after(1):
            await client.submit_task("note", ("never",))
        await settle()
        # The deadline has gone along: it may have passed there a moment before.
        assert world.tasks().cancelled + world.tasks().expired == 1
        assert client.statistics().waiting == 1
        world.let_go("blocker")
        await settle()
        assert world.ran == ["blocker"]
        assert client.statistics().waiting == 0


async def test_a_cancelled_caller_stops_its_running_task(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        with trio.move_on_after(1):
            await client.submit_task("wait", ("a",))
        await settle()
        assert world.stopped == ["a"]
        assert client.statistics().waiting == 0


async def test_a_cancelled_caller_of_an_unsent_task_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        world.cut_off(world.plane.base_address)
        world.cut_off(world.plane.discovery_address)
        await trio.sleep(1)
        with trio.move_on_after(1):
            await client.submit_task("note", ("never",))
        assert client.statistics().waiting == client.statistics().unsent == 0
        world.network.heal(world.plane.base_address)
        world.network.heal(world.plane.discovery_address)
        await trio.sleep(10)
        assert world.tasks().submitted == 0


async def test_a_task_that_is_lost_once_runs_again_for_the_same_caller(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        await world.start_worker("w1", MANAGEMENT)
        async with trio.open_nursery() as nursery:
            results: list[TaskResult] = []

            async def submit() -> None:
                results.append(await client.submit_task("wait", ("a",)))

            nursery.start_soon(submit)
            await settle()
            await world.start_worker("w2", world.plane.base_address)
            world.cut_off(MANAGEMENT)
            await trio.sleep(1)
            assert world.ran == ["a", "a"]
            world.let_go("a")
        assert results[0].worker_id == "w2"


async def test_a_timeout_is_kept_although_the_network_takes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client(timeout=1) as client,
        trio.open_nursery() as nursery,
    ):
        await trio.sleep(6)  # the next beat is far
        assert client._session is not None
        link: Any = client._session._connection._link
        link.send_nowait = lambda frame: False
        link.wait_sendable = trio.sleep_forever
        # The query wakes the writer, which waits for the network from then on.
        with trio.move_on_after(0.3):
            await client.get_task_result("any")
        nursery.start_soon(_time_out, client)


async def _time_out(client: Client) -> None:
    before = trio.current_time()
    result = await client.submit_task("note", ("never",))
    assert trio.current_time() - before == 1
    assert result.error is not None
    assert result.error.startswith("timed out after 1 s")


async def _assert_cancelled(client: Client, result: TaskResult) -> None:
    kept = await client.get_task_result(result.task_id)
    assert kept is not None
    assert kept.status is TaskStatus.CANCELLED
    assert client.get_status(result.task_id) is TaskStatus.CANCELLED
