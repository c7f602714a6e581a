"""``python -m tests.mutants.seeds 200``: run seeds of our own tasks until one fails."""

from __future__ import annotations

import gc
import sys

from fastworker.testing import draw_plan, run_plan
from tests.simulation.sim_tasks import make_registry

NOT_NOTICED = 3


def main() -> None:
    registry = make_registry()
    count = int(sys.argv[1])
    for seed in range(count):
        result = run_plan(draw_plan(seed), registry=registry)
        if not result.is_sound:
            first = result.violations[0]
            print(f"seed {seed}, {first.invariant}: {first.message}")
            return
        gc.collect()
    print(f"no seed below {count} fails")
    sys.exit(NOT_NOTICED)


if __name__ == "__main__":
    main()
