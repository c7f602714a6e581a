"""``fastworker list``: which tasks there are, in modules or at a running control plane."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import one_line, print_json, speaks_unicode
from fastworker.cli._tree import draw_tree
from fastworker.cli._values import CommandWithLists

_SHOWN_WORKERS = 3


@click.command("list", cls=CommandWithLists)
@_options.task_modules("Task modules to list; nothing is asked then.")
@click.option("--tree", is_flag=True, help="Group them by module and by dotted name.")
@_options.as_json("Print a JSON array of objects.")
@_options.discovery_address("Where the control plane is found, if no module is given.")
@_options.timeout("How long to wait for the answer.")
@_options.serialization_format("Accepted; the answer has no values of tasks.")
@_options.log_level("WARNING")
def list_tasks(
    task_modules: tuple[str, ...],
    *,
    tree: bool,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    serialization_format: str | None,
    log_level: str | None,
) -> None:
    """List available tasks.

    With task modules: what they register. Without: what the workers of the
    running control plane know, and which workers those are. Each line has the
    name, the signature and the first line of the docstring.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        from fastworker._config import CommandConfig
        from fastworker._modules import split_module_names

        modules = CommandConfig.resolve(
            os.environ, task_modules=split_module_names(task_modules) or None
        ).task_modules
        if modules:
            found = _of_modules(modules)
        else:
            import trio

            from fastworker._client import Client
            from fastworker.cli._describe import describe_live
            from fastworker.cli._signals import run_until_signal

            client = Client(discovery_address, serialization_format, timeout)
            found = []

            async def command() -> int:
                async with client:
                    functions = await client.list_task_functions()
                found.extend(map(describe_live, functions))
                return Exit.OK

            code = trio.run(run_until_signal, command)
            if code != Exit.OK:
                sys.exit(code)
            if not found:
                say(
                    f"no worker of the control plane at {client.discovery_address} knows a "
                    f"task; start one with --task-modules"
                )
        _show(found, tree=tree, as_json=as_json)


def _of_modules(modules: Sequence[str]) -> list[dict[str, Any]]:
    from fastworker._modules import load_task_modules
    from fastworker._registry import registry
    from fastworker.cli._describe import describe_function

    load_task_modules(modules)
    functions = registry.functions()
    if not functions:
        say(f"no task is registered in {', '.join(modules)}; decorate a function with @task")
    return [describe_function(function) for function in functions]


def _show(functions: Sequence[dict[str, Any]], *, tree: bool, as_json: bool) -> None:
    if as_json:
        print_json(functions)
        return
    if tree:
        entries = [(_path(each), line(each, short=True)) for each in functions]
        lines = draw_tree(entries, unicode=speaks_unicode())
    else:
        lines = [line(each) for each in functions]
    for text in lines:
        click.echo(text)


def _path(function: dict[str, Any]) -> list[str]:
    parts = [one_line(part) for part in function["name"].split(".")]
    return [one_line(function["module"]), *parts] if "module" in function else parts


def line(function: dict[str, Any], *, short: bool = False) -> str:
    """One function for a person; in a tree without what stands above it."""
    name = function["name"].rpartition(".")[2] if short else function["name"]
    texts = [(name or function["name"]) + function["signature"]]
    if function["doc"]:
        texts.append(function["doc"])
    if "workers" in function:
        some = ", ".join(function["workers"][:_SHOWN_WORKERS])
        more = function["worker_count"] - _SHOWN_WORKERS
        texts.append(f"[{some} and {more} more]" if more > 0 else f"[{some}]")
    return one_line("  ".join(texts))
