"""A block of tasks on a bad network: when it ends, nothing of it runs any more.

Unless a worker was taken for lost: what that still runs, nobody can know, and the block
says so.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fastworker import (
    Cancelled,
    Client,
    Completed,
    ControlPlaneUnreachable,
    Lost,
    NeverStarted,
    TaskError,
    TaskGroup,
    TaskStatus,
)
from fastworker._core._subworkers import SubworkerRecord
from fastworker._transport._memory import Faults
from tests.shell.world import BASE, MANAGEMENT, World, open_world

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Plan:
    """Of one block: what its tasks do, and what happens to it meanwhile."""

    seconds: list[float]
    failing: int | None
    tidies_for: float
    max_in_flight: int
    on_error: Any
    first: int | None
    cancelled_after: float | None
    submit_within: float | None
    body_fails: bool
    breaks_pipes: bool


TIMES = st.sampled_from([0.0, 0.01, 0.1, 0.5, 2.0])
PLANS = st.builds(
    Plan,
    seconds=st.lists(TIMES, max_size=6),
    failing=st.one_of(st.none(), st.integers(0, 5)),
    tidies_for=st.sampled_from([0.0, 0.2, 2.0]),
    max_in_flight=st.integers(1, 4),
    on_error=st.sampled_from(["cancel", "collect"]),
    first=st.sampled_from([None, None, 1, 3]),
    cancelled_after=st.one_of(st.none(), TIMES),
    submit_within=st.sampled_from([None, None, 0.05, 0.3]),
    body_fails=st.booleans(),
    breaks_pipes=st.booleans(),
)
FAULTS = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.0, 0.2]),
    duplicate=st.sampled_from([0.0, 0.2]),
    delay=st.sampled_from([0.0, 0.01, 0.2]),
    reorder=st.sampled_from([0.0, 0.2]),
)


class Block:
    """One block, and what of it runs."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.running = 0
        self.begun: set[int] = set()
        self.refused = 0

    async def work(self, index: int) -> int:
        """The task."""
        self.begun.add(index)
        self.running += 1
        try:
            await trio.sleep(self.plan.seconds[index])
            if index == self.plan.failing:
                raise ValueError("bad luck")
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.plan.tidies_for)
            raise
        finally:
            self.running -= 1
        return index

    async def use(self, client: Client, given: list[TaskGroup]) -> None:
        plan = self.plan
        async with client.options(grace=100).open_task_group(
            max_in_flight=plan.max_in_flight, on_error=plan.on_error, first=plan.first
        ) as group:
            given.append(group)
            for index in range(len(plan.seconds)):
                with trio.CancelScope() as scope:
                    if plan.submit_within is not None:
                        scope.deadline = trio.current_time() + plan.submit_within
                    await group.submit("work", index)
                assert group.in_flight <= plan.max_in_flight
            if plan.body_fails:
                raise KeyError("the body")

    def check(
        self,
        group: TaskGroup,
        raised: ExceptionGroup[Exception] | None,
        *,
        has_losses: bool,
        loses_frames: bool,
    ) -> None:
        plan = self.plan
        assert has_losses or not self.running, "something of it runs on"
        assert group.in_flight == 0
        kinds = [type(error) for error in raised.exceptions] if raised is not None else []
        if kinds and kinds[0] is ControlPlaneUnreachable:
            # A submit that lost its session too often, or was not acknowledged in time:
            # an error of the body, at its place.
            assert plan.breaks_pipes or loses_frames
            kinds[0] = KeyError
        assert (
            set(kinds) <= {KeyError} or not plan.body_fails or issubclass(kinds[-1], TaskError)
        )
        for handle in group.handles:
            assert handle.is_done
            allowed = NeverStarted | Cancelled | Completed
            assert isinstance(handle.outcome, allowed | Lost if has_losses else allowed)
        values = [h for h in group.handles if h.status() is TaskStatus.SUCCESS]
        if plan.first is not None and len(values) >= plan.first:
            assert set(kinds) <= {KeyError}
        elif plan.on_error == "cancel" and group.failures and raised is not None:
            assert [e for e in raised.exceptions if isinstance(e, TaskError)] == group.failures
        if plan.on_error == "collect":
            assert set(kinds) <= {KeyError}


BRIEF = Plan(
    seconds=[0.01, 0.0],
    failing=None,
    tidies_for=0.2,
    max_in_flight=2,
    on_error="cancel",
    first=None,
    cancelled_after=None,
    submit_within=None,
    body_fails=True,
    breaks_pipes=True,
)


# A worker is taken for lost, while its task is to be cancelled.
@example(plan=BRIEF, faults=Faults(loss=0.2), slots=1, seed=64)
@example(plan=BRIEF, faults=Faults(loss=0.2), slots=1, seed=558)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLANS, faults=FAULTS, slots=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_when_the_block_has_ended_nothing_of_it_runs(
    plan: Plan, faults: Faults, slots: int, seed: int
) -> None:
    async def main() -> None:
        block = Block(plan)
        async with open_world(workers=0, seed=seed) as world, world.client() as client:
            world.registry.register(block.work, name="work")
            await world.start_worker("w1", MANAGEMENT, slots=slots)
            await world.start_worker("w2", BASE, slots=slots)
            world.network.faults = faults
            workers = world.subworkers()
            await _run(world, client, block, workers)
            # It has its outcome, so the control plane has.
            assert world.tasks().leased == sum(world.tasks().ready) == 0
            world.network.faults = Faults()
            await trio.sleep(100)
            assert block.running == 0
            tasks = world.tasks()
            ended = tasks.succeeded + tasks.failed + tasks.cancelled + tasks.expired
            assert tasks.submitted == ended
            assert client.statistics().waiting == 0
            assert client._session is not None
            assert not client._session.watches

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def _run(
    world: World, client: Client, block: Block, workers: set[SubworkerRecord]
) -> None:
    plan, given, raised = block.plan, [], None  # type: ignore[var-annotated]
    with trio.CancelScope() as scope:
        if plan.cancelled_after is not None:
            scope.deadline = trio.current_time() + plan.cancelled_after
        async with trio.open_nursery() as nursery:

            async def break_pipes() -> None:
                # So short that nobody is taken for lost, unless frames are lost or late, too.
                for _ in itertools.repeat(None, 3):
                    await trio.sleep(0.3)
                    world.network.reset_pipes(BASE)

            if plan.breaks_pipes:
                world.nursery.start_soon(break_pipes)
            try:
                await block.use(client, given)
            except ExceptionGroup as errors:
                raised = errors
            nursery.cancel_scope.cancel()
    has_losses = not workers <= world.subworkers()
    loses_frames = world.network.faults.loss > 0
    assert world.network.faults != Faults() or not has_losses
    if given:
        block.check(given[0], raised, has_losses=has_losses, loses_frames=loses_frames)
