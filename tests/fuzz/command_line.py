"""Command lines: what is typed after each command, and what is made of the values.

Everything up to where a command would speak to a control plane. A line may be refused as
wrong usage, and a value as wrong configuration; nothing else may be raised.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, Final
from unittest.mock import patch

import click
from click.shell_completion import BashComplete

from fastworker._client import Client
from fastworker._config import (
    ClientConfig,
    CommandConfig,
    ControlPlaneConfig,
    DashboardConfig,
    SubWorkerConfig,
)
from fastworker._core._codec import decode_body, encode
from fastworker._core._stored import MAX_PAGE_ROWS, TasksAsked
from fastworker._errors import ConfigurationError, NotEncodable
from fastworker._models import SerializationFormat
from fastworker._modules import split_module_names
from fastworker._serialization import encode_arguments
from fastworker.cli import main
from fastworker.cli._output import one_line, to_json
from fastworker.cli._task_filters import Duration, Filters, NameText, ago
from fastworker.cli._values import parse_object, parse_value
from tests.fuzz.hostile_messages import a_json_value, a_text
from tests.fuzz.hostile_texts import a_json_text, a_typed_word, as_a_word
from tests.fuzz.quiet import quiet

NOW: Final = 1_700_000_000.0


def _leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS: Final = sorted(_leaves(main))
# Those that make more of their values than others.
_RICH: Final = [("submit",), ("submit",), ("tasks",), ("purge",), ("control-plane",)]
_NOWHERE: Final = click.Option(["--kwargs"])
_CONTEXT: Final = click.Context(main)
_JSON_VALUES: Final = ("arguments", "keywords")
# Those that click reads by itself.
_VARIABLES: Final = ["FASTWORKER_PROCESSES", "FASTWORKER_WORKER_ID"]


class CommandLine:
    """See the module's first lines."""

    name = "command lines"
    share = 100.0
    life = 1

    def live(self, cases: Iterable[Random]) -> None:
        for rng in cases:
            if rng.random() < 0.3:
                _read_value(rng)
                continue
            path = rng.choice(COMMANDS if rng.random() < 0.6 else _RICH)
            command: Any = main
            for name in path:
                command = command.commands[name]
            words = _words(rng, command)
            chance = rng.random()
            if chance < 0.1:
                _complete(rng, [*path, *words])
            elif chance < 0.15:
                _find_command(rng)
            else:
                some = rng.sample(_VARIABLES, rng.choice([0, 0, 0, 1, 2]))
                with patch.dict(os.environ, {name: a_typed_word(rng) for name in some}):
                    _run(path, command, words)


def _read_value(rng: Random) -> None:
    """One value by itself, without a line around it."""
    text = as_a_word(a_json_text(rng)) if rng.random() < 0.7 else a_typed_word(rng)
    _travels((parse_value(text),), {})
    for read in (
        lambda: _travels((), parse_object(_CONTEXT, _NOWHERE, text) or {}),
        lambda: Duration().convert(text, None, None),
        lambda: NameText().convert(text, None, None),
    ):
        try:
            read()
        except click.UsageError as error:
            _shows(error.format_message())


def _travels(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    _shows(to_json([values, named]))
    try:
        encode_arguments(values, named, SerializationFormat.JSON)
    except NotEncodable as error:
        _shows(str(error))


def _run(path: tuple[str, ...], command: click.Command, words: list[str]) -> None:
    with quiet():
        try:
            parent: click.Context | None = None
            group: Any = main
            for name in ("fastworker", *path[:-1]):
                # As typed: click keeps with a command what it has learnt from these.
                group = main if parent is None else group.commands[name]
                parent = group.make_context(name, ["x"], parent=parent)
            with command.make_context(path[-1], list(words), parent=parent) as context:
                _use(path, context.params)
        except click.UsageError as error:
            error.show()
        except click.exceptions.Exit:
            pass  # --help


def _find_command(rng: Random) -> None:
    with quiet(), main.make_context("fastworker", ["x"]) as context:
        try:
            main.resolve_command(context, [a_typed_word(rng)])
        except click.UsageError as error:
            error.show()
        except click.exceptions.Exit:
            pass  # --help


def _words(rng: Random, command: click.Command) -> list[str]:
    """Options of this command with values, and whatever else."""
    words: list[str] = []
    # With what it cannot do without, as a rule; else all would end there.
    parameters = [each for each in command.params if each.required and rng.random() < 0.95]
    parameters += [
        each for each in command.params if each.name in _JSON_VALUES and rng.random() < 0.5
    ]
    parameters += rng.sample(command.params, rng.randrange(min(4, len(command.params)) + 1))
    for parameter in parameters:
        value = _value(rng, parameter)
        if isinstance(parameter, click.Argument):
            words.append(value)
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(rng.choice([*parameter.opts, *parameter.secondary_opts]))
        elif rng.random() < 0.3:
            words.append(f"{parameter.opts[0]}={value}")
        else:
            words += [parameter.opts[0], value]
    if rng.random() < 0.15:
        words.insert(rng.randrange(len(words) + 1), a_typed_word(rng))
    return words


def _value(rng: Random, parameter: click.Parameter) -> str:
    """Good ones too, as a line is refused for its first bad one."""
    is_good = rng.random() < 0.7
    match parameter.type:
        case click.Choice(choices=choices) if is_good:
            return str(rng.choice(list(choices)))
        case Duration() if is_good:
            return rng.choice(["10m", "0s", "99999999999999999999d"])
        case click.types.IntParamType() | click.types.FloatParamType() if is_good:
            return rng.choice(["1", "5", "60", "9" * 30])
        case _ if parameter.name == "keywords" and is_good:
            return as_a_word(json.dumps({a_text(rng): a_json_value(rng, 3)}))
        case _ if parameter.name in _JSON_VALUES and is_good:
            return as_a_word(a_json_text(rng))
        case _:
            return a_typed_word(rng)


def _complete(rng: Random, words: list[str]) -> None:
    """A line that is being completed may be anything."""
    cut = rng.randrange(len(words) + 1)
    incomplete = words[cut] if cut < len(words) else ""
    shell = BashComplete(main, {}, "fastworker", "_FASTWORKER_COMPLETE")
    for item in shell.get_completions(words[:cut], incomplete):
        shell.format_completion(item)


def _use(path: tuple[str, ...], given: dict[str, Any]) -> None:
    """What a command does with its values before it speaks to anybody."""
    for config in _CONFIGS:
        names = config.__dataclass_fields__.keys() & given.keys()
        try:
            config.resolve({}, **{name: given[name] for name in names})
        except ConfigurationError as error:
            _shows(str(error))
    for value in given.values():
        _shows(to_json(value))
    if Filters.__dataclass_fields__.keys() <= given.keys():
        chosen = Filters(**{name: given[name] for name in Filters.__dataclass_fields__})
        before, limit = given.get("before") or 0, given.get("limit", MAX_PAGE_ROWS)
        asked = chosen.question(now=NOW, limit=limit, before=before)
        # What is asked for is what the control plane hears.
        if decode_body(TasksAsked, encode(asked)) != asked:
            raise AssertionError(f"{asked} arrives as something else")
        ago(NOW - (chosen.last or 0.0), NOW)
    if path == ("submit",):
        _submit(given)
    split_module_names(given.get("task_modules") or ())


def _submit(given: dict[str, Any]) -> None:
    _travels(tuple(map(parse_value, given["arguments"])), given["keywords"] or {})
    try:
        Client().options(
            priority=given["priority"],
            max_retries=given["max_retries"],
            timeout=given["task_timeout"],
            expires=given["expires"],
            grace=given["grace"],
        )
    except ValueError as error:
        _shows(str(error))


def _shows(text: str) -> None:
    """A line that any terminal can show."""
    one_line(text).encode("utf-8")


_CONFIGS: Final[list[Any]] = [
    ClientConfig,
    CommandConfig,
    ControlPlaneConfig,
    DashboardConfig,
    SubWorkerConfig,
]
