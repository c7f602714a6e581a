"""How long each process' loop does nothing else while payloads of all sizes pass.

    python benchmarks/payloads.py [--sizes 1 1024 ...] [--formats json pickle] [--token]

Four processes: this one only starts them; a client, a control plane and a subworker with
one thread each have a ticker that wants to wake every 2 ms, and note by how much it was
late at the longest. For each size the client sends a text (JSON) or bytes (pickle) of that
size, which a task gives back; five tasks one after the other. ``alone`` is the longest
lateness of the same tickers in as many seconds without any task: what the machine, and
whatever else runs on it, does to them. Exits with 1 if a stall is above 50 ms.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from processes import ask, end, read_line, spawn
from targets import Figure, report

import fastworker
from fastworker import Client, ControlPlaneWorker, SubWorker, task

MIB = 1 << 20
# The limit of a frame is 16 MiB, and some of it is the envelope's.
SIZES = (1, 1024, 64 * 1024, MIB, 4 * MIB, 16 * MIB - 4096)
TICK = 0.002
SAMPLES = 5


@task
def echo(value: str | bytes) -> str | bytes:
    """Give it back."""
    return value


class Ticker:
    """Notes for how long the loop did nothing else, at the longest since it was asked.

    Beside it the longest of its own processor time between two ticks: what a stall is
    without the time for which the thread waited for a core or for the interpreter.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.busiest = 0.0

    async def run(self) -> None:
        used = time.thread_time()
        while True:
            due = trio.current_time() + TICK
            await trio.sleep_until(due)
            self.longest = max(self.longest, trio.current_time() - due)
            before, used = used, time.thread_time()
            self.busiest = max(self.busiest, used - before)

    def take(self) -> str:
        """Both, in seconds, and begin anew."""
        text = f"{self.longest} {self.busiest}"
        self.longest = self.busiest = 0.0
        return text

    async def answer(self) -> None:
        """Say it for each line that is read, until there is none."""
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(self.take(), flush=True)


async def run_control_plane() -> None:
    plane = ControlPlaneWorker(
        store="memory",
        base_address="tcp://127.0.0.1:0",
        discovery_address="tcp://127.0.0.1:0",
        subworker_management_port=0,
        executes=False,
    )
    ticker = Ticker()
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.start)
        print(plane.discovery_address, plane.base_address, flush=True)
        nursery.start_soon(ticker.run)
        await ticker.answer()
        nursery.cancel_scope.cancel()


async def run_subworker(address: str) -> None:
    worker = SubWorker("w1", address, concurrency=1, serialization_format="pickle")
    ticker = Ticker()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        print("ready", flush=True)
        nursery.start_soon(ticker.run)
        await ticker.answer()
        nursery.cancel_scope.cancel()


async def run_client(address: str, format: str) -> None:
    """For each size that is read: pass it, and say how long that took and the stall."""
    ticker = Ticker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        async with Client(address, timeout=60, serialization_format=format) as client:
            await client.submit_task("echo", ("warm",))
            print("ready", flush=True)
            while size := await trio.to_thread.run_sync(sys.stdin.readline):
                value = "x" * int(size) if format == "json" else bytes(int(size))
                await trio.sleep(0.1)
                ticker.take()
                began = time.perf_counter()
                for _ in range(SAMPLES if value else 0):
                    result = await client.submit_task("echo", (value,))
                    assert result.status is fastworker.TaskStatus.SUCCESS, result.error
                if not value:
                    await trio.sleep(1.0)
                print(time.perf_counter() - began, ticker.take(), flush=True)
        nursery.cancel_scope.cancel()


def measure(sizes: list[int], format: str, environ: dict[str, str]) -> list[Figure]:
    processes: list[subprocess.Popen[str]] = []
    figures = []
    try:
        plane = spawn("--role", "control-plane", environ=environ)
        processes.append(plane)
        discovery, base = read_line(plane).split()
        worker = spawn("--role", "subworker", "--address", base, environ=environ)
        processes.insert(0, worker)
        read_line(worker)
        role = ("--role", "client", "--address", discovery, "--formats", format)
        client = spawn(*role, environ=environ)
        processes.insert(0, client)
        read_line(client)
        for size in (0, *sizes):
            ask(plane), ask(worker)
            seconds, *stall = (float(word) for word in ask(client, str(size)).split())
            stalls = {
                "client": stall,
                "control plane": [float(word) for word in ask(plane).split()],
                "subworker": [float(word) for word in ask(worker).split()],
            }
            name = f"{format}, {size:,} bytes" if size else f"{format}, alone"
            if size:
                figures.append(Figure(f"{name}: a task", seconds / SAMPLES * 1000, "ms"))
            for who, (longest, busiest) in stalls.items():
                limit = 50 if size else None
                figures.append(Figure(f"{name}: {who}", longest * 1000, "ms", at_most=limit))
                figures.append(Figure("  of its own processor time", busiest * 1000, "ms"))
    finally:
        for process in processes:
            end(process)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--formats", nargs="+", default=["json", "pickle"])
    parser.add_argument("--token", action="store_true", help="with authentication")
    parser.add_argument("--role", choices=["control-plane", "subworker", "client"])
    parser.add_argument("--address", default="")
    arguments = parser.parse_args()
    match arguments.role:
        case "control-plane":
            trio.run(run_control_plane)
            return 0
        case "subworker":
            trio.run(run_subworker, arguments.address)
            return 0
        case "client":
            trio.run(run_client, arguments.address, arguments.formats[0])
            return 0
    print(describe_machine())
    environ = dict(os.environ)
    if arguments.token:
        environ["FASTWORKER_AUTH_TOKEN"] = secrets.token_urlsafe(32)
    figures: list[Figure] = []
    for format in arguments.formats:
        figures += measure(arguments.sizes, format, environ)
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
