"""Supervised subworker processes: started again when they die, ended with us.

Each process is one child task of one nursery. There is no table of processes
to keep right by hand: whoever cancels the nursery ends them all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from fastworker._child_process import describe_exit, open_child

log = logging.getLogger("fastworker.supervisor")

# A process that dies at once is mostly broken for good (its task module does
# not import), so the pauses double; one that has lived for a while was not.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
SOUND_SECONDS: Final = 10.0

# A subworker that is told to end gives up its attempts and says goodbye, which
# takes half a second; a thread that does not return takes for ever.
GRACE: Final = 3.0


class Supervisor:
    """Runs one process for each worker id, and runs it again when it dies.

    Args:
      commands: what to run, by worker id. Each command must end when it reads
        EOF from its stdin: then its parent was killed.
      on_exit: called in the loop, at once, with the worker id and the exit
        code (or minus the signal's number) of each process that has ended.
      grace: seconds between SIGTERM and SIGKILL when cancelled.
      folder: where the processes run; the current folder if not given.
      environ: their environment; ours if not given.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        on_exit: Callable[[str, int], None],
        *,
        grace: float = GRACE,
        folder: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._commands = {worker_id: list(command) for worker_id, command in commands.items()}
        self._on_exit = on_exit
        self._grace = grace
        self._folder = folder
        self._environ = environ
        self._processes: dict[str, trio.Process] = {}
        self._drain_requested = trio.Event()

    @property
    def processes(self) -> dict[str, int]:
        """The process ids of those that run now, by worker id."""
        return {worker_id: process.pid for worker_id, process in self._processes.items()}

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep the processes running until drained or cancelled.

        ``task_status.started`` is called when each process was started once;
        what it does since then, this does not know.

        Cancellation:
          All processes have ended; ``on_exit`` was not called for those.
        """
        async with trio.open_nursery() as nursery:
            for worker_id in self._commands:
                await nursery.start(self._keep_running, worker_id)
            task_status.started()

    def drain(self) -> None:
        """Send SIGTERM to each process and start none again; :meth:`run` then returns.

        How long a process takes is its own affair. Idempotent: a process
        gets one signal, because a second one means "now".
        """
        if self._drain_requested.is_set():
            return
        self._drain_requested.set()
        for process in self._processes.values():
            process.terminate()

    async def _keep_running(
        self, worker_id: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        pause = FIRST_PAUSE
        while not self._drain_requested.is_set():
            started_at = trio.current_time()
            try:
                await self._run_once(worker_id, task_status)
            except OSError as error:  # no memory, no process left: it may pass
                log.error("subworker %s cannot be started: %s", worker_id, error)
                task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            if self._drain_requested.is_set():
                return
            if trio.current_time() - started_at >= SOUND_SECONDS:
                pause = FIRST_PAUSE
            log.warning("subworker %s starts again in %.1f s", worker_id, pause)
            with trio.move_on_after(pause):
                await self._drain_requested.wait()
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_once(self, worker_id: str, task_status: trio.TaskStatus[None]) -> None:
        async with open_child(
            self._commands[worker_id],
            grace=self._grace,
            folder=self._folder,
            environ=self._environ,
        ) as process:
            self._processes[worker_id] = process
            log.info("subworker %s is process %d", worker_id, process.pid)
            if self._drain_requested.is_set():  # while it was being started
                process.terminate()
            task_status.started()
            try:
                returncode = await process.wait()
            finally:
                del self._processes[worker_id]
        ended_by_us = self._drain_requested.is_set()
        log.log(
            logging.INFO if ended_by_us else logging.WARNING,
            "subworker %s (process %d) ended with %s",
            worker_id,
            process.pid,
            describe_exit(returncode),
        )
        self._on_exit(worker_id, returncode)
