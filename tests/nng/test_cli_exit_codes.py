"""Each exit code of the README's table, from a command as a user types it."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fastworker import Cancelled, Client
from fastworker.cli._errors import Exit
from tests.nng.shell import Plane, Shell, open_shell, wait_until
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = Path(__file__).with_name("cli_tasks.py")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shutil.copy(TASKS, tmp_path / "mytasks.py")
    with open_shell(tmp_path) as shell:
        yield shell


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One that no test may harm; it keeps a single result, and that in memory."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(TASKS, folder / "mytasks.py")
    with open_shell(folder) as shell:
        yield Plane(
            shell, "--task-modules", "mytasks", "--result-cache-size", "1", "--store", "memory"
        )


def wait_for_file(shell: Shell, name: str) -> str:
    path = shell.folder / name
    wait_until(path.exists, name)
    return path.read_text()


def test_0_done(plane: Plane) -> None:
    done = plane.submit("add", "--args", "5", "3")
    assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, "8\n", "")


def test_1_the_task_failed(plane: Plane) -> None:
    done = plane.submit("fail")
    assert (done.returncode, done.stdout) == (Exit.TASK_FAILED, "")
    assert done.stderr.count("\n") == 1
    assert "ValueError: of no use (--log-level DEBUG shows the traceback)" in done.stderr


def test_1_a_wrong_call_of_a_task_is_its_failure(plane: Plane) -> None:
    done = plane.submit("add", "--kwargs", '{"z": 1}')
    assert (done.returncode, done.stdout) == (Exit.TASK_FAILED, "")
    assert "TypeError: add() missing a required argument: 'x'" in done.stderr


def test_2_wrong_usage(plane: Plane) -> None:
    done = plane.submit("add", "--kwargs", "[1]")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert "'[1]' is an array; give an object" in done.stderr


def test_3_unknown_task_or_id(plane: Plane) -> None:
    submitted = plane.submit("ad")
    assert (submitted.returncode, submitted.stdout) == (Exit.UNKNOWN, "")
    assert "did you mean 'add'" in submitted.stderr
    asked = plane.status("no-such-id")
    assert (asked.returncode, asked.stdout) == (Exit.UNKNOWN, "")
    assert asked.stderr.count("\n") == 1
    assert f"no-such-id: unknown to the control plane at {plane.discovery}" in asked.stderr


def test_4_timed_out(plane: Plane) -> None:
    done = plane.submit("look_around", "--args", "late", "--timeout", "1")
    assert (done.returncode, done.stdout) == (Exit.TIMED_OUT, "")
    assert done.stderr.count("\n") == 1
    assert "timed out after 1 s while running on control-plane-1" in done.stderr
    assert "--timeout" in done.stderr


def test_5_cancelled(plane: Plane) -> None:
    submit = plane.start_submit("wait_for_ever", "--args", "victim")
    task_id = wait_for_file(plane.shell, "begun-victim")
    trio.run(cancel, plane.discovery, task_id)
    assert submit.wait() == Exit.CANCELLED
    assert submit.stderr.startswith(f"fastworker: task {task_id}: ")
    assert submit.stderr.count("\n") == 1
    assert (plane.shell.folder / "cancelled-victim").exists()


async def cancel(discovery: str, task_id: str) -> None:
    """What somebody else does, who knows the id."""
    async with Client(discovery) as client:
        assert isinstance(await client.cancel(task_id), Cancelled)


def test_69_no_control_plane(shell: Shell) -> None:
    address = free_address()
    commands = [
        ["submit", "--task-name", "add"],
        ["status", "--task-id", "x"],
        ["list"],
        ["list", "--json"],
        ["callbacks"],
    ]
    started = [shell.start(*words, "--discovery-address", address) for words in commands]
    for command in started:
        assert command.wait() == Exit.NO_CONTROL_PLANE
        assert command.stderr.count("\n") == 1
        assert f"no control plane answered at {address}" in command.stderr
        assert "Start one with 'fastworker control-plane'" in command.stderr


def test_75_refused_while_the_control_plane_drains(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks")
    running = plane.start_submit("wait_until_told", "--args", "last")
    wait_for_file(shell, "begun-last")
    plane.command.process.send_signal(signal.SIGTERM)
    plane.command.wait_for("draining, 1 task running")
    refused = plane.submit("add", "--args", "1", "2")
    assert (refused.returncode, refused.stdout) == (Exit.TRY_AGAIN, "")
    assert refused.stderr.count("\n") == 1
    assert "shutting down; try again later" in refused.stderr
    (shell.folder / "release-last").touch()
    assert running.wait() == Exit.OK
    assert plane.command.wait() == Exit.OK


def test_78_wrong_configuration(plane: Plane) -> None:
    done = plane.submit("add", "--timeout", "0")
    assert (done.returncode, done.stdout) == (Exit.BAD_CONFIGURATION, "")
    assert done.stderr.count("\n") == 1
    assert "timeout=0" in done.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)],
)
def test_130_and_143_ended_by_a_signal(plane: Plane, number: int, code: Exit) -> None:
    name = f"ended-by-{number}"
    submit = plane.start_submit("wait_for_ever", "--args", name)
    wait_for_file(plane.shell, f"begun-{name}")
    submit.process.send_signal(number)
    assert submit.wait() == code
    assert submit.stderr == f"fastworker: {signal.Signals(number).name}: stopped\n"
    wait_for_file(plane.shell, f"cancelled-{name}")


# --- status, whose code says only whether the task is known ---


def test_an_evicted_result_is_told_from_an_unknown_task(plane: Plane) -> None:
    first, second = (
        json.loads(plane.submit("add", "--args", "1", str(n), "--json").stdout)["task_id"]
        for n in (1, 2)
    )
    evicted = plane.status(first)
    assert evicted.returncode == Exit.OK
    shown = json.loads(evicted.stdout)
    assert (shown["task_id"], shown["status"], shown["result"]) == (first, "evicted", None)
    assert evicted.stderr.count("\n") == 1
    assert f"task {first}: it has ended, and its result is no longer kept" in evicted.stderr
    kept = plane.status(second)
    assert (json.loads(kept.stdout)["status"], kept.stderr) == ("success", "")


def test_a_queued_and_a_running_task_are_told_apart(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--concurrency", "1")
    ids = [
        plane.submit("wait_until_told", "--args", name, "--non-blocking").stdout.strip()
        for name in ("first", "second")
    ]
    wait_for_file(shell, "begun-first")
    states = [json.loads(plane.status(task_id).stdout)["status"] for task_id in ids]
    assert states == ["started", "pending"]
    for name in ("first", "second"):
        (shell.folder / f"release-{name}").touch()
