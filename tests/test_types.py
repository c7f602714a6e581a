"""What type checkers say of the public API is part of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TYPE_TESTS = Path(__file__).parent / "type_tests"


@pytest.mark.types
def test_mypy_agrees_with_the_type_tests() -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            str(TYPE_TESTS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.types
def test_pyright_agrees_with_the_type_tests() -> None:
    beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    pyright = shutil.which("pyright", path=beside_python)
    assert pyright is not None, "install pyright, or run 'nox -s types'"
    result = subprocess.run(
        [pyright, "--pythonpath", sys.executable, str(TYPE_TESTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
