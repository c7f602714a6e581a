"""FastWorker, from the environment of whoever runs the comparison.

Three processes, as for most of the others: this client, a control plane that executes
nothing, and one subworker.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import PATIENCE, introduce, measure_async, parser, say, say_latency
from roles import run_control_plane, run_subworker

from fastworker import Client, task

SETTINGS = "a control plane and 1 subworker with 1 thread; a burst is a map and its collect()"
# How many tasks of a burst are under way at once; the others have all of theirs. With more it
# is slower: what three processes touch of them does not fit into the processor's caches.
IN_FLIGHT = 2_000


@task
def add(x: int, y: int) -> int:
    return x + y


@task
async def add_async(x: int, y: int) -> int:
    return x + y


# A map gives each task one argument.
@task
def add_pair(pair: list[int]) -> int:
    return pair[0] + pair[1]


@task
async def add_pair_async(pair: list[int]) -> int:
    return pair[0] + pair[1]


BURSTS = {"add": "add_pair", "add_async": "add_pair_async"}


async def measure(discovery: str, options: argparse.Namespace) -> None:
    async with Client(discovery, timeout=PATIENCE) as client:

        async def one(number: int) -> Any:
            return (await client.submit_task(options.function, (number, 1))).result

        async def many(count: int) -> list[Any]:
            pairs = ((i, 1) for i in range(count))
            burst = BURSTS[options.function]
            async with client.map(burst, pairs, max_in_flight=IN_FLIGHT) as values:
                return await values.collect()

        rate = await measure_async(many, one, options, at_once)
        say_latency("half load ", await at_half_load(one, rate, options.seconds))
        say(acknowledged=await acknowledged(client, options.function, options.seconds))


async def at_once(call: Callable[[], Awaitable[None]], count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(call)


async def at_half_load(
    one: Callable[[int], Awaitable[Any]], rate: float, seconds: float
) -> list[float]:
    """Seconds of each round trip, when tasks come at half the ``rate`` of 100 callers."""
    samples: list[float] = []

    async def timed(number: int) -> None:
        begin = trio.current_time()
        await one(number)
        samples.append(trio.current_time() - begin)

    async with trio.open_nursery() as nursery:
        begin = trio.current_time()
        for number in range(int(rate / 2 * seconds)):
            await trio.sleep_until(begin + number * 2 / rate)
            nursery.start_soon(timed, number)
    return samples


async def acknowledged(client: Client, function: str, seconds: float) -> float:
    """Tasks per second of 100 callers of ``delay``, until all of them have ended too."""
    count = 0
    begin = trio.current_time()

    async def caller() -> None:
        nonlocal count
        while trio.current_time() < begin + seconds:
            count += 1
            await client.delay(function, count, 1)

    await at_once(caller, 100)
    await client.submit_task(function, (0, 1))  # comes behind all of them
    return count / (trio.current_time() - begin)


@contextmanager
def started(role: str, argument: str) -> Iterator[list[str]]:
    """A process of ours, and the words it says when it is ready; it ends with its stdin."""
    with subprocess.Popen(
        [sys.executable, __file__, f"--{role}", argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()


def main() -> None:
    options = parser()
    options.add_argument("--store", choices=["memory", "sqlite"], default="memory")
    options.add_argument("--function", choices=["add", "add_async"], default="add")
    options.add_argument("--folder", help="where the store's file is made")
    options.add_argument("--plane", metavar="STORE", help="be the control plane")
    options.add_argument("--subworker", metavar="ADDRESS", help="be the subworker")
    chosen = options.parse_args()
    if chosen.plane:
        trio.run(run_control_plane, chosen.plane)
        return
    if chosen.subworker:
        trio.run(run_subworker, chosen.subworker)
        return
    introduce(SETTINGS, "fastworker", "trio", "pynng", "msgspec")
    with ExitStack() as stack:
        store = "memory"
        if chosen.store == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=chosen.folder))
            store = f"{folder}/tasks.db"
        discovery, base = stack.enter_context(started("plane", store))
        stack.enter_context(started("subworker", base))
        trio.run(measure, discovery, chosen)


if __name__ == "__main__":
    main()
