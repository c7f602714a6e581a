"""Task modules load by name or file, and say in words why when they do not."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker._errors import ConfigurationError
from fastworker._modules import load_task_modules, split_module_names
from fastworker._registry import Registry, registry

TASK = "from fastworker._registry import task\n\n@task\ndef {name}():\n    pass\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; imports and registrations are undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(registry, "_functions", {})
    monkeypatch.setattr(registry, "_names", {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


@pytest.mark.parametrize("given", ["mytasks", "mytasks.py", "./mytasks.py", "x/../mytasks.py"])
def test_a_module_is_named_or_given_as_a_file(folder: Path, given: str) -> None:
    write(folder, "mytasks.py", TASK.format(name="add"))
    load_task_modules([given])
    assert registry.find("add").module == "mytasks"


@pytest.mark.parametrize("given", ["pkg.tasks", "pkg/tasks.py", "./pkg/tasks.py", "pkg/tasks"])
@pytest.mark.parametrize("has_init", [True, False])
def test_a_module_of_a_package_is_too(folder: Path, given: str, has_init: bool) -> None:
    write(folder, "pkg/tasks.py", TASK.format(name="add"))
    if has_init:
        write(folder, "pkg/__init__.py", "")
    load_task_modules([given])
    assert registry.find("add").module == "pkg.tasks"


@pytest.mark.parametrize("given", ["pkg", "pkg/", "pkg/__init__.py"])
def test_a_package_is_a_module(folder: Path, given: str) -> None:
    write(folder, "pkg/__init__.py", TASK.format(name="add"))
    load_task_modules([given])
    assert registry.find("add").module == "pkg"


def test_an_absolute_path_inside_the_folder_is_one_of_its_modules(folder: Path) -> None:
    write(folder, "mytasks.py", TASK.format(name="add"))
    load_task_modules([str(folder / "mytasks.py")])
    assert registry.names() == ["add"]


def test_the_current_folder_comes_first_on_the_path_once(folder: Path) -> None:
    write(folder, "mytasks.py", TASK.format(name="add"))
    load_task_modules(["mytasks"])
    load_task_modules(["mytasks"])
    assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize("given", ["../mytasks.py", "/elsewhere/mytasks.py"])
def test_a_file_outside_the_folder_is_refused(folder: Path, given: str) -> None:
    with pytest.raises(ConfigurationError, match="not inside the current folder"):
        load_task_modules([given])


@pytest.mark.parametrize(
    "given", ["my-tasks.py", "my-tasks", "1tasks", "a..b", ".tasks", "pkg:x"]
)
def test_what_is_no_name_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be imported; use a name such as"):
        load_task_modules([given])


def test_a_missing_module_names_the_folder_and_what_is_like_it(folder: Path) -> None:
    write(folder, "mytasks.py", "")
    write(folder, "shop/orders.py", "")
    with pytest.raises(ConfigurationError) as caught:
        load_task_modules(["mytask"])
    assert str(caught.value) == (
        f"no task module 'mytask' in {folder} or elsewhere on sys.path; did you mean 'mytasks'?"
    )
    with pytest.raises(ConfigurationError, match=r"did you mean 'shop\.orders'"):
        load_task_modules(["orders"])
    with pytest.raises(ConfigurationError, match=r"modules there: mytasks, shop\.orders"):
        load_task_modules(["zzz"])
    with pytest.raises(ConfigurationError, match=r"no task module 'mytasks\.sub'"):
        load_task_modules(["mytasks.sub"])


def test_a_missing_module_in_an_empty_folder_says_where_to_go() -> None:
    with pytest.raises(ConfigurationError, match="change to the folder that holds it"):
        load_task_modules(["zzz.py"])


def test_a_module_that_fails_shows_its_own_error_and_line(folder: Path) -> None:
    write(folder, "inner.py", "\n\nlimit = 1 / 0\n")
    write(folder, "mytasks.py", "import inner\n")
    with pytest.raises(ConfigurationError) as caught:
        load_task_modules(["mytasks"])
    assert str(caught.value) == (
        f"task module 'mytasks' failed to import: ZeroDivisionError: division by zero "
        f"({folder / 'inner.py'}:3)"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "\nimport no_such_thing\n",
            r"ModuleNotFoundError: No module named 'no_such_thing' .*:2",
        ),
        ("\ndef broken(:\n", r"SyntaxError: invalid syntax \(.*mytasks\.py:2\)"),
        ("\nimport sys\nsys.exit(3)\n", r"SystemExit: 3; put what .* \(.*mytasks\.py:3\)"),
        ("from os import no_such", r"ImportError: cannot import name 'no_such'.*mytasks\.py:1"),
        (
            "from fastworker._registry import task\n\n@task\nclass X:\n    pass\n",
            r"X is a class.* \(.*mytasks\.py:3\)",
        ),
    ],
)
def test_each_kind_of_failure_points_into_the_module(
    folder: Path, text: str, words: str
) -> None:
    write(folder, "mytasks.py", text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_task_modules(["mytasks"])
    assert caught.value.__cause__ is not None


def test_an_interrupt_while_importing_is_an_interrupt(folder: Path) -> None:
    write(folder, "mytasks.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_task_modules(["mytasks"])


def test_a_file_hidden_by_another_module_is_told_so(folder: Path) -> None:
    write(folder, "json.py", TASK.format(name="add"))
    with pytest.raises(ConfigurationError, match=r"json\.py was not loaded.*rename the file"):
        load_task_modules(["json"])


def test_a_module_without_tasks_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, "mytasks.py", "def add(): pass\n")
    with caplog.at_level(logging.WARNING):
        load_task_modules(["mytasks"])
    assert "mytasks registers no task" in caplog.text


def test_a_module_whose_tasks_are_known_already_is_not_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, "mytasks.py", TASK.format(name="add"))
    write(folder, "all_tasks.py", "from mytasks import add\n")
    with caplog.at_level(logging.WARNING):
        load_task_modules(["mytasks", "mytasks", "all_tasks"])
    assert caplog.text == ""


def test_a_module_that_fills_another_registry_than_asked_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, "mytasks.py", TASK.format(name="add"))
    load_task_modules(["mytasks"], into=Registry())
    assert "registers no task" in caplog.text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a b", ["a", "b"]),
        (" a ,\tb,, c\n", ["a", "b", "c"]),
        (["a,b", "b c"], ["a", "b", "c"]),
        ([], []),
    ],
)
def test_lists_of_modules_are_split(text: str | list[str], names: list[str]) -> None:
    assert split_module_names(text) == names
