"""A task group ends when nothing of it runs anywhere, and says what went wrong."""

# ruff: noqa: PT012, SIM117 - a block is what is tested, and where it ends

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    Abandoned,
    Cancelled,
    Client,
    ClientClosed,
    Completed,
    LocalProtocolError,
    Lost,
    NeverStarted,
    NotEncodable,
    TaskFailed,
    TaskGroup,
    TaskLost,
    UnknownTask,
    time_left,
)
from fastworker._transport._memory import Faults
from tests.shell.world import DISCOVERY, World, open_world, settle

pytestmark = pytest.mark.trio


@asynccontextmanager
async def cluster(*, workers: int = 2, slots: int = 4) -> AsyncIterator[tuple[World, Client]]:
    async with open_world(workers=workers, slots=slots) as world, world.client() as client:
        yield world, client


# --- the end of the block ---


async def test_the_block_ends_when_its_last_task_has_ended(autojump_clock: MockClock) -> None:
    async with cluster() as (_, client):
        start = trio.current_time()
        async with client.open_task_group() as group:
            for number in range(6):
                await group.submit("sleep", number, 1.0 + number % 2)
            assert trio.current_time() - start < 0.5
        assert trio.current_time() - start == pytest.approx(2, abs=0.1)
        assert [await handle.result() for handle in group.handles] == list(range(6))
        assert group.failures == []


async def test_an_empty_block_ends_at_once(autojump_clock: MockClock) -> None:
    async with cluster() as (_, client):
        start = trio.current_time()
        async with client.open_task_group() as group:
            pass
        assert trio.current_time() == start
        assert group.handles == []


async def test_nothing_can_join_a_block_that_has_ended(autojump_clock: MockClock) -> None:
    async with cluster() as (world, client):
        async with client.open_task_group() as group:
            pass
        with pytest.raises(LocalProtocolError, match="has ended"):
            await group.submit("note", 1)
        await settle()
        assert world.ran == []


# --- failures ---


async def test_the_first_failure_cancels_the_rest_on_all_workers_and_the_body(
    autojump_clock: MockClock,
) -> None:
    async with cluster(workers=2, slots=2) as (world, client):
        body_ended = False
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group() as group:
                for number in range(6):  # two of them have no place yet
                    await group.submit("wait", number)
                await settle()
                assert sorted(world.ran) == [0, 1, 2, 3]
                await group.submit(world.fail, "bad luck")
                await trio.sleep_forever()
                body_ended = True
        assert not body_ended
        assert [str(error) for error in caught.value.exceptions] == ["ValueError: bad luck"]
        assert isinstance(caught.value.exceptions[0], TaskFailed)
        assert "1 error in a task group" in str(caught.value)
        # At this very moment nothing of it runs any more, anywhere.
        assert sorted(world.stopped) == [0, 1, 2, 3]
        kinds = [type(handle.outcome) for handle in group.handles]
        assert kinds == [Cancelled] * 4 + [NeverStarted] * 2 + [Completed]
        await settle()
        assert world.ran == world.ran[:4]
        assert client.statistics().waiting == 0


async def test_all_failures_that_came_before_the_cancel_are_in_the_group(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group(on_error="collect") as group:
                await group.submit("fail", "one")
                await group.submit("fail", "two")
                await settle()
                raise KeyError("the body")
        # What is collected is no error; what the body raises is one.
        assert [repr(error) for error in caught.value.exceptions] == ["KeyError('the body')"]
        assert len(group.failures) == 2


async def test_an_error_in_the_body_cancels_the_tasks_and_comes_out_in_a_group(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group() as group:
                await group.submit("wait", 1)
                await settle()
                raise KeyError("the body")
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert caught.value.exceptions[0].__traceback__ is not None
        assert world.stopped == [1]


async def test_who_fails_while_it_is_cancelled_is_in_the_group_too(
    autojump_clock: MockClock,
) -> None:
    async def untidy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("could not tidy up")

    async with open_world(workers=0) as world:
        world.registry.register(untidy)
        await world.start_worker(slots=4)
        async with world.client() as client:
            with pytest.raises(ExceptionGroup) as caught:
                async with client.open_task_group() as group:
                    await group.submit("untidy")
                    await group.submit("wait", 1)
                    await settle()
                    await group.submit("fail", "the first")
            errors = [str(error) for error in caught.value.exceptions]
            assert errors == ["ValueError: the first", "ValueError: could not tidy up"]
            # Who says that nothing of it is wanted hears nothing of it.
            async with client.open_task_group() as group:
                await group.submit("untidy")
                await settle()
                group.cancel()
            assert group.failures == []


async def test_errors_beside_the_cancelling_in_the_body_hide_no_failure(
    autojump_clock: MockClock,
) -> None:
    async def raise_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("the body")

    async with cluster() as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group() as group:
                await group.submit("fail", "a member")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(raise_when_cancelled)
                    nursery.start_soon(trio.sleep_forever)
        assert caught.group_contains(KeyError)
        assert caught.group_contains(TaskFailed, match="a member")


async def test_a_submit_that_fails_in_the_body_is_an_error_of_the_body(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        await trio.sleep(6)  # start-up is over, so unknown names are refused at once
        for bad in (("nobody_knows", 1), ("note", object())):
            with pytest.raises(ExceptionGroup) as caught:
                async with client.open_task_group(max_in_flight=1) as group:
                    for _ in range(3):  # nor does it keep its place
                        with pytest.raises((UnknownTask, NotEncodable)):
                            await group.submit(*bad)
                    await group.submit("note", bad[0])
                    await group.submit(*bad)
            assert isinstance(caught.value.exceptions[0], UnknownTask | NotEncodable)
        assert world.ran == ["nobody_knows", "note"]


async def test_with_collect_each_handle_says_what_became_of_it(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (_, client):
        async with client.open_task_group(on_error="collect") as group:
            good = await group.submit("sleep", "good", 2)
            bad = await group.submit("fail", "bad")
        assert await good.result() == "good"
        with pytest.raises(TaskFailed, match="bad"):
            await bad.result()
        assert [str(error) for error in group.failures] == ["ValueError: bad"]


async def test_a_member_that_somebody_else_cancels_is_a_failure(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client), world.client() as other:
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group() as group:
                handle = await group.submit("wait", 1)
                await settle()
                await other.cancel(handle.id)
        assert [type(error).__name__ for error in caught.value.exceptions] == ["TaskCancelled"]


# --- first ---


async def test_first_leaves_as_soon_as_so_many_have_succeeded(
    autojump_clock: MockClock,
) -> None:
    async with cluster(slots=10) as (world, client):
        start = trio.current_time()
        async with client.open_task_group(first=2) as group:
            await group.submit("fail", "does not count")
            for number in range(1, 6):
                await group.submit("sleep", number, float(number))
        assert trio.current_time() - start == pytest.approx(2, abs=0.2)
        kinds = [type(handle.outcome) for handle in group.handles[1:]]
        assert kinds == [Completed] * 2 + [Cancelled] * 3
        assert world.tasks().leased == 0


async def test_first_that_is_not_reached_raises_the_failures(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group(first=2) as group:
                await group.submit("sleep", 1)
                await group.submit("fail", "one")
                await group.submit("fail", "two")
        assert len(caught.value.exceptions) == 2


async def test_an_error_of_the_body_is_told_although_first_was_reached(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.open_task_group(first=1) as group:
                await group.submit("note", 1)
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyError("the body")
        assert [type(error) for error in caught.value.exceptions] == [KeyError]


# --- how many ---


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_than_max_in_flight_are_under_way(
    autojump_clock: MockClock, limit: int
) -> None:
    async with cluster(slots=10) as (world, client):
        most = 0
        async with client.open_task_group(max_in_flight=limit) as group:
            for number in range(20):
                await group.submit("sleep", number, 0.1)
                tasks = world.tasks()
                most = max(most, group.in_flight, tasks.leased + sum(tasks.ready))
        assert most == limit
        assert sorted(world.ran) == list(range(20))


async def test_several_may_submit_to_one_group_at_the_same_time(
    autojump_clock: MockClock,
) -> None:
    async with cluster(slots=10) as (world, client):
        most = 0
        async with client.open_task_group(max_in_flight=3) as group:

            async def submit(number: int) -> None:
                nonlocal most
                await group.submit("sleep", number, 0.1)
                most = max(most, group.in_flight, world.tasks().leased)

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(submit, number)
        assert most == 3
        assert sorted(world.ran) == list(range(20))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_in_flight": 0},
        {"max_in_flight": True},
        {"max_in_flight": 1.5},
        {"on_error": "ignore"},
        {"first": 0},
        {"first": "1"},
    ],
)
async def test_a_value_that_cannot_be_used_is_refused(
    autojump_clock: MockClock, settings: dict[str, object]
) -> None:
    async with cluster() as (_, client):
        with pytest.raises(ValueError, match=next(iter(settings))):
            async with client.open_task_group(**settings):  # type: ignore[arg-type]
                raise AssertionError("never entered")


async def test_as_completed_gives_members_as_they_end(autojump_clock: MockClock) -> None:
    async with cluster(slots=10) as (_, client):
        async with client.open_task_group(on_error="collect") as group:
            for seconds in (3, 1, 2):
                await group.submit("sleep", seconds, float(seconds))
            await group.submit("fail")
            names = []
            async for handle in group.as_completed():
                names.append(handle.name if handle.name == "fail" else await handle.result())
                if len(names) == 1:  # may join while it is looked at
                    await group.submit("sleep", 2.5, 2.5)
            assert names == ["fail", 1, 2, 2.5, 3]
            assert [h async for h in group.as_completed()] == []


# --- the world around it ---


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
            assert 2 < unacknowledged < 8


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
        assert 2 < len(group.handles) < 18


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
        await anyio.lowlevel.checkpoint()
