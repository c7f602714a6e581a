"""What it costs that programs hear of every change: the round trip without and with them.

Both are measured in turns in one run, on a store in memory: with nobody who listens, and
with so many processes of ``fastworker events --json``, which are told of everything.

    python benchmarks/events.py [--tasks 20000] [--in-flight 1000] [--rounds 3] [--listeners 1]

Exits with 1 if the median throughput with listeners is below half of that without.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from roundtrip import spawn

import fastworker


async def throughput(address: str, tasks: int, in_flight: int) -> float:
    """Tasks a second, of ``in_flight`` callers at once."""
    async with fastworker.Client(address, timeout=120) as client:
        for _ in range(200):
            await client.submit_task("no_op")
        left = iter(range(tasks))

        async def caller() -> None:
            for _ in left:
                await client.submit_task("no_op")

        begin = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(in_flight):
                nursery.start_soon(caller)
        return tasks / (time.perf_counter() - begin)


def run(tasks: int, in_flight: int, listeners: int) -> tuple[float, int]:
    """The throughput, and how many changes were shown to the listeners, all together."""
    plane = spawn("--role", "control-plane", "--store", "memory")
    discovery, base = plane.stdout.readline().split()
    worker = spawn("--role", "subworker", "--address", base)
    worker.stdout.readline()
    with tempfile.TemporaryFile() as shown:
        command = [sys.executable, "-m", "fastworker", "events", "--json"]
        command += ["--discovery-address", discovery]
        heard = [subprocess.Popen(command, stdout=shown) for _ in range(listeners)]
        try:
            time.sleep(1.0 if listeners else 0.0)
            rate = trio.run(throughput, discovery, tasks, in_flight)
        finally:
            for process in heard:
                process.terminate()
                process.wait(10)
            for process in (worker, plane):
                process.stdin.close()
                process.wait(10)
        shown.seek(0)
        return rate, shown.read().count(b'"change"')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listeners", type=int, default=1)
    arguments = parser.parse_args()
    print(describe_machine())
    ratios: list[float] = []
    for number in range(1, arguments.rounds + 1):
        alone, _ = run(arguments.tasks, arguments.in_flight, 0)
        heard, lines = run(arguments.tasks, arguments.in_flight, arguments.listeners)
        ratios.append(heard / alone)
        print(f"round {number}: {alone:,.0f} and {heard:,.0f} tasks/s, {lines:,} changes shown")
    ratio = statistics.median(ratios)
    print(f"with listeners / without: {ratio:.0%}, the median of {len(ratios)} rounds")
    return 0 if ratio >= 0.5 else 1


if __name__ == "__main__":
    sys.exit(main())
