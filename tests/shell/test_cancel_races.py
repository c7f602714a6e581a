"""A cancel against everything else that may happen to a task: one outcome, for all who ask.

Against its completion, the loss of its worker's lease, a retry, a drain, and
pipes that break, on a network that loses, doubles, delays and reorders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fastworker import (
    Abandoned,
    Cancelled,
    CancelOutcome,
    Client,
    Completed,
    Killed,
    Lost,
    NeverStarted,
    TaskHandle,
    TaskResult,
    TaskStatus,
)
from fastworker._transport._memory import Faults
from tests.shell.world import BASE, MANAGEMENT, World, open_world

pytestmark = pytest.mark.slow

# How long everything takes at most that was begun before: leases, graces, redials.
QUIET = 200.0
UNREACHABLE = "the control plane cannot be reached"


@dataclass(frozen=True)
class Work:
    """What one task does: fail some times, run, and take its time to stop."""

    seconds: float
    failures: int
    tidies_for: float
    grace: float


@dataclass(frozen=True)
class Step:
    """Something that happens to the cluster, or is done to one of the tasks."""

    what: str
    after: float
    task: int
    grace: float | None


TIMES = st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 3.0])
WORKS = st.builds(
    Work,
    seconds=TIMES,
    failures=st.sampled_from([0, 0, 1, 2]),
    tidies_for=st.sampled_from([0.0, 0.0, 0.3, 2.0]),
    grace=st.sampled_from([0.0, 1.0, 5.0]),
)
CANCELS = ("the owner cancels", "another cancels", "who waits is cancelled")
TROUBLES = ("pipes break", "w1 is cut off", "w1 is back", "w1 drains", "w1 resumes")
STEPS = st.builds(
    Step,
    what=st.sampled_from(CANCELS + CANCELS + TROUBLES),
    after=st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.1, 0.6, 1.1, 16.0, 31.0]),
    task=st.integers(0, 2),
    grace=st.sampled_from([None, None, 0.0, 2.0]),
)
FAULTS = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.0, 0.1, 0.3]),
    duplicate=st.sampled_from([0.0, 0.2]),
    delay=st.sampled_from([0.0, 0.01, 0.1]),
    reorder=st.sampled_from([0.0, 0.2]),
)


class Race:
    """Three tasks, their owner, somebody else, and what they were told."""

    def __init__(self, world: World, owner: Client, other: Client) -> None:
        self.world = world
        self.owner = owner
        self.other = other
        self.handles: list[TaskHandle[Any]] = []
        self.told: list[list[CancelOutcome]] = []
        self.waited: list[trio.CancelScope] = []
        self.begun: list[int] = [0, 0, 0]
        self.finished: list[int] = [0, 0, 0]

    async def run(self, index: int, work: dict[str, Any]) -> int:
        """The task."""
        self.begun[index] += 1
        if self.begun[index] <= work["failures"]:
            raise ValueError("not yet")
        try:
            await trio.sleep(work["seconds"])
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(work["tidies_for"])
            raise
        self.finished[index] += 1
        return index

    async def submit(self, index: int, work: Work, nursery: trio.Nursery) -> None:
        options = self.owner.options(
            max_retries=3, retry_delay=0.1, backoff=1, jitter=0, grace=work.grace
        )
        parts = {"failures": work.failures, "seconds": work.seconds}
        parts["tidies_for"] = work.tidies_for
        self.handles.append(await options.submit("run", index, parts))
        self.told.append([])
        self.waited.append(trio.CancelScope())
        nursery.start_soon(self._wait, index)

    async def _wait(self, index: int) -> None:
        with self.waited[index]:
            try:
                await self.handles[index].result()
            except Exception:  # noqa: BLE001 - the handle is looked at in the end
                pass

    async def cancel(self, index: int, client: Client | None, grace: float | None) -> None:
        handle = self.handles[index]
        if client is None:
            self.told[index].append(await handle.cancel(grace))
        else:
            self.told[index].append(await client.cancel(handle.id, grace))

    async def check(self, index: int) -> None:
        handle = self.handles[index]
        assert handle.is_done
        outcome = handle.outcome
        assert outcome is not None
        result = await handle.wait()
        for told in self.told[index]:
            assert told == outcome or told == Lost(UNREACHABLE), (told, outcome)
        for client in (self.owner, self.other):
            asked = await client.get_task_result(handle.id)
            assert asked is not None
            assert _essence(asked) == _essence(result)
            assert await client.cancel(handle.id) == outcome, "to cancel it again is no change"
        match outcome:
            case NeverStarted():
                assert self.begun[index] == 0
            case Completed():
                assert result.status in (TaskStatus.SUCCESS, TaskStatus.FAILURE)
                assert (result.status is TaskStatus.SUCCESS) == (result.error is None)
                assert self.finished[index] or result.status is TaskStatus.FAILURE
            case Cancelled() | Abandoned():
                assert self.begun[index]
                assert result.status is TaskStatus.CANCELLED
            case Lost():
                assert result.status is not TaskStatus.SUCCESS
            case Killed():
                raise AssertionError("nobody was killed")


def _essence(result: TaskResult) -> tuple[object, ...]:
    return (result.status, result.result, result.error, result.attempts)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    works=st.tuples(WORKS, WORKS, WORKS),
    steps=st.lists(STEPS, min_size=1, max_size=8),
    faults=FAULTS,
    slots=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_all_who_ask_hear_the_same_outcome(
    works: tuple[Work, ...], steps: list[Step], faults: Faults, slots: int, seed: int
) -> None:
    async def main() -> None:
        async with open_world(workers=0, seed=seed) as world:  # noqa: SIM117
            async with world.client(timeout=1000) as owner, world.client() as other:
                race = Race(world, owner, other)
                world.registry.register(race.run, name="run")
                first = await world.start_worker("w1", MANAGEMENT, slots=slots)
                await world.start_worker("w2", BASE, slots=1)
                async with trio.open_nursery() as nursery:
                    for index, work in enumerate(works):
                        await race.submit(index, work, nursery)
                    world.network.faults = faults
                    for step in steps:
                        await trio.sleep(step.after)
                        match step.what:
                            case "the owner cancels":
                                nursery.start_soon(race.cancel, step.task, None, step.grace)
                            case "another cancels":
                                nursery.start_soon(race.cancel, step.task, other, step.grace)
                            case "who waits is cancelled":
                                race.waited[step.task].cancel()
                            case "pipes break":
                                world.network.reset_pipes(BASE)
                                world.network.reset_pipes(MANAGEMENT)
                            case "w1 is cut off":
                                world.network.partition(MANAGEMENT)
                            case "w1 is back":
                                world.network.heal(MANAGEMENT)
                            case "w1 drains":
                                first.drain()
                            case "w1 resumes":
                                first.resume()
                    world.network.faults = Faults()
                    world.network.heal(MANAGEMENT)
                    with trio.fail_after(QUIET):
                        while not all(handle.is_done for handle in race.handles):
                            await trio.sleep(1)
                for index in range(3):
                    await race.check(index)
                tasks = world.tasks()
                assert (tasks.held, sum(tasks.ready), tasks.leased, tasks.started) == (
                    0,
                    0,
                    0,
                    0,
                )
                assert tasks.submitted == (
                    tasks.succeeded + tasks.failed + tasks.cancelled + tasks.expired
                )
                for client in (owner, other):
                    session = client._session
                    assert session is not None
                    assert not session.watches
                    assert client.statistics().waiting == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
