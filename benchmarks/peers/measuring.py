"""What every script here measures, the same for all, each figure told as a line of JSON.

It is imported in the environment of each peer, so it needs the standard library only. A
figure is printed as soon as it is known: a system that fails later keeps what it has.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

CALLERS = 100
# How long a caller waits for one result, in seconds; also for the worker to start.
PATIENCE = 30
# How long a worker gets to end; the original's do not, but for SIGKILL.
STOP_SECONDS = 2
# Where the driver has started Redis; a script that needs none is given none.
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
# How many tasks go ahead of what is measured, and how many are measured at most.
WARM_UP = 200
MOST_TASKS = 300_000
MOST_SAMPLES = 1_000

One = Callable[[int], Any]
Many = Callable[[int], list[Any]]
OneAsync = Callable[[int], Awaitable[Any]]
ManyAsync = Callable[[int], Awaitable[list[Any]]]


def parser() -> argparse.ArgumentParser:
    """The options of every script."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=3, help="for each measurement")
    options.add_argument("--tasks", type=int, help="in a burst; else as many as fill --seconds")
    return options


def say(**facts: Any) -> None:
    """Tell the driver."""
    print(json.dumps(facts), flush=True)


def introduce(settings: str, *distributions: str) -> None:
    """Tell which versions are measured, and how they were set."""
    say(settings=settings, versions={name: version(name) for name in distributions})


@contextmanager
def running(*command: str, is_heard: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that ends with the block.

    Args:
      is_heard: what it prints goes to stderr; else nowhere.
    """
    here = Path(__file__).parent
    output = sys.stderr if is_heard else subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=output, stderr=output, cwd=here)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(many: Many, one: One, options: argparse.Namespace) -> None:
    """Measure a system whose calls block.

    Args:
      many: submits so many tasks ``add(i, 1)`` in its quickest way, and returns all results.
      one: submits ``add(i, 1)`` and returns its result; called in threads, too.
    """
    one(0)  # has the worker ready
    many(WARM_UP)
    set_start_aside()
    samples = _Samples(options.seconds)
    for number in samples:
        one(number)
    samples.say()

    sizes = _Sizes(options)
    for size in sizes:
        begin = time.perf_counter()
        results = many(size)
        sizes.note(time.perf_counter() - begin, results)

    callers = _Callers(options.seconds)

    def call() -> None:
        for number in callers:
            callers.tally.add([one(number)], number)

    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(call) for _ in range(CALLERS)]
    for each in calls:
        each.result()
    callers.say()


async def measure_async(
    many: ManyAsync,
    one: OneAsync,
    options: argparse.Namespace,
    at_once: Callable[[Callable[[], Awaitable[None]], int], Awaitable[None]] | None = None,
    *,
    warm_up: int = WARM_UP,
) -> float:
    """Measure a system whose calls are awaited; arguments as of :func:`measure`.

    Args:
      at_once: awaits so many calls of a function at once; with asyncio if not given.
      warm_up: how many tasks are in the first burst, which is not measured.

    Returns:
      Tasks per second of 100 callers.
    """
    await one(0)
    await many(warm_up)
    set_start_aside()
    samples = _Samples(options.seconds)
    for number in samples:
        await one(number)
    samples.say()

    sizes = _Sizes(options)
    for size in sizes:
        begin = time.perf_counter()
        results = await many(size)
        sizes.note(time.perf_counter() - begin, results)

    callers = _Callers(options.seconds)

    async def call() -> None:
        for number in callers:
            callers.tally.add([await one(number)], number)

    await (at_once or _at_once)(call, CALLERS)
    return callers.say()


async def _at_once(call: Callable[[], Awaitable[None]], count: int) -> None:
    await asyncio.gather(*(call() for _ in range(count)))


def set_start_aside() -> None:
    """Have the garbage collector pass over what imports and the first tasks have made.

    To look at forty thousand objects of modules takes 20 ms, in which a client does nothing
    else: what is measured is the queue.
    """
    gc.collect()
    gc.freeze()


def say_latency(name: str, samples: list[float]) -> None:
    """Tell p50 and p99 of round trips, in milliseconds, given in seconds."""
    cuts = statistics.quantiles(samples, n=100)
    say(**{f"{name}p50": cuts[49] * 1000, f"{name}p99": cuts[98] * 1000})


class _Tally:
    """How many results were right, and of the others: wrong, or none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.right = self.wrong = self.missing = 0

    def add(self, results: list[Any], first: int = 0) -> None:
        """Add the results of ``add(first, 1)`` and so on. None stands for one that failed."""
        right = sum(result == number for number, result in enumerate(results, first + 1))
        missing = results.count(None)
        with self._lock:
            self.right += right
            self.missing += missing
            self.wrong += len(results) - right - missing

    def say(self, what: str) -> None:
        """Tell if it is not as it should be."""
        bad = {"without a result": self.missing, "with another task's": self.wrong}
        said = ", ".join(f"{count} {name}" for name, count in bad.items() if count)
        if said:
            say(note=f"{what}, of {self.right + self.wrong + self.missing} tasks: {said}")


class _Samples:
    """Numbers of tasks that are run one after the other, each timed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._samples: list[float] = []

    def __iter__(self) -> Iterator[int]:
        end = time.perf_counter() + self._seconds
        for number in range(MOST_SAMPLES):
            begin = time.perf_counter()
            if begin > end and number > 2:
                return
            yield number
            self._samples.append(time.perf_counter() - begin)

    def say(self) -> None:
        say_latency("", self._samples)


class _Sizes:
    """How large bursts are: larger until one takes a fair time; the last is the figure."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._seconds: float = options.seconds
        self._wanted: int | None = options.tasks

    def __iter__(self) -> Iterator[int]:
        if self._wanted is None:
            # Small ones say little of large ones: on until one takes a fair time.
            size = 4 * WARM_UP
            yield size
            while self._elapsed < self._seconds / 8 and size < MOST_TASKS:
                size = min(4 * size, MOST_TASKS)
                yield size
            self._wanted = int(size * self._seconds / self._elapsed)
        size = min(max(self._wanted, WARM_UP), MOST_TASKS)
        yield size
        say(throughput=self._tally.right / self._elapsed, tasks=size)
        self._tally.say("burst")

    def note(self, elapsed: float, results: list[Any]) -> None:
        self._elapsed = elapsed
        self._tally = _Tally()
        self._tally.add(results)


class _Callers:
    """Numbers of tasks for callers, each of which takes one more until the time is over."""

    def __init__(self, seconds: float) -> None:
        self._begin = time.perf_counter()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._taken = 0
        self.tally = _Tally()

    def __iter__(self) -> Iterator[int]:
        while time.perf_counter() - self._begin < self._seconds:
            with self._lock:
                number = self._taken
                self._taken += 1
            yield number

    def say(self) -> float:
        """Called when all have ended, so that all that was taken is done."""
        elapsed = time.perf_counter() - self._begin
        rate = self.tally.right / elapsed
        say(callers=rate)
        self.tally.say(f"{CALLERS} callers")
        return rate
