"""``python -m tests.chaos``: run one seed again, or seeds for so many minutes."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.run import MEMORY, Plan, run_plan

SECONDS = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the first run; drawn if not given")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run")
    parser.add_argument("--minutes", type=float, default=0.0, help="more runs until then")
    parser.add_argument("--store", choices=["memory", "sqlite"], default="sqlite")
    parser.add_argument("--no-validate", action="store_true", help="machines do not check")
    parser.add_argument("--keep", action="store_true", help="keep the folders of sound runs")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    ends_at = time.monotonic() + 60 * given.minutes
    failed = 0
    while True:
        print(f"seed {seed} ...", flush=True)
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        plan = Plan(
            seed,
            given.seconds,
            MEMORY if given.store == "memory" else given.store,
            validate=not given.no_validate,
        )
        result = run_plan(plan, folder)
        print(result, flush=True)
        failed += not result.is_sound
        if result.is_sound and not given.keep:
            shutil.rmtree(folder)
        seed += 1
        if time.monotonic() + given.seconds > ends_at:
            break
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
