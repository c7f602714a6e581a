"""What operators see of tasks, and do with those that have ended."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, StoreUnavailable, TaskNotFound, TaskStatus
from fastworker._core._messages import WireStatus
from fastworker._core._stored import StoredState, StoredTask, TasksAsked, TasksPage
from fastworker._core._task_questions import TaskAction
from fastworker._store import _memory
from tests.kept_store import KeptStore
from tests.shell.test_durable_plane import durable, kill_and_restart
from tests.shell.world import World, open_world, settle

pytestmark = pytest.mark.trio


async def three_tasks(world: World, client: Client) -> list[str]:
    """One that has succeeded, one that has failed, one that runs."""
    done = await client.submit_task("add", (1, 2))
    failed = await client.submit_task("fail", ("no luck",))
    running = await client.delay("wait", "runs")
    await settle()
    return [done.task_id, failed.task_id, running]


async def test_tasks_are_listed_newest_first_in_pages_and_by_filters(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await durable(world)
        async with world.client() as client:
            done, failed, running = await three_tasks(world, client)

            async def ids(asked: TasksAsked) -> list[str]:
                return [
                    row.task_id for row in (await client._operations.list_tasks(asked)).rows
                ]

            assert await ids(TasksAsked()) == [running, failed, done]
            assert await ids(TasksAsked([StoredState.FAILURE])) == [failed]
            assert await ids(TasksAsked([StoredState.STARTED])) == [running]
            assert await ids(TasksAsked(name="add")) == [done]
            assert await ids(TasksAsked(worker="w1")) == [running, failed, done]
            assert await ids(TasksAsked(priorities=[0])) == []
            page = await client._operations.list_tasks(TasksAsked(limit=2))
            assert page.more
            assert await ids(TasksAsked(before=page.rows[-1].sequence)) == [done]
            world.let_go("runs")


async def test_one_task_is_described_with_arguments_error_and_traceback(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        await durable(world)
        async with world.client() as client:
            _, failed, running = await three_tasks(world, client)
            detail = await client._operations.describe_task(failed)
            assert detail.payload == b'[["no luck"],{}]'
            assert detail.outcome is not None
            assert "ValueError: no luck" in detail.outcome.traceback
            detail = await client._operations.describe_task(running)
            assert (detail.outcome, detail.row and detail.row.state) == (
                None,
                StoredState.STARTED,
            )
            with pytest.raises(TaskNotFound, match="'nobody': no such task is kept"):
                await client._operations.describe_task("nobody")
            world.let_go("runs")


async def test_an_ended_task_runs_again_under_its_id(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            done, failed, running = await three_tasks(world, client)
            told = await client._operations.act_on_tasks(
                TaskAction.REQUEUE, [done, failed, running, "nobody"]
            )
            assert told.done == [done, failed]
            assert {u.task_id: u.reason for u in told.untouched} == {
                running: "it has not ended: it is started",
                "nobody": "no such task is kept",
            }
            world.let_go("runs")
            await settle()
            again = await client.get_task_result(done)
            assert again is not None
            assert again.result == 3
        assert world.ran == [(1, 2), "runs", (1, 2)]
        assert store.rows[done].sequence > store.rows[running].sequence
        assert store.rows[done].outcome is not None


async def test_what_was_queued_again_survives_a_restart(autojump_clock: MockClock) -> None:
    """S1."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            done, _, _ = await three_tasks(world, client)
            await client._operations.act_on_tasks(TaskAction.REQUEUE, [done])
            await settle()
        await kill_and_restart(world, store)
        world.let_go("runs")
        await trio.sleep(5)
        assert world.ran.count((1, 2)) == 2


async def test_a_purged_task_is_forgotten(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            done, failed, running = await three_tasks(world, client)
            told = await client._operations.act_on_tasks(TaskAction.PURGE, [done, running])
            assert told.done == [done]
            await settle()
            assert set(store.rows) == {failed, running}
            async with world.client() as other:
                assert await other.get_task_result(done) is None
            world.let_go("runs")


async def test_a_result_that_memory_has_no_room_for_comes_from_the_store(
    autojump_clock: MockClock,
) -> None:
    """S13: also for a client that was away, and after a restart."""
    async with open_world() as world:
        store = KeptStore()
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(store=store, result_cache_max_size=1)
        await trio.sleep(2)
        async with world.client() as client:
            first = await client.submit_task("add", (1, 2))
            await client.submit_task("add", (3, 4))
        async with world.client() as other:
            result = await other.get_task_result(first.task_id)
            assert result is not None
            assert result.result == 3
            event = await other._usable_session().questions.query(first.task_id)
            assert event.status is WireStatus.SUCCESS


async def test_a_store_that_cannot_be_read_is_named(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(self: KeptStore, asked: TasksAsked) -> TasksPage:
        raise StoreUnavailable("the disk is gone")

    def read(self: KeptStore, ids: list[str]) -> list[object]:
        raise StoreUnavailable("the disk is gone")

    async with open_world() as world:
        await durable(world)
        monkeypatch.setattr(KeptStore, "page", page)
        monkeypatch.setattr(KeptStore, "read", read)
        async with world.client() as client:
            for call in (
                lambda: client._operations.list_tasks(TasksAsked()),
                lambda: client._operations.describe_task("x"),
                lambda: client._operations.act_on_tasks(TaskAction.PURGE, ["x"]),
            ):
                with pytest.raises(StoreUnavailable, match="the disk is gone"):
                    await call()
            assert (await client.submit_task("add", (1, 2))).status is TaskStatus.SUCCESS


async def test_what_an_operator_wants_is_done_in_portions_until_all_is_done(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much the arguments weigh, and however many tasks there are."""
    monkeypatch.setattr("fastworker._store_reader.MAX_ITEM_BYTES", 300)
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            ids = [(await client.submit_task("add", (n, 1))).task_id for n in range(10)]
            await settle()
            told = await client._operations.act_on_tasks(TaskAction.REQUEUE, [*ids, "nobody"])
            assert (sorted(told.done), len(told.untouched)) == (sorted(ids), 1)
            await trio.sleep(1)
            assert world.ran == [(n, 1) for n in range(10)] * 2
            assert (await client._operations.act_on_tasks(TaskAction.PURGE, ids)).done == ids
            await settle()
            assert store.rows == {}
            assert (await client._operations.act_on_tasks(TaskAction.PURGE, [])).done == []


async def test_a_result_is_waited_for_while_the_store_cannot_be_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S13: "not found" would be untrue."""
    reads: list[float] = []
    read = KeptStore.read

    def read_later(self: KeptStore, ids: list[str]) -> list[StoredTask]:
        reads.append(trio.current_time())
        if len(reads) < 4:
            raise StoreUnavailable("the disk is gone")
        return read(self, ids)

    async with open_world() as world:
        store = KeptStore()
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(store=store, result_cache_max_size=1)
        await trio.sleep(2)
        async with world.client() as client:
            first = await client.submit_task("add", (1, 2))
            await client.submit_task("add", (3, 4))
        monkeypatch.setattr(KeptStore, "read", read_later)
        async with world.client() as other:
            result = await other.get_task_result(first.task_id)
            assert result is not None
            assert result.result == 3
        assert reads[-1] - reads[0] == pytest.approx(1.5)


async def test_nothing_is_done_while_the_store_cannot_be_written(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            done, failed, _ = await three_tasks(world, client)
            store.failure = "no space left"
            with trio.move_on_after(1):  # that the store fails comes to light
                await client.submit_task("add", (5, 6))
            for action in TaskAction:
                with pytest.raises(StoreUnavailable, match="no space left"):
                    await client._operations.act_on_tasks(action, [done, failed])
            assert await client.get_task_result(done) is not None
            store.failure = ""
            await trio.sleep(5)
            assert (await client._operations.act_on_tasks(TaskAction.PURGE, [done])).done == [
                done
            ]
            world.let_go("runs")


async def _ids(client: Client) -> list[str]:
    return [row.task_id for row in (await client._operations.list_tasks(TasksAsked())).rows]


async def test_tasks_in_memory_can_be_looked_at_too(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        done, failed, running = await three_tasks(world, client)
        assert await _ids(client) == [running, failed, done]
        assert (await client._operations.act_on_tasks(TaskAction.REQUEUE, [done])).done == [
            done
        ]
        world.let_go("runs")
        await trio.sleep(1)
        assert world.ran.count((1, 2)) == 2
        assert (await client._operations.act_on_tasks(TaskAction.PURGE, [failed])).done == [
            failed
        ]
        await settle()
        assert await _ids(client) == [done, running]


async def test_what_a_search_of_many_tasks_looks_at_is_read_in_pieces(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory, "LOOKED_ROWS", 10)
    async with open_world(slots=50) as world, world.client() as client:
        first = (await client.submit_task("note", ("first",))).task_id
        for number in range(25):
            await client.delay("add", number, 1)
        await settle()
        reader = world.plane.store.reader()
        piece = reader.page(TasksAsked(name="note"))
        assert (piece.rows, piece.more) == ([], True)
        page = await client._operations.list_tasks(TasksAsked(name="note"))
        assert [row.task_id for row in page.rows] == [first]
        assert not page.following
        newest = await client._operations.list_tasks(TasksAsked(name="add", limit=3))
        assert (len(newest.rows), newest.following) == (3, newest.rows[-1].sequence)
