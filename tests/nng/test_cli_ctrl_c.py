"""Ctrl-C at a terminal, at bad moments: one line, the right exit code, nothing left."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import Background, Plane, Shell, open_shell, wait_until
from tests.nng.test_cli_exit_codes import TASKS, wait_for_file
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.slow]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shutil.copy(TASKS, tmp_path / "mytasks.py")
    with open_shell(tmp_path) as shell:
        yield shell


def said(command: Background) -> list[str]:
    """What it wrote to stderr, but for the times of imports."""
    lines = command.stderr.splitlines()
    return [line for line in lines if not line.startswith("import time:")]


# --- while it starts --------------------------------------------------------

# Python tells when each module has been loaded; the next one is loaded when
# Ctrl-C comes. The first of them is before any command has begun.
MOMENTS = ["click.core", "fastworker.cli._submit", " trio", "msgspec", "fastworker._client"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_while_a_command_is_loaded(shell: Shell, moment: str) -> None:
    shell.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    submit = shell.start(
        "submit", "--task-name", "add", "--discovery-address", free_address(), terminal=True
    )
    submit.wait_for(moment)
    submit.press_ctrl_c()
    assert submit.wait(4) == Exit.INTERRUPTED
    (line,) = said(submit)
    assert line in ("fastworker: interrupted", "fastworker: SIGINT: stopped")


def test_while_the_control_plane_loads_task_modules(shell: Shell) -> None:
    (shell.folder / "slow.py").write_text(
        "import time\nopen('loading', 'w').close()\ntime.sleep(60)\n"
    )
    plane = shell.start("control-plane", "--task-modules", "slow", terminal=True)
    wait_for_file(shell, "loading")
    plane.press_ctrl_c()
    assert plane.wait(4) == Exit.INTERRUPTED
    assert said(plane) == ["fastworker: interrupted"]
    assert shell.processes() == []


@pytest.mark.parametrize(
    "moment", ["fastworker._control_plane", "fastworker.cli._service", "unicodedata"]
)
def test_while_the_control_plane_starts(shell: Shell, moment: str) -> None:
    (shell.folder / "mytasks.py").write_text("import unicodedata\n" + TASKS.read_text())
    shell.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    plane = shell.start(
        "control-plane", "--base-address", free_address(), "--discovery-address",
        free_address(), "--subworker-port", "0", "--task-modules", "mytasks", terminal=True,
    )  # fmt: skip
    plane.wait_for(moment)
    plane.press_ctrl_c()
    # It was up already, and drains; or it was not, and is interrupted.
    assert plane.wait(10) in (Exit.INTERRUPTED, Exit.OK)
    assert "Traceback" not in plane.stderr
    assert shell.processes() == []


def test_while_the_subworker_processes_start(shell: Shell) -> None:
    (shell.folder / "slow.py").write_text(
        "import os, sys, time\n"
        "if 'subworker' in sys.argv:\n"
        "    open('loading', 'w').close()\n"
        "    time.sleep(60)\n"
    )
    plane = Plane(shell, "--task-modules", "slow", terminal=True)
    wait_for_file(shell, "loading")
    plane.command.press_ctrl_c()
    plane.command.wait_for("draining")
    plane.command.press_ctrl_c()
    assert plane.command.wait(10) in (Exit.INTERRUPTED, Exit.OK)
    assert "Traceback" not in plane.command.stderr
    assert shell.processes() == []


# --- while it waits ---------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "--task-name", "add"],
        ["status", "--task-id", "x"],
        ["list"],
        ["callbacks"],
        ["events"],
        ["workers", "--watch"],
        ["subworker", "--worker-id", "w"],
    ],
    ids=lambda words: words[0],
)
def test_while_it_looks_for_a_control_plane(shell: Shell, words: list[str]) -> None:
    option = "--control-plane-address" if words[0] == "subworker" else "--discovery-address"
    command = shell.start(*words, f"{option}={free_address()}", terminal=True)
    wait_until(lambda: has_sockets(command.process.pid), "it waits")
    command.press_ctrl_c()
    pressed_at = time.monotonic()
    assert command.wait() == Exit.INTERRUPTED
    assert time.monotonic() - pressed_at < 3, "it waited for the end of its search"
    assert said(command)[-1].startswith("fastworker: SIGINT: stop")
    assert "Traceback" not in command.stderr


def has_sockets(pid: int) -> bool:
    """Whether NNG has begun, which is after the command has begun to hear signals."""
    comms = Path(f"/proc/{pid}/task").glob("*/comm")
    with contextlib.suppress(OSError):
        return any(comm.read_text().startswith("nng:") for comm in comms)
    return False


@pytest.mark.parametrize("times", [1, 2, 5])
def test_while_submit_waits_for_a_result_its_task_is_cancelled(
    shell: Shell, times: int
) -> None:
    plane = Plane(shell, "--task-modules", "mytasks")
    submit = plane.start_submit("wait_for_ever", "--args", "it", terminal=True)
    wait_for_file(shell, "begun-it")
    for _ in range(times):
        submit.press_ctrl_c()
    assert submit.wait(5) == Exit.INTERRUPTED
    assert said(submit) == ["fastworker: SIGINT: stopped"]
    if times < 3:  # the third insists, and may be faster than the goodbye
        wait_for_file(shell, "cancelled-it")
    done = plane.submit("add", "--args", "1", "2")
    assert (done.returncode, done.stdout) == (Exit.OK, "3\n")


# --- while it drains --------------------------------------------------------


# Its end takes a minute, whatever it is asked.
STUBBORN = """
import sys, trio
from fastworker.cli._signals import Drainable, run_until_signal

async def be_stubborn():
    with trio.CancelScope(shield=True):
        print("up", flush=True)
        await trio.sleep(60)
    return 0

async def drain():
    return await Drainable(lambda: None, lambda: "it").run(be_stubborn)

sys.exit(trio.run(drain) if sys.argv[1] == "drain" else trio.run(run_until_signal, be_stubborn))
"""


@pytest.mark.parametrize("how", ["drain", "command"])
def test_the_third_one_ends_what_does_not_want_to_end(how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGINT)
            assert "SIGINT: stop" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == Exit.INTERRUPTED
        finally:
            process.kill()


@pytest.mark.parametrize("processes", ["0", "1"])
def test_three_of_them_leave_nothing_of_a_control_plane(shell: Shell, processes: str) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--processes", processes, terminal=True)
    plane.start_submit("wait_in_vain", "--args", "stuck")
    wait_for_file(shell, "begun-stuck")
    plane.command.press_ctrl_c()
    plane.command.wait_for("draining, 1 task running")
    plane.command.press_ctrl_c()
    plane.command.wait_for("stopping now")
    plane.command.press_ctrl_c()
    assert plane.command.wait(5) == Exit.INTERRUPTED
    assert "Traceback" not in plane.command.stderr
    wait_until(lambda: not shell.processes("subworker"), "its processes end", 4)


def test_a_subworker_that_is_interrupted_twice_gives_its_task_back(shell: Shell) -> None:
    plane = Plane(shell)
    words = ["--control-plane-address", plane.management, "--task-modules", "mytasks"]
    first = shell.start("subworker", "--worker-id", "w1", *words, terminal=True)
    submit = plane.start_submit("wait_until_told", "--args", "moved")
    wait_for_file(shell, "begun-moved")
    first.press_ctrl_c()
    first.wait_for("draining, 1 task running")
    first.press_ctrl_c()
    assert first.wait(8) == Exit.INTERRUPTED
    assert "Traceback" not in first.stderr
    (shell.folder / "release-moved").touch()
    shell.start("subworker", "--worker-id", "w2", *words)
    assert submit.wait() == Exit.OK


def test_a_command_that_is_told_to_ignore_ctrl_c_from_outside_starts_all_the_same(
    shell: Shell,
) -> None:
    # As shells do for a command with '&'.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = shell.run("--version")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (0, "")
