"""``fastworker control-plane`` with its file of tasks, killed and started again, for real."""

from __future__ import annotations

import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nng.shell import Plane, Shell, open_shell, wait_until

pytestmark = pytest.mark.nng

TASKS = """
import pathlib, time
from fastworker import task

@task
def note(what: str, seconds: float = 0.0) -> str:
    pathlib.Path("began").touch()
    time.sleep(seconds)
    with open("ran", "a") as file:
        file.write(what + "\\n")
    return what
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "kept_tasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        yield shell


def ran(shell: Shell) -> list[str]:
    file = shell.folder / "ran"
    return file.read_text().split() if file.exists() else []


def start(shell: Shell, *arguments: str, like: Plane | None = None) -> Plane:
    return Plane(shell, "--task-modules", "kept_tasks", *arguments, like=like)


def kill(plane: Plane) -> None:
    plane.command.process.send_signal(signal.SIGKILL)
    plane.command.wait()


def test_what_was_acknowledged_runs_after_kill_9_and_a_restart(shell: Shell) -> None:
    """K1, S1."""
    plane = start(shell, "--concurrency", "1", "--store", "tasks.db")
    waiting = plane.start_submit("note", "--args", "first", "--args", "1.5")
    wait_until(lambda: (shell.folder / "began").exists(), "it runs")
    for number in range(3):
        done = plane.submit("note", "--args", f"n{number}", "--non-blocking")
        assert done.returncode == 0, done.stderr
    kill(plane)
    again = start(shell, "--concurrency", "1", "--store", "tasks.db", like=plane)
    assert "came back" in again.command.stderr
    assert waiting.wait(within=60) == 0, waiting.stderr + again.command.stderr
    wait_until(lambda: len(ran(shell)) >= 4, "all have run")
    assert set(ran(shell)) == {"first", "n0", "n1", "n2"}


def test_the_file_is_for_its_owner_alone_and_for_one_control_plane(
    shell: Shell,
) -> None:
    plane = start(shell)
    (file,) = Path(shell.environ["XDG_STATE_HOME"]).glob("fastworker/*.db")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    anywhere = ["--base-address=tcp://127.0.0.1:0", "--discovery-address=tcp://127.0.0.1:0"]
    second = shell.run("control-plane", "--store", str(file), *anywhere, "--subworker-port=0")
    assert second.returncode == 78
    assert "another process has" in second.stderr
    assert "--store" in second.stderr
    assert str(file) in plane.command.stderr


def test_a_file_of_another_project_is_refused(shell: Shell) -> None:
    plane = start(shell)
    kill(plane)
    elsewhere = shell.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept_tasks.py").write_text(TASKS)
    shell.folder = elsewhere
    refused = shell.run("control-plane", *plane.addresses())
    assert refused.returncode == 78
    assert "belongs to another project" in refused.stderr
    assert "--store" in refused.stderr


def test_in_memory_nothing_comes_back_and_that_is_said(shell: Shell) -> None:
    plane = start(shell, "--store", "memory")
    assert "memory: when this process ends" in plane.command.stderr
    assert not list(shell.folder.glob("**/*.db"))
