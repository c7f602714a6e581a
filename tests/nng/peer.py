"""A control plane, a subworker or a client as a process of its own.

    python -m tests.nng.peer ROLE SETTINGS

SETTINGS is JSON. It prints one line of JSON when it is ready, and another for
every line it reads. At the end of its input it ends, so that none outlives a
test run that was killed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio

import tests.nng.peer_tasks  # noqa: F401 - registers the tasks
from fastworker import Client, ControlPlaneWorker, SubWorker
from tests.short_leases import shorten_leases

ANY_PORT = "tcp://127.0.0.1:0"


@dataclass
class Settings:
    """What a test may ask for; a field that a role has no use for is ignored."""

    name: str = "plane"
    base: str = ANY_PORT
    management: int = 0
    discovery: str = ANY_PORT
    executes: bool = False
    concurrency: int = 2
    connect: str = ""
    patience: float = 5.0
    notes: str = ""
    lease: float | None = None


def own_figures() -> dict[str, Any]:
    """What must not grow in a process that is at rest (B2)."""
    gc.collect()
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    return {
        "pid": os.getpid(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "python_threads": threading.active_count(),
        "resident": int(status["VmRSS"].split()[0]) * 1024,
        "objects": len(gc.get_objects()),
    }


async def answer(report: Callable[[], dict[str, Any]]) -> None:
    """Answer each line of input with a report, until there is no more."""
    async for _ in read_lines():
        print(json.dumps(own_figures() | report()), flush=True)


async def read_lines() -> AsyncIterator[bytes]:
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line


async def run_control_plane(settings: Settings) -> None:
    worker = ControlPlaneWorker(
        settings.name,
        settings.base,
        settings.discovery,
        subworker_management_port=settings.management,
        executes=settings.executes,
        concurrency=settings.concurrency,
    )

    def report() -> dict[str, Any]:
        status = worker.get_subworker_status()
        for subworker in status["subworkers"].values():
            subworker["last_seen"] = str(subworker["last_seen"])
        return {"statistics": msgspec.to_builtins(worker.statistics()), "status": status}

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        addresses = {
            "base": worker.base_address,
            "management": worker.subworker_management_port,
            "management_address": worker.management_address,
            "discovery": worker.discovery_address,
        }
        print(json.dumps(own_figures() | addresses), flush=True)
        await answer(report)
        worker.stop()


async def run_subworker(settings: Settings) -> None:
    worker = SubWorker(
        settings.name,
        settings.connect,
        concurrency=settings.concurrency,
        connect_timeout=settings.patience,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        print(json.dumps(own_figures()), flush=True)
        await answer(lambda: {"statistics": msgspec.to_builtins(worker.statistics())})
        worker.stop()


async def run_client(settings: Settings) -> None:
    """A caller that waits, and some tasks that nobody waits for."""
    async with (
        Client(settings.connect, connect_timeout=settings.patience) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.submit_task, "hold", (settings.notes, "attached", 60))
        for number in range(20):
            await client.delay("echo", "x" * 10_000)
            await client.delay("add", number, number)
        print(json.dumps(own_figures()), flush=True)
        await answer(lambda: {"statistics": msgspec.to_builtins(client.statistics())})
        nursery.cancel_scope.cancel()


ROLES = {
    "control-plane": run_control_plane,
    "subworker": run_subworker,
    "client": run_client,
}

if __name__ == "__main__":
    given = Settings(**json.loads(sys.argv[2]))
    if given.lease is not None:
        shorten_leases(given.lease)
    trio.run(ROLES[sys.argv[1]], given)
