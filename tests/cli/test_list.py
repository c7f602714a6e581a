"""``fastworker list`` with task modules: nothing is asked, modules are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastworker.cli._errors import Exit

TASKS = '''
from fastworker import task

@task
def zebra(stripes: int = 3) -> str:
    """Draw a zebra.

    Not shown.
    """

@task
async def aardvark(): ...

@task(name="mail.send", on_lost="fail")
def send(to: str): ...
'''
LISTED = "aardvark()\nmail.send(to: str)\nzebra(stripes: int = 3) -> str  Draw a zebra.\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own, lest its tasks stay in this one's registry.
    return subprocess.run(
        [sys.executable, "-P", "-m", "fastworker", "list", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "typed", [["mytasks"], ["mytasks.py"], ["mytasks", "json"], ["json,mytasks"]]
)
def test_list_prints_the_tasks_of_the_modules_in_the_current_folder(
    folder: Path, typed: list[str]
) -> None:
    (folder / "mytasks.py").write_text(TASKS)
    done = list_in(folder, "--task-modules", *typed)
    assert (done.returncode, done.stdout) == (0, LISTED)


def test_list_takes_the_modules_from_the_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mytasks.py").write_text(TASKS)
    monkeypatch.setenv("FASTWORKER_TASK_MODULES", "mytasks")
    assert list_in(folder).stdout == LISTED


def test_list_draws_a_tree_of_modules_and_dotted_names(folder: Path) -> None:
    (folder / "mytasks.py").write_text(TASKS)
    done = list_in(folder, "--tree", "--task-modules", "mytasks")
    assert done.stdout.splitlines() == [
        "mytasks",
        "├── aardvark()",
        "├── mail",
        "│   └── send(to: str)",
        "└── zebra(stripes: int = 3) -> str  Draw a zebra.",
    ]


def test_list_prints_objects_as_json(folder: Path) -> None:
    (folder / "mytasks.py").write_text(TASKS)
    done = list_in(folder, "--json", "--task-modules", "mytasks")
    found = {function["name"]: function for function in json.loads(done.stdout)}
    assert found["mail.send"] == {
        "name": "mail.send",
        "signature": "(to: str)",
        "doc": "",
        "lane": "thread",
        "on_lost": "fail",
        "module": "mytasks",
    }
    assert found["zebra"]["doc"] == "Draw a zebra."


def test_list_says_when_a_module_has_no_task(folder: Path) -> None:
    done = list_in(folder, "--task-modules", "json")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no task is registered in json; decorate a function" in done.stderr


def test_a_module_that_fails_to_import_is_told_with_its_place(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\nx / 0\n")
    done = list_in(folder, "--task-modules", "broken")
    assert done.returncode == Exit.BAD_CONFIGURATION
    assert "ZeroDivisionError" in done.stderr
    assert "broken.py:2" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_of_an_expected_error(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    done = list_in(folder, "--task-modules", "broken", "--log-level", "debug")
    assert done.returncode == Exit.BAD_CONFIGURATION
    assert "Traceback" in done.stderr
