"""Values of a stream over loopback: how many a second, and how much they weigh.

Three processes, as in ``roundtrip.py``: this one reads, a control plane passes
on, one subworker runs the generator, which does nothing but yield.

    python benchmarks/streams.py [--values 50000] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from processes import spawn
from roles import run_control_plane, run_subworker

from fastworker import Client, task

MIB = 1024 * 1024


@task
def numbers(end: int) -> Iterator[int]:
    """Yield numbers, in a thread."""
    yield from range(end)


@task
async def numbers_on_trio(end: int) -> AsyncIterator[int]:
    """Yield numbers, on Trio."""
    for number in range(end):
        yield number


@task
def blobs(count: int) -> Iterator[str]:
    """Yield texts of 1 MiB."""
    for _ in range(count):
        yield "x" * MIB


async def rate(client: Client, name: str, count: int, buffer: int) -> float:
    """How many values a second are read."""
    begin = time.perf_counter()
    read = 0
    async with client.options(buffer=buffer).stream(name, count) as values:
        async for _ in values:
            read += 1
    assert read == count
    return count / (time.perf_counter() - begin)


async def measure(address: str, count: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    async with Client(address, timeout=120) as client:
        await rate(client, "numbers", 1000, 32)
        for name in ("numbers", "numbers_on_trio"):
            for buffer in (1, 32, 1000):
                some = count if buffer > 1 else count // 20
                figure = await rate(client, name, some, buffer)
                figures[f"{name}, buffer {buffer}: values/s"] = figure
        figures["blobs of 1 MiB, buffer 32: MiB/s"] = await rate(client, "blobs", 200, 32)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--control-plane", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--subworker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.control_plane:
        trio.run(run_control_plane)
        return
    if options.subworker:
        trio.run(run_subworker, options.subworker)
        return

    children = [spawn("--control-plane")]
    try:
        assert children[0].stdout is not None
        discovery, base = children[0].stdout.readline().split()
        children.append(spawn("--subworker", base))
        assert children[1].stdout is not None
        children[1].stdout.readline()
        figures = trio.run(measure, discovery, options.values)
    finally:
        for child in reversed(children):
            child.communicate(timeout=30)
    if options.json:
        print(json.dumps(figures))
        return
    print(describe_machine())
    for name, figure in figures.items():
        print(f"{name:42} {figure:10,.0f}")


if __name__ == "__main__":
    main()
