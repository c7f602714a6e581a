"""Control planes and subworkers: started, drained, stopped, cancelled, started again."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    AddressInUse,
    ControlPlaneUnreachable,
    LocalProtocolError,
    SubmitRefused,
    TaskStatus,
)
from fastworker._transport._memory import Faults
from tests.shell.world import BASE, World, open_world, settle

pytestmark = pytest.mark.trio


async def test_both_workers_are_ready_when_start_returns(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        plane, worker = world.new_plane(), world.new_worker()
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(plane.start)
            assert plane.epoch > 0
            await nursery.start(worker.start)
            assert plane.get_subworker_status()["total"] == 1
            assert trio.current_time() - before < 0.01
            async with world.client() as client:
                assert (await client.submit_task("add", (1, 2))).result == 3
            worker.stop()
            plane.stop()


async def test_an_address_that_is_taken_is_named_and_nothing_is_left(
    autojump_clock: MockClock,
) -> None:
    # N11 in docs/faults.md.
    async with open_world() as world:
        listeners = set(world.network._listeners)
        second = world.new_plane(base_address="tcp://127.0.0.1:6000")
        with pytest.raises(AddressInUse, match=r"5560|5550"):
            await second.start()
        assert set(world.network._listeners) == listeners
        assert second.statistics() is None


async def test_a_worker_without_a_control_plane_names_the_address_and_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        worker = world.new_worker(address="tcp://127.0.0.1:7000", connect_timeout=2)
        before = trio.current_time()
        with pytest.raises(ControlPlaneUnreachable) as caught:
            await worker.start()
        assert trio.current_time() - before == pytest.approx(2)
        assert caught.value.address == "tcp://127.0.0.1:7000"
        assert world.count_links() == 0


async def test_running_twice_at_once_is_refused(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        worker = await world.start_worker()
        with pytest.raises(LocalProtocolError, match="is running already"):
            await worker.run()
        with pytest.raises(LocalProtocolError, match="is running already"):
            await world.plane.run()
        async with world.client() as client:
            assert (await client.submit_task("add", (1, 2))).result == 3


async def test_a_worker_runs_again_after_it_has_ended(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        worker = world.new_worker()
        async with world.client() as client:
            for number in range(3):
                async with trio.open_nursery() as nursery:
                    await nursery.start(worker.run)
                    assert (await client.submit_task("add", (1, number))).result == 1 + number
                    worker.stop()
                assert worker.statistics() is None
                assert world.plane.get_subworker_status()["total"] == 0


async def test_a_control_plane_runs_again_after_it_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        plane = world.plane
        epoch = plane.epoch
        plane.stop()
        await settle()
        assert plane.epoch == 0
        await world.nursery.start(plane.run)
        assert plane.epoch > epoch
        await world.start_worker()
        async with world.client() as client:
            assert (await client.submit_task("add", (1, 2))).result == 3


async def test_stop_and_drain_are_idempotent_and_harmless_when_nothing_runs(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        worker, plane = world.new_worker(), world.new_plane()
        for each in (worker, plane):
            each.stop()
            each.drain()
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            for _ in range(2):
                worker.drain()
            for _ in range(2):
                worker.stop()
        worker.stop()
        worker.drain()
        await settle()
        assert world.plane.get_subworker_status()["total"] == 0


async def test_a_stopped_worker_says_goodbye_and_its_tasks_run_elsewhere_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        first = await world.start_worker("w1")
        task_id = await client.delay("wait", "a")
        await settle()
        await world.start_worker("w2")
        first.stop()
        await settle()
        assert world.ran == ["a", "a"]
        assert world.stopped == ["a"]
        world.let_go("a")
        await settle()
        result = client.get_result(task_id)
        assert result is not None
        assert (result.status, result.worker_id) == (TaskStatus.SUCCESS, "w2")


async def test_a_draining_worker_ends_what_runs_and_takes_nothing_more(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = world.new_worker()
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            running = await client.delay("sleep", "running", 10.0)
            queued = await client.delay("note", "queued")
            await settle()
            worker.drain()
            await settle()
            assert (
                world.plane.get_subworker_status()["subworkers"]["w1"]["status"] == "draining"
            )
        assert world.ran == ["running"]
        await settle()
        assert client.get_status(running) is TaskStatus.SUCCESS
        assert client.get_status(queued) is TaskStatus.PENDING
        await world.start_worker("w2")
        await settle()
        assert client.get_status(queued) is TaskStatus.SUCCESS


async def test_what_it_runs_is_told_up_to_the_last_event_of_its_lanes(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = world.new_worker(slots=2)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            session = worker._session
            assert session is not None
            running = await client.delay("wait", "running")
            while not session._sink._events:
                # One turn at a time, so that the loop has not seen the event yet.
                await trio.lowlevel.cancel_shielded_checkpoint()
            statistics = worker.statistics()
            assert statistics is not None
            assert statistics.running == 1
            await settle()
            # And the event was not lost on the way.
            assert client.get_status(running) is TaskStatus.STARTED
            world.let_go("running")
            await settle()
            assert client.get_status(running) is TaskStatus.SUCCESS
            nursery.cancel_scope.cancel()


async def test_a_drain_can_be_watched_and_called_off(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:

        def status() -> object:
            return world.plane.get_subworker_status()["subworkers"]["w1"]["status"]

        worker = world.new_worker(slots=2)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            running = await client.delay("wait", "running")
            await settle()
            worker.drain()
            await settle()
            queued = await client.delay("note", "queued")
            await trio.sleep(20)
            statistics = worker.statistics()
            assert statistics is not None
            assert (statistics.is_draining, statistics.running) == (True, 1)
            assert status() == "draining"
            assert world.plane.get_subworker_status()["active"] == 0
            assert client.get_status(queued) is TaskStatus.PENDING

            worker.resume()
            worker.resume()
            await settle()
            assert status() == "active"
            assert client.get_status(queued) is TaskStatus.SUCCESS
            world.let_go("running")
            await trio.sleep(60)  # nothing of the drain's time is left
            assert client.get_status(running) is TaskStatus.SUCCESS
            assert worker.statistics() is not None
            worker.drain()
        assert world.plane.get_subworker_status()["subworkers"] == {}


async def test_what_a_draining_control_plane_in_memory_will_lose_is_said_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world() as world, world.client() as client:
        await client.delay("wait", "running")
        await settle()
        await client.delay("note", "queued")
        await settle()
        world.plane.drain()
        await settle()
        assert "1 task: 1 ready; these will be lost" in caplog.text
        assert "these are lost" not in caplog.text
        world.let_go("running")
        await trio.sleep(1)
        assert "1 task: 1 ready; these are lost" in caplog.text


async def test_draining_a_worker_gives_up_after_its_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = world.new_worker(drain_timeout=5)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            await client.delay("wait", "for ever")
            await settle()
            before = trio.current_time()
            worker.drain()
        assert trio.current_time() - before == pytest.approx(5, abs=0.01)
        assert "1 attempts still run after 5 s of draining" in caplog.text
        await settle()
        assert world.stopped == ["for ever"]


async def test_a_draining_control_plane_refuses_new_tasks_and_delivers_what_runs(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        results: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_submit, client, "running", results)
            await settle()
            queued = await client.delay("note", "queued")
            world.plane.drain()
            await settle()
            with pytest.raises(SubmitRefused, match="shutting down"):
                await client.delay("note", "refused")
            # What is under way when the listeners close is lost.
            world.network.faults = Faults(delay=0.02)
            world.let_go("running")
        assert results[0].result == "running"
        await trio.sleep(1)
        assert world.plane.statistics() is None
        assert world.ran == ["running"]
        assert client.get_status(queued) is TaskStatus.PENDING


async def test_draining_a_control_plane_gives_up_after_its_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        plane = world.new_plane(drain_timeout=5)
        async with trio.open_nursery() as nursery:
            await nursery.start(plane.run)
            await world.start_worker()
            async with world.client() as client:
                await client.delay("wait", "for ever")
                await settle()
                before = trio.current_time()
                plane.drain()
                while plane.epoch:
                    await trio.sleep(0.1)
                assert 5 <= trio.current_time() - before <= 7
        assert "tasks still run after 5 s of draining" in caplog.text
        assert "1 task: 1 running; these are lost, as the store was in memory" in caplog.text


async def test_a_control_plane_executes_tasks_itself(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        plane = await world.start_plane(executes=True, concurrency=2)
        async with world.client() as client:
            before = trio.current_time()
            assert (await client.submit_task("add", (1, 2))).result == 3
            assert trio.current_time() - before < 0.1
            status = plane.get_subworker_status()
            assert list(status["subworkers"]) == ["control-plane"]

            # Both subworkers, its own and the other one, get their share.
            await world.start_worker("w1", slots=2)
            for number in range(4):
                await client.delay("wait", number)
            await settle()
            loads = plane.get_subworker_status()["subworkers"]
            assert {name: each["load"] for name, each in loads.items()} == {
                "control-plane": 2,
                "w1": 2,
            }
            for number in range(4):
                world.let_go(number)
            plane.drain()
            await trio.sleep(1)
            assert plane.statistics() is None


@pytest.mark.parametrize("which", ["plane", "own_lanes", "worker"])
async def test_run_may_be_cancelled_at_every_step(
    autojump_clock: MockClock, which: str
) -> None:
    async with open_world(workers=0) as world:
        if which != "worker":
            world.plane.stop()
            await settle()
        listeners = set(world.network._listeners)

        def new() -> Any:
            if which == "worker":
                return world.new_worker(address=BASE)
            return world.new_plane(executes=which == "own_lanes")

        for steps in range(25):
            worker = new()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker.run)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            assert worker.statistics() is None
            assert world.count_links() == 0
            assert set(world.network._listeners) == listeners
        if which == "worker":
            await trio.sleep(40)
            assert world.plane.get_subworker_status()["total"] == 0
        else:
            await _works(world)


async def _works(world: World) -> None:
    await world.start_plane()
    await world.start_worker()
    async with world.client() as client:
        assert (await client.submit_task("add", (1, 2))).result == 3


async def _submit(client: Any, what: str, results: list[Any]) -> None:
    results.append(await client.submit_task("wait", (what,)))
