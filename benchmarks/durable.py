"""What durability costs: the round trip with a store in memory, and with one on disk.

Both are measured in turns in one run, and compared run by run.

    python benchmarks/durable.py [--tasks 30000] [--in-flight 1000] [--rounds 3] [--folder PATH]

Exits with 1 if the median throughput with a file is below half of that in memory.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from roundtrip import run

RATE = "throughput, tasks/s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=30_000)
    parser.add_argument("--in-flight", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where the file is made; its disk is what is measured")
    arguments = parser.parse_args()
    print(describe_machine())
    ratios: list[float] = []
    for number in range(1, arguments.rounds + 1):
        memory = run(arguments.tasks, arguments.in_flight, "memory")
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            durable = run(arguments.tasks, arguments.in_flight, f"{folder}/tasks.db")
        ratios.append(durable[RATE] / memory[RATE])
        print(f"round {number}{'memory':>38}{'file':>12}")
        for name in memory:
            print(f"{name:32}{memory[name]:12,.2f}{durable[name]:12,.2f}")
    ratio = statistics.median(ratios)
    print(f"file / memory: {ratio:.0%} of the throughput, the median of {len(ratios)} rounds")
    return 0 if ratio >= 0.5 else 1


if __name__ == "__main__":
    sys.exit(main())
