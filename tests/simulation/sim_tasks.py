"""The tasks of our own simulations: one of each kind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import trio

from fastworker._lanes._context import current_attempt
from fastworker._registry import Registry
from fastworker._task_options import TaskOptions


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


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to % 7):
        await trio.sleep(0.1)
        yield number


def make_registry() -> Registry:
    """All of them, apart from those of anybody else."""
    registry = Registry()
    for function in (nap, long_nap, work, slow_work, broken, count):
        registry.register(function)
    registry.register(apart, options=TaskOptions(isolation="process"))
    registry.register(once, options=TaskOptions(on_lost="fail"))
    registry.register(flaky, options=TaskOptions(max_retries=2, retry_delay=0.2, jitter=0.0))
    return registry
