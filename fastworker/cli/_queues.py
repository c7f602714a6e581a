"""``fastworker queues``: what waits at a control plane, and what has become of the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import print_json
from fastworker.cli._watching import columns, watch_options

if TYPE_CHECKING:
    from fastworker._core._overview import Overview

_MIB = 1024 * 1024


@click.command("queues")
@watch_options
@_options.as_json("Print one JSON object; with --watch, one in each line.")
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.log_level("WARNING")
def queues(
    *,
    watch: bool,
    interval: float,
    as_json: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show how many tasks wait, by priority, and how many there were in all.

    All numbers are of one moment and add up: what was submitted since the control
    plane started, or came back from its store, was refused, waits, runs, or has ended.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli import _watching
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, None, timeout)

        async def command() -> int:
            async with client:
                if watch:
                    await _watching.watch(
                        client,
                        client._overview,
                        as_lines,
                        as_object,
                        as_object,
                        interval=interval,
                        as_json=as_json,
                    )
                overview = await client._overview()
            if as_json:
                print_json(as_object(overview))
            else:
                click.echo("\n".join(as_lines(overview)))
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


def as_object(overview: Overview) -> dict[str, Any]:
    """The answer for programs."""
    from fastworker._plane_views import queues_as_json

    return queues_as_json(overview) | {
        "submitted": overview.submitted,
        "refused": overview.refused,
        "leased": overview.leased,
        "running": overview.running,
        "away": overview.away,
        "succeeded": overview.succeeded,
        "failed": overview.failed,
        "cancelled": overview.cancelled,
        "expired": overview.expired,
    }


def as_lines(overview: Overview) -> list[str]:
    """The answer for people."""
    from fastworker._task_words import PRIORITIES

    table: list[tuple[str, ...]] = [("PRIORITY", "QUEUED")]
    table += [
        (priority, f"{queued:,}")
        for priority, queued in zip(PRIORITIES, overview.queued, strict=True)
    ]
    waiting = sum(overview.queued)
    lines = columns(table)
    lines += [
        "",
        f"waiting    {waiting:,} queued, {overview.retrying:,} for a retry, "
        f"{overview.held:,} for a worker that knows their function",
        f"workers    {overview.running:,} running, {overview.leased:,} not started, "
        f"{overview.away:,} of workers that are away",
        f"ended      {overview.succeeded:,} succeeded, {overview.failed:,} failed, "
        f"{overview.cancelled:,} cancelled, {overview.expired:,} expired",
        f"submitted  {overview.submitted:,}, of these {overview.refused:,} refused",
        f"room       {overview.queued_bytes / _MIB:,.1f} of "
        f"{overview.max_queued_bytes / _MIB:,.0f} MiB, "
        f"{overview.max_queued:,} tasks",
    ]
    return lines
