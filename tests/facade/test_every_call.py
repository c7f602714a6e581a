"""One script, every call, both loops; ``-X dev`` and ``-W error`` have nothing to say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nng, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("every_call.py")
# In its debug mode asyncio reports slow steps; that is a word on the machine.
SLOW_STEP = re.compile(r"^Executing <.*> took [0-9.]+ seconds\n", re.MULTILINE)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_every_call_ends_right_and_without_a_warning(loop: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(SCRIPT), loop],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert SLOW_STEP.sub("", ended.stderr) == ""
    assert ended.returncode == 0
    assert ended.stdout.startswith("every call ended right")
