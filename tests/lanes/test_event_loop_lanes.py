"""What can go wrong between user code and the event loop that it runs in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.lowlevel

from fastworker._errors import TaskCancelled
from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
)
from fastworker._lanes._context import check_cancelled
from tests.lanes.lane_world import GUARD, Gate, World, open_world

pytestmark = pytest.mark.trio

LOOP_KINDS = ("trio", "asyncio", "inline")
THREADED = ("thread", "trio", "asyncio")


def wait_for(world: World, gate: Gate) -> Callable[[], Awaitable[None]]:
    return gate.wait_in_asyncio if world.kind == "asyncio" else gate.wait_in_trio


# --- functions that do not stop (T3) ----------------------------------------------


@pytest.mark.parametrize("kind", LOOP_KINDS)
async def test_a_function_that_swallows_its_cancellation_ends_as_what_it_returns(
    kind: str,
) -> None:
    # T3 in docs/faults.md.
    async with open_world(kind) as world:
        wait = wait_for(world, world.gate())

        async def stubborn() -> str:
            try:
                await wait()
            except BaseException:  # noqa: BLE001
                return "no"
            return "never cancelled"

        key = world.submit(stubborn)
        await world.start_of(key)
        world.lane.cancel(key)
        ended = await world.end_of(key)
        assert (ended.kind, ended.payload) == (OUTCOME_SUCCESS, b'"no"')


@pytest.mark.parametrize("kind", LOOP_KINDS)
async def test_a_function_that_fails_while_it_is_cancelled_is_a_failure(kind: str) -> None:
    async with open_world(kind) as world:
        wait = wait_for(world, world.gate())

        async def fail_on_cancel() -> None:
            try:
                await wait()
            finally:
                raise ValueError("clean-up failed")

        key = world.submit(fail_on_cancel)
        await world.start_of(key)
        world.lane.cancel(key)
        ended = await world.end_of(key)
        assert (ended.kind, ended.error) == (OUTCOME_FAILURE, "ValueError: clean-up failed")


@pytest.mark.parametrize("kind", LOOP_KINDS)
async def test_children_are_cancelled_with_their_function(kind: str) -> None:
    async with open_world(kind) as world:
        wait = wait_for(world, world.gate())
        ended_children: list[str] = []

        async def child() -> None:
            try:
                await wait()
            finally:
                ended_children.append("child")

        async def parent() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                group.start_soon(child)

        key = world.submit(parent)
        await world.start_of(key)
        if kind == "inline":
            await trio.testing.wait_all_tasks_blocked()
        world.lane.cancel(key)
        assert (await world.end_of(key)).kind == OUTCOME_CANCELLED
        assert len(ended_children) in (0, 2)


@pytest.mark.parametrize("kind", LOOP_KINDS)
async def test_a_shielded_function_keeps_its_slot_until_it_really_ends(kind: str) -> None:
    # T3 in docs/faults.md.
    async with open_world(kind) as world:
        gate = world.gate()
        wait, wait_for_ever = wait_for(world, gate), wait_for(world, world.gate())
        went_on: list[str] = []

        async def shielded() -> None:
            if kind == "asyncio":
                # asyncio has no shield against Task.cancel() but to catch it.
                waiting = asyncio.ensure_future(wait())
                try:
                    await asyncio.shield(waiting)
                finally:
                    await waiting
                    went_on.append("shielded")
            else:
                with trio.CancelScope(shield=True):
                    await wait()
                went_on.append("shielded")
            await wait_for_ever()

        key = world.submit(shielded)
        other = world.submit(world.function(lambda: went_on.append("other")))
        await world.start_of(key)
        world.lane.cancel(key)
        gate.open()
        await world.all_accounted_for()
        assert went_on == ["shielded", "other"]
        assert list(world.ended) == [key, other]
        assert world.ended[key].kind == OUTCOME_CANCELLED


# --- functions that block (T1) ----------------------------------------------------


@pytest.mark.parametrize("kind", THREADED)
async def test_a_function_that_blocks_its_lane_does_not_block_the_link_loop(kind: str) -> None:
    # T1 in docs/faults.md.
    async with open_world(kind) as world:
        unblock = threading.Event()
        try:
            blocking = world.submit(world.function(lambda: unblock.wait(GUARD)))
            cancelled = world.submit(world.function(lambda: None))
            kept = world.submit(world.function(lambda: None))
            await world.start_of(blocking)

            # The lane is stuck, and still all of this answers at once.
            world.lane.cancel(cancelled)
            assert (await world.end_of(cancelled)).kind == OUTCOME_CANCELLED
            assert world.take_back() == [kept]
            world.lane.cancel(blocking)
            world.lane.close()
            assert not world.lane.join(0)
        finally:
            unblock.set()
        # It has no checkpoint, so it could not be cancelled.
        assert (await world.end_of(blocking)).kind == OUTCOME_SUCCESS


# --- the wrong loop ----------------------------------------------------------------


async def needs_running_loop() -> None:
    asyncio.get_running_loop()


async def sleeps_zero() -> None:
    await asyncio.sleep(0)


async def sleeps() -> None:
    await asyncio.sleep(0.001)


async def uses_a_task_group() -> None:
    async with asyncio.TaskGroup():
        pass


async def uses_a_queue() -> None:
    await asyncio.Queue().get()


async def uses_a_thread() -> None:
    await asyncio.to_thread(int)


async def fails_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asyncio.sleep, 1)


@pytest.mark.parametrize(
    "function",
    [
        needs_running_loop,
        sleeps_zero,
        sleeps,
        uses_a_task_group,
        uses_a_queue,
        uses_a_thread,
        fails_in_a_nursery,
    ],
)
async def test_a_coroutine_for_asyncio_that_meets_trio_is_told_what_to_do(
    function: Callable[[], Any],
) -> None:
    async with open_world("trio") as world:
        ended = await world.outcome(function)

    assert ended.kind == OUTCOME_FAILURE
    assert '@task(backend="asyncio")' in ended.error
    assert "--backend asyncio" in ended.error
    assert len(ended.error) <= 1000


async def sleeps_on_trio() -> None:
    await trio.lowlevel.checkpoint()


async def opens_a_nursery() -> None:
    async with trio.open_nursery():
        pass


@pytest.mark.parametrize("function", [sleeps_on_trio, opens_a_nursery])
async def test_a_coroutine_for_trio_that_meets_asyncio_is_told_what_to_do(
    function: Callable[[], Any],
) -> None:
    async with open_world("asyncio") as world:
        ended = await world.outcome(function)

    assert ended.kind == OUTCOME_FAILURE
    assert '@task(backend="trio")' in ended.error


@pytest.mark.parametrize("kind", LOOP_KINDS)
async def test_other_errors_get_no_hint(kind: str) -> None:
    async def fail() -> None:
        raise RuntimeError("the market has no running event loop")

    async with open_world(kind) as world:
        ended = await world.outcome(fail)
    assert ended.error == "RuntimeError: the market has no running event loop"


@pytest.mark.parametrize("kind", LOOP_KINDS)
async def test_code_on_anyio_runs_on_either_loop(kind: str) -> None:
    async def both_ways() -> str:
        await anyio.lowlevel.checkpoint()
        return await anyio.to_thread.run_sync(lambda: "from a thread")

    async with open_world(kind) as world:
        assert await world.result(both_ways) == "from a thread"


# --- cancellation that is not ours ---------------------------------------------------


async def test_a_function_that_cancels_itself_on_asyncio_has_failed() -> None:
    async def cancel_me() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with open_world("asyncio") as world:
        ended = await world.outcome(cancel_me)
    assert ended.kind == OUTCOME_FAILURE
    assert ended.error.startswith("CancelledError (nobody cancelled this task")


@pytest.mark.parametrize("kind", ["trio", "inline"])
async def test_a_function_that_raises_an_old_cancelled_on_trio_has_failed(kind: str) -> None:
    async def keep_and_raise() -> None:
        kept: list[BaseException] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
        raise kept[0]

    async with open_world(kind) as world:
        ended = await world.outcome(keep_and_raise)
        assert await world.result(world.function(lambda: 1)) == 1
    assert ended.kind == OUTCOME_FAILURE
    assert ended.error.startswith("Cancelled")
    assert "nobody cancelled this task" in ended.error


@pytest.mark.parametrize("kind", ["trio", "asyncio"])
async def test_a_thread_started_by_a_cancelled_function_can_ask_too(kind: str) -> None:
    async with open_world(kind) as world:
        running, go_on, stopped = threading.Event(), threading.Event(), threading.Event()

        def ask() -> None:
            running.set()
            assert go_on.wait(GUARD)
            try:
                check_cancelled()
            except TaskCancelled:
                stopped.set()

        async def use_a_thread() -> None:
            await anyio.to_thread.run_sync(ask)

        key = world.submit(use_a_thread)
        try:
            assert await trio.to_thread.run_sync(running.wait, GUARD)
            world.lane.cancel(key)
        finally:
            go_on.set()
        await world.end_of(key)
        assert await trio.to_thread.run_sync(stopped.wait, GUARD)
