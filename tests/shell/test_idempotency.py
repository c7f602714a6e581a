"""Keys, ids of one's own, and a queue that is full: as a program uses them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import Conflict, QueueFull, TaskStatus
from tests.kept_store import KeptStore
from tests.shell.test_durable_plane import durable, kill_and_restart
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_two_calls_with_one_key_are_one_task(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        ids = [await c.options(idempotency_key="k").delay("note", 1) for c in (client, other)]
        assert ids[0] == ids[1]
        await settle()
        again = await other.options(idempotency_key="k").submit_task("note", (1,))
        assert again.task_id == ids[0]
        assert again.result == 1
        assert world.ran == [1]


async def test_calls_of_one_client_share_a_task_too(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        keyed = client.options(idempotency_key="k")
        results: list[object] = []

        async def call() -> None:
            results.append((await keyed.submit_task("wait", (1,))).result)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call)
            await settle()
            world.let_go(1)
        handle = await keyed.submit("wait", 1)
        assert await handle.result() == 1
        assert results == [1, 1, 1]
        assert world.ran == [1]


async def test_other_arguments_under_the_same_key_are_a_conflict(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        await client.options(idempotency_key="k").delay("note", 1)
        for each in (client, other):
            with pytest.raises(Conflict, match="other content"):
                await each.options(idempotency_key="k").delay("note", 2)
        await settle()
        with pytest.raises(Conflict):
            await other.options(idempotency_key="k").submit_task("note", (2,))
        assert world.ran == [1]


async def test_a_task_gets_the_id_that_was_chosen(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        mine = client.options(task_id="order-17")
        assert await mine.delay("note", 1) == "order-17"
        result = await mine.submit_task("note", (1,))
        assert (result.task_id, result.result) == ("order-17", 1)
        with pytest.raises(Conflict, match="order-17"):
            await mine.delay("note", 2)
        assert world.ran == [1]


async def test_who_leaves_a_shared_task_stops_it_for_nobody_else(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        results: list[object] = []

        async def call(view: object) -> None:
            results.append((await view.submit_task("wait", (1,))).status)  # type: ignore[attr-defined]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, client.options(idempotency_key="k"))
            nursery.start_soon(call, client.options(idempotency_key="k"))
            await settle()
            with trio.move_on_after(1):
                await other.options(idempotency_key="k").submit_task("wait", (1,))
            with trio.move_on_after(1):
                await client.options(idempotency_key="k").submit_task("wait", (1,))
            await trio.sleep(3)
            assert world.stopped == []
            world.let_go(1)
        assert results == [TaskStatus.SUCCESS] * 2


async def test_when_the_last_has_left_a_shared_task_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        async with trio.open_nursery() as nursery:
            for each in (client, other):
                view = each.options(idempotency_key="k")
                nursery.start_soon(view.submit_task, "wait", (1,))
            await settle()
            nursery.cancel_scope.cancel()
        await settle()
        assert world.stopped == [1]


async def test_a_key_counts_after_a_restart_and_until_it_expires(
    autojump_clock: MockClock,
) -> None:
    """K1."""
    async with open_world() as world:
        store: KeptStore = await durable(world)
        async with world.client() as client:
            keyed = client.options(idempotency_key="k", idempotency_ttl=1000)
            assert (await keyed.submit_task("note", (1,))).result == 1
        await kill_and_restart(world, store)
        async with world.client() as client:
            keyed = client.options(idempotency_key="k", idempotency_ttl=1000)
            assert (await keyed.submit_task("note", (1,))).result == 1
            with pytest.raises(Conflict):
                await keyed.delay("note", 2)
            assert world.ran == [1]
            await trio.sleep(1100)  # the wall clock does not jump along
            assert (await keyed.submit_task("note", (2,))).result == 2
        assert world.ran == [1, 2]


async def test_a_submit_can_wait_for_room(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(max_queued=2)
        await world.start_worker("w1")
        async with world.client() as client:
            for number in range(2):
                await client.delay("wait", number)
            with pytest.raises(QueueFull):
                await client.delay("wait", 2)
            done: list[str] = []

            async def submit() -> None:
                done.append(await client.options(when_full="wait").delay("wait", 2))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit)
                await trio.sleep(100)
                assert done == []
                world.let_go(0)
                await trio.sleep(2)
                assert len(done) == 1
            world.let_go(1)
            world.let_go(2)
            await settle()
        assert world.ran == [0, 1, 2]


async def test_who_leaves_while_it_waits_for_room_has_queued_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(max_queued=1)
        await world.start_worker("w1")
        async with world.client() as client:
            await client.delay("wait", 0)
            with trio.move_on_after(50) as scope:
                await client.options(when_full="wait").submit_task("note", (1,))
            assert not scope.cancelled_caught, "the client's timeout of 30 s goes before"
            with trio.move_on_after(5) as scope:
                await client.options(when_full="wait").delay("note", 2)
            assert scope.cancelled_caught
            world.let_go(0)
            await trio.sleep(5)
        assert world.ran == [0]


async def test_room_is_given_in_the_order_in_which_it_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(max_queued=1)
        await world.start_worker("w1")
        async with world.client() as client, trio.open_nursery() as nursery:
            await client.delay("wait", 0)
            for number in range(1, 30):
                waiting = client.options(when_full="wait")
                nursery.start_soon(waiting.delay, "wait", number)
                await trio.sleep(0.1)
            for number in range(30):
                world.let_go(number)
                await trio.sleep(1.1)  # no more than the longest pause
                assert world.ran == list(range(min(number + 2, 30)))


async def test_a_queue_that_is_full_by_weight_is_waited_for_too(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(max_queued_bytes=32 * 1024 * 1024)
        await world.start_worker("w1")
        async with world.client() as client:
            for letter in "ab":
                await client.delay("wait", letter * 12_000_000)
            with pytest.raises(QueueFull, match="max_queued_bytes"):
                await client.delay("wait", "c" * 12_000_000)
            async with trio.open_nursery() as nursery:
                waiting = client.options(when_full="wait")
                nursery.start_soon(waiting.delay, "note", "c" * 12_000_000)
                await trio.sleep(10)
                world.let_go("a" * 12_000_000)
            world.let_go("b" * 12_000_000)
        await trio.sleep(10)
        assert [what[0] for what in world.ran] == ["a", "b", "c"]


async def test_whose_time_is_over_in_a_full_queue_is_told_so(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(max_queued=1)
        await world.start_worker("w1")
        async with world.client(timeout=5) as client:
            await client.delay("wait", 0)
            for key in (None, "k"):
                waiting = client.options(when_full="wait", idempotency_key=key)
                result = await waiting.submit_task("note", (1,))
                assert result.error == "timed out after 5 s while the queue was full"
            world.let_go(0)
            await trio.sleep(5)
        assert world.ran == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"idempotency_key": ""},
        {"task_id": "x" * 300},
        {"idempotency_key": "a", "task_id": "b"},
        {"idempotency_ttl": -1},
        {"when_full": "never"},
    ],
)
async def test_what_cannot_be_a_key_is_refused_at_once(wrong: dict[str, object]) -> None:
    async with open_world() as world:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            world.new_client().options(**wrong)  # type: ignore[arg-type]
