"""Several callers who have one task, and what each of them does to the others."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, Conflict, ResultExpired, TaskStatus
from tests.shell.cancel_steps import assert_idle, cancelled_at, sweep
from tests.shell.test_durable_plane import durable, kill_and_restart
from tests.shell.world import BASE, DISCOVERY, open_world, settle

pytestmark = pytest.mark.trio


async def test_who_left_before_it_was_sent_leaves_nothing_behind_for_the_next(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        world.cut_off(BASE)
        world.cut_off(DISCOVERY)
        await trio.sleep(1)
        keyed = client.options(idempotency_key="k")
        with trio.move_on_after(2):
            await keyed.delay("note", 1)
        world.network.heal(BASE)
        world.network.heal(DISCOVERY)
        await trio.sleep(3)
        with trio.fail_after(10):
            assert (await keyed.submit_task("note", (1,))).result == 1


async def test_a_submit_that_is_refused_forgets_no_result(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        keyed = client.options(idempotency_key="k")
        result = await keyed.submit_task("note", (1,))
        with pytest.raises(Conflict):
            await keyed.delay("note", 2)
        assert client.get_result(result.task_id) == result


async def test_who_is_cancelled_while_it_waits_on_a_handle_only_leaves(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        handles = [
            await each.options(idempotency_key="k").submit("wait", 1)
            for each in (client, client, other)
        ]
        await settle()
        for handle in handles[1:]:
            with trio.move_on_after(1):
                await handle.result()
            await trio.sleep(3)
            assert world.stopped == []
        with trio.move_on_after(1):
            await handles[0].result()
        await settle()
        assert world.stopped == [1]
        assert handles[1].status() is TaskStatus.CANCELLED


async def test_a_handle_that_is_cancelled_stops_the_task_for_all(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        first = await client.options(idempotency_key="k").submit("wait", 1)
        second = await other.options(idempotency_key="k").submit("wait", 1)
        await settle()
        await second.cancel()
        assert world.stopped == [1]
        assert (await first.wait()).status is TaskStatus.CANCELLED


async def test_what_was_delayed_goes_on_whoever_leaves(autojump_clock: MockClock) -> None:
    """S1."""
    async with open_world() as world, world.client() as other:
        async with world.client() as client:
            await client.options(idempotency_key="k").delay("wait", 1)
        await settle()
        with trio.move_on_after(1):
            await other.options(idempotency_key="k").submit_task("wait", (1,))
        await trio.sleep(100)
        assert world.stopped == []
        world.let_go(1)
        assert (await other.options(idempotency_key="k").submit_task("wait", (1,))).result == 1
        assert world.ran == [1]


async def test_the_deadline_of_the_first_is_none_of_the_others(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        results: list[object] = []

        async def call(client: Client) -> None:
            result = await client.options(idempotency_key="k").submit_task("wait", (1,))
            results.append(result.result)

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(5):
                async with trio.open_nursery() as short:
                    short.start_soon(call, client)
                    await settle()
                    nursery.start_soon(call, other)
            await trio.sleep(5)
            world.let_go(1)
        assert results == [1]


async def test_who_comes_back_after_leaving_has_a_part_in_it_again(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        mine, others = (c.options(idempotency_key="k") for c in (client, other))
        results: list[object] = []

        async def call() -> None:
            results.append((await mine.submit_task("wait", (1,))).result)

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(10):
                async with trio.open_nursery() as short:
                    short.start_soon(others.submit_task, "wait", (1,))
                    await settle()
                    with trio.move_on_after(1):
                        await mine.submit_task("wait", (1,))
                    nursery.start_soon(call)
            await trio.sleep(2)
            assert world.stopped == []
            world.let_go(1)
        assert results == [1]
        assert world.ran == [1]


async def test_both_clients_get_the_result_over_a_restart(autojump_clock: MockClock) -> None:
    """K1."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client, world.client() as other:
            results: list[object] = []

            async def call(client: Client) -> None:
                keyed = client.options(idempotency_key="k")
                results.append((await keyed.submit_task("wait", (1,))).result)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, client)
                nursery.start_soon(call, other)
                await settle()
                await kill_and_restart(world, store)
                await trio.sleep(3)
                world.let_go(1)
            assert results == [1, 1]
            assert world.ran == [1]


async def test_what_memory_has_lost_of_a_task_the_store_tells(
    autojump_clock: MockClock,
) -> None:
    """S13."""
    async with open_world() as world:
        await durable(world)
        for _ in range(2):
            async with world.client() as client:
                good, bad = (
                    client.options(idempotency_key=key, idempotency_ttl=100_000)
                    for key in ("good", "bad")
                )
                assert (await good.submit_task("note", (1,))).result == 1
                assert (await bad.submit_task("fail")).error == "ValueError: no luck"
            await trio.sleep(50_000)
        assert world.ran == [1]


async def test_of_a_task_whose_outcome_nobody_has_any_more_it_is_said_so(
    autojump_clock: MockClock,
) -> None:
    """S13: it never runs again under its key."""
    async with open_world() as world:
        store = await durable(world)
        async with world.client() as client:
            keyed = client.options(idempotency_key="k", idempotency_ttl=100_000)
            assert (await keyed.submit_task("note", (1,))).result == 1
        await trio.sleep(50_000)
        store.rows.clear()
        async with world.client() as client:
            keyed = client.options(idempotency_key="k", idempotency_ttl=100_000)
            handle = await keyed.submit("note", 1)
            with pytest.raises(ResultExpired, match="has ended, and its outcome is no longer"):
                await handle.result()
        assert world.ran == [1]


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
async def test_wherever_one_of_two_is_cancelled_the_other_gets_the_result(
    autojump_clock: MockClock, is_first: bool
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:

        async def attempt(steps: int) -> bool:
            mine, others = (c.options(task_id=f"t{steps}") for c in (client, other))
            results: list[object] = []

            async def call() -> None:
                results.append((await others.submit_task("sleep", (steps, 0.05))).result)

            async with trio.open_nursery() as nursery:
                if not is_first:
                    nursery.start_soon(call)
                    await trio.sleep(0.01)
                was_cancelled, _ = await cancelled_at(
                    steps, lambda: mine.submit_task("sleep", (steps, 0.05))
                )
                if is_first:
                    # Taken back in time, it has ended; then that is the end of it.
                    again = await others.submit_task("sleep", (steps, 0.05))
                    assert again.status in (TaskStatus.SUCCESS, TaskStatus.CANCELLED)
                    assert again.status is TaskStatus.SUCCESS or was_cancelled
            assert is_first or results == [steps]
            await trio.sleep(0.05)
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)


@pytest.mark.parametrize("option", ["idempotency_key", "task_id"])
async def test_one_key_is_not_for_many_tasks(option: str) -> None:
    async with open_world() as world:
        keyed = world.new_client().options(**{option: "k"})  # type: ignore[arg-type]
        for call in (
            keyed.open_task_group,
            partial(keyed.map, "note", [1, 2]),
            partial(keyed.stream, "count", 1, 2),
        ):
            with pytest.raises(ValueError, match=f"{option}='k' with .*it stands for one task"):
                call()
