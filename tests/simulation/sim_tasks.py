"""The tasks of our own simulations: one of each kind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import trio

from fastworker._lanes._context import current_attempt
from fastworker._registry import Registry
from fastworker._task_options import TaskOptions
from fastworker.testing._process import kills_its_worker, this_process, this_simulation


async def nap(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def long_nap(number: int) -> int:
    await trio.sleep(number % 50 + 20)
    return number


def work(number: int, text: str) -> str:
    return f"{text}{number}"


def slow_work(number: int) -> int:
    time.sleep(1 + number % 10)
    return number


def apart(number: int) -> int:
    return number


async def once(seconds: float) -> float:
    await trio.sleep(10 * seconds)
    return seconds


def flaky(number: int) -> int:
    """Fail twice, then succeed."""
    current = current_attempt.get()
    assert current is not None
    if current.attempt.number <= 2:
        raise ValueError(f"attempt {current.attempt.number}")
    return number


def broken() -> None:
    raise ValueError("broken")


async def numbers(count: int) -> AsyncIterator[int]:
    """Give a few numbers, some of them at once."""
    for number in range(count % 7):
        await trio.sleep(0.2 * (number % 3))
        yield number


@kills_its_worker
async def poison() -> None:
    await trio.sleep(0.05)
    this_simulation().crash_by_itself(this_process().name)
    await trio.sleep_forever()


async def family(number: int) -> int:
    """Submit tasks of its own, and wait for some of them."""
    async with this_simulation().client() as client:
        handles = [await client.submit("nap", 0.1 * place) for place in range(number % 3)]
        child = await client.submit_task("work", (number, "child"))
        for handle in handles[number % 2 :]:
            await handle.wait()
    if child.error:
        raise ValueError("a child has failed")
    return number


def make_registry() -> Registry:
    """All of them, apart from those of anybody else."""
    registry = Registry()
    for function in (nap, long_nap, work, slow_work, broken, numbers, poison, family):
        registry.register(function)
    registry.register(apart, options=TaskOptions(isolation="process"))
    registry.register(once, options=TaskOptions(on_lost="fail"))
    registry.register(flaky, options=TaskOptions(max_retries=2, retry_delay=0.2, jitter=0.0))
    return registry
