"""``fastworker list``: which tasks there are."""

from __future__ import annotations

import os

import click

from fastworker.cli import _options
from fastworker.cli._errors import errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._values import CommandWithLists


@click.command("list", cls=CommandWithLists)
@_options.task_modules("Task modules to list.")
@_options.discovery_address("Accepted; a control plane cannot be asked for its tasks yet.")
@_options.log_level("WARNING")
def list_tasks(
    task_modules: tuple[str, ...], *, discovery_address: str | None, log_level: str | None
) -> None:
    """List available tasks.

    Prints the names that the modules register, one a line.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        from fastworker._config import CommandConfig
        from fastworker._modules import load_task_modules, split_module_names
        from fastworker._registry import registry

        modules = CommandConfig.resolve(
            os.environ, task_modules=split_module_names(task_modules) or None
        ).task_modules
        if not modules:
            raise click.UsageError(
                "give the modules to list by --task-modules; to ask a running control "
                "plane for its tasks comes with the next version"
            )
        load_task_modules(modules)
        names = registry.names()
        if not names:
            say(f"no task is registered in {', '.join(modules)}")
        for name in names:
            click.echo(name)
