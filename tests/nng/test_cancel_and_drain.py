"""Cancelling, draining and wearing out, with real processes, as a user types it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import Background, Plane, Shell, open_shell, wait_until

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = '''
import os, time
import trio
import fastworker
from fastworker import task

def note(what):
    task = fastworker.current_task()
    name = f"{what}-{task.attempt}-{os.getpid()}"
    with open(f".{name}", "w") as file:
        file.write(task.id)
    os.rename(f".{name}", name)

@task
def add(x: int, y: int) -> int:
    return x + y

@task
async def nap(name):
    note(f"begun-{name}")
    try:
        await trio.sleep_forever()
    finally:
        note(f"cleaned-{name}")

@task
def hold(name):
    """Runs until the test writes a file."""
    note(f"begun-{name}")
    while not os.path.exists(f"release-{name}"):
        time.sleep(0.01)
    return fastworker.current_task().attempt

@task(grace=0.2)
def swallow(name):
    """Does not stop; only a process that ends can end it."""
    note(f"begun-{name}")
    while True:
        time.sleep(0.05)

@task(max_retries=2, retry_delay=0)
def fail(name):
    note(f"begun-{name}")
    raise ValueError("of no use")
'''


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        yield shell


@pytest.fixture
def plane(shell: Shell) -> Plane:
    return Plane(shell, "--task-modules", "mytasks", "--concurrency", "1")


def noted(shell: Shell, what: str) -> list[Path]:
    return list(shell.folder.glob(f"{what}-*"))


def wait_noted(shell: Shell, what: str, times: int = 1) -> None:
    wait_until(lambda: len(noted(shell, what)) >= times, f"{what} is noted")


def release(shell: Shell, name: str) -> None:
    (shell.folder / f"release-{name}").touch()


def submit(plane: Plane, task: str, *arguments: str) -> str:
    ended = plane.submit(task, "--non-blocking", "--args", *arguments)
    assert ended.returncode == Exit.OK, ended.stderr
    return ended.stdout.strip()


def cancel(plane: Plane, task_id: str, *options: str) -> tuple[int, dict[str, Any]]:
    ended = plane.shell.run(
        "cancel",
        "--discovery-address",
        plane.discovery,
        "--task-id",
        task_id,
        "--json",
        *options,
    )
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else {}


def status(plane: Plane, task_id: str) -> dict[str, Any]:
    return dict(json.loads(plane.status(task_id).stdout))


def start_subworker(plane: Plane, worker_id: str, *options: str) -> Background:
    subworker = plane.shell.start(
        "subworker", "--worker-id", worker_id, "--control-plane-address", plane.management,
        "--task-modules", "mytasks", "--concurrency", "1", *options,
    )  # fmt: skip
    subworker.wait_for("joined")
    return subworker


# --- cancel ---


def test_ctrl_c_at_submit_lets_the_finally_of_the_remote_task_run(
    shell: Shell, plane: Plane
) -> None:
    waiting = plane.start_submit("nap", "--args", "one", terminal=True)
    wait_noted(shell, "begun-one")
    waiting.press_ctrl_c()
    pressed_at = time.monotonic()
    assert waiting.wait() == Exit.INTERRUPTED
    assert noted(shell, "cleaned-one")  # it has waited for that
    assert time.monotonic() - pressed_at < 3


def test_cancel_says_what_came_of_a_running_a_queued_an_ended_and_an_unknown_task(
    shell: Shell, plane: Plane
) -> None:
    napping = submit(plane, "nap", "one")
    holding = submit(plane, "hold", "two")
    wait_noted(shell, "begun-one")
    wait_noted(shell, "begun-two")
    queued = submit(plane, "add", "1", "2")

    code, said = cancel(plane, napping)
    assert (code, said["task_id"], said["outcome"]) == (Exit.OK, napping, "cancelled")
    assert said["after"] > 0
    assert noted(shell, "cleaned-one")
    assert cancel(plane, queued) == (
        Exit.OK, {"task_id": queued, "outcome": "never_started"},
    )  # fmt: skip
    release(shell, "two")
    wait_until(lambda: status(plane, holding)["status"] == "success", "two has ended")
    assert cancel(plane, holding) == (
        Exit.OK,
        {
            "task_id": holding,
            "outcome": "completed",
            "status": "success",
            "value": 1,
            "error": None,
        },
    )
    assert status(plane, napping)["status"] == "cancelled"
    unknown = shell.run(
        "cancel", "--discovery-address", plane.discovery, "--task-id", "no such id"
    )
    assert (unknown.returncode, unknown.stdout) == (Exit.UNKNOWN, "")
    assert "no task has the id 'no such id'" in unknown.stderr
    as_text = shell.run("cancel", "--discovery-address", plane.discovery, "--task-id", holding)
    assert as_text.stdout == "completed: 1\n"


def test_cancel_without_a_control_plane_exits_with_69(shell: Shell) -> None:
    ended = shell.run(
        "cancel", "--discovery-address", "tcp://127.0.0.1:9", "--task-id", "some id"
    )
    assert ended.returncode == Exit.NO_CONTROL_PLANE


def test_submit_takes_limits_and_exits_with_4_when_one_is_over(
    shell: Shell, plane: Plane
) -> None:
    late = plane.submit("nap", "--args", "late", "--task-timeout", "0.2")
    assert (late.returncode, noted(shell, "cleaned-late") != []) == (Exit.TIMED_OUT, True)
    assert "ran longer than its timeout of 0.2 s" in late.stderr
    failed = plane.submit("fail", "--args", "again", "--max-retries", "1")
    assert failed.returncode == Exit.TASK_FAILED
    assert len(noted(shell, "begun-again")) == 2
    waiting = plane.start_submit("hold", "--args", "two")
    wait_noted(shell, "begun-two")
    expired = plane.submit("add", "--args", "1", "2", "--expires", "0.1")
    assert expired.returncode == Exit.TIMED_OUT
    release(shell, "two")
    assert waiting.wait() == Exit.OK
    wrong = plane.submit("add", "--expires", "1e300")
    assert wrong.returncode == Exit.USAGE
    assert "expires=1e+300" in wrong.stderr


def test_the_grace_of_submit_bounds_how_long_a_task_may_go_on(
    shell: Shell, plane: Plane
) -> None:
    ended = plane.submit("hold", "--non-blocking", "--grace", "0.2", "--args", "one")
    task_id = ended.stdout.strip()
    wait_noted(shell, "begun-one")
    started_at = time.monotonic()
    assert cancel(plane, task_id)[1]["outcome"] == "abandoned"
    assert time.monotonic() - started_at < 4  # the default is 5
    release(shell, "one")


def test_submit_of_a_task_that_somebody_cancels_exits_with_5(
    shell: Shell, plane: Plane
) -> None:
    waiting = plane.start_submit("nap", "--args", "one")
    wait_noted(shell, "begun-one")
    (note,) = noted(shell, "begun-one")
    assert cancel(plane, note.read_text())[1]["outcome"] == "cancelled"
    assert waiting.wait() == Exit.CANCELLED


def test_cancelling_under_a_killed_worker_has_an_outcome_within_bounds(
    shell: Shell, plane: Plane
) -> None:
    task_id = submit(plane, "swallow", "one")
    wait_noted(shell, "begun-one")
    started_at = time.monotonic()
    cancelling = shell.start(
        "cancel", "--discovery-address", plane.discovery, "--task-id", task_id,
        "--grace", "20", terminal=True,
    )  # fmt: skip
    time.sleep(1)  # it is under way
    os.kill(plane.process_of("control-plane-1"), signal.SIGKILL)
    said = cancelling.read_terminal()
    code = cancelling.wait()
    assert time.monotonic() - started_at < 10
    assert (said.partition(":")[0].strip(), code) in {
        ("lost", Exit.TASK_FAILED),
        ("cancelled", Exit.OK),
    }
    # And it does not run again.
    assert plane.submit("add", "--args", "1", "2").stdout == "3\n"
    assert len(noted(shell, "begun-one")) == 1


# --- shutdown ---


def test_sigterm_hands_a_long_task_to_another_subworker_uncounted(shell: Shell) -> None:
    plane = Plane(shell)
    first = start_subworker(plane, "w1", "--drain-timeout", "1")
    napping = submit(plane, "nap", "one")
    holding = submit(plane, "hold", "two")
    wait_noted(shell, "begun-one")
    wait_noted(shell, "begun-two")
    second = start_subworker(plane, "w2")
    first.process.send_signal(signal.SIGTERM)
    asked_at = time.monotonic()
    assert first.wait() == Exit.OK
    assert 1 <= time.monotonic() - asked_at < 3
    wait_noted(shell, "begun-one", times=2)
    wait_noted(shell, "begun-two", times=2)
    assert noted(shell, "cleaned-one")
    release(shell, "two")
    wait_until(lambda: status(plane, holding)["status"] == "success", "two has ended")
    said = status(plane, holding)
    assert (said["result"], said["attempts"], said["worker_id"]) == (1, 1, "w2")
    said = status(plane, napping)
    assert (said["status"], said["worker_id"]) == ("started", "w2")
    assert cancel(plane, napping)[1]["outcome"] == "cancelled"
    second.process.send_signal(signal.SIGTERM)
    assert second.wait(3) == Exit.OK


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_control_plane_ends_within_its_time_and_says_what_is_lost(
    shell: Shell, processes: str
) -> None:
    plane = Plane(
        shell, "--task-modules", "mytasks", "--concurrency", "1", "--processes", processes,
        "--drain-timeout", "1", "--store", "memory",
    )  # fmt: skip
    submit(plane, "hold", "one")
    wait_noted(shell, "begun-one")
    submit(plane, "add", "1", "2")
    submit(plane, "add", "1", "2")
    plane.command.process.send_signal(signal.SIGTERM)
    asked_at = time.monotonic()
    plane.command.wait_for("draining, 1 task running, 2 waiting will be lost")
    plane.command.wait_for("2 tasks: 2 ready; these will be lost")
    assert plane.command.wait() == Exit.OK
    assert 1 <= time.monotonic() - asked_at < 3
    # What was interrupted has been handed back, or was still running.
    words = plane.command.stderr
    assert "3 tasks: 3 ready; these are lost" in words or "1 running, 2 ready" in words
    assert shell.processes() == []


def test_a_control_plane_with_a_store_says_that_what_waits_is_kept(shell: Shell) -> None:
    """L5."""
    options = ["--task-modules", "mytasks", "--concurrency", "1", "--drain-timeout", "1"]
    plane = Plane(shell, *options)
    submit(plane, "hold", "one")
    wait_noted(shell, "begun-one")
    submit(plane, "add", "1", "2")
    plane.command.process.send_signal(signal.SIGTERM)
    plane.command.wait_for("draining, 1 task running, 1 waiting are kept")
    assert plane.command.wait() == Exit.OK
    assert "lost" not in plane.command.stderr
    again = Plane(shell, *options, like=plane)
    assert "2 tasks and 0 results came back" in again.command.stderr


def test_a_subworker_whose_slots_are_all_taken_for_good_is_started_again(
    shell: Shell, plane: Plane
) -> None:
    task_id = submit(plane, "swallow", "one")
    wait_noted(shell, "begun-one")
    worn_out = plane.process_of("control-plane-1")
    assert cancel(plane, task_id, "--grace", "0.2") == (
        Exit.TASK_FAILED,
        {"task_id": task_id, "outcome": "abandoned"},
    )
    assert plane.submit("add", "--args", "1", "2").stdout == "3\n"
    assert plane.process_of("control-plane-1") != worn_out
    assert f"(process {worn_out}) ended with exit code 75" in plane.command.stderr
    assert len(noted(shell, "begun-one")) == 1


def test_a_control_plane_whose_own_slots_are_taken_for_good_says_so_and_goes_on(
    shell: Shell,
) -> None:
    plane = Plane(
        shell, "--task-modules", "mytasks", "--concurrency", "1", "--processes", "0"
    )  # fmt: skip
    task_id = submit(plane, "swallow", "one")
    wait_noted(shell, "begun-one")
    assert cancel(plane, task_id)[1]["outcome"] == "abandoned"
    plane.command.wait_for("restart the process to have them back")
    napping = submit(plane, "nap", "two")  # another lane still works
    wait_noted(shell, "begun-two")
    assert cancel(plane, napping)[1]["outcome"] == "cancelled"


def test_a_stopped_subworker_goes_on_and_is_cancelled_when_it_does(
    shell: Shell, plane: Plane
) -> None:
    task_id = submit(plane, "nap", "one")
    wait_noted(shell, "begun-one")
    process = plane.process_of("control-plane-1")
    os.kill(process, signal.SIGSTOP)
    try:
        code, _ = cancel(plane, task_id, "--timeout", "1")
        assert code == Exit.TIMED_OUT
        assert noted(shell, "cleaned-one") == []
    finally:
        os.kill(process, signal.SIGCONT)
    wait_noted(shell, "cleaned-one")
    assert cancel(plane, task_id)[1]["outcome"] == "cancelled"
