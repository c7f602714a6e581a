"""A worker process pays only for the loop that it uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

NEVER = ("pynng", "anyio")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("fastworker._lanes", ("trio", "asyncio")),
        ("fastworker._lanes._thread", ("trio", "asyncio")),
        ("fastworker._lanes._context", ("trio", "asyncio")),
        ("fastworker._lanes._trio", ("asyncio",)),
        ("fastworker._lanes._asyncio", ("trio",)),
        ("fastworker._lanes._process", ("trio", "asyncio")),
        ("fastworker._lanes._process_main", ("trio", "asyncio")),
        ("fastworker._lanes._sink", ()),
        ("fastworker._lanes._inline", ()),
    ],
)
def test_a_lane_imports_no_other_loop(module: str, absent: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )

    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded.isdisjoint([*absent, *NEVER])
