"""Options of the commands arrive where they have their effect."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import Plane, Shell, open_shell, wait_until
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = """
import sniffio
from fastworker import task

@task
def add(x: int, y: int) -> int:
    return x + y

@task
async def library() -> str:
    return sniffio.current_async_library()
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        yield shell


def submit_to_its_end(plane: Plane) -> str:
    task_id = plane.submit("add", "--args", "1", "2", "--non-blocking").stdout.strip()
    wait_until(lambda: "success" in plane.status(task_id).stdout, "success")
    return task_id


def test_the_result_cache_holds_as_many_as_was_said(shell: Shell) -> None:
    plane = Plane(
        shell, "--task-modules", "mytasks", "--result-cache-size", "1", "--store", "memory"
    )
    first, second = submit_to_its_end(plane), submit_to_its_end(plane)
    assert json.loads(plane.status(first).stdout)["status"] == "evicted"
    assert json.loads(plane.status(second).stdout)["result"] == 3


def test_the_result_cache_holds_them_for_as_long_as_was_said(shell: Shell) -> None:
    plane = Plane(
        shell, "--task-modules", "mytasks", "--result-cache-ttl", "3", "--store", "memory"
    )
    task_id = submit_to_its_end(plane)
    wait_until(lambda: "evicted" in plane.status(task_id).stdout, "it is no longer kept")


def test_what_the_result_cache_has_let_go_is_still_in_the_file(shell: Shell) -> None:
    """S13: the bound of the cache is one of memory, not of what is known."""
    plane = Plane(shell, "--task-modules", "mytasks", "--result-cache-size", "1")
    first, second = submit_to_its_end(plane), submit_to_its_end(plane)
    for task_id in (first, second):
        assert json.loads(plane.status(task_id).stdout)["result"] == 3


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_async_tasks_run_on_the_loop_that_was_chosen(shell: Shell, backend: str) -> None:
    plane = Plane(shell, "--task-modules", "mytasks", "--backend", backend)
    assert json.loads(plane.submit("library").stdout) == backend


def test_a_subworker_has_a_loop_of_its_own(shell: Shell) -> None:
    plane = Plane(shell)
    shell.start(
        "subworker", "--worker-id", "w1", "--control-plane-address", plane.management,
        "--task-modules", "mytasks", "--backend", "asyncio", "--concurrency", "2",
        "--base-address", "tcp://127.0.0.1:5999", "--discovery-address", plane.discovery,
    )  # fmt: skip
    assert json.loads(plane.submit("library").stdout) == "asyncio"


def test_pickle_is_accepted_where_it_was_chosen_and_refused_elsewhere(shell: Shell) -> None:
    pickle = ("--serialization-format", "pickle")
    willing = Plane(shell, "--task-modules", "mytasks", *pickle)
    assert willing.submit("add", "--args", "1", "2", *pickle).stdout == "3\n"
    strict = Plane(shell, "--task-modules", "mytasks")
    refused = strict.submit("add", "--args", "1", "2", *pickle)
    assert (refused.returncode, refused.stdout) == (Exit.TASK_FAILED, "")
    assert "pickle" in refused.stderr.lower()


def test_status_has_a_time_and_a_format_of_its_own(shell: Shell) -> None:
    pickle = ("--serialization-format", "pickle")
    plane = Plane(shell, "--task-modules", "mytasks", *pickle)
    submitted = plane.submit("add", "--args", "1", "2", "--non-blocking", *pickle)
    task = ("status", f"--discovery-address={plane.discovery}", "--task-id")
    task = (*task, submitted.stdout.strip())
    wait_until(lambda: '"result":3' in compact(shell.run(*task, *pickle).stdout), "its result")
    assert shell.run(*task).returncode == Exit.BAD_CONFIGURATION
    refused = shell.run(*task, "--timeout", "-1")
    assert (refused.returncode, "timeout=-1" in refused.stderr) == (
        Exit.BAD_CONFIGURATION,
        True,
    )


def compact(text: str) -> str:
    return text.replace(" ", "")


def test_list_without_modules_asks_the_control_plane(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks")
    ask = ("list", "--discovery-address", plane.discovery, "--json")
    plane.submit("add", "--args", "1", "2")  # so that its worker is there
    done = shell.run(*ask, "--timeout", "20", "--serialization-format", "json")
    assert [each["name"] for each in json.loads(done.stdout)] == ["add", "library"]
    assert shell.run(*ask, "--timeout", "0").returncode == Exit.BAD_CONFIGURATION


def test_callbacks_that_have_not_arrived_are_shown(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules", "mytasks")
    (shell.folder / "call.py").write_text(
        "from fastworker import SyncClient\n"
        f"with SyncClient({plane.discovery!r}) as client:\n"
        f"    client.delay_with_callback('add', {free_address()!r}, 1, 2)\n"
    )
    subprocess.run([sys.executable, "call.py"], cwd=shell.folder, check=True)
    ask = ("callbacks", "--discovery-address", plane.discovery, "--timeout", "20", "--json")

    def shown(*options: str) -> int:
        answer = json.loads(shell.run(*ask, *options).stdout)
        return len(answer["callbacks"])

    wait_until(lambda: shown("--state", "retrying") == 1, "it waits for its next try")
    assert shown("--state", "parked") == 0
    assert shown("--limit", "0") == 0


def test_the_label_of_a_control_plane_is_shown(shell: Shell) -> None:
    plane = Plane(shell, "--worker-id", "north")
    assert "control plane 'north'" in plane.command.stderr


def test_callbacks_go_where_the_control_plane_was_told(shell: Shell) -> None:
    plane = Plane(
        shell, "--task-modules", "mytasks",
        "--callback-allow", "192.0.2.0/24", "--callback-allow", "hooks.invalid:9000",
    )  # fmt: skip
    (shell.folder / "call.py").write_text(
        "import sys\n"
        "from fastworker import SyncClient\n"
        f"with SyncClient({plane.discovery!r}) as client:\n"
        "    client.delay_with_callback('add', sys.argv[1], 1, 2)\n"
    )

    def call(address: str) -> str:
        command = [sys.executable, "call.py", address]
        return subprocess.run(command, cwd=shell.folder, capture_output=True, text=True).stderr

    assert call("tcp://192.0.2.7:9000") == call("tcp://hooks.invalid:9000") == ""
    for refused in ("tcp://hooks.invalid:9001", "tcp://198.51.100.1:9000", plane.discovery):
        assert f"fastworker.ConfigurationError: callback_address={refused}" in call(refused)
