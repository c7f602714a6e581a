"""What one trivial attempt costs in each lane, all in.

From ``submit`` until the last AttemptEnded has been received on a Trio link
loop, with events gathered as a subworker gathers them. Run it as

    python benchmarks/lanes.py [--attempts 20000] [--rounds 5]

Each round runs all lanes in turn, so that a busy moment of the machine does
not fall on one lane alone; the table shows the best and the median round.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from fastworker._lanes import make_lane
from fastworker._lanes._abc import Attempt, AttemptEnded, AttemptKey
from fastworker._lanes._sink import TrioSink
from fastworker._models import SerializationFormat
from fastworker._serialization import FORMAT_IDS, encode_arguments

JSON = SerializationFormat.JSON
BATCH = 500


def add(x: int, y: int) -> int:
    return x + y


async def add_async(x: int, y: int) -> int:
    return x + y


LANES: list[tuple[str, str, int, Callable[..., Any]]] = [
    ("thread, 1 slot", "thread", 1, add),
    ("thread, 4 slots", "thread", 4, add),
    ("trio, 100 slots", "trio", 100, add_async),
    ("asyncio, 100 slots", "asyncio", 100, add_async),
]


def make_attempts(function: Callable[..., Any], count: int) -> list[Attempt]:
    payload = encode_arguments((1, 2), {}, JSON)
    return [
        Attempt(
            AttemptKey(f"task-{number:08}", 1, 1), "add", function, payload, FORMAT_IDS[JSON]
        )
        for number in range(count)
    ]


async def measure(kind: str, slots: int, function: Callable[..., Any], count: int) -> float:
    """Give microseconds per attempt."""
    sink = TrioSink()
    lane = make_lane(kind, slots, sink, frozenset({JSON}))
    lane.start()
    try:
        await run(lane, sink, make_attempts(function, BATCH))  # threads up, caches warm
        attempts = make_attempts(function, count)
        begin = time.perf_counter()
        await run(lane, sink, attempts)
        return (time.perf_counter() - begin) / count * 1e6
    finally:
        lane.close()
        lane.join(5)


async def run(lane: Any, sink: TrioSink, attempts: list[Attempt]) -> None:
    for first in range(0, len(attempts), BATCH):
        lane.submit(attempts[first : first + BATCH])
    ended = 0
    while ended < len(attempts):
        ended += sum(isinstance(event, AttemptEnded) for event in await sink.receive())


def commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--attempts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    cores = len(os.sched_getaffinity(0))
    print(f"machine  {platform.platform()}, {platform.machine()}, {cores} cores")
    print(
        f"versions Python {platform.python_version()}, trio {trio.__version__}, "
        f"msgspec {msgspec.__version__}"
    )
    print(f"commit   {commit()}")
    print(f"command  python {shlex.join(sys.argv)}")
    print()
    figures: dict[str, list[float]] = {name: [] for name, *_ in LANES}
    for _ in range(arguments.rounds):
        for name, kind, slots, function in LANES:
            figures[name].append(trio.run(measure, kind, slots, function, arguments.attempts))
    print(f"{'lane':20}{'best':>10}{'median':>10}   µs per attempt")
    for name, values in figures.items():
        print(f"{name:20}{min(values):10.1f}{statistics.median(values):10.1f}")


if __name__ == "__main__":
    main()
