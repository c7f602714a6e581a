"""The page on testing tasks shows what works: each of its files is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "testing-your-tasks.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_block_is_a_file() -> None:
    assert len(FILES) == PAGE.count("```python")


@pytest.mark.slow
def test_the_tests_pass_as_they_stand(folder: Path) -> None:
    ended = run(folder, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    expected = sum(text.count("def test_") for text in FILES.values())
    expected += FILES["test_queued.py"].count("def test_")  # under both loops
    assert f"{expected} passed" in ended.stdout


@pytest.mark.slow
def test_the_script_prints_what_is_said(folder: Path) -> None:
    ended = run(folder, "script.py")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"prints `{ended.stdout.strip()}`" in PAGE
