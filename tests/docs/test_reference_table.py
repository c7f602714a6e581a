"""Every line of docs/reference.md is true: its test exists, its default is the real one.

And nothing is missing there: classes, calls and commands are read, and each of
their public parameters and options has to have a line.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_overloads

import click
import pytest

import fastworker
from fastworker import _config
from fastworker.cli import main
from tests.docs.page import DOCS, ROOT

LINES = re.findall(
    r"^\| `([^`]+)` \| (.+?) \| (.+) \| ([^|]+) \|$",
    (DOCS / "reference.md").read_text(),
    re.MULTILINE,
)
DEFAULTS = {line: default for line, default, _, _ in LINES}
CALLABLES = ["task", "local", "check_cancelled", "current_task", "time_left", "progress"]
# Class: where the defaults of its settings stand, if not in its signature.
CLASSES: dict[str, type[Any] | None] = {
    "Client": _config.ClientConfig,
    "SyncClient": _config.ClientConfig,
    "ControlPlaneWorker": _config.ControlPlaneConfig,
    "SubWorker": _config.SubWorkerConfig,
    "Task": None,
    "TaskResult": None,
    "CallbackInfo": None,
    "TaskFunctionInfo": None,
}
# What calls give: nobody else makes these.
GIVEN = ["TaskHandle", "TaskGroup", "SyncTaskHandle", "SyncTaskGroup"]
ENUMS = ["TaskPriority", "TaskStatus", "SerializationFormat"]
NONE = "-"


def shown(value: object) -> str:
    """A default as the page has it."""
    if value in (inspect.Parameter.empty, dataclasses.MISSING):
        return NONE
    if isinstance(value, enum.Enum):
        return f"`{value.name}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if callable(value):
        name = getattr(value, "__name__", "<lambda>")
        return NONE if name == "<lambda>" else f"`{name}`"
    return "`registry`" if value is fastworker._registry.registry else f"`{value}`"


def parameters(function: Any) -> Iterator[inspect.Parameter]:
    """Those of a call; of overloads, of the one that takes the most."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    overloads = [inspect.signature(each) for each in get_overloads(function)]
    signature = max(
        [inspect.signature(function), *overloads], key=lambda each: len(each.parameters)
    )
    names = {each for overload in overloads for each in overload.parameters}
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            yield parameter
    names -= set(signature.parameters)
    for overload in overloads:
        for parameter in overload.parameters.values():
            if parameter.name in names and parameter.name != "self":
                yield parameter


def field_defaults(kind: type[Any] | None) -> dict[str, object]:
    if kind is None or not dataclasses.is_dataclass(kind):
        return {}
    return {
        field.name: field.default_factory() if field.default_factory is dict else field.default
        for field in dataclasses.fields(kind)
    }


def lines_of_classes() -> Iterator[tuple[str, str]]:
    for name, config in CLASSES.items():
        kind = getattr(fastworker, name)
        settings = field_defaults(config) or field_defaults(kind)
        for parameter in parameters(kind):
            default = settings.get(parameter.name, parameter.default)
            yield f"{name}({parameter.name})", shown(default)
        yield from lines_of_methods(name)
    for name in GIVEN:
        yield from lines_of_methods(name)


def lines_of_methods(name: str) -> Iterator[tuple[str, str]]:
    kind = getattr(fastworker, name)
    methods = {each: None for base in reversed(kind.__mro__[:-1]) for each in vars(base)}
    for method in methods:
        function = inspect.getattr_static(kind, method)
        is_inherited = not any(method in vars(b) for b in kind.__mro__ if _is_ours(b))
        if method.startswith("_") or is_inherited or not callable(getattr(kind, method)):
            continue
        yield f"{name}.{method}()", NONE
        for parameter in parameters(function):
            # A status to tell is no setting; its default tells nobody.
            default = NONE if parameter.name == "task_status" else shown(parameter.default)
            yield f"{name}.{method}({parameter.name})", default


def _is_ours(kind: type[Any]) -> bool:
    return kind.__module__.startswith("fastworker")


def lines_of_functions() -> Iterator[tuple[str, str]]:
    for name in CALLABLES:
        function = getattr(fastworker, name)
        found = list(parameters(function))
        if not found:
            yield f"{name}()", NONE
        for parameter in found:
            is_decorated = name == "task" and parameter.name == "function"
            yield (
                f"{name}({parameter.name})",
                NONE if is_decorated else shown(parameter.default),
            )


def lines_of_enums() -> Iterator[tuple[str, str]]:
    for name in ENUMS:
        for member in getattr(fastworker, name):
            yield f"{name}.{member.name}", f"`{member.value}`"


def lines_of_commands() -> Iterator[tuple[str, str]]:
    commands: dict[str, click.Command] = {}
    for name, command in main.commands.items():
        if isinstance(command, click.Group):
            commands |= {f"{name} {sub}": each for sub, each in command.commands.items()}
        else:
            commands[name] = command
    # The doctor's are the very same, and have their lines there.
    shared = main.commands["control-plane"].params
    for name, command in commands.items():
        for parameter in command.params:
            if getattr(parameter, "hidden", False):
                continue
            if name == "doctor" and parameter in shared:
                continue
            yield f"fastworker {name} {option_name(parameter)}", option_default(parameter)


def option_name(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return str(parameter.make_metavar(click.Context(main))).rstrip(".").strip("[]")
    return next(each for each in parameter.opts if each.startswith("--"))


def option_default(parameter: click.Parameter) -> str:
    """click's own, or what the help says that the setting comes to."""
    told = re.search(r"\[default: (.*)\]", getattr(parameter, "help", None) or "")
    if told is not None:
        return NONE if " " in told[1] else f"`{told[1]}`"
    context = click.Context(main)
    default = parameter.get_default(context)
    no_default = (
        default is None or default is False or default == () or "Sentinel" in repr(default)
    )
    return NONE if no_default else f"`{default}`"


EXPECTED = dict(
    [*lines_of_functions(), *lines_of_classes(), *lines_of_enums(), *lines_of_commands()]
)


@cache
def functions_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_public_parameter_option_and_value_has_a_line() -> None:
    assert sorted(set(EXPECTED) - set(DEFAULTS)) == []


def test_no_line_is_about_something_that_is_not_there() -> None:
    assert sorted(set(DEFAULTS) - set(EXPECTED)) == []
    assert len(LINES) == len(DEFAULTS), "a line is there twice"


def test_every_default_is_the_real_one() -> None:
    wrong = {
        line: f"{default} on the page, {EXPECTED[line]} in fact"
        for line, default in DEFAULTS.items()
        if line in EXPECTED and default != EXPECTED[line]
    }
    assert wrong == {}


def test_what_help_says_of_defaults_is_what_settings_come_to() -> None:
    for name, config in (
        ("control-plane", _config.ControlPlaneConfig),
        ("subworker", _config.SubWorkerConfig),
        ("submit", _config.ClientConfig),
    ):
        settings = field_defaults(config)
        for parameter in main.commands[name].params:
            told = option_default(parameter)
            default = settings.get(parameter.name or "")
            if isinstance(default, (int, float, str)) and told != NONE:
                assert told == shown(default), f"{name} {option_name(parameter)}"


@pytest.mark.parametrize(("line", "proofs"), [(line, proofs) for line, _, _, proofs in LINES])
def test_every_test_that_a_line_names_exists(line: str, proofs: str) -> None:
    named = re.findall(r"`([^`]+)::(\w+)`", proofs)
    assert named, f"{line}: no test is named"
    for path, test in named:
        assert test in functions_in(path), f"{line}: {path} has no {test}"


def test_every_test_that_an_explanation_names_exists() -> None:
    for page in sorted((DOCS / "explanation").glob("*.md")):
        for path, test in re.findall(r"`([\w/]+\.py)::(\w+)`", page.read_text()):
            assert test in functions_in(path), f"{page.name}: {path} has no {test}"
