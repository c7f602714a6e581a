"""A control plane that is killed and comes back with its store, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from trio.testing import MockClock

from fastworker import StoreUnavailable, TaskCancelled, TaskLost, TaskStatus
from fastworker._core._messages import WireStatus
from fastworker._task_options import TaskOptions
from tests.kept_store import KeptStore
from tests.shell.callback_listener import HERE, listening
from tests.shell.world import World, open_world, settle

pytestmark = pytest.mark.trio


async def kill_and_restart(world: World, store: KeptStore) -> None:
    with world.restarting():
        await trio.sleep(2)  # callbacks that are under way get a moment
        await world.start_plane(store=store)


async def durable(world: World) -> KeptStore:
    """Give the world a control plane with a store."""
    store = KeptStore()
    await kill_and_restart(world, store)
    await trio.sleep(2)
    return store


async def test_a_caller_gets_its_result_although_the_control_plane_was_killed(
    autojump_clock: MockClock,
) -> None:
    """K1, S1, S12: a running attempt goes on; a waiting one runs after the restart."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client, trio.open_nursery() as nursery:
            results: list[object] = []

            async def call(what: str) -> None:
                results.append((await client.submit_task("wait", (what,))).result)

            nursery.start_soon(call, "runs")
            await settle()
            nursery.start_soon(call, "waits")
            await settle()
            await kill_and_restart(world, store)
            await trio.sleep(2)
            world.let_go("runs")
            world.let_go("waits")
        assert sorted(map(str, results)) == ["runs", "waits"]
        assert world.ran == ["runs", "waits"]
        assert world.stopped == []
        assert world.plane.replayed.tasks == 2


async def test_a_delayed_task_survives_though_nobody_waits(autojump_clock: MockClock) -> None:
    """S1."""
    async with open_world(workers=0) as world:
        store = await durable(world)
        async with world.client() as client:
            await world.start_worker("w0")
            await settle()
            world.cut_off("tcp://127.0.0.1:5560")
            await trio.sleep(2)
            task_id = await client.delay("note", "it ran")
        world.network.heal("tcp://127.0.0.1:5560")
        await kill_and_restart(world, store)
        await trio.sleep(10)
        assert world.ran == ["it ran"]
        async with world.client() as client:
            result = await client.get_task_result(task_id)
            assert result is not None
            assert result.status is TaskStatus.SUCCESS


async def test_a_result_can_be_asked_for_after_a_restart(autojump_clock: MockClock) -> None:
    """S13."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            task = await client.submit_task("add", (1, 2))
        await kill_and_restart(world, store)
        async with world.client() as client:
            result = await client.get_task_result(task.task_id)
            assert result is not None
            assert result.result == 3


async def test_a_callback_that_was_not_delivered_is_after_a_restart(
    autojump_clock: MockClock,
) -> None:
    """L6."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            task_id = await client.delay_with_callback("add", HERE, 1, 2)
            await settle()
            await kill_and_restart(world, store)
            async with listening(world.network) as listener:
                await trio.sleep(60)
                assert listener.task_ids == [task_id]
                await kill_and_restart(world, store)
                await trio.sleep(60)
                assert listener.task_ids == [task_id], "told although it was settled"


async def test_a_full_disk_refuses_new_tasks_until_there_is_room(
    autojump_clock: MockClock,
) -> None:
    """D1: what runs goes on, and its outcome comes once it can be kept."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client, trio.open_nursery() as nursery:
            results: list[object] = []

            async def call() -> None:
                results.append((await client.submit_task("wait", ("runs",))).result)

            nursery.start_soon(call)
            await settle()
            store.failure = "no space is left on the disk"
            with pytest.raises(StoreUnavailable, match="no space is left on the disk"):
                await client.delay("note", "refused")
            with pytest.raises(StoreUnavailable, match="try again later"):
                await client.delay("note", "refused too")
            world.let_go("runs")
            await settle()
            assert results == []
            store.failure = ""
            await trio.sleep(5)
            assert results == ["runs"]
            await client.delay("note", "taken")
            await settle()
        assert world.ran == ["runs", "taken"]
        assert len(store.rows) == 2


async def test_a_task_that_was_held_when_the_disk_was_full_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    """S1: it was told to be kept, and nobody had it any more."""
    async with open_world(workers=0) as world:
        store = await durable(world)
        async with world.client() as client, trio.open_nursery() as nursery:
            results: list[object] = []

            async def call() -> None:
                results.append((await client.submit_task("note", ("held",))).result)

            nursery.start_soon(call)
            await settle()
            store.failure = "no space is left on the disk"
            await world.start_worker()
            await settle()
            assert store.rows == {}
            store.failure = ""
            await trio.sleep(5)
            assert results == ["held"]
        assert world.ran == ["held"]
        assert len(store.rows) == 1


async def test_who_asks_hears_of_an_end_only_once_it_is_durable(
    autojump_clock: MockClock,
) -> None:
    """S2: a control plane that dies now would run the task again, to another end."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            task_id = await client.delay("wait", "runs")
            await settle()
            store.failure = "full"
            world.let_go("runs")
            await trio.sleep(1)
            result = await client.get_task_result(task_id)
            assert result is not None
            assert (result.status, result.worker_id) == (TaskStatus.STARTED, "w1")
            store.failure = ""
            await trio.sleep(3)
            result = await client.get_task_result(task_id)
            assert result is not None
            assert result.result == "runs"


async def test_an_attached_task_whose_client_does_not_come_back_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        store = await durable(world)
        async with trio.open_nursery() as nursery:
            client = world.new_client()
            await client.start()
            nursery.start_soon(client.submit_task, "wait", ("runs",))
            await settle()
            world.cut_off("tcp://127.0.0.1:5555")
            await kill_and_restart(world, store)
            await trio.sleep(20)
            assert world.stopped == []
            await trio.sleep(15)
            assert world.stopped == ["runs"]
            nursery.cancel_scope.cancel()
        client.stop()
        await trio.sleep(1)


async def test_a_planned_stop_keeps_what_waits(autojump_clock: MockClock) -> None:
    """L5."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            await client.delay("wait", "runs")
            await settle()
            waiting = await client.delay("note", "waits")
            world.plane.drain()
            await trio.sleep(1)
            world.let_go("runs")
            await trio.sleep(40)
        assert not store.rows[waiting].state.is_terminal
        await world.start_plane(store=store)
        await trio.sleep(5)
        assert world.ran == ["runs", "waits"]


async def test_the_history_is_as_long_as_was_said(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        store = KeptStore()
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(store=store, history_max_size=3, history_ttl_seconds=1e9)
        await trio.sleep(2)
        async with world.client() as client:
            ids = [await client.delay("note", number) for number in range(5)]
            await trio.sleep(20)
        assert set(store.rows) == set(ids[2:])
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(store=store, history_ttl_seconds=0.001)
        await trio.sleep(20)
        assert store.rows == {}


async def test_what_may_run_only_once_starts_when_its_lease_is_durable(
    autojump_clock: MockClock,
) -> None:
    """S9: with a store that fails it waits, while other tasks run on."""
    async with open_world(workers=0) as world:
        store = await durable(world)
        world.registry.register(world.note, name="once", options=TaskOptions(on_lost="fail"))
        await world.start_worker("w1")
        async with world.client() as client:
            await client.delay("wait", "blocks")
            await settle()
            once = await client.delay("once", "once")
            others = await client.delay("note", "other")
            store.failure = "no space is left on the disk"
            world.let_go("blocks")
            await trio.sleep(5)
            assert world.ran == ["blocks", "other"], others
            store.failure = ""
            await trio.sleep(5)
            assert world.ran == ["blocks", "other", "once"]
            assert store.rows[once].state.name == "SUCCESS"


async def test_what_may_run_only_once_is_not_run_again_when_all_have_died(
    autojump_clock: MockClock,
) -> None:
    """K1, K2."""
    async with open_world(workers=0) as world:
        store = await durable(world)
        world.registry.register(world.wait, name="once", options=TaskOptions(on_lost="fail"))
        async with trio.open_nursery() as machine, world.client() as client:
            await machine.start(world.new_worker("w1").run)
            once = await client.delay("once", "once")
            await settle()
            world.cut_off("tcp://127.0.0.1:5560")
            machine.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await kill_and_restart(world, store)
        world.network.heal("tcp://127.0.0.1:5560")
        await world.start_worker("w2")
        async with world.client() as client:
            await trio.sleep(20)
            status = await client._usable_session().questions.query(once)
            assert status.status is WireStatus.STARTED, "it may be running"
            await trio.sleep(20)
            result = await client.get_task_result(once)
            assert result is not None
            assert result.status is TaskStatus.FAILURE
            assert "it is not run again (on_lost='fail')" in str(result.error)
        assert world.ran == ["once"]


async def test_what_a_restart_ends_counts_as_later_than_what_had_ended_before(
    autojump_clock: MockClock,
) -> None:
    """S13: outcomes are forgotten in the order of their ends. Found by simulated seed 5151."""

    async def give_one() -> AsyncIterator[int]:
        yield 1
        await trio.sleep_forever()

    async with open_world(workers=0) as world:
        store = await durable(world)
        world.registry.register(give_one)
        await world.start_worker("w0")
        async with world.client() as client:
            await client.submit_task("note", ("before",))
            async with client.stream("give_one") as values:
                await anext(values)
                await trio.sleep(2)
                # Its wall clock is that of the machine, and no second has gone by there.
                [ended] = [row for row in store.rows.values() if row.state.is_terminal]
                before = msgspec.structs.replace(ended, changed=ended.changed - 100)
                store.rows[ended.spec.id] = before
                await kill_and_restart(world, store)
                with pytest.raises((TaskCancelled, TaskLost)):
                    await anext(values)
        state = world.plane._state
        assert state is not None
        state.check()
