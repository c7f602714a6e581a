"""What it costs that peers prove a token and every message is sealed, over loopback.

Two clusters stand side by side, one without authentication and one with tokens,
each of a control plane and a subworker with one thread; this process is the
client of both. They are measured by turns, in rounds of one run, so that
whatever else the machine does hits both alike.

    python benchmarks/authentication.py [--rounds 6] [--tasks 10000] [--json]

Rows: tasks a second with 1,000 callers of ``submit_task`` at once, of tasks that
do nothing and of such that return their argument of 64 KiB; and the median of one
call after the other. *kept* is what is left of the throughput: the median over
all rounds of the ratio of two neighbours.
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

import fastworker
from fastworker import AuthTokens, Client, ControlPlaneWorker, SubWorker, task

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


async def run_control_plane() -> None:
    plane = ControlPlaneWorker(
        store="memory",
        base_address="tcp://127.0.0.1:0",
        discovery_address="tcp://127.0.0.1:0",
        subworker_management_port=0,
        executes=False,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.start)
        print(plane.discovery_address, plane.base_address, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def run_subworker(address: str) -> None:
    worker = SubWorker("w1", address, concurrency=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


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


async def throughput(client: Client, name: str, args: tuple[str, ...], tasks: int) -> float:
    left = iter(range(tasks))

    async def caller() -> None:
        for _ in left:
            result = await client.submit_task(name, args)
            assert result.status is fastworker.TaskStatus.SUCCESS, result

    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(LARGE_IN_FLIGHT if args else IN_FLIGHT):
            nursery.start_soon(caller)
    return tasks / (time.perf_counter() - begin)


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
        clients = {"open": without, "tokens": with_tokens}
        for client in clients.values():
            await throughput(client, "no_op", (), tasks // 5)
        for number in range(rounds):
            order = list(clients) if number % 2 == 0 else list(clients)[::-1]
            for kind in order:
                client = clients[kind]
                for name, figure in (
                    ("small", await throughput(client, "no_op", (), tasks)),
                    ("64 KiB", await throughput(client, "give_back", (LARGE,), tasks // 20)),
                    ("p50", await latency(client)),
                ):
                    found.setdefault(f"{name}, {kind}", []).append(figure)
    return found


def summarise(found: dict[str, list[float]]) -> dict[str, float]:
    figures = {}
    for name, unit in (("small", "tasks/s"), ("64 KiB", "tasks/s"), ("p50", "ms")):
        open_, tokens = found[f"{name}, open"], found[f"{name}, tokens"]
        figures[f"{name}, open: {unit}"] = statistics.median(open_)
        figures[f"{name}, tokens: {unit}"] = statistics.median(tokens)
        if unit == "tasks/s":
            ratios = [b / a for a, b in zip(open_, tokens, strict=True)]
            figures[f"{name}: kept, %"] = 100 * statistics.median(ratios)
    return figures


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
        print(json.dumps({"machine": describe_machine(), "figures": figures}, indent=2))
        return
    print(describe_machine())
    for name, figure in figures.items():
        print(f"{name:32}{figure:12,.2f}")


if __name__ == "__main__":
    main()
