"""``fastworker top`` as a user types it: on a terminal, and where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import Background, Plane, Shell, open_shell
from tests.ports import free_port

pytestmark = pytest.mark.nng

TASKS = """
import trio
from fastworker import task

@task
async def nap(seconds: float) -> None:
    await trio.sleep(seconds)
"""
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "top_tasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        shell.environ["FASTWORKER_GUI_ENABLED"] = "1"
        shell.environ["TERM"] = "xterm-256color"
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            shell.environ.pop(name, None)
        yield shell


class Cluster:
    def __init__(self, shell: Shell, like: Cluster | None = None) -> None:
        self.port = free_port() if like is None else like.port
        self.plane = Plane(
            shell,
            "--processes=0",
            "--task-modules=top_tasks",
            f"--gui-port={self.port}",
            like=None if like is None else like.plane,
        )
        self.plane.command.wait_for("the dashboard listens")
        self.places = [f"--gui-port={self.port}", f"--base-address={self.plane.base}"]


class Terminal:
    """What a user sees of a command."""

    def __init__(self, command: Background, columns: int = 100, lines: int = 30) -> None:
        self.command = command
        self._heard = b""
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.command.master, termios.TIOCSWINSZ, size)

    def press(self, key: str) -> None:
        os.write(self.command.master, key.encode())

    def screen(self) -> str:
        """The latest drawing that is complete."""
        while select.select([self.command.master], [], [], 0)[0]:
            try:
                self._heard += os.read(self.command.master, 65536)
            except OSError:  # it has ended
                break
        drawings = self._heard.decode("utf-8", "replace").split("\x1b[H")
        return CODES.sub("", drawings[-2] if len(drawings) > 1 else "")

    def wait_for(self, text: str, *, absent: bool = False) -> str:
        began = time.monotonic()
        while (text in (seen := self.screen())) is absent or not seen:
            assert self.command.process.poll() is None, (self.command.stderr, self._heard)
            assert time.monotonic() - began < 20, f"{text!r} in:\n{seen}"
            time.sleep(0.05)
        return seen

    def end(self) -> str:
        """All that came; call it when the command is about to end."""
        self._heard += self.command.read_terminal().encode()
        return self._heard.decode("utf-8", "replace")


def top(shell: Shell, cluster: Cluster, *arguments: str) -> Terminal:
    return Terminal(shell.start("top", *cluster.places, *arguments, terminal=True))


def test_a_running_task_is_seen_live_and_q_gives_the_terminal_back(shell: Shell) -> None:
    cluster = Cluster(shell)
    terminal = top(shell, cluster)
    terminal.wait_for("control-plane")
    cluster.plane.start_submit("nap", "--args", "60")
    seen = terminal.wait_for("nap")
    assert re.search(r"nap +(started|pending)", seen)
    terminal.wait_for("running 1")
    terminal.press("q")
    written = terminal.end()
    assert terminal.command.wait() == Exit.OK
    assert written.count("\x1b[?1049h") == written.count("\x1b[?1049l") == 1
    assert written.rstrip().endswith("\x1b[?25h\x1b[?1049l")  # the cursor, and what was before
    assert terminal.command.stderr == ""


def test_ctrl_c_ends_it_as_every_command(shell: Shell) -> None:
    cluster = Cluster(shell)
    terminal = top(shell, cluster)
    terminal.wait_for("control-plane")
    terminal.command.press_ctrl_c()
    assert terminal.end().rstrip().endswith("\x1b[?1049l")
    assert terminal.command.wait() == Exit.INTERRUPTED


def test_it_fills_the_terminal_whatever_its_size(shell: Shell) -> None:
    cluster = Cluster(shell)
    terminal = top(shell, cluster)
    assert len(terminal.wait_for("live").splitlines()[0].rstrip()) == 100
    terminal.resize(60, 12)
    began = time.monotonic()
    while len((lines := terminal.wait_for("FastWorker").splitlines())[0].rstrip()) != 60:
        assert time.monotonic() - began < 10, lines
    assert len(lines) == 12
    terminal.press("q")
    assert terminal.command.wait() == Exit.OK


def test_it_says_that_it_is_disconnected_and_connects_again_by_itself(shell: Shell) -> None:
    cluster = Cluster(shell)
    terminal = top(shell, cluster)
    terminal.wait_for("live")
    cluster.plane.command.process.kill()
    seen = terminal.wait_for("disconnected: ")
    assert "trying again" in seen
    assert "control-plane" in seen  # what was is shown still
    cluster.plane.command.wait()
    Cluster(shell, like=cluster)
    terminal.wait_for("disconnected", absent=True)
    terminal.wait_for("live")
    terminal.press("q")
    assert terminal.command.wait() == Exit.OK


def test_without_a_terminal_it_prints_once_what_there_is(shell: Shell) -> None:
    cluster = Cluster(shell)
    done = shell.run("top", *cluster.places)
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("FastWorker ")
    assert "WORKER" in done.stdout


def test_as_json_it_prints_one_object(shell: Shell) -> None:
    cluster = Cluster(shell)
    done = shell.run("top", "--json", *cluster.places)
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    facts = json.loads(done.stdout)
    assert facts["overview"]["worker_id"] == "control-plane"
    assert [worker["is_inside"] for worker in facts["workers"]] == [True]
    assert done.stdout.count("\n") == 1


def test_once_prints_on_a_terminal_too(shell: Shell) -> None:
    cluster = Cluster(shell)
    terminal = top(shell, cluster, "--once")
    written = terminal.end()
    assert terminal.command.wait() == Exit.OK
    assert "\x1b" not in written
    assert "WORKER" in written


def test_by_its_address_it_is_found_with_a_token_from_a_file_or_behind_it(
    shell: Shell,
) -> None:
    cluster = Cluster(shell)
    address = f"http://localhost:{cluster.port}"
    (file,) = shell.folder.rglob("*.token")
    assert shell.run("top", "--url", address, "--token-file", str(file)).returncode == Exit.OK
    assert shell.run("top", "--url", f"{address}/#token={file.read_text().strip()}").stdout
    shell.environ["FASTWORKER_GUI_URL"] = address
    shell.environ["FASTWORKER_GUI_TOKEN_FILE"] = str(file)
    assert shell.run("top").returncode == Exit.OK


def test_what_is_wrong_is_said_in_a_line(shell: Shell) -> None:
    cluster = Cluster(shell)
    address = f"http://127.0.0.1:{cluster.port}"
    wrong = "w" * 40
    for arguments, code, words in (
        (["--url", "ftp://x/"], Exit.BAD_CONFIGURATION, "use an address such as"),
        (["--url", "http://x:y/"], Exit.BAD_CONFIGURATION, "use an address such as"),
        (["--url", address], Exit.BAD_CONFIGURATION, "needs a token"),
        (["--url", address, "--token-file", "none"], Exit.BAD_CONFIGURATION, "no such file"),
        (["--url", f"{address}#token={wrong}"], Exit.BAD_CONFIGURATION, "not its token"),
        (["--url", f"{address}#token=x"], Exit.BAD_CONFIGURATION, "a token has"),
        (
            ["--url", f"http://127.0.0.1:{free_port()}#token={wrong}"],
            Exit.NO_CONTROL_PLANE,
            "no dashboard answers",
        ),
        (["--base-address=tcp://127.0.0.1:9"], Exit.BAD_CONFIGURATION, "there is no token"),
        (
            [f"--gui-port={free_port()}", f"--base-address={cluster.plane.base}"],
            Exit.NO_CONTROL_PLANE,
            "no dashboard with this token",
        ),
    ):
        done = shell.run("top", *arguments)
        assert (done.returncode, done.stdout) == (code, ""), (arguments, done.stderr)
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert wrong not in done.stderr


def test_a_signal_ends_it_with_the_terminal_as_it_was(shell: Shell) -> None:
    cluster = Cluster(shell)
    terminal = top(shell, cluster)
    terminal.wait_for("live")
    terminal.command.process.send_signal(signal.SIGTERM)
    assert terminal.end().rstrip().endswith("\x1b[?1049l")
    assert terminal.command.wait() == Exit.TERMINATED
