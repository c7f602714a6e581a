"""One seed is one run: in this process and in any other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastworker.testing._plan import draw_plan
from fastworker.testing._run import run_plan
from tests.simulation.sim_tasks import make_registry

SEEDS = (1, 5, 20, 36, 58)
PROGRAM = """
import sys
from tests.simulation.test_determinism import texts
sys.stdout.write(texts())
"""


def texts() -> str:
    """The histories of all seeds."""
    return "".join(
        run_plan(draw_plan(seed), registry=make_registry()).history.as_text() for seed in SEEDS
    )


def test_the_same_seed_gives_the_same_history() -> None:
    assert texts() == texts()


@pytest.mark.slow
def test_two_processes_give_the_same_history_byte_for_byte() -> None:
    histories = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert len(histories[0]) > 10_000
    assert histories[0] == histories[1]


def test_another_seed_gives_another_history() -> None:
    first, second = (
        run_plan(draw_plan(seed), registry=make_registry()).history.as_text() for seed in (1, 2)
    )
    assert first != second
