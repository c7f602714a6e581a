"""A cluster of real processes, and what may happen to each of them.

Faults of reliability.md: K1-K3 (killed), P1 (stopped), T1 and T2 (tasks that
block or end their process). The clock is the real one, so limits are those
that are promised, and never how fast it usually is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from fastworker import Client, ControlPlaneUnreachable, TaskResult, TaskStatus
from fastworker._core import _link_requester
from fastworker._core._link_requester import LinkState
from tests.nng.peer_tasks import Notes
from tests.nng.processes import Processes

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]


async def until(condition: Callable[[], object], within: float = 15) -> None:
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.005)


async def together(
    *calls: Callable[[], Awaitable[TaskResult]],
) -> list[TaskResult]:
    """The outcomes of several calls made at once, in their order."""
    results: dict[int, TaskResult] = {}

    async def run(number: int, call: Callable[[], Awaitable[TaskResult]]) -> None:
        results[number] = await call()

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(run, number, call)
    return [results[number] for number in range(len(calls))]


def submitting(client: Client, name: str, *args: Any) -> Callable[[], Awaitable[TaskResult]]:
    return lambda: client.submit_task(name, args)


# --- subworkers that die ------------------------------------------------------


async def test_tasks_of_a_killed_subworker_run_elsewhere_within_1_5_seconds(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane()
    first, second = processes.subworkers("w1", "w2")
    killed_at = 0.0
    lost: list[str] = []

    async def kill() -> None:
        nonlocal killed_at
        await until(lambda: len(notes.running_in(first.pid)) >= 2)
        lost.extend(notes.running_in(first.pid))
        killed_at = time.monotonic()
        first.kill()

    async with Client(processes.discovery) as client, trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        names = [f"t{number}" for number in range(4)]  # as many as slots
        results = await together(
            *(submitting(client, "hold", notes.path, n, 0.4) for n in names)
        )
    assert [result.result for result in results] == names
    again = [at - killed_at for n in lost for pid, at in notes.starts(n) if pid == second.pid]
    assert len(again) == len(lost)
    # The first of the suspects; each of them then runs alone, one by one.
    assert min(again) < 1.5


async def test_nothing_is_lost_when_a_subworker_is_killed_under_load(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane()
    first, _ = processes.subworkers("w1", "w2")
    names = [f"t{number}" for number in range(400)]
    async with Client(processes.discovery) as client:
        tickets = [await client.delay("hold", notes.path, name, 0.002) for name in names]
        await until(lambda: len(notes.lines()) > 100)
        first.kill()
        await until(lambda: not client.statistics().waiting, within=30)
        for name, ticket in zip(names, tickets, strict=True):
            result = client.get_result(ticket)
            assert result is not None
            assert result.result == name
        # At least once, and no more often than a death explains.
        assert all(1 <= len(notes.starts(name)) <= 2 for name in names)


async def test_a_poison_task_fails_with_reasons_and_its_siblings_succeed(
    processes: Processes, notes: Notes
) -> None:
    # T2 in docs/faults.md.
    processes.control_plane()
    workers = processes.subworkers("w1", "w2", "w3", "w4", "w5")
    names = [f"t{number}" for number in range(20)]
    async with Client(processes.discovery) as client:
        poisoned, *others = await together(
            submitting(client, "poison", notes.path),
            *(submitting(client, "hold", notes.path, name, 0.05) for name in names),
        )
    assert [result.result for result in others] == names
    assert poisoned.status is TaskStatus.FAILURE
    assert poisoned.error is not None
    assert "died 3 times" in poisoned.error
    assert poisoned.error.count("did not come back") == 3
    # Three times alone, and once before, should it have had company then.
    assert len(notes.starts("poison")) in (3, 4)
    dead = sum(1 for worker in workers if not worker.is_running())
    assert dead == len(notes.starts("poison"))


@pytest.mark.parametrize("how", ["segmentation fault", "abort", "exit", "SIGKILL", "SIGTERM"])
async def test_a_task_that_ends_its_process_costs_an_attempt_and_nobody_else_anything(
    processes: Processes, notes: Notes, how: str
) -> None:
    """T2: its siblings run again elsewhere; another client's tasks go on."""
    processes.control_plane()
    processes.subworkers("w1", "w2")
    done = 0

    async def work_on() -> None:
        nonlocal done
        async with Client(processes.discovery) as other:
            while True:
                assert (await other.submit_task("add", (done, 1))).result == done + 1
                done += 1

    async with Client(processes.discovery) as client, trio.open_nursery() as nursery:
        nursery.start_soon(work_on)
        names = [f"t{number}" for number in range(3)]
        results = await together(
            submitting(client, "die_once", notes.path, how),
            *(submitting(client, "hold", notes.path, name, 0.2) for name in names),
        )
        after = done
        await until(lambda: done > after + 10)
        nursery.cancel_scope.cancel()
    assert [result.result for result in results] == [how, *names]
    assert len(notes.starts("die_once")) == 2


async def test_a_stopped_subworker_goes_on_where_it_was(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane()
    first, _ = processes.subworkers("w1", "w2")
    names = [f"t{number}" for number in range(12)]

    async def stop_and_continue() -> None:
        await until(lambda: notes.running_in(first.pid))
        os.kill(first.pid, signal.SIGSTOP)
        await trio.sleep(3)  # longer than the grace of a closed pipe, shorter than a lease
        os.kill(first.pid, signal.SIGCONT)

    async with Client(processes.discovery) as client, trio.open_nursery() as nursery:
        nursery.start_soon(stop_and_continue)
        results = await together(
            *(submitting(client, "hold", notes.path, n, 0.2) for n in names)
        )
    assert [result.result for result in results] == names
    assert [len(notes.starts(name)) for name in names] == [1] * len(names)
    assert {result.attempts for result in results} == {1}


# --- subworkers that come and share ------------------------------------------


async def test_a_joining_subworker_takes_work_at_once(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane()
    processes.subworkers("w1", concurrency=1)
    async with Client(processes.discovery) as client:
        for number in range(30):
            await client.delay("hold", notes.path, f"t{number}", 0.2)
        [second] = processes.subworkers("w2", concurrency=1)
        joined_at = time.monotonic()
        await until(lambda: notes.running_in(second.pid))
        first_start = next(at for _, _, pid, at in notes.lines() if pid == second.pid)
        assert first_start - joined_at < 0.3  # its neighbour is busy for longer


async def test_the_control_plane_executes_and_shares(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane(executes=True, concurrency=1)
    processes.subworkers("w1", concurrency=1)
    async with Client(processes.discovery) as client:
        results = await together(
            *(submitting(client, "hold", notes.path, f"t{n}", 0.1) for n in range(10))
        )
    shares = [result.worker_id for result in results]
    assert set(shares) == {"plane", "w1"}
    assert min(shares.count("plane"), shares.count("w1")) >= 3


# --- the control plane dies ---------------------------------------------------


async def test_a_restarted_control_plane_is_found_and_waiting_callers_hear_the_loss(
    processes: Processes, notes: Notes
) -> None:
    plane = processes.control_plane()
    [worker] = processes.subworkers("w1")
    async with Client(processes.discovery) as client:
        outcomes: dict[str, tuple[float, TaskResult]] = {}

        async def call(name: str, task: str, *args: Any) -> None:
            result = await client.submit_task(task, args)
            outcomes[name] = (time.monotonic(), result)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "waiting", "hold", notes.path, "waiting", 1.0)
            await until(lambda: notes.starts("waiting"))
            await until(lambda: not client.statistics().unacknowledged)
            # Sent, and not acknowledged: it is stopped before it can have read it.
            os.kill(plane.pid, signal.SIGSTOP)
            nursery.start_soon(call, "sent", "add", 1, 2)
            await until(lambda: client.statistics().unacknowledged)
            await trio.sleep(0.05)
            plane.kill()
            nursery.start_soon(call, "unsent", "add", 3, 4)
            await until(lambda: client.statistics().link is LinkState.DOWN)
            processes.restart()
            restarted_at = time.monotonic()
            await until(lambda: client.statistics().link is LinkState.OPEN)
            reconnected_at = time.monotonic()
        assert reconnected_at - restarted_at < 3
        at, lost = outcomes["waiting"]
        assert at - reconnected_at < 2
        assert lost.status is TaskStatus.FAILURE
        assert lost.error == "lost: control plane restarted without a durable store"
        assert outcomes["sent"][1].result == 3
        assert outcomes["unsent"][1].result == 7
        assert outcomes["unsent"][1].worker_id == "w1"
        assert worker.is_running()
        # The new one knows nothing of what the old one leased.
        await until(lambda: not notes.running_in(worker.pid))
        tasks = processes.plane.ask()["statistics"]["tasks"]
        assert (tasks["submitted"], tasks["succeeded"], tasks["failed"]) == (2, 2, 0)


async def test_a_client_without_a_control_plane_gives_up_by_its_own_clock(
    processes: Processes,
) -> None:
    plane = processes.control_plane()
    processes.subworkers("w1")
    async with Client(processes.discovery, timeout=0.5) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        plane.kill()
        await until(lambda: client.statistics().link is LinkState.DOWN)
        late = await client.submit_task("add", (1, 2))
        assert late.status is TaskStatus.FAILURE
        assert late.error == (
            "timed out after 0.5 s before it was sent: no control plane was reached"
        )
        with pytest.raises(ControlPlaneUnreachable, match=processes.discovery):
            await client.delay("add", 1, 2)
        processes.restart()
        result = None
        with trio.fail_after(10):
            while result is None or result.status is not TaskStatus.SUCCESS:
                result = await client.submit_task("add", (1, 2))


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> float:
    """A lease short enough to wait for, which this process can renew in time."""
    monkeypatch.setattr(_link_requester, "REPEAT_INTERVAL", 0.2)
    return 1.2


# --- clients die --------------------------------------------------------------


async def test_of_a_killed_client_nothing_stays_behind(
    processes: Processes, notes: Notes, lease: float
) -> None:
    plane = processes.control_plane(lease=lease)
    processes.subworkers("w1", lease=lease, concurrency=1)
    async with Client(processes.discovery) as client:  # one that lives
        before = plane.ask()["statistics"]
        blocker = await client.delay("hold", notes.path, "blocker", 3 * lease)
        victim = processes.client(notes=notes.path)
        await until(lambda: plane.ask()["statistics"]["clients"] == before["clients"] + 1)
        victim.kill()
        await until(lambda: plane.ask()["statistics"]["clients"] == before["clients"])
        await until(lambda: client.get_status(blocker) is TaskStatus.SUCCESS)

        def is_at_rest() -> bool:
            tasks = plane.ask()["statistics"]["tasks"]
            return tasks["leased"] + tasks["started"] + tasks["held"] + sum(tasks["ready"]) == 0

        await until(is_at_rest)
        after = plane.ask()["statistics"]
        assert after["outbox_bytes"] == before["outbox_bytes"] == 0
        assert after["kept_bytes"] <= before["kept_bytes"] + 1000  # its neighbour's own
        # What it waited for went with it; what it had handed in was done.
        assert after["tasks"]["cancelled"] == 1
        assert after["tasks"]["succeeded"] == before["tasks"]["succeeded"] + 40 + 1
        assert not notes.starts("attached")


# --- tasks that block ---------------------------------------------------------


@pytest.mark.parametrize("task", ["hold", "nap"])
async def test_a_task_that_blocks_its_lane_stops_no_heartbeat(
    processes: Processes, notes: Notes, lease: float, task: str
) -> None:
    # T1 in docs/faults.md.
    # A lease that is not renewed in time ends, and its task runs again.
    plane = processes.control_plane(lease=lease)
    processes.subworkers("w1", "w2", lease=lease)
    async with Client(processes.discovery) as client:
        [result] = await together(submitting(client, task, notes.path, "long", 4 * lease))
        assert result.result == "long"
        assert len(notes.starts("long")) == 1
        assert plane.ask()["status"]["active"] == 2
        assert plane.ask()["statistics"]["tasks"]["stale_reports"] == 0
