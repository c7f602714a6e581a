"""What the scheduler alone costs: no I/O, no frames, one process, one thread.

``python benchmarks/core.py`` sends 100,000 no-op tasks through submit, hand-out
and report, in batches of 1, 10 and 100, and weighs a queued task.
``--profile`` shows where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import platform
import pstats
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import msgspec

from fastworker._core._messages import (
    Assignment,
    EndedAttempt,
    FunctionInfo,
    Lease,
    Report,
    TaskSpec,
    WireStatus,
)
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    Assign,
    AttemptsReported,
    CapacityStated,
    Dispatch,
    SubworkerJoined,
    TasksSubmitted,
)

OWNER = b"client-session-id"
KEY = b"worker-session-id"


def a_scheduler() -> Scheduler:
    scheduler = Scheduler(
        epoch=1, results=Results(max_size=10_000, ttl=3600.0), now=0.0, rng=random.Random(1)
    )
    functions = [FunctionInfo("noop", "thread")]
    scheduler.handle(SubworkerJoined(KEY, "w1", "", functions), now=0.0)
    scheduler.handle(CapacityStated(KEY, Lease(0, {"thread": 100})), now=0.0)
    return scheduler


def specs(count: int) -> list[TaskSpec]:
    return [
        TaskSpec(f"{n:08x}-0000-4000-8000-{n:012x}", "noop", 2, 1, bytes([144, 128]), 1.7e9)
        for n in range(count)
    ]


def measure(count: int, batch: int) -> dict[str, float]:
    """Seconds of each phase for ``count`` tasks in batches of ``batch``."""
    scheduler = a_scheduler()
    tasks = specs(count)
    submits = [TasksSubmitted(OWNER, tasks[n : n + batch]) for n in range(0, count, batch)]
    seconds = {"submit": 0.0, "dispatch": 0.0, "report": 0.0}
    clock = time.thread_time  # processor time: others may be using the machine
    gc.collect()
    for number, submitted in enumerate(submits):
        now = float(number)
        t0 = clock()
        scheduler.handle(submitted, now=now)
        t1 = clock()
        given: list[Assignment] = []
        for command in scheduler.handle(Dispatch([KEY]), now=now):
            assert isinstance(command, Assign)
            given += command.assignments
        t2 = clock()
        ended = [
            EndedAttempt(a.task_id, a.attempt, WireStatus.SUCCESS, 1.0, 1.0, 1e-6, 1, b"\xc0")
            for a in given
        ]
        reported = AttemptsReported(KEY, Report(1, ended=ended))
        t3 = clock()
        scheduler.handle(reported, now=now)
        t4 = clock()
        seconds["submit"] += t1 - t0
        seconds["dispatch"] += t2 - t1
        seconds["report"] += t4 - t3
    assert scheduler.statistics().succeeded == count
    return seconds


def weigh(count: int) -> float:
    """Bytes for each queued task, its id and payload included."""
    scheduler = a_scheduler()
    data = msgspec.msgpack.encode(specs(count))
    gc.collect()
    tracemalloc.start()
    tasks = msgspec.msgpack.decode(data, type=list[TaskSpec])
    scheduler.handle(TasksSubmitted(OWNER, tasks), now=0.0)
    del tasks
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / count


def describe_machine() -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"{model}, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}, msgspec {msgspec.__version__}, commit {commit}\n"
        f"command: python {' '.join(sys.argv)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    print(describe_machine())
    if options.profile:
        profiler = cProfile.Profile()
        profiler.runcall(measure, options.count, 100)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
        return
    print(f"{'batch':>6} {'submit':>9} {'dispatch':>9} {'report':>9} {'all':>9}   tasks/s")
    for batch in (1, 10, 100):
        runs = [measure(options.count, batch) for _ in range(options.repeat)]
        best = min(runs, key=lambda run: sum(run.values()))
        micro = [seconds / options.count * 1e6 for seconds in best.values()]
        cells = " ".join(f"{value:6.2f} us" for value in [*micro, sum(micro)])
        print(f"{batch:6} {cells} {1e6 / sum(micro):9,.0f}")
    print(f"a queued task weighs {weigh(options.count):,.0f} bytes")


if __name__ == "__main__":
    main()
