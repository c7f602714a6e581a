"""``python -m tests.simulation``: seeds of our own tasks; ``nox -s simulate`` runs 1,000.

With ``--state FILE`` it can be stopped at any time and goes on from there.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from fastworker.testing import Plan, Result, draw_plan, minimise, run_plan
from tests.simulation.sim_tasks import make_registry

REGISTRY = make_registry()


def run(plan: Plan) -> Result:
    return run_plan(plan, registry=REGISTRY)


def run_seeds(
    first: int, count: int, state: Path | None
) -> Iterator[tuple[int, Result, float]]:
    """Run what is left; of each seed its result, and how many seconds it took."""
    begin = first
    if state is not None and state.exists():
        begin = max(first, json.loads(state.read_text())["next"])
    for seed in range(begin, first + count):
        begun = time.process_time()
        result = run(draw_plan(seed))
        yield seed, result, time.process_time() - begun
        if state is not None:
            state.write_text(json.dumps({"next": seed + 1}))
        gc.collect(1 if seed % 20 else 2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--state", type=Path, help="where to note how far it came")
    options = parser.parse_args()
    failing: list[int] = []
    times: list[float] = []
    for seed, result, seconds in run_seeds(options.first, options.seeds, options.state):
        times.append(seconds)
        if not result.is_sound:
            failing.append(seed)
            print(minimise(run, result), flush=True)
        if seed % 1000 == 999:
            print(f"seed {seed}: {len(failing)} failing so far", flush=True)
    if times:
        median = statistics.median(times) * 1000
        print(f"{len(times)} seeds, {median:.0f} ms of CPU time each at the median")
    if failing:
        raise SystemExit(f"{len(failing)} fail: {', '.join(map(str, failing))}")


if __name__ == "__main__":
    main()
