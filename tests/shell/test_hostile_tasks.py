"""Tasks that cannot run, or whose outcome cannot travel, while another client works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, QueueFull, TaskStatus, UnknownTask
from fastworker._core._messages import MAX_ITEM_BYTES
from fastworker._registry import Registry
from tests.shell.world import World, open_world

pytestmark = pytest.mark.trio


@asynccontextmanager
async def somebody_working(world: World) -> AsyncIterator[None]:
    """S21: another client, whose tasks all succeed meanwhile, and at least ten of them."""
    done = 0

    async def work(client: Client) -> None:
        nonlocal done
        while True:
            assert (await client.submit_task("add", (done, 1))).result == done + 1
            done += 1
            await trio.sleep(0.01)

    async with world.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(work, client)
        yield
        with trio.fail_after(1):
            while done < 10:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


def circle() -> list[Any]:
    """A list that contains itself."""
    inside: list[Any] = []
    inside.append(inside)
    return inside


def huge() -> str:
    return "x" * (MAX_ITEM_BYTES + 1)


def broken() -> None:
    class Mute(Exception):
        def __init__(self, needed: object) -> None:
            super().__init__(needed)

        def __str__(self) -> str:
            raise RuntimeError("no words")

    raise Mute(1)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("opaque", "object"),
        ("circle", "contains itself"),
        ("huge", "the limit is 16,777,216"),
        ("broken", "Mute"),
        ("add", "missing"),
    ],
)
async def test_an_outcome_that_cannot_be_is_a_failure_and_the_worker_lives(
    autojump_clock: MockClock, task: str, words: str
) -> None:
    # T4, T5: at once, with the reason.
    async with open_world() as world:
        for function in (circle, huge, broken):
            world.registry.register(function)
        await world.start_worker("w2")
        async with somebody_working(world), world.client() as client:
            with trio.fail_after(1):
                result = await client.submit_task(task)
            assert result.status is TaskStatus.FAILURE
            assert result.error is not None
            assert words in result.error
            assert "\n" not in result.error
        assert world.plane.get_subworker_status()["active"] == 2


async def test_a_task_goes_to_the_worker_that_has_it_and_to_no_other(
    autojump_clock: MockClock,
) -> None:
    # T5: older code on half the workers.
    async with open_world(workers=0) as world:
        older = Registry()
        older.register(world.add)
        await world.start_worker("older", registry=older)
        await world.start_worker("newer")
        async with somebody_working(world), world.client() as client:
            for number in range(20):
                result = await client.submit_task("echo", (number,))
                assert (result.result, result.worker_id) == ([[number], {}], "newer")
                assert result.attempts == 1


async def test_a_name_that_nobody_has_is_refused_and_nobody_waits(
    autojump_clock: MockClock,
) -> None:
    # T5: no loop, no hanging.
    async with open_world() as world, somebody_working(world), world.client() as client:
        await trio.sleep(6)
        with trio.fail_after(1), pytest.raises(UnknownTask):
            await client.submit_task("of-next-year")


async def test_a_full_queue_is_told_to_who_submits_until_there_is_room(
    autojump_clock: MockClock,
) -> None:
    # B1: nothing is dropped silently, and what was taken is done.
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        await world.start_plane(max_queued=3)
        await world.start_worker("w1")
        async with world.client() as client, world.client() as other:
            waiting = [await client.delay("wait", number) for number in range(3)]
            for submit in (client.delay, other.delay, other.submit_task):
                with pytest.raises(QueueFull, match="max_queued=3; try again later"):
                    await submit("add", (1, 2))
            world.let_go(0)
            await trio.sleep(0.1)
            assert (await other.submit_task("add", (1, 2))).result == 3
            for number in (1, 2):
                world.let_go(number)
            await trio.sleep(0.1)
            assert {client.get_status(task_id) for task_id in waiting} == {TaskStatus.SUCCESS}
        nursery.cancel_scope.cancel()
