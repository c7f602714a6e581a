"""``fastworker submit``: one task from the shell, and what becomes of it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._describe import describe, describe_absent
from fastworker.cli._errors import Exit, errors_in_one_line, say, show_traceback
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import print_json
from fastworker.cli._telemetry import set_up_telemetry
from fastworker.cli._values import CommandWithLists, parse_object, parse_value

if TYPE_CHECKING:
    from fastworker._models import TaskResult

_OF_FUNCTION = "what the task's function says"


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
    "--kwargs",
    "keywords",
    callback=parse_object,
    metavar="JSON",
    help="""Named arguments as one JSON object: '{"x": 1}'. May stand beside --args.""",
)
@click.option(
    "--non-blocking", is_flag=True, help="Return immediately, with the task ID on stdout."
)
@_options.as_json(
    "Print one JSON object: task ID, status, result, error, times and worker. "
    "Also if the task fails; the exit codes are the same."
)
@click.option(
    "--priority",
    type=click.Choice(["critical", "high", "normal", "low"], case_sensitive=False),
    default="normal",
    show_default=True,
    help="How urgent it is.",
)
@click.option(
    "--max-retries",
    type=click.IntRange(min=0),
    metavar="N",
    help=_options.with_default("How often it runs again after it failed.", _OF_FUNCTION),
)
@click.option(
    "--task-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help=_options.with_default("How long one attempt may run.", _OF_FUNCTION),
)
@click.option(
    "--expires",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Within how long it must have started; later it expires, and never runs.",
)
@_options.grace("How long it gets to end once it is asked to stop.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the result; then the task is cancelled.")
@_options.serialization_format("How the arguments travel.")
@_options.task_modules("Accepted, and not needed: the workers know the tasks.")
@_options.otel
@_options.log_level("WARNING")
def submit(
    task_name: str,
    arguments: tuple[str, ...],
    *,
    keywords: dict[str, Any] | None,
    non_blocking: bool,
    as_json: bool,
    priority: str,
    max_retries: int | None,
    task_timeout: float | None,
    expires: float | None,
    grace: float | None,
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
        set_up_telemetry()
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, serialization_format, timeout)
        values = tuple(map(parse_value, arguments))
        named = keywords or {}
        try:
            view = client.options(
                priority=priority,
                max_retries=max_retries,
                timeout=task_timeout,
                expires=expires,
                grace=grace,
            )
        except ValueError as error:  # what click lets pass: too large, infinite
            raise click.UsageError(str(error)) from None

        async def command() -> int:
            async with client:
                if non_blocking:
                    # delay() has keywords of its own, which a task may have too.
                    task_id = await view._delay(task_name, values, named, None)
                    if as_json:
                        print_json(describe_absent(task_id, "pending"))
                    else:
                        click.echo(task_id)
                    return Exit.OK
                result = await view.submit_task(task_name, values, named)
            return report(result, as_json=as_json)

        sys.exit(trio.run(run_until_signal, command))


def report(result: TaskResult, *, as_json: bool = False) -> int:
    """Print a task's result, or say why there is none; return the exit code."""
    from fastworker._models import TaskStatus

    is_well = result.status is TaskStatus.SUCCESS and result.error is None
    if as_json:
        print_json(describe(result))
    elif is_well:
        print_json(result.result)
    if is_well:
        return Exit.OK
    code = _exit_of(result)
    shows_traceback = logging.getLogger("fastworker").isEnabledFor(logging.DEBUG)
    hint = _HINTS.get(code, "")
    if code is Exit.TASK_FAILED and (shows_traceback or not result.traceback):
        hint = ""
    what = result.error or result.status.value
    say(f"task {result.task_id}: {what}{hint}", level=logging.ERROR)
    if result.traceback and shows_traceback:
        show_traceback(result.traceback)
    return code


# The client's words for a wait that was over, and a worker's for a task's own
# limit; any other error begins with the name of another type.
_TIMED_OUT = ("timed out", "TaskTimedOut:")

# What to do next.
_HINTS = {
    Exit.TASK_FAILED: " (--log-level DEBUG shows the traceback)",
    Exit.TIMED_OUT: "; wait longer with --timeout, or use --non-blocking",
    Exit.CANCELLED: "; submit it again if that was a mistake",
    Exit.UNKNOWN: "; let the control plane keep more with --result-cache-size",
}


def _exit_of(result: TaskResult) -> Exit:
    from fastworker._models import TaskStatus

    exits: dict[Any, Exit] = {
        TaskStatus.CANCELLED: Exit.CANCELLED,
        TaskStatus.EXPIRED: Exit.TIMED_OUT,
        TaskStatus.SUCCESS: Exit.UNKNOWN,  # it ended well, and its result is gone
    }
    if result.status is TaskStatus.FAILURE and (result.error or "").startswith(_TIMED_OUT):
        return Exit.TIMED_OUT
    return exits.get(result.status, Exit.TASK_FAILED)
