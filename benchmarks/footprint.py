"""What FastWorker takes before it does anything: time to start, and memory.

    python benchmarks/footprint.py [--rounds 11] [--tasks 200000]

``fastworker --help`` and ``fastworker control-plane`` are started so many times, after one
start that is not counted (it writes the bytecode and warms the disk's cache); the figure is
the median. The control plane is ready when the line is out that its first address listens,
and complete when it has said what it serves, the dashboard included. Then it and a
``fastworker subworker`` are left alone for three seconds, and their resident memory is read.
A queued task's is what a control plane's process grows by for each of ``--tasks`` no-ops
that a client sends while the one slot of its subworker is taken.
Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from processes import end, processor_seconds, read_line, resident_bytes, spawn
from roles import run_control_plane
from targets import Figure, report

from fastworker import Client, SubWorker, task

MB = 1_000_000
COMMAND = [sys.executable, "-m", "fastworker"]


def time_help(rounds: int) -> float:
    """Seconds from start to end of ``fastworker --help``, the median."""
    samples = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
        if number:
            samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class CommandLine:
    """A control plane as a user starts it, all options at their defaults but the ports."""

    def __init__(self, state: str) -> None:
        base, discovery, management, gui = free_ports(4)
        self.management = f"tcp://127.0.0.1:{management}"
        self._began = time.perf_counter()
        self.process = subprocess.Popen(
            [
                *COMMAND,
                "control-plane",
                f"--base-address=tcp://127.0.0.1:{base}",
                f"--discovery-address=tcp://127.0.0.1:{discovery}",
                f"--subworker-port={management}",
                f"--gui-port={gui}",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_STATE_HOME": state},
        )
        self.ready = self._seconds_until("listening on")
        self.complete = self._seconds_until("  run by ")
        self.processor = processor_seconds(self.process.pid)

    def _seconds_until(self, words: str) -> float:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return time.perf_counter() - self._began
        raise RuntimeError(f"the control plane has ended, and never said {words!r}")

    def close(self) -> None:
        stop(self.process)


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def measure_commands(rounds: int) -> list[Figure]:
    ready, complete, processor = [], [], []
    with tempfile.TemporaryDirectory() as state:
        for number in range(rounds + 1):
            plane = CommandLine(state)
            plane.close()
            if number:
                ready.append(plane.ready)
                complete.append(plane.complete)
                processor.append(plane.processor)
        plane = CommandLine(state)
        subworker = subprocess.Popen(
            [
                *COMMAND,
                "subworker",
                "--worker-id=w1",
                f"--control-plane-address={plane.management}",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(3)
        memory = resident_bytes(plane.process.pid) / MB, resident_bytes(subworker.pid) / MB
        stop(subworker)
        plane.close()
    return [
        Figure("control plane listens", statistics.median(ready), "s", at_most=0.7),
        Figure("  and has said what it serves", statistics.median(complete), "s"),
        Figure("  processor time until then", statistics.median(processor), "s"),
        Figure("control plane, idle", memory[0], "MB", at_most=60),
        Figure("subworker, idle", memory[1], "MB", at_most=45),
    ]


# --- a queued task ---

_end_of_input = threading.Event()


@task
def no_op() -> None:
    """Do nothing, once this process is to end."""
    _end_of_input.wait()


async def run_subworker(address: str) -> None:
    worker = SubWorker("w1", address, concurrency=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()
        _end_of_input.set()


async def send(address: str, tasks: int) -> None:
    """Queue so many tasks, and leave without waiting for them."""
    async with Client(address, timeout=600) as client:
        left = iter(range(tasks))

        async def caller() -> None:
            for _ in left:
                await client.delay("no_op")

        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(caller)


def weigh_queued(tasks: int) -> Figure:
    plane = spawn("--role", "control-plane")
    address, base = read_line(plane).split()
    subworker = spawn("--role", "subworker", "--address", base)
    try:
        read_line(subworker)
        trio.run(send, address, 1000)  # so that buffers and caches are there
        before = resident_bytes(plane.pid)
        trio.run(send, address, tasks)
        grown = resident_bytes(plane.pid) - before
    finally:
        end(subworker)
        end(plane)
    return Figure("a queued no-op task", grown / tasks / 1024, "KiB", at_most=1.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--role", choices=["control-plane", "subworker"])
    parser.add_argument("--address", default="")
    arguments = parser.parse_args()
    match arguments.role:
        case "control-plane":
            trio.run(run_control_plane)
            return 0
        case "subworker":
            trio.run(run_subworker, arguments.address)
            return 0
    print(describe_machine())
    return report(
        [
            Figure("fastworker --help", time_help(arguments.rounds), "s", at_most=0.25),
            *measure_commands(arguments.rounds),
            weigh_queued(arguments.tasks),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
