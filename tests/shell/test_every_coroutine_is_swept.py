"""No public coroutine without a test that cancels it at every step."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path

import fastworker

HERE = Path(__file__).parent
FIRST, SECOND, STREAMS = (
    "test_cancel_sweep.py",
    "test_cancel_sweep_of_handles.py",
    "test_stream_sweep.py",
)
CLASSES = [
    "Client",
    "ControlPlaneWorker",
    "Stream",
    "SubWorker",
    "TaskGroup",
    "TaskHandle",
]
# Coroutine, or block: where it is swept.
SWEPT = {
    "Client.start": (FIRST, "test_start"),
    "Client.aclose": (FIRST, "test_aclose"),
    "Client.__aenter__": (FIRST, "test_entering_and_leaving"),
    "Client.__aexit__": (FIRST, "test_the_body_of_a_client"),
    "Client.delay": (FIRST, "test_delay"),
    "Client.delay_with_callback": (SECOND, "test_delay_with_callback"),
    "Client.submit_task": (FIRST, "test_submit_task"),
    "Client.submit": (SECOND, "test_submit"),
    "Client.cancel": (SECOND, "test_cancel_of_anybodys_task"),
    "Client.get_task_result": (FIRST, "test_get_task_result"),
    "Client.list_task_functions": (SECOND, "test_list_task_functions"),
    "Client.open_task_group": (SECOND, "test_the_block_of_a_task_group"),
    "Client.map": (SECOND, "test_the_block_of_a_map"),
    "Client.stream": (STREAMS, "test_reading_a_stream"),
    "ControlPlaneWorker.start": (SECOND, "test_the_life_of_a_control_plane"),
    "ControlPlaneWorker.run": (SECOND, "test_the_life_of_a_control_plane"),
    "SubWorker.start": (SECOND, "test_the_life_of_a_subworker"),
    "SubWorker.run": (SECOND, "test_the_life_of_a_subworker"),
    "Stream.__anext__": (STREAMS, "test_reading_a_stream"),
    "TaskGroup.submit": (SECOND, "test_the_block_of_a_task_group"),
    "TaskGroup.as_completed": (SECOND, "test_the_block_of_a_task_group"),
    "TaskHandle.wait": (SECOND, "test_what_waits_for_a_handle"),
    "TaskHandle.result": (SECOND, "test_who_waits_for_the_value_owns_the_task"),
    "TaskHandle.cancel": (SECOND, "test_what_waits_for_a_handle"),
}
BLOCKS = {"Client.open_task_group", "Client.map", "Client.stream"}


def coroutines_of(name: str) -> set[str]:
    """The public methods of a public class that are to be awaited or iterated."""
    found: set[str] = set()
    special = ("__aenter__", "__aexit__", "__anext__")
    for method, function in inspect.getmembers(getattr(fastworker, name), inspect.isfunction):
        is_public = not method.startswith("_") or method in special
        is_async = inspect.iscoroutinefunction(function)
        if is_public and (is_async or inspect.isasyncgenfunction(function)):
            found.add(f"{name}.{method}")
    return found


def public_coroutines() -> set[str]:
    return {each for name in CLASSES for each in coroutines_of(name)}


@cache
def coroutines_in(file: str) -> set[str]:
    tree = ast.parse((HERE / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}


def test_every_public_coroutine_has_its_sweep() -> None:
    assert public_coroutines() == set(SWEPT) - BLOCKS


def test_every_sweep_that_is_named_exists() -> None:
    for coroutine, (file, test) in SWEPT.items():
        assert test in coroutines_in(file), coroutine


def test_no_class_with_coroutines_is_forgotten() -> None:
    with_coroutines = {
        name
        for name in fastworker.__all__
        if inspect.isclass(getattr(fastworker, name)) and coroutines_of(name)
    }
    # A view of a client has the client's own calls.
    assert with_coroutines - {"ClientWithOptions"} == set(CLASSES)
