"""``fastworker simulate``: failing seeds, and how to see them again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = """
from fastworker import task

charged = []


@task
def charge(order: str) -> str:
    charged.append(order)
    return order


@task
def add(a: int, b: int) -> int:
    return a + b


async def orders(sim):
    charged.clear()
    async with sim.client() as client, client.open_task_group() as group:
        for number in range(10):
            await group.submit(charge, f"order {number}")
    assert len(set(charged)) == len(charged), "charged twice"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mytasks.py").write_text(TASKS)
    return tmp_path


def simulate(folder: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "fastworker", "simulate", "--task-modules", "mytasks", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_sound_tasks_pass(folder: Path) -> None:
    some = ["--seeds", "5", "--first", "100", "--workers", "2", "--clients", "1"]
    assert simulate(folder, *some, "--store", "any") == (0, "5 seeds: all is well\n")


def test_a_failing_seed_is_shown_with_the_fewest_faults_and_can_be_repeated(
    folder: Path,
) -> None:
    code, text = simulate(folder, "--scenario", "mytasks:orders", "--seeds", "60")
    assert code == 1
    assert "charged twice" in text
    assert re.search(r"60 seeds, \d+ failing: ", text)
    command = re.search(r"with these faults only:  fastworker simulate (.*)", text)
    assert command is not None
    code, again = simulate(folder, *command[1].split()[2:])
    assert code == 1
    assert "AssertionError: charged twice" in again
    assert again == simulate(folder, *command[1].split()[2:])[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--faults", "flood"], "'flood' is no kind of fault; there are crash, silent crash"),
        (["--seed", "1", "--keep", "99"], "--keep 99: seed 1 has the faults 0 to"),
        (["--scenario", "mytasks:nothing"], "--scenario mytasks:nothing: there is no such"),
    ],
)
def test_wrong_values_are_refused_in_one_line(
    folder: Path, words: list[str], message: str
) -> None:
    code, text = simulate(folder, *words)
    assert (code, text.count("\n")) == (78, 1)
    assert message in text
