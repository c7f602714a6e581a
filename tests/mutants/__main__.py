"""``python -m tests.mutants``: does the simulation notice what it has to?

Copies the package, puts one mistake into the copy, and runs seeds until one of
them fails. A mistake that no seed notices is an error, and so is a text that is
not in the source any more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.mutations import FEW, MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
NOT_NOTICED = 3


def mutate(folder: Path, mutation: Mutation) -> None:
    """Put a mistake into the copy of the package that is in this folder."""
    path = folder / "fastworker" / mutation.file
    text = path.read_text()
    found = text.count(mutation.before)
    if found != mutation.count:
        raise SystemExit(
            f"{mutation.name}: {mutation.file} has {mutation.before!r} {found} times, "
            f"not {mutation.count}; change tests/mutants/mutations.py as well"
        )
    path.write_text(text.replace(mutation.before, mutation.after))


def try_mutation(mutation: Mutation | None, seeds: int) -> tuple[bool, str]:
    """Run the seeds against a copy with this mistake: whether one failed, and how."""
    with tempfile.TemporaryDirectory(prefix="fastworker-mutant-") as name:
        folder = Path(name)
        for part in ("fastworker", "tests/simulation", "tests/mutants"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        (folder / "tests" / "__init__.py").touch()
        if mutation is not None:
            mutate(folder, mutation)
        done = subprocess.run(
            [sys.executable, "-m", "tests.mutants.seeds", str(seeds)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, NOT_NOTICED):
        raise SystemExit(f"the seeds did not run:\n{done.stderr}")
    return done.returncode == 0, done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--few", action="store_true", help="only the three of CI")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds each gets")
    parser.add_argument("--only", help="those whose name has this text")
    options = parser.parse_args()
    chosen = [
        mutation
        for mutation in MUTATIONS
        if (not options.few or mutation.name in FEW)
        and (not options.only or options.only in mutation.name)
    ]
    missed = []
    for mutation in chosen:
        begun = time.monotonic()
        is_noticed, how = try_mutation(mutation, options.seeds)
        took = time.monotonic() - begun
        print(
            f"{'noticed' if is_noticed else 'MISSED':8} {mutation.name}: {how} ({took:.0f} s)"
        )
        sys.stdout.flush()
        if not is_noticed:
            missed.append(mutation.name)
    if missed:
        raise SystemExit(f"{len(missed)} of {len(chosen)} were missed: {', '.join(missed)}")
    print(f"all {len(chosen)} were noticed")


if __name__ == "__main__":
    main()
