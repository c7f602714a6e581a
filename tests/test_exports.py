"""``import fastworker`` gives every public name, and loads only what is used."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import fastworker
from fastworker import _errors

HEAVY = {"trio", "pynng", "anyio", "click", "msgspec", "asyncio", "cachetools", "rich"}


def modules_after(code: str) -> set[str]:
    """What a fresh interpreter has loaded after running ``code``."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("name", fastworker.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(fastworker, name) is not None
    assert name in dir(fastworker)


def test_no_public_name_is_listed_twice() -> None:
    assert len(fastworker.__all__) == len(set(fastworker.__all__))


def test_every_error_is_public() -> None:
    errors = {
        name
        for name, value in vars(_errors).items()
        if isinstance(value, type) and issubclass(value, _errors.FastWorkerError)
    }
    assert errors <= set(fastworker.__all__)


def test_type_checkers_see_the_same_names_at_the_same_homes() -> None:
    assert fastworker.__file__ is not None
    tree = ast.parse(Path(fastworker.__file__).read_text())
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    seen = {"__version__"}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name  # without it the name is private
                home = importlib.import_module(str(node.module))
                assert getattr(home, alias.name) is getattr(fastworker, alias.name)
                seen.add(alias.name)
    assert seen == set(fastworker.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fastworker' has no attribute 'Clint'"):
        _ = fastworker.Clint  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from fastworker import Clint  # type: ignore[attr-defined]  # noqa: F401


def test_a_name_is_looked_up_once() -> None:
    _ = fastworker.TaskPriority
    assert "TaskPriority" in vars(fastworker)


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = modules_after("import fastworker")
    assert not HEAVY & loaded
    assert {name for name in loaded if name.startswith("fastworker.")} == set()


@pytest.mark.parametrize(
    "code",
    [
        "from fastworker import task",
        "from fastworker import TaskPriority, TaskResult, UnknownTask, __version__",
        "from fastworker import task\n@task(name='x', on_lost='fail')\ndef f(): pass",
    ],
)
def test_a_module_of_task_functions_loads_no_event_loop_and_no_socket(code: str) -> None:
    assert not HEAVY & modules_after(code)


def test_task_code_that_checks_for_cancellation_loads_no_event_loop_either() -> None:
    heavy = {"trio", "pynng", "anyio", "click"}
    assert not heavy & modules_after("from fastworker import task, check_cancelled")


def test_the_version_is_that_of_the_installed_package() -> None:
    assert fastworker.__version__ == importlib.metadata.version("fastworker")


def test_a_traceback_shows_the_name_that_users_import() -> None:
    text = traceback.format_exception_only(fastworker.UnknownTask("unknown task 'x'"))
    assert text == ["fastworker.UnknownTask: unknown task 'x'\n"]


@pytest.mark.parametrize(
    "error",
    [
        fastworker.ClientClosed("closed"),
        fastworker.AddressInUse("tcp://h:1"),
        fastworker.ControlPlaneUnreachable("tcp://h:1", "timed out"),
        fastworker.ForkedClient(1, 2),
        fastworker.UnknownTask("unknown task 'x'", task_name="x"),
        fastworker.PayloadTooLarge("the arguments", 10**9, 10**6),
        fastworker.TaskFailed("ValueError: bad", task_id="t1"),
    ],
)
def test_errors_survive_pickling(error: fastworker.FastWorkerError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_error_unpickles_in_a_process_that_has_loaded_nothing() -> None:
    data = pickle.dumps(fastworker.ClientClosed("closed"))
    loaded = modules_after(f"import pickle; assert str(pickle.loads({data!r})) == 'closed'")
    assert "fastworker._errors" in loaded
    assert not HEAVY & loaded
