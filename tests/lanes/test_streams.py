"""Generators in lanes: in order, never further ahead than allowed, closed when cancelled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from fastworker._core._messages import MAX_ITEM_BYTES, STREAM_BYTES
from fastworker._errors import NotEncodable
from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    AttemptKey,
)
from fastworker._lanes._context import check_cancelled
from tests.lanes.lane_world import World, open_world

pytestmark = pytest.mark.trio


def submit(world: World, function: Callable[..., Any], *args: Any, window: int) -> AttemptKey:
    attempt = msgspec.structs.replace(world.attempt(function, *args), stream=window)
    world.lane.submit([attempt])
    return attempt.key


def generator(world: World, body: Callable[..., Any]) -> Callable[..., Any]:
    """Make a generator function of the lane's kind out of a plain one."""
    if world.kind == "thread":
        return body

    async def function(*args: Any) -> Any:
        inner = body(*args)
        try:
            for value in inner:
                yield value
        finally:
            inner.close()

    return function


def counting(log: list[Any]) -> Callable[[int], Any]:
    def count(end: int) -> Any:
        try:
            for number in range(end):
                log.append(number)
                yield number
        finally:
            log.append("finally")

    return count


async def test_the_values_of_a_generator_come_in_order_before_its_end(world: World) -> None:
    key = submit(world, generator(world, counting([])), 50, window=100)
    ended = await world.end_of(key)

    assert ended.kind == OUTCOME_SUCCESS
    assert ended.payload == b"null"
    assert world.values(key) == list(range(50))


@pytest.mark.parametrize("window", [1, 3])
async def test_a_generator_is_resumed_only_while_there_is_room(
    world: World, window: int
) -> None:
    log: list[Any] = []
    key = submit(world, generator(world, counting(log)), 20, window=window)
    for read in range(20):
        least = min(20, read + window)
        await world.receive_until(lambda least=least: len(world.values(key)) >= least)
        assert [each for each in log if each != "finally"] == list(
            range(min(20, read + window))
        )
        world.lane.credit(key, read + 1)
    assert (await world.end_of(key)).kind == OUTCOME_SUCCESS
    assert log[-1] == "finally"


async def test_credit_of_before_and_for_others_changes_nothing(world: World) -> None:
    log: list[Any] = []
    key = submit(world, generator(world, counting(log)), 10, window=2)
    await world.receive_until(lambda: len(world.values(key)) == 2)
    world.lane.credit(key, 1)
    world.lane.credit(key, 0)
    world.lane.credit(key, 1)
    world.lane.credit(AttemptKey("another", 1, 1), 5)
    await world.receive_until(lambda: len(world.values(key)) == 3)
    world.lane.cancel(key)
    await world.end_of(key)
    assert log == [0, 1, 2, "finally"]


async def test_a_generator_that_waits_for_its_reader_is_closed_when_cancelled(
    world: World,
) -> None:
    log: list[Any] = []
    key = submit(world, generator(world, counting(log)), 10, window=2)
    await world.receive_until(lambda: len(world.values(key)) == 2)
    world.lane.cancel(key)
    ended = await world.end_of(key)

    assert ended.kind == OUTCOME_CANCELLED
    assert log == [0, 1, "finally"]


async def test_a_generator_is_closed_when_its_lane_is(world: World) -> None:
    log: list[Any] = []
    key = submit(world, generator(world, counting(log)), 10, window=2)
    await world.receive_until(lambda: len(world.values(key)) == 2)
    world.lane.close()
    assert (await world.end_of(key)).kind == OUTCOME_CANCELLED
    assert log == [0, 1, "finally"]


async def test_a_generator_that_works_is_cancelled_where_it_asks(world: World) -> None:
    gate = world.gate()
    log: list[Any] = []

    def work() -> Any:
        try:
            yield 1
            gate.wait_in_thread()
            check_cancelled()
        finally:
            log.append("finally")

    async def work_async() -> Any:
        try:
            yield 1
            await (gate.wait_in_asyncio() if world.kind == "asyncio" else gate.wait_in_trio())
        finally:
            log.append("finally")

    key = submit(world, work if world.kind == "thread" else work_async, window=5)
    await world.receive_until(lambda: len(world.values(key)) == 1)
    world.lane.cancel(key)
    if world.kind == "thread":  # the others are told where they wait
        gate.open()
    assert (await world.end_of(key)).kind == OUTCOME_CANCELLED
    assert log == ["finally"]


async def test_the_error_of_a_generator_comes_after_its_values(world: World) -> None:
    def failing() -> Any:
        yield 1
        raise ValueError("no luck")

    key = submit(world, generator(world, failing), window=5)
    ended = await world.end_of(key)

    assert ended.kind == OUTCOME_FAILURE
    assert ended.error == "ValueError: no luck"
    assert "no luck" in ended.traceback
    assert world.values(key) == [1]


async def test_an_error_while_it_is_closed_is_what_a_cancelled_generator_ends_with(
    world: World,
) -> None:
    def odd() -> Any:
        try:
            yield 1
        finally:
            raise KeyError("odd")

    key = submit(world, generator(world, odd), window=1)
    await world.receive_until(lambda: len(world.values(key)) == 1)
    world.lane.cancel(key)
    ended = await world.end_of(key)
    assert ended.kind == OUTCOME_FAILURE
    assert "odd" in ended.error


# Python complains about such a generator once more when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_generator_that_will_not_be_closed_fails_and_its_lane_goes_on(
    world: World,
) -> None:
    def stubborn() -> Any:
        for _ in range(2):
            with suppress(BaseException):
                yield 1

    async def stubborn_async() -> Any:
        for _ in range(3):
            with suppress(BaseException):
                yield 1

    function = stubborn if world.kind == "thread" else stubborn_async
    key = submit(world, function, window=1)
    await world.receive_until(lambda: len(world.values(key)) == 1)
    world.lane.cancel(key)
    ended = await world.end_of(key)
    assert ended.kind == OUTCOME_FAILURE
    assert "ignored GeneratorExit" in ended.error
    assert await world.result(world.function(lambda: 5)) == 5


@pytest.mark.parametrize(
    ("value", "words"),
    [(object(), "NotEncodable: result"), ("x" * MAX_ITEM_BYTES, "ResultTooLarge: the value")],
    ids=["type", "size"],
)
async def test_a_value_that_cannot_travel_ends_the_generator_at_its_yield(
    world: World, value: object, words: str
) -> None:
    log: list[str] = []

    def odd() -> Any:
        yield 1
        try:
            yield value
        finally:
            log.append("finally")

    key = submit(world, odd if world.kind == "thread" else _async_of(odd), window=5)
    ended = await world.end_of(key)
    assert ended.kind == OUTCOME_FAILURE
    assert ended.error.startswith(words)
    assert world.values(key) == [1]
    assert log == ["finally"]


async def test_a_generator_may_catch_that_a_value_cannot_travel(world: World) -> None:
    def tries() -> Any:
        try:
            yield object()
        except NotEncodable:
            yield "instead"

    async def tries_async() -> Any:
        try:
            yield object()
        except NotEncodable:
            yield "instead"

    key = submit(world, tries if world.kind == "thread" else tries_async, window=5)
    assert (await world.end_of(key)).kind == OUTCOME_SUCCESS
    assert world.values(key) == ["instead"]


async def test_heavy_values_wait_for_their_reader_though_they_are_few(world: World) -> None:
    log: list[Any] = []

    def heavy() -> Any:
        for number in range(3):
            log.append(number)
            yield "x" * STREAM_BYTES

    key = submit(world, generator(world, heavy), window=100)
    await world.receive_until(lambda: len(world.values(key)) == 1)
    assert log == [0]
    world.lane.credit(key, 1)
    await world.receive_until(lambda: len(world.values(key)) == 2)
    assert log == [0, 1]
    world.lane.credit(key, 3)  # of which one has not come yet
    await world.receive_until(lambda: len(world.values(key)) == 3)
    world.lane.credit(key, 3)
    assert (await world.end_of(key)).kind == OUTCOME_SUCCESS


async def test_what_is_no_generator_cannot_be_a_stream(world: World) -> None:
    key = submit(world, world.function(lambda: [1, 2]), window=5)
    ended = await world.end_of(key)
    assert ended.error == (
        "TypeError: a-name returned list, and only a generator can be a stream; "
        "call it with client.submit"
    )


async def test_wrong_arguments_of_a_generator_are_named(world: World) -> None:
    key = submit(world, generator(world, counting([])), window=5)
    ended = await world.end_of(key)
    assert ended.error.startswith("TypeError: ")
    assert "missing" in ended.error


def _async_of(body: Callable[..., Any]) -> Callable[..., Any]:
    """An async generator function that raises at its own yield what comes to it there."""

    async def function() -> Any:
        inner = body()
        try:
            for value in inner:
                yield value
        finally:
            inner.close()

    return function


async def test_a_nursery_inside_a_generator_ends_the_wait_of_its_yield() -> None:
    async def crash(now: trio.Event) -> None:
        await now.wait()
        raise ValueError("a child")

    now = trio.Event()
    log: list[str] = []

    async def nursing() -> Any:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(crash, now)
                yield 1
                yield 2
        except* ValueError:
            log.append("caught")
        yield 3

    async with open_world("inline") as world:
        key = submit(world, nursing, window=1)
        await world.receive_until(lambda: len(world.values(key)) == 1)
        now.set()
        await trio.testing.wait_all_tasks_blocked()
        world.look()
        # It has yielded again, and its value waits for room like any other.
        assert log == ["caught"]
        assert world.values(key) == [1]
        world.lane.credit(key, 1)
        await world.receive_until(lambda: len(world.values(key)) == 2)
        world.lane.credit(key, 2)
        assert (await world.end_of(key)).kind == OUTCOME_SUCCESS
        assert world.values(key) == [1, 3]
