"""Feed hostile bytes to everything that reads what others have written, in memory.

    python -m tests.fuzz [COUNT] [SEED]
    python -m tests.fuzz --case KIND NUMBER [--seed SEED]

COUNT is 1,000,000 unless it is given. It says how many cases went where and by how much the
process has grown. It fails if anything was raised but the errors that are meant for it, and
if it grew by more than 50 MiB.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.fuzz.campaign import MAX_GROWTH, Campaign, Unexpected
from tests.fuzz.targets import TARGETS, share_of

# What is made once, and kept, is made by so many.
WARM_UP = 20_000


def main() -> int:
    """See the module's first lines; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", nargs="?", type=_whole, default=1_000_000)
    parser.add_argument("seed_given", nargs="?", type=_whole, metavar="seed")
    parser.add_argument("--seed", type=_whole, default=7)
    parser.add_argument("--only", metavar="KIND", help="all cases of one kind")
    parser.add_argument("--case", nargs=2, metavar=("KIND", "NUMBER"), help="one case again")
    options = parser.parse_args()
    seed = options.seed if options.seed_given is None else options.seed_given
    try:
        if options.case:
            name, number = options.case
            Campaign(seed).replay(TARGETS[name], _whole(number))
            print("it came out as it should")
            return 0
        return _run(options.count, seed, [options.only] if options.only else list(TARGETS))
    except Unexpected as error:
        traceback.print_exc()
        print(f"\n{error}")
        return 1


def _run(count: int, seed: int, names: list[str]) -> int:
    began = time.perf_counter()
    for name in names:
        Campaign(seed).run(TARGETS[name], share_of(TARGETS[name], WARM_UP))
    campaign = Campaign(seed)
    for name, cases in _shares(count, names).items():
        tally = campaign.run(TARGETS[name], cases)
        line = f"{tally.cases:>9,} {name:20} {tally.seconds:6.0f} s {tally.growth:6.1f} MiB"
        print(line, flush=True)
    total = sum(tally.cases for tally in campaign.tallies)
    seconds = time.perf_counter() - began
    print(f"{total:>9,} cases of seed {seed} in {seconds:.0f} s: ", end="")
    print(f"grown by {campaign.growth:.1f} MiB")
    if campaign.growth > MAX_GROWTH:
        print(f"that is more than {MAX_GROWTH:g} MiB")
        return 1
    return 0


def _shares(count: int, names: list[str]) -> dict[str, int]:
    if len(names) == 1:
        return {names[0]: count}
    shares = {name: share_of(TARGETS[name], count) for name in names}
    # What rounding leaves, or takes.
    shares[names[0]] = max(1, shares[names[0]] + count - sum(shares.values()))
    return shares


def _whole(text: str) -> int:
    return int(text.replace(",", "").replace("_", ""))


if __name__ == "__main__":
    sys.exit(main())
