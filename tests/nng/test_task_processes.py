"""Tasks in processes of their own, through a real cluster: T1, T2, T3, K1."""

from __future__ import annotations

import os
import time

import pytest
import trio

from fastworker import Client, TaskStatus
from tests.nng.peer_tasks import Notes
from tests.nng.processes import Processes
from tests.nng.test_cluster import submitting, together, until

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_task_that_crashes_fails_by_name_and_its_neighbours_go_on(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane()
    (worker,) = processes.subworkers("w1")
    async with Client(processes.discovery) as client:
        crashed, apart, in_thread = await together(
            submitting(client, "crash", notes.path),
            submitting(client, "hold_apart", notes.path, "apart", 0.5),
            submitting(client, "hold", notes.path, "in-thread", 0.5),
        )
    assert crashed.status is TaskStatus.FAILURE
    assert crashed.error == "ProcessDied: its process ended with SIGSEGV"
    assert (apart.result, in_thread.result) == ("apart", "in-thread")
    assert len(notes.starts("apart")) == len(notes.starts("crash")) == 1
    assert worker.process.poll() is None


async def test_cancelling_a_task_that_does_not_stop_kills_its_process(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane()
    processes.subworkers("w1", concurrency=1)
    async with Client(processes.discovery) as client:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submitting(client, "refuse", notes.path))
                await until(lambda: notes.starts("refuse"))
                scope.cancel()
        ((pid, _),) = notes.starts("refuse")
        # Its slot is the only one.
        result = await client.submit_task("hold_apart", (notes.path, "next", 0.0))

    assert result.result == "next"
    await until(lambda: not is_running(pid), within=2)
    assert len(notes.starts("refuse")) == 1


async def test_the_task_processes_of_a_killed_subworker_are_gone_within_2_seconds(
    processes: Processes, notes: Notes
) -> None:
    processes.control_plane()
    (worker,) = processes.subworkers("w1")
    async with Client(processes.discovery) as client:
        await client.delay("refuse", notes.path)
        await until(lambda: notes.starts("refuse"))
        ((pid, _),) = notes.starts("refuse")
        assert pid not in (worker.pid, os.getpid())
        worker.kill()
        killed_at = time.monotonic()
        await until(lambda: not is_running(pid), within=2)
    assert time.monotonic() - killed_at < 2
