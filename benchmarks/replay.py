"""How soon a restarted control plane serves, with many tasks queued in its file.

    python benchmarks/replay.py [--tasks 100000] [--only-first] [--folder PATH]

Writes a file with that many queued tasks that do nothing, starts a control plane on it and
one subworker, and takes the time from the start of the process until it listens, until the
first of those tasks has ended, and until a new critical one has its result. Prints also what
a queued task costs in memory, and the longest pause of the loop while all are worked off.
Exits with 1 if the first has not ended within 3 s for 100,000 tasks, 30 s for 1,000,000.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from roundtrip import ask_longest_pause, spawn

import fastworker
from fastworker import Client
from fastworker._core._messages import TaskSpec
from fastworker._core._stored import Changes, StoredTask
from fastworker._store._sqlite import SqliteStore


def fill(path: str, tasks: int) -> None:
    """Write a file with so many queued tasks."""
    store = SqliteStore(path)
    store.open()
    now = time.time()
    for start in range(1, tasks + 1, 5000):
        rows = [
            StoredTask(
                n, TaskSpec(f"queued-{n:07}", "no_op", 2, 1, b"[[],{}]", now), changed=now
            )
            for n in range(start, min(start + 5000, tasks + 1))
        ]
        store.write(Changes(created=rows))
    store.close()


def resident(process: subprocess.Popen[str]) -> int:
    """The bytes of memory that a process has."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


async def watch(
    address: str, began: float, figures: dict[str, float], tasks: int, only_first: bool
) -> None:
    async with Client(address, timeout=600, connect_timeout=60) as client:
        while True:
            result = await client.get_task_result("queued-0000001")
            if result is not None and result.status is fastworker.TaskStatus.SUCCESS:
                break
            await trio.sleep(0.01)
        figures["first task has ended, s"] = time.monotonic() - began
        await client.options(priority="critical").submit_task("no_op")
        figures["new critical task has ended, s"] = time.monotonic() - began
        if only_first:
            return
        while True:
            result = await client.get_task_result(f"queued-{tasks:07}")
            if result is not None and result.status is fastworker.TaskStatus.SUCCESS:
                break
            await trio.sleep(0.2)
        figures["all have ended, s"] = time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--folder", help="where the file is made")
    parser.add_argument("--only-first", action="store_true", help="do not work all off")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = f"{folder}/tasks.db"
        fill(path, 1)
        empty = spawn("--role", "control-plane", "--store", path)
        empty.stdout.readline()
        before = resident(empty)
        empty.stdin.close()
        empty.wait(10)
        Path(path).unlink()
        fill(path, arguments.tasks)
        figures["bytes on disk per task"] = Path(path).stat().st_size / arguments.tasks
        began = time.monotonic()
        plane = spawn("--role", "control-plane", "--store", path)
        discovery, base = plane.stdout.readline().split()
        figures["listens, s"] = time.monotonic() - began
        figures["bytes of memory per task"] = (resident(plane) - before) / arguments.tasks
        worker = spawn("--role", "subworker", "--address", base)
        try:
            trio.run(watch, discovery, began, figures, arguments.tasks, arguments.only_first)
            figures["longest pause, ms"] = ask_longest_pause(plane) * 1000
        finally:
            for process in (worker, plane):
                process.stdin.close()
                process.wait(60)
    print(describe_machine())
    for name, figure in figures.items():
        print(f"{name:32}{figure:12,.2f}")
    return 0 if figures["first task has ended, s"] < 3.0 * max(1, arguments.tasks / 1e5) else 1


if __name__ == "__main__":
    sys.exit(main())
