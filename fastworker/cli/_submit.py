"""``fastworker submit``: one task from the shell, and what becomes of it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import print_json
from fastworker.cli._values import CommandWithLists, parse_value

if TYPE_CHECKING:
    from fastworker._models import TaskResult


@click.command(cls=CommandWithLists)
@click.option("--task-name", required=True, metavar="NAME", help="Task name to execute.")
@click.option(
    "--args",
    "arguments",
    multiple=True,
    metavar="VALUE...",
    help="Task arguments: JSON, or else the text itself. They end at the next option; "
    "put '--' before values that begin with '--'.",
)
@click.option(
    "--non-blocking", is_flag=True, help="Return immediately, with the task ID on stdout."
)
@click.option(
    "--priority",
    type=click.Choice(["critical", "high", "normal", "low"], case_sensitive=False),
    default="normal",
    show_default=True,
    help="How urgent it is.",
)
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the result; then the task is cancelled.")
@_options.serialization_format("How the arguments travel.")
@_options.task_modules("Accepted, and not needed: the workers know the tasks.")
@_options.log_level("WARNING")
def submit(
    task_name: str,
    arguments: tuple[str, ...],
    *,
    non_blocking: bool,
    priority: str,
    discovery_address: str | None,
    timeout: float | None,
    serialization_format: str | None,
    task_modules: tuple[str, ...],
    log_level: str | None,
) -> None:
    """Submit a task.

    The result goes to stdout as JSON, everything else to stderr. Ctrl-C
    cancels the task.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, serialization_format, timeout)
        values = tuple(map(parse_value, arguments))

        async def command() -> int:
            async with client:
                if non_blocking:
                    click.echo(await client.delay(task_name, *values, priority=priority))
                    return Exit.OK
                result = await client.submit_task(task_name, values, priority=priority)
            return report(result)

        sys.exit(trio.run(run_until_signal, command))


def report(result: TaskResult) -> int:
    """Print a task's result, or say why there is none; return the exit code."""
    from fastworker._models import TaskStatus

    if result.status is TaskStatus.SUCCESS and result.error is None:
        print_json(result.result)
        return Exit.OK
    say(f"task {result.task_id}: {result.error or result.status.value}")
    if result.traceback and logging.getLogger("fastworker").isEnabledFor(logging.DEBUG):
        click.echo(result.traceback, err=True)
    return _exit_of(result)


def _exit_of(result: TaskResult) -> int:
    from fastworker._models import TaskStatus

    exits: dict[Any, Exit] = {
        TaskStatus.CANCELLED: Exit.CANCELLED,
        TaskStatus.EXPIRED: Exit.TIMED_OUT,
        TaskStatus.SUCCESS: Exit.UNKNOWN,  # it ended well, and its result is gone
    }
    # The client's words for a wait that was over; a task's own error begins
    # with the name of its type.
    if result.status is TaskStatus.FAILURE and (result.error or "").startswith("timed out"):
        return Exit.TIMED_OUT
    return exits.get(result.status, Exit.TASK_FAILED)
