"""``fastworker control-plane`` whose disk fails, and works again, without a restart."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.nng.disk import Disk
from tests.nng.shell import Background, Plane, Shell, open_shell, wait_until

pytestmark = pytest.mark.nng

TASKS = """
import pathlib, time
from fastworker import task

@task
def note(what: str) -> str:
    with open("ran", "a") as file:
        file.write(what + "\\n")
    return what

@task
def wait(what: str) -> str:
    pathlib.Path("began").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    with open("ran", "a") as file:
        file.write(what + "\\n")
    return what
"""

ONE_AT_A_TIME = ("--task-modules", "kept_tasks", "--concurrency", "1", "--store", "tasks.db")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return Disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def disk(built: Disk) -> Iterator[Disk]:
    yield built
    built.work()


@pytest.fixture
def shell(disk: Disk, tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "kept_tasks.py").write_text(TASKS)
    with open_shell(tmp_path) as shell:
        names = ("LD_PRELOAD", "FASTWORKER_TEST_FAULTS")
        shell.environ.update({name: disk.environment[name] for name in names})
        yield shell


@pytest.fixture
def plane(shell: Shell) -> Plane:
    """One that runs a task at a time: what was begun ahead of its commit is not refused."""
    return Plane(shell, *ONE_AT_A_TIME)


def ran(shell: Shell) -> list[str]:
    file = shell.folder / "ran"
    return file.read_text().split() if file.exists() else []


def start_waiting(plane: Plane) -> Background:
    """Submit a task that runs until the file ``go`` is there; return its caller."""
    caller = plane.start_submit("wait", "--args", "first")
    wait_until(lambda: (plane.shell.folder / "began").exists(), "it runs")
    return caller


def submit_until_taken(plane: Plane, what: str) -> str:
    """Submit a task as soon as the store takes some again; return its id."""
    done = []

    def is_taken() -> bool:
        done.append(plane.submit("note", "--args", what, "--non-blocking"))
        assert done[-1].returncode in (0, 75), done[-1].stderr
        return done[-1].returncode == 0

    wait_until(is_taken, "the store works again")
    return done[-1].stdout.strip()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("full", id="D1"),
        pytest.param("readonly", id="D2"),
        pytest.param("nosync", id="D3"),
    ],
)
def test_submits_are_refused_while_the_disk_fails_and_all_goes_on_afterwards(
    fault: str, disk: Disk, shell: Shell, plane: Plane
) -> None:
    """D1, D2, D3: the task that runs goes on; its outcome comes when it can be kept."""
    caller = start_waiting(plane)
    disk.fail(fault)
    for _ in range(2):
        refused = plane.submit("note", "--args", "refused", "--non-blocking")
        assert refused.returncode == 75, refused.stdout + refused.stderr
        assert "tasks.db" in refused.stderr
        assert "Traceback" not in refused.stderr
    (shell.folder / "go").touch()
    wait_until(lambda: ran(shell), "it goes on")
    assert caller.process.poll() is None, "an outcome that is not kept is not told"
    disk.work()
    assert caller.wait() == 0, caller.stderr
    submit_until_taken(plane, "second")
    wait_until(lambda: len(ran(shell)) == 2, "the next one runs")
    assert ran(shell) == ["first", "second"]
    with closing(sqlite3.connect(shell.folder / "tasks.db")) as file:
        assert file.execute("SELECT count(*) FROM tasks").fetchone() == (2,)
    assert plane.command.process.poll() is None
    assert "the store can be written again" in plane.command.stderr


def test_a_slow_disk_makes_answers_late_and_nothing_stops(
    disk: Disk, shell: Shell, plane: Plane
) -> None:
    """D4: what rests on no commit is answered at once; what does comes late, and right."""
    caller = start_waiting(plane)
    disk.fail("slow")
    late = plane.start_submit("note", "--args", "late")
    for _ in range(3):
        listing = shell.run("list", "--discovery-address", plane.discovery)
        assert listing.returncode == 0, listing.stderr
    (shell.folder / "go").touch()
    assert caller.wait() == 0, caller.stderr
    assert late.wait() == 0, late.stderr
    assert sorted(ran(shell)) == ["first", "late"]
    assert not re.search("refused|lost|cannot", plane.command.stderr), plane.command.stderr


def test_a_file_that_was_deleted_is_written_again_and_nothing_is_missing(
    shell: Shell, plane: Plane
) -> None:
    """D2."""
    caller = start_waiting(plane)
    for name in ("tasks.db", "tasks.db-wal", "tasks.db-shm"):
        (shell.folder / name).unlink()
    submit_until_taken(plane, "second")
    wait_until(lambda: "has been written again" in plane.command.stderr, "it is said")
    plane.command.process.kill()
    plane.command.wait()
    assert caller.process.poll() is None
    again = Plane(shell, "--task-modules", "kept_tasks", "--store", "tasks.db", like=plane)
    (shell.folder / "go").touch()
    assert caller.wait(within=60) == 0, caller.stderr
    wait_until(lambda: {"first", "second"} <= set(ran(shell)), "both have run")
    assert again.command.process.poll() is None


def test_a_damaged_task_is_named_at_the_start_and_the_others_run(
    shell: Shell, plane: Plane
) -> None:
    """D5."""
    caller = start_waiting(plane)
    for what in ("bad", "good"):
        done = plane.submit("note", "--args", f"{what}-argument", "--non-blocking")
        assert done.returncode == 0, done.stderr
    for command in (plane.command, caller):
        command.process.kill()
        command.wait()
    path = shell.folder / "tasks.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(
            "UPDATE tasks SET spec=CAST(replace(spec, 'bad-argument', 'BAD-argument') AS BLOB)"
            " WHERE instr(spec, 'bad-argument')"
        )
    (shell.folder / "go").touch()
    again = Plane(shell, *ONE_AT_A_TIME, like=plane)
    wait_until(lambda: "good-argument" in ran(shell), "what is sound runs")
    assert "the checksum of its arguments does not fit" in again.command.stderr
    assert not {"bad-argument", "BAD-argument"} & set(ran(shell))
