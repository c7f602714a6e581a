"""One run of one system: its script as a process of its own, bounded in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.redis_server import redis_server
from benchmarks.peers.results import Run
from benchmarks.peers.systems import HERE, System

# How much of what a script prints to stderr is kept, in lines.
KEPT_LINES = 50


def run_system(
    system: System, number: int, python: Path, options: list[str], seconds: float
) -> Run:
    """Run a system once, for ``seconds`` at most, and leave no process behind.

    Args:
      number: the round.
      python: of the environment that has the system.
      options: of the script, beside the system's own.
    """
    run = Run(system.key, number)
    begin = time.monotonic()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    # No settings of somebody's shell for a FastWorker, theirs or ours.
    # PYTHONPATH would put our package before the original's, which has the same name.
    for name in [n for n in environment if n.startswith("FASTWORKER_") or n == "PYTHONPATH"]:
        del environment[name]
    with ExitStack() as stack:
        # What a script that had to be killed leaves there goes, too. Short: Ray makes sockets.
        folder = TemporaryDirectory(prefix="peer", dir="/tmp", ignore_cleanup_errors=True)
        environment["TMPDIR"] = stack.enter_context(folder)
        if system.needs_redis:
            environment["REDIS_URL"] = stack.enter_context(redis_server())
        process = subprocess.Popen(
            [python, system.path, *system.options, *options],
            cwd=HERE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors: deque[str] = deque(maxlen=KEPT_LINES)
        readers = [
            threading.Thread(target=_read_figures, args=(process.stdout, run), daemon=True),
            threading.Thread(target=errors.extend, args=(process.stderr,), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            code = process.wait(seconds)
            if code:
                run.error = f"exit code {code}: {_last_words(errors)}"
        except subprocess.TimeoutExpired:
            run.error = f"not done after {seconds:g} s"
        finally:
            _kill_session(process)
        for reader in readers:
            reader.join(5)
    run.seconds = time.monotonic() - begin
    return run


def _read_figures(lines: Iterable[str], run: Run) -> None:
    for line in lines:
        # Some systems print to stdout, too.
        if line.startswith("{"):
            run.take(json.loads(line))


def _last_words(errors: deque[str]) -> str:
    """The exception of the traceback, as well as can be told."""
    said = [line.strip() for line in errors if line.strip() and not line.startswith(" ")]
    causes = [line for line in said if "Error" in line.split(":")[0]]
    return (causes or said or ["nothing was said"])[-1][:200]


def _kill_session(process: subprocess.Popen[str]) -> None:
    """End whatever the script has started and not ended: all that is in its session."""
    for member in _members(process.pid):
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _members(session: int) -> list[int]:
    """The processes of a session; Ray gives its own ones groups, and Celery too."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # After the name, which may have blanks: state, parent, group, session.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            found.append(int(folder.name))
    return found
