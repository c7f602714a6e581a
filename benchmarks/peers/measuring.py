"""What every script here measures, the same for all, each figure told as a line of JSON.

It is imported in the environment of each peer, so it needs the standard library only. A
figure is printed as soon as it is known: a system that fails later keeps what it has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

CALLERS = 100
# How long a caller waits for one result, in seconds; also for the worker to start.
PATIENCE = 30
# Where the driver has started Redis; a script that needs none is given none.
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
# How many tasks go ahead of what is measured, and how many are measured at most.
WARM_UP = 200
MOST_TASKS = 300_000
MOST_SAMPLES = 2_000

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
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; what it prints goes to stderr, and it ends with the block."""
    here = Path(__file__).parent
    process = subprocess.Popen(command, stdout=sys.stderr.fileno(), cwd=here)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(many: Many, one: One, options: argparse.Namespace) -> None:
    """Measure a system whose calls block.

    Args:
      many: submits so many tasks ``add(i, 1)`` in its quickest way, and returns all results.
      one: submits ``add(i, 1)`` and returns its result; called in threads, too.
    """
    _check([one(0)])  # has the worker ready
    many(WARM_UP)
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
            callers.note(_check([one(number)], number))

    threads = [threading.Thread(target=callers.guard(call)) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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
    if not _check([await one(0)]):
        raise AssertionError("not even the first task had a result")
    await many(warm_up)
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
            callers.note(_check([await one(number)], number))

    await (at_once or _at_once)(call, CALLERS)
    return callers.say()


async def _at_once(call: Callable[[], Awaitable[None]], count: int) -> None:
    await asyncio.gather(*(call() for _ in range(count)))


def say_latency(name: str, samples: list[float]) -> None:
    """Tell p50 and p99 of round trips, in milliseconds, given in seconds."""
    cuts = statistics.quantiles(samples, n=100)
    say(**{f"{name}p50": cuts[49] * 1000, f"{name}p99": cuts[98] * 1000})


def _check(results: list[Any], first: int = 0) -> int:
    """How many results are right; raises if one is wrong. None stands for one that failed."""
    right = 0
    for number, result in enumerate(results, first):
        if result is None:
            continue
        if result != number + 1:
            raise AssertionError(f"add({number}, 1) is {result!r}")
        right += 1
    return right


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
        say(throughput=self._right / self._elapsed, tasks=size)
        if self._right < size:
            say(note=f"{size - self._right} of {size} of a burst had no result")

    def note(self, elapsed: float, results: list[Any]) -> None:
        self._elapsed = elapsed
        self._right = _check(results)


class _Callers:
    """Numbers of tasks for callers, each of which takes one more until the time is over."""

    def __init__(self, seconds: float) -> None:
        self._begin = time.perf_counter()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._taken = 0
        self._right = 0
        self._failed: list[BaseException] = []

    def __iter__(self) -> Iterator[int]:
        while time.perf_counter() - self._begin < self._seconds and not self._failed:
            with self._lock:
                number = self._taken
                self._taken += 1
            yield number

    def note(self, right: int) -> None:
        with self._lock:
            self._right += right

    def guard(self, call: Callable[[], None]) -> Callable[[], None]:
        """For a thread: its failure is one of the whole measurement, which it ends."""

        def guarded() -> None:
            try:
                call()
            except BaseException as error:
                self._failed.append(error)

        return guarded

    def say(self) -> float:
        """Called when all have ended, so that all that was taken is done."""
        elapsed = time.perf_counter() - self._begin
        if self._failed:
            raise self._failed[0]
        rate = self._right / elapsed
        say(callers=rate)
        if self._right < self._taken:
            say(note=f"{self._taken - self._right} of {self._taken} of the callers' failed")
        return rate
