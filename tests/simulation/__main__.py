"""``python -m tests.simulation``: seeds of our own tasks; ``nox -s simulate`` runs 1,000.

With ``--state FILE`` it can be stopped at any time and goes on from there.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from fastworker.testing import Plan, Result, draw_plan, minimise, run_plan
from tests.simulation.sim_tasks import make_registry

REGISTRY = make_registry()
# Few enough to lose little work, many enough that handing them out costs nothing.
CHUNK: Final = 50


class Progress(msgspec.Struct):
    """What is known so far; kept in the file of ``--state``."""

    next: int
    failing: list[int] = []
    seconds: list[float] = []


def run(plan: Plan) -> Result:
    return run_plan(plan, registry=REGISTRY)


def run_chunk(seeds: range) -> tuple[list[float], dict[int, str]]:
    """Run these seeds: the seconds of CPU time of each, and reports of those that fail."""
    seconds: list[float] = []
    reports: dict[int, str] = {}
    for seed in seeds:
        begun = time.process_time()
        result = run(draw_plan(seed))
        seconds.append(time.process_time() - begun)
        if not result.is_sound:
            reports[seed] = str(minimise(run, result))
        gc.collect(1 if seed % 20 else 2)
    return seconds, reports


def run_seeds(begin: int, end: int, jobs: int) -> Iterator[tuple[list[float], dict[int, str]]]:
    """Run the seeds in so many processes; the results come in the order of the seeds."""
    chunks = [range(first, min(first + CHUNK, end)) for first in range(begin, end, CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_chunk, chunks)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--state", type=Path, help="where to note how far it came")
    options = parser.parse_args()
    end: int = options.first + options.seeds
    state: Path | None = options.state
    progress = Progress(options.first)
    if state is not None and state.exists():
        progress = msgspec.json.decode(state.read_bytes(), type=Progress)
    for seconds, reports in run_seeds(progress.next, end, options.jobs):
        progress.next += len(seconds)
        progress.seconds += seconds
        progress.failing += reports
        for report in reports.values():
            print(report, flush=True)
        if progress.next % 1000 == 0:
            print(f"{progress.next} seeds: {len(progress.failing)} failing", flush=True)
        if state is not None:
            # First beside it: whoever stops this in the middle finds the old one.
            beside = state.with_suffix(".new")
            beside.write_bytes(msgspec.json.encode(progress))
            beside.replace(state)
    if progress.seconds:
        median = statistics.median(progress.seconds) * 1000
        print(f"{len(progress.seconds)} seeds, {median:.0f} ms of CPU time each at the median")
    if progress.failing:
        failing = ", ".join(map(str, progress.failing))
        raise SystemExit(f"{len(progress.failing)} fail: {failing}")


if __name__ == "__main__":
    main()
