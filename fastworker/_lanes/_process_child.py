"""One task process, as the lane's thread sees it. Nothing here waits."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
from typing import Final

from fastworker import _instruments
from fastworker._lanes._execution import Execution
from fastworker._lanes._process_messages import (
    Frames,
    FromProcess,
    Run,
    Stop,
    ToProcess,
    Welcome,
    decode_from_process,
    encode,
)

_CHUNK: Final = 256 * 1024
# The search path comes first of all: it may be how this package is found.
_PROGRAM: Final = (
    "import sys; _, connection, lifeline, parent, *sys.path = sys.argv; "
    "from fastworker._lanes._process_main import main; "
    "main(int(connection), int(lifeline), int(parent))"
)


class ChildProcess:
    """A process from its start to its burial, and the attempt that runs in it.

    It leads a process group of its own: signals of a terminal do not reach it,
    and what its tasks start is killed with it. Times are those of the lane's
    clock; ``kill_at`` is when it has to be gone, ``inf`` for never.

    Raises:
      OSError: it cannot be started.
    """

    def __init__(self, welcome: Welcome, *, kill_at: float) -> None:
        self.kill_at = kill_at
        self.is_ready = False
        self.is_ending = False
        self.suspicion = ""  # what will have been wrong if kill_at is reached
        self.why_killed = ""
        self.asked_at: float | None = None
        self.execution: Execution | None = None
        self.started_at = 0.0
        self.attempts = 0
        self._frames = Frames()
        self._outbox = bytearray()
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as theirs:
            self.connection, other = socket.socketpair()
            on_failure.callback(self.connection.close)
            theirs.callback(other.close)
            reading, self._lifeline = os.pipe()
            on_failure.callback(os.close, self._lifeline)
            theirs.callback(os.close, reading)
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                _command(other.fileno(), reading),
                stdin=subprocess.DEVNULL,
                pass_fds=(other.fileno(), reading),
                process_group=0,
            )
            on_failure.callback(self._process.wait)
            on_failure.callback(self._process.kill)
            self.pidfd = os.pidfd_open(self._process.pid)
            on_failure.pop_all()
        self.connection.setblocking(False)
        self.send(welcome)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_idle(self) -> bool:
        """Whether it waits for an attempt."""
        return self.is_ready and not self.is_ending and self.execution is None

    @property
    def is_starting(self) -> bool:
        """Whether it will be idle for the first time."""
        return not self.is_ready and not self.is_ending

    def run(self, execution: Execution) -> None:
        """Have it run an attempt. It must be idle."""
        self.execution = execution
        self.attempts += 1
        trace = ""
        if _instruments.current is not None:
            trace = execution.measure(_instruments.current).trace
        self.send(_run_message(execution, trace))

    def ask_to_stop(self, now: float, grace: float) -> None:
        """Send the request, once; the nearest of several deadlines counts."""
        self.kill_at = min(self.kill_at, now + grace)
        if self.asked_at is None:
            self.asked_at = now
            self.send(Stop())

    def send(self, message: ToProcess) -> None:
        """Write a message, or as much of it as goes; the rest is in the outbox."""
        self._outbox += encode(message)
        self.flush()

    @property
    def has_more_to_send(self) -> bool:
        """Whether :meth:`flush` is wanted when the socket takes more."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Write what goes."""
        try:
            while self._outbox:
                del self._outbox[: self.connection.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox.clear()  # it is dead or dying, which its pidfd tells

    def receive(self) -> tuple[list[FromProcess], bool]:
        """Read what is there; the second value is whether there can be more.

        Raises:
          BrokenFrame: that is nothing that a process of ours sends.
        """
        messages: list[FromProcess] = []
        while True:
            try:
                data = self.connection.recv(_CHUNK)
            except BlockingIOError:
                return messages, True
            except OSError:
                data = b""
            if not data:
                return messages, False
            messages += map(decode_from_process, self._frames.feed(data))

    def kill(self, why: str = "") -> None:
        """Kill it and what its tasks have started; ``why`` is told of its attempt."""
        self.is_ending = True
        self.kill_at = math.inf
        self.why_killed = self.why_killed or why
        # It may have left its group, and others may have stayed there.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def bury(self) -> int:
        """Give its return code, once it is dead, and close what belongs to it.

        Its group is killed first: until it is buried, no other process can
        have its id.
        """
        self.kill()
        returncode = self._process.wait()
        self.connection.close()
        os.close(self._lifeline)
        os.close(self.pidfd)
        return returncode


def _command(connection: int, lifeline: int) -> list[str]:
    numbers = (str(number) for number in (connection, lifeline, os.getpid()))
    return [sys.executable, "-c", _PROGRAM, *numbers, *map(str, sys.path)]


def _run_message(execution: Execution, trace: str) -> Run:
    attempt = execution.attempt
    process = attempt.process
    assert process is not None
    return Run(
        key=attempt.key,
        name=attempt.name,
        payload=attempt.payload,
        format=attempt.format,
        number=attempt.number,
        priority=attempt.priority,
        time_left=execution.time_left(),
        worker_id=attempt.worker_id,
        created=attempt.created,
        stream=attempt.stream,
        module=process.module,
        loop=process.loop,
        memory=process.memory,
        trace=trace,
    )
