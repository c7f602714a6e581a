"""How many tasks that do nothing a second, and what each costs which process.

    python benchmarks/throughput.py [--ways collect ...] [--rounds 5] [--store FILE]

Three processes: this one is the client, and it starts a control plane and one subworker
with one thread. The ways to submit and to have all results:

*collect*: one map of all tasks, 1,000 in flight, and its ``collect()``;
*collect-async*: the same with an ``async def`` on the subworker's Trio loop;
*read*: the same map, its values read one by one;
*callers*: 1,000 callers of ``submit_task``, each with one task after the other;
*delay*: 100 callers of ``delay``, acknowledgements only.

Costs are microseconds of processor time for a task: of the client, the control plane and
the subworker, its lane's and NNG's threads included. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from processes import end, processor_seconds, read_line, spawn
from roles import run_control_plane, run_subworker

from fastworker import Client, task


@task
def same(item: int) -> int:
    """Give it back."""
    return item


@task
async def same_async(item: int) -> int:
    """Give it back, from the loop of an async lane."""
    return item


# --- the ways ---


async def collect(client: Client, tasks: int) -> None:
    async with client.map(same, range(tasks), max_in_flight=1000) as values:
        assert await values.collect() == list(range(tasks))


async def collect_async(client: Client, tasks: int) -> None:
    async with client.map(same_async, range(tasks), max_in_flight=1000) as values:
        assert await values.collect() == list(range(tasks))


async def read(client: Client, tasks: int) -> None:
    async with client.map(same, range(tasks), max_in_flight=1000) as values:
        assert [value async for value in values] == list(range(tasks))


async def callers(client: Client, tasks: int) -> None:
    async def one(number: int) -> None:
        result = await client.submit_task("same", (number,))
        assert result.result == number, result

    await _at_once(one, tasks, 1000)


async def delay(client: Client, tasks: int) -> None:
    async def one(number: int) -> None:
        await client.delay("same", number)

    await _at_once(one, tasks, 100)


async def _at_once(one: Callable[[int], Awaitable[None]], tasks: int, count: int) -> None:
    left = iter(range(tasks))

    async def caller() -> None:
        for number in left:
            await one(number)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(caller)


WAYS: dict[str, tuple[Callable[[Client, int], Awaitable[None]], int]] = {
    "collect": (collect, 60_000),
    "collect-async": (collect_async, 30_000),
    "read": (read, 30_000),
    "callers": (callers, 30_000),
    "delay": (delay, 30_000),
}


async def measure(address: str, pids: list[int], ways: list[str], rounds: int) -> None:
    print(f"\n{'':16}{'tasks/s':>10}{'client':>10}{'plane':>10}{'worker':>10}{'all, µs':>10}")
    async with Client(address, timeout=600) as client:
        for name in ways:
            way, tasks = WAYS[name]
            await way(client, tasks // 10)
            rates: list[float] = []
            costs: list[list[float]] = []
            for _ in range(rounds):
                before = [processor_seconds(pid) for pid in pids]
                begin = time.perf_counter()
                await way(client, tasks)
                rates.append(tasks / (time.perf_counter() - begin))
                after = [processor_seconds(pid) for pid in pids]
                each = [1e6 * (b - a) / tasks for a, b in zip(before, after, strict=True)]
                costs.append([*each, sum(each)])
            middle = [statistics.median(column) for column in zip(*costs, strict=True)]
            cells = "".join(f"{cost:10.1f}" for cost in middle)
            print(f"{name:16}{statistics.median(rates):10,.0f}{cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", default="memory", help="a file, or 'memory'")
    parser.add_argument("--role", choices=["control-plane", "subworker"])
    parser.add_argument("--address", default="")
    arguments = parser.parse_args()
    if arguments.role == "control-plane":
        trio.run(run_control_plane, arguments.store)
        return
    if arguments.role == "subworker":
        trio.run(run_subworker, arguments.address)
        return
    print(describe_machine())
    plane = spawn("--role", "control-plane", "--store", arguments.store)
    discovery, base = read_line(plane).split()
    worker = spawn("--role", "subworker", "--address", base)
    read_line(worker)
    pids = [os.getpid(), plane.pid, worker.pid]
    try:
        trio.run(measure, discovery, pids, arguments.ways, arguments.rounds)
    finally:
        end(worker)
        end(plane)


if __name__ == "__main__":
    main()
