"""``fastworker demo`` with its three processes, and what it leaves behind: nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import Shell, open_shell, wait_until

pytestmark = [pytest.mark.nng, pytest.mark.slow]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as shell:
        yield shell


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    for number in range(300):
        (folder / "sub" / f"{number}.txt").write_text("line\n" * number)
    return folder


@pytest.fixture
def slow_files(tmp_path: Path) -> Path:
    """Some tens of gigabytes to read, so that the demo does not end by itself."""
    folder = tmp_path / "slow"
    folder.mkdir()
    with (folder / "0").open("wb") as file:
        file.truncate(20_000_000)
    for number in range(1, 2000):
        (folder / str(number)).symlink_to(folder / "0")
    return folder


def test_every_file_is_one_task_and_both_workers_share_them(shell: Shell, files: Path) -> None:
    done = shell.run("demo", str(files), "--json")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    figures = json.loads(done.stdout)
    assert (figures["tasks"], figures["failures"]) == (300, 0)
    assert figures["lines"] == sum(range(300))
    assert figures["bytes"] == 5 * sum(range(300))
    assert set(figures["by_worker"]) == {"worker-1", "worker-2"}
    assert sum(figures["by_worker"].values()) == 300
    assert figures["seconds"] > 0
    assert shell.processes() == []


def test_the_table_has_all_figures(shell: Shell, files: Path) -> None:
    done = shell.run("demo", "files")  # also by a relative path
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    for pattern in (r"tasks +│ +300", r"failures +│ +0", r"seconds", r"tasks/s", r"worker-1"):
        assert re.search(pattern, done.stdout), pattern


def test_a_file_that_cannot_be_read_is_a_failed_task(shell: Shell, files: Path) -> None:
    # Reading its beginning fails for everybody, for root too.
    (files / "unreadable").symlink_to("/proc/self/mem")
    os.symlink(files / "sub" / "3.txt", os.fsencode(files) + b"/no unicode \xff")
    done = shell.run("demo", str(files), "--json")
    assert done.returncode == Exit.OK
    figures = json.loads(done.stdout)
    assert (figures["tasks"], figures["failures"]) == (302, 1)
    assert "unreadable: OSError" in figures["first_failures"][0]


def test_an_empty_folder_is_no_error(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = shell.run("demo", "empty", "--json")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert json.loads(done.stdout)["tasks"] == 0


def test_variables_for_other_control_planes_do_not_count(shell: Shell, files: Path) -> None:
    shell.environ["FASTWORKER_TASK_MODULES"] = "no_such_module"
    shell.environ["FASTWORKER_DISCOVERY_ADDRESS"] = "tcp://127.0.0.1:1"
    assert json.loads(shell.run("demo", str(files), "--json").stdout)["failures"] == 0


@pytest.mark.parametrize("after", [0.3, 1.5])
def test_ctrl_c_leaves_no_process(shell: Shell, slow_files: Path, after: float) -> None:
    demo = shell.start("demo", str(slow_files), terminal=True)
    wait_until(lambda: len(shell.processes()) > 1, "it has started processes")
    time.sleep(after)
    demo.press_ctrl_c()
    assert demo.wait() == Exit.INTERRUPTED
    assert shell.processes() == []
    assert "Traceback" not in demo.stderr


def test_a_killed_worker_costs_no_task(shell: Shell, slow_files: Path) -> None:
    for number in range(200, 2000):
        (slow_files / str(number)).unlink()
    demo = shell.start("demo", str(slow_files), "--json", terminal=True)
    wait_until(lambda: shell.processes("--worker-id=worker-1"), "the worker is there")
    time.sleep(1)
    (worker,) = shell.processes("--worker-id=worker-1")
    os.kill(worker, signal.SIGKILL)
    figures = json.loads(demo.read_terminal())
    assert demo.wait() == Exit.OK
    assert (figures["tasks"], figures["failures"]) == (200, 0)
    assert "worker-1 (process" in demo.stderr


def test_without_its_control_plane_it_ends_with_a_word(shell: Shell, slow_files: Path) -> None:
    demo = shell.start("demo", str(slow_files))
    wait_until(lambda: len(shell.processes()) == 4, "all processes are up")
    (plane,) = shell.processes("control-plane")
    os.kill(plane, signal.SIGKILL)
    assert demo.wait() == Exit.NO_CONTROL_PLANE
    assert "control plane process ended with SIGKILL" in demo.stderr
    assert "Traceback" not in demo.stderr
    assert shell.processes() == []


def test_killing_it_leaves_no_process_after_two_seconds(shell: Shell, slow_files: Path) -> None:
    demo = shell.start("demo", str(slow_files))
    wait_until(lambda: len(shell.processes()) == 4, "all processes are up")
    demo.process.send_signal(signal.SIGKILL)
    demo.wait()
    assert wait_until(lambda: not shell.processes(), "all have ended") < 2


def test_a_terminal_sees_a_progress_bar(shell: Shell, files: Path) -> None:
    demo = shell.start("demo", str(files), terminal=True, stderr_too=True)
    output = demo.read_terminal()
    assert demo.wait() == Exit.OK
    assert "hashing" in output
    assert "/300" in output
    assert "worker-2" in output
