"""``fastworker queues``: what waits at a running control plane, by priority."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fastworker._task_words import PRIORITIES
from fastworker.cli import _options
from fastworker.cli._errors import Exit, errors_in_one_line
from fastworker.cli._logging import set_up_logging
from fastworker.cli._output import print_json
from fastworker.cli._watch import in_columns, look_again_and_again, watch_option

if TYPE_CHECKING:
    from fastworker._core._overview import Overview


@click.command("queues")
@_options.as_json("Print one JSON object.")
@watch_option
@_options.discovery_address("Where the control plane is found.")
@_options.timeout("How long to wait for the answer.")
@_options.log_level("WARNING")
def queues(
    *,
    as_json: bool,
    watch: bool,
    discovery_address: str | None,
    timeout: float | None,
    log_level: str | None,
) -> None:
    """Show how many tasks wait, by priority, and where all others are.

    Held tasks wait for a worker that knows their name, retrying ones for their
    next attempt. Ended ones are counted since the control plane was started.
    """
    with errors_in_one_line():
        set_up_logging(log_level, default="WARNING")
        import trio

        from fastworker._client import Client
        from fastworker.cli._signals import run_until_signal

        client = Client(discovery_address, None, timeout)

        async def command() -> int:
            async with client:
                if watch:
                    await look_again_and_again(
                        client._operations.overview, lines_of, object_of if as_json else None
                    )
                overview = await client._operations.overview()
            if as_json:
                print_json(object_of(overview))
            else:
                click.echo("\n".join(lines_of(overview)))
            return Exit.OK

        sys.exit(trio.run(run_until_signal, command))


def object_of(overview: Overview) -> dict[str, Any]:
    """The numbers for a program."""
    return {
        "queues": [
            {"priority": priority, "queued": count}
            for priority, count in zip(PRIORITIES, overview.queued, strict=True)
        ],
        **{name: getattr(overview, name) for name in _COUNTS},
        "queued_bytes": overview.queued_bytes,
        "max_queued": overview.max_queued,
        "max_queued_bytes": overview.max_queued_bytes,
        "workers": overview.workers,
    }


_COUNTS = (
    "held",
    "retrying",
    "leased",
    "running",
    "away",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
)


def lines_of(overview: Overview) -> list[str]:
    """The numbers for a person."""
    table: list[tuple[str, ...]] = [("QUEUE", "TASKS")]
    table += [(p, f"{n:,}") for p, n in zip(PRIORITIES, overview.queued, strict=True)]
    table += [(name, f"{getattr(overview, name):,}") for name in _COUNTS]
    table += [("workers", f"{overview.workers:,}")]
    waiting, room = sum(overview.queued), overview.max_queued
    table += [("room", f"{max(0, room - waiting):,} of {room:,}")]
    return in_columns(table)
