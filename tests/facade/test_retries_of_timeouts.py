"""An attempt that ran longer than its timeout runs again if ``retry_on`` names that error.

In every lane, and however the attempt was stopped: because it let itself be cancelled,
because it was given up, or because its process was killed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest
import trio

import fastworker
from fastworker import TaskStatus, TaskTimedOut, task

pytestmark = [pytest.mark.trio, pytest.mark.slow]

# So many seconds an attempt gets. The second one needs none, and may be late all the
# same on a machine that is busy; then there is a third.
TIMEOUT = 0.3


def _number() -> int:
    current = fastworker.current_task()
    assert current is not None
    return current.attempt


def _hang() -> None:
    while True:
        fastworker.check_cancelled()
        time.sleep(0.005)


AGAIN: Any = {"timeout": TIMEOUT, "max_retries": 9, "retry_delay": 0.0}
# A process has to start first, which may take a second on a machine that is busy.
AGAIN_IN_A_PROCESS: Any = {**AGAIN, "timeout": 10 * TIMEOUT, "isolation": "process"}


@task(**AGAIN, retry_on=TimeoutError)
def late_in_a_thread() -> int:
    if _number() == 1:
        _hang()
    return _number()


@task(**AGAIN, retry_on=TaskTimedOut)
async def late_on_trio() -> int:
    if _number() == 1:
        await trio.sleep_forever()
    return _number()


@task(**AGAIN, retry_on=(KeyError, TimeoutError), backend="asyncio")
async def late_on_asyncio() -> int:
    if _number() == 1:
        await asyncio.Event().wait()
    return _number()


@task(**AGAIN_IN_A_PROCESS, retry_on=lambda error: isinstance(error, TimeoutError))
def late_in_a_process() -> int:
    if _number() == 1:
        _hang()
    return _number()


@task(**AGAIN_IN_A_PROCESS, grace=0.1, retry_on=TaskTimedOut)
def killed_in_a_process() -> int:
    if _number() == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            try:
                time.sleep(60)
            except BaseException:  # noqa: BLE001 - it does not want to stop
                continue
    return _number()


@task(**AGAIN, grace=0.0)
async def given_up() -> int:
    if _number() == 1:
        with trio.CancelScope(shield=True):
            await trio.sleep(2 * TIMEOUT)
    return _number()


def is_busy(error: Any) -> bool:
    return bool(error.status == 503)


@task(**AGAIN, retry_on=ConnectionError)
def final_in_a_thread() -> None:
    _hang()


@task(**AGAIN, retry_on=ConnectionError)
async def final_on_trio() -> None:
    await trio.sleep_forever()


@task(**AGAIN, retry_on=is_busy, backend="asyncio")
async def final_on_asyncio() -> None:
    await asyncio.Event().wait()


@task(**AGAIN_IN_A_PROCESS, retry_on=ConnectionError)
def final_in_a_process() -> None:
    _hang()


@task(**AGAIN, grace=0.0, retry_on=ConnectionError)
async def final_and_given_up() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(2 * TIMEOUT)


def limit(function: Any) -> str:
    """How long an attempt of it may take, as it is told."""
    return "3 s" if function.__name__.endswith("_process") else "0.3 s"


@pytest.mark.parametrize(
    "function",
    [
        late_in_a_thread,
        late_on_trio,
        late_on_asyncio,
        late_in_a_process,
        killed_in_a_process,
        given_up,
    ],
)
async def test_a_timeout_that_retry_on_names_is_retried(function: Any) -> None:
    async with fastworker.local(concurrency=2) as client:
        result = await client.submit_task(function.__name__)
    assert result.status is TaskStatus.SUCCESS, result.error
    assert result.result == result.attempts >= 2
    assert len(result.errors) == result.attempts - 1
    for error in result.errors:
        assert error.startswith(
            f"TaskTimedOut: it ran longer than its timeout of {limit(function)}"
        )


@pytest.mark.parametrize(
    "function",
    [
        final_in_a_thread,
        final_on_trio,
        final_on_asyncio,
        final_in_a_process,
        final_and_given_up,
    ],
)
async def test_a_timeout_that_retry_on_does_not_name_is_the_end(function: Any) -> None:
    async with fastworker.local(concurrency=2) as client:
        handle = await client.submit(function)
        with pytest.raises(TimeoutError, match=f"timeout of {limit(function)}") as caught:
            await handle.result()
        assert isinstance(caught.value, TaskTimedOut)
        assert caught.value.errors == []
