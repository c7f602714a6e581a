"""A map runs a task for each item, so many at a time, and gives their values."""

# ruff: noqa: PT012, SIM117 - a block is what is tested, and where it ends

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    ClientClosed,
    ControlPlaneUnreachable,
    LocalProtocolError,
    NotEncodable,
    TaskFailed,
    UnknownTask,
)
from tests.shell.test_task_groups import cluster
from tests.shell.world import BASE, open_world, settle

pytestmark = pytest.mark.trio


async def test_values_come_in_the_order_of_the_items(autojump_clock: MockClock) -> None:
    async with cluster(slots=10) as (world, client):
        items = [0.3, 0.1, 0.2]
        world.registry.register(pause)
        await world.start_worker("w3", slots=10)
        async with client.map(pause, items) as values:
            assert [value async for value in values] == items
        async with client.map("pause", items, ordered=False) as values:
            assert [value async for value in values] == sorted(items)
        assert world.tasks().submitted == 6


async def test_an_async_iterable_is_taken_as_it_comes(autojump_clock: MockClock) -> None:
    async def each() -> AsyncIterator[int]:
        for number in range(5):
            await trio.sleep(1)
            yield number

    async with cluster() as (_, client):
        start = trio.current_time()
        at = []
        async with client.map("note", each()) as values:
            async for value in values:
                at.append((value, round(trio.current_time() - start)))
        assert at == [(number, number + 1) for number in range(5)]


async def test_no_items_no_values(autojump_clock: MockClock) -> None:
    async with cluster() as (world, client):
        async with client.map("note", []) as values:
            assert [value async for value in values] == []
            with pytest.raises(StopAsyncIteration):
                await anext(values)
        assert world.ran == []


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_infinite_iterable_may_be_left_early(
    autojump_clock: MockClock, ordered: bool
) -> None:
    async with cluster(slots=3) as (world, client):
        taken = itertools.count()
        got = []
        async with client.map("note", taken, max_in_flight=4, ordered=ordered) as values:
            async for value in values:
                got.append(value)
                if len(got) == 10:
                    break
        if ordered:
            assert got == list(range(10))
        # Else each comes once, and none before there was a place for it.
        assert len(set(got)) == 10
        assert all(value < place + 4 for place, value in enumerate(got))
        before = len(world.ran)
        assert client.statistics().waiting == 0
        # No more was taken than could be under way, or wait to be read.
        assert next(taken) <= 10 + 2 * 4 + 1
        await settle()
        assert len(world.ran) == before
        assert world.tasks().leased == 0


async def test_leaving_early_cancels_what_runs_and_takes_no_more_items(
    autojump_clock: MockClock,
) -> None:
    async with cluster(slots=2, workers=1) as (world, client):
        async with client.map("wait", itertools.count(), max_in_flight=5):
            await settle()
            assert sorted(world.ran) == [0, 1]
        assert sorted(world.stopped) == [0, 1]
        await settle()
        assert sorted(world.ran) == [0, 1]


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_an_iterable_that_raises_ends_the_block_with_its_error(
    autojump_clock: MockClock, kind: str
) -> None:
    def each() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    async def each_async() -> AsyncIterator[int]:
        yield 1
        raise KeyError("no more")

    async with cluster() as (world, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.map("wait", each() if kind == "def" else each_async()) as values:
                async for _ in values:
                    pass
        assert [repr(error) for error in caught.value.exceptions] == ["KeyError('no more')"]
        await settle()
        assert sorted(world.ran) == sorted(world.stopped)


async def test_an_error_of_the_body_comes_out_as_it_does_of_a_group(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.map("note", range(5)):
                raise KeyError("the body")
        assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def test_the_first_failure_cancels_the_rest(autojump_clock: MockClock) -> None:
    async with cluster(slots=10) as (world, client):
        world.registry.register(fail_at_three)
        await world.start_worker("w3", slots=10)
        got = []
        with pytest.raises(ExceptionGroup) as caught:
            async with client.map("fail_at_three", itertools.count()) as values:
                async for value in values:
                    got.append(value)
        assert got == [0, 1, 2][: len(got)]
        assert [str(error) for error in caught.value.exceptions] == ["ValueError: three"]
        assert isinstance(caught.value.exceptions[0], TaskFailed)


@pytest.mark.parametrize("ordered", [True, False])
async def test_with_collect_a_failure_is_raised_in_the_place_of_its_value(
    autojump_clock: MockClock, ordered: bool
) -> None:
    async with cluster(slots=10) as (world, client):
        world.registry.register(fail_at_three)
        await world.start_worker("w3", slots=10)
        got: list[object] = []
        async with client.map(
            "fail_at_three", range(6), on_error="collect", ordered=ordered
        ) as values:
            while True:
                try:
                    got.append(await anext(values))
                except TaskFailed:
                    got.append("failed")
                except StopAsyncIteration:
                    break
        expected = [0, 1, 2, "failed", 4, 5]
        assert (got if ordered else sorted(got, key=str)) == sorted(expected, key=str) or (
            got == expected
        )


async def test_no_value_is_lost_when_a_reader_is_cancelled_at_any_moment(
    autojump_clock: MockClock,
) -> None:
    async with cluster(slots=10) as (_, client):
        got = []
        async with client.map("note", range(30), max_in_flight=3) as values:
            while True:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    got.append(await anext(values))
                with trio.move_on_after(0):
                    got.append(await anext(values))
                try:
                    got.append(await anext(values))
                except StopAsyncIteration:
                    break
        assert got == list(range(30))


@pytest.mark.parametrize("ordered", [True, False])
async def test_all_values_can_be_collected_at_once(
    autojump_clock: MockClock, ordered: bool
) -> None:
    async with cluster(slots=10) as (_, client):
        async with client.map("note", range(100), max_in_flight=7, ordered=ordered) as values:
            first = await anext(values)
            rest = await values.collect()
            assert await values.collect() == []
        got = [first, *rest]
        assert (got if ordered else sorted(got)) == list(range(100))


async def test_collecting_from_an_async_iterable_waits_for_its_end(
    autojump_clock: MockClock,
) -> None:
    async def each() -> AsyncIterator[int]:
        for number in range(5):
            await trio.sleep(1)
            yield number

    async with cluster() as (_, client):
        start = trio.current_time()
        async with client.map("note", each()) as values:
            assert await values.collect() == list(range(5))
        assert round(trio.current_time() - start) == 5


async def test_collecting_raises_a_failure_and_goes_on_behind_it(
    autojump_clock: MockClock,
) -> None:
    async with cluster(slots=10) as (world, client):
        world.registry.register(fail_at_three)
        await world.start_worker("w3", slots=10)
        async with client.map("fail_at_three", range(6), on_error="collect") as values:
            with pytest.raises(TaskFailed):
                await values.collect()
            assert await anext(values) == 0
            assert await values.collect() == [1, 2, 4, 5]


async def test_collecting_can_be_cancelled_and_the_block_left(
    autojump_clock: MockClock,
) -> None:
    async with cluster(slots=2, workers=1) as (world, client):
        with trio.move_on_after(1) as scope:
            async with client.map("wait", range(10)) as values:
                await values.collect()
        assert scope.cancelled_caught
        assert sorted(world.stopped) == [0, 1]
        assert world.tasks().leased == 0


async def test_tasks_that_nobody_acknowledges_in_time_end_the_block(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client(timeout=3) as client:
        world.network.partition(BASE)
        start = trio.current_time()
        with pytest.raises(ExceptionGroup) as caught:
            async with client.map("note", range(5)) as values:
                await values.collect()
        assert [type(error) for error in caught.value.exceptions] == [ControlPlaneUnreachable]
        assert "was not acknowledged in 3 s" in str(caught.value.exceptions[0])
        assert trio.current_time() - start >= 3


async def test_a_name_that_nobody_knows_ends_the_block_with_that_error(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (_, client):
        await trio.sleep(10)
        with pytest.raises(ExceptionGroup) as caught:
            async with client.map("nope", range(5)) as values:
                await values.collect()
        [error] = caught.value.exceptions
        assert isinstance(error, UnknownTask)
        assert error.task_name == "nope"


async def test_items_before_one_that_cannot_travel_are_submitted(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as (world, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.map("wait", [1, 2, object(), 4]) as values:
                await values.collect()
        assert [type(error) for error in caught.value.exceptions] == [NotEncodable]
        await settle()
        assert sorted(world.ran) == sorted(world.stopped)


async def test_after_the_block_there_are_no_more_values(autojump_clock: MockClock) -> None:
    async with cluster(slots=10) as (_, client):
        async with client.map("note", itertools.count(), max_in_flight=3) as values:
            assert await anext(values) == 0
        with trio.fail_after(5), pytest.raises(LocalProtocolError, match="has ended"):
            await anext(values)


async def test_who_reads_from_outside_hears_that_the_block_has_ended(
    autojump_clock: MockClock,
) -> None:
    async def none() -> AsyncIterator[int]:
        await trio.sleep_forever()
        yield 1

    async def read() -> None:
        with pytest.raises(LocalProtocolError, match="has ended"):
            await anext(values)

    async with cluster() as (_, client), trio.open_nursery() as nursery:
        async with client.map("note", none()) as values:
            nursery.start_soon(read)
            await settle()


async def test_an_outer_cancel_takes_all_along(autojump_clock: MockClock) -> None:
    async with cluster(slots=2, workers=1) as (world, client):
        with trio.move_on_after(1) as scope:
            async with client.map("wait", range(10)) as values:
                async for _ in values:
                    raise AssertionError("none has ended")
        assert scope.cancelled_caught
        assert sorted(world.stopped) == [0, 1]
        assert world.tasks().leased == 0


async def test_a_client_that_is_stopped_ends_the_block(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        with pytest.raises(ExceptionGroup) as caught:
            async with client.map("wait", itertools.count(), max_in_flight=2) as values:
                await settle()
                client.stop()
                await anext(values)
        assert {type(error) for error in caught.value.exceptions} == {ClientClosed}
        await client.aclose()


@pytest.mark.slow
async def test_ten_thousand_items_keep_all_tables_small(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    # Checking all tasks at every call takes time by the square of their number.
    monkeypatch.setenv("FASTWORKER_VALIDATE", "0")
    async with (
        open_world(workers=2, slots=32) as world,
        world.client(max_results=100) as client,
    ):
        session = client._session
        assert session is not None
        total = most = 0
        async with client.map("sleep", range(10_000), max_in_flight=64) as values:
            async for value in values:
                assert value == total
                total += 1
                if total % 20:
                    continue
                tasks, statistics = world.tasks(), client.statistics()
                most = max(most, tasks.leased + sum(tasks.ready), statistics.waiting)
                assert len(session.watches) <= 64
                assert len(values._handles) <= 128
                assert len(client._state._outcomes) <= 100
        assert total == 10_000
        assert 60 <= most <= 64
        assert values._group.handles == []
        assert client.statistics().waiting == 0
        assert not session.watches


async def pause(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def fail_at_three(number: int) -> int:
    if number == 3:
        await trio.sleep(0.01)
        raise ValueError("three")
    return number
