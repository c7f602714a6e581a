"""Streams on both event loops, with real lanes and a control plane in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
import trio

import fastworker
from fastworker import TaskFailed
from fastworker._registry import Registry, TaskOptions

pytestmark = pytest.mark.anyio

ended: list[str] = []


def in_thread(end: int) -> Iterator[int]:
    try:
        yield from range(end)
    finally:
        ended.append("in_thread")


async def on_trio(end: int) -> AsyncIterator[int]:
    try:
        for number in range(end):
            await trio.lowlevel.checkpoint()
            yield number
    finally:
        ended.append("on_trio")


async def on_asyncio(end: int) -> AsyncIterator[int]:
    try:
        for number in range(end):
            await asyncio.sleep(0)
            yield number
    finally:
        ended.append("on_asyncio")


async def failing() -> AsyncIterator[int]:
    yield 1
    raise ValueError("no luck")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def registry() -> Registry:
    ended.clear()
    registry = Registry()
    for function in (in_thread, on_trio, failing):
        registry.register(function)
    registry.register(on_asyncio, options=TaskOptions(backend="asyncio"))
    return registry


@pytest.mark.parametrize("function", [in_thread, on_trio, on_asyncio])
async def test_values_come_in_order_from_every_lane(registry: Registry, function: Any) -> None:
    async with (
        fastworker.local(registry=registry) as client,
        client.stream(function, 1000) as values,
    ):
        assert [value async for value in values] == list(range(1000))


@pytest.mark.parametrize("function", [in_thread, on_trio, on_asyncio])
async def test_the_generator_has_ended_when_its_block_is_left(
    registry: Registry, function: Any
) -> None:
    async with fastworker.local(registry=registry) as client:
        async with client.stream(function, 10**9) as values:
            async for value in values:
                if value == 100:
                    break
        assert ended == [function.__name__]


async def test_the_generator_has_ended_when_its_reader_is_cancelled(
    registry: Registry,
) -> None:
    async with fastworker.local(registry=registry) as client:
        with anyio.CancelScope() as scope:
            async with client.stream(on_trio, 10**9) as values:
                async for value in values:
                    if value == 100:
                        scope.cancel()
        assert scope.cancelled_caught
        assert ended == ["on_trio"]


async def test_an_error_comes_after_the_values(registry: Registry) -> None:
    async with fastworker.local(registry=registry) as client, client.stream(failing) as values:
        assert await anext(values) == 1
        with pytest.raises(TaskFailed, match="ValueError: no luck"):
            await anext(values)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_task_of_asyncio_that_is_cancelled_ends_its_generator(
    registry: Registry,
) -> None:
    async with fastworker.local(registry=registry) as client:
        has_begun = asyncio.Event()

        async def read() -> None:
            async with client.stream(on_trio, 10**9) as values:
                async for _ in values:
                    has_begun.set()

        reading = asyncio.create_task(read())
        await has_begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert ended == ["on_trio"]
