"""Crash points: what a process does that is told to kill itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.run import CRASH_POINTS, STORE_POINTS

PACKAGE = Path(__file__).parents[2] / "fastworker"

PROGRAM = """
import atexit
from fastworker._crash import IS_ARMED, crash_point

atexit.register(print, "said goodbye")
print(IS_ARMED, flush=True)
for number in range(1, 4):
    crash_point("elsewhere")
    crash_point("here")
    print(number, flush=True)
"""


def run(crash: str | None) -> tuple[int, list[str]]:
    environ = {name: value for name, value in os.environ.items() if name != "FASTWORKER_CRASH"}
    if crash is not None:
        environ["FASTWORKER_CRASH"] = crash
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environ
    )
    return ended.returncode, ended.stdout.split("\n")[:-1]


@pytest.mark.nng
@pytest.mark.parametrize(
    ("crash", "code", "lines"),
    [
        (None, 0, ["False", "1", "2", "3", "said goodbye"]),
        ("here", -signal.SIGKILL, ["True"]),
        ("here:1", -signal.SIGKILL, ["True"]),
        ("here:3", -signal.SIGKILL, ["True", "1", "2"]),
        ("here:4", 0, ["True", "1", "2", "3", "said goodbye"]),
        ("nowhere:1", 0, ["True", "1", "2", "3", "said goodbye"]),
    ],
)
def test_a_process_kills_itself_at_the_nth_passing_of_a_point(
    crash: str | None, code: int, lines: list[str]
) -> None:
    assert run(crash) == (code, lines)


def test_every_point_that_a_run_names_is_in_the_code() -> None:
    named: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        named |= set(re.findall(r'crash_point\(f?"([^"]+)"\)', path.read_text()))
    templates = [re.sub(r"\{[^}]*\}", "[a-z]+", name) for name in named]
    for points in CRASH_POINTS.values():
        for point in points:
            assert any(re.fullmatch(template, point) for template in templates), point
    assert not set(STORE_POINTS) & {
        point for points in CRASH_POINTS.values() for point in points
    }
