"""``fastworker tasks``, ``requeue``, ``purge`` and ``store``, as they are typed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nng.shell import Plane, Shell, open_shell

pytestmark = pytest.mark.nng

TASKS = """
from fastworker import task

@task
def add(a: int, b: int) -> int:
    return a + b

@task
def bad(why: str) -> None:
    raise ValueError(why)
"""


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    (tmp_path / "kept_tasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        plane = Plane(shell, "--task-modules", "kept_tasks", "--store", "tasks.db")
        assert plane.submit("add", "--args", "1", "2").returncode == 0
        assert plane.submit("bad", "--args", "no luck").returncode == 1
        yield plane


def ask(plane: Plane, command: str, *arguments: str) -> Any:
    done = plane.shell.run(
        command, "--discovery-address", plane.discovery, "--json", *arguments
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tasks_are_shown_chosen_and_paged(plane: Plane) -> None:
    names = [task["name"] for task in ask(plane, "tasks")["tasks"]]
    assert names == ["bad", "add"]
    (failed,) = ask(plane, "tasks", "--status", "failure")["tasks"]
    assert failed["error"] == "ValueError: no luck"
    assert ask(plane, "tasks", "--last", "0s")["tasks"] == []
    page = ask(plane, "tasks", "--limit", "1")
    (last,) = ask(plane, "tasks", "--before", str(page["next"]))["tasks"]
    assert last["name"] == "add"
    table = plane.shell.run("tasks", "--discovery-address", plane.discovery)
    header, *lines = table.stdout.splitlines()
    assert header.split()[:3] == ["NUMBER", "TASK", "NAME"]
    assert "ValueError: no luck" in lines[0]
    one = ask(plane, "tasks", failed["task_id"])
    assert "Traceback" in one["traceback"]
    assert one["arguments"] == '[["no luck"],{}]'


def test_a_failed_task_is_queued_again_and_others_are_forgotten(plane: Plane) -> None:
    (failed,) = ask(plane, "tasks", "--status", "failure")["tasks"]
    assert ask(plane, "requeue", failed["task_id"])["done"] == [failed["task_id"]]
    (added,) = ask(plane, "tasks", "--name", "add")["tasks"]
    assert ask(plane, "purge", "--status", "success", "--yes")["done"] == [added["task_id"]]
    assert ask(plane, "tasks", "--name", "add")["tasks"] == []
    gone = plane.shell.run("requeue", "--discovery-address", plane.discovery, added["task_id"])
    assert gone.returncode == 3
    assert "no such task is kept" in gone.stderr


def test_nothing_is_done_to_all_tasks_by_mistake(plane: Plane) -> None:
    for wrong in ([], ["some-id", "--status", "failure"]):
        refused = plane.shell.run("purge", "--discovery-address", plane.discovery, *wrong)
        assert refused.returncode == 2
        assert "say which tasks" in refused.stderr
    declined = plane.shell.run(
        "purge", "--discovery-address", plane.discovery, "--status", "failure", input="n\n"
    )
    assert declined.returncode == 1
    assert "nothing was done" in declined.stderr
    agreed = plane.shell.run(
        "purge", "--discovery-address", plane.discovery, "--status", "expired", input=""
    )
    assert (agreed.returncode, agreed.stdout) == (0, "0 tasks forgotten\n")
    assert len(ask(plane, "tasks")["tasks"]) == 2


def test_the_file_can_be_looked_at_checked_and_shrunk(plane: Plane, tmp_path: Path) -> None:
    shell: Shell = plane.shell
    facts = json.loads(shell.run("store", "info", "tasks.db", "--json").stdout)
    assert facts["tasks"] == {"success": 1, "failure": 1}
    assert facts["epoch"] > 0
    assert shell.run("store", "check", "tasks.db").stdout == "2 tasks read, nothing damaged\n"
    busy = shell.run("store", "vacuum", "tasks.db")
    assert busy.returncode == 78
    assert "another process has tasks.db open" in busy.stderr
    plane.command.process.kill()
    plane.command.wait()
    assert shell.run("store", "vacuum", "tasks.db").returncode == 0
    file = tmp_path / "tasks.db"
    text = file.read_bytes()
    at = text.index(b"no luck")
    file.write_bytes(text[:at] + b"NO" + text[at + 2 :])
    damaged = shell.run("store", "check", "tasks.db")
    assert damaged.returncode == 1
    assert "does not fit" in damaged.stdout
    missing = shell.run("store", "info", "nowhere.db")
    assert missing.returncode == 78
    assert "nowhere.db is not there" in missing.stderr


def test_tasks_are_chosen_by_everything_that_a_row_says(plane: Plane) -> None:
    assert plane.submit("add", "--args", "3", "4", "--priority", "high").returncode == 0
    low, bad, high = reversed(ask(plane, "tasks")["tasks"])
    chosen = {
        ("--status", "success"): [high, low],
        ("--status", "failure", "--status", "pending"): [bad],
        ("--name", "add"): [high, low],
        ("--name", "ad"): [],
        ("--worker", low["worker_id"]): [high, bad, low],
        ("--worker", "nobody"): [],
        ("--priority", "high"): [high],
        ("--priority", "high", "--priority", "normal", "--status", "failure"): [bad],
        ("--last", "1h"): [high, bad, low],
        ("--older", "1h"): [],
        # Longer ago than there is time; not "at any time".
        ("--older", "99999d"): [],
        ("--last", "99999d", "--older", "0s"): [high, bad, low],
    }
    for options, expected in chosen.items():
        assert ask(plane, "tasks", *options)["tasks"] == expected, options
    for options in (("--older", "99999d"), ("--priority", "low"), ("--worker", "nobody")):
        assert ask(plane, "purge", *options, "--yes") == {"done": [], "untouched": []}
    options = ["--name", "add", "--priority", "high", "--worker", low["worker_id"]]
    done = ask(plane, "requeue", *options, "--status", "success", "--last", "1h", "--yes")
    assert done == {"done": [high["task_id"]], "untouched": []}
    done = ask(plane, "purge", "--older", "0s", "--status", "failure", "--yes")
    assert done["done"] == [bad["task_id"]]


def test_what_cannot_be_meant_is_wrong_usage(plane: Plane) -> None:
    for wrong in (
        # What an unset variable of a script comes to must not mean "all".
        ["purge", "--yes", "--name", ""],
        ["purge", "--yes", "--worker", ""],
        ["purge", "--yes", ""],
        ["requeue", "--yes", "--name", "x" * 257],
        ["tasks", "x" * 257],
        ["tasks", os.fsdecode(b"\xff")],
        ["tasks", "some-id", "--status", "failure"],
        ["tasks", "some-id", "--before", "3"],
        ["tasks", "--before", "9" * 30],
        ["tasks", "--limit", "1001"],
        ["tasks", "--last", "soon"],
        ["purge", "--status", "started"],
    ):
        refused = plane.shell.run(*wrong, "--discovery-address", plane.discovery)
        assert refused.returncode == 2, (wrong, refused)
        assert "Traceback" not in refused.stderr
    assert len(ask(plane, "tasks")["tasks"]) == 2


def test_ctrl_c_at_the_question_leaves_everything_as_it_was(plane: Plane) -> None:
    asking = plane.shell.start(
        "purge",
        "--discovery-address",
        plane.discovery,
        "--status",
        "failure",
        terminal=True,
    )
    asking.wait_for("forget 1 task?")
    asking.press_ctrl_c()
    assert asking.wait() == 130
    assert "Traceback" not in asking.stderr
    assert len(ask(plane, "tasks")["tasks"]) == 2


def test_the_file_of_a_control_plane_is_found_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "kept_tasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        plane = Plane(shell, "--task-modules", "kept_tasks", "--worker-id", "shop")
        assert plane.submit("add", "--args", "1", "2").returncode == 0
        which = ["--worker-id", "shop", "--base-address", plane.base]
        assert json.loads(shell.run("store", "info", *which, "--json").stdout)["tasks"] == {
            "success": 1
        }
        checked = shell.run("store", "check", *which, "--json")
        assert json.loads(checked.stdout)["tasks"] == 1
        plane.command.process.kill()
        plane.command.wait()
        assert shell.run("store", "vacuum", *which).returncode == 0
        nobody = shell.run("store", "info", "--base-address", plane.base)
        assert nobody.returncode == 78
        assert "is not there" in nobody.stderr


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, and long enough to be looked at" * 9)
    (tmp_path / "empty.db").write_text("")
    with open_shell(tmp_path) as shell:
        for file in ("text.db", "empty.db"):
            for command in ("info", "check", "vacuum"):
                done = shell.run("store", command, file)
                assert done.returncode in (75, 78), (command, file, done)
                assert done.stderr.count("\n") == 1
                assert file in done.stderr
