"""The processes of a run: kept running, and killed, stopped and cut off on demand."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from fastworker.testing._history import Journal, Kind
from tests.chaos.peer import Settings, up_mark
from tests.chaos.proxy import Faults, Proxy

ROOT = Path(__file__).parents[2]


class Kept:
    """One process that is started again whenever it ends, and the proxy before it.

    Args:
      role: of ``tests.chaos.peer``.
      settings: for it; ``port`` is set to that of the proxy.
      target: the port that its proxy leads to; 0 for a process that listens.
      rng: of this process alone, so that a run can be repeated.
    """

    def __init__(
        self,
        role: str,
        settings: Settings,
        journal: Journal,
        rng: random.Random,
        environ: dict[str, str],
        *,
        target: int = 0,
    ) -> None:
        self.role = role
        self.name = settings.process
        self.rng = rng
        self.proxy = Proxy(target, random.Random(rng.random())) if target else None
        self.crash_next = ""
        self.failures: list[str] = []
        self._settings = settings
        self._journal = journal
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._reason = ""
        self._is_stopped = False
        self._is_finished = False
        self._weather = "calm"
        self._lives = 0
        self.ended = trio.Event()

    @property
    def is_up(self) -> bool:
        """Whether it runs, and has come so far that it says how its link is."""
        process = self._process
        return process is not None and up_mark(self._settings.folder, process.pid).exists()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep it running until :meth:`finish`, or cancelled; then it is dead."""
        async with trio.open_nursery() as nursery:
            if self.proxy is not None:
                await nursery.start(self.proxy.run)
                self._settings = dataclasses.replace(self._settings, port=self.proxy.port)
            task_status.started()
            while True:
                await self._live()
                if self._is_finished:
                    break
                await trio.sleep(self.rng.uniform(0.1, 0.8))
            nursery.cancel_scope.cancel()
        self.ended.set()

    async def _live(self) -> None:
        self._lives += 1
        environ, armed = dict(self._environ), self.crash_next
        self.crash_next = ""
        if armed:
            environ["FASTWORKER_CRASH"] = armed
        log = Path(self._settings.folder) / f"{self.name}-{self._lives}.log"
        settings = json.dumps(dataclasses.asdict(self._settings))
        with log.open("wb") as stderr:
            # Not by Trio: that starts it from a thread, whose end would be taken
            # for the end of the parent.
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "tests.chaos.peer", self.role, settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=ROOT,
                env=environ,
            )
        self._process, self._reason = process, ""
        self._write(Kind.SPAWN, pid=process.pid, what=armed)
        self.say(self._weather)
        watch = os.pidfd_open(process.pid)
        try:
            await trio.lowlevel.wait_readable(watch)
        finally:
            os.close(watch)
            process.kill()
            code = process.wait()
            assert process.stdin is not None
            process.stdin.close()
            self._process, self._is_stopped = None, False
            self._write(Kind.EXIT, pid=process.pid, what=self._reason or armed)
        wanted = code == -signal.SIGKILL or (code == 0 and self._is_finished)
        if not wanted:
            self.failures.append(
                f"{self.name} (process {process.pid}) exited with {code}: {log}"
            )

    # --- what is done to it ---

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        self._weather = line
        if self._process is not None:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                pass  # it is dying; the next one is told

    def finish(self) -> None:
        """Tell it that the run is over, and do not start it again."""
        self._is_finished = True
        self.say("finish")

    def kill(self) -> None:
        """As ``kill -9`` does it."""
        if self._process is not None:
            self._reason = "killed"
            self._process.kill()

    async def stop_for(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds, whatever happens."""
        if self._process is None or self._is_stopped:
            return
        process = self._process
        self._is_stopped = True
        self._write(Kind.STOP, pid=process.pid, what=f"{seconds:.1f}s")
        process.send_signal(signal.SIGSTOP)
        try:
            await trio.sleep(seconds)
        finally:
            if self._process is process:
                self._write(Kind.CONT, pid=process.pid)
                process.send_signal(signal.SIGCONT)
                self._is_stopped = False

    async def suffer(self, faults: Faults, seconds: float, kind: str) -> None:
        """These faults on its connection for so many seconds."""
        if self.proxy is None:
            return
        self._write(Kind.FAULT, what=f"{kind} {faults}")
        self.proxy.set_faults(faults)
        try:
            await trio.sleep(seconds)
        finally:
            self.proxy.set_faults(Faults())
            self._write(Kind.HEAL)

    def disconnect(self) -> None:
        """Close its connections once."""
        if self.proxy is not None:
            self._write(Kind.FAULT, what="disconnected")
            self.proxy.close_connections()
            self._write(Kind.HEAL)

    def _write(self, kind: Kind, *, pid: int = 0, **fields: str) -> None:
        self._journal.write(kind, process=self.name, pid=pid, **fields)


@asynccontextmanager
async def running(kept: list[Kept]) -> AsyncIterator[None]:
    """All of them, until the block is left; then none."""
    async with trio.open_nursery() as nursery:
        for one in kept:
            await nursery.start(one.run)
        yield
        nursery.cancel_scope.cancel()
