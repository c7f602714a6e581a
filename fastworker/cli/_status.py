"""``fastworker status``: what is known of one task."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from fastworker.cli import _options
from fastworker.cli._describe import describe, describe_absent
from fastworker.cli._errors import Exit, errors_in_one_line, say
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import print_json

if TYPE_CHECKING:
    from fastworker._models import TaskResult
    from fastworker._outcomes import Absence


@click.command()
@click.option("--task-id", required=True, metavar="UUID", help="The task's ID.")
@_options.as_json("JSON is printed in any case; with this, also for an unknown task.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.serialization_format("What results may be in, beside JSON.")
@_options.log_level("WARNING")
def status(
    task_id: str,
    *,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    serialization_format: str | None,
    log_level: str | None,
) -> None:
    """Get task status.

    Prints one line of JSON: the status (pending, started, success, failure,
    cancelled, expired, or evicted: it has ended, and how is no longer kept),
    the result or error, the times, and the worker. The exit code is 0 for
    every task that is known, however it ended, and 3 for one that is not.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, serialization_format, timeout)

        async def command() -> int:
            async with client:
                found = await client._describe(task_id)
            return show(task_id, found, client.discovery_address, as_json=as_json)

        sys.exit(trio.run(run_until_signal, command))


def show(task_id: str, found: TaskResult | Absence, address: str, *, as_json: bool) -> int:
    """Print what is known of a task; return the exit code."""
    from fastworker._outcomes import Absence

    if not isinstance(found, Absence):
        print_json(describe(found))
        return Exit.OK
    if found is Absence.EVICTED or as_json:
        print_json(describe_absent(task_id, found.value))
    if found is Absence.EVICTED:
        say(
            f"task {task_id}: it has ended, and its result is no longer kept; let the control "
            f"plane keep more with --result-cache-size and --result-cache-ttl"
        )
        return Exit.OK
    say(
        f"task {task_id}: unknown to the control plane at {address}; check the id and the "
        f"address (a restart forgets tasks that are kept in memory)"
    )
    return Exit.UNKNOWN
