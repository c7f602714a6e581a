"""Where the commands listen, and what PICKLE does for them, as a user types it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit
from tests.nng.shell import Plane, Shell, open_shell
from tests.ports import free_port

pytestmark = [pytest.mark.nng, pytest.mark.slow]

TASKS = """
import time
from fastworker import task

@task
def pair():
    return {(1, 2): {3}}  # no JSON has such keys

@task
def hold():
    time.sleep(60)

@task
def show(value):
    return repr(value)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mytasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        yield shell


def test_every_interface_is_refused_and_with_insecure_it_is_warned_of(shell: Shell) -> None:
    # X1 in docs/faults.md.
    ports = free_port(), free_port()
    arguments = [
        f"--base-address=tcp://0.0.0.0:{ports[0]}",
        f"--discovery-address=tcp://0.0.0.0:{ports[1]}",
        "--subworker-port=0",
        "--processes=0",
    ]
    refused = shell.run("control-plane", *arguments)
    assert refused.returncode == Exit.BAD_CONFIGURATION
    assert refused.stderr.count("\n") == 1
    assert f"base_address=tcp://0.0.0.0:{ports[0]}" in refused.stderr
    assert "--insecure" in refused.stderr
    plane = shell.start("control-plane", *arguments, "--insecure")
    plane.wait_for("  run by ")
    assert plane.stderr.count("INSECURE: whoever can connect to ") == 1
    socket.create_connection(("127.0.0.1", ports[0]), 5).close()
    shell.environ["FASTWORKER_INSECURE"] = "1"
    also = shell.start("control-plane", "--base-address=tcp://0.0.0.0:0",
                       "--discovery-address=tcp://0.0.0.0:0", "--subworker-port=0")  # fmt: skip
    also.wait_for("INSECURE: ")


def test_pickle_beyond_this_machine_is_refused_with_insecure_too(shell: Shell) -> None:
    for command in (
        ["control-plane", "--base-address=tcp://0.0.0.0:5999", "--insecure"],
        ["subworker", "--worker-id=w", "--control-plane-address=tcp://10.9.9.9:5560"],
        ["submit", "--task-name=pair", "--discovery-address=tcp://10.9.9.9:5550"],
    ):
        refused = shell.run(*command, "--serialization-format=pickle")
        assert refused.returncode == Exit.BAD_CONFIGURATION, command
        assert "serialization_format=PICKLE with " in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_pickle_goes_all_the_way_where_all_have_chosen_it(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules=mytasks", "--serialization-format=pickle")
    done = plane.submit("pair", "--serialization-format=pickle")
    assert (done.returncode, done.stdout.strip()) == (0, '{"[1, 2]": [3]}')
    done = plane.submit("show", "--serialization-format=pickle", "--args", "[1]")
    assert (done.returncode, done.stdout.strip()) == (0, '"[1]"')
    in_json = plane.submit("show", "--args", "[1]")
    assert (in_json.returncode, in_json.stdout.strip()) == (0, '"[1]"')


def test_pickled_arguments_are_a_failure_where_json_was_chosen(shell: Shell) -> None:
    plane = Plane(shell, "--task-modules=mytasks")
    refused = plane.submit("show", "--serialization-format=pickle", "--args", "1")
    assert refused.returncode == Exit.TASK_FAILED
    assert "PICKLE arguments refused: this worker accepts JSON only" in refused.stderr
    in_json = plane.submit("pair")
    assert in_json.returncode == Exit.TASK_FAILED  # its result cannot travel


def test_a_full_queue_exits_with_75_and_says_so(shell: Shell) -> None:
    plane = Plane(shell, "--max-queued=2", "--task-modules=mytasks")
    for _ in range(2):
        assert plane.submit("hold", "--non-blocking").returncode == 0
    full = plane.submit("show", "--args", "1")
    assert full.returncode == Exit.TRY_AGAIN
    assert "the queue is full: 2 tasks have not ended, and max_queued=2" in full.stderr
