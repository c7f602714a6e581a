"""What a figure needs beside it: the machine, the versions, the commit, the command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path


def describe_machine(command: str = "") -> str:
    """A few lines that say where and on what a benchmark ran.

    Args:
      command: how it is run, if that is not as the script that it is.
    """
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("fastworker", "trio", "anyio", "pynng", "msgspec")
    )
    return "\n".join(
        [
            f"machine   {os.cpu_count()} cores, {_processor()}, {platform.system()} "
            f"{platform.release()}",
            f"python    {platform.python_version()}; {versions}",
            f"commit    {_commit()}",
            f"command   {command or f'python {shlex.join(sys.argv)}'}",
        ]
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    root = Path(__file__).parent.parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip()
