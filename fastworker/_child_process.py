"""One child process, from start to end: never left behind, whoever dies first.

The child's stdin is a pipe whose other end only this process holds. Should
this process be killed, the child reads EOF there and ends itself (see
``cli/_parent_watch.py``); nothing else would tell it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import trio

log = logging.getLogger("fastworker.processes")

# A killed process is gone at once unless it is stuck in the kernel; to wait
# for that one for ever would hang the shutdown of everything else.
KILLED_SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def open_child(
    command: Sequence[str],
    *,
    grace: float,
    folder: str | None = None,
    environ: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> AsyncIterator[trio.Process]:
    """Start a command; when the block is left, however that is, it has ended.

    The child has a process group of its own, so that a terminal's Ctrl-C
    reaches this process only, which then decides.

    Args:
      command: the program and its arguments.
      grace: seconds between SIGTERM and SIGKILL, if it still runs when the
        block is left. Its stdin is closed first.
      folder: where it runs; the current folder if not given.
      environ: its environment; ours if not given.
      stdout: as for ``subprocess.Popen``.

    Raises:
      OSError: the command cannot be started.
    """
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=stdout,
        cwd=folder,
        env=environ,
        process_group=0,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            await _end(process, grace)
            if process.stdout is not None:
                await process.stdout.aclose()


async def _end(process: trio.Process, grace: float) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    with trio.move_on_after(grace):
        await process.wait()
    if process.poll() is not None:
        return
    log.warning("process %d did not end within %g s of SIGTERM: killed", process.pid, grace)
    # The group, because what the child has started would otherwise stay.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with trio.move_on_after(KILLED_SECONDS):
        await process.wait()
    if process.poll() is None:
        log.error("process %d is killed and still there, stuck in the kernel", process.pid)


def describe_exit(returncode: int) -> str:
    """Say how a process ended, in words."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
