"""Pipes that are reset between real processes: nothing runs twice, no lease is lost.

The model in tests/core/test_session_link.py has far more of these; here the
kernel and NNG have their say, and their clocks.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
import trio

import tests.nng.peer_tasks  # noqa: F401 - registers the tasks
from fastworker import Client, SubWorker, TaskResult, TaskStatus
from fastworker._core._link_requester import LinkState
from tests.nng.peer_tasks import Notes
from tests.nng.processes import Processes
from tests.nng.test_cluster import until

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]


async def test_a_subworker_keeps_its_leases_through_pipe_resets(
    processes: Processes, notes: Notes
) -> None:
    plane = processes.control_plane()
    worker = SubWorker("w1", plane.facts["management_address"], concurrency=2)
    async with Client(processes.discovery) as client, trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        held = [await client.delay("hold", notes.path, name, 2.0) for name in ("a", "b")]
        await until(lambda: notes.starts("a") and notes.starts("b"))
        processes.subworkers("w2")  # who would take over what is lost
        assert worker._session is not None
        for _ in range(3):
            worker._session._connection.drop_pipe()
            await trio.sleep(0.3)
        await until(lambda: all(client.get_result(task_id) for task_id in held))
        for name, task_id in zip(("a", "b"), held, strict=True):
            result = client.get_result(task_id)
            assert result is not None
            assert (result.result, result.worker_id, result.attempts) == (name, "w1", 1)
            assert len(notes.starts(name)) == 1
        assert plane.ask()["statistics"]["tasks"]["stale_reports"] == 0
        worker.stop()


async def test_a_submit_that_was_not_acknowledged_runs_once_however_often_it_is_sent(
    processes: Processes, notes: Notes
) -> None:
    # H7 in docs/faults.md.
    plane = processes.control_plane()
    processes.subworkers("w1")
    results: list[TaskResult] = []
    async with Client(processes.discovery) as client, Client(processes.discovery) as other:

        async def submit(name: str) -> None:
            results.append(await client.submit_task("hold", (notes.path, name, 0.0)))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                # It is stopped before it can answer, and the pipe is reset before
                # it goes on; what was sent may have arrived all the same.
                os.kill(plane.pid, signal.SIGSTOP)
                nursery.start_soon(submit, f"t{number}")
                await until(lambda: client.statistics().unacknowledged)
                await trio.sleep(0.1)
                assert client._session is not None
                client._session._connection.drop_pipe()
                await until(lambda: client.statistics().link is not LinkState.OPEN)
                os.kill(plane.pid, signal.SIGCONT)
                await until(lambda: not client.statistics().unacknowledged)
                assert (await other.submit_task("add", (number, 1))).result == number + 1
        assert {result.status for result in results} == {TaskStatus.SUCCESS}
        assert [len(notes.starts(f"t{number}")) for number in range(5)] == [1] * 5
        tasks = plane.ask()["statistics"]["tasks"]
        assert tasks["submitted"] == tasks["succeeded"] == 10


async def test_callers_of_a_killed_control_plane_hear_of_it_within_two_seconds_each_time(
    processes: Processes, notes: Notes
) -> None:
    """As often as it dies; nobody has to be started again."""
    processes.control_plane()
    processes.subworkers("w1")
    async with Client(processes.discovery) as client:
        for number in range(3):
            outcomes: list[TaskResult] = []

            async def wait(name: str, outcomes: list[TaskResult] = outcomes) -> None:
                outcomes.append(await client.submit_task("hold", (notes.path, name, 0.5)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, f"t{number}")
                await until(lambda: len(notes.lines()) == 2 * number + 1)  # noqa: B023
                await until(lambda: not client.statistics().unacknowledged)
                processes.plane.kill()
                await until(lambda: client.statistics().link is LinkState.DOWN)
                processes.restart()
                await until(lambda: client.statistics().link is LinkState.OPEN)
                back_at = time.monotonic()
            assert time.monotonic() - back_at < 2
            [lost] = outcomes
            assert lost.status is TaskStatus.FAILURE
            assert lost.error == "lost: control plane restarted without a durable store"
            assert (await client.submit_task("add", (number, 1))).result == number + 1
            await until(lambda: len(notes.lines()) == 2 * number + 2)  # noqa: B023
