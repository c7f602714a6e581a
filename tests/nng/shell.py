"""Commands as a user types them, in processes that a test cannot leave behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.ports import free_address, free_port

FASTWORKER = [sys.executable, "-P", "-m", "fastworker"]
PATIENCE = 20.0
# Its value is on every process of one shell. Not FASTWORKER_...: those the demo drops.
MARK = "TEST_SHELL_MARK"

# Makes the terminal on stdin the controlling one, as a login does.
ON_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def wait_until(
    condition: Callable[[], object], what: str | Callable[[], str], within: float = PATIENCE
) -> float:
    """Wait for something to be true; return the seconds that took."""
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() - started_at > within:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {within:g} s: {told}")
        time.sleep(0.02)
    return time.monotonic() - started_at


class Background:
    """A command that runs on, with all that it writes to stderr."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.master = -1  # our end of its terminal, if it has one

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has written this text."""

        def is_there() -> bool:
            assert self.process.poll() is None or text in self.stderr, self.stderr
            return text in self.stderr

        # Read when it fails: what it had written at first would mislead.
        wait_until(is_there, lambda: f"{text!r} in:\n{self.stderr}")

    def press_ctrl_c(self) -> None:
        """Type it at the command's terminal."""
        os.write(self.master, b"\x03")

    def read_terminal(self) -> str:
        """All that it writes to its terminal, until it has ended."""
        chunks = []
        with contextlib.suppress(OSError):  # how Linux says that nobody has it open
            while chunk := os.read(self.master, 65536):
                chunks.append(chunk)
        return b"".join(chunks).decode()

    def wait(self, within: float = PATIENCE) -> int:
        """Wait for its end; return the exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within:g} s:\n{self.stderr}") from None


class Shell:
    """A folder, an environment, and the commands that run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("FASTWORKER_") or name == "FASTWORKER_VALIDATE"
        }
        self.environ[MARK] = self._mark
        self.environ["FASTWORKER_GUI_ENABLED"] = "0"
        # Nobody's real tasks, and not another test's.
        self.environ["XDG_STATE_HOME"] = str(folder / "state")
        self._started: list[Background] = []

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [*FASTWORKER, *arguments], cwd=self.folder, env=self.environ, check=False,
            capture_output=True, text=True, timeout=PATIENCE + 10, **options,  # type: ignore[call-overload]
        )  # fmt: skip

    def start(
        self, *arguments: str, terminal: bool = False, stderr_too: bool = False
    ) -> Background:
        """Start a command and go on; on a terminal of its own, if wanted."""
        log = self.folder / f"stderr-{len(self._started)}"
        command = [*FASTWORKER, *arguments]
        master, slave = os.openpty() if terminal else (-1, -1)
        if terminal:
            command = [sys.executable, "-c", ON_TERMINAL, *command]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environ,
                stderr=slave if stderr_too else stderr,
                stdin=slave if terminal else subprocess.DEVNULL,
                stdout=slave if terminal else subprocess.DEVNULL,
            )  # fmt: skip
        background = Background(process, log)
        self._started.append(background)
        if terminal:
            os.close(slave)
            background.master = master
        return background

    def processes(self, argument: str | None = None) -> list[int]:
        """The ids of all processes that came of this shell's commands and still run.

        Only those that were given this argument, if there is one.
        """
        found = []
        mark = f"{MARK}={self._mark}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                environ = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_text().split("\0")
                if mark in environ and (argument is None or argument in command):
                    found.append(int(entry.name))
        return found

    def clear(self) -> None:
        """End whatever a failed test has left."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for background in self._started:
            background.wait()
            if background.master >= 0:
                os.close(background.master)


class Plane:
    """A control plane of a shell, and commands that know where it is."""

    def __init__(
        self,
        shell: Shell,
        *arguments: str,
        terminal: bool = False,
        like: Plane | None = None,
        says: str = "  run by ",
    ) -> None:
        """``like``: where that one was, which has ended. ``says``: when it is up."""
        self.shell = shell
        if like is None:
            self.base, self.discovery = free_address(), free_address()
            self.port = free_port()
        else:
            self.base, self.discovery, self.port = like.base, like.discovery, like.port
        self.command = shell.start(
            "control-plane", *self.addresses(), *arguments, terminal=terminal
        )
        self.command.wait_for(says)

    def addresses(self) -> list[str]:
        return [
            f"--base-address={self.base}",
            f"--discovery-address={self.discovery}",
            f"--subworker-port={self.port}",
        ]

    @property
    def management(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def process_of(self, worker_id: str) -> int:
        """The process id of a supervised subworker, the latest."""
        found = re.findall(rf"subworker {worker_id} is process (\d+)", self.command.stderr)
        return int(found[-1])

    def submit(self, task: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.shell.run(
            "submit", "--discovery-address", self.discovery, "--task-name", task, *arguments
        )

    def start_submit(self, task: str, *arguments: str, terminal: bool = False) -> Background:
        return self.shell.start(
            "submit", "--discovery-address", self.discovery, "--task-name", task, *arguments,
            terminal=terminal,
        )  # fmt: skip

    def status(self, task_id: str) -> subprocess.CompletedProcess[str]:
        return self.shell.run(
            "status", "--discovery-address", self.discovery, "--task-id", task_id
        )


@contextlib.contextmanager
def open_shell(folder: Path) -> Iterator[Shell]:
    """A shell that leaves nothing behind."""
    shell = Shell(folder)
    try:
        yield shell
    finally:
        shell.clear()
