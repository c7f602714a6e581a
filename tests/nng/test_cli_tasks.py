"""``fastworker tasks``, ``requeue``, ``purge`` and ``store``, as they are typed."""

from __future__ import annotations

import json
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
    assert declined.returncode != 0
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
