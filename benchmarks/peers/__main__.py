"""Run the comparison: ``nox -s bench_peers``, or ``python -m benchmarks.peers``.

``-- --quick`` is one short round; ``--only huey,memory`` takes some systems only;
``--json FILE`` keeps everything, ``--chart FILE.svg`` draws it, and ``--from FILE`` reports
once more what was kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import benchmarks.peers
from benchmarks.machine import describe_machine
from benchmarks.peers import table
from benchmarks.peers.environment import python_for
from benchmarks.peers.results import Run, Summary, summarize
from benchmarks.peers.runner import run_system
from benchmarks.peers.systems import SYSTEMS, System

CACHE = Path(__file__).parents[2] / ".cache" / "peers"
# How long a run may take beyond what it measures, in seconds: a start, an end, a burst that
# is slower than the one before.
SPARE_SECONDS = 45


COMMAND = shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]])


def main() -> int:
    # Told to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _parser().parse_args()
    systems = _chosen(options.only)
    if options.read:
        kept = json.loads(options.read.read_text())
        machine, runs = kept["machine"], [Run(**run) for run in kept["runs"]]
    else:
        machine, runs = describe_machine(COMMAND).splitlines(), _run(systems, options)
    if options.json:
        kept = {"machine": machine, "runs": [dataclasses.asdict(run) for run in runs]}
        options.json.write_text(json.dumps(kept, indent=1) + "\n")
    summaries = summarize(runs)
    _report(machine, systems, summaries)
    if options.chart:
        # Only here: whoever wants no chart needs no matplotlib.
        from benchmarks.peers.chart import draw

        draw(systems, summaries, options.chart)
    return 0


def _run(systems: list[System], options: argparse.Namespace) -> list[Run]:
    rounds = options.rounds or (1 if options.quick else 5)
    seconds = options.seconds or (1.0 if options.quick else 2.5)
    given = ["--seconds", str(seconds)]
    given += ["--tasks", str(options.tasks)] if options.tasks else []
    pythons, runs = _environments(systems)
    for number in range(1, rounds + 1):
        for system in systems:
            if system.key not in pythons:
                continue
            extra = ["--folder", str(CACHE)] if system.is_ours else []
            limit = 6 * seconds + SPARE_SECONDS
            run = run_system(system, number, pythons[system.key], given + extra, limit)
            runs.append(run)
            _tell(run)
    return runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    keys = ", ".join(system.key for system in SYSTEMS)
    parser.add_argument("--rounds", type=int, help="5 if not given")
    parser.add_argument("--seconds", type=float, help="for each measurement; 2.5 if not given")
    parser.add_argument("--tasks", type=int, help="in a burst; else as many as fill --seconds")
    parser.add_argument("--only", metavar="KEY,...", help=f"some of: {keys}")
    parser.add_argument("--quick", action="store_true", help="one round, a second for each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all figures there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw them, as SVG")
    parser.add_argument(
        "--from",
        dest="read",
        type=Path,
        metavar="FILE",
        help="report what --json kept; run nothing",
    )
    return parser


def _chosen(only: str | None) -> list[System]:
    if only is None:
        return SYSTEMS
    keys = set(only.split(","))
    unknown = keys - {system.key for system in SYSTEMS}
    if unknown:
        raise SystemExit(f"no such system: {', '.join(sorted(unknown))}")
    return [system for system in SYSTEMS if system.key in keys]


def _environments(systems: list[System]) -> tuple[dict[str, Path], list[Run]]:
    """The interpreter of each system; and a failed run of each that cannot be installed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    pythons: dict[str, Path] = {}
    failed: list[Run] = []
    for system in systems:
        try:
            pythons[system.key] = python_for(system.path, CACHE)
        except subprocess.CalledProcessError as error:
            failed.append(Run(system.key, 0, error=f"cannot be installed: {error}"))
    return pythons, failed


def _tell(run: Run) -> None:
    figures = "  ".join(f"{name} {figure:,.2f}" for name, figure in run.figures.items())
    took = f"{run.seconds:.1f} s"
    print(f"round {run.round}  {run.system}, {took}:  {figures}", file=sys.stderr, flush=True)
    for problem in [*run.notes, *([run.error] if run.error else [])]:
        print(f"    {problem}", file=sys.stderr, flush=True)


def _report(machine: list[str], systems: list[System], summaries: dict[str, Summary]) -> None:
    rounds = max((summary.rounds for summary in summaries.values()), default=0)
    print(*machine, f"rounds    {rounds}", benchmarks.peers.__doc__, sep="\n")
    print(table.comparison(systems, summaries), end="\n\n")
    print("In brackets: the ratio to the best peer's figure.", end="\n\n")
    for part in (table.half_load, table.details):
        print(part(systems, summaries), end="\n\n")


if __name__ == "__main__":
    sys.exit(main())
