"""The inline lane has the contract of the others, and the caller's clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker._lanes._abc import OUTCOME_CANCELLED, OUTCOME_SUCCESS, AttemptEnded
from fastworker._lanes._inline import InlineLane
from fastworker._lanes._sink import TrioSink
from tests.lanes.lane_world import JSON, World

pytestmark = pytest.mark.trio


def make_world(nursery: trio.Nursery, seconds: float, slots: int = 1) -> World:
    sink = TrioSink()
    lane = InlineLane(
        nursery,
        slots,
        sink,
        JSON,
        duration=lambda attempt: seconds,
        wall=lambda: 1_000_000 + trio.current_time(),
    )
    lane.start()
    return World("inline", lane, sink)


async def test_work_takes_the_time_that_was_given_to_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = make_world(nursery, seconds=3.0, slots=2)
    begin = trio.current_time()
    keys = world.submit_many([world.function(lambda: None)] * 5)
    ends: list[AttemptEnded] = []
    while len(ends) < 5:
        ends += [e for e in await world.sink.receive() if isinstance(e, AttemptEnded)]

    assert {each.key for each in ends} == set(keys)
    assert [each.seconds for each in ends] == pytest.approx([3.0] * 5)
    walls = [each.wall - 1_000_000 - begin for each in ends]
    assert walls == pytest.approx([3.0, 3.0, 6.0, 6.0, 9.0])


async def test_work_is_cancelled_in_the_middle_of_its_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = make_world(nursery, seconds=60.0)
    key = world.submit(world.function(lambda: None))
    await trio.sleep(1.5)
    world.lane.cancel(key)
    ended = await world.end_of(key)

    assert ended.kind == OUTCOME_CANCELLED
    assert ended.seconds == pytest.approx(1.5)
    assert ended.wall - ended.started_wall == pytest.approx(1.5)


async def test_a_def_function_is_called_directly(nursery: trio.Nursery) -> None:
    world = make_world(nursery, seconds=0.0)
    ended = await world.outcome(lambda x: x + 1, 1)

    assert (ended.kind, ended.payload) == (OUTCOME_SUCCESS, b"2")


async def test_when_its_nursery_is_cancelled_nothing_is_posted_any_more() -> None:
    # As when the process is killed: whoever dies has no last words.
    async with trio.open_nursery() as nursery:
        world = make_world(nursery, seconds=0.0, slots=2)
        world.submit_many([world.holding(world.gate())] * 3)
        await world.receive_until(lambda: len(world.started) == 2)
        nursery.cancel_scope.cancel()

    assert world.sink.receive_nowait() == []
    assert world.lane.join(0)
