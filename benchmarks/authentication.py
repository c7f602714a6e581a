"""What it costs that peers prove a token and every message is sealed, over loopback.

Two clusters stand side by side, one without authentication and one with tokens,
each of a control plane and a subworker with one thread; this process is the
client of both. They are measured by turns, in rounds of one run, so that
whatever else the machine does hits both alike.

    python benchmarks/authentication.py [--rounds 6] [--tasks 10000] [--json]

Rows: tasks a second with 1,000 callers of ``submit_task`` at once, of tasks that
do nothing and of such that return their argument of 64 KiB; and the median of one
call after the other. *kept* is what is left of the throughput: the median over
all rounds of the ratio of two neighbours. *processor* is the time that all three
processes took for a task, and *kept by processor* the ratio of those, which other
work on the machine changes far less.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from roles import run_control_plane, run_subworker

import fastworker
from fastworker import AuthTokens, Client, task

IN_FLIGHT = 1000
LARGE_IN_FLIGHT = 64
LARGE = "x" * 64 * 1024
SINGLE_CALLS = 500


@task
def no_op() -> None:
    """Do nothing."""


@task
def give_back(text: str) -> str:
    """Return what was given."""
    return text


class Cluster:
    """A control plane and a subworker, with a token or without."""

    def __init__(self, token: str | None) -> None:
        self._environ = {
            name: value for name, value in os.environ.items() if "FASTWORKER" not in name
        }
        if token is not None:
            self._environ["FASTWORKER_AUTH_TOKEN"] = token
        self.auth = False if token is None else AuthTokens.for_all(token)
        self._plane = self._spawn("control-plane")
        self.discovery, base = self._plane.stdout.readline().split()
        self._worker = self._spawn("subworker", "--address", base)
        self._worker.stdout.readline()

    def processor_seconds(self) -> float:
        """What its processes and this one have taken so far."""
        ticks = 0
        for process in (self._plane, self._worker):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK") + time.process_time()

    def close(self) -> None:
        for process in (self._worker, self._plane):
            process.stdin.close()
            process.wait(10)

    def _spawn(self, role: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, __file__, "--role", role, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environ,
        )


async def throughput(
    cluster: Cluster, client: Client, name: str, args: tuple[str, ...], tasks: int
) -> tuple[float, float]:
    """Tasks a second, and milliseconds of processor time for each."""
    left = iter(range(tasks))

    async def caller() -> None:
        for _ in left:
            result = await client.submit_task(name, args)
            assert result.status is fastworker.TaskStatus.SUCCESS, result

    begin, spent = time.perf_counter(), cluster.processor_seconds()
    async with trio.open_nursery() as nursery:
        for _ in range(LARGE_IN_FLIGHT if args else IN_FLIGHT):
            nursery.start_soon(caller)
    rate = tasks / (time.perf_counter() - begin)
    return rate, (cluster.processor_seconds() - spent) / tasks * 1000


async def latency(client: Client) -> float:
    samples = []
    for _ in range(SINGLE_CALLS):
        begin = time.perf_counter()
        await client.submit_task("no_op")
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples) * 1000


async def measure(clusters: list[Cluster], rounds: int, tasks: int) -> dict[str, list[float]]:
    """The figures of each round, by name and by cluster."""
    found: dict[str, list[float]] = {}
    async with (
        Client(clusters[0].discovery, timeout=120, auth=clusters[0].auth) as without,
        Client(clusters[1].discovery, timeout=120, auth=clusters[1].auth) as with_tokens,
    ):
        pairs = {"open": (clusters[0], without), "tokens": (clusters[1], with_tokens)}
        for cluster, client in pairs.values():
            await throughput(cluster, client, "no_op", (), tasks // 5)
        for number in range(rounds):
            order = list(pairs) if number % 2 == 0 else list(pairs)[::-1]
            for kind in order:
                cluster, client = pairs[kind]
                for name, task_name, args, count in (
                    ("small", "no_op", (), tasks),
                    ("64 KiB", "give_back", (LARGE,), tasks // 20),
                ):
                    rate, spent = await throughput(cluster, client, task_name, args, count)
                    found.setdefault(f"{name}, {kind}", []).append(rate)
                    found.setdefault(f"{name} processor, {kind}", []).append(spent)
                found.setdefault(f"p50, {kind}", []).append(await latency(client))
    return found


def summarise(found: dict[str, list[float]]) -> dict[str, float]:
    figures = {}
    for name in ("small", "64 KiB"):
        for row, unit in ((name, "tasks/s"), (f"{name} processor", "ms")):
            for kind in ("open", "tokens"):
                figures[f"{row}, {kind}: {unit}"] = statistics.median(found[f"{row}, {kind}"])
        figures[f"{name}: kept, %"] = 100 * ratio(found, name)
        figures[f"{name}: kept by processor, %"] = 100 / ratio(found, f"{name} processor")
    for kind in ("open", "tokens"):
        figures[f"p50, {kind}: ms"] = statistics.median(found[f"p50, {kind}"])
    return figures


def ratio(found: dict[str, list[float]], row: str) -> float:
    """With tokens to without, in the middle of all rounds."""
    both = zip(found[f"{row}, open"], found[f"{row}, tokens"], strict=True)
    return statistics.median(tokens / without for without, tokens in both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tasks", type=int, default=10_000)
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
    clusters: list[Cluster] = []
    try:
        clusters = [Cluster(None), Cluster(secrets.token_urlsafe(32))]
        found = trio.run(measure, clusters, arguments.rounds, arguments.tasks)
    finally:
        for cluster in clusters:
            cluster.close()
    figures = summarise(found)
    if arguments.json:
        report = {"machine": describe_machine(), "figures": figures, "rounds": found}
        print(json.dumps(report, indent=2))
        return
    print(describe_machine())
    for name, figure in figures.items():
        print(f"{name:36}{figure:12,.2f}")


if __name__ == "__main__":
    main()
