"""The tests of processes shorten leases; should a name have moved, each would only time out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_leases_can_be_shortened() -> None:
    # In a process of its own: it changes modules.
    code = (
        "from tests.short_leases import shorten_leases\n"
        "from fastworker._core import _restart, _session_table\n"
        "shorten_leases(1.5)\n"
        "assert _session_table.LEASE_SECONDS == _restart.LEASE_SECONDS == 1.5\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)
