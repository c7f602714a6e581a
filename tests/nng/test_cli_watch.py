"""``fastworker events``, ``workers``, ``queues`` and ``--watch``, as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import FASTWORKER, Plane, open_shell, wait_until
from tests.nng.test_cli_exit_codes import TASKS

pytestmark = [pytest.mark.nng, pytest.mark.slow]


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    shutil.copy(TASKS, tmp_path / "mytasks.py")
    with open_shell(tmp_path) as shell:
        plane = Plane(shell, "--task-modules", "mytasks")
        assert add(plane) == "3\n"
        yield plane


def add(plane: Plane, *more: str) -> str:
    return plane.submit("add", "--args", "1", "2", *more).stdout


def events(plane: Plane, *arguments: str) -> subprocess.Popen[str]:
    """Begin to listen; whoever goes on is heard of."""
    before = count_clients(plane)
    listener = subprocess.Popen(
        [*FASTWORKER, "events", "--discovery-address", plane.discovery, *arguments],
        env=plane.shell.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: count_clients(plane) > before, "it listens")
    return listener


def count_clients(plane: Plane) -> int:
    """How many are there, with the one that asks."""
    import trio

    from fastworker import Client

    async def ask() -> int:
        async with Client(plane.discovery) as client:
            return (await client._operations.overview()).clients

    return trio.run(ask)


def test_changes_are_shown_a_line_for_each(plane: Plane) -> None:
    listener = events(plane, "--status", "success", "--limit", "1")
    while listener.poll() is None:
        add(plane)
    out, err = listener.communicate()
    (line,) = out.splitlines()
    assert "  success  " in line
    assert line.endswith("  add  on control-plane-1")
    assert (listener.returncode, err) == (Exit.OK, "")


def test_changes_come_as_objects_of_json_chosen_by_options(plane: Plane) -> None:
    listener = events(
        plane, "--json", "--status", "success", "--name", "add", "--priority", "low",
        "--worker", "control-plane-1", "--limit", "2",
    )  # fmt: skip
    while listener.poll() is None:
        add(plane)
        add(plane, "--priority", "low")
    found = [json.loads(line) for line in listener.communicate()[0].splitlines()]
    assert len(found) == 2
    for change in found:
        assert (change["event"], change["status"], change["priority"], change["error"]) == (
            "change",
            "success",
            "low",
            None,
        )
    task_id = found[0]["task_id"]
    other = events(plane, "--json", "--task-id", task_id, "--limit", "1")
    while other.poll() is None:
        plane.shell.run("requeue", task_id, "--yes", "--discovery-address", plane.discovery)
    (change,) = [json.loads(line) for line in other.communicate()[0].splitlines()]
    assert change["task_id"] == task_id


def test_workers_and_queues_are_shown_once(plane: Plane) -> None:
    for command in ("workers", "queues"):
        done = plane.shell.run(command, "--discovery-address", plane.discovery)
        assert (done.returncode, done.stderr) == (Exit.OK, "")
    found = plane.shell.run("workers", "--json", "--discovery-address", plane.discovery)
    (worker,) = json.loads(found.stdout)["workers"]
    assert (worker["worker_id"], worker["status"]) == ("control-plane-1", "active")
    found = plane.shell.run("queues", "--json", "--discovery-address", plane.discovery)
    numbers = json.loads(found.stdout)
    assert [each["queued"] for each in numbers["queues"]] == [0, 0, 0, 0]
    assert (numbers["succeeded"], numbers["workers"]) == (1, 1)


@pytest.mark.parametrize("command", ["tasks", "workers", "queues", "events"])
def test_a_list_is_shown_again_until_ctrl_c(plane: Plane, command: str) -> None:
    options = [] if command == "events" else ["--watch"]
    watching = plane.shell.start(
        command, *options, "--discovery-address", plane.discovery, terminal=True
    )
    if command == "events":
        wait_until(lambda: count_clients(plane) > 1, "it listens")
    else:
        seen = ""

        def is_drawn_again() -> bool:
            nonlocal seen
            seen += os.read(watching.master, 65536).decode()
            word = {"tasks": "NUMBER", "workers": "WORKER", "queues": "QUEUE"}[command]
            return seen.count(word) >= 2

        wait_until(is_drawn_again, "it is drawn again")
    watching.press_ctrl_c()
    assert watching.wait(5) == Exit.INTERRUPTED
    assert watching.stderr.splitlines() == ["fastworker: SIGINT: stopped"]


def test_a_task_is_not_watched_by_its_id(plane: Plane) -> None:
    done = plane.shell.run("tasks", "x", "--watch", "--discovery-address", plane.discovery)
    assert done.returncode == Exit.USAGE
    assert "--watch is for lists" in done.stderr


def test_a_control_plane_that_comes_back_is_watched_on(plane: Plane) -> None:
    listener = events(plane, "--json", "--status", "success", "--limit", "1")
    plane.command.process.kill()
    plane.command.wait()
    again = Plane(plane.shell, "--task-modules", "mytasks", like=plane)
    while listener.poll() is None:
        add(again)
    found = [json.loads(line)["event"] for line in listener.communicate()[0].splitlines()]
    assert found == ["interrupted", "change"]
