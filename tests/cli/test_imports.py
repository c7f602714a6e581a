"""A process loads only what it uses: that decides when it is ready, and what it weighs.

No clock here; ``benchmarks/footprint.py`` has the seconds and the bytes.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HELP_NEEDS_NONE_OF = {
    "anyio",
    "asyncio",
    "cachetools",
    "h11",
    "hypercorn",
    "msgspec",
    "multiprocessing",
    "pynng",
    "rich",
    "sqlite3",
    "ssl",
    "starlette",
    "trio",
}
A_SUBWORKER_NEEDS_NONE_OF = {
    "cachetools",
    "fastworker._control_plane",
    "fastworker._client",
    "h11",
    "hypercorn",
    "multiprocessing",
    "opentelemetry",
    "rich",
    "sqlite3",
    "starlette",
}
A_CONTROL_PLANE_NEEDS_NONE_OF = {
    "h11",
    "hypercorn",
    "multiprocessing",
    "opentelemetry",
    "rich",
    "starlette",
}


def loaded_by(program: str) -> set[str]:
    """The modules that a process of its own has at the end of this program."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print('\\n', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        (
            "from fastworker.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
            HELP_NEEDS_NONE_OF,
        ),
        ("import fastworker._subworker", A_SUBWORKER_NEEDS_NONE_OF),
        ("import fastworker._control_plane", A_CONTROL_PLANE_NEEDS_NONE_OF),
    ],
    ids=["help", "subworker", "control plane"],
)
def test_nothing_is_loaded_that_is_not_needed(program: str, unwanted: set[str]) -> None:
    assert unwanted & loaded_by(program) == set()
