"""What user code may ask and say about its own attempt, in every lane."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

import fastworker
from fastworker._lanes._abc import (
    OUTCOME_EXPIRED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    AttemptEnded,
)
from fastworker._lanes._context import current_task, progress, time_left
from fastworker._models import LONGEST_DELAY, Task, TaskPriority, TaskStatus
from fastworker._task_options import TaskOptions
from tests.lanes.lane_world import World

pytestmark = pytest.mark.trio


async def outcome(world: World, body: Callable[[], Any], **fields: Any) -> AttemptEnded:
    attempt = msgspec.structs.replace(world.attempt(world.function(body)), **fields)
    world.lane.submit([attempt])
    return await world.end_of(attempt.key)


async def test_a_task_is_told_who_it_is(world: World) -> None:
    seen: list[Task | None] = []
    end = await outcome(
        world,
        lambda: seen.append(current_task()),
        number=3,
        priority=1,
        time_left=100.0,
        worker_id="w1",
        created=1000.0,
    )
    (task,) = seen
    assert task is not None
    assert (task.id, task.name, task.attempt) == (end.key.task_id, "a-name", 3)
    assert (task.priority, task.status) == (TaskPriority.HIGH, TaskStatus.STARTED)
    assert task.worker_id == "w1"
    assert task.created_at.timestamp() == 1000.0
    assert task.started_at is not None
    assert task.started_at.timestamp() == pytest.approx(end.started_wall)
    assert task.deadline is not None
    assert 0 < task.deadline.timestamp() - end.started_wall <= 100.1


async def test_without_a_deadline_it_has_none(world: World) -> None:
    seen: list[object] = []

    def look() -> None:
        task = current_task()
        assert task is not None
        seen.extend([task.deadline, time_left()])

    assert (await outcome(world, look)).kind == OUTCOME_SUCCESS
    assert seen == [None, math.inf]


async def test_time_left_runs_down_and_stays_at_nothing(world: World) -> None:
    seen: list[float] = []
    await outcome(world, lambda: seen.extend([time_left(), time_left()]), time_left=50.0)
    assert 0 < seen[1] <= seen[0] <= 50.0
    await outcome(world, lambda: seen.append(time_left()), time_left=1e-9)
    assert seen[-1] == 0.0


async def test_the_longest_deadline_can_be_told(world: World) -> None:
    end = await outcome(world, lambda: current_task() is None, time_left=LONGEST_DELAY)
    assert (end.kind, end.payload) == (OUTCOME_SUCCESS, b"false")


async def test_outside_of_a_task_there_is_nothing_to_tell() -> None:
    assert fastworker.current_task() is None
    assert fastworker.time_left() == math.inf
    fastworker.progress(0.5, "nobody hears it")


async def test_progress_is_told_in_order_and_before_the_end(world: World) -> None:
    def work() -> None:
        progress(0, "begun")
        progress(0.5)
        progress(1, "two\nlines\0" + "x" * 10_000)

    await outcome(world, work)
    assert [said.fraction for said in world.progressed] == [0.0, 0.5, 1.0]
    assert [said.message for said in world.progressed[:2]] == ["begun", ""]
    assert "\n" not in world.progressed[2].message
    assert len(world.progressed[2].message) <= 1000


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, math.inf])
async def test_a_fraction_that_is_none_is_the_tasks_own_error(
    world: World, fraction: float
) -> None:
    end = await outcome(world, lambda: progress(fraction))
    assert end.kind == OUTCOME_FAILURE
    assert end.error.startswith(f"ValueError: progress({fraction!r}): use ")
    assert world.progressed == []


# --- when it must start -----------------------------------------------------


async def test_an_attempt_that_is_too_late_is_not_started(world: World) -> None:
    calls: list[str] = []
    end = await outcome(world, lambda: calls.append("called"), start_within=0.0)
    assert (end.kind, end.started_wall) == (OUTCOME_EXPIRED, 0)
    assert end.error == "expired: it was not started in time"
    assert calls == []


async def test_an_attempt_that_waited_too_long_for_its_slot_is_not_started(
    world: World,
) -> None:
    gate = world.gate()
    running = world.submit(world.holding(gate))
    await world.start_of(running)
    late = msgspec.structs.replace(
        world.attempt(world.function(lambda: None)), start_within=1e-6
    )
    in_time = msgspec.structs.replace(
        world.attempt(world.function(lambda: None)), start_within=100.0
    )
    world.lane.submit([late, in_time])
    await trio.lowlevel.checkpoint()
    gate.open()
    assert (await world.end_of(late.key)).kind == OUTCOME_EXPIRED
    assert (await world.end_of(in_time.key)).kind == OUTCOME_SUCCESS


# --- whether it is retried --------------------------------------------------


class Temporary(Exception):
    pass


class Worse(Temporary):
    pass


def only_temporary(error: BaseException) -> bool:
    return isinstance(error, Temporary)


def broken(error: BaseException) -> bool:
    raise SystemExit("retry_on itself is broken")


def odd(error: BaseException) -> Any:
    return "yes"


@pytest.mark.parametrize(
    ("retry_on", "error", "is_retryable"),
    [
        (Exception, ValueError("x"), True),
        (Temporary, Worse("x"), True),
        (Temporary, ValueError("x"), False),
        ((KeyError, Temporary), Temporary("x"), True),
        ((KeyError, Temporary), ValueError("x"), False),
        ((), ValueError("x"), False),
        (only_temporary, Worse("x"), True),
        (only_temporary, ValueError("x"), False),
        (broken, ValueError("x"), False),
        (odd, ValueError("x"), True),
        (Exception, SystemExit(3), False),
        (BaseException, KeyboardInterrupt(), True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_retry_on_says_of_each_error_whether_it_is_retried(
    world: World, retry_on: Any, error: BaseException, is_retryable: bool
) -> None:
    def fail() -> None:
        raise error

    ask = TaskOptions(retry_on=retry_on).is_retryable
    end = await outcome(world, fail, is_retryable=ask)
    assert (end.kind, end.is_retryable) == (OUTCOME_FAILURE, is_retryable)
    assert await world.result(world.function(lambda: "next")) == "next"


async def test_what_no_retry_would_better_is_not_retried(world: World) -> None:
    calls: list[BaseException] = []

    def ask(error: BaseException) -> bool:
        calls.append(error)
        return True

    end = await outcome(world, lambda: None, is_retryable=ask, payload=b"no JSON")
    assert end.error.startswith("NotDecodable")
    assert not end.is_retryable
    end = await outcome(world, lambda: object(), is_retryable=ask)
    assert end.error.startswith("NotEncodable")
    assert not end.is_retryable
    assert calls == []
