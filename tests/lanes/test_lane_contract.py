"""What every lane promises, asked of all of them in the same words."""

from __future__ import annotations

import decimal
from contextvars import ContextVar

import pytest
import trio

from fastworker._errors import LocalProtocolError
from fastworker._lanes import make_lane
from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    AttemptKey,
)
from fastworker._lanes._context import check_cancelled, current_attempt
from fastworker._lanes._sink import TrioSink
from tests.lanes.lane_world import JSON, World, open_world

pytestmark = pytest.mark.trio

variable = ContextVar("variable", default="default")


async def test_a_function_gets_its_arguments_and_its_value_comes_back(world: World) -> None:
    def describe(x: int, *, y: str) -> list[object]:
        return [x, y]

    assert await world.result(world.function(describe), 1, y="two") == [1, "two"]


async def test_the_end_tells_when_it_started_and_how_long_it_ran(world: World) -> None:
    ended = await world.outcome(world.function(lambda: None))

    assert ended.kind == OUTCOME_SUCCESS
    assert ended.payload == b"null"
    assert ended.format == 1
    assert 0 < ended.started_wall <= ended.wall
    assert 0 <= ended.seconds < 1
    assert ended.error == ended.traceback == ""


async def test_with_one_slot_attempts_run_one_by_one_in_order(world: World) -> None:
    order: list[int] = []
    keys = world.submit_many(
        world.function(lambda number=number: order.append(number)) for number in range(100)
    )
    await world.all_accounted_for()

    assert order == list(range(100))
    assert world.started == keys
    assert list(world.ended) == keys


async def test_batches_keep_their_order_too(world: World) -> None:
    order: list[int] = []
    for number in range(50):
        world.submit(world.function(lambda number=number: order.append(number)))
    await world.all_accounted_for()

    assert order == list(range(50))


async def test_attempts_submitted_before_the_start_run_after_it(kind: str) -> None:
    async with open_world(kind, start=False) as world:
        key = world.submit(world.function(lambda: "here"))
        world.lane.start()

        assert (await world.end_of(key)).payload == b'"here"'


async def test_all_slots_are_used_and_never_more(kind: str) -> None:
    # That there are never more is the referee's to see.
    async with open_world(kind, slots=3) as world:
        first, second = world.gate(), world.gate()
        world.submit_many(
            world.holding(gate) for gate in (first, first, second, second, second, first, first)
        )
        await world.receive_until(lambda: len(world.started) == 3)
        assert not world.ended
        first.open()
        # The two of ``first`` make room for the other two of ``second``.
        await world.receive_until(lambda: len(world.started) == 5)
        assert len(world.ended) == 2
        second.open()
        await world.all_accounted_for()


async def test_what_waits_can_be_taken_back_and_then_posts_nothing(world: World) -> None:
    gate = world.gate()
    running = world.submit(world.holding(gate))
    waiting = world.submit_many([world.function(lambda: None)] * 5)
    await world.start_of(running)

    assert world.take_back() == waiting
    assert world.take_back() == []
    gate.open()
    await world.all_accounted_for()
    assert list(world.ended) == [running]


async def test_what_was_taken_back_may_be_submitted_again(world: World) -> None:
    gate = world.gate()
    await world.start_of(world.submit(world.holding(gate)))
    attempt = world.attempt(world.function(lambda: "again"))
    world.lane.submit([attempt])
    assert world.lane.take_back() == [attempt.key]

    world.lane.submit([attempt])
    gate.open()
    assert (await world.end_of(attempt.key)).payload == b'"again"'


async def test_taking_back_while_attempts_start_loses_and_doubles_none(kind: str) -> None:
    async with open_world(kind, slots=4) as world:
        function = world.function(lambda: None)
        for _ in range(60):
            world.submit_many([function] * 10)
            await trio.lowlevel.checkpoint()
            world.take_back()
        await world.all_accounted_for()


async def test_an_attempt_cancelled_before_it_starts_never_runs(world: World) -> None:
    gate = world.gate()
    calls: list[str] = []
    running = world.submit(world.holding(gate))
    doomed = world.submit(world.function(lambda: calls.append("doomed")))
    last = world.submit(world.function(lambda: calls.append("last")))
    await world.start_of(running)

    world.lane.cancel(doomed)
    # At once: it does not wait for the slot.
    ended = await world.end_of(doomed)
    assert ended.kind == OUTCOME_CANCELLED
    assert ended.started_wall == 0
    assert ended.error == "TaskCancelled: cancelled before it started"
    gate.open()
    await world.end_of(last)
    assert calls == ["last"]


async def test_a_running_attempt_is_cancelled(world: World) -> None:
    gate = world.gate()
    calls: list[str] = []
    key = world.submit(world.holding(gate, lambda: calls.append("went on")))
    await world.start_of(key)

    world.lane.cancel(key)
    world.lane.cancel(key)
    if world.kind == "thread":
        gate.open()  # a thread notices when it asks
    ended = await world.end_of(key)
    assert ended.kind == OUTCOME_CANCELLED
    assert ended.started_wall > 0
    assert calls == []
    assert await world.result(world.function(lambda: "next")) == "next"


async def test_a_cancelled_attempt_does_not_touch_its_neighbours(kind: str) -> None:
    async with open_world(kind, slots=3) as world:
        gate = world.gate()
        left, middle, right = world.submit_many([world.holding(gate)] * 3)
        await world.receive_until(lambda: len(world.started) == 3)

        world.lane.cancel(middle)
        if kind != "thread":
            await world.end_of(middle)
        gate.open()
        await world.all_accounted_for()
        kinds = [world.ended[key].kind for key in (left, middle, right)]
        assert kinds == [OUTCOME_SUCCESS, OUTCOME_CANCELLED, OUTCOME_SUCCESS]


async def test_cancelling_what_is_unknown_or_ended_does_nothing(world: World) -> None:
    key = world.submit(world.function(lambda: 1))
    await world.end_of(key)

    world.lane.cancel(key)
    world.lane.cancel(AttemptKey("nobody", 1, 1))
    world.lane.cancel(AttemptKey(key.task_id, 2, 1))
    assert await world.result(world.function(lambda: 2)) == 2


async def test_cancelling_while_attempts_start_and_end_leaves_one_end_each(kind: str) -> None:
    async with open_world(kind, slots=2) as world:
        function = world.function(lambda: None)
        for _ in range(60):
            keys = world.submit_many([function] * 4)
            await trio.lowlevel.checkpoint()
            for key in keys:
                world.lane.cancel(key)
        await world.all_accounted_for()
        assert not world.taken_back


async def test_a_function_that_ends_well_after_its_cancel_is_a_success(world: World) -> None:
    # The outcome says what happened, not what was asked for.
    def cancel_me_and_return() -> str:
        attempt = current_attempt.get()
        assert attempt is not None
        attempt.is_cancelled = True
        return "done all the same"

    ended = await world.outcome(world.function(cancel_me_and_return))
    assert ended.kind == OUTCOME_SUCCESS


async def test_the_function_sees_whose_attempt_it_is(world: World) -> None:
    def who() -> str:
        attempt = current_attempt.get()
        assert attempt is not None
        check_cancelled()
        return attempt.key.task_id

    key = world.submit(world.function(who))
    assert (await world.end_of(key)).payload == f'"{key.task_id}"'.encode()
    assert current_attempt.get() is None
    check_cancelled()


async def test_context_variables_do_not_leak_into_the_next_attempt(world: World) -> None:
    seen: list[tuple[str, int]] = []

    def look_and_set() -> None:
        seen.append((variable.get(), decimal.getcontext().prec))
        variable.set("set by an attempt")
        decimal.getcontext().prec = 3

    variable.set("set by the link loop")
    # As one batch and as two, because they are started by different hands.
    world.submit_many([world.function(look_and_set)] * 2)
    await world.all_accounted_for()
    world.submit(world.function(look_and_set))
    await world.all_accounted_for()
    assert seen == [("default", decimal.DefaultContext.prec)] * 3


async def test_close_cancels_what_runs_and_drops_what_waits(world: World) -> None:
    gate = world.gate()
    calls: list[str] = []
    running = world.submit(world.holding(gate, lambda: calls.append("went on")))
    world.submit(world.function(lambda: calls.append("started late")))
    await world.start_of(running)

    world.lane.close()
    world.lane.close()
    if world.kind == "thread":
        gate.open()
    ended = await world.end_of(running)
    assert world.take_back() == []
    await world.finish()
    assert ended.kind == OUTCOME_CANCELLED
    assert calls == []
    assert list(world.ended) == [running]


async def test_after_close_submitting_is_an_error_and_cancelling_is_not(world: World) -> None:
    world.lane.close()

    with pytest.raises(LocalProtocolError, match="closed lane"):
        world.submit(world.function(lambda: None))
    world.lane.cancel(world.submitted[0])


async def test_a_lane_that_was_never_started_closes(kind: str) -> None:
    async with open_world(kind, start=False) as world:
        kept = world.submit(world.function(lambda: None))
        cancelled = world.submit(world.function(lambda: None))
        world.lane.cancel(cancelled)
        assert world.take_back() == [kept]

        world.lane.close()
        assert world.lane.join(0)
        assert (await world.end_of(cancelled)).kind == OUTCOME_CANCELLED


async def test_an_idle_lane_closes(world: World) -> None:
    await world.finish()

    assert world.lane.join(0)


async def test_a_lane_starts_once(world: World) -> None:
    with pytest.raises(LocalProtocolError, match="twice"):
        world.lane.start()


async def test_the_same_key_twice_is_refused_and_nothing_is_queued(world: World) -> None:
    gate = world.gate()
    held = world.attempt(world.holding(gate))
    world.lane.submit([held])
    other = world.attempt(world.function(lambda: None))

    with pytest.raises(LocalProtocolError, match="twice"):
        world.lane.submit([other, held])
    with pytest.raises(LocalProtocolError, match="twice"):
        world.lane.submit([other, other])
    world.submitted.remove(other.key)
    gate.open()
    await world.all_accounted_for()


async def test_an_ended_key_may_be_used_again_at_once(world: World) -> None:
    attempt = world.attempt(world.function(lambda: None))
    for _ in range(50):
        world.lane.submit([attempt])
        await world.end_of(attempt.key)
        world.started.clear()
        world.ended.clear()


async def test_a_lane_says_what_it_is(kind: str) -> None:
    async with open_world(kind, slots=7) as world:
        assert world.lane.slots == 7
        assert world.lane.kind == ("trio" if kind == "inline" else kind)


async def test_a_lane_of_an_unknown_kind_or_without_slots_is_refused() -> None:
    sink = TrioSink()
    with pytest.raises(ValueError, match="'thread', 'trio', 'asyncio' or 'process'"):
        make_lane("gevent", 1, sink, JSON)
    with pytest.raises(ValueError, match="slots=0"):
        make_lane("thread", 0, sink, JSON)


async def test_an_attempt_that_fails_is_followed_by_others(world: World) -> None:
    keys = world.submit_many(
        world.function(lambda number=number: 1 // (number % 2)) for number in range(20)
    )
    await world.all_accounted_for()

    assert [world.ended[key].kind for key in keys] == [OUTCOME_FAILURE, OUTCOME_SUCCESS] * 10


async def test_the_results_of_a_large_batch_all_come_back(kind: str) -> None:
    async with open_world(kind, slots=4) as world:
        world.submit_many([world.function(lambda: "x" * 1000)] * 300)
        await world.all_accounted_for()
        assert {ended.kind for ended in world.ended.values()} == {OUTCOME_SUCCESS}
