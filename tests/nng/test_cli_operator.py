"""What operators ask a running control plane, and what scripts get, as typed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fastworker import Client
from fastworker.cli._errors import Exit
from tests.nng.shell import Plane, open_shell, wait_until
from tests.nng.test_cli_exit_codes import TASKS
from tests.ports import free_address

pytestmark = [pytest.mark.nng, pytest.mark.slow]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(TASKS, folder / "mytasks.py")
    with open_shell(folder) as shell:
        plane = Plane(shell, "--task-modules", "mytasks", "--processes", "2")
        for number in (1, 2):  # both have joined, not only started
            shell.run(
                "submit", "--discovery-address", plane.discovery, "--task-name", "add",
                "--args", "1", str(number),
            )  # fmt: skip
        wait_until(lambda: "control-plane-2" in listed(plane), "both workers have joined")
        yield plane


def listed(plane: Plane, *arguments: str) -> str:
    done = plane.shell.run("list", "--discovery-address", plane.discovery, *arguments)
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    return done.stdout


# --- list ---


def test_list_without_modules_asks_the_control_plane(plane: Plane) -> None:
    lines = listed(plane).splitlines()
    assert len(lines) == 8
    assert lines == sorted(lines)
    add = "add(x: int, y: int) -> int  Add two numbers.  [control-plane-1, control-plane-2]"
    assert sorted(lines[0]) == sorted(add), "the workers are in the order in which they joined"


def test_list_groups_live_tasks_by_their_dotted_names(plane: Plane) -> None:
    lines = listed(plane, "--tree").splitlines()
    position = lines.index("mail")
    assert lines[position + 1].startswith("└── echo(*values, **named)  [control-plane-")


def test_list_as_json_names_the_workers(plane: Plane) -> None:
    found = {function["name"]: function for function in json.loads(listed(plane, "--json"))}
    add = found["add"]
    assert sorted(add.pop("workers")) == ["control-plane-1", "control-plane-2"]
    assert add == {
        "name": "add",
        "signature": "(x: int, y: int) -> int",
        "doc": "Add two numbers.",
        "lane": "thread",
        "on_lost": "retry",
        "worker_count": 2,
    }
    assert found["wait_for_ever"]["lane"] == "trio"


def test_list_says_when_no_worker_is_there(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        plane = Plane(shell)
        done = shell.run("list", "--discovery-address", plane.discovery)
        assert (done.returncode, done.stdout) == (Exit.OK, "")
        assert "no worker of the control plane" in done.stderr
        assert plane.discovery in done.stderr
        done = shell.run("list", "--discovery-address", plane.discovery, "--json")
        assert done.stdout == "[]\n"


# --- submit ---


def test_kwargs_go_along_with_args(plane: Plane) -> None:
    done = plane.submit(
        "mail.echo", "--args", "-5", "text", "--kwargs", '{"priority": 1, "task_name": "x"}'
    )
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert json.loads(done.stdout) == [[-5, "text"], {"priority": 1, "task_name": "x"}]


def test_kwargs_go_along_without_waiting_too(plane: Plane) -> None:
    names = '{"priority": 1, "task_name": "x"}'
    done = plane.submit("mail.echo", "--kwargs", names, "--non-blocking", "--json")
    ticket = json.loads(done.stdout)
    assert ticket["status"] == "pending"
    wait_until(lambda: "success" in plane.status(ticket["task_id"]).stdout, "success")
    shown = json.loads(plane.status(ticket["task_id"]).stdout)
    assert shown["result"] == [[], {"priority": 1, "task_name": "x"}]
    assert list(ticket) == list(shown)


def test_json_has_the_id_the_times_and_the_worker(plane: Plane) -> None:
    done = plane.submit("today", "--json")
    assert done.returncode == Exit.OK
    shown = json.loads(done.stdout)
    assert shown["status"] == "success"
    assert shown["result"] == "2024-02-29"
    assert shown["worker_id"] in ("control-plane-1", "control-plane-2")
    assert shown["started_at"] <= shown["completed_at"]
    assert shown == json.loads(plane.status(shown["task_id"]).stdout)


def test_json_tells_of_a_failure_too(plane: Plane) -> None:
    done = plane.submit("fail", "--json")
    assert done.returncode == Exit.TASK_FAILED
    shown = json.loads(done.stdout)
    assert (shown["status"], shown["error"]) == ("failure", "ValueError: of no use")
    assert "of no use" in done.stderr


def test_an_unknown_task_is_an_object_too_with_json(plane: Plane) -> None:
    done = plane.shell.run(
        "status", "--json", "--task-id", "x", "--discovery-address", plane.discovery
    )
    assert done.returncode == Exit.UNKNOWN
    assert json.loads(done.stdout)["status"] == "unknown"


# --- callbacks ---


def test_callbacks_that_nobody_takes_are_shown_with_the_reason(plane: Plane) -> None:
    address = free_address()

    async def submit() -> str:
        async with Client(plane.discovery) as client:
            return await client.delay_with_callback("add", address, 1, 2)

    task_id = trio.run(submit)

    def asked(*arguments: str) -> str:
        done = plane.shell.run("callbacks", "--discovery-address", plane.discovery, *arguments)
        assert done.returncode == Exit.OK, done.stderr
        return done.stdout

    wait_until(lambda: "retrying  tcp" in asked(), "the first try has failed")
    numbers, line = asked().splitlines()
    assert numbers == "1 due: 0 delivered, 0 queued, 1 retrying, 0 parked, 0 dropped"
    assert address in line
    assert task_id in line

    shown = json.loads(asked("--json", "--state", "retrying"))
    (callback,) = shown["callbacks"]
    assert (callback["state"], callback["address"]) == ("retrying", address)
    assert callback["task_id"] == task_id
    assert callback["tries"] >= 1
    assert callback["error"]
    assert json.loads(asked("--json", "--state", "parked"))["callbacks"] == []
