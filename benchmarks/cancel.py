"""From a caller's cancellation to the end of its task in another process, over loopback.

Three processes: this one is the client, and it starts a control plane and one
subworker. A scope around ``submit_task`` is cancelled once the task runs; the
task writes down, in its ``finally``, when it heard of that. CLOCK_MONOTONIC is
one clock for all processes of a machine.

    python benchmarks/cancel.py [--samples 500] [--json]

Rows: an ``async def`` task that sleeps; a ``def`` task that calls
``check_cancelled()`` every millisecond, half of which is waited on average; and
the same two until ``submit_task`` has raised in the caller, when everybody
knows the outcome. Last, a task in a process that never stops, which is killed:
how much more than its grace it takes until the caller knows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from processes import spawn
from roles import run_control_plane, run_subworker

from fastworker import Client, Killed, check_cancelled, task

WARM_UP = 50
# Each takes a new process.
KILLS = 50
KILL_GRACE = 0.1


@task
async def sleep_on(path: str) -> None:
    """Run until cancelled; write "begun" and the time of the ``finally`` to a pipe."""
    with open(path, "w", buffering=1) as pipe:  # noqa: ASYNC230 - it is open already
        print("begun", file=pipe)
        try:
            await trio.sleep_forever()
        finally:
            at = time.monotonic()
            print(at, file=pipe)


@task
def check_on(path: str) -> None:
    """As ``sleep_on``, in a thread."""
    with open(path, "w", buffering=1) as pipe:
        print("begun", file=pipe)
        try:
            while True:
                check_cancelled()
                time.sleep(0.001)
        finally:
            at = time.monotonic()
            print(at, file=pipe)


@task(isolation="process")
def refuse(path: str) -> None:
    """Never stop, whoever asks."""
    with open(path, "w", buffering=1) as pipe:
        print("begun", file=pipe)
        while True:
            try:
                time.sleep(3600)
            except BaseException:  # noqa: BLE001 - that is the point
                pass


class Notes:
    """A named pipe that the task writes to and this process reads lines from."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.mkfifo(path)
        # For both, so that it never reads as closed between two tasks.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._read = b""

    async def line(self) -> str:
        while b"\n" not in self._read:
            try:
                self._read += os.read(self._descriptor, 4096)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._descriptor)
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()


async def measure_one(client: Client, name: str, notes: Notes) -> tuple[float, float]:
    """Seconds from the cancellation to the remote ``finally``, and to the caller's end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.submit_task, name, (notes.path,))
        assert await notes.line() == "begun"
        await trio.sleep(0.005)  # news of the start is no longer under way
        cancelled_at = time.monotonic()
        nursery.cancel_scope.cancel()
    ended_at = time.monotonic()
    heard_at = float(await notes.line())
    return heard_at - cancelled_at, ended_at - cancelled_at


async def measure(address: str, samples: int, folder: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    notes = Notes(os.path.join(folder, "notes"))
    async with Client(address, timeout=60) as client:
        for row, name in (("async", "sleep_on"), ("thread, check every ms", "check_on")):
            for _ in range(WARM_UP):
                await measure_one(client, name, notes)
            heard, ended = zip(
                *[await measure_one(client, name, notes) for _ in range(samples)], strict=True
            )
            note(figures, f"{row}: remote finally", heard)
            note(figures, f"{row}: caller knows", ended)
        killed = [await measure_kill(client, notes) for _ in range(KILLS)]
        note(figures, "process, killed: beyond its grace", tuple(killed))
    return figures


async def measure_kill(client: Client, notes: Notes) -> float:
    """Seconds from the cancellation to the outcome, less the grace."""
    handle = await client.submit("refuse", notes.path)
    assert await notes.line() == "begun"
    await trio.sleep(0.005)
    cancelled_at = time.monotonic()
    outcome = await handle.cancel(grace=KILL_GRACE)
    assert isinstance(outcome, Killed), outcome
    return time.monotonic() - cancelled_at - KILL_GRACE


def note(figures: dict[str, float], name: str, samples: tuple[float, ...]) -> None:
    cuts = statistics.quantiles(samples, n=100)
    figures[f"{name}: p50, ms"] = cuts[49] * 1000
    figures[f"{name}: p99, ms"] = cuts[98] * 1000
    figures[f"{name}: max, ms"] = max(samples) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", choices=["control-plane", "subworker"])
    parser.add_argument("--address")
    arguments = parser.parse_args()
    if arguments.role == "control-plane":
        trio.run(run_control_plane)
        return
    if arguments.role == "subworker":
        trio.run(run_subworker, arguments.address)
        return
    plane = spawn("--role", "control-plane")
    discovery, base = plane.stdout.readline().split()
    worker = spawn("--role", "subworker", "--address", base)
    worker.stdout.readline()
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = trio.run(measure, discovery, arguments.samples, folder)
    finally:
        for process in (worker, plane):
            process.stdin.close()
            process.wait(10)
    if arguments.json:
        print(json.dumps({"machine": describe_machine(), "figures": figures}, indent=2))
        return
    print(describe_machine())
    for name, figure in figures.items():
        print(f"{name:48}{figure:10,.2f}")


if __name__ == "__main__":
    os.environ.pop("FASTWORKER_DISCOVERY_ADDRESS", None)
    main()
