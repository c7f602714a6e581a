"""Throughput and latency of a whole round trip over loopback.

Three processes: this one is the client, and it starts a control plane and one
subworker with one thread. The task is a ``def`` that does nothing.

    python benchmarks/roundtrip.py [--tasks 50000] [--in-flight 1000] [--json]

Throughput: ``--in-flight`` callers of ``submit_task`` at once, until
``--tasks`` are done. Latency: one caller, one task after the other. Half
load: tasks submitted at half the measured throughput, each timed by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from roles import run_subworker

import fastworker
from fastworker import Client, ControlPlaneWorker, task
from fastworker.cli._memory import set_start_aside


@task
def no_op() -> None:
    """Do nothing."""


async def run_control_plane(store: str) -> None:
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
        nursery.start_soon(watch_pauses)
        await trio.to_thread.run_sync(sys.stdin.readline)
        print(longest_pause, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


longest_pause = 0.0


async def watch_pauses() -> None:
    """Note for how long the loop does nothing else, at the longest."""
    global longest_pause
    while True:
        due = trio.current_time() + 0.005
        await trio.sleep_until(due)
        longest_pause = max(longest_pause, trio.current_time() - due)


def ask_longest_pause(plane: subprocess.Popen[str]) -> float:
    """The longest pause of a control plane's loop so far, in seconds."""
    plane.stdin.write("\n")
    plane.stdin.flush()
    return float(plane.stdout.readline())


def spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def measure(address: str, tasks: int, in_flight: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    async with Client(address, timeout=120) as client:
        for _ in range(200):
            await client.submit_task("no_op")

        samples: list[float] = []
        for _ in range(2000):
            begin = time.perf_counter()
            await client.submit_task("no_op")
            samples.append(time.perf_counter() - begin)
        note(figures, "one at a time", samples)

        left = iter(range(tasks))

        async def caller() -> None:
            for _ in left:
                result = await client.submit_task("no_op")
                assert result.status is fastworker.TaskStatus.SUCCESS, result

        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(in_flight):
                nursery.start_soon(caller)
        rate = tasks / (time.perf_counter() - begin)
        figures["throughput, tasks/s"] = rate

        samples = []

        async def timed() -> None:
            begin = time.perf_counter()
            await client.submit_task("no_op")
            samples.append(time.perf_counter() - begin)

        async with trio.open_nursery() as nursery:
            next_at = trio.current_time()
            for _ in range(int(rate / 2 * 3)):
                next_at += 2 / rate
                await trio.sleep_until(next_at)
                nursery.start_soon(timed)
        note(figures, "at half load", samples)
    return figures


def note(figures: dict[str, float], name: str, samples: list[float]) -> None:
    cuts = statistics.quantiles(samples, n=100)
    figures[f"{name}: p50, ms"] = cuts[49] * 1000
    figures[f"{name}: p99, ms"] = cuts[98] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--in-flight", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", choices=["control-plane", "subworker"])
    parser.add_argument("--address")
    parser.add_argument("--store", default="memory", help="a file, or 'memory'")
    arguments = parser.parse_args()
    if arguments.role == "control-plane":
        trio.run(run_control_plane, arguments.store)
        return
    if arguments.role == "subworker":
        trio.run(run_subworker, arguments.address)
        return
    figures = run(arguments.tasks, arguments.in_flight, arguments.store)
    if arguments.json:
        print(json.dumps({"machine": describe_machine(), "figures": figures}, indent=2))
        return
    print(describe_machine())
    for name, figure in figures.items():
        print(f"{name:32}{figure:12,.2f}")


def run(tasks: int, in_flight: int, store: str) -> dict[str, float]:
    """Start the processes, measure, and end them."""
    plane = spawn("--role", "control-plane", "--store", store)
    discovery, base = plane.stdout.readline().split()
    worker = spawn("--role", "subworker", "--address", base)
    worker.stdout.readline()
    try:
        figures = trio.run(measure, discovery, tasks, in_flight)
        figures["longest pause, ms"] = ask_longest_pause(plane) * 1000
    finally:
        for process in (worker, plane):
            process.stdin.close()
            process.wait(10)
    return figures


if __name__ == "__main__":
    os.environ.pop("FASTWORKER_DISCOVERY_ADDRESS", None)
    main()
