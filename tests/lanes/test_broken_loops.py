"""User code that breaks the event loop it runs in must not end the lane."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from fastworker._lanes._abc import OUTCOME_FAILURE, OUTCOME_SUCCESS, AttemptKey
from tests.lanes.lane_world import GUARD, Gate, open_world

pytestmark = pytest.mark.trio


async def leave_a_scope_open() -> None:
    trio.CancelScope().__enter__()


async def leave_a_nursery_open() -> None:
    await trio.open_nursery().__aenter__()


@pytest.mark.parametrize("function", [leave_a_scope_open, leave_a_nursery_open])
async def test_a_function_that_leaves_a_trio_scope_open_fails_alone(
    function: Callable[[], Any],
) -> None:
    async with open_world("trio", slots=2) as world:
        gate = world.gate()
        neighbour = world.submit(world.holding(gate))
        await world.start_of(neighbour)

        ended = await world.outcome(function)
        assert ended.kind == OUTCOME_FAILURE
        assert ended.error.startswith("RuntimeError: Cancel scope stack corrupted")
        gate.open()
        assert (await world.end_of(neighbour)).kind == OUTCOME_SUCCESS
        assert await world.result(world.function(lambda: 1)) == 1


async def test_a_broken_trio_loop_fails_what_ran_and_a_new_one_takes_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # T3 in docs/faults.md.
    async with open_world("trio", slots=2) as world:
        gate = world.gate()
        neighbour = world.submit(world.holding(gate))
        await world.start_of(neighbour)

        async def crash() -> None:
            raise ValueError("in a system task")

        async def start_crash() -> None:
            trio.lowlevel.spawn_system_task(crash)
            await gate.wait_in_trio()

        culprit = world.submit(start_crash)
        waiting = world.submit(world.function(lambda: "after it"))
        assert (await world.end_of(waiting)).payload == b'"after it"'
        for key in (culprit, neighbour):
            assert world.ended[key].kind == OUTCOME_FAILURE
            assert world.ended[key].error == (
                "LaneBroken: other code broke the Trio loop: ValueError: in a system task"
            )
        assert await world.result(world.function(lambda: 1)) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_attempt_that_comes_while_a_trio_loop_breaks_waits_for_the_next() -> None:
    async with open_world("trio", slots=2) as world:
        breaking, submitted = threading.Event(), threading.Event()

        async def crash() -> None:
            raise ValueError("in a system task")

        async def start_crash() -> None:
            trio.lowlevel.spawn_system_task(crash)
            try:
                await trio.sleep_forever()
            finally:
                # The loop stands still in the middle of its end.
                breaking.set()
                assert submitted.wait(GUARD)

        world.submit(start_crash)
        try:
            assert await trio.to_thread.run_sync(breaking.wait, GUARD)
            key = world.submit(world.function(lambda: "in the next loop"))
        finally:
            submitted.set()
        assert (await world.end_of(key)).payload == b'"in the next loop"'


async def exit_in_a_subtask(gate: Gate) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    subtask = asyncio.create_task(leave())
    await gate.wait_in_asyncio()
    while not subtask.done():
        await asyncio.sleep(0)


async def stop_the_loop(gate: Gate) -> None:
    asyncio.get_running_loop().stop()
    await gate.wait_in_asyncio()


@pytest.mark.parametrize("function", [exit_in_a_subtask, stop_the_loop])
async def test_an_asyncio_loop_that_is_stopped_goes_on_with_all_its_tasks(
    function: Callable[[Gate], Awaitable[None]],
) -> None:
    async with open_world("asyncio", slots=2) as world:
        gate = world.gate()
        neighbour = world.submit(world.holding(gate))

        async def culprit_function() -> None:
            try:
                await function(gate)
            finally:
                pass

        culprit = world.submit(culprit_function)
        await world.receive_until(lambda: len(world.started) == 2)
        third = world.submit(world.function(lambda: None))
        gate.open()
        await world.all_accounted_for()
        kinds = {world.ended[key].kind for key in (neighbour, culprit, third)}
        assert kinds == {OUTCOME_SUCCESS}


async def test_asyncio_code_that_cancels_all_tasks_cannot_end_the_lane() -> None:
    async with open_world("asyncio", slots=10) as world:

        async def cancel_all() -> None:
            for task in asyncio.all_tasks():
                task.cancel()

        gate = world.gate()
        # In one batch, so that some are cancelled before their first step.
        keys: list[AttemptKey] = world.submit_many(
            [world.holding(gate), cancel_all, world.holding(gate), world.holding(gate)]
        )
        await world.all_accounted_for()
        assert [world.ended[key].kind for key in keys[2:]] == [OUTCOME_FAILURE] * 2
        assert await world.result(world.function(lambda: 1)) == 1
