"""The two processes that most benchmarks start beside themselves, until their input ends."""

from __future__ import annotations

import sys

import trio

from fastworker import ControlPlaneWorker, SubWorker
from fastworker.cli._memory import set_start_aside


async def run_control_plane(store: str = "memory") -> None:
    """A control plane that executes nothing; says where clients and subworkers find it."""
    plane = ControlPlaneWorker(
        store=store,
        base_address="tcp://127.0.0.1:0",
        discovery_address="tcp://127.0.0.1:0",
        subworker_management_port=0,
        executes=False,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.start)
        set_start_aside()  # as the commands do
        print(plane.discovery_address, plane.base_address, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def run_subworker(address: str) -> None:
    """A subworker with a thread and an event loop for the tasks of the running script."""
    worker = SubWorker("w1", address, concurrency=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        set_start_aside()
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()
