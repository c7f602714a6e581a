"""``fastworker status``: what is known of one task."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import print_json

if TYPE_CHECKING:
    from fastworker._models import TaskResult


@click.command()
@click.option("--task-id", required=True, metavar="UUID", help="The task's ID.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.serialization_format("What results may be in, beside JSON.")
@_options.log_level("WARNING")
def status(
    task_id: str,
    *,
    discovery_address: str | None,
    timeout: float | None,
    serialization_format: str | None,
    log_level: str | None,
) -> None:
    """Get task status.

    Prints one line of JSON: the status (pending, started, success, failure,
    cancelled or expired), the result or error, the times, and the worker. The
    exit code is 0 for every task that is known, however it ended, else 3.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, serialization_format, timeout)

        async def command() -> int:
            async with client:
                result = await client.get_task_result(task_id)
            if result is None:
                say(
                    f"task {task_id}: unknown to the control plane at "
                    f"{client.discovery_address}, or no longer kept"
                )
                return Exit.UNKNOWN
            print_json(describe(result))
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


def describe(result: TaskResult) -> dict[str, Any]:
    """All that is known of a task, in the order in which people ask."""
    return {
        "task_id": result.task_id,
        "status": result.status.value,
        "result": result.result,
        "error": result.error,
        "started_at": result.started_at,
        "completed_at": result.completed_at,
        "worker_id": result.worker_id,
        "attempts": result.attempts,
    }
