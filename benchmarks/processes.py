"""The processes that a benchmark starts, and what they cost and hold.

Each script is its own child: it starts itself again with a role, hears on standard
output that the child is ready, and ends it by closing its standard input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_TICKS: int = os.sysconf("SC_CLK_TCK")


def spawn(
    *arguments: str, script: str | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start the running script again, or another, with these arguments."""
    return subprocess.Popen(
        [sys.executable, script or sys.argv[0], *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )


def end(process: subprocess.Popen[str], *, timeout: float = 20.0) -> None:
    """Close its standard input and wait, ``timeout`` seconds at most, for its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(timeout)
    process.stdout.close()


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line that it says; whoever ends without it has failed."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"process {process.pid} has ended, and said nothing")
    return line.rstrip("\n")


def ask(process: subprocess.Popen[str], question: str = "") -> str:
    """Write it a line, and read the one that it answers."""
    assert process.stdin is not None
    process.stdin.write(f"{question}\n")
    process.stdin.flush()
    return read_line(process)


def resident_bytes(pid: int) -> int:
    """The memory that a process has, shared libraries included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no process {pid}")


def processor_seconds(pid: int) -> float:
    """What a process has taken so far of any core, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
