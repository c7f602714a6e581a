"""Generator tasks: values one by one, never further ahead than their reader has room."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    ClientClosed,
    LocalProtocolError,
    NotEncodable,
    TaskFailed,
    TaskTimedOut,
    UnknownTask,
)
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


@pytest.mark.parametrize("name", ["count", "count_in_a_thread"])
async def test_the_values_of_a_generator_come_in_order(
    name: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        async with client.stream(name, "a", 1000) as values:
            assert [value async for value in values] == list(range(1000))
            assert [value async for value in values] == []
        assert world.stopped == ["a"]


async def test_a_generator_without_values_is_an_empty_stream(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 0) as values,
    ):
        assert [value async for value in values] == []


@pytest.mark.parametrize("name", ["count", "count_in_a_thread"])
@pytest.mark.parametrize("buffer", [1, 2, 5, 32])
async def test_a_generator_waits_for_its_reader(
    name: str, buffer: int, autojump_clock: MockClock
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.options(buffer=buffer).stream(name, "a", 100) as values,
    ):
        for number in range(50):
            await settle()
            # Room is told in portions of a quarter.
            ahead = len(world.ran) - number
            assert buffer - max(1, buffer // 4) < ahead <= buffer
            assert await anext(values) == number
        await trio.sleep(3600)
        assert len(world.ran) <= 50 + buffer


async def test_the_error_of_a_generator_comes_after_its_values(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.stream(world.count, "a", 100, fail=True) as values,
    ):
        for number in range(100):
            assert await anext(values) == number
        with pytest.raises(TaskFailed, match="ValueError: no luck"):
            await anext(values)
        assert [value async for value in values] == []


@pytest.mark.parametrize("name", ["count", "count_in_a_thread"])
async def test_the_finally_of_a_generator_has_run_when_its_block_is_left_early(
    name: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        async with client.stream(name, "a", 100_000) as values:
            async for value in values:
                if value == 40:
                    break
        assert world.stopped == ["a"]
        assert len(world.ran) <= 41 + 32
        statistics = world.tasks()
        assert statistics.cancelled == 1
        assert statistics.started == 0


async def test_an_error_in_the_block_leaves_as_it_is_and_ends_the_generator(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:

        async def read() -> None:
            async with client.stream(world.count, "a", 1000) as values:
                await anext(values)
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await read()
        assert world.stopped == ["a"]


async def test_a_cancelled_block_is_left_when_the_generator_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        with trio.CancelScope() as scope:
            async with client.stream(world.count, "a", 1000, every=0.3) as values:
                try:
                    async for value in values:
                        if value == 3:
                            scope.cancel()
                finally:
                    assert world.stopped == []
        assert world.stopped == ["a"]
        assert world.tasks().cancelled == 1


async def test_a_generator_that_needs_time_to_end_gets_its_grace(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:

        async def slow_to_end() -> AsyncGenerator[int, None]:
            try:
                while True:
                    yield 1
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)
                world.stopped.append("slowly")

        world.registry.register(slow_to_end)
        await world.start_worker()
        async with world.client() as client:
            async with client.stream(slow_to_end) as values:
                await anext(values)
                left_at = trio.current_time()
            assert world.stopped == ["slowly"]
            assert trio.current_time() - left_at == pytest.approx(2, abs=0.1)


async def test_a_generator_that_does_not_end_is_left_after_its_grace(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:

        async def stubborn() -> AsyncGenerator[int, None]:
            try:
                yield 1
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1000)

        world.registry.register(stubborn)
        await world.start_worker()
        async with world.client() as client:
            async with client.options(grace=3).stream(stubborn) as values:
                await anext(values)
                left_at = trio.current_time()
            assert trio.current_time() - left_at == pytest.approx(3, abs=0.1)


async def test_a_queued_stream_that_is_left_never_starts(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        await client.delay("wait", "blocker")
        async with client.stream(world.count, "a", 10):
            await settle()
        world.let_go("blocker")
        await settle()
        assert world.ran == ["blocker"]


async def test_a_deadline_around_the_block_is_one_for_the_generator(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        with trio.move_on_after(2) as scope:
            async with client.stream(world.count, "a", 100, every=1) as values:
                async for _ in values:
                    pass
        assert scope.cancelled_caught
        assert world.stopped == ["a"]


async def test_a_stream_runs_no_longer_than_its_timeout(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.options(timeout=3).stream(world.count, "a", 100, every=1) as values,
    ):
        assert [await anext(values), await anext(values)] == [0, 1]
        with pytest.raises(TaskTimedOut, match="timeout of 3 s"):
            [value async for value in values]


async def test_streams_are_read_side_by_side(autojump_clock: MockClock) -> None:
    async with (
        open_world(slots=2) as world,
        world.client() as client,
        client.stream(world.count, "a", 100) as first,
        client.stream(world.count, "b", 100) as second,
    ):
        for number in range(100):
            assert await anext(first) == number
            assert await anext(second) == number


async def test_a_value_that_cannot_travel_is_an_error_at_the_yield(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world:
        caught: list[str] = []

        async def odd() -> AsyncGenerator[object, None]:
            yield 1
            try:
                yield object()
            except NotEncodable as error:
                caught.append(str(error))
            yield 3

        world.registry.register(odd)
        await world.start_worker()
        async with world.client() as client, client.stream(odd) as values:
            assert [value async for value in values] == [1, 3]
        assert "object" in caught[0]


async def test_after_its_block_a_stream_gives_no_more(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with client.stream(world.count, "a", 100) as values:
            await anext(values)
        with pytest.raises(LocalProtocolError, match="has been left"):
            await anext(values)


async def test_a_closed_client_ends_its_streams(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with client.stream(world.count, "a", 3, every=1) as values:
            assert await anext(values) == 0
            client.stop()
            with pytest.raises(ClientClosed):
                await anext(values)
        await trio.sleep(31)
        assert world.stopped == ["a"]


# --- what is refused ---


async def test_a_generator_function_is_refused_where_nobody_would_read_it(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        words = r"count is a generator function.*client\.stream\(count"
        with pytest.raises(TypeError, match=words):
            await client.delay(world.count, "a", 1)
        with pytest.raises(TypeError, match=words):
            await client.submit(world.count, "a", 1)
        with pytest.raises(TypeError, match=words):
            await client.submit_task(world.count, ("a", 1))
        result = await client.submit_task("count", ("a", 1))
        assert result.error == (
            "TypeError: count is a generator, whose values nobody reads; "
            "call it with client.stream"
        )
        assert world.ran == []


async def test_a_plain_function_is_refused_as_a_stream(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(TypeError, match="add is not a generator function"):
            async with client.stream(world.add, 1, 2):  # type: ignore[arg-type]
                pass
        async with client.stream("add", 1, 2) as values:
            with pytest.raises(TaskFailed, match="returned int, and only a generator"):
                await anext(values)


async def test_a_stream_of_an_unknown_name_is_refused(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        await trio.sleep(6)
        with pytest.raises(UnknownTask, match="did you mean 'count'"):
            async with client.stream("coutn"):
                pass
        assert not client._usable_session()._readers


@pytest.mark.parametrize("buffer", [0, 10_001, 1.5, True])
async def test_a_buffer_of_no_use_is_refused(buffer: int, autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ValueError, match=f"buffer={buffer!r}: use a whole number"):
            client.options(buffer=buffer)
