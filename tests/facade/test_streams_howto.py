"""The page on streams shows what works: each of its scripts is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "streams.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def test_every_block_is_a_file() -> None:
    assert len(FILES) == PAGE.count("```python")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["read.py", "read_in_a_thread.py", "ahead.py"])
def test_a_script_prints_what_is_said(tmp_path: Path, script: str) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    ended = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    printed = ended.stdout.rstrip("\n")
    assert f"```text\n{printed}\n```" in PAGE or f"prints `{printed}`" in PAGE
