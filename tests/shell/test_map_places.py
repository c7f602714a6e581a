"""Of a map no more than ``max_in_flight`` tasks run, or have values that wait, ever."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fastworker import TaskFailed
from fastworker._transport._memory import Faults
from tests.shell.world import BASE, MANAGEMENT, World, open_world

TIMES = st.sampled_from([0.0, 0.01, 0.1, 1.0])


@dataclass(frozen=True)
class Plan:
    """Of one map: its items, how they are read, and when its reader has had enough.

    ``seconds`` are those of each task, again and again if the items have no end.
    """

    seconds: list[float]
    is_endless: bool
    is_async: bool
    max_in_flight: int
    ordered: bool
    read_every: float
    taken: int
    cancelled_after: float
    failing: int | None


PLANS = st.builds(
    Plan,
    seconds=st.lists(TIMES, min_size=1, max_size=12),
    is_endless=st.booleans(),
    is_async=st.booleans(),
    max_in_flight=st.integers(1, 4),
    ordered=st.booleans(),
    read_every=TIMES,
    taken=st.integers(0, 20),
    cancelled_after=st.sampled_from([math.inf, math.inf, 0.05, 0.5]),
    failing=st.one_of(st.none(), st.integers(0, 12)),
)
FAULTS = st.builds(
    Faults, loss=st.sampled_from([0.0, 0.1]), delay=st.sampled_from([0.0, 0.01, 0.1])
)


class Counted:
    """A map's items, its tasks and its reader, counted at each step."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan = plan
        self.world = world
        self.items = 0
        self.read = 0
        self.running = 0
        self.most = 0

    def seconds(self) -> Iterator[float]:
        seconds = self.plan.seconds
        for second in itertools.cycle(seconds) if self.plan.is_endless else seconds:
            self.items += 1
            self.check()
            yield second

    async def seconds_as_they_come(self) -> AsyncGenerator[float, None]:
        for second in self.seconds():
            await trio.sleep(0.005)
            yield second

    async def work(self, seconds: float) -> float:
        """The task."""
        self.running += 1
        self.check()
        try:
            if self.items == self.plan.failing:
                raise ValueError("bad luck")
            await trio.sleep(seconds)
        finally:
            self.running -= 1
        return seconds

    def check(self) -> None:
        allowed = self.plan.max_in_flight
        # Each item that was taken is a task soon, or is one.
        assert self.items - self.read <= allowed
        assert self.running <= allowed
        tasks = self.world.tasks()
        at_once = tasks.leased + sum(tasks.ready)
        assert at_once <= allowed
        self.most = max(self.most, at_once)

    async def step(self, values: AsyncIterator[float]) -> bool:
        """Read one; say whether there was one."""
        # It is read from the moment on at which its place is free.
        self.read += 1
        try:
            await anext(values)
        except TaskFailed:
            pass
        except StopAsyncIteration:
            return False
        return True


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLANS, faults=FAULTS, seed=st.integers(0, 2**16))
def test_no_more_tasks_are_in_flight_than_a_map_may_have(
    plan: Plan, faults: Faults, seed: int
) -> None:
    async def main() -> None:
        async with open_world(workers=0, seed=seed) as world, world.client() as client:
            counted = Counted(plan, world)
            world.registry.register(counted.work, name="work")
            await world.start_worker("w1", MANAGEMENT, slots=3)
            await world.start_worker("w2", BASE, slots=3)
            world.network.faults = faults
            with trio.move_on_after(plan.cancelled_after):
                async with (
                    aclosing(counted.seconds_as_they_come()) as each,
                    client.map(
                        "work",
                        each if plan.is_async else counted.seconds(),
                        max_in_flight=plan.max_in_flight,
                        ordered=plan.ordered,
                        on_error="collect",
                    ) as values,
                ):
                    for _ in range(plan.taken):
                        await trio.sleep(plan.read_every)
                        if not await counted.step(values):
                            break
            counted.check()
            assert counted.running == 0
            world.network.faults = Faults()
            await trio.sleep(100)
            tasks = world.tasks()
            assert tasks.leased == sum(tasks.ready) == 0
            assert tasks.submitted <= counted.items

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.trio
@pytest.mark.parametrize("ordered", [True, False])
async def test_the_places_of_a_map_are_used(autojump_clock: MockClock, ordered: bool) -> None:
    async with open_world(slots=10) as world, world.client() as client:
        start = trio.current_time()
        async with client.map("sleep", range(30), max_in_flight=10, ordered=ordered) as values:
            assert len([value async for value in values]) == 30
        assert trio.current_time() - start == pytest.approx(3, abs=0.2)


@pytest.mark.trio
async def test_no_item_is_taken_before_there_is_a_place_for_it(
    autojump_clock: MockClock,
) -> None:
    taken = itertools.count()
    async with open_world(slots=10) as world, world.client() as client:
        async with client.map("note", taken, max_in_flight=3) as values:
            await trio.sleep(10)
            # They start in one step, in which Trio lets tasks run in any order.
            assert sorted(world.ran) == [0, 1, 2]
            assert await anext(values) == 0
            await trio.sleep(10)
            assert world.ran[3:] == [3]
        assert next(taken) == 4
