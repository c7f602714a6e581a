"""A task in a process can always be stopped: asked first, then killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_trio  # type: ignore[import-untyped]
import trio

from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptKey,
)
from tests.lanes import process_tasks as tasks
from tests.lanes.lane_world import World, open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]

# Long enough that nothing which stops when asked is ever killed.
LONG = 30.0


class Said:
    """A FIFO in which a function says words, one a line."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._text = b""

    async def next(self) -> str:
        with trio.fail_after(LONG):
            while b"\n" not in self._text:
                await trio.lowlevel.wait_readable(self._descriptor)
                self._text += os.read(self._descriptor, 4096)
        word, _, self._text = self._text.partition(b"\n")
        return word.decode()

    def close(self) -> None:
        os.close(self._descriptor)


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]
async def world() -> AsyncIterator[World]:
    async with open_world("process") as world:
        yield world


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]
async def said(tmp_path: Path) -> AsyncIterator[Said]:
    said = Said(tmp_path / "said")
    yield said
    said.close()


async def start(world: World, said: Said, function: Callable[..., Any]) -> AttemptKey:
    """Start a function, and return once it is past its first line."""
    key = world.submit(function, said.path)
    await world.start_of(key)
    assert await said.next() == "in"
    return key


async def stop(
    world: World, said: Said, function: Callable[..., Any], grace: float
) -> AttemptEnded:
    key = await start(world, said, function)
    world.lane.cancel(key, grace)
    return await world.end_of(key)


@pytest.mark.parametrize(
    "function",
    [
        tasks.process_sleep,
        tasks.process_loop,
        tasks.process_sleep_trio,
        tasks.process_sleep_asyncio,
    ],
)
async def test_what_lets_itself_be_stopped_ends_as_cancelled_and_cleans_up(
    world: World, said: Said, function: Callable[..., Any]
) -> None:
    ended = await stop(world, said, function, LONG)

    assert ended.kind == OUTCOME_CANCELLED
    assert ended.error == "TaskCancelled: cancelled while it ran"
    assert ended.signal == 0
    assert await said.next() == "out"


@pytest.mark.parametrize(
    "function",
    [tasks.process_swallow, tasks.process_hold_gil, tasks.process_block_trio],
)
async def test_what_does_not_stop_is_killed_when_the_grace_is_over(
    world: World, said: Said, function: Callable[..., Any]
) -> None:
    key = await start(world, said, function)
    asked_at = trio.current_time()
    world.lane.cancel(key, 0.2)
    world.lane.cancel(key, LONG)  # asking again gives no more time
    ended = await world.end_of(key)

    assert ended.kind == OUTCOME_CANCELLED
    assert ended.signal == signal.SIGKILL
    assert "did not stop within 0.2 s, so its process was killed" in ended.error
    assert trio.current_time() - asked_at >= 0.2
    assert ended.seconds >= 0.2
    assert await world.result(tasks.process_echo, "next") == ["next"]


async def test_a_function_that_ignores_sigterm_can_still_ask(world: World, said: Said) -> None:
    ended = await stop(world, said, tasks.process_ignore_sigterm, LONG)

    assert (ended.kind, ended.signal) == (OUTCOME_CANCELLED, 0)


async def test_a_function_that_lets_sigterm_end_its_process_is_cancelled(
    world: World, said: Said
) -> None:
    ended = await stop(world, said, tasks.process_default_sigterm, LONG)

    assert (ended.kind, ended.signal) == (OUTCOME_CANCELLED, signal.SIGTERM)
    assert "ended with SIGTERM when it was asked to stop" in ended.error


async def test_a_function_that_returns_after_all_is_a_success(world: World, said: Said) -> None:
    ended = await stop(world, said, tasks.process_return_when_stopped, LONG)

    assert ended.kind == OUTCOME_SUCCESS
    assert ended.payload == b'"all the same"'


async def test_a_crash_while_stopping_is_a_failure(world: World, said: Said) -> None:
    ended = await stop(world, said, tasks.process_crash_when_stopped, LONG)

    assert (ended.kind, ended.signal) == (OUTCOME_FAILURE, signal.SIGSEGV)


async def test_killing_takes_along_what_the_task_has_started(world: World, said: Said) -> None:
    key = world.submit(tasks.process_block_with_child, said.path)
    await world.start_of(key)
    child = os.pidfd_open(int(await said.next()))
    world.lane.cancel(key, 0.0)

    assert (await world.end_of(key)).signal == signal.SIGKILL
    with trio.fail_after(LONG):
        await trio.lowlevel.wait_readable(child)
    os.close(child)


async def test_a_process_that_was_asked_to_stop_runs_nothing_more(
    world: World, said: Said
) -> None:
    before = await world.result(tasks.process_pid)
    await stop(world, said, tasks.process_sleep, LONG)

    assert await world.result(tasks.process_pid) != before


async def test_stopping_one_leaves_its_neighbours_alone(said: Said) -> None:
    async with open_world("process", slots=2) as world:
        gate = world.gate()
        neighbour = world.submit(world.holding(gate))
        await world.start_of(neighbour)
        key = await start(world, said, tasks.process_swallow)
        world.lane.cancel(key, 0.0)
        await world.end_of(key)

        assert neighbour not in world.ended
        gate.open()
        assert (await world.end_of(neighbour)).kind == OUTCOME_SUCCESS


async def test_closing_kills_what_does_not_stop(world: World, said: Said) -> None:
    key = await start(world, said, tasks.process_swallow)

    await world.finish()
    assert world.ended[key].kind == OUTCOME_CANCELLED
    assert world.ended[key].signal == signal.SIGKILL


async def test_a_sigterm_that_the_lane_has_not_asked_for_stops_nothing(world: World) -> None:
    # A service manager sends it to all processes; the worker decides for its own.
    assert await world.result(tasks.process_sigterm_self) == "alive"
