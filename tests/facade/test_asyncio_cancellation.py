"""asyncio's own ways to stop a caller, none of which knows of anyio's scopes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from fastworker import Client, TaskResult, TaskStatus
from tests.facade.plane import Plane, running_plane

pytestmark = pytest.mark.nng


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    with running_plane() as plane:
        yield plane


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def cancel_the_asyncio_task(call: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def let_a_timeout_end_it(call: Awaitable[Any]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await call


async def let_wait_for_end_it(call: Awaitable[Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.05)


async def let_a_sibling_fail(call: Awaitable[Any]) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise LookupError("the sibling")

    async def run_both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await call

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()
    assert caught.group_contains(LookupError)


WAYS = [
    cancel_the_asyncio_task,
    let_a_timeout_end_it,
    let_wait_for_end_it,
    let_a_sibling_fail,
]


@pytest.mark.parametrize("end", WAYS, ids=lambda way: way.__name__)
def test_a_submitted_task_is_taken_back_when_its_caller_is_stopped(
    plane: Plane, end: Callable[[Awaitable[Any]], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with Client(plane.address) as client:
            before = plane.tasks.cancelled
            with plane.closed_gate():
                blocker = await client.delay("wait")
                await end(client.submit_task("add", (1, 2)))
                await until(lambda: plane.tasks.cancelled == before + 1)
                # Nobody else was touched, and the client works as before.
                queued = asyncio.create_task(client.submit_task("add", (3, 4)))
                await asyncio.sleep(0.01)
            result: TaskResult = await queued
            assert result.result == 7
            await until(lambda: client.get_status(blocker) is TaskStatus.SUCCESS)
            await until(lambda: not client.statistics().waiting)

    asyncio.run(main())


@pytest.mark.slow
def test_a_delay_that_is_cancelled_at_any_moment_leaves_a_task_or_none(plane: Plane) -> None:
    # What returned an id is queued; what raised is not (exactly one of both).
    async def main() -> None:
        rng = random.Random(5)
        async with Client(plane.address) as client:
            with plane.closed_gate():
                blocker = await client.delay("wait")
                await until(lambda: client.get_status(blocker) is TaskStatus.STARTED)
                before = sum(plane.tasks.ready)
                returned: list[str] = []
                cancelled = 0
                for _ in range(200):
                    task = asyncio.create_task(client.delay("add", 1, 1))
                    for _ in range(rng.randrange(12)):
                        await asyncio.sleep(rng.choice([0, 0, 0.0002]))
                    task.cancel()
                    try:
                        returned.append(await task)
                    except asyncio.CancelledError:
                        cancelled += 1
                assert returned
                assert cancelled > 20
                await until(lambda: sum(plane.tasks.ready) - before == len(returned))
                for task_id in returned:
                    assert client.get_status(task_id) is TaskStatus.PENDING
            await until(lambda: not client.statistics().waiting)
            for task_id in returned:
                assert client.get_status(task_id) is TaskStatus.SUCCESS

    asyncio.run(main())


def test_a_query_that_is_cancelled_changes_nothing(plane: Plane) -> None:
    async def main() -> None:
        async with Client(plane.address) as client:
            task_id = await client.delay("add", 1, 1)
            for steps in range(8):
                task = asyncio.create_task(client.get_task_result(task_id))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            result = await client.get_task_result(task_id)
            assert result is not None

    asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    async def main() -> None:
        client = Client("tcp://127.0.0.1:9")
        before = asyncio.all_tasks()
        for steps in range(6):
            task = asyncio.create_task(client.start())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == before

    asyncio.run(main())
