"""Structured shutdown: what runs may end, in its time; what does not is handed back."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Cancelled, Client, Lost, SubWorker, TaskHandle, TaskStatus, current_task
from tests.shell.world import World, open_world, settle

pytestmark = pytest.mark.trio


class Attempts:
    """A task that says which attempt it is, each time it starts, and waits."""

    def __init__(self, world: World) -> None:
        self.begun: list[tuple[str, int]] = []
        self.doors: dict[str, trio.Event] = {}
        world.registry.register(self.run, name="attempt")

    async def run(self, what: str, shielded: float = 0.0) -> str:
        task = current_task()
        assert task is not None
        assert task.worker_id is not None
        self.begun.append((task.worker_id, task.attempt))
        try:
            await self.doors.setdefault(what, trio.Event()).wait()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(shielded)
        return task.worker_id


class Running:
    """A subworker in a nursery, and when its run() has returned."""

    def __init__(self, world: World, worker: SubWorker) -> None:
        self.worker = worker
        self.ended = trio.Event()
        self._world = world

    async def start(self) -> None:
        async def run(task_status: trio.TaskStatus[None]) -> None:
            await self.worker.run(task_status=task_status)
            self.ended.set()

        await self._world.nursery.start(run)


async def start(world: World, name: str, drain_timeout: float, slots: int = 1) -> Running:
    running = Running(world, world.new_worker(name, drain_timeout=drain_timeout, slots=slots))
    await running.start()
    return running


async def test_a_drained_worker_lets_its_tasks_end_and_keeps_their_leases_meanwhile(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        attempts = Attempts(world)
        first = await start(world, "w1", 100)
        handle = await client.submit("attempt", "a")
        await settle()
        await start(world, "w2", 100)
        first.worker.drain()
        await trio.sleep(90)  # three leases long
        assert attempts.begun == [("w1", 1)]
        assert world.plane.get_subworker_status()["subworkers"]["w1"]["status"] == "draining"
        attempts.doors["a"].set()
        assert await handle.result() == "w1"
        await settle()
        assert first.ended.is_set()
        assert world.plane.get_subworker_status()["total"] == 1


async def test_what_runs_on_is_handed_back_and_counts_as_no_attempt(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        attempts = Attempts(world)
        handle = None
        for number in range(1, 6):  # more often than a task may be lost
            running = await start(world, f"w{number}", 5)
            if handle is None:
                handle = await client.submit("attempt", "a")
            await settle()
            assert attempts.begun[-1] == (f"w{number}", 1)
            at = trio.current_time()
            running.worker.drain()
            await running.ended.wait()
            assert 5 <= trio.current_time() - at <= 5 + 2
        assert handle is not None
        assert not handle.is_done
        await start(world, "last", 5)
        await settle()
        attempts.doors["a"].set()
        assert await handle.result() == "last"
        result = await handle.wait()
        assert (result.attempts, result.errors) == (1, [])


async def test_a_task_that_does_not_stop_holds_no_drain(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        attempts = Attempts(world)
        first = await start(world, "w1", 5)
        handle = await client.submit("attempt", "a", shielded=50)
        await settle()
        await start(world, "w2", 5)
        at = trio.current_time()
        first.worker.drain()
        await first.ended.wait()
        assert 5 <= trio.current_time() - at <= 5 + 2
        await trio.sleep(1)
        # It may still be running there: who took it over is the second to have it.
        assert [name for name, _ in attempts.begun] == ["w1", "w2"]
        attempts.doors["a"].set()
        assert await handle.result() == "w2"


async def test_a_task_that_ends_while_it_is_interrupted_has_ended(
    autojump_clock: MockClock,
) -> None:
    async def finish() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "finished in the last moment"
        return ""

    async with open_world(workers=0) as world, world.client() as client:
        world.registry.register(finish)
        first = await start(world, "w1", 5)
        handle = await client.submit("finish")
        await settle()
        first.worker.drain()
        await first.ended.wait()
        assert await handle.result() == "finished in the last moment"


async def test_what_waits_at_a_drained_worker_runs_elsewhere_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        attempts = Attempts(world)
        first = await start(world, "w1", 50)
        handles = [await client.submit("attempt", name) for name in "abc"]
        await settle()
        first.worker.drain()
        await settle()
        await start(world, "w2", 50, slots=2)
        await settle()
        assert attempts.begun == [("w1", 1), ("w2", 1), ("w2", 1)]
        for name in "abc":
            attempts.doors[name].set()
        assert [await handle.result() for handle in handles] == ["w1", "w2", "w2"]


async def test_a_drain_can_be_called_off_and_begun_again(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        attempts = Attempts(world)
        running = await start(world, "w1", 5, slots=2)
        first = await client.submit("attempt", "a")
        await settle()
        running.worker.drain()
        await settle()
        second = await client.submit("attempt", "b")
        await trio.sleep(3)
        assert len(attempts.begun) == 1
        running.worker.resume()
        running.worker.resume()
        await settle()
        assert len(attempts.begun) == 2
        await trio.sleep(60)
        assert not running.ended.is_set()
        running.worker.drain()  # and it has all its time again
        await trio.sleep(4.5)
        attempts.doors["a"].set()
        attempts.doors["b"].set()
        assert await first.result() == await second.result() == "w1"
        await settle()
        assert running.ended.is_set()


async def test_to_resume_is_harmless_when_nothing_drains(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        worker = world.new_worker()
        worker.resume()
        await world.nursery.start(worker.run)
        worker.resume()
        assert (await client.submit_task("add", (1, 2))).result == 3
        worker.drain()
        await settle()
        worker.resume()  # too late
        assert worker.statistics() is None


async def test_a_drain_while_the_control_plane_is_out_of_reach_ends_in_time(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        attempts = Attempts(world)
        running = await start(world, "w1", 5)
        handle = await client.submit("attempt", "a")
        await settle()
        world.cut_off("tcp://127.0.0.1:5560")
        at = trio.current_time()
        running.worker.drain()
        await running.ended.wait()
        assert trio.current_time() - at <= 5 + 2
        world.network.heal("tcp://127.0.0.1:5560")
        await start(world, "w2", 5)
        await trio.sleep(31)
        attempts.doors["a"].set()
        assert await handle.result() == "w2"


async def test_who_cancels_what_is_handed_back_hears_what_became_of_it(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        Attempts(world)
        running = await start(world, "w1", 5)
        handle = await client.submit("attempt", "a", shielded=0.5)
        await settle()
        running.worker.drain()
        await trio.sleep(5.2)  # it is being interrupted
        outcome = await handle.cancel()
        assert isinstance(outcome, Cancelled), "it has run, whatever counts"
        await start(world, "w2", 5)
        await trio.sleep(5)
        result = await client.get_task_result(handle.id)
        assert result is not None
        assert result.status is TaskStatus.CANCELLED
        assert handle.outcome == outcome


async def test_what_has_run_and_waits_again_is_not_said_to_have_never_started(
    autojump_clock: MockClock,
) -> None:
    async def failing() -> None:  # in the lane of those that wait
        raise ValueError("no luck")

    async with open_world(workers=0) as world, world.client() as client:
        Attempts(world)
        world.registry.register(failing)

        async def start_it(drain_timeout: float) -> tuple[Running, TaskHandle[Any]]:
            running = await start(world, "w1", drain_timeout)
            options = client.options(max_retries=1, retry_delay=0.1)
            handle = await options.submit("attempt", "a")
            await settle()
            return running, handle

        # Drained: it waits for another worker.
        running, drained = await start_it(1)
        running.worker.drain()
        await running.ended.wait()
        await settle()
        assert isinstance(await drained.cancel(), Cancelled)
        # Lost with its worker.
        running, lost = await start_it(1)
        running.worker.stop()
        await trio.sleep(2)
        assert isinstance(await lost.cancel(), Lost)
        # Failed once, and cancelled while it waits for its second attempt.
        await start(world, "w2", 1)
        failed = await client.options(max_retries=1, retry_delay=1.0).submit("failing")
        await settle()
        assert isinstance(await failed.cancel(), Cancelled)
        # The same, behind another task by then.
        failed = await client.options(max_retries=1, retry_delay=1.0).submit("failing")
        await settle()
        blocker = await client.submit("wait", "blocker")
        await trio.sleep(2)
        assert isinstance(await failed.cancel(), Cancelled)
        await blocker.cancel()


async def test_a_drained_control_plane_waits_for_groups_and_ends(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with open_world(slots=3) as world, world.client() as client:
        async with client.open_task_group() as group:
            for number in range(3):
                await group.submit("sleep", number, 2.0)
            await settle()
            world.plane.drain()
        assert [await handle.result() for handle in group.handles] == [0, 1, 2]
        await trio.sleep(2)
        assert world.plane.statistics() is None


# --- children ---


class Family:
    """A task that has tasks of its own: its client is open as long as it runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.registry.register(self.run, name="parent")

    async def run(self, how: str, names: list[Any]) -> list[Any]:
        async with Client(transport=self.world.network, registry=self.world.registry) as client:
            if how == "submit_task":
                return [(await client.submit_task("wait", (name,))).result for name in names]
            if how == "map":
                async with client.map("wait", names) as values:
                    return [value async for value in values]
            if how == "group":
                async with client.open_task_group() as group:
                    for name in names:
                        await group.submit("wait", name)
                return [await handle.result() for handle in group.handles]
            handles = [await client.submit("wait", name) for name in names]
            if how == "wait":
                return [(await handle.wait()).result for handle in handles]
            return [await handle.result() for handle in handles]


HOW = pytest.mark.parametrize("how", ["submit_task", "map", "group", "wait", "result"])


@HOW
async def test_a_parent_that_waits_lends_its_slot_to_its_children(
    autojump_clock: MockClock, how: str
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        Family(world)
        await world.start_worker(slots=1)
        handle = await client.submit("parent", how, [1, 2])
        await settle()
        assert world.ran[0] in (1, 2)
        world.let_go(1)
        world.let_go(2)
        with trio.fail_after(10):
            assert await handle.result() == [1, 2]
        await settle()
        assert world.tasks().leased == 0
        assert (await client.submit_task("add", (1, 2))).result == 3


async def test_ten_generations_end_with_one_slot(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:

        async def generation(left: int) -> int:
            if left == 0:
                return 0
            async with Client(transport=world.network, registry=world.registry) as own:
                handle = await own.submit("generation", left - 1)
                value: int = await handle.result()
                return value + 1

        world.registry.register(generation)
        await world.start_worker(slots=1)
        with trio.fail_after(30):
            assert await (await client.submit("generation", 10)).result() == 10
        await settle()
        assert world.count_clients() == 1


@HOW
async def test_a_parent_that_is_cancelled_takes_its_children_along(
    autojump_clock: MockClock, how: str
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        Family(world)
        await world.start_worker("w1", slots=1)
        await world.start_worker("w2", slots=1)
        handle = await client.submit("parent", how, [1, 2])
        await settle()
        begun = sorted(world.ran)
        assert begun
        outcome = await handle.cancel()
        assert type(outcome).__name__ == "Cancelled"
        await settle()
        assert sorted(world.stopped) == begun
        tasks = world.tasks()
        assert (tasks.leased, sum(tasks.ready)) == (0, 0)
        assert sorted(world.ran) == begun
        assert world.count_clients() == 1


async def test_a_parent_that_fails_takes_those_along_that_it_does_not_wait_for(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:

        async def careless() -> None:
            async with Client(transport=world.network, registry=world.registry) as own:
                await own.submit("wait", "child")
                await trio.sleep(1)
                raise ValueError("and now?")

        world.registry.register(careless)
        await world.start_worker(slots=2)
        result = await client.submit_task("careless")
        assert result.status is TaskStatus.FAILURE
        await trio.sleep(31)
        assert world.stopped == ["child"]
        assert world.tasks().leased == 0


async def test_children_know_the_deadline_of_their_parent(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        Family(world)
        await world.start_worker(slots=2)
        start_at = trio.current_time()
        with trio.move_on_after(5) as scope:
            async with client.open_task_group() as group:
                await group.submit("parent", "group", ["child"])
        assert scope.cancelled_caught
        await settle()
        assert world.stopped == ["child"]
        assert trio.current_time() - start_at == pytest.approx(5, abs=0.5)
