"""A client's life: started, stopped, started again, cancelled on the way."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import ClientClosed, ControlPlaneUnreachable, TaskStatus
from tests.shell.world import DISCOVERY, open_world, settle

pytestmark = pytest.mark.trio


async def test_start_takes_no_time_on_a_running_control_plane(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client = world.new_client()
        before = trio.current_time()
        await client.start()
        assert trio.current_time() - before < 0.01
        await client.aclose()


async def test_start_finds_a_control_plane_that_comes_up_in_time(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        client = world.new_client(connect_timeout=5)

        async def come_up_later() -> None:
            await trio.sleep(4.5)
            await world.start_plane()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_up_later)
            before = trio.current_time()
            await client.start()
            assert trio.current_time() - before == pytest.approx(4.5, abs=0.3)
        await client.aclose()


async def test_start_without_a_control_plane_names_the_address_and_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        tasks = _count_system_tasks()
        client = world.new_client(connect_timeout=2)
        before = trio.current_time()
        with pytest.raises(ControlPlaneUnreachable) as caught:
            await client.start()
        assert trio.current_time() - before == pytest.approx(2, abs=0.6)
        assert caught.value.address == DISCOVERY
        assert DISCOVERY in str(caught.value)
        assert _count_system_tasks() == tasks
        assert world.count_links() == 0
        with pytest.raises(ClientClosed):
            await client.delay("add", 1, 2)


async def test_entering_without_a_control_plane_raises_unwrapped_and_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        with pytest.raises(ControlPlaneUnreachable, match="no answer within 2 s"):
            async with world.client(connect_timeout=2):
                raise AssertionError("not reached")
        assert world.count_links() == 0


async def test_starting_twice_does_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        links = world.count_links()
        await client.start()
        assert world.count_links() == links
        assert world.count_clients() == 1
        await client.aclose()


async def test_two_starts_at_the_same_time_are_one(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        client = world.new_client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.start)
            nursery.start_soon(client.start)
        assert world.count_clients() == 1
        assert (await client.submit_task("add", (1, 2))).result == 3
        await client.aclose()


async def test_stopping_twice_and_closing_twice_do_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        client = world.new_client()
        client.stop()
        await client.aclose()
        await client.start()
        client.stop()
        client.stop()
        await client.aclose()
        await client.aclose()
        assert world.count_clients() == 0
        assert world.count_links() == 1  # the worker's


async def test_a_stopped_client_may_be_started_again(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        first = await client.submit_task("add", (1, 2))
        client.stop()
        await client.start()
        second = await client.submit_task("add", (3, 4))
        assert (first.result, second.result) == (3, 7)
        assert client.get_result(first.task_id) == first
        await client.aclose()
        async with client:
            assert (await client.submit_task("add", (5, 6))).result == 11
        assert world.count_links() == 1


async def test_a_client_that_is_not_started_says_so(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        client = world.new_client()
        for call in (
            client.delay("add", 1, 2),
            client.submit_task("add", (1, 2)),
            client.get_task_result("any"),
        ):
            with pytest.raises(ClientClosed, match="not started"):
                await call
        assert client.get_result("any") is None
        assert client.get_status("any") is None


async def test_after_stop_calls_raise_and_results_stay_readable(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        result = await client.submit_task("add", (1, 2))
        client.stop()
        for call in (
            client.delay("add", 1, 2),
            client.submit_task("add", (1, 2)),
            client.get_task_result(result.task_id),
        ):
            with pytest.raises(ClientClosed):
                await call
        assert client.get_result(result.task_id) == result
        assert client.get_status(result.task_id) is TaskStatus.SUCCESS
        await client.aclose()
        assert client.get_result(result.task_id) == result


async def test_a_client_cannot_be_entered_while_it_is_started(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ClientClosed, match="started already"):
            async with client:
                raise AssertionError("not reached")
        assert (await client.submit_task("add", (1, 2))).result == 3


async def test_the_body_s_exception_comes_through_unwrapped(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        with pytest.raises(KeyError, match="mine"):
            async with world.new_client():
                raise KeyError("mine")
        assert world.count_clients() == 0


async def test_a_cancelled_body_ends_the_client_quietly(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        with trio.move_on_after(1) as scope:
            async with world.new_client() as client:
                await client.submit_task("wait", ("a",))
        assert scope.cancelled_caught
        await trio.sleep(1)
        assert world.count_clients() == 0
        assert world.stopped == ["a"]


async def test_stop_inside_the_body_is_allowed(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        async with world.new_client() as client:
            client.stop()
            with pytest.raises(ClientClosed):
                await client.delay("add", 1, 2)
        assert world.count_clients() == 0


async def test_a_stop_that_meets_the_start_ends_it(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        for steps in [n for n in range(8) for _ in range(10)]:
            client = world.new_client()
            async with trio.open_nursery() as nursery:

                async def start() -> None:
                    try:
                        await client.start()  # noqa: B023 - awaited in this iteration
                    except ClientClosed:
                        pass

                nursery.start_soon(start)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                client.stop()
            await client.aclose()
        await settle()


def _count_system_tasks() -> int:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return sum(len(nursery.child_tasks) for nursery in root.child_nurseries)
