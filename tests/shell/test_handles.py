"""``submit`` and the handle: wait, look, cancel, and be told the truth."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    Abandoned,
    Cancelled,
    Completed,
    NeverStarted,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskStatus,
    TaskTimedOut,
    UnknownTask,
    progress,
)
from tests.shell.world import BASE, open_world, settle

pytestmark = pytest.mark.trio


async def test_a_handle_gives_the_value_of_its_task(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit(world.add, 1, 2)
        assert await handle.result() == 3
        assert handle.is_done
        assert handle.status() is TaskStatus.SUCCESS
        assert (await handle.wait()).result == 3


async def test_a_handle_raises_the_remote_error_with_the_remote_traceback(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit(world.fail, "bad luck")
        with pytest.raises(TaskFailed, match="ValueError: bad luck") as caught:
            await handle.result()
        assert "raise ValueError(message)" in (caught.value.traceback or "")
        assert "Remote traceback" in caught.value.__notes__[0]


async def test_a_running_task_is_cancelled_and_its_handle_says_so(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit("wait", "a")
        await settle()
        assert handle.status() is TaskStatus.STARTED
        outcome = await handle.cancel()
        assert isinstance(outcome, Cancelled)
        assert handle.outcome == outcome
        assert world.stopped == ["a"]
        with pytest.raises(TaskCancelled):
            await handle.result()


async def test_a_queued_task_never_starts_once_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        await client.submit("wait", "blocker")
        handle = await client.submit("wait", "b")
        assert await handle.cancel() == NeverStarted()
        world.let_go("blocker")
        await settle()
        assert world.ran == ["blocker"]


async def test_a_task_that_has_ended_is_what_it_was(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit(world.add, 1, 2)
        await handle.result()
        outcome = await handle.cancel()
        assert isinstance(outcome, Completed)
        assert outcome.value == 3


async def test_anybody_may_cancel_a_task_by_its_id_and_both_hear_the_same(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as one, world.client() as other:
        handle = await one.submit("wait", "a")
        await settle()
        outcome = await other.cancel(handle.id)
        await settle()
        assert outcome == handle.outcome
        assert isinstance(outcome, Cancelled)


async def test_to_cancel_what_nobody_knows_is_an_error(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(TaskNotFound, match="nobody"):
            await client.cancel("nobody")
        assert client.statistics().waiting == 0


async def test_who_is_cancelled_while_it_waits_for_the_value_cancels_the_task(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit("wait", "a")
        await settle()
        with trio.move_on_after(1) as scope:
            await handle.result()
        assert scope.cancelled_caught
        assert isinstance(handle.outcome, Cancelled)
        assert world.stopped == ["a"]


async def test_an_attempt_that_runs_too_long_is_stopped_and_has_failed(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        start = trio.current_time()
        handle = await client.options(timeout=3).submit("wait", "a")
        with pytest.raises(TaskTimedOut, match="its timeout of 3 s"):
            await handle.result()
        assert trio.current_time() - start == pytest.approx(3, abs=0.2)
        assert world.stopped == ["a"]


async def test_a_failed_task_is_retried_and_its_earlier_errors_are_kept(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        options = client.options(max_retries=2, retry_delay=1, jitter=0)
        start = trio.current_time()
        result = await options.submit_task("fail", ("again",))
        assert result.status is TaskStatus.FAILURE
        assert result.attempts == 3
        assert result.errors == ["ValueError: again"] * 2
        assert trio.current_time() - start == pytest.approx(1 + 2, abs=0.2)


async def test_progress_reaches_the_handle(autojump_clock: MockClock) -> None:
    async def report() -> None:
        progress(0.5, "half way")
        await trio.sleep(1)

    async with open_world() as world:
        world.registry.register(report)
        await world.start_worker("w2")
        async with world.client() as client:
            handle = await client.submit("report")
            await trio.sleep(0.5)
            assert handle.progress() == (0.5, "half way")
            await handle.result()


async def test_a_task_that_is_not_started_in_time_expires(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        await client.submit("wait", "blocker")
        result = await client.options(expires=2).submit_task("note", ("late",))
        assert result.status is TaskStatus.EXPIRED
        assert result.error == "expired: it was not started in time while it was queued"
        world.let_go("blocker")
        await settle()
        assert world.ran == ["blocker"]


async def test_all_keywords_are_the_tasks_own(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        named = {"priority": 1, "timeout": 2, "task_name": 3}
        handle = await client.submit("echo", **named)
        assert await handle.result() == [[], named]


async def test_what_does_not_stop_in_its_grace_is_abandoned(autojump_clock: MockClock) -> None:
    """Fault T3."""
    async with open_world(workers=0) as world:
        world.registry.register(_stay)
        await world.start_worker(slots=2)
        async with world.client() as client:
            handle = await client.submit("_stay", 60)
            await settle()
            start = trio.current_time()
            assert await handle.cancel(grace=2) == Abandoned()
            assert trio.current_time() - start == pytest.approx(2, abs=0.2)
            # Its slot is taken, and the other one works.
            assert (await client.submit_task("add", (1, 2))).result == 3


async def test_a_worker_that_is_worn_out_ends_if_it_was_told_to(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, trio.open_nursery() as nursery:
        world.registry.register(_stay)
        worker = world.new_worker(slots=1, ends_when_worn_out=True)
        await nursery.start(worker.run)
        async with world.client() as client:
            handle = await client.submit("_stay", 60)
            await settle()
            assert await handle.cancel(grace=1) == Abandoned()
            await trio.sleep(5)
            assert worker.is_worn_out
            assert worker.statistics() is None


async def test_a_drain_can_be_called_off(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = await world.start_worker()
        handle = await client.submit("wait", "a")
        await settle()
        worker.drain()
        await settle()
        later = await client.submit("note", "b")
        await settle()
        assert world.plane.get_subworker_status()["subworkers"]["w1"]["status"] == "draining"
        worker.resume()
        world.let_go("a")
        assert await handle.result() == "a"
        assert await later.result() == "b"


async def _stay(seconds: float) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


@pytest.mark.parametrize("grace", [-1, math.nan, math.inf, "5", True])
async def test_a_grace_that_cannot_be_one_is_refused_and_nothing_is_sent(
    autojump_clock: MockClock, grace: Any
) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit("wait", "a")
        await settle()
        with pytest.raises(ValueError, match="grace="):
            await handle.cancel(grace)
        with pytest.raises(ValueError, match="grace="):
            await client.cancel(handle.id, grace)
        await settle()
        assert world.stopped == []
        assert (await client.submit_task("add", (1, 2))).result == 3


@pytest.mark.parametrize("task_id", ["", "x" * 257, "\ud800", None, 5])
async def test_an_id_that_cannot_be_one_is_nobodys(
    autojump_clock: MockClock, task_id: Any
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(TaskNotFound, match="no task has the id"):
            await client.cancel(task_id)
        assert await client.get_task_result(task_id) is None
        assert (await client.submit_task("add", (1, 2))).result == 3


async def test_a_name_that_cannot_travel_is_unknown(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        for call in (client.submit, client.delay, client.submit_task):
            with pytest.raises(UnknownTask, match="1 to 256 characters"):
                await call("\ud800")
        assert (await client.submit_task("add", (1, 2))).result == 3


async def test_who_hands_in_a_task_that_is_cancelled_before_it_is_sent_gets_its_id(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client(new_task_id=lambda: "known beforehand") as client,
        trio.open_nursery() as nursery,
    ):
        world.cut_off(BASE)
        ids = []

        async def delay() -> None:
            ids.append(await client.delay("note", 1))

        nursery.start_soon(delay)
        await settle()
        assert await client.cancel("known beforehand") == NeverStarted()
        await settle()
        assert ids == ["known beforehand"]
        world.network.heal(BASE)
        await trio.sleep(5)
        assert world.ran == []
