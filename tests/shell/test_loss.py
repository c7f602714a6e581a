"""Subworkers and control planes that vanish, and come back or do not."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import SubWorker, TaskResult, TaskStatus
from fastworker._transport._memory import Faults
from tests.shell.world import BASE, DISCOVERY, MANAGEMENT, open_world, settle

pytestmark = pytest.mark.trio

LOST = "lost: control plane restarted without a durable store"


async def test_a_worker_that_joins_late_takes_work_at_once(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        for number in range(3):
            await client.delay("wait", number)
        await settle()
        assert world.ran == [0]
        await world.start_worker("w2", slots=2)
        before = trio.current_time()
        while len(world.ran) < 3:
            await trio.sleep(0.001)
        assert trio.current_time() - before < 0.02
        loads = world.plane.get_subworker_status()["subworkers"]
        assert {name: each["load"] for name, each in loads.items()} == {"w1": 1, "w2": 2}


async def test_tasks_of_a_worker_whose_pipe_closed_run_elsewhere_after_the_grace(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        await world.start_worker("w1", MANAGEMENT)
        task_id = await client.delay("wait", "a")
        await settle()
        await world.start_worker("w2", BASE)
        before = trio.current_time()
        world.cut_off(MANAGEMENT)
        await _until(lambda: world.ran == ["a", "a"])
        assert trio.current_time() - before == pytest.approx(0.75, abs=0.02)
        assert client.get_status(task_id) in (TaskStatus.PENDING, TaskStatus.STARTED)
        world.let_go("a")
        await settle()
        result = client.get_result(task_id)
        assert result is not None
        assert result.worker_id == "w2"
        await trio.sleep(60)
        assert world.ran == ["a", "a"]


async def test_tasks_of_a_silent_worker_run_elsewhere_after_the_lease(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        silent = await world.start_worker("w1", MANAGEMENT)
        await client.delay("wait", "a")
        await settle()
        await world.start_worker("w2", BASE)
        before = trio.current_time()
        _gag(silent)
        await _until(lambda: len(world.ran) == 2, step=0.01)
        # 30 s after its last frame, which was about the start of the task.
        assert trio.current_time() - before == pytest.approx(30, abs=0.15)
        # It had stopped its own attempt by then, on its own clock.
        assert world.stopped == ["a"]
        world.let_go("a")
        await trio.sleep(60)
        assert world.ran == ["a", "a"]


async def test_a_worker_that_hears_nothing_dials_again_and_then_it_is_the_grace(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        await world.start_worker("w1", MANAGEMENT)
        await client.delay("wait", "a")
        await settle()
        await world.start_worker("w2", BASE)
        before = trio.current_time()
        world.network.partition(MANAGEMENT)
        await _until(lambda: world.ran == ["a", "a"], step=0.01)
        assert trio.current_time() - before == pytest.approx(15.75, abs=0.15)


async def test_a_worker_that_comes_back_within_the_grace_keeps_its_leases(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        await world.start_worker("w1", MANAGEMENT)
        task_id = await client.delay("wait", "a")
        await settle()
        await world.start_worker("w2", BASE)
        world.cut_off(MANAGEMENT)
        await trio.sleep(0.5)
        assert world.plane.get_subworker_status()["subworkers"]["w1"]["status"] == "away"
        world.network.heal(MANAGEMENT)
        await trio.sleep(5)
        world.let_go("a")
        await settle()
        assert world.ran == ["a"]
        assert world.stopped == []
        result = client.get_result(task_id)
        assert result is not None
        assert result.worker_id == "w1"


async def test_an_outcome_that_was_ready_while_the_pipe_was_gone_is_reported(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay("wait", "a")
        await settle()
        world.cut_off(MANAGEMENT)
        world.let_go("a")
        await trio.sleep(0.5)
        world.network.heal(MANAGEMENT)
        await trio.sleep(1)
        assert client.get_status(task_id) is TaskStatus.SUCCESS
        assert world.ran == ["a"]


async def test_a_worker_that_comes_back_after_the_grace_joins_anew(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay("wait", "a")
        await settle()
        world.cut_off(MANAGEMENT)
        await trio.sleep(3)
        assert world.plane.get_subworker_status()["total"] == 0
        world.network.heal(MANAGEMENT)
        await trio.sleep(1)
        # What it still ran was given up there, and started again.
        assert world.stopped == ["a"]
        assert world.ran == ["a", "a"]
        world.let_go("a")
        await settle()
        assert client.get_status(task_id) is TaskStatus.SUCCESS


async def test_a_process_that_is_known_to_have_ended_gets_no_grace(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        await world.start_worker("w1", MANAGEMENT)
        await client.delay("wait", "a")
        await settle()
        await world.start_worker("w2", BASE)
        world.cut_off(MANAGEMENT)
        world.plane.note_process_exit("w1")
        await settle()
        assert world.ran == ["a", "a"]


async def test_two_workers_with_one_name_are_told_apart(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        await world.start_worker("w1")
        for number in range(2):
            await client.delay("wait", number)
        await settle()
        status = world.plane.get_subworker_status()
        assert status["total"] == 2
        assert {name: each["load"] for name, each in status["subworkers"].items()} == {
            "w1": 1,
            "w1#2": 1,
        }


async def test_a_worker_may_join_by_any_address_of_the_control_plane(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        for address in (BASE, MANAGEMENT, DISCOVERY):
            worker = await world.start_worker("w1", address)
            assert (await client.submit_task("add", (1, 2))).result == 3
            worker.stop()
            await settle()
        assert world.plane.get_subworker_status()["total"] == 0


async def test_unfinished_tasks_fail_when_the_control_plane_restarts_without_a_store(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        results: list[TaskResult] = []

        async def submit(what: str) -> None:
            results.append(await client.submit_task("wait", (what,)))

        async with trio.open_nursery() as nursery:
            detached = await client.delay("wait", "detached")
            nursery.start_soon(submit, "running")
            await settle()
            before = trio.current_time()
            with world.restarting():
                await trio.sleep(0.3)
                await world.start_plane()
        assert trio.current_time() - before < 2
        assert [result.error for result in results] == [LOST]
        assert results[0].status is TaskStatus.FAILURE
        late = client.get_result(detached)
        assert late is not None
        assert late.error == LOST
        await trio.sleep(1)
        assert world.stopped == ["detached"]
        # Workers and clients are back.
        assert world.plane.get_subworker_status()["active"] == 1
        assert (await client.submit_task("add", (1, 2))).result == 3


async def test_a_submit_that_was_not_acknowledged_is_sent_again_after_a_restart(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        results: list[Any] = []

        async def submit(what: str) -> None:
            results.append((await client.submit_task("note", (what,))).result)

        async with trio.open_nursery() as nursery:
            world.network.partition(BASE)
            nursery.start_soon(submit, "sent")
            await settle()
            with world.restarting():
                nursery.start_soon(submit, "unsent")
                await trio.sleep(1)
                world.network.heal(BASE)
                await world.start_plane()
        assert sorted(results) == ["sent", "unsent"]
        assert sorted(world.ran) == ["sent", "unsent"]


async def test_results_that_had_arrived_survive_a_restart(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        result = await client.submit_task("add", (1, 2))
        with world.restarting():
            await settle()
            await world.start_plane()
        await trio.sleep(1)
        assert client.get_result(result.task_id) == result


async def test_a_control_plane_that_moved_is_found_again(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        await world.start_worker("w1", DISCOVERY)
        assert (await client.submit_task("add", (1, 2))).result == 3
        with world.restarting():
            await settle()
            await world.start_plane(
                base_address="tcp://127.0.0.1:6001", subworker_management_port=6002
            )
        assert (await client.submit_task("add", (3, 4))).result == 7
        assert world.plane.get_subworker_status()["active"] == 1


def _gag(worker: SubWorker) -> None:
    """Let nothing that the worker sends arrive, and its pipe stay up."""
    session = worker._session
    assert session is not None
    link: Any = session._connection._link
    link.send_nowait = lambda frame: True
    link.drop_pipe = lambda: None


async def test_a_client_that_was_sent_to_a_dead_port_asks_the_discovery_again(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        world.network.partition(BASE)
        client = world.new_client(connect_timeout=30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.start)
            await trio.sleep(5)
            with world.restarting():
                await settle()
                await world.start_plane(base_address="tcp://127.0.0.1:6001")
            before = trio.current_time()
        assert trio.current_time() - before < 3
        await client.aclose()


async def _until(condition: Any, step: float = 0.001) -> None:
    with trio.fail_after(100):
        while not condition():
            await trio.sleep(step)


async def test_a_task_that_was_taken_back_is_cancelled_however_many_sessions_are_lost(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client(retries=0) as client:
        await world.start_worker("w1", BASE)
        world.network.faults = Faults(loss=1.0)
        with trio.move_on_after(0.1) as scope:
            await client.delay("wait", "a")
        assert scope.cancelled_caught
        with world.restarting():
            await trio.sleep(1)
            world.network.faults = Faults()
            await world.start_plane()
        await trio.sleep(30)
        assert world.ran == world.stopped
        assert world.tasks().leased == 0
        assert client.statistics().waiting == 0
