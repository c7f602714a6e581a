"""What a control plane has after much work and many clients: what it had before (B2)."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from fastworker import Client, TaskStatus
from tests.nng.processes import Peer, Processes

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]

TASKS = 10_000
CLIENTS = 100
# What its allocator may keep of pages that were in use; its results are in it
# too, which are kept for whoever asks (about 1 KiB each).
SLACK = 24 * 1024 * 1024
WORKER_SLACK = 12 * 1024 * 1024


async def do_tasks(address: str, count: int) -> None:
    async with Client(address) as client:
        for number in range(count):
            await client.delay("add", number, 1)
        last = await client.submit_task("add", (count, 1))
        assert last.status is TaskStatus.SUCCESS
        while client.statistics().waiting:
            await trio.sleep(0.005)
        left = client.statistics()
        assert (left.unsent, left.unacknowledged, left.malformed_frames) == (0, 0, 0)
        state = client._state
        assert [len(t) for t in (state._tasks, state._tasks.to_watch, state._queries)] == [
            0,
            0,
            0,
        ]
        assert len(state._calls) <= 1  # the POLL


async def come_and_go(address: str, clients: int) -> None:
    """One after the other; every second one leaves without a goodbye's answer."""
    for number in range(clients):
        with trio.CancelScope() as scope:
            async with Client(address) as client:
                assert (await client.submit_task("add", (number, 1))).result == number + 1
                if number % 2:
                    scope.cancel()


def tables(figures: dict[str, Any]) -> dict[str, Any]:
    """What is there now, without what only counts."""
    statistics = figures["statistics"]
    tasks = statistics["tasks"]
    now = ("held", "ready", "leased", "started")
    return {
        "clients": statistics["clients"],
        "outbox_bytes": statistics["outbox_bytes"],
        "queued_bytes": tasks["queued_bytes"],
        "broken": [statistics["malformed_frames"], statistics["closed_sessions"]],
        **{name: tasks[name] for name in now},
        "subworkers": figures["status"]["total"],
        "loads": [worker["load"] for worker in figures["status"]["subworkers"].values()],
        "descriptors": figures["descriptors"],
        "threads": figures["threads"],
        "python_threads": figures["python_threads"],
        "processes": children(figures["pid"]),
    }


def children(pid: int) -> list[int]:
    """The processes that it has started and that still are there."""
    return [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


async def settle(plane: Peer, expected: dict[str, Any]) -> dict[str, Any]:
    """Its figures once its tables are as expected; descriptors close a little later."""
    with trio.move_on_after(10):
        while tables(plane.ask()) != expected:
            await trio.sleep(0.05)
    figures = plane.ask()
    assert tables(figures) == expected
    return figures


async def test_nothing_grows_in_a_control_plane_that_much_came_through(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # H16 in docs/faults.md.
    # Checking every invariant after every event takes time that grows with what
    # is kept: minutes here. Other tests do that.
    monkeypatch.setenv("FASTWORKER_VALIDATE", "0")
    plane = processes.control_plane(executes=True)
    [worker] = processes.subworkers("w1")
    address = processes.discovery
    # Threads, caches and results come into being with the first work.
    await do_tasks(address, 200)
    await come_and_go(address, 2)
    await trio.sleep(0.3)
    before, worker_before = plane.ask(), worker.ask()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(do_tasks, address, TASKS // 4)
        nursery.start_soon(come_and_go, address, CLIENTS)
    after = await settle(plane, tables(before))

    done = (
        after["statistics"]["tasks"]["succeeded"] - before["statistics"]["tasks"]["succeeded"]
    )
    assert done == TASKS + 4 + CLIENTS
    # Outcomes are kept for whoever asks; the rest of an object is a leak.
    assert after["objects"] - before["objects"] < 4 * done
    assert after["statistics"]["kept_bytes"] < 100  # of its subworkers' sessions
    assert after["resident"] - before["resident"] < SLACK
    worker_after = worker.ask()
    for name in ("descriptors", "threads", "python_threads", "statistics"):
        assert worker_after[name] == worker_before[name], name
    idle = worker_after["statistics"]
    assert idle["running"] == idle["unstarted"] == idle["orphans"] == idle["unreported"] == 0
    assert children(worker.pid) == []
    assert worker_after["resident"] - worker_before["resident"] < WORKER_SLACK
    assert worker_after["objects"] - worker_before["objects"] < 500


async def test_subworkers_that_come_and_go_leave_nothing(processes: Processes) -> None:
    plane = processes.control_plane(executes=True)
    await do_tasks(processes.discovery, 20)
    [first] = processes.subworkers("w0")
    first.kill()
    await trio.sleep(1)
    before = plane.ask()
    for peer in processes.subworkers("w1", "w2", "w3", "w4"):
        peer.kill()
    after = await settle(plane, tables(before))
    assert after["objects"] - before["objects"] < 300


async def test_nothing_stays_in_the_process_of_clients(processes: Processes) -> None:
    processes.control_plane(executes=True)
    await do_tasks(processes.discovery, 10)  # NNG makes its threads once

    def figures() -> tuple[int, int, int]:
        gc.collect()
        clients = sum(isinstance(thing, Client) for thing in gc.get_objects())
        return len(os.listdir("/proc/self/fd")), threading.active_count(), clients

    before = figures()
    await come_and_go(processes.discovery, 20)
    for _ in range(10):
        client = Client(processes.discovery)
        await client.start()
        client.stop()
        await client.aclose()
        del client
    with trio.move_on_after(5):
        while figures() != before:
            await trio.sleep(0.05)
    assert figures() == before
