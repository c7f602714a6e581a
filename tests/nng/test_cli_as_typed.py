"""The commands in real processes, over real sockets, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import FASTWORKER, PATIENCE, Plane, Shell, open_shell, wait_until
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = '''
import datetime, os, time
import trio
from fastworker import task

@task
def add(x: int, y: int) -> int:
    print("this is not the result")
    return x + y

@task
def echo(*values):
    return list(values)

@task
def fail():
    raise ValueError("of no use")

@task
def today():
    return {"day": datetime.date(2024, 2, 29), "raw": b"\\x00", "some": {1}}

@task
def hold(name, seconds):
    """Say that it has begun, wait, say that it has ended."""
    open(f"begun-{name}-{os.getpid()}", "w").close()
    time.sleep(seconds)
    open(f"ended-{name}", "w").close()
    return name

@task
def hold_until_told(name):
    """As ``hold``, until the test writes a file."""
    open(f"begun-{name}-{os.getpid()}", "w").close()
    while not os.path.exists(f"release-{name}"):
        time.sleep(0.01)
    return name

@task
async def hold_async(name):
    open(f"begun-{name}-{os.getpid()}", "w").close()
    await trio.sleep_forever()
'''


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        yield shell


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One that no test may harm."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "mytasks.py").write_text(TASKS)
    with open_shell(folder) as shell:
        yield Plane(shell, "--task-modules", "mytasks.py")


def release(shell: Shell, name: str) -> None:
    (shell.folder / f"release-{name}").touch()


def begun(shell: Shell, name: str) -> list[Path]:
    return list(shell.folder.glob(f"begun-{name}-*"))


def wait_begun(shell: Shell, name: str, times: int = 1) -> None:
    wait_until(lambda: len(begun(shell, name)) >= times, f"{name} has begun")


# --- submit, status, list ---


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (["5", "3"], [5, 3]),
        (["-5", "3"], [-5, 3]),
        (['{"a": 1}', "text"], [{"a": 1}, "text"]),
        (["--", "--non-blocking"], ["--non-blocking"]),
        (["1", "--timeout", "20", "--args", "2", "--priority", "high"], [1, 2]),
        (["null", "true", "1.5", '"5"', "é ñ", ""], [None, True, 1.5, "5", "é ñ", ""]),
        ([], []),
    ],
)
def test_submit_sends_values_as_typed_and_prints_the_result_alone(
    plane: Plane, typed: list[str], values: list[Any]
) -> None:
    done = plane.submit("echo", "--args", *typed)
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert json.loads(done.stdout) == values
    assert done.stdout.count("\n") == 1


def test_what_a_task_prints_is_not_in_the_output_of_submit(plane: Plane) -> None:
    done = plane.submit("add", "--args", "5", "3", "--task-modules", "mytasks")
    assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, "8\n", "")


def test_values_that_json_lacks_are_printed_plainly(plane: Plane) -> None:
    done = plane.submit("today")
    assert json.loads(done.stdout) == {"day": "2024-02-29", "raw": "AA==", "some": [1]}


def test_a_failed_task_exits_with_1_and_its_error_in_one_line(plane: Plane) -> None:
    done = plane.submit("fail")
    assert (done.returncode, done.stdout) == (Exit.TASK_FAILED, "")
    assert done.stderr.count("\n") == 1
    assert "ValueError: of no use" in done.stderr


def test_debug_adds_the_remote_traceback(plane: Plane) -> None:
    done = plane.submit("fail", "--log-level", "DEBUG")
    assert (done.returncode, done.stdout) == (Exit.TASK_FAILED, "")
    assert "mytasks.py" in done.stderr
    assert "Traceback" in done.stderr


def test_an_unknown_task_exits_with_3_and_near_names(plane: Plane) -> None:
    done = plane.submit("ad")
    assert (done.returncode, done.stdout) == (Exit.UNKNOWN, "")
    assert "add" in done.stderr


def test_a_wait_that_was_too_long_exits_with_4(plane: Plane) -> None:
    done = plane.submit("hold_until_told", "--args", "late", "--timeout", "1.5")
    release(plane.shell, "late")
    assert (done.returncode, done.stdout) == (Exit.TIMED_OUT, "")
    assert "timed out after 1.5 s while running on control-plane-1" in done.stderr


def test_non_blocking_prints_the_id_alone_and_status_follows_it(plane: Plane) -> None:
    done = plane.submit("hold_until_told", "--args", "followed", "--non-blocking")
    task_id = done.stdout.strip()
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert len(task_id) == 36

    wait_begun(plane.shell, "followed")
    started = plane.status(task_id)
    assert started.returncode == Exit.OK
    shown = json.loads(started.stdout)
    assert shown["status"] == "started"
    assert shown["worker_id"] == "control-plane-1"
    assert shown["started_at"]
    assert shown["completed_at"] is None

    release(plane.shell, "followed")
    wait_until(
        lambda: json.loads(plane.status(task_id).stdout)["status"] == "success", "success"
    )
    ended = json.loads(plane.status(task_id).stdout)
    assert (ended["result"], ended["attempts"]) == ("followed", 1)
    assert ended["started_at"] < ended["completed_at"]


def test_status_tells_failure_and_unknown_apart(plane: Plane) -> None:
    task_id = plane.submit("fail", "--non-blocking").stdout.strip()
    wait_until(lambda: "failure" in plane.status(task_id).stdout, "failure")
    failed = plane.status(task_id)
    assert failed.returncode == Exit.OK
    assert json.loads(failed.stdout)["error"] == "ValueError: of no use"

    unknown = plane.status("no-such-id")
    assert (unknown.returncode, unknown.stdout) == (Exit.UNKNOWN, "")
    assert "no-such-id" in unknown.stderr


def test_list_names_the_tasks_of_the_modules(plane: Plane) -> None:
    done = plane.shell.run("list", "--task-modules", "mytasks")
    assert [line.partition("(")[0] for line in done.stdout.splitlines()] == [
        "add",
        "echo",
        "fail",
        "hold",
        "hold_async",
        "hold_until_told",
        "today",
    ]


def test_variables_count_where_no_option_is_given(plane: Plane) -> None:
    environ = {**plane.shell.environ, "FASTWORKER_DISCOVERY_ADDRESS": plane.discovery}
    done = subprocess.run(
        [*FASTWORKER, "submit", "--task-name", "add", "--args", "1", "2"],
        env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (Exit.OK, "3\n")


def test_a_reader_that_has_gone_is_no_error_worth_a_word(plane: Plane) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            [*FASTWORKER, "submit", f"--discovery-address={plane.discovery}",
             "--task-name", "echo", "--args", "x"],
            env=plane.shell.environ, stdout=stdout, stderr=subprocess.PIPE, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr == b""


def test_an_unreachable_control_plane_exits_with_69_and_is_named(shell: Shell) -> None:
    address = free_address()
    started_at = time.monotonic()
    commands = [
        shell.start("submit", "--task-name", "add", "--discovery-address", address),
        shell.start("status", "--task-id", "x", "--discovery-address", address),
        shell.start("subworker", "--worker-id", "w", "--control-plane-address", address),
    ]
    for command in commands:
        assert command.wait() == Exit.NO_CONTROL_PLANE
        assert address in command.stderr.splitlines()[-1]
        assert "Traceback" not in command.stderr
    assert time.monotonic() - started_at < 10


# --- control plane and subworkers ---


def test_the_banner_says_where_what_and_how_long(plane: Plane) -> None:
    banner = plane.command.stderr
    for address in (plane.base, plane.discovery, plane.management):
        assert address in banner
    assert "epoch " in banner
    assert f"store       {plane.shell.folder}/state/fastworker/control-plane-" in banner
    assert "add, echo, fail" in banner
    assert "1 supervised process: control-plane-1" in banner


def test_a_subworker_from_another_shell_takes_work(shell: Shell) -> None:
    plane = Plane(shell)  # with no task module, and so no process of its own
    subworker = shell.start(
        "subworker", "--worker-id", "w1", "--control-plane-address", plane.base,
        "--task-modules", "mytasks",
    )  # fmt: skip
    done = plane.submit("add", "--args", "1", "2")
    assert (done.returncode, done.stdout) == (Exit.OK, "3\n")
    subworker.process.terminate()
    assert subworker.wait() == Exit.OK
    assert plane.command.process.poll() is None


def test_with_no_processes_the_control_plane_runs_tasks_itself(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--processes", "0")
    plane.submit("hold", "--args", "here", "0")
    assert begun(shell, "here")[0].name.endswith(f"-{plane.command.process.pid}")
    assert shell.processes() == [plane.command.process.pid]


def test_several_processes_share_the_work(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--processes", "2", "--concurrency", "1")
    submits = [plane.start_submit("hold_until_told", "--args", name) for name in "ab"]
    for name in "ab":
        wait_begun(shell, name)
    for name in "ab":
        release(shell, name)
    assert [submit.wait() for submit in submits] == [Exit.OK, Exit.OK]
    pids = {path.name.rpartition("-")[2] for path in shell.folder.glob("begun-*")}
    assert pids == {str(plane.process_of(f"control-plane-{n}")) for n in (1, 2)}


def test_a_port_in_use_is_one_line_and_exit_78(shell: Shell) -> None:
    # N11 in docs/faults.md.
    plane = Plane(shell)
    done = shell.run("control-plane", *plane.addresses())
    assert (done.returncode, done.stdout) == (Exit.BAD_CONFIGURATION, "")
    assert done.stderr.count("\n") == 1
    assert f"{plane.base} is in use" in done.stderr


def test_a_broken_task_module_is_told_before_anything_listens(shell: Shell) -> None:
    (shell.folder / "broken.py").write_text("import no_such_module\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = shell.run("control-plane", "--base-address", address, "--task-modules", "broken")
    assert done.returncode == Exit.BAD_CONFIGURATION
    assert "no_such_module" in done.stderr
    assert "in use" not in done.stderr


def test_a_killed_subworker_process_starts_again_and_its_task_too(shell: Shell) -> None:
    # T2 in docs/faults.md.
    plane = Plane(shell, "--task-modules", "mytasks")
    submit = plane.start_submit("hold_until_told", "--args", "twice")
    wait_begun(shell, "twice")
    os.kill(plane.process_of("control-plane-1"), signal.SIGKILL)
    wait_begun(shell, "twice", times=2)
    release(shell, "twice")
    assert submit.wait() == Exit.OK
    assert len(begun(shell, "twice")) == 2
    assert "ended with SIGKILL" in plane.command.stderr


def test_supervised_processes_end_with_a_killed_control_plane(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--processes", "2")
    plane.submit("add", "--args", "1", "2")
    plane.start_submit("hold", "--args", "stuck", "60")
    wait_begun(shell, "stuck")
    children = [plane.process_of(f"control-plane-{n}") for n in (1, 2)]
    plane.command.process.kill()
    plane.command.wait()
    took = wait_until(lambda: not set(children) & set(shell.processes()), "they end")
    assert took < 2


# --- signals ---


@pytest.mark.parametrize("processes", ["0", "1"])
def test_the_first_ctrl_c_lets_running_tasks_end(shell: Shell, processes: str) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--processes", processes, terminal=True)
    submit = plane.start_submit("hold_until_told", "--args", "drained")
    wait_begun(shell, "drained")
    plane.command.press_ctrl_c()
    plane.command.wait_for("draining, 1 task running")
    release(shell, "drained")
    assert submit.wait() == Exit.OK
    assert plane.command.wait() == Exit.OK
    assert shell.processes() == []


@pytest.mark.parametrize("processes", ["0", "1"])
def test_the_second_ctrl_c_ends_it_at_once_and_exits_with_130(
    shell: Shell, processes: str
) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--processes", processes, terminal=True)
    plane.start_submit("hold", "--args", "stuck", "60")
    plane.start_submit("hold_async", "--args", "forever")
    wait_begun(shell, "stuck")
    wait_begun(shell, "forever")
    plane.command.press_ctrl_c()
    plane.command.wait_for("draining, 2 tasks running")
    plane.command.press_ctrl_c()
    pressed_at = time.monotonic()
    assert plane.command.wait() == Exit.INTERRUPTED
    assert time.monotonic() - pressed_at < 6
    plane.command.wait_for("stopping now")
    assert "Traceback" not in plane.command.stderr


def test_sigterm_drains_and_a_second_one_exits_with_143(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks")
    plane.start_submit("hold", "--args", "stuck", "60")
    wait_begun(shell, "stuck")
    plane.command.process.terminate()
    plane.command.wait_for("SIGTERM again stops at once")
    plane.command.process.terminate()
    assert plane.command.wait() == Exit.TERMINATED


def test_sigterm_once_exits_with_0(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks")
    plane.command.process.terminate()
    assert plane.command.wait(5) == Exit.OK
    assert shell.processes() == []


def test_a_subworker_drains_with_the_first_ctrl_c(shell: Shell) -> None:
    plane = Plane(shell)
    subworker = shell.start(
        "subworker", "--worker-id", "w1", "--control-plane-address", plane.management,
        "--task-modules", "mytasks", terminal=True,
    )  # fmt: skip
    submit = plane.start_submit("hold_until_told", "--args", "drained")
    wait_begun(shell, "drained")
    subworker.press_ctrl_c()
    subworker.wait_for("draining, 1 task running")
    release(shell, "drained")
    assert submit.wait() == Exit.OK
    assert subworker.wait() == Exit.OK


def test_ctrl_c_while_submit_waits_exits_with_130(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--concurrency", "1")
    plane.submit("hold_until_told", "--args", "first", "--non-blocking")
    wait_begun(shell, "first")
    submit = plane.start_submit("hold", "--args", "second", "0", terminal=True)
    time.sleep(2)  # by now it is up, and its task waits behind the first
    submit.press_ctrl_c()
    assert submit.wait(5) == Exit.INTERRUPTED
    assert "Traceback" not in submit.stderr
    release(shell, "first")
    # Taken back: behind it, another one runs and the second never did.
    assert plane.submit("echo").returncode == Exit.OK
    assert begun(shell, "second") == []
