"""``delay``: an id at once, news while it runs, the outcome in the local cache."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import TaskPriority, TaskStatus
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_delay_returns_a_pending_task_at_once(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        before = trio.current_time()
        await client.delay("wait", "first")
        task_id = await client.delay("wait", "second")
        assert trio.current_time() == before
        assert client.get_status(task_id) is TaskStatus.PENDING
        assert client.get_result(task_id) is None


async def test_news_of_the_start_and_of_the_end_are_pushed(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay("wait", "a")
        await trio.sleep(0.1)
        assert client.get_status(task_id) is TaskStatus.STARTED
        assert client.get_result(task_id) is None

        world.let_go("a")
        await settle()
        assert client.get_status(task_id) is TaskStatus.SUCCESS
        result = client.get_result(task_id)
        assert result is not None
        assert result.result == "a"
        assert result.worker_id == "w1"
        assert result.attempts == 1
        assert result.started_at is not None
        assert result.completed_at is not None
        assert result.started_at <= result.completed_at


async def test_the_status_of_an_id_that_the_client_does_not_hold_is_none(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        task_id = await other.delay("add", 1, 2)
        await settle()
        assert other.get_status(task_id) is TaskStatus.SUCCESS
        assert client.get_status(task_id) is None
        assert client.get_result(task_id) is None
        assert client.get_status("no such id") is None


async def test_a_function_may_be_given_instead_of_its_name(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay(world.add, 1, b=2)
        await settle()
        result = client.get_result(task_id)
        assert result is not None
        assert result.result == 3
        assert (await client.submit_task(world.add, (3, 4))).result == 7


async def test_a_function_gets_all_keywords_itself(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay(world.echo, priority="low")
        await settle()
        result = client.get_result(task_id)
        assert result is not None
        assert result.result == [[], {"priority": "low"}]


async def test_positional_and_keyword_arguments_arrive_as_they_were_given(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay("echo", 1, [2], key="value")
        await settle()
        result = client.get_result(task_id)
        assert result is not None
        assert result.result == [[1, [2]], {"key": "value"}]
        result = await client.submit_task("echo", args=(5,), kwargs={"priority": 1})
        assert result.result == [[5], {"priority": 1}]


async def test_args_stays_a_tuple_in_the_task(autojump_clock: MockClock) -> None:
    seen: list[type] = []

    def look(*args: object) -> None:
        seen.append(type(args))

    async with open_world(workers=0) as world, world.client() as client:
        world.registry.register(look, name="look")
        await world.start_worker()
        await client.submit_task("look", [1, 2])  # type: ignore[arg-type]
    assert seen == [tuple]


@pytest.mark.parametrize("urgent", [TaskPriority.HIGH, 1, "high", "HIGH"])
async def test_delay_with_a_priority_goes_ahead(
    autojump_clock: MockClock, urgent: TaskPriority | int | str
) -> None:
    async with open_world() as world, world.client() as client:
        await client.delay("wait", "first")
        await client.delay("wait", "normal")
        await client.delay("wait", "urgent", priority=urgent)
        for what in ("first", "normal", "urgent"):
            world.let_go(what)
        await settle()
    assert world.ran == ["first", "urgent", "normal"]


async def test_an_unusable_priority_is_refused_and_nothing_is_sent(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ValueError, match="priority 7"):
            await client.delay("add", 1, 2, priority=7)
        assert client.statistics().waiting == 0
        assert world.tasks().submitted == 0


async def test_one_slot_runs_a_mixed_backlog_by_priority_and_then_in_order(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        await client.delay("sleep", "first")
        await settle()
        names = []
        for number in range(3):
            for priority in (TaskPriority.LOW, TaskPriority.CRITICAL, TaskPriority.NORMAL):
                name = f"{int(priority)}-{number}"
                names.append(name)
                await client.delay("sleep", name, priority=priority)
        await client.submit_task("sleep", ("last",), priority=TaskPriority.LOW)
    # The name begins with the priority and ends with the order of submission.
    assert world.ran == ["first", *sorted(names), "last"]
